"""Crash test 2 for the store alone: power cuts at random points of a run.

What was durable must be there with its own bytes, once; what was on its way is
delivered again, as the queue would, and then is there once; a UID that a client
may have seen never means another message.
"""
import os

import roomcrash
from crashtest import once_is_enough

pytestmark = once_is_enough

COUNT = 60
USERS = 4


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
    os.makedirs(state, exist_ok=True)
    out, ended = roomcrash.look(exe, state, str(last))
    wrong = [line for line in out if line.startswith("bad")]
    if ended:
        return wrong + ended
    have, after = {}, {}
    for line in out:
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
    lines = roomcrash.cut(roomcrash.build("store"), tmp_path, "mail", COUNT, roomcrash.states(40),
                          check)
    assert sum(1 for line in lines if line[0] == "durable") > COUNT / 4
    assert sum(1 for line in lines if line[0] == "shown") > 5
