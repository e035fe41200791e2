"""The real Postfix of Debian (tools/get-peers postfix), as root, in a directory of
its own."""
import os
import shutil
import signal
import subprocess

import pytest

from hatotest import IS_ROOT, TOP, free_port, wait_for

PEER = os.path.join(TOP, "build", "peers", "postfix")
LIB = f"{PEER}/usr/lib/postfix"


def need():
    """Skip the test where it cannot be had."""
    if not IS_ROOT:
        pytest.skip("Postfix starts as root only")
    got = subprocess.run([os.path.join(TOP, "tools", "get-peers"), "postfix"],
                         capture_output=True, check=False)
    if got.returncode != 0:
        pytest.skip("no Postfix to be had here")


class Postfix:
    def __init__(self, path, **main):
        self.dir = str(path)
        self.port = free_port()
        for d in ("etc", "lib", *(f"spool/{n}" for n in (
                "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
                "private", "public", "maildrop", "pid", "saved", "trace"))):
            os.makedirs(f"{self.dir}/{d}", exist_ok=True)
            if d != "etc" and not d.endswith("pid"):
                shutil.chown(f"{self.dir}/{d}", "nobody")
        settings = {
            "compatibility_level": "3.6", "queue_directory": f"{self.dir}/spool",
            "data_directory": f"{self.dir}/lib", "command_directory": f"{PEER}/usr/sbin",
            "daemon_directory": f"{LIB}/sbin", "shlib_directory": LIB,
            "meta_directory": f"{PEER}/etc/postfix", "myhostname": "peer.example.com",
            "inet_interfaces": "127.0.0.1", "mydestination": "", "alias_maps": "",
            "local_recipient_maps": "", "maillog_file": f"{self.dir}/log",
            "maillog_file_prefixes": "/", "mail_owner": "nobody", "setgid_group": "bin",
            "default_privs": "games",
            "import_environment": "MAIL_CONFIG TZ LD_LIBRARY_PATH",
            "export_environment": "MAIL_CONFIG TZ LD_LIBRARY_PATH", **main}
        with open(f"{self.dir}/etc/main.cf", "w", encoding="utf-8") as f:
            f.writelines(f"{k} = {v}\n" for k, v in settings.items())
        with open(f"{self.dir}/etc/master.cf", "w", encoding="utf-8") as f:
            f.write(f"{self.port} inet n - n - - smtpd\n")
            for name, wake, procs, command in (
                    ("pickup", "60", "1", ""), ("cleanup", "-", "0", ""), ("qmgr", "300", "1", ""),
                    ("rewrite", "-", "-", "trivial-rewrite"), ("bounce", "-", "0", ""),
                    ("defer", "-", "0", "bounce"), ("trace", "-", "0", "bounce"),
                    ("verify", "-", "1", ""), ("proxymap", "-", "-", ""), ("smtp", "-", "-", ""),
                    ("lmtp", "-", "-", ""), ("error", "-", "-", ""), ("retry", "-", "-", "error"),
                    ("discard", "-", "-", ""), ("anvil", "-", "1", ""), ("scache", "-", "1", ""),
                    ("tlsmgr", "1000?", "1", ""), ("flush", "1000?", "0", "")):
                public = "n" if name in ("pickup", "cleanup", "qmgr", "flush") else "-"
                f.write(f"{name} unix {public} - n {wake} {procs} {command or name}\n")
            f.write("postlog unix-dgram n - n - 1 postlogd\n")
        self.env = {**os.environ, "MAIL_CONFIG": f"{self.dir}/etc", "LD_LIBRARY_PATH": LIB}

    def __enter__(self):
        subprocess.run([f"{LIB}/sbin/master", "-w"], env=self.env, check=True, timeout=30)
        return self

    def __exit__(self, *exc):
        with open(f"{self.dir}/spool/pid/master.pid", encoding="ascii") as f:
            pid = int(f.read())
        os.killpg(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"))

    def log(self):
        with open(f"{self.dir}/log", encoding="utf-8", errors="replace") as f:
            return f.read()
