"""The client side of Dovecot's authentication protocol, over a UNIX socket."""
import base64
import hashlib
import hmac
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


class Scram:
    """SCRAM's client by hand (RFC 5802); lines go in and out as base64.  With a binding:
    its type and its bytes."""

    def __init__(self, mech, name, password, flag="n", binding=b""):
        self.algo = "sha256" if "256" in mech else "sha1"
        self.header = f"{flag},,"
        self.binding = binding
        self.bare = f"n={name},r=abcdefghijkl"
        self.password = password
        self.proof = None  # what the server must say at the end

    def mac(self, key, text):
        return hmac.new(key, text, self.algo).digest()

    def first(self):
        return base64.b64encode((self.header + self.bare).encode()).decode()

    def last(self, line):
        server = base64.b64decode(line).decode()
        f = dict(x.split("=", 1) for x in server.split(","))
        c = base64.b64encode(self.header.encode() + self.binding).decode()
        last = f"c={c},r={f['r']}"
        both = f"{self.bare},{server},{last}".encode()
        salted = hashlib.pbkdf2_hmac(self.algo, self.password.encode(),
                                     base64.b64decode(f["s"]), int(f["i"]))
        key = self.mac(salted, b"Client Key")
        signature = self.mac(hashlib.new(self.algo, key).digest(), both)
        p = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        v = base64.b64encode(self.mac(self.mac(salted, b"Server Key"), both)).decode()
        self.proof = base64.b64encode(b"v=" + v.encode()).decode()
        return base64.b64encode(f"{last},p={p}".encode()).decode()
