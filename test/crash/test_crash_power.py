"""Crash 2: what a power cut may leave of spool, journal, Maildir and index.

A run of Hato with several workers (and, as root, several uids) is traced; the
sender's "it was answered" stands in the same trace.  From it the trees that a
power cut may leave are made, Hato starts on each, and what was answered before
the cut is there once.
"""
import os
import random
import shutil
import struct
import subprocess
import time

import pytest

import powercut
from crashtest import (ALL, Hato, IS_ROOT, boxes, check_letters, letters, main_cf,
                       new_place, once_is_enough, settle, fixture_traced, virtual_users,
                       write_virtual)
from crashload import Load

SEED = int(os.environ.get("HATO_SEED", "1"))
STATES = int(os.environ.get("HATO_STATES", "500" if ALL else "8"))
MESSAGES = 300 if ALL else 120
USERS = virtual_users(8)
SYSTEM = ["sysa", "sysb"]
ALIASES = "all: {}\nsome: all, {}\n"
pytestmark = once_is_enough
MARK = 100  # a record of the sender's


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


class Disk(powercut.Disk):
    """As powercut's, with the sender's records; keeps what it cannot place."""

    def __init__(self, base, trace):
        super().__init__(base, trace)
        self.unknown = []
        self.our_devs = {dev for _, dev, *_ in base.inodes}

    def step(self, rec):
        if rec.call == MARK:
            return
        n = self.ignored
        super().step(rec)
        # What is in memory only (the configuration) is on no disk of ours.
        if self.ignored != n and {rec.obj[0], rec.dir[0]} & self.our_devs:
            self.unknown.append(f"call {rec.call} of {rec.name!r} {rec.name2!r} pid {rec.pid}")


def setting(path, mode):
    """A Hato in `path`, not started."""
    h = Hato(path, mode=mode, users=SYSTEM if mode == "users" else ())
    extra = {"virtual_mailbox_domains": "virtual.test"}
    if mode == "users":
        extra.update(home_mailbox="Maildir/")
    h.main.update(main_cf(h.dir, alias_maps=f"hash:{h.path('aliases')}", **extra))
    h.write_conf()
    return h


def first_files(h):
    h.write("aliases", ALIASES.format(", ".join(USERS[:4]), ", ".join(USERS[4:6])))
    write_virtual(h, USERS, [2100, 2101, 2102] if h.mode == "users" else None)
    os.makedirs(h.path("mail/virtual.test"), exist_ok=True)
    os.makedirs(h.path("home"), exist_ok=True)
    if h.mode == "users":
        os.chmod(h.path("mail/virtual.test"), 0o1777)
        for i, name in enumerate(SYSTEM):
            os.makedirs(h.path(f"home/{name}"), exist_ok=True)
            os.chown(h.path(f"home/{name}"), 2000 + i, 2000 + i)
    h.own()


def expand(rcpt):
    return {"all@example.com": USERS[:4], "some@example.com": USERS[:6]}.get(rcpt, [rcpt])


def mark(fd, message):
    """It was answered."""
    mark_text(fd, message.token)


def mark_text(fd, text):
    """A record of our own, behind all that was done until now."""
    token = text.encode()
    head = [powercut.MAGIC, powercut.HEAD.size + len(token), 0, MARK] + [0] * 23
    head[-3] = len(token)
    assert os.write(fd, struct.pack(powercut.HEAD.format, *head) + token) > 0


def run_and_trace(h, trace):
    """The messages that were sent while everything was traced."""
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.chmod(trace, 0o666)
    h.pass_fds = (fd,)
    rcpts = USERS + ["all@example.com", "some@example.com"]
    if h.mode == "users":
        rcpts += [f"{name}@example.com" for name in SYSTEM]
    h.start(env={"HATO_FSTRACE_FD": str(fd)})
    load = Load(h.port, rcpts, sessions=4, seed=SEED, sizes=(300, 3000, 3000, 30000, 280000),
                on_yes=lambda m: mark(fd, m), limit=MESSAGES)
    load.wait()
    settle(h)
    h.stop()
    h.pass_fds = ()
    os.close(fd)
    wrong = check_letters(letters(h.dir), load.messages, expand)
    assert not wrong, wrong[:10]
    return load.messages


