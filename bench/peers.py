"""Servers to be measured: Hato and Debian's Postfix on the same work.

Both run as root with users of their own (a private passwd in a mount namespace),
in a directory of their own, each in a cgroup that counts its CPU time.
"""
import os
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEER = os.path.join(TOP, "build/peers/postfix")
CGROUPS = "/sys/fs/cgroup/cpuacct"
USERS = {"hato": 970, "hato-log": 971, "hato-tables": 972, "hato-smtp": 973,
         "hato-broker": 974, "hato-mail": 975, "hato-auth": 976, "hato-keys": 977,
         "hato-login": 978, "hato-dns": 979, "hato-fetch": 983, "postfix": 980, "postdrop": 981}
DOMAIN = "bench.test"
SINK_PORT = 2627  # who takes mail for elsewhere
RELAY = f"""\
relayhost = [127.0.0.1]:{SINK_PORT}
smtp_destination_concurrency_limit = 100
smtp_tls_security_level = none
"""


class Server:
    name = ""
    port = 0
    mounts = ""  # further shell commands for its mount namespace

    def __init__(self, where):
        self.dir = os.path.join(where, self.name)
        self.mail = os.path.join(self.dir, "mail")
        os.makedirs(self.mail)
        os.chmod(self.dir, 0o755)
        os.chown(self.mail, USERS["hato-mail"], USERS["hato-mail"])
        self.cgroup = os.path.join(CGROUPS, f"hato-bench-{self.name}-{os.getpid()}")
        self.write_passwd()
        self.configure()

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def write_passwd(self):
        passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        group = "root:x:0:\nnogroup:x:65534:\n"
        for user, uid in USERS.items():
            passwd += f"{user}:x:{uid}:{uid}::/nonexistent:/bin/false\n"
            group += f"{user}:x:{uid}:\n"
        self.write("passwd", passwd)
        self.write("group", group)

    def write_boxes(self):
        fresh = [f"fresh{i}" for i in range(100)]
        users = fresh + [f"user{i}" for i in range(1000)]
        self.users = iter(fresh)  # one for each measurement
        self.write("boxes", "".join(f"{u}@{DOMAIN} {u}/\n" for u in users))

    def run(self, args, env=None):
        """In a mount namespace with our passwd, counted by our cgroup."""
        os.makedirs(self.cgroup, exist_ok=True)

        def join():
            with open(os.path.join(self.cgroup, "cgroup.procs"), "w",
                      encoding="utf-8") as f:
                f.write(str(os.getpid()))
        script = ('mount --bind "$0/passwd" /etc/passwd && '
                  f'mount --bind "$0/group" /etc/group && {self.mounts}exec "$@"')
        return subprocess.run(["unshare", "-m", "sh", "-c", script, self.dir, *args],
                              check=True, preexec_fn=join, stdout=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], **(env or {})})

    def pids(self):
        try:
            with open(os.path.join(self.cgroup, "cgroup.procs"), encoding="utf-8") as f:
                return [int(x) for x in f.read().split()]
        except FileNotFoundError:
            return []

    def cpu_s(self):
        with open(os.path.join(self.cgroup, "cpuacct.usage"), encoding="utf-8") as f:
            return int(f.read()) / 1e9

    def pss_kib(self):
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
                    total += sum(int(line.split()[1]) for line in f
                                 if line.startswith("Pss:"))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def delivered(self, user):
        try:
            return sum(1 for _ in os.scandir(f"{self.mail}/{user}/new"))
        except FileNotFoundError:
            return 0

    def kill_left(self):
        for _ in range(100):
            left = self.pids()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        try:
            os.rmdir(self.cgroup)
        except OSError:
            pass


class Hato(Server):
    name = "hato"
    port = 2625
    exe = os.path.realpath(os.path.join(
        os.environ.get("HATO_BUILD", os.path.join(TOP, "build/release")), "hato"))

    def configure(self):
        os.makedirs(os.path.join(self.dir, "conf"))
        self.write("conf/main.cf", f"""\
compatibility_level = 3.6
myhostname = mx.{DOMAIN}
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
queue_directory = {self.dir}/queue
data_directory = {self.dir}/data
maillog_file = {self.dir}/mail.log
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = {self.mail}
virtual_mailbox_maps = texthash:{self.dir}/boxes
virtual_uid_maps = static:{USERS["hato-mail"]}
virtual_gid_maps = static:{USERS["hato-mail"]}
virtual_minimum_uid = 100
first_valid_uid = 100
message_size_limit = 102400000
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
{RELAY}""")
        self.write_boxes()
        self.write("conf/master.cf", f"{self.port} inet n - n - - smtpd\n")

    def start(self):
        self.run([self.exe, "-c", f"{self.dir}/conf", "start"])

    def stop(self):
        try:
            self.run([self.exe, "-c", f"{self.dir}/conf", "stop"])
        finally:
            self.kill_left()


