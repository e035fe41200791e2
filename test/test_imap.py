"""IMAP after sign-in, whole: what clients see of each other, of deliveries and of
other programs in the Maildir.

covers: imap_idle_notify_interval
"""
import glob
import os
import random
import re
import smtplib
import threading
import time

import pytest

from hatotest import IS_ROOT, NOBODY, wait_for
from test_login import Reading


class Client:
    """A client that counts messages as RFC 9051 7.5.2 has it: what the server says
    must never contradict what it said before."""

    def __init__(self, server, user, tls=True):
        self.c = server.imap(user, tls)
        self.uids = []  # by sequence number; None: not told yet
        self.n = 0
        self.last = []

    def untagged(self, line):
        m = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.S)
        if not m:
            return
        n, what = int(m[1]), m[2]
        if what == b"EXISTS":
            assert n >= len(self.uids), (line, len(self.uids))
            self.uids += [None] * (n - len(self.uids))
        elif what == b"EXPUNGE":
            assert 1 <= n <= len(self.uids), (line, len(self.uids))
            del self.uids[n - 1]
        else:
            assert 1 <= n <= len(self.uids), (line, len(self.uids))
            uid = re.search(rb"UID (\d+)", m[3])
            if uid:
                known = self.uids[n - 1]
                assert known in (None, int(uid[1])), (line, known)
                self.uids[n - 1] = int(uid[1])

    def line(self):
        whole = b""
        while True:
            line = self.c.readline()
            assert line, "connection lost"
            whole += line
            m = re.search(rb"\{(\d+)\}\r\n$", line)
            if not m:
                break
            whole += self.c.read(int(m[1]))
        self.untagged(whole)
        return whole

    def send(self, text):
        self.n += 1
        tag = b"t%d" % self.n
        self.c.send(tag + b" " + text.encode() + b"\r\n")
        return tag

    def until(self, start):
        self.last = []
        while True:
            line = self.line()
            self.last.append(line)
            if line.startswith(start):
                return line

    def do(self, text, want=b"OK"):
        by_number = re.match(r"(FETCH|STORE|SEARCH)\b", text)
        tag = self.send(text)
        answer = self.until(tag + b" ")
        if want is not None:
            assert answer.split()[1] == want, (text, answer)
        if by_number:
            assert not any(re.match(rb"\* \d+ EXPUNGE", x) for x in self.last), self.last
        return self.last[:-1]

    def select(self, box="INBOX"):
        self.uids = []
        self.do(f"SELECT {box}")

    def fetch_all(self):
        """{uid: (flags, subject)}"""
        found = {}
        for line in self.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"):
            m = re.search(rb"UID (\d+) FLAGS \(([^)]*)\)", line)
            s = re.search(rb"Subject: (\S+ \d+)", line)
            if m and s:
                found[int(m[1])] = (m[2].decode().split(), s[1].decode())
        return found

    def idle(self, seconds):
        tag = self.send("IDLE")
        self.until(b"+ ")
        time.sleep(seconds)
        self.c.send(b"DONE\r\n")
        assert b" OK " in self.until(tag + b" ")

    def close(self):
        self.c.logout()


@pytest.fixture(scope="module", name="server")
def fixture_server(shared_where):
    with Reading(shared_where) as s:
        yield s


def test_two_sessions_see_each_other(server):
    a, b = Client(server, "anna"), Client(server, "anna", tls=False)
    for c in (a, b):
        c.select()
    server.send("anna", "pair", 4)
    assert wait_for(lambda: a.do("NOOP") is not None and len(a.uids) >= 4, 20)
    b.do("NOOP")
    a.do("STORE 2 +FLAGS (\\Deleted)")
    a.do("STORE 3 +FLAGS ($Work \\Flagged)")
    told = b"".join(b.do("NOOP"))
    assert b"* 2 FETCH (FLAGS (\\Deleted" in told and b"$Work" in told
    a.do("EXPUNGE")
    assert len(a.uids) == 3
    b.do("FETCH 1:* (UID)")  # not told yet
    assert len(b.uids) == 4
    b.do("NOOP")
    b.do("FETCH 1:* (UID)")
    a.do("FETCH 1:* (UID)")
    assert a.uids == b.uids and None not in a.uids
    a.close()
    b.close()


def test_parked_in_idle_hears_at_once(server):
    c = Client(server, "ben")
    c.select()
    tag = c.send("IDLE")
    c.until(b"+ ")
    # Over TLS login takes the line after a moment.
    assert wait_for(lambda: re.search(r"ben@\S+.*parked", server.who()), 10), server.who()
    start = time.monotonic()
    server.send("ben", "news")
    c.until(b"* 1 EXISTS")
    took = time.monotonic() - start
    assert wait_for(lambda: re.search(r"ben@\S+.*parked", server.who()), 10)
    box = f"{server.mail}/ben"
    name = f"{box}/new/1700000000.M1P1.elsewhere"
    with open(f"{box}/tmp/x", "w", encoding="utf-8") as f:
        f.write("Subject: stranger 1\n\nx\n")
    if IS_ROOT:
        os.chown(f"{box}/tmp/x", NOBODY, NOBODY)
    os.rename(f"{box}/tmp/x", name)
    c.until(b"* 2 EXISTS")
    c.c.send(b"DONE\r\n")
    assert b"OK Idle" in c.until(tag + b" ")
    assert sorted(s for _, s in c.fetch_all().values()) == ["news 0", "stranger 1"]
    c.close()
    assert took < 5, took


