"""A private Hato for system tests: in one directory, on ports of its own.

    with Hato(tmp, main={"mydestination": "example.com"}) as h: ...

As root, `mode="users"` runs it with users of its own, from a private passwd in
a mount namespace; `mode="one"` runs everything as one ordinary user (nobody
when the tests run as root).  HATO_BUILD names the build that is tested.
"""
import os
import re
import socket
import subprocess
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("HATO_BUILD", os.path.join(TOP, "build"))
EXE = os.path.realpath(os.path.join(BUILD, "hato"))
IS_ROOT = os.geteuid() == 0
USERS = ["hato", "hato-log", "hato-tables", "hato-smtp", "hato-broker",
         "hato-keys", "hato-auth", "hato-login", "hato-dns", "hato-fetch"]
FIRST_UID = 970
NOBODY = 65534
MOUNT = ('mount --bind "$0/passwd" /etc/passwd && '
         'mount --bind "$0/group" /etc/group && exec "$@"')

MASTER_CF = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
"""


class Ports:
    """Ports to listen on: none that the kernel gives to an outgoing connection,
    and none of another run of tests at the same time.  A run owns a block of them
    by an abstract socket's name, which goes with it."""
    BLOCK = 1024

    def __init__(self):
        self.owner = None
        self.first = self.next = 0

    def own_block(self):
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
            low, high = map(int, f.read().split())
        firsts = range(10 * self.BLOCK, 65536 - self.BLOCK + 1, self.BLOCK)
        for first in firsts:
            if first + self.BLOCK > low and first <= high:
                continue
            owner = socket.socket(socket.AF_UNIX)
            try:
                owner.bind(f"\0hato-test-ports-{first}")
            except OSError:
                owner.close()
                continue
            self.owner, self.first = owner, first
            return
        raise RuntimeError("no block of ports is left for tests")

    def free(self, below, above):
        if self.owner is None:
            self.own_block()
        room = self.BLOCK - below - above
        for _ in range(room):
            port = self.first + below + self.next % room
            self.next += 1
            if self.is_free(port):
                return port
        raise RuntimeError("no port is free")

    @staticmethod
    def is_free(port):
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            with socket.socket(socket.AF_INET, kind) as s:
                try:
                    s.bind(("", port))
                except OSError:
                    return False
        return True


PORTS = Ports()


def free_port(below=0, above=0):
    """One that nobody uses; as many next to it are this run's too."""
    return PORTS.free(below, above)


