"""Sessions that send mail and remember what they were answered."""
import random
import socket
import threading
import time
import uuid


class Message:
    """One attempt: `state` is "open" (no answer came), "yes" (250) or "no"."""

    def __init__(self, rcpts):
        self.token = uuid.uuid4().hex
        self.rcpts = rcpts
        self.state = "open"


class Session:
    """Just enough SMTP; any trouble is an OSError."""

    def __init__(self, port, timeout=20):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        try:
            self.expect("2")
            self.command("EHLO load.example.org", "2")
        except OSError:
            self.close()
            raise

    def close(self):
        self.file.close()
        self.sock.close()

    def reply(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise OSError("connection closed")
            if line[3:4] != b"-":
                return line.decode("utf-8", "replace").rstrip()

    def expect(self, digit):
        text = self.reply()
        if not text.startswith(digit):
            raise OSError(text)
        return text

    def command(self, text, digit):
        self.sock.sendall(text.encode() + b"\r\n")
        return self.expect(digit)

    def send(self, message, size, on_yes=None):
        """Sets message.state; OSError when the session is over."""
        text = (f"From: <load@example.org>\r\nTo: <{message.rcpts[0]}>\r\n"
                f"Message-ID: <{message.token}@load.example.org>\r\n"
                f"X-Token: {message.token}\r\n\r\n").encode()
        line = b"0123456789 some words of no meaning at all, to fill a line\r\n"
        text += line * max(1, size // len(line))
        lines = ["MAIL FROM:<load@example.org>"]
        lines += [f"RCPT TO:<{r}>" for r in message.rcpts]
        self.sock.sendall("".join(f"{x}\r\n" for x in lines + ["DATA"]).encode())
        answers = [self.reply() for _ in lines]
        data = self.reply()
        if not all(a.startswith("2") for a in answers):
            # Whoever got through RCPT would get it: send nothing.
            message.state = "no"
            raise OSError(f"{answers} {data}")
        if not data.startswith("3"):
            message.state = "no"
            raise OSError(data)
        self.sock.sendall(text + b".\r\n")
        answer = self.reply()
        message.state = "yes" if answer.startswith("250") else "no"
        if message.state == "yes" and on_yes:
            on_yes(message)
        if message.state == "no":
            raise OSError(answer)


class Load:
    """`sessions` threads that send until stop(); what died is begun anew."""

    def __init__(self, port, rcpts, sessions=4, seed=0, sizes=(500, 4000), on_yes=None,
                 pause=0.0, limit=None):
        self.port, self.rcpts, self.sizes = port, rcpts, sizes
        self.on_yes, self.pause, self.limit = on_yes, pause, limit
        self.messages = []
        self.errors = {}
        self.is_stopped = False
        self.threads = [threading.Thread(target=self.run, args=(seed * 100 + i,), daemon=True)
                        for i in range(sessions)]
        for t in self.threads:
            t.start()

    def note(self, error):
        text = str(error)[:120]
        self.errors[text] = self.errors.get(text, 0) + 1

    def one(self, rng, session):
        n = rng.choice((1, 1, 1, 2, 5))
        m = Message(rng.sample(self.rcpts, min(n, len(self.rcpts))))
        self.messages.append(m)
        session.send(m, rng.choice(self.sizes), self.on_yes)

    def is_over(self):
        return self.is_stopped or (self.limit and len(self.messages) >= self.limit)

    def run(self, seed):
        rng = random.Random(seed)
        session = None
        while not self.is_over():
            try:
                session = session or Session(self.port)
                self.one(rng, session)
                if rng.random() < 0.02:
                    session.close()
                    session = None
            except OSError as e:
                self.note(e)
                if session:
                    session.close()
                session = None
                time.sleep(0.02)
            if self.pause:
                time.sleep(self.pause)
        if session:
            session.close()

    def stop(self):
        self.is_stopped = True
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a session hangs"

    def wait(self):
        for t in self.threads:
            t.join(120)
            assert not t.is_alive(), "a session hangs"
