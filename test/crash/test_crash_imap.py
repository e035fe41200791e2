"""Kills and power cuts while clients APPEND, COPY, MOVE, EXPUNGE and set flags: by IMAP
through the whole server.

What was answered OK is there, with its UID and flags; a moved message is in one of the
two mailboxes; no UID ever means another message, and UIDVALIDITY stays.
"""
import os
import random
import shutil
import sys
import time

import pytest

import powercut
from crashtest import ALL, fixture_traced, kill, new_place, once_is_enough, processes
from imapload import BOXES, TROUBLE, Crowd, look
from test_crash_copy import hold, users_at
from test_crash_power import MARK, Disk, mark_text, work_dir

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from test_login import USERS, Reading  # noqa: E402

SEED = int(os.environ.get("HATO_SEED", "1"))
STATES = int(os.environ.get("HATO_STATES", "400" if ALL else "10"))
COMMANDS = 120 if ALL else 40
KILLS = int(os.environ.get("HATO_KILLS", "300" if ALL else "12"))
# "template" makes the workers, "tables" and "log" stand by.
TYPES = ["mailbox", "mailbox", "login", "broker", "auth", "template", "tables", "log"]


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


def connects(server):
    return [lambda u=u: server.imap(u, tls=False) for u in USERS[:3]]


@once_is_enough
def test_crash_imap_kill(where):
    rng = random.Random(SEED)
    killed = 0
    with Reading(where, mail_max_userip_connections="100") as server:
        crowd = Crowd(connects(server), SEED)
        try:
            while killed < KILLS and not crowd.wrong:
                time.sleep(rng.choice((0.02, 0.1, 0.3, 0.6)) * 2 * rng.random())
                # Whoever looks at what is there is disturbed now and then only.
                if crowd.recovering and rng.random() < 0.9:
                    continue
                kind = rng.choice(TYPES)
                victims = [p for name, p in processes(server.hato) if name == kind]
                if victims:
                    kill(rng.choice(victims))
                    killed += 1
        finally:
            crowd.stop()
        for client in crowd.clients:
            crowd.wrong += client.wrong(client.again())
            client.close()
        done = [c.done for c in crowd.clients]
        print(f"{killed} kills, {done} commands answered OK, {crowd.lost} without an answer")
        assert not crowd.wrong, "\n".join(crowd.wrong[:20]) + server.hato.log()[-6000:]
        assert sum(done) > 10


def run_and_trace(server, trace):
    fd = os.open(trace, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.chmod(trace, 0o666)
    server.hato.pass_fds = (fd,)
    server.hato.start(env={"HATO_FSTRACE_FD": str(fd)})
    crowd = Crowd(connects(server), SEED, limit=COMMANDS,
                  note=lambda words: mark_text(fd, " ".join(words)))
    crowd.join()
    time.sleep(1.5)  # names follow flags
    assert not crowd.wrong, crowd.wrong
    server.hato.stop()
    server.hato.pass_fds = ()
    os.close(fd)


def lines_of(trace):
    """As crash_copy's, with the number of a record for an offset."""
    out = []
    for i, r in enumerate(trace.records):
        if r.call == MARK:
            what, *rest = bytes(r.data).decode().split(" ")
            out.append([what, str(i), *rest])
    return out


def check(server, lines, point, kind):
    users = users_at(lines, point - 1)
    wrong = []
    with server:
        for i, name in enumerate(USERS[:3]):
            user = users.get(str(i + 1))
            if user is None:
                continue
            c = server.imap(name, tls=False)
            end = time.monotonic() + 10
            while True:
                found = hold(name, user, *look(c), kind=kind)
                # A MOVE that was cut is finished behind the first look.
                if not found or time.monotonic() > end or user.open is None:
                    break
                time.sleep(0.1)
            wrong += found
            c.shutdown()
        if wrong:
            wrong.append(server.hato.log()[-2000:])
    return wrong


@once_is_enough
def test_crash_imap_power(where, traced):
    assert traced
    os.mkdir(f"{where}/run", 0o755)
    server = Reading(f"{where}/run")
    server.hato.own()
    base = powercut.Base.save(server.hato.dir, f"{where}/base")
    run_and_trace(server, f"{where}/trace")
    trace = powercut.Trace(f"{where}/trace")
    lines = lines_of(trace)
    assert sum(line[0] == "ok" for line in lines) == 3 * COMMANDS
    disk = Disk(base, trace)
    work = work_dir(where)
    failures = []
    began = time.monotonic()
    try:
        for n, point in enumerate(powercut.points_of(trace, STATES, random.Random(SEED))):
            disk.advance(point)
            kind = powercut.KINDS[n % len(powercut.KINDS)]
            path = f"{work}/{n}"
            disk.state(path, f"{SEED}:{n}", kind)
            os.chmod(path, 0o755)
            keep = os.environ.get("HATO_KEEP")
            if keep:
                shutil.copytree(path, f"{keep}/imap-{SEED}-{n}")
            try:
                wrong = check(Reading(path), lines, point, kind)
            except TROUBLE as e:
                wrong = [f"{type(e).__name__}: {e}"]
            if wrong:
                failures.append(f"state {n} ({kind}, record {point} of {len(trace.records)}): "
                                + "\n".join(wrong[:8]))
            elif keep:
                shutil.rmtree(f"{keep}/imap-{SEED}-{n}")
            shutil.rmtree(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{STATES} states of {len(trace.records)} records in {time.monotonic() - began:.0f} s,"
          f" {len(failures)} failed")
    assert not failures, "\n".join(failures[:20])
    assert not disk.unknown
