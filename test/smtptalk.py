"""An SMTP client that says exactly the bytes that a test wants said."""
import os
import re
import socket
import struct
import time

from hatotest import wait_for

STRANGER = "127.0.0.2"  # outside mynetworks in these tests
FRIEND = "127.0.0.1"


class Gone(Exception):
    """The server closed the connection."""


class Talk:
    """with Talk(h) as t: t.hello(); assert t("NOOP") == "250 2.0.0 Ok" """

    def __init__(self, h, source=STRANGER, timeout=10, greet=True):
        self.s = socket.create_connection(("127.0.0.1", h.port), timeout, (source, 0))
        self.buf = b""
        self.banner = self.reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.s.close()

    def send(self, data):
        self.s.sendall(data.encode() if isinstance(data, str) else data)

    def line(self):
        while b"\n" not in self.buf:
            got = self.s.recv(65536)
            if not got:
                raise Gone(self.buf)
            self.buf += got
        line, self.buf = self.buf.split(b"\n", 1)
        assert line.endswith(b"\r"), line
        return line[:-1].decode("utf-8", "surrogateescape")

    def reply(self):
        """The lines of one answer, joined by newlines."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
            assert lines[-1][:3] == lines[0][:3]
        return "\n".join(lines)

    def __call__(self, command):
        self.send(command.encode() + b"\r\n" if isinstance(command, str)
                  else command + b"\r\n")
        return self.reply()

    def hello(self, name="client.example.org"):
        answer = self("EHLO " + name)
        assert answer.startswith("250"), answer
        return {x[4:].split()[0]: x[4:].split()[1:] for x in answer.split("\n")[1:]}

    def envelope(self, sender="s@example.net", rcpts=("tomo@example.com",)):
        """MAIL and RCPTs, which all must be accepted."""
        assert self(f"MAIL FROM:<{sender}>").startswith("250")
        for r in [rcpts] if isinstance(rcpts, str) else rcpts:
            answer = self(f"RCPT TO:<{r}>")
            assert answer.startswith("250"), answer

    def data(self, raw):
        """DATA with these bytes; the dot is added.  The answer to the dot."""
        answer = self("DATA")
        assert answer.startswith("354"), answer
        self.send(raw + b".\r\n")
        return self.reply()

    def mail(self, raw=b"Subject: x\r\n\r\nbody\r\n", **kw):
        """A whole letter; its queue id."""
        self.envelope(**kw)
        answer = self.data(raw)
        m = re.fullmatch(r"250 2\.0\.0 Ok: queued as (\w+)", answer)
        assert m, answer
        return m[1]

    def is_closed(self):
        """Has the server closed?  Nothing may come before it does."""
        try:
            return self.s.recv(1) == b"" and self.buf == b""
        except ConnectionResetError:
            return True


def maildir(path):
    """The messages of a Maildir, oldest first, as bytes."""
    out = []
    for sub in ("new", "cur"):
        try:
            names = os.listdir(f"{path}/{sub}")
        except FileNotFoundError:
            continue
        for name in names:
            full = f"{path}/{sub}/{name}"
            with open(full, "rb") as f:
                out.append((os.stat(full).st_mtime_ns, name, f.read()))
    return [data for _, _, data in sorted(out)]


def wait_mail(path, n=1, seconds=10):
    """The n messages of a Maildir, once they are there."""
    found = wait_for(lambda: (m := maildir(path)) if len(maildir(path)) >= n else None,
                     seconds, 0.02)
    assert found and len(found) == n, f"{path}: {len(maildir(path))} messages, not {n}"
    return found


TRACE = re.compile(
    rb"Return-Path: <[^\n]*>\n(?:X-Original-To: [^\n]*\n)?Delivered-To: [^\n]*\n"
    rb"Received: [^\n]*\n(?:\t[^\n]*\n)*")


def untraced(message):
    """A delivered message without the trace fields that we put before it."""
    m = TRACE.match(message)
    assert m, message[:600]
    return message[m.end():]


class TestClock:
    """HATO_TEST_CLOCK: time that a test moves."""

    __test__ = False

    def __init__(self, h):
        self.path = h.path("clock")
        with open(self.path, "wb") as f:
            f.write(bytes(8))
        h.own()
        self.env = {"HATO_TEST_CLOCK": self.path}
        self.now = 0

    def move(self, seconds):
        self.now += int(seconds * 1000)
        with open(self.path, "r+b") as f:
            f.write(struct.pack("<q", self.now))

    def until(self, what, step=60, tries=200):
        """Moves on in steps until what() is true; its value."""
        for _ in range(tries):
            value = what()
            if value:
                return value
            self.move(step)
            time.sleep(0.05)
        return what()
