"""Many at one mailbox: IMAP clients that append, flag, move and expunge, LMTP
that delivers, and another program that renames and drops files into the
Maildir.  Nothing is lost, nothing doubled, UIDs never change."""
import concurrent.futures
import glob
import imaplib
import os
import random
import re
import signal
import smtplib
import time

from hatotest import status_of, wait_for
from test_login import Reading

SECONDS = 8


def subjects(client, box):
    client.select(box, readonly=True)
    got = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    out = []
    for x in got:
        if isinstance(x, tuple):
            uid = int(re.search(rb"UID (\d+)", x[0])[1])
            out.append((uid, re.search(rb"Subject: (\S+)", x[1])[1].decode()))
    return out


def is_ours(e):
    """Trouble that a client bears: a line that broke, or "try again later"."""
    return isinstance(e, (imaplib.IMAP4.abort, OSError)) or "UNAVAILABLE" in str(e)


class Crowd:
    def __init__(self, server, seed=1):
        self.server = server
        self.end = time.monotonic() + SECONDS
        self.kept = []      # said to be there
        self.removed = []   # said to be gone
        self.maybe = set()  # the line broke before an answer
        self.seed = seed
        self.uids = {}      # subject: uid, of INBOX, as some session saw it

    def running(self):
        return time.monotonic() < self.end

    def reader(self, n):
        """Sees the same UID for the same letter, in ascending order."""
        while self.running():
            try:
                with self.server.imap("anna", tls=n % 2 == 0) as c:
                    for _ in range(5):
                        seen = subjects(c, "INBOX")
                        assert [u for u, _ in seen] == sorted({u for u, _ in seen})
                        for uid, subject in seen:
                            assert self.uids.setdefault(subject, uid) == uid, subject
            except (imaplib.IMAP4.error, OSError) as e:
                if not is_ours(e):
                    raise
                time.sleep(0.1)

    def writer(self, n):
        rng = random.Random(self.seed * 100 + n)
        i = 0
        while self.running():
            try:
                with self.server.imap("anna", tls=n % 2 == 0) as c:
                    c.select("INBOX")
                    for _ in range(20):
                        i += 1
                        self.one(c, rng, f"w{n}-{i}")
            except (imaplib.IMAP4.error, OSError) as e:
                if not is_ours(e):
                    raise
                time.sleep(0.1)

    def one(self, c, rng, subject):
        self.maybe.add(subject)
        got = c.append("INBOX", None, None, f"Subject: {subject}\r\n\r\nx\r\n".encode())
        if got[0] != "OK":
            assert b"UNAVAILABLE" in got[1][0], got
            return
        uid = re.search(rb"APPENDUID \d+ (\d+)", got[1][0])[1].decode()
        assert self.uids.setdefault(subject, int(uid)) == int(uid)
        what = rng.randrange(4)
        if what == 0:
            c.uid("STORE", uid, "+FLAGS", "(\\Seen \\Flagged)")
        if what == 1:
            c.uid("STORE", uid, "+FLAGS", "\\Deleted")
            if c.uid("EXPUNGE", uid)[0] != "OK":
                return
            self.removed.append(subject)
        elif what == 2:
            if c.uid("MOVE", uid, "Other")[0] != "OK":
                return
            self.kept.append(subject)
        else:
            self.kept.append(subject)
        self.maybe.discard(subject)

    def deliverer(self, n):
        i = 0
        while self.running():
            try:
                with smtplib.SMTP("127.0.0.1", self.server.hato.port, timeout=30) as c:
                    for _ in range(10):
                        i += 1
                        subject = f"d{n}-{i}"
                        self.maybe.add(subject)
                        c.sendmail("a@b.example", ["anna@example.org"],
                                   f"Subject: {subject}\r\n\r\nx\r\n")
                        self.kept.append(subject)
                        self.maybe.discard(subject)
            except (smtplib.SMTPException, OSError):
                pass

    def stranger(self):
        """Delivers files of its own and sets flags in names, as Maildir says."""
        rng = random.Random(self.seed)
        box = f"{self.server.mail}/anna"
        i = 0
        while self.running():
            i += 1
            name = f"{int(time.time())}.M{i}P1.stranger"
            with open(f"{box}/tmp/{name}", "w", encoding="utf-8") as f:
                f.write(f"Subject: s-{i}\n\nx\n")
            os.chown(f"{box}/tmp/{name}", self.server.hato.uid, self.server.hato.uid)
            os.rename(f"{box}/tmp/{name}", f"{box}/new/{name}")
            self.kept.append(f"s-{i}")
            for path in rng.sample(glob.glob(f"{box}/cur/*:2,*"), k=0) or \
                    glob.glob(f"{box}/cur/*:2,")[:2] + glob.glob(f"{box}/new/*")[:1]:
                base = os.path.basename(path).split(":2,")[0]
                try:
                    os.rename(path, f"{box}/cur/{base}:2,{rng.choice(['S', 'F', 'FS', 'R'])}")
                except FileNotFoundError:
                    pass
            time.sleep(0.02)

    def files_of(self, names):
        """For a failure's report."""
        out = []
        for path in glob.glob(f"{self.server.mail}/anna/*/*"):
            with open(path, encoding="utf-8", errors="replace") as f:
                text = f.read()
            out += [path for s in names if f"Subject: {s}\n" in text]
        return out

    def check(self):
        def found():
            for _ in range(20):
                try:
                    with self.server.imap("anna") as c:
                        return subjects(c, "INBOX"), subjects(c, "Other")
                except (imaplib.IMAP4.error, OSError):
                    time.sleep(0.5)
            raise AssertionError("nobody can sign in any more")

        def complete():
            # What met a dying worker waits in the queue.
            self.server.hato.command("flush")
            inbox, other = found()
            return set(self.kept) <= {s for _, s in inbox} | {s for _, s in other}
        wait_for(complete, 60, 0.5)
        inbox, other = found()
        names = [s for _, s in inbox] + [s for _, s in other]
        double = {s for s in names if names.count(s) > 1} - self.maybe
        # A MOVE whose answer was lost may have left the letter in both.
        assert not double, [(u, s) for u, s in inbox if s in double][:10] + \
            self.files_of(sorted(double)[:2])
        lost = set(self.kept) - set(names)
        assert not lost, sorted(lost)[:10]
        back = set(self.removed) & set(names)
        assert not back, sorted(back)[:10]
        for uid, subject in inbox:
            assert self.uids.setdefault(subject, uid) == uid, subject


