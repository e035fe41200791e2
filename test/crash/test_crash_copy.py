"""Crash test 2 for what clients do: power cuts during APPEND, COPY, MOVE, EXPUNGE and
changes of flags, on the store alone.

What was answered is there, with its UID and its flags; what was not answered may
have happened to some of its messages or to none, but a message that is moved is in
one of the two mailboxes, and no UID that was told ever means another message.
"""
import os

import roomcrash
from crashtest import once_is_enough

pytestmark = once_is_enough

COUNT = 50
DELETED = 8


class Command:
    """One begin line, and its ok line once it came."""

    def __init__(self, op, box, box2, flags, items):
        self.op, self.box, self.box2, self.flags = op, box, box2, int(flags)
        if op == "append":
            self.items = [(None, int(i)) for i in items]
        else:
            self.items = [tuple(int(x) for x in i.split(":")) for i in items]


class User:
    """What must be there after a cut at some offset of the trace."""

    def __init__(self):
        self.have = {}      # (box, uid) -> [token, flags]
        self.told = {}      # (box, uid) -> token, for good
        self.validity = {}  # box -> UIDVALIDITY
        self.open = None    # a command without its answer

    def ok(self, validity, uids):
        c, self.open = self.open, None
        self.validity[c.box2] = int(validity)
        if c.op == "append":
            for (_, token), uid in zip(c.items, uids):
                self.add(c.box2, int(uid), token, c.flags)
        elif c.op in ("copy", "move"):
            tokens = dict(c.items)
            for pair in uids:
                old, new = (int(x) for x in pair.split(":"))
                self.add(c.box2, new, tokens[old], self.have[c.box, old][1])
                if c.op == "move":
                    del self.have[c.box, old]
        elif c.op == "expunge":
            for uid, _ in c.items:
                del self.have[c.box, uid]
        else:
            for uid, _ in c.items:
                self.have[c.box, uid][1] = c.flags

    def add(self, box, uid, token, flags):
        assert (box, uid) not in self.told, "a UID was told twice"
        self.have[box, uid] = [token, flags]
        self.told[box, uid] = token


def users_at(lines, offset):
    users = {}
    for what, when, number, *rest in lines:
        if what == "bad" or int(when) > offset:
            continue
        user = users.setdefault(number, User())
        if what == "begin":
            user.open = Command(*rest[:4], rest[4:])
        else:
            user.ok(rest[0], rest[1:])
    return users


def hold(name, user, have, validity, uidnext, kind=""):  # pylint: disable=too-many-arguments
    """Compare; the list of what is wrong.  have: (box, uid) -> [token, flags]."""
    wrong = []
    op = user.open.op if user.open else None
    items = user.open.items if user.open else []
    box, box2 = (user.open.box, user.open.box2) if user.open else (None, None)
    touched = {(box, uid) for uid, _ in items}
    for b, v in user.validity.items():
        if validity.get(b) != v:
            wrong.append(f"UIDVALIDITY of {b} was {v}, is {validity.get(b)}")
        told = [u for (tb, u) in user.told if tb == b]
        if told and uidnext.get(b, 0) <= max(told):
            wrong.append(f"UIDNEXT of {b} is {uidnext.get(b)}, {max(told)} was told")
    for key, (token, flags) in user.have.items():
        if key not in have:
            if key not in touched or op not in ("move", "expunge"):
                wrong.append(f"{key} (message {token}) is lost, open: {op}")
        elif have[key][1] != flags and not may_have(have[key][1], flags, user.open,
                                                    key in touched):
            wrong.append(f"{key} has flags {have[key][1]}, not {flags}, open: {op}")
    for key, (token, _) in have.items():
        if user.told.get(key, token) != token:
            wrong.append(f"{key} was told as {user.told[key]} and is {token}")
        elif key not in user.have:
            new = op in ("append", "copy", "move") and key[0] == box2
            if key in user.told or not new or token not in [t for _, t in items]:
                wrong.append(f"{key} (message {token}) should not be there, open: {op}")
    wrong += many(user, have, kind)
    return [f"{name}: {w}" for w in wrong]


def may_have(now, before, command, is_touched):
    """Does a command without an answer explain these flags?"""
    if not command or not is_touched:
        return False
    if command.op == "flags":
        return now == command.flags
    return command.op == "expunge" and now == before | DELETED


def many(user, have, kind):
    """What an open command makes comes once; what is moved is in one place."""
    wrong = []
    if not user.open or user.open.op not in ("append", "copy", "move"):
        return wrong
    op, items, box, box2 = user.open.op, user.open.items, user.open.box, user.open.box2
    for token in {t for _, t in items}:
        asked = [uid for uid, t in items if t == token]
        left = sum((box, uid) in have for uid in asked)
        old = sum(k[0] == box2 and v[0] == token for k, v in user.have.items())
        made = sum(k[0] == box2 and v[0] == token for k, v in have.items()) - old
        if made > len(asked):
            wrong.append(f"message {token} came {made} times into {box2}")
        if op == "move" and left + made < len(asked):
            wrong.append(f"message {token} was moved to nowhere")
        # That it moves is not synced before the copies are made: where writes are
        # reordered, a move without an answer may leave both (RFC 6851 3.3).
        if (op == "move" and left + made > len(asked) and
                kind not in ("random", "torn")):
            wrong.append(f"message {token} is in {box} and {box2}")
    return wrong


def check(exe, state, lines, offset):
    os.makedirs(state, exist_ok=True)
    out, ended = roomcrash.look(exe, state, str(offset % 3))
    wrong = [line for line in out if line.startswith("bad")]
    if ended:
        return wrong + ended
    seen, validity, uidnext = {"have": {}, "after": {}}, {}, {}
    for line in out:
        what, number, *rest = line.split()
        if what == "next":
            validity.setdefault(number, {})[rest[0]] = int(rest[1])
            uidnext.setdefault(number, {})[rest[0]] = int(rest[2])
        elif what != "bad":
            mine = seen[what].setdefault(number, {})
            if (rest[0], int(rest[2])) in mine:
                wrong.append(f"UID {rest[2]} twice in {rest[0]}")
            mine[rest[0], int(rest[2])] = [int(rest[3]), int(rest[4])]
    for number, user in users_at(lines, offset).items():
        # The second start changes nothing.
        after = seen["after"].get(number, {})
        wrong += hold(number, user, after, validity.get(number, {}), uidnext.get(number, {}),
                      roomcrash.cut.kind)
        first = seen["have"].get(number, {})
        if not (user.open and user.open.op == "move") and first != after:
            wrong.append(f"another start made {first} into {after}")
    return wrong


def test_crash_copy(tmp_path):
    lines = roomcrash.cut(roomcrash.build("copy", "store"), tmp_path, "mail", COUNT,
                          roomcrash.states(40), check)
    assert not [line for line in lines if line[0] == "bad"]
    done = [line[3] for line in lines if line[0] == "begin"]
    assert all(done.count(op) > 5 for op in ("append", "copy", "move", "expunge", "flags"))