class Postfix(Server):
    name = "postfix"
    port = 2626
    lib = f"{PEER}/usr/lib/postfix"

    def configure(self):
        queue = f"{self.dir}/queue"
        for d in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
                  "incoming", "private", "saved", "trace", "maildrop", "public", "pid"]:
            os.makedirs(f"{queue}/{d}")
            if d != "pid":
                os.chown(f"{queue}/{d}", USERS["postfix"], 0)
        for d in ["maildrop", "public"]:
            os.chown(f"{queue}/{d}", USERS["postfix"], USERS["postdrop"])
        os.chmod(f"{queue}/maildrop", 0o1730)
        os.makedirs(f"{self.dir}/data")
        os.chown(f"{self.dir}/data", USERS["postfix"], USERS["postfix"])
        os.makedirs(f"{self.dir}/conf")
        self.write("conf/main.cf", f"""\
compatibility_level = 3.6
myhostname = mx.{DOMAIN}
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
queue_directory = {queue}
data_directory = {self.dir}/data
command_directory = {PEER}/usr/sbin
daemon_directory = {self.lib}/sbin
shlib_directory = {self.lib}
meta_directory = {PEER}/etc/postfix
maillog_file = {self.dir}/mail.log
maillog_file_prefixes = {self.dir}
import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH={self.lib}
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_base = {self.mail}
virtual_mailbox_maps = texthash:{self.dir}/boxes
virtual_uid_maps = static:{USERS["hato-mail"]}
virtual_gid_maps = static:{USERS["hato-mail"]}
virtual_minimum_uid = 100
virtual_mailbox_limit = 0
message_size_limit = 102400000
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
default_process_limit = 1000
in_flow_delay = 0
{RELAY}""")
        self.write_boxes()
        internal = "".join(f"{n} unix {p} {'n' if c in ('local', 'virtual') else '-'} n {w} {m} {c}\n" for n, p, w, m, c in [
            ("pickup", "n", "60", "1", "pickup"), ("cleanup", "n", "-", "0", "cleanup"),
            ("qmgr", "n", "300", "1", "qmgr"), ("rewrite", "-", "-", "-", "trivial-rewrite"),
            ("bounce", "-", "-", "0", "bounce"), ("defer", "-", "-", "0", "bounce"),
            ("trace", "-", "-", "0", "bounce"), ("verify", "-", "-", "1", "verify"),
            ("flush", "n", "1000?", "0", "flush"), ("proxymap", "-", "-", "-", "proxymap"),
            ("smtp", "-", "-", "-", "smtp"), ("error", "-", "-", "-", "error"),
            ("retry", "-", "-", "-", "error"), ("discard", "-", "-", "-", "discard"),
            ("local", "-", "-", "-", "local"), ("virtual", "-", "-", "-", "virtual"),
            ("anvil", "-", "-", "1", "anvil"), ("scache", "-", "-", "1", "scache")])
        self.write("conf/master.cf", f"{self.port} inet n - n - - smtpd\n" + internal +
                   "postlog unix-dgram n - n - 1 postlogd\n")

    def start(self):
        self.run([f"{self.lib}/sbin/master", "-c", f"{self.dir}/conf", "-w"],
                 env={"LD_LIBRARY_PATH": self.lib, "MAIL_CONFIG": f"{self.dir}/conf"})

    def stop(self):
        self.kill_left()


def smtp_sink(messages):
    """Somebody who takes so many messages and then ends."""
    return subprocess.Popen([f"{PEER}/usr/sbin/smtp-sink", "-u", "nobody", "-M", str(messages),
                             f"127.0.0.1:{SINK_PORT}", "1000"],
                            env={"LD_LIBRARY_PATH": Postfix.lib}, stdout=subprocess.DEVNULL)


def smtp_source(server, sessions, messages, size, user, domain=DOMAIN):
    subprocess.run([f"{PEER}/usr/sbin/smtp-source", "-s", str(sessions), "-m",
                    str(messages), "-l", str(size), "-f", "from@source.test", "-t",
                    f"{user}@{domain}", f"127.0.0.1:{server.port}"], check=True,
                   env={"LD_LIBRARY_PATH": Postfix.lib}, stdout=subprocess.DEVNULL)


def require():
    if os.geteuid() != 0:
        sys.exit("make bench needs root: users of its own and a mount namespace")
    if not os.path.isdir(CGROUPS):
        sys.exit(f"make bench needs {CGROUPS} to count CPU time")
    subprocess.run([os.path.join(TOP, "tools/get-peers"), "postfix"], check=True)