def wait_for(what, seconds=10.0, step=0.05):
    """The first true value of what(), or its last one."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Hato:
    def __init__(self, path, main=None, master=MASTER_CF, mode="one", users=()):
        self.dir = str(path)
        self.mode = mode
        self.port = free_port()
        self.log_file = os.path.join(self.dir, "log")
        self.users = list(users)
        self.pass_fds = ()
        self.started = False
        self.inside = []  # what brings a command into a namespace (needs root)
        self.uid = NOBODY if IS_ROOT and mode == "one" else os.geteuid()
        os.makedirs(os.path.join(self.dir, "conf"), exist_ok=True)
        self.main = {
            "compatibility_level": "3.6",
            "myhostname": "mx.example.com",
            "mydestination": "example.com",
            "queue_directory": os.path.join(self.dir, "q"),
            "data_directory": os.path.join(self.dir, "data"),
            "maillog_file": self.log_file,
            "inet_interfaces": "127.0.0.1",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "local_recipient_maps": "",
            # Nobody listens there: mail for elsewhere waits, and nobody asks DNS.
            "relayhost": "[127.0.0.1]:1",
            "smtpd_peername_lookup": "no",  # test_names.py has names
            **(main or {}),
        }
        self.master = master
        self.write_conf()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        self.own()

    def write_conf(self):
        with open(self.path("conf/main.cf"), "w", encoding="utf-8") as f:
            f.writelines(f"{k} = {v}\n" for k, v in self.main.items())
        with open(self.path("conf/master.cf"), "w", encoding="utf-8") as f:
            f.write(self.master.format(port=self.port))
        self.own()

    def own(self):
        """Everything belongs to the one user, where that is not who we are."""
        if self.mode != "one" or not IS_ROOT:
            return
        for base, dirs, files in os.walk(self.dir):
            for name in ["."] + dirs + files:
                os.chown(os.path.join(base, name), self.uid, self.uid,
                         follow_symlinks=False)

    def write_passwd(self):
        """Once for the same users: it lies over the /etc/passwd of what runs,
        which must not see it half written."""
        for kind in ("passwd", "group"):
            with open(f"/etc/{kind}", encoding="utf-8") as f:
                text = f.read()
            for i, name in enumerate(USERS + self.users):
                uid = FIRST_UID + i
                if name in self.users:
                    uid = 2000 + self.users.index(name)
                text += (f"{name}:x:{uid}:{uid}::{self.dir}/home/{name}:/bin/sh\n"
                         if kind == "passwd" else f"{name}:x:{uid}:\n")
            try:
                with open(self.path(kind), encoding="utf-8") as f:
                    if f.read() == text:
                        continue
            except FileNotFoundError:
                pass
            with open(self.path(kind), "w", encoding="utf-8") as f:
                f.write(text)

    def enter(self, cmd, kw):
        if not self.inside:
            return cmd, kw
        if "user" in kw:
            cmd = ["setpriv", f"--reuid={kw['user']}", f"--regid={kw['group']}",
                   "--clear-groups", *cmd]
        return self.inside + cmd, {}

    def command(self, *args, check=False, timeout=60, env=None):
        cmd = [EXE, "-c", self.path("conf"), *args]
        kw = {}
        if self.mode == "one" and IS_ROOT:
            kw = {"user": self.uid, "group": self.uid, "extra_groups": []}
        if self.mode == "users":
            self.write_passwd()
            cmd = ["unshare", "-m", "sh", "-c", MOUNT, self.dir] + cmd
        cmd, kw = self.enter(cmd, kw)
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=timeout, check=False, cwd="/", pass_fds=self.pass_fds,
                           env={**os.environ, **(env or {})}, **kw)
        if check and p.returncode != 0:
            raise AssertionError(f"{args}: status {p.returncode}\n{p.stdout}{p.stderr}\n"
                                 + self.log())
        return p

    def tool(self, name, *args, stdin=None, user=None, check=True, env=None):
        """One of build/bin: postqueue, sendmail ... as the one user, or `user`."""
        cmd = [os.path.join(BUILD, "bin", name), *args]
        kw = {}
        uid = user if user is not None else self.uid if self.mode == "one" else None
        if IS_ROOT and uid:
            kw = {"user": uid, "group": uid, "extra_groups": []}
        if self.mode == "users":
            cmd = ["unshare", "-m", "sh", "-c", MOUNT, self.dir] + cmd
            if uid:
                cmd[6:6] = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
            kw = {}
        cmd, kw = self.enter(cmd, kw)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=data or b"",
                           timeout=60, check=False, cwd="/",
                           env={**os.environ, "MAIL_CONFIG": self.path("conf"), **(env or {})},
                           **kw)
        p.stdout, p.stderr = (x.decode(errors="replace") for x in (p.stdout, p.stderr))
        if check and p.returncode != 0:
            raise AssertionError(f"{name} {args}: status {p.returncode}\n{p.stdout}{p.stderr}")
        return p

    def start(self, **kw):
        p = self.command("start", check=True, **kw)
        self.started = True
        return p

    def stop(self):
        self.started = False
        return self.command("stop", check=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        if self.started:
            self.command("stop" if exc[0] is None else "abort")

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, seconds=10):
        found = wait_for(lambda: re.search(pattern, self.log()), seconds)
        assert found, f"{pattern!r} is not in the log:\n{self.log()}"
        return found

    def processes(self):
        """{"smtpd/0": (pid, "ready"), ...} as status says; draining ones left out."""
        out = {}
        for line in self.command("status", check=True).stdout.splitlines():
            m = re.match(r"(\S+) pid (\d+) (\w+), up", line)
            if m and m[3] != "draining":
                out[m[1]] = (int(m[2]), m[3])
        return out

    def all_ready(self):
        p = self.processes()
        return p if p and all(s == "ready" for _, s in p.values()) else None

    def connect(self, timeout=10):
        return socket.create_connection(("127.0.0.1", self.port), timeout)


def status_of(pid):
    """The fields of /proc/PID/status, or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    s = status_of(pid)
    return s is not None and not s["State"].startswith("Z")
