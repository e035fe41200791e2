"""Clients that APPEND, COPY, MOVE, EXPUNGE and set flags, and remember what they were
answered: the same lines as src/store/crash_copy.c prints (test_crash_copy.py)."""
import imaplib
import random
import re
import threading
import time

from test_crash_copy import Command, User, hold

imaplib.Commands["MOVE"] = ("SELECTED",)
BOXES = ["INBOX", "Work.Hato", "Trash"]
FLAGS = [(1, "\\Seen"), (2, "\\Answered"), (4, "\\Flagged"), (8, "\\Deleted"),
         (16, "\\Draft")]
DELETED = 8
TROUBLE = (imaplib.IMAP4.error, OSError, EOFError, AttributeError)


def flag_names(bits):
    return "(" + " ".join(name for bit, name in FLAGS if bits & bit) + ")"


def flag_bits(text):
    return sum(bit for bit, name in FLAGS if name in text)


def letter(token):
    line = f"{token} and some words of no meaning at all, to fill a line\r\n"
    size = 300000 if token % 41 == 0 else 100 + token * 53 % 9000
    return (f"Subject: {token}\r\n\r\n" + line * (1 + size // len(line))).encode()


def token_of(data):
    m = re.match(rb"Subject: (\d+)\r\n", data)
    token = int(m[1]) if m else 0
    return token if data == letter(token) else 0


def numbers(text):
    out = []
    for part in text.split(","):
        a, _, b = part.partition(":")
        out += range(int(a), int(b or a) + 1)
    return out


def code(c, name):
    """What a response code said last, as text."""
    data = c.response(name)[1]
    assert data and data[-1], f"no {name}"
    return data[-1].decode()


def look(c):
    """All that one user has: (box, uid) -> [token, flags], UIDVALIDITY, UIDNEXT."""
    have, validity, uidnext = {}, {}, {}
    for box in BOXES:
        if c.select(box, readonly=True)[0] != "OK":
            continue
        validity[box] = int(code(c, "UIDVALIDITY"))
        uidnext[box] = int(code(c, "UIDNEXT"))
        if int(c.untagged_responses.get("EXISTS", [b"0"])[-1]) == 0:
            continue
        got = c.fetch("1:*", "(UID FLAGS BODY.PEEK[])")[1]
        for x in got:
            if not isinstance(x, tuple):
                continue
            uid = int(re.search(rb"UID (\d+)", x[0])[1])
            flags = flag_bits(re.search(rb"FLAGS \((.*?)\)", x[0])[1].decode())
            have[box, uid] = [token_of(x[1]), flags]
    return have, validity, uidnext


class Client:
    """One user's commands, one after another.  `note` gets each line as a list, before
    the command goes out and when its OK came."""

    def __init__(self, connect, number, rng, note=None):
        self.connect, self.number, self.rng, self.note = connect, number, rng, note
        self.user = User()
        self.c = None
        self.tokens = number * 1000000
        self.done = 0

    def say(self, *words):
        if self.note:
            self.note([str(w) for w in words])

    def begin(self, op, box, box2, flags, items):
        words = [i if op == "append" else f"{i[0]}:{i[1]}" for i in items]
        self.say("begin", self.number, op, box, box2, flags, *words)
        self.user.open = Command(op, box, box2, flags, [str(w) for w in words])

    def ok(self, validity, uids=()):
        self.say("ok", self.number, validity, *uids)
        self.user.ok(validity, [str(u) for u in uids])
        self.done += 1

    def select(self, box):
        typ, data = self.c.select(box)
        if typ != "OK":
            raise OSError(data)
        return int(code(self.c, "UIDVALIDITY"))

    def must(self, answer):
        if answer[0] != "OK":
            raise OSError(answer)
        return answer[1]

    def append(self):
        box = self.rng.choice(BOXES)
        flags = self.rng.choice((0, 1))
        self.tokens += 1
        self.begin("append", box, box, flags, [self.tokens])
        self.must(self.c.append(box, flag_names(flags), None, letter(self.tokens)))
        validity, uid = code(self.c, "APPENDUID").split()
        self.ok(validity, [uid])

    def choose(self):
        box = self.rng.choice(list(self.user.have))[0]
        all_of_it = [(k[1], v[0]) for k, v in self.user.have.items() if k[0] == box]
        return box, sorted(self.rng.sample(all_of_it, min(len(all_of_it),
                                                          self.rng.randint(1, 4))))

    def copy(self, op):
        box, items = self.choose()
        box2 = self.rng.choice([b for b in BOXES if b != box])
        self.select(box)
        self.begin(op, box, box2, 0, items)
        self.must(self.c.uid(op.upper(), ",".join(str(u) for u, _ in items), box2))
        validity, old, new = code(self.c, "COPYUID").split()
        pairs = list(zip(numbers(old), numbers(new)))
        assert len(pairs) == len(items), (pairs, items)
        self.ok(validity, [f"{a}:{b}" for a, b in pairs])

    def flags(self):
        box, items = self.choose()
        flags = self.rng.randint(0, 31) & ~DELETED
        validity = self.select(box)
        self.begin("flags", box, box, flags, items)
        self.must(self.c.uid("STORE", ",".join(str(u) for u, _ in items), "FLAGS.SILENT",
                             flag_names(flags)))
        self.ok(validity)

    def expunge(self):
        box, items = self.choose()
        uids = ",".join(str(u) for u, _ in items)
        validity = self.select(box)
        self.begin("expunge", box, box, 0, items)
        self.must(self.c.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)"))
        self.must(self.c.uid("EXPUNGE", uids))
        self.ok(validity)

    def one(self):
        what = self.rng.randint(0, 9)
        if len(self.user.have) < 4 or (what < 3 and len(self.user.have) < 40):
            self.append()
        elif what < 5 and len(self.user.have) < 60:
            self.copy("copy")
        elif what < 7:
            self.copy("move")
        elif what < 8:
            self.flags()
        else:
            self.expunge()

    def again(self, seconds=60):
        """Connect until it works, to what is there and does not change any more."""
        self.close()
        end = time.monotonic() + seconds
        last = None
        while True:
            try:
                self.c = self.c or self.sign_in()
                now = look(self.c)
                if now == last and not self.wrong(now):
                    return now
                if time.monotonic() > end and now == last:
                    return now
                last = now
            except TROUBLE:
                self.close()
                if time.monotonic() > end:
                    raise
            time.sleep(0.3)

    def sign_in(self):
        c = self.connect()
        for box in BOXES[1:]:
            if c.select(box)[0] != "OK":
                c.create(box)
        return c

    def close(self):
        c, self.c = self.c, None
        if c:
            try:
                c.shutdown()
            except TROUBLE:
                pass

    def wrong(self, now):
        return hold(str(self.number), self.user, *now)

    def adopt(self, now):
        """Whatever the open command did is what is."""
        have, _, _ = now
        self.user.open = None
        for key in set(self.user.have) - set(have):
            del self.user.have[key]
        for key, value in have.items():
            self.user.have[key] = value
            self.user.told[key] = value[0]


class Crowd:
    """Clients in threads of their own, until stop() or `limit` commands each."""

    def __init__(self, connects, seed, note=None, limit=None):
        self.clients = [Client(f, i + 1, random.Random(seed * 100 + i), note)
                        for i, f in enumerate(connects)]
        self.limit, self.is_stopped, self.wrong = limit, False, []
        self.lost = self.recovering = 0
        self.threads = [threading.Thread(target=self.run, args=(c,), daemon=True)
                        for c in self.clients]
        for t in self.threads:
            t.start()

    def run(self, client):
        try:
            client.again()
            while not self.is_stopped and not self.wrong and \
                    (self.limit is None or client.done < self.limit):
                try:
                    client.one()
                except TROUBLE:
                    self.recover(client)
        except Exception as e:  # pylint: disable=broad-except
            self.wrong.append(f"user {client.number}: {type(e).__name__}: {e}")
        finally:
            client.close()

    def recover(self, client):
        if self.limit is not None:
            raise OSError("a command failed")
        self.lost += 1
        self.recovering += 1
        try:
            now = client.again(120)
        finally:
            self.recovering -= 1
        self.wrong += client.wrong(now)
        client.adopt(now)

    def join(self, seconds=300):
        for t in self.threads:
            t.join(seconds)
            assert not t.is_alive(), "a client hangs"

    def stop(self):
        self.is_stopped = True
        self.join(120)
