"""FETCH of every message of the corpus, from Hato and from the real Dovecot over
the same Maildir: each item byte for byte.  HATO_CORPUS as in test_corpus.py;
without it, of the messages below."""
import os
import re
import shutil
import subprocess

import pytest

import dovecotpeer
from hatotest import BUILD, IS_ROOT, NOBODY
from test_corpus import corpus_dir, messages

SAMPLES = [
    b"Subject: plain\nFrom: Anna <a@example.net>\nTo: b@example.org\n\nHello.\nBye.\n",
    b"Subject: multi\nMime-Version: 1.0\nContent-Type: multipart/mixed; boundary=xx\n\npre\n"
    b"--xx\n\none\n--xx\nContent-Type: message/rfc822\n\nSubject: in\nFrom: x@y\n\n"
    b"inner\n--xx\nContent-Type: multipart/alternative; boundary=yy\n\n--yy\n\na\n--yy\n"
    b"Content-Type: text/html\n\n<b>b</b>\n--yy--\n--xx--\nepilogue\n",
    b"Subject: crlf\r\n\r\nlines\r\nwith\r\nCR\r\n",
    b"no header at all\n", b"\nonly a body\n", b"Subject: only a header\n",
    b"Subject: nul\n\na\0b\n", b"Subject: folded\n line\n\tand tab\nTo: a@b,\n c@d\n\nx",
]

ITEMS = ["RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[]", "RFC822.HEADER",
         "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[2]",
         "BODY.PEEK[3]", "BODY.PEEK[1.1]", "BODY.PEEK[1.2]", "BODY.PEEK[2.1]",
         "BODY.PEEK[3.1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2.MIME]", "BODY.PEEK[1.HEADER]",
         "BODY.PEEK[2.HEADER]", "BODY.PEEK[2.TEXT]", "BODY.PEEK[1.1.MIME]",
         "BODY.PEEK[HEADER.FIELDS (Subject From To DATE Received X-None)]",
         "BODY.PEEK[HEADER.FIELDS.NOT (Received Content-Type)]",
         "BODY.PEEK[2.HEADER.FIELDS (Subject)]", "BODY.PEEK[]<0.100>",
         "BODY.PEEK[TEXT]<100.200>", "BODY.PEEK[1]<7.50>", "BODY.PEEK[HEADER]<50.100000>"]


class Pipe:
    """An IMAP session with a program over its standard input and output."""

    def __init__(self, command, log):
        self.err = open(log, "ab")
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=self.err, cwd="/")
        self.line()

    def line(self):
        """A response with its literals; b"" at the end."""
        whole = b""
        while True:
            line = self.p.stdout.readline()
            whole += line
            m = re.search(rb"\{(\d+)\}\r\n$", line)
            if not m:
                return whole
            whole += self.p.stdout.read(int(m[1]))

    def do(self, command):
        self.p.stdin.write(b"t " + command.encode() + b"\r\n")
        self.p.stdin.flush()
        lines = []
        while True:
            line = self.line()
            assert line, (command, lines[-3:])
            if line.startswith(b"t "):
                assert line.startswith(b"t OK"), (command, line)
                return lines
            lines.append(line)

    def fetch(self, item):
        found = {}
        for line in self.do(f"FETCH 1:* ({item})"):
            m = re.match(rb"\* (\d+) FETCH \((.*)\)\r\n$", line, re.S)
            if m:
                found[int(m[1])] = m[2]
        return found

    def close(self):
        self.p.stdin.close()
        self.p.wait(20)
        self.p.stdout.close()
        self.err.close()


def make_maildir(path, raws):
    for d in ("cur", "new", "tmp"):
        os.makedirs(f"{path}/{d}")
    for i, raw in enumerate(raws):
        name = f"{path}/cur/{1700000000 + i}.M{i}P1.host:2,"
        with open(name, "wb") as f:
            f.write(raw)
        os.utime(name, (1700000000 + i, 1700000000 + i))
    if IS_ROOT:
        for base, dirs, files in os.walk(os.path.dirname(path)):
            for name in ["."] + dirs + files:
                os.chown(os.path.join(base, name), NOBODY, NOBODY)


def pipe_program():
    found = os.path.join(BUILD, "src", "imap", "imap_pipe")
    if not os.path.exists(found):
        made = subprocess.run(["ninja", "-C", BUILD, "src/imap/imap_pipe"], check=False,
                              stdout=subprocess.DEVNULL)
        if made.returncode != 0:
            pytest.skip("imap_pipe is not in this build")
    return os.path.realpath(found)


def compare(where, raws):
    """[(item, message, Dovecot's answer, ours)] where they differ."""
    dovecotpeer.need()
    theirs, ours = f"{where}/peer/Maildir", f"{where}/hato/Maildir"
    make_maildir(theirs, raws)
    make_maildir(ours, raws)
    peer = dovecotpeer.Dovecot(theirs)
    a = Pipe(peer.command("imap"), peer.log)
    b = Pipe([pipe_program(), ours], ours + ".log")
    wrong = []
    for p in (a, b):
        p.do("SELECT INBOX")
    for item in ITEMS:
        want, got = a.fetch(item), b.fetch(item)
        assert len(want) == len(raws), item
        wrong += [(item, n, want[n], got.get(n)) for n in sorted(want)
                  if normal(want[n]) != normal(got.get(n, b""))
                  and not is_listed(item, want[n], got.get(n, b""))]
    a.close()
    b.close()
    shutil.rmtree(f"{where}/peer")
    shutil.rmtree(f"{where}/hato")
    return wrong


def is_listed(item, want, got):
    """What differs on purpose.  (1) Dovecot takes 1.1 for part 1 itself where that is
    a single part inside a multipart; there is no such part (RFC 3501 6.4.5).  (2) The
    empty line behind a part's header is shown also where a boundary follows at once.
    (3) In BODY, not in BODYSTRUCTURE, Dovecot keeps the case of type and charset of a
    plain 7-bit message."""
    if re.search(r"\[\d\.\d", item) and normal(got).endswith(b' ""'):
        return True
    if re.search(r"\[\d.*(MIME|HEADER)\]", item):
        return normal(got).split(b"\r\n", 1)[-1] == \
            normal(want).split(b"\r\n", 1)[-1] + b"\r\n" or got.endswith(b" {2}\r\n\r\n")
    return item == "BODY" and got.lower() == want.lower()


def normal(answer):
    """An empty string may be a literal too; of names of fields the case is free."""
    answer = answer.replace(b" {0}\r\n", b' ""')
    return re.sub(rb"^BODY\[[^\]]*\]", lambda m: m[0].upper(), answer)


def test_samples(where):
    wrong = compare(where, SAMPLES)
    assert not wrong, wrong[:5]


def test_corpus_items(where):
    top = corpus_dir()
    if top is None:
        pytest.skip("no corpus")
    paths = messages(top)
    raws = []
    for path in paths:
        with open(path, "rb") as f:
            raws.append(f.read())
    wrong = compare(where, raws)
    assert not wrong, [(w[0], paths[w[1] - 1]) for w in wrong][:100]