def uids(build, h):
    """{user: {"uid": id, ...}} as a worker would see it, and what is wrong."""
    wrong = []
    out = {}
    for box, user in boxes(h.dir):
        p = subprocess.run([os.path.join(build, "src/store/crash_mailbox"), f"maildir:{box}"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           check=False, timeout=60)
        if p.returncode != 0 and not os.path.exists(f"{box}/hato.account"):
            continue  # an account whose making did not reach the disk
        if p.returncode != 0:
            wrong.append(f"index of {user}: {p.stderr}")
            continue
        first, *rows = [line.split() for line in p.stdout.splitlines()]
        by_uid = {int(uid): ident for uid, ident, _ in rows}
        if len(by_uid) != len(rows) or len(set(by_uid.values())) != len(rows):
            wrong.append(f"{user}: a UID or an id twice")
        if by_uid and max(by_uid) >= int(first[2]):
            wrong.append(f"{user}: UIDNEXT {first[2]} is not above {max(by_uid)}")
        out[user] = (first[1], by_uid)
    return out, wrong


def same_uids(before, after):
    """What the index told before the start keeps its number behind it."""
    wrong = []
    for user, (validity, by_uid) in before.items():
        now, new = after.get(user, ("", {}))
        if not by_uid:
            continue
        if now != validity:
            wrong.append(f"{user}: UIDVALIDITY {validity} became {now}")
        wrong += [f"{user}: UID {u} was {i}, is {new.get(u)}" for u, i in by_uid.items()
                  if new.get(u) != i]
    return wrong


class States:
    def __init__(self, build, work, mode, messages):
        self.build, self.work, self.mode, self.messages = build, work, mode, messages
        self.failures = []

    def one(self, disk, trace, point, number):
        """Make the tree of one power cut, let Hato deliver, look."""
        kind = powercut.KINDS[number % len(powercut.KINDS)]
        path = os.path.join(self.work, str(number))
        disk.state(path, f"{SEED}:{number}", kind)
        answered = {bytes(r.data).decode() for r in trace.records[:point] if r.call == MARK}
        keep = os.environ.get("HATO_KEEP")
        if keep:
            kept = f"{keep}/{self.mode}-{SEED}-{number}"
            shutil.copytree(path, f"{kept}.cut", symlinks=True)
        h = setting(path, self.mode)
        try:
            wrong = self.check(h, answered)
        except Exception as e:  # pylint: disable=broad-except
            wrong = [f"{type(e).__name__}: {e}"]
            h.command("abort")
        if wrong:
            self.failures.append(f"state {number} ({kind}, record {point} of "
                                 f"{len(trace.records)}): " + "\n".join(wrong[:10]))
            if keep:
                shutil.copytree(path, kept, symlinks=True,
                                ignore=shutil.ignore_patterns("public", "private"))
        elif keep:
            shutil.rmtree(f"{kept}.cut")
        shutil.rmtree(path)

    def check(self, h, answered):
        copy = setting_copy(h)
        began = int(time.time())
        before, wrong = uids(self.build, copy)
        # An index of which nothing was durable gets its numbers at each start.
        before = {u: v for u, v in before.items() if int(v[0]) < began}
        shutil.rmtree(copy.dir)
        h.start()
        settle(h)
        h.stop()
        for m in self.messages:
            m.state = "yes" if m.token in answered else "open"
        wrong += check_letters(letters(h.dir), self.messages, expand)
        after, more = uids(self.build, h)
        if any("cut short" in w for w in wrong) or "assert" in h.log().lower():
            wrong.append(h.log()[-3000:])
        return wrong + more + same_uids(before, after)


class setting_copy:
    """The mail of a tree, copied: looking at an index changes it."""

    def __init__(self, h):
        self.dir = h.dir + ".copy"
        os.makedirs(self.dir)
        for part in ("mail", "home"):
            if os.path.isdir(h.path(part)):
                shutil.copytree(h.path(part), f"{self.dir}/{part}", symlinks=True)


def work_dir(where):
    """Where the states lie: in memory, if there is room."""
    path = f"/dev/shm/hato-crash-{os.getpid()}"
    try:
        os.makedirs(path)
        return path
    except OSError:
        os.makedirs(f"{where}/states")
        return f"{where}/states"


@pytest.mark.parametrize("mode", ["one", "users"])
def test_crash_power(where, traced, mode):
    if mode == "users" and not IS_ROOT:
        pytest.skip("needs root")
    build = traced
    h = setting(f"{where}/run", mode)
    first_files(h)
    base = powercut.Base.save(h.dir, f"{where}/base")
    messages = run_and_trace(h, f"{where}/trace")
    trace = powercut.Trace(f"{where}/trace")
    disk = Disk(base, trace)
    work = work_dir(where)
    rng = random.Random(SEED)
    states = States(build, work, mode, messages)
    began = time.monotonic()
    try:
        for number, point in enumerate(powercut.points_of(trace, STATES, rng)):
            disk.advance(point)
            states.one(disk, trace, point, number)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    keep = os.environ.get("HATO_KEEP")
    if keep and states.failures:
        shutil.copy(f"{where}/trace", f"{keep}/{mode}-{SEED}.trace")
    print(f"{mode}: {STATES} states of {len(trace.records)} records in "
          f"{time.monotonic() - began:.0f} s, {len(states.failures)} failed")
    assert not states.failures, "\n".join(states.failures[:20])
    assert not disk.unknown
    assert sum(r.call == MARK for r in trace.records) > MESSAGES * 0.9
    assert not states.failures, "\n".join(states.failures[:20])