def hammer(server, also=None):
    with server.imap("anna") as c:
        c.create("Other")
        c.append("INBOX", None, None, b"Subject: first\r\n\r\nx\r\n")
    crowd = Crowd(server)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(crowd.writer, n) for n in range(6)]
        jobs += [pool.submit(crowd.reader, n) for n in range(4)]
        jobs += [pool.submit(crowd.deliverer, n) for n in range(2)]
        jobs += [pool.submit(crowd.stranger)]
        if also:
            jobs.append(pool.submit(also, crowd))
        for j in jobs:
            j.result()
    crowd.check()
    assert len(crowd.kept) > 100
    return crowd


def test_ten_clients_lmtp_and_a_stranger(where):
    with Reading(where, mail_max_userip_connections="0") as server:
        hammer(server)


def kill_some(server, kinds):
    def also(crowd):
        rng = random.Random(7)
        while crowd.running():
            time.sleep(0.7)
            kind = rng.choice(kinds)
            if kind == "mailbox":
                template = server.hato.processes().get("template", (0,))[0]
                pids = [int(p) for p in os.listdir("/proc") if p.isdigit() and
                        (status_of(p) or {}).get("PPid") == str(template)]
            else:
                pids = [p for name, (p, _) in server.hato.processes().items()
                        if name.split("/")[0] == kind]
            for pid in pids[:1]:
                os.kill(pid, signal.SIGKILL)
    return also


def test_the_same_while_processes_are_killed(where):
    """SIGKILL of workers, login and broker: clients come back, nothing is lost,
    UIDs stay."""
    with Reading(where, mail_max_userip_connections="0") as server:
        crowd = hammer(server, kill_some(server, ["mailbox", "login", "broker"]))
        assert "killed by signal 9" in server.hato.log()
        assert crowd.uids
