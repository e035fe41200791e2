"""Kills and power cuts while mail is relayed: what smtpd answered with 250 arrives at
the far side at least once, and twice only where the far side's answer was lost.
"""
import os
import random
import re
import shutil
import time

import pytest

import powercut
from crashtest import (ALL, Hato, QUICK, fixture_traced, kill, new_place, once_is_enough,
                       processes, settle, wait_for)
from crashload import Load
from test_crash_power import MARK, Disk, mark_text, work_dir
from sink import Sink

SEED = int(os.environ.get("HATO_SEED", "1"))
KILLS = int(os.environ.get("HATO_KILLS", "300" if ALL else "15"))
STATES = int(os.environ.get("HATO_STATES", "400" if ALL else "8"))
MESSAGES = 200 if ALL else 60
USERS = [f"user{i}@far.example" for i in range(8)]
TYPES = ["smtpd", "qmgr", "smtp", "smtp"]
# What the far side said may be on its way through the client into the journal when one
# of these is killed.
SENDERS = {"qmgr", "smtp"}
WINDOW = 5.0
TOKEN = re.compile(rb"^X-Token: (\w+)\r?$", re.M)


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


class Far(Sink):
    """Counts what it answered with 250: {(token, recipient): [when]}."""

    def __init__(self, on_yes=None):
        self.on_yes = on_yes
        self.got = {}
        self.cut_short = []
        super().__init__()

    def note(self, rcpts, data):
        m = TOKEN.search(data)
        token = m[1].decode() if m else "none"
        if not m or not data.endswith(b"to fill a line\r\n"):
            self.cut_short.append(token)
        if self.on_yes:
            self.on_yes(token)
        for line in rcpts:
            rcpt = re.search(r"<(.*)>", line)[1]
            self.got.setdefault((token, rcpt), []).append(time.monotonic())

    def run(self, c, number):
        # As Session.done() does, but noted before the answer goes out.
        from sink import Session  # pylint: disable=import-outside-toplevel
        far = self

        class Noting(Session):
            def done(self, data):
                with far.lock:
                    far.note(self.rcpts, data)
                super().done(data)
        try:
            Noting(self, c, number).run()
        except (OSError, EOFError):
            pass
        finally:
            c.close()
            with self.lock:
                self.open.discard(c)


def relay(path, port):
    h = Hato(path, main={"relayhost": f"[127.0.0.1]:{port}", **QUICK,
                         "transport_retry_time": "1s", "smtp_tls_security_level": "none"})
    h.write_conf()
    return h


def wrong_of(far, messages, may_double):
    wrong = [f"{t} came cut short" for t in far.cut_short]
    known = {(m.token, r): m for m in messages for r in m.rcpts}
    wrong += [f"{m.token} for {r}: was answered and did not arrive"
              for (t, r), m in known.items() if m.state == "yes" and (t, r) not in far.got]
    wrong += [f"{t} for {r}: nobody sent it" for t, r in far.got if (t, r) not in known]
    wrong += [f"{t} for {r} came {len(times)} times" for (t, r), times in far.got.items()
              if len(times) > 1 and not may_double(times)]
    return wrong


def kill_some(h, rng, far):
    """[(when, kind)] of KILLS kills."""
    killed = []
    while len(killed) < KILLS:
        time.sleep(rng.choice((0.05, 0.2, 0.5)) * 2 * rng.random())
        kind = rng.choice(TYPES)
        victims = [p for name, p in processes(h) if name == kind]
        if victims:
            before = len(far.got)
            kill(rng.choice(victims))
            killed.append((time.monotonic(), kind))
            if len(killed) % 5 == 0:  # between the kills mail flows again
                wait_for(lambda n=before: len(far.got) > n, 20)
    return killed


@once_is_enough
def test_crash_relay_kill(where):
    rng = random.Random(SEED)
    with Far() as far, relay(where, far.port) as h:
        load = Load(h.port, USERS, sessions=4, seed=SEED, sizes=(500, 4000, 40000, 300000),
                    pause=0.02)
        try:
            killed = kill_some(h, rng, far)
        finally:
            load.stop()
        settle(h)

        def near_a_kill(times):
            return all(any(kind in SENDERS and -WINDOW < t - at < WINDOW for at, kind in killed)
                       for t in times[:-1])
        wrong = wrong_of(far, load.messages, near_a_kill)
        yes = sum(m.state == "yes" for m in load.messages)
        twice = sum(len(t) > 1 for t in far.got.values())
        print(f"{KILLS} kills, {len(load.messages)} sent, {yes} answered, {len(far.got)} "
              f"arrived, {twice} of them again", load.errors)
        assert not wrong, "\n".join(wrong[:20]) + h.log()[-6000:]
        assert yes > 10
        assert "from=<>" not in h.log(), "a bounce:\n" + h.log()[-6000:]


def run_and_trace(h, far, trace, holder):
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.chmod(trace, 0o666)
    far.on_yes = lambda token: mark_text(fd, f"far {token}")
    h.pass_fds = (fd,)
    h.start(env={"HATO_FSTRACE_FD": str(fd)})
    load = Load(h.port, USERS, sessions=4, seed=SEED, sizes=(300, 3000, 30000, 280000),
                on_yes=lambda m: mark_text(fd, f"yes {m.token}"), limit=MESSAGES)
    load.wait()
    settle(h)
    h.stop()
    h.pass_fds = ()
    far.on_yes = None
    os.close(fd)
    holder += load.messages


def check(h, far, messages, trace, point):
    """Start on a state; what is wrong, and how much came again."""
    marks = [bytes(r.data).decode().split() for r in trace.records[:point] if r.call == MARK]
    answered = {token for what, token in marks if what == "yes"}
    before = {token for what, token in marks if what == "far"}
    for m in messages:
        m.state = "yes" if m.token in answered and m.token not in before else "open"
    far.got.clear()
    with h:
        settle(h)
    wrong = wrong_of(far, messages, lambda times: False)
    return wrong, len({t for t, _ in far.got} & before)


@once_is_enough
def test_crash_relay_power(where, traced):
    assert traced
    messages, failures, again = [], [], []
    with Far() as far:
        h = relay(f"{where}/run", far.port)
        base = powercut.Base.save(h.dir, f"{where}/base")
        run_and_trace(h, far, f"{where}/trace", messages)
        trace = powercut.Trace(f"{where}/trace")
        disk = Disk(base, trace)
        work = work_dir(where)
        try:
            for n, point in enumerate(powercut.points_of(trace, STATES, random.Random(SEED))):
                disk.advance(point)
                kind = powercut.KINDS[n % len(powercut.KINDS)]
                disk.state(f"{work}/{n}", f"{SEED}:{n}", kind)
                wrong, twice = check(relay(f"{work}/{n}", far.port), far, messages, trace, point)
                again.append(twice)
                if wrong:
                    failures.append(f"state {n} ({kind}, record {point} of "
                                    f"{len(trace.records)}): " + "\n".join(wrong[:8]))
                shutil.rmtree(f"{work}/{n}")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{STATES} states, {len(failures)} failed; came again: at most {max(again)}, "
          f"{sum(again)} in all")
    assert not failures, "\n".join(failures[:20])
    assert not disk.unknown
    # Only what was answered around the cut: what goes out at once, or waits for the
    # journal's sync.
    assert max(again) < MESSAGES / 2, again
