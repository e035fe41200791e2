"""A test internet on loopback: nsd with zones that are signed, unsigned, bogus or
expired below a signed root of its own, and a hostile name server for others.

    net = Internet(where / "dns")
    net.zone("example.test", {"@": ["MX 10 mx"], "mx": "A 127.0.0.2"}, signed=True)
    net.zone("evil.test", "@ A 127.0.0.3\\n", signed="bogus")
    net.hostile("lies.test", {"slow": "silent", "big": "huge"})
    with net, Hato(where, main=net.conf()) as h: ...

Parents ("test", ".") come by themselves and are signed; DS records stand where a
child is signed.  Nothing here needs root: all is on 127.0.0.1, high ports.
"""
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from hatotest import free_port, wait_for

NSD = shutil.which("nsd") or "/usr/sbin/nsd"
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16,
         "AAAA": 28, "SRV": 33, "TLSA": 52}


def parent_of(name):
    return name.partition(".")[2] or "."


def relative(name, origin):
    return name + "." if origin == "." else name[:-len(origin) - 1]


class Zone:
    def __init__(self, name, records, signed, ttl):
        self.name = name
        self.signed = signed
        self.ttl = ttl
        self.records = records
        self.children = {}  # name -> DS records, "" when it is not signed

    def text(self):
        origin = self.name.rstrip(".") + "."
        lines = [f"$ORIGIN {origin}", f"$TTL {self.ttl}",
                 f"@ SOA ns hostmaster {int(time.time())} 3600 600 86400 {self.ttl}",
                 "@ NS ns", "ns A 127.0.0.1"]
        if isinstance(self.records, str):
            lines.append(self.records)
        else:
            for name, what in self.records.items():
                lines += [f"{name} {r}" for r in ([what] if isinstance(what, str) else what)]
        for child, ds in self.children.items():
            name = relative(child, self.name)
            lines += [f"{name} NS ns.{child}.", f"ns.{child}. A 127.0.0.1", ds]
        return "\n".join(lines) + "\n"


class Hostile:
    """Answers each name of its zone as it was told, over UDP and TCP:

    silent     nothing                  servfail, refused, nxdomain   that code
    garbage    bytes that are no answer empty      no answer, no SOA
    lie        records of other names   wrong_id   an answer to something else
    truncated  TC, and TCP says nothing loop       a CNAME to itself
    chain      CNAMEs without an end    huge       thousands of records (TCP)
    "A 127.0.0.2", "MX 10 mx.test", ... or a list of such: these records

    "*" stands for all names that are not listed.
    """

    def __init__(self, zone, names):
        self.zone = zone
        self.names = names
        self.port = free_port()
        self.asked = []  # (name, type)
        self.sockets = []

    def start(self):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for s in (udp, tcp):
            s.bind(("127.0.0.1", self.port))
        tcp.listen(20)
        self.sockets = [udp, tcp]
        for target in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def stop(self):
        sockets, self.sockets = self.sockets, []
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def serve_udp(self):
        s = self.sockets[0]
        while True:
            try:
                query, peer = s.recvfrom(4096)
                out = self.answer(query, False) if len(query) > 16 else None
                if out:
                    s.sendto(out, peer)
            except OSError:
                return
            if not self.sockets:
                return

    def serve_tcp(self):
        s = self.sockets[1]
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_one, args=(c,), daemon=True).start()

    def serve_one(self, c):
        with c:
            try:
                c.settimeout(10)
                n = struct.unpack("!H", c.recv(2, socket.MSG_WAITALL))[0]
                out = self.answer(c.recv(n, socket.MSG_WAITALL), True)
                if out:
                    c.sendall(struct.pack("!H", len(out)) + out)
                else:
                    time.sleep(10)
            except (OSError, struct.error):
                pass

    def answer(self, query, is_tcp):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
            at += query[at] + 1
        name, qtype = ".".join(labels), struct.unpack("!H", query[at + 1:at + 3])[0]
        question = query[12:at + 5]
        self.asked.append((name, qtype))
        short = name[:-len(self.zone) - 1] if name != self.zone else "@"
        what = self.names.get(short, self.names.get("*", "nxdomain"))
        return self.make(what, query[:2], name, qtype, question, is_tcp)

    def make(self, what, qid, name, qtype, question, is_tcp):
        records, rcode, tc = [], 0, 0
        if isinstance(what, (list, tuple)) or what.split()[0] in TYPES:
            records = [(name, r) for r in ([what] if isinstance(what, str) else what)]
            records = [(n, r) for n, r in records
                       if TYPES[r.split()[0]] in (qtype, TYPES["CNAME"])]
        elif what == "silent" or (what == "truncated" and is_tcp):
            return None
        elif what == "garbage":
            return qid + b"\x84\x00" + b"\xff" * 60
        elif what == "lie":
            records = [("www.example.com", "A 192.0.2.66"), (name + ".evil", "A 192.0.2.66")]
        elif what == "wrong_id":
            qid = bytes([qid[0] ^ 1, qid[1]])
            records = [(name, "A 192.0.2.66")]
        elif what == "truncated":
            tc = 2
        elif what == "loop":
            records = [(name, f"CNAME {name}")]
        elif what == "chain":
            records = [(name, f"CNAME x{name}" if len(name) < 200 else "CNAME y." + self.zone)]
        elif what == "huge":
            if is_tcp:
                records = [(name, f"A 10.{i >> 8}.{i & 255}.1") for i in range(3000)]
            else:
                tc = 2
        else:
            rcode = {"servfail": 2, "nxdomain": 3, "refused": 5, "empty": 0}[what]
        head = struct.pack("!BBHHHH", 0x84 | tc, 0x80 | rcode, 1, len(records), 0, 0)
        return qid + head + question + b"".join(
            (b"\xc0\x0c" if n == name else wire(n)) + record(r) for n, r in records)


