"""Crash test 2 for the spool alone: power cuts at random points of a run.

HATO_CRASH=all makes 1,000 states, else a seeded sample.
"""
import os
import random
import shutil
import subprocess

import powercut

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build", "crash")
STATES = 1000 if os.environ.get("HATO_CRASH") == "all" else 60
SEED = os.environ.get("HATO_CRASH_SEED", "1")


def build():
    """The test program, of a build that traces."""
    exe = os.environ.get("HATO_CRASH_SPOOL")
    if exe:
        return exe
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, TOP, "-Dfstrace=true"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, "src/spool/crash_spool"], check=True,
                   stdout=subprocess.DEVNULL)
    return os.path.join(BUILD, "src", "spool", "crash_spool")


def run(exe, root, trace, count, seed):
    """The lines of what was promised, each as a list."""
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    try:
        p = subprocess.run([exe, "run", os.path.join(root, "spool"), str(count), str(seed)],
                           env={**os.environ, "HATO_FSTRACE_FD": str(fd)}, pass_fds=[fd],
                           stdout=subprocess.PIPE, check=True, text=True)
    finally:
        os.close(fd)
    return [line.split() for line in p.stdout.splitlines()]


class Promises:
    """What must be, and what may be, after a cut at an offset of the trace."""

    def __init__(self, lines):
        self.lines = lines

    def at(self, offset):
        must, may_end, ended, expanded = {}, set(), set(), set()
        for what, when, seq, *more in self.lines:
            if what == "begin":
                # Its end may be on the disk as soon as it began, whenever the
                # next line was printed.
                if int(when) <= offset:
                    may_end.add(seq)
            elif int(when) > offset:
                continue
            elif what == "ack":
                must[seq] = more
            elif what == "done":
                ended.add(seq)
            elif what == "expanded":
                expanded.add(seq)
        return must, may_end, ended, expanded


def check(exe, state, promises, offset):
    """Start on a state; the list of what is wrong."""
    p = subprocess.run([exe, "check", os.path.join(state, "spool")], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    if p.returncode != 0:
        return [f"does not start: {p.stderr.strip()}"]
    must, may_end, ended, expanded = promises.at(offset)
    every = {line[2]: line[3:] for line in promises.lines if line[0] == "ack"}
    wrong = []
    have = {}
    for line in p.stdout.splitlines():
        what, seq, *more = line.split(maxsplit=2)
        if what == "bad":
            wrong.append(line)
        elif what == "new":
            if seq in every and seq in must:
                wrong.append(f"number {seq} was used again")
        elif seq in have:
            wrong.append(f"{seq} is there twice")
        else:
            have[seq] = more[0].split()
    for seq, want in must.items():
        if seq not in have:
            if seq not in may_end:
                wrong.append(f"{seq} is lost")
        elif have[seq][:2] != want:
            wrong.append(f"{seq} is {have[seq]}, not {want}")
        elif seq in expanded and have[seq][2] != "5":
            wrong.append(f"{seq} lost its expansion: {have[seq]}")
    for seq in ended & set(have):
        wrong.append(f"{seq} had ended durably and is back")
    return wrong


def test_crash_spool(tmp_path):
    exe = build()
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
        work = f"/dev/shm/hato-crash-{os.getpid()}"
    else:
        work = str(tmp_path / "states")
    root = str(tmp_path / "root")
    os.makedirs(root)
    os.makedirs(work)
    base = powercut.Base.save(root, str(tmp_path / "base"))
    lines = run(exe, root, str(tmp_path / "trace"), 30, SEED)
    trace = powercut.Trace(str(tmp_path / "trace"))
    disk = powercut.Disk(base, trace)
    rng = random.Random(SEED)
    promises = Promises(lines)
    failures = []
    try:
        for n, point in enumerate(powercut.points_of(trace, STATES, rng)):
            disk.advance(point)
            offset = trace.records[point].at if point < len(trace.records) else trace.end
            kind = powercut.KINDS[n % len(powercut.KINDS)]
            state = os.path.join(work, str(n))
            disk.state(state, f"{SEED}:{n}", kind)
            wrong = check(exe, state, promises, offset)
            if wrong:
                failures.append(f"state {n} ({kind}, record {point}): " + "; ".join(wrong))
            shutil.rmtree(state)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert disk.ignored == 0
    assert sum(1 for line in lines if line[0] == "ack") == 120
    assert not failures, "\n".join(failures[:20])