def test_quick_commands_and_slow_readers(server):
    """Thousands of commands in one write; another session is not held up."""
    slow, quick = Client(server, "carl"), Client(server, "carl")
    server.send("carl", "x" * 60, 5)
    quick.select()
    slow.select()
    wait_for(lambda: quick.do("NOOP") is not None and len(quick.uids) >= 5, 20)
    slow.do("NOOP")
    slow.c.sock.setblocking(False)
    sent = b"".join(b"p%d FETCH 1:5 (BODY.PEEK[])\r\n" % i for i in range(3000))
    at = 0
    end = time.monotonic() + 5
    while at < len(sent) and time.monotonic() < end:
        try:
            at += slow.c.sock.send(sent[at:at + 4096])
        except (BlockingIOError, OSError):
            time.sleep(0.01)
    start = time.monotonic()
    for _ in range(20):
        quick.do("UID FETCH 1:* (FLAGS ENVELOPE)")
    assert time.monotonic() - start < 10
    slow.c.sock.close()
    quick.close()


class Crowd:
    def __init__(self, server, user, seconds):
        self.server, self.user = server, user
        self.end = time.monotonic() + seconds
        self.delivered = 0
        self.expunged = set()
        self.lock = threading.Lock()
        self.errors = []

    def run(self, fn, *args):
        try:
            while time.monotonic() < self.end and not self.errors:
                if fn(*args) is False:
                    break
        except Exception as e:  # pylint: disable=broad-except
            self.errors.append(f"{fn.__name__}: {type(e).__name__}: {e}"[:2000])

    def deliver(self):
        with smtplib.SMTP("127.0.0.1", self.server.hato.port, timeout=30) as c:
            for _ in range(5):
                c.sendmail("x@example.com", [f"{self.user}@example.org"],
                           f"Subject: crowd {self.delivered}\r\n\r\nx\r\n")
                self.delivered += 1
        time.sleep(0.05)

    def rename(self):
        """Another program: marks as read, moves from new to cur."""
        box = f"{self.server.mail}/{self.user}"
        path = random.choice(glob.glob(f"{box}/new/*") + glob.glob(f"{box}/cur/*"))
        base, _, letters = os.path.basename(path).partition(":2,")
        letters = "".join(sorted(set(letters) ^ {"S"}))
        try:
            os.rename(path, f"{box}/cur/{base}:2,{letters}")
        except FileNotFoundError:
            pass
        time.sleep(0.02)

    def client(self, c):
        what = random.randrange(6)
        if what == 0:
            c.do("NOOP")
        elif what == 1 and c.uids:
            n = random.randint(1, len(c.uids))
            # Somebody else may have expunged it.
            c.do(f"STORE {n} +FLAGS (\\Flagged)", None)
        elif what == 2:
            c.do("FETCH 1:* (UID FLAGS)" if c.uids else "NOOP")
        elif what == 3:
            c.idle(0.05)
        elif what == 4:
            found = c.fetch_all()
            if len(found) > 20:
                uid, (_, subject) = random.choice(sorted(found.items()))
                with self.lock:
                    self.expunged.add(subject)
                c.do(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)", None)
                c.do(f"UID EXPUNGE {uid}")
        else:
            c.do("UID SEARCH UNSEEN")


def test_ten_clients_and_strangers(server):
    """Nothing is lost, nothing doubled, nobody miscounts."""
    crowd = Crowd(server, "dora", 12)
    clients = [Client(server, "dora", tls=i % 2 == 0) for i in range(10)]
    for c in clients:
        c.select()
    server.send("dora", "first", 1)
    jobs = [(crowd.deliver,), (crowd.rename,)] + [(crowd.client, c) for c in clients]
    wait_for(lambda: os.listdir(f"{server.mail}/dora/new") or
             os.listdir(f"{server.mail}/dora/cur"), 20)
    threads = [threading.Thread(target=crowd.run, args=j) for j in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not crowd.errors, crowd.errors
    want = {f"crowd {i}" for i in range(crowd.delivered)} | {"first 0"}

    def missing():
        clients[0].do("NOOP")
        got = [s for _, s in clients[0].fetch_all().values()]
        assert len(got) == len(set(got))
        return want - set(got) - crowd.expunged

    assert wait_for(lambda: not missing(), 30), missing()
    for c in clients:
        c.do("NOOP")
        c.do("UID FETCH 1:* (UID)")
    for c in clients[1:]:
        assert c.uids == clients[0].uids
    assert crowd.delivered > 5
    for c in clients:
        c.close()
    box = f"{server.mail}/dora"
    assert wait_for(lambda: len(glob.glob(f"{box}/new/*") + glob.glob(f"{box}/cur/*")) ==
                    len(clients[0].uids), 30)
