"""Hato and Debian's Dovecot as servers that mail is read from: see peers.py."""
import os
import resource
import subprocess
import sys

import peers
from peers import DOMAIN, TOP, USERS

DOVECOT = os.path.join(TOP, "build/peers/dovecot")
LIBEXEC = f"{DOVECOT}/usr/lib/dovecot"
ACCOUNTS = 20000
USERS.update({"hato-login": 976, "hato-auth": 977, "hato-keys": 978,
              "dovecot": 990, "dovenull": 991})


class MailServer(peers.Server):
    """LMTP, IMAP, IMAPS, POP3, POP3S on ports from `base` on."""
    base = 0

    lmtp = property(lambda self: self.base)
    imap = property(lambda self: self.base + 1)
    imaps = property(lambda self: self.base + 2)
    pop3 = property(lambda self: self.base + 3)
    pop3s = property(lambda self: self.base + 4)

    def write_certificate(self):
        key, cert = f"{self.dir}/key.pem", f"{self.dir}/cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                        cert, "-days", "30", "-subj", f"/CN=mx.{DOMAIN}"], check=True,
                       stderr=subprocess.DEVNULL)
        os.chmod(key, 0o600)
        return cert, key

    def write_accounts(self):
        uid = USERS["hato-mail"]
        names = [f"user{i}" for i in range(ACCOUNTS)] + \
            [f"fresh{i}" for i in range(100)] + ["big", "strange"]
        self.users = iter(n for n in names if n.startswith("fresh"))
        self.write("users", "".join(
            f"{n}@{DOMAIN}:{{PLAIN}}secret:{uid}:{uid}::{self.mail}/{n}::\n" for n in names))

    def maildir(self, user):
        return f"{self.mail}/{user}"


class Hato(MailServer, peers.Hato):
    name = "hato"
    base = 2710

    def configure(self):
        os.makedirs(os.path.join(self.dir, "conf"))
        cert, key = self.write_certificate()
        self.write_accounts()
        uid = USERS["hato-mail"]
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
passdb = passwd-file:{self.dir}/users
userdb = passwd-file:{self.dir}/users
mail_location = maildir:{self.mail}/%n
mail_uid = {uid}
mail_gid = {uid}
first_valid_uid = 100
message_size_limit = 102400000
smtpd_client_connection_count_limit = 0
mail_max_userip_connections = 0
disable_plaintext_auth = no
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
""")
        self.write("conf/master.cf", f"""\
127.0.0.1:{self.base + 5} inet n - n - - smtpd
127.0.0.1:{self.lmtp} inet n - n - - lmtpd
127.0.0.1:{self.imap} inet n - n - - imapd
127.0.0.1:{self.imaps} inet n - n - - imapd -o smtpd_tls_wrappermode=yes
127.0.0.1:{self.pop3} inet n - n - - pop3d
127.0.0.1:{self.pop3s} inet n - n - - pop3d -o smtpd_tls_wrappermode=yes
""")


class ManySessions(Hato):
    """A login process has as many descriptors as the kernel gives it."""
    name = "hato-many"  # a cgroup of its own
    base = 2740

    def configure(self):
        super().configure()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open(f"{self.dir}/conf/main.cf", "a", encoding="utf-8") as f:
            f.write(f"login_process_count = {min(64, 100000 // (hard - 1500) + 1)}\n")


# Processes whose session went to sleep end soon.
HIBERNATE = "imap_hibernate_timeout = 2s\ndefault_idle_kill = 3s"


class Dovecot(MailServer):
    name = "dovecot"
    base = 2720
    hibernate = False
    # It calls its parts where the package would have put them.
    mounts = "".join(f"mount -t overlay overlay -o lowerdir={DOVECOT}/usr/{d}:/usr/{d} "
                     f"/usr/{d} && " for d in ("bin", "lib"))

    def configure(self):
        cert, key = self.write_certificate()
        self.write_accounts()
        uid = USERS["hato-mail"]
        self.write("dovecot.conf", f"""\
base_dir = {self.dir}/run
state_dir = {self.dir}/state
libexec_dir = {LIBEXEC}
mail_plugin_dir = {LIBEXEC}/modules
import_environment = TZ LD_LIBRARY_PATH={LIBEXEC} CORE_OUTOFMEM CORE_ERROR
log_path = {self.dir}/mail.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
mail_location = maildir:{self.mail}/%n
first_valid_uid = 100
mail_max_userip_connections = 0
auth_cache_size = 10M
default_client_limit = 40000
default_vsz_limit = 2G
{HIBERNATE if self.hibernate else ""}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {self.dir}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={self.mail}/%n
}}
service anvil {{
  client_limit = 60000
}}
service auth {{
  client_limit = 60000
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  process_limit = 2
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = {self.imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 2
  process_limit = 2
  inet_listener pop3 {{
    port = {self.pop3}
  }}
  inet_listener pop3s {{
    port = {self.pop3s}
    ssl = yes
  }}
}}
service imap {{
  service_count = 1000
  process_limit = 12000
  unix_listener imap-master {{
    user = dovecot
  }}
}}
service imap-hibernate {{
  unix_listener imap-hibernate {{
    mode = 0666
  }}
}}
service pop3 {{
  service_count = 1000
  process_limit = 2000
}}
service lmtp {{
  process_limit = 200
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.lmtp}
  }}
}}
""")

    def start(self):
        self.run([f"{DOVECOT}/usr/sbin/dovecot", "-c", f"{self.dir}/dovecot.conf"],
                 env={"LD_LIBRARY_PATH": LIBEXEC})

    def stop(self):
        self.kill_left()
        try:  # another process may have its number by now
            os.unlink(f"{self.dir}/run/master.pid")
        except FileNotFoundError:
            pass


class Hibernating(Dovecot):
    """For the row of idle sessions.  Who cannot watch the Maildir does not hibernate, and
    the kernel gives a uid, here that of all users, 128 inotify instances."""
    name = "dovecot-hib"
    base = 2730
    hibernate = True
    limit = "/proc/sys/fs/inotify/max_user_instances"
    before = None

    def set_limit(self, value):
        with open(self.limit, "r+", encoding="utf-8") as f:
            old = f.read()
            f.seek(0)
            f.write(value)
        return old

    def start(self):
        self.before = self.set_limit("20000")
        super().start()

    def stop(self):
        super().stop()
        if self.before:
            self.set_limit(self.before)
            self.before = None


def require():
    peers.require()
    subprocess.run([os.path.join(TOP, "tools/get-peers"), "dovecot"], check=True)
    load = os.path.join(TOP, "build/load_mail")
    source = os.path.join(TOP, "bench/load_mail.c")
    if not os.path.exists(load) or os.path.getmtime(load) < os.path.getmtime(source):
        got = subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", source, "-o", load, "-lssl",
                              "-lcrypto", "-pthread"], check=False)
        if got.returncode != 0:
            sys.exit("bench/load_mail.c does not compile")
    return load
