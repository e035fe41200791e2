"""Power cuts at random points of one room's test program: the frame that
test_crash_spool.py, test_crash_store.py and test_crash_copy.py share.

HATO_CRASH=all makes 1,000 states, else a seeded sample; HATO_CRASH_SEED chooses
another; with HATO_CRASH_KEEP the first state that fails stays.
"""
import os
import random
import shutil
import subprocess

import powercut
from crashtest import crash_build

SEED = os.environ.get("HATO_CRASH_SEED", "1")
KEEP = os.environ.get("HATO_CRASH_KEEP")


def states(sample):
    return 1000 if os.environ.get("HATO_CRASH") == "all" else sample


def build(program, room=None):
    """src/ROOM/crash_PROGRAM of a build that traces; HATO_CRASH_PROGRAM names another."""
    return os.environ.get(f"HATO_CRASH_{program.upper()}") or \
        os.path.join(crash_build(), "src", room or program, f"crash_{program}")


def traced(exe, where, count, trace):
    """What the program promised while it ran in `where`, a list for each line."""
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    try:
        p = subprocess.run([exe, "run", where, str(count), SEED], pass_fds=[fd],
                           env={**os.environ, "HATO_FSTRACE_FD": str(fd)},
                           stdout=subprocess.PIPE, check=True, text=True)
    finally:
        os.close(fd)
    return [line.split() for line in p.stdout.splitlines()]


def look(exe, *args):
    """`check` on a state: its output, and what is wrong if it did not end well."""
    p = subprocess.run([exe, "check", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=60, check=False)
    wrong = [] if p.returncode == 0 else [f"ended with {p.returncode}: {p.stderr.strip()[-300:]}"]
    return p.stdout.splitlines(), wrong


def cut(exe, tmp_path, name, count, n_states, check):
    """Run, make states, check(exe, state directory, lines, offset) each; the
    promised lines.  `name` is the room's directory in a state, cut.kind says how
    it was made."""
    if os.access("/dev/shm", os.W_OK):
        work = f"/dev/shm/hato-crash-{name}-{os.getpid()}"
    else:
        work = str(tmp_path / "states")
    os.makedirs(work)
    root = os.path.join(work, "root")
    os.makedirs(root)
    base = powercut.Base.save(root, str(tmp_path / "base"))
    lines = traced(exe, os.path.join(root, name), count, str(tmp_path / "trace"))
    trace = powercut.Trace(str(tmp_path / "trace"))
    disk = powercut.Disk(base, trace)
    failures = []
    try:
        for n, point in enumerate(powercut.points_of(trace, n_states, random.Random(SEED))):
            disk.advance(point)
            offset = trace.records[point].at if point < len(trace.records) else trace.end
            kind = powercut.KINDS[n % len(powercut.KINDS)]
            state = os.path.join(work, str(n))
            disk.state(state, f"{SEED}:{n}", kind)
            cut.kind = kind
            wrong = check(exe, os.path.join(state, name), lines, offset)
            if wrong:
                failures.append(f"state {n} ({kind}, record {point}): " + "; ".join(wrong[:5]))
                if KEEP:
                    break
            shutil.rmtree(state)
    finally:
        if not (KEEP and failures):
            shutil.rmtree(work, ignore_errors=True)
    assert disk.ignored == 0
    assert not failures, "\n".join(failures[:20])
    return lines
