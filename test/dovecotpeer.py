"""The real Dovecot 2.3 (tools/get-peers dovecot) on a Maildir, without a server:
its imap and pop3 programs speak over a pipe, with settings in the environment
and as an ordinary user."""
import contextlib
import imaplib
import os
import shlex
import subprocess

import pytest

from hatotest import IS_ROOT, NOBODY, TOP

PEER = os.path.join(TOP, "build", "peers", "dovecot")
LIBEXEC = os.path.join(PEER, "usr", "lib", "dovecot")


def need():
    """Skip the test where Debian's package cannot be had."""
    got = subprocess.run([os.path.join(TOP, "tools", "get-peers"), "dovecot"],
                         capture_output=True, check=False)
    if got.returncode != 0:
        pytest.skip("no Dovecot to be had here")


class Dovecot:
    def __init__(self, maildir, **settings):
        self.maildir = str(maildir)
        self.log = self.maildir + ".log"
        self.settings = settings
        home = os.path.dirname(self.maildir)
        if IS_ROOT:
            os.chown(home, NOBODY, NOBODY)

    def command(self, program):
        uid = str(NOBODY if IS_ROOT else os.geteuid())
        env = {"DOVECONF_ENV": "1", "USER": "u", "RESTRICT_SETUID": uid,
               "HOME": os.path.dirname(self.maildir),
               "MAIL_LOCATION": "maildir:" + self.maildir,
               "LD_LIBRARY_PATH": LIBEXEC}
        env.update((k.upper(), v) for k, v in self.settings.items())
        run = ["env", "-i"] + [f"{k}={v}" for k, v in env.items()]
        if IS_ROOT:
            run += ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
                    "--clear-groups"]
        return run + [os.path.join(LIBEXEC, program)]

    @contextlib.contextmanager
    def imap(self):
        words = " ".join(shlex.quote(w) for w in self.command("imap"))
        client = imaplib.IMAP4_stream(words + " 2>>" + shlex.quote(self.log))
        try:
            yield client
        finally:
            client.logout()
            client.process.wait(10)

    def uidls(self):
        """{number: unique id} as POP3 tells."""
        got = subprocess.run(self.command("pop3"), input=b"UIDL\r\nQUIT\r\n",
                             capture_output=True, timeout=60, check=False)
        lines = got.stdout.decode().split("\r\n")
        assert any(x.startswith("+OK") for x in lines), got
        return {int(x.split()[0]): x.split()[1] for x in lines
                if x and x[0].isdigit()}
