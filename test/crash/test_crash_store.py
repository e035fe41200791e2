"""Crash test 2 for the store alone: power cuts at random points of a run.

What was durable must be there with its own bytes, once; what was on its way is
delivered again, as the queue would, and then is there once; a UID that a client
may have seen never means another message.  HATO_CRASH=all makes 1,000 states,
else a seeded sample.
"""
import os
import random
import shutil
import subprocess

import powercut

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build", "crash")
STATES = 1000 if os.environ.get("HATO_CRASH") == "all" else 40
SEED = os.environ.get("HATO_CRASH_SEED", "1")
COUNT = 60
USERS = 4


def build():
    """The test program, of a build that traces."""
    exe = os.environ.get("HATO_CRASH_STORE")
    if exe:
        return exe
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, TOP, "-Dfstrace=true"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, "src/store/crash_store"], check=True,
                   stdout=subprocess.DEVNULL)
    return os.path.join(BUILD, "src", "store", "crash_store")


def run(exe, root, trace):
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    try:
        p = subprocess.run([exe, "run", os.path.join(root, "mail"), str(COUNT), SEED],
                           env={**os.environ, "HATO_FSTRACE_FD": str(fd)}, pass_fds=[fd],
                           stdout=subprocess.PIPE, check=True, text=True)
    finally:
        os.close(fd)
    return [line.split() for line in p.stdout.splitlines()]


def is_for(n, user):
    return n % 3 != 0 or n % USERS == user


def promised(lines, offset):
    last, durable, may_go, gone, shown = 0, set(), set(), set(), {}
    for what, when, *rest in lines:
        if int(when) > offset and what != "begin":
            continue
        if what == "begin" and int(when) <= offset:
            last = max(last, int(rest[0]))
        elif what == "durable":
            durable.add((int(rest[0]), int(rest[1])))
        elif what == "expunge":
            may_go.add((int(rest[0]), int(rest[1])))
        elif what == "gone":
            gone.add((int(rest[0]), int(rest[1])))
        elif what == "shown":
            shown[tuple(rest[:4])] = rest[4]
    return last, durable, may_go, gone, shown


def check(exe, state, lines, offset):
    """Open the store on a state; the list of what is wrong."""
    last, durable, may_go, gone, shown = promised(lines, offset)
    mail = os.path.join(state, "mail")
    os.makedirs(mail, exist_ok=True)
    p = subprocess.run([exe, "check", mail, str(last)], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    wrong = [line for line in p.stdout.splitlines() if line.startswith("bad")]
    if p.returncode != 0:
        return wrong + [f"ended with {p.returncode}: {p.stderr.strip()[-300:]}"]
    have, after = {}, {}
    for line in p.stdout.splitlines():
        what, *rest = line.split()
        if what == "bad":
            continue
        user, n = int(rest[0]), int(rest[4])
        seen = have if what == "have" else after
        if (n, user) in seen:
            wrong.append(f"{what}: {n} of {user} is there twice")
        seen[n, user] = rest
        if shown.get(tuple(rest[:4]), rest[4]) != rest[4]:
            wrong.append(f"{what}: UID {rest[3]} of {user} was shown as "
                         f"{shown[tuple(rest[:4])]} and is {n}")
    for n, user in durable - may_go - have.keys():
        wrong.append(f"{n} of {user} was durable and is lost")
    for n, user in gone & have.keys():
        wrong.append(f"{n} of {user} was gone durably and is back")
    for n in range(1, last + 1):
        for user in range(USERS):
            if not is_for(n, user):
                continue
            if (n, user) not in after and (n, user) not in may_go:
                wrong.append(f"{n} of {user} did not come again")
            if (n, user) in after and (n, user) in gone:
                wrong.append(f"{n} of {user} came again though it was expunged")
    return wrong


def test_crash_store(tmp_path):
    exe = build()
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
        work = f"/dev/shm/hato-crash-store-{os.getpid()}"
    else:
        work = str(tmp_path / "states")
    root = str(tmp_path / "root")
    os.makedirs(os.path.join(root, "mail"))
    os.makedirs(work)
    base = powercut.Base.save(root, str(tmp_path / "base"))
    lines = run(exe, root, str(tmp_path / "trace"))
    trace = powercut.Trace(str(tmp_path / "trace"))
    disk = powercut.Disk(base, trace)
    rng = random.Random(SEED)
    failures = []
    try:
        for n, point in enumerate(powercut.points_of(trace, STATES, rng)):
            disk.advance(point)
            offset = trace.records[point].at if point < len(trace.records) else trace.end
            kind = powercut.KINDS[n % len(powercut.KINDS)]
            state = os.path.join(work, str(n))
            disk.state(state, f"{SEED}:{n}", kind)
            wrong = check(exe, state, lines, offset)
            if wrong:
                failures.append(f"state {n} ({kind}, record {point}): " +
                                "; ".join(wrong[:5]))
                if os.environ.get("HATO_CRASH_KEEP"):
                    break
            shutil.rmtree(state)
    finally:
        if not os.environ.get("HATO_CRASH_KEEP"):
            shutil.rmtree(work, ignore_errors=True)
    assert disk.ignored == 0
    assert sum(1 for line in lines if line[0] == "durable") > COUNT / 4
    assert sum(1 for line in lines if line[0] == "shown") > 5
    assert not failures, "\n".join(failures[:20])
