"""The client side of Dovecot's authentication protocol, over a UNIX socket."""
import base64
import socket


class AuthTalk:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(path)
        self.file = self.sock.makefile("rwb")
        self.mechs = []
        self.next_id = 0
        while True:
            line = self.line()
            if line.startswith("MECH\t"):
                self.mechs.append(line.split("\t")[1])
            if line == "DONE":
                break
        self.say("VERSION\t1\t2")
        self.say("CPID\t4711")

    def line(self):
        text = self.file.readline()
        assert text.endswith(b"\n"), f"auth went away after {text!r}"
        return text[:-1].decode()

    def say(self, text):
        self.file.write(text.encode() + b"\n")
        self.file.flush()

    def begin(self, mech, resp=None, service="smtp", rip="192.0.2.1", more=""):
        self.next_id += 1
        text = f"AUTH\t{self.next_id}\t{mech}\tservice={service}\trip={rip}{more}"
        if resp is not None:
            text += "\tresp=" + base64.b64encode(resp).decode()
        self.say(text)
        return self.next_id

    def plain(self, name, password, **kw):
        """The answer without its id."""
        n = self.begin("PLAIN", b"\0" + name.encode() + b"\0" + password.encode(), **kw)
        word, number, *rest = self.line().split("\t")
        assert number == str(n)
        return [word, *rest]

    def close(self):
        self.file.close()
        self.sock.close()