def wire(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\0"


def record(text):
    """"MX 10 mx.test" in wire form, from the type on."""
    kind, *words = text.split()
    if kind == "A":
        data = socket.inet_aton(words[0])
    elif kind == "AAAA":
        data = socket.inet_pton(socket.AF_INET6, words[0])
    elif kind == "MX":
        data = struct.pack("!H", int(words[0])) + wire(words[1])
    elif kind == "TXT":
        text = text.split(None, 1)[1].strip('"').encode()
        data = bytes([len(text)]) + text
    elif kind == "TLSA":
        data = bytes(int(w) for w in words[:3]) + bytes.fromhex("".join(words[3:]))
    else:
        data = wire(words[0])
    return struct.pack("!HHIH", TYPES[kind], 1, 5, len(data)) + data


class Internet:
    def __init__(self, path):
        self.dir = str(path)
        os.makedirs(self.dir, exist_ok=True)
        self.port = free_port()
        self.zones = {}
        self.hosts = {}  # zone -> Hostile
        self.keys = {}   # zone -> (base name of the key, DS)
        self.nsd = None

    def zone(self, name, records="", signed=False, ttl=60):
        """`records`: a zone file's lines, or {name: record or records}.  `signed`:
        True, False, "bogus" (broken signatures) or "expired"."""
        self.zones[name] = Zone(name, records, signed, ttl)
        return self

    def hostile(self, zone, names):
        self.hosts[zone] = Hostile(zone, names)
        return self.hosts[zone]

    def conf(self):
        """What main.cf needs so that all questions go here."""
        forwarders = [f"127.0.0.1@{self.port}"]
        forwarders += [f"{z}=127.0.0.1@{h.port}" for z, h in self.hosts.items()]
        return {"resolver_forwarders": ", ".join(forwarders),
                "resolver_dnssec": "yes",
                "resolver_trust_anchor_file": os.path.join(self.dir, "root.key"),
                "resolver_query_timeout": "5s"}

    def add_parents(self):
        for name in list(self.zones) + list(self.hosts):
            while name != ".":
                name = parent_of(name)
                if name not in self.zones:
                    self.zones[name] = Zone(name, "", True, 60)

    def cut_of(self, name):
        """The zone in which `name` is delegated."""
        while True:
            name = parent_of(name)
            if name in self.zones:
                return self.zones[name]

    def run(self, *cmd):
        p = subprocess.run(cmd, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=60, check=False)
        assert p.returncode == 0, f"{cmd}: {p.stdout}{p.stderr}"
        return p.stdout.strip()

    def key(self, name):
        if name not in self.keys:
            base = self.run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", "-r", "/dev/urandom",
                            name)
            self.keys[name] = (base, self.run("ldns-key2ds", "-n", "-2", base + ".key"))
        return self.keys[name]

    def write_zone(self, z):
        path = os.path.join(self.dir, "zone-" + (z.name if z.name != "." else "root"))
        with open(path, "w", encoding="utf-8") as f:
            f.write(z.text())
        if not z.signed:
            return path
        now = int(time.time())
        begin, end = ((now - 864000, now - 432000) if z.signed == "expired"
                      else (now - 86400, now + 864000))
        self.run("ldns-signzone", "-i", str(begin), "-e", str(end), "-o", z.name,
                 "-f", path + ".signed", path, self.key(z.name)[0])
        if z.signed == "bogus":
            self.spoil(path + ".signed")
        return path + ".signed"

    @staticmethod
    def spoil(path):
        """Change a byte of every signature but the keys' own."""
        with open(path, encoding="utf-8") as f:
            lines = f.readlines()
        for i, line in enumerate(lines):
            words = line.split()
            if words[3:4] == ["RRSIG"] and words[4] != "DNSKEY":
                sig = words[-1]
                words[-1] = ("B" if sig[0] != "B" else "C") + sig[1:]
                lines[i] = "\t".join(words) + "\n"
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(lines)

    def write(self):
        self.add_parents()
        for name, z in self.zones.items():
            if name != ".":
                self.cut_of(name).children[name] = self.key(name)[1] if z.signed else ""
        for name in self.hosts:
            self.cut_of(name).children[name] = ""
        conf = ["server:", f" ip-address: 127.0.0.1@{self.port}", " server-count: 1",
                ' username: ""', ' chroot: ""', ' pidfile: ""', ' database: ""',
                f' zonesdir: "{self.dir}"', f' xfrdfile: "{self.dir}/xfrd"',
                f' zonelistfile: "{self.dir}/zones"', " rrl-ratelimit: 0",
                " rrl-whitelist-ratelimit: 0", " do-ip6: no", " verbosity: 0",
                "remote-control:", " control-enable: no"]
        for name, z in self.zones.items():
            conf += ["zone:", f' name: "{name}"', f' zonefile: "{self.write_zone(z)}"']
        with open(os.path.join(self.dir, "nsd.conf"), "w", encoding="utf-8") as f:
            f.write("\n".join(conf) + "\n")
        with open(os.path.join(self.dir, "root.key"), "w", encoding="utf-8") as f:
            f.write(self.key(".")[1] + "\n")
        os.chmod(os.path.join(self.dir, "root.key"), 0o644)

    def answers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            try:
                s.sendto(b"\1\1\0\0\0\1\0\0\0\0\0\0\0\0\6\0\1", ("127.0.0.1", self.port))
                return bool(s.recv(4096))
            except OSError:
                return False

    def start(self):
        """Also after a stop, or for what was changed since."""
        self.stop()
        self.write()
        with open(os.path.join(self.dir, "nsd.log"), "ab") as log:
            self.nsd = subprocess.Popen([NSD, "-d", "-c", os.path.join(self.dir, "nsd.conf")],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True)
        if not wait_for(self.answers, 30):
            with open(os.path.join(self.dir, "nsd.log"), encoding="utf-8") as f:
                raise AssertionError("nsd does not answer:\n" + f.read())
        for h in self.hosts.values():
            h.start()
        return self

    def stop(self):
        for h in self.hosts.values():
            h.stop()
        if self.nsd:
            try:
                os.killpg(self.nsd.pid, signal.SIGTERM)
                self.nsd.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.nsd.pid, signal.SIGKILL)
                self.nsd.wait()
            except ProcessLookupError:
                pass
            self.nsd = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()
