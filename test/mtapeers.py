"""Exim and OpenSMTPD of Debian (tools/get-peers), as root in directories of their
own: each takes what is for peer.test into a Maildir and sends the rest to a port."""
import glob
import os
import signal
import socket
import subprocess

import pytest

from hatotest import IS_ROOT, TOP, free_port, wait_for


def need(name):
    """Skip the test where the peer cannot be had; its directory."""
    if not IS_ROOT:
        pytest.skip(f"{name} starts as root only")
    got = subprocess.run([os.path.join(TOP, "tools", "get-peers"), name],
                         capture_output=True, check=False)
    if got.returncode != 0:
        pytest.skip(f"no {name} to be had here")
    return os.path.join(TOP, "build", "peers", name)


def libraries(root):
    """Where its own libraries lie; the sanitizers' options are not for it."""
    paths = {os.path.dirname(p) for p in glob.glob(f"{root}/usr/lib/**/*.so*", recursive=True)}
    env = {k: v for k, v in os.environ.items() if k not in ("ASAN_OPTIONS", "UBSAN_OPTIONS")}
    return {**env, "LD_LIBRARY_PATH": ":".join(sorted(paths))}


class Peer:
    """Running between `with`; `mail()` is what came for peer.test, as bytes."""

    def __init__(self, path, relay_port):
        self.dir = str(path)
        self.port = free_port()
        self.relay_port = relay_port
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        self.process = None

    def spawn(self, cmd, env):
        # in a process group of its own, to be ended as one
        with open(f"{self.dir}/output", "ab") as out:
            self.process = subprocess.Popen(cmd, env=env, stdout=out, stderr=out,
                                            start_new_session=True)
        assert wait_for(self.is_up, 20), self.log()

    def is_up(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def __exit__(self, *exc):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def mail(self):
        out = []
        for path in glob.glob(f"{self.dir}/Maildir/new/*"):
            with open(path, "rb") as f:
                out.append(f.read())
        return out

    def log(self):
        text = ""
        for path in [f"{self.dir}/output", *glob.glob(f"{self.dir}/log/*")]:
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text += f.read()
        return text


class Exim(Peer):
    def __enter__(self):
        root = need("exim")
        for d in ("spool", "log", "Maildir"):
            os.makedirs(f"{self.dir}/{d}", exist_ok=True)
            os.chown(f"{self.dir}/{d}", 65534, 65534)
        conf = f"{self.dir}/exim.conf"
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"""
exim_user = nobody
exim_group = nogroup
never_users =
spool_directory = {self.dir}/spool
log_file_path = {self.dir}/log/%slog
primary_hostname = exim.peer.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
domainlist local_domains = peer.test
hostlist relay_from_hosts = 127.0.0.1
acl_smtp_rcpt = accept_all
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_accept_max_per_host = 0
smtp_accept_max = 200
recipients_max = 0
tls_advertise_hosts =
prdr_enable = false
chunking_advertise_hosts = *
keep_environment =
smtp_accept_queue_per_connection = 0

begin acl
accept_all:
  accept control = dkim_disable_verify

begin routers
here:
  driver = accept
  domains = +local_domains
  transport = maildir
elsewhere:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = out
  self = send

begin transports
maildir:
  driver = appendfile
  directory = {self.dir}/Maildir
  maildir_format
  user = nobody
  group = nogroup
out:
  driver = smtp
  port = {self.relay_port}
  hosts_try_chunking = *
  allow_localhost

begin retry
* * F,1h,1m

begin rewrite
begin authenticators
""")
        self.spawn([f"{root}/usr/sbin/exim4", "-C", conf, "-bdf", "-q1m"], libraries(root))
        return self


class OpenSmtpd(Peer):
    def __enter__(self):
        root = need("opensmtpd")
        os.makedirs(f"{self.dir}/Maildir", exist_ok=True)
        os.chown(f"{self.dir}/Maildir", 65534, 65534)
        conf = f"{self.dir}/smtpd.conf"
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"""
smtp max-message-size 64M
listen on 127.0.0.1 port {self.port} hostname opensmtpd.peer.test
action "in" maildir "{self.dir}/Maildir" virtual {{ "@peer.test" = nobody }}
action "out" relay host "smtp://127.0.0.1:{self.relay_port}"
match from any for domain "peer.test" action "in"
match from any for any action "out"
""")
        for kind in ("passwd", "group"):
            with open(f"/etc/{kind}", encoding="utf-8") as f:
                text = f.read()
            for i, name in enumerate(("opensmtpd", "opensmtpq")):
                text += (f"{name}:x:{960 + i}:{960 + i}::/nonexistent:/bin/false\n"
                         if kind == "passwd" else f"{name}:x:{960 + i}:\n")
            with open(f"{self.dir}/{kind}", "w", encoding="utf-8") as f:
                f.write(text)
        # its directories and programs stand where it was built to find them
        script = (f'mount --bind {self.dir}/passwd /etc/passwd && '
                  f'mount --bind {self.dir}/group /etc/group && '
                  'mount -t tmpfs none /var/spool && mount -t tmpfs none /run && '
                  'mount -t tmpfs none /var/lib && mkdir -p /var/lib/opensmtpd/empty && '
                  'mkdir -p /var/spool/smtpd && chmod 711 /var/spool/smtpd && '
                  'mount -t tmpfs none /usr/libexec && mkdir /usr/libexec/opensmtpd && '
                  f'cp {root}/usr/libexec/opensmtpd/* /usr/libexec/opensmtpd/ && '
                  'exec "$@"')
        self.spawn(["unshare", "-m", "sh", "-c", script, "sh", f"{root}/usr/sbin/smtpd",
                    "-d", "-f", conf], libraries(root))
        return self


class DovecotLmtp(Peer):
    """Debian's Dovecot with LMTP on TCP and on the socket `lmtp`; it sends nothing."""

    def __enter__(self):
        root = need("dovecot")
        lib = f"{root}/usr/lib/dovecot"
        self.socket = f"{self.dir}/lmtp"
        os.makedirs(f"{self.dir}/Maildir", exist_ok=True)
        os.chown(f"{self.dir}/Maildir", 65534, 65534)
        conf = f"{self.dir}/dovecot.conf"
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"""
base_dir = {self.dir}/run
state_dir = {self.dir}/state
libexec_dir = {lib}
mail_plugin_dir = {lib}/modules
import_environment = TZ LD_LIBRARY_PATH={lib}
log_path = {self.dir}/output
protocols = lmtp
ssl = no
mail_location = maildir:{self.dir}/Maildir
first_valid_uid = 100
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = daemon
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={self.dir} allow_all_users=yes
}}
service lmtp {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
""")
        # it calls its parts where the package would have put them
        script = "".join(f"mount -t overlay overlay -o lowerdir={root}/usr/{d}:/usr/{d} /usr/{d} && "
                         for d in ("bin", "lib")) + 'exec "$@"'
        self.spawn(["unshare", "-m", "sh", "-c", script, "sh", f"{root}/usr/sbin/dovecot", "-F",
                    "-c", conf], {**libraries(root), "LD_LIBRARY_PATH": lib})
        return self
