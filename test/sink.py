"""An SMTP or LMTP server that a test scripts: what it says at each step."""
import socket
import threading

from hatotest import wait_for

EHLO = ("PIPELINING", "8BITMIME", "SIZE 50000000", "ENHANCEDSTATUSCODES")


class Message:
    def __init__(self, session, mail, rcpts, data):
        self.session = session
        self.mail = mail
        self.rcpts = rcpts
        self.data = data


class Sink:
    """with Sink() as s: ... s.messages, s.commands

    `answers` maps a step (CONNECT EHLO HELO LHLO MAIL RCPT DATA DOT RSET QUIT) to what is
    said: a string, a list (one for each time, the last stays), None (close), bytes (sent as
    they are), a number (wait so many seconds, then close) or a function of the line.
    """

    def __init__(self, answers=None, ehlo=EHLO, lmtp=False, host="127.0.0.1", port=0, path=None,
                 slow=0):
        self.answers = dict(answers or {})
        self.slow = slow  # seconds between two small reads of a message
        self.ehlo = ehlo
        self.lmtp = lmtp
        self.auth = None  # function(session, line) that serves AUTH
        self.messages = []
        self.commands = []  # (session, line)
        self.sessions = 0
        self.lock = threading.Lock()
        self.open = set()
        if path:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.bind(path)
            self.port = 0
        else:
            self.s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if slow:
                self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.s.bind((host, port))
            self.port = self.s.getsockname()[1]
        self.s.listen(200)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.s.close()
        with self.lock:
            left = list(self.open)
        for c in left:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            with self.lock:
                self.sessions += 1
                number = self.sessions
                self.open.add(c)
            threading.Thread(target=self.run, args=(c, number), daemon=True).start()

    def said(self, word):
        """All commands that begin with `word`."""
        with self.lock:
            return [line for _, line in self.commands if line.upper().startswith(word)]

    def wait(self, n=1, seconds=30):
        wait_for(lambda: len(self.messages) >= n, seconds)
        assert len(self.messages) >= n, (len(self.messages), self.commands)
        return self.messages

    def run(self, c, number):
        try:
            Session(self, c, number).run()
        except (OSError, EOFError):
            pass
        finally:
            c.close()
            with self.lock:
                self.open.discard(c)


class Session:
    def __init__(self, sink, c, number):
        self.sink = sink
        self.c = c
        self.number = number
        self.f = c.makefile("rb")
        self.mail = None
        self.rcpts = []

    def say(self, step, default, line=""):
        with self.sink.lock:
            what = self.sink.answers.get(step, default)
            if isinstance(what, list):
                what = what.pop(0) if len(what) > 1 else what[0]
        if callable(what):
            what = what(line)
        if what is None:
            raise EOFError
        if isinstance(what, (int, float)):
            self.sink.stopping.wait(what)
            raise EOFError
        if isinstance(what, str):
            self.c.sendall(what.encode() + b"\r\n")
            return what[:1] in "23"
        self.c.sendall(what)
        return what[:1] in b"23"

    def line(self):
        got = self.f.readline()
        if not got:
            raise EOFError
        text = got.decode("utf-8", "surrogateescape").rstrip("\r\n")
        with self.sink.lock:
            self.sink.commands.append((self.number, text))
        return text

    def data(self):
        out = b""
        while True:
            if self.sink.slow:
                self.sink.stopping.wait(self.sink.slow)
            got = self.f.readline()
            if not got:
                raise EOFError
            if got == b".\r\n":
                return out
            out += got[1:] if got.startswith(b".") else got

    def done(self, data):
        accepted = []
        for rcpt in self.rcpts if self.sink.lmtp else [self.rcpts]:
            if self.say("DOT", "250 2.0.0 Ok: queued", str(rcpt)):
                accepted += rcpt if isinstance(rcpt, list) else [rcpt]
        if accepted:
            with self.sink.lock:
                self.sink.messages.append(Message(self.number, self.mail, accepted, data))
        self.mail, self.rcpts = None, []

    def run(self):
        self.say("CONNECT", "220 sink.example ESMTP")
        while True:
            line = self.line()
            verb = line.split(" ")[0].upper()
            if verb in ("EHLO", "LHLO"):
                words = ["sink.example", *self.sink.ehlo]
                self.say(verb, "\r\n".join("250" + ("-" if i + 1 < len(words) else " ") + w
                                           for i, w in enumerate(words)), line)
            elif verb == "MAIL":
                if self.say("MAIL", "250 2.1.0 Ok", line):
                    self.mail, self.rcpts = line, []
            elif verb == "RCPT":
                if self.mail is None:
                    self.c.sendall(b"503 5.5.1 MAIL first\r\n")
                elif self.say("RCPT", "250 2.1.5 Ok", line):
                    self.rcpts.append(line)
            elif verb == "DATA":
                if not self.rcpts:
                    self.c.sendall(b"554 5.5.1 No valid recipients\r\n")
                elif self.say("DATA", "354 go ahead", line):
                    self.done(self.data())
            elif verb == "BDAT":
                size = int(line.split()[1])
                data = self.f.read(size)
                if not self.rcpts:
                    self.c.sendall(b"554 5.5.1 No valid recipients\r\n")
                else:
                    self.done(data)
            elif verb == "RSET":
                self.mail, self.rcpts = None, []
                self.say("RSET", "250 2.0.0 Ok", line)
            elif verb == "QUIT":
                self.say("QUIT", "221 2.0.0 Bye", line)
                return
            elif verb == "AUTH" and "AUTH" not in self.sink.answers and self.sink.auth:
                self.sink.auth(self, line)
            else:
                self.say(verb, "250 2.0.0 Ok" if verb == "HELO" else "500 5.5.2 what?", line)
