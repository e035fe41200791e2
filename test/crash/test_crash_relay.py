"""Kills and power cuts while mail is relayed: what smtpd answered with 250 arrives at
the far side at least once, and twice only where the far side's answer was lost.

Which answers could be lost is exactly known, since each of a few next hops gets one
delivery at a time: when the next one begins there, the queue manager has the answer of
the one before. So a kill can lose the answer of the last delivery to each next hop, and
no other.
"""
import os
import random
import re
import shutil
import time

import pytest

import powercut
from crashtest import (ALL, Hato, QUICK, fixture_traced, is_alive, kill, new_place,
                       once_is_enough, processes, settle, wait_for)
from crashload import Load
from test_crash_power import MARK, Disk, mark_text, work_dir
from sink import Sink

SEED = int(os.environ.get("HATO_SEED", "1"))
KILLS = int(os.environ.get("HATO_KILLS", "300" if ALL else "15"))
STATES = int(os.environ.get("HATO_STATES", "400" if ALL else "8"))
MESSAGES = 200 if ALL else 60
SITES = 4  # next hops
USERS = [f"user{i}@far{i % SITES}.example" for i in range(8)]
TYPES = ["smtpd", "qmgr", "smtp", "smtp"]
TOKEN = re.compile(rb"^X-Token: (\w+)\r?$", re.M)


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


class Delivery:
    """One copy that came: when its MAIL came, and whether the connection was used after
    the answer to it."""

    def __init__(self, site, token, rcpts, begun):
        self.site, self.token, self.rcpts, self.begun = site, token, rcpts, begun
        self.was_heard = False
        self.is_again = False  # another copy came as well


class Kill:
    """It was sent after `since`, and the process was gone before `until`."""

    def __init__(self, kind, since, until):
        self.kind, self.since, self.until = kind, since, until
        self.used = set()  # sites where it excuses a copy


class Far(Sink):
    """Counts what it answered with 250: {(token, recipient): [Delivery]}."""

    def __init__(self, on_yes=None):
        self.on_yes = on_yes
        self.got = {}
        self.cut_short = []
        super().__init__(host="0.0.0.0")

    def note(self, lines, data, begun):
        m = TOKEN.search(data)
        token = m[1].decode() if m else "none"
        if not m or not data.endswith(b"to fill a line\r\n"):
            self.cut_short.append(token)
        if self.on_yes:
            self.on_yes(token)
        rcpts = [re.search(r"<(.*)>", line)[1] for line in lines]
        sites = {r.split("@")[1] for r in rcpts}
        assert len(sites) == 1, rcpts
        d = Delivery(sites.pop(), token, rcpts, begun)
        for rcpt in rcpts:
            self.got.setdefault((token, rcpt), []).append(d)
        return d

    def run(self, c, number):
        # As Session.done() does, but noted before the answer goes out.
        from sink import Session  # pylint: disable=import-outside-toplevel
        far = self

        class Noting(Session):
            last = None
            begun = 0.0

            def line(self):
                text = super().line()
                if self.last:
                    self.last.was_heard = True
                if text.upper().startswith("MAIL"):
                    self.begun = time.monotonic()
                return text

            def done(self, data):
                with far.lock:
                    self.last = far.note(self.rcpts, data, self.begun)
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
    maps = " ".join(f"{{ far{i}.example = smtp:[127.0.0.{i + 1}]:{port} }}"
                    for i in range(SITES))
    h = Hato(path, main={"transport_maps": f"inline:{{ {maps} }}", **QUICK,
                         "default_destination_concurrency_limit": "1",
                         # transcripts for the postmaster would have nowhere to go
                         "notify_classes": "",
                         "transport_retry_time": "1s", "smtp_tls_security_level": "none"})
    h.write_conf()
    return h


def wrong_of(far, messages, may_double):
    wrong = [f"{t} came cut short" for t in far.cut_short]
    known = {(m.token, r): m for m in messages for r in m.rcpts}
    wrong += [f"{m.token} for {r}: was answered and did not arrive"
              for (t, r), m in known.items() if m.state == "yes" and (t, r) not in far.got]
    wrong += [f"{t} for {r}: nobody sent it" for t, r in far.got if (t, r) not in known]
    wrong += [f"{t} for {r} came {len(copies)} times" for (t, r), copies in far.got.items()
              if len(copies) > 1 and not may_double(copies)]
    return wrong


class Excuses:
    """Whether a kill can have lost the answer to a copy that came again.

    Each kill loses one answer for each site at most.
    """

    def __init__(self, far, killed):
        self.killed = [k for k in killed if k.kind in ("qmgr", "smtp")]
        self.done = set()
        self.by_site = {}
        for copies in far.got.values():
            for d in copies:
                d.is_again |= len(copies) > 1
        for d in {d for copies in far.got.values() for d in copies}:
            self.by_site.setdefault(d.site, []).append(d)
        for all_of_it in self.by_site.values():
            all_of_it.sort(key=lambda d: d.begun)

    def is_last_before(self, kill, d):
        """No other delivery began there before the kill. But one that a killed queue
        manager had begun may come late: it comes again itself."""
        return not any(d.begun < o.begun < kill.since and not o.is_again
                       for o in self.by_site[d.site])

    def is_lost_by(self, k, first, second):
        if first.begun <= k.until and k.since <= second.begun:
            if k.kind == "smtp" and first.was_heard:
                return False  # the client had read the answer and gone on
            return self.is_last_before(k, first)
        # The client goes on with what a queue manager that was killed had asked for.
        before = [o for o in self.killed if o.kind == "qmgr" and o.until < second.begun]
        return k.kind == "qmgr" and bool(before) and k is before[-1] and k.until < first.begun

    def pair(self, first, second):
        if (first, second) in self.done:  # another recipient of the same two
            return True
        for k in self.killed:
            if first.site not in k.used and self.is_lost_by(k, first, second):
                k.used.add(first.site)
                self.done.add((first, second))
                return True
        return False

    def __call__(self, copies):
        copies = sorted(copies, key=lambda d: d.begun)
        return all(self.pair(a, b) for a, b in zip(copies, copies[1:]))


def kill_some(h, rng, far):
    """[Kill] of KILLS kills."""
    killed = []
    while len(killed) < KILLS:
        time.sleep(rng.choice((0.05, 0.2, 0.5)) * 2 * rng.random())
        kind = rng.choice(TYPES)
        victims = [p for name, p in processes(h) if name == kind]
        if victims:
            before = len(far.got)
            victim, since = rng.choice(victims), time.monotonic()
            kill(victim)
            assert wait_for(lambda pid=victim: not is_alive(pid), 20)
            killed.append(Kill(kind, since, time.monotonic()))
            if len(killed) % 5 == 0:  # between the kills mail flows again
                wait_for(lambda n=before: len(far.got) > n, 20)
    return killed


@once_is_enough
def test_crash_relay_kill(where):
    rng = random.Random(SEED)
    with Far() as far, relay(where, far.port) as h:
        load = Load(h.port, USERS, sessions=4, seed=SEED, sizes=(500, 4000, 40000, 300000),
                    pause=0.06)
        try:
            killed = kill_some(h, rng, far)
        finally:
            load.stop()
        settle(h)

        wrong = wrong_of(far, load.messages, Excuses(far, killed))
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
    wrong = wrong_of(far, messages, lambda copies: False)
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
