"""From a real Dovecot to Hato: the Maildir stays where it is, and the programs
that read it fetch nothing again."""
import glob
import os
import shutil
import socketserver
import subprocess
import threading

import pytest

import dovecotpeer
from hatotest import IS_ROOT, NOBODY
from test_login import Reading
from test_readers import letters, run, write


class Pop3Bridge(socketserver.StreamRequestHandler):
    """A sign-in that takes everybody, in front of Dovecot's pop3 program."""
    dovecot = None

    def handle(self):
        self.wfile.write(b"+OK ready\r\n")
        while True:
            line = self.rfile.readline().upper()
            if line.startswith(b"PASS"):
                self.wfile.write(b"+OK Logged in.\r\n")
                break
            if line.startswith(b"CAPA"):
                self.wfile.write(b"+OK\r\nUSER\r\nUIDL\r\n.\r\n")
            elif line.startswith(b"USER"):
                self.wfile.write(b"+OK\r\n")
            else:
                self.wfile.write(b"-ERR\r\n")
        fd = self.connection.fileno()
        subprocess.run(self.dovecot.command("pop3"), stdin=fd, stdout=fd, check=False)


def mbsync_rc(home, store):
    return write(home / "rc", f"""\
{store}

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
""")


def files(home):
    """Names without flags; mbsync moves what is not new any more."""
    return sorted(os.path.basename(p).split(":")[0] for d in ("cur", "new")
                  for p in glob.glob(f"{home}/mail/**/{d}/*", recursive=True))


def mpop_rc(home, port, user, tls):
    return write(home / "mpoprc", f"""\
account a
host 127.0.0.1
port {port}
tls {"on" if tls else "off"}
tls_starttls off
tls_certcheck off
auth user
uidls_file {home}/uidls
user {user}
password secret-anna
delivery maildir {home}/pop
keep on
""")


def test_neither_imap_nor_pop3_fetches_again(where):
    dovecotpeer.need()
    for program in ("mbsync", "mpop"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    home = where / "client"
    for d in ("mail", "pop/cur", "pop/new", "pop/tmp"):
        os.makedirs(home / d)
    hato = Reading(where)
    box = where / "mail" / "anna"
    if IS_ROOT:
        os.chown(where / "mail", NOBODY, NOBODY)
    dovecot = dovecotpeer.Dovecot(box)
    with dovecot.imap() as c:
        for n in range(40):
            assert c.append("INBOX", "(\\Seen $Label1)" if n % 3 else None, None,
                            f"From: a{n}@example.net\r\nSubject: s{n}\r\n\r\nx{n}\r\n"
                            .encode())[0] == "OK"
        c.create("Sent")
        c.create("Work.Deep")
        c.append("Work.Deep", "\\Flagged", None, b"Subject: deep\r\n\r\nx\r\n")
        c.select("INBOX")
        c.store("3,7,11", "+FLAGS", "\\Deleted")
        c.expunge()
    # Both programs read it once, from Dovecot.
    tunnel = " ".join(dovecot.command("imap"))
    rc = mbsync_rc(home, f'IMAPAccount h\nTunnel "{tunnel}"\n\nIMAPStore far\nAccount h\n')
    run(["mbsync", "-c", rc, "-a"], home)
    fetched = files(home)
    assert len(fetched) == 38
    Pop3Bridge.dovecot = dovecot
    with socketserver.TCPServer(("127.0.0.1", 0), Pop3Bridge) as bridge:
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        run(["mpop", f"--file={mpop_rc(home, bridge.server_address[1], 'anna', False)}", "-a"],
            home)
        bridge.shutdown()
    assert len(letters(home / "pop")) == 37
    # The same Maildir under Hato.
    with hato:
        rc = mbsync_rc(home, f"""\
IMAPAccount h
Host mx.example.com
Tunnel "openssl s_client -quiet -connect 127.0.0.1:{hato.ports['imaps']} 2>/dev/null"
AuthMechs LOGIN
SSLType None
User anna@example.org
Pass secret-anna

IMAPStore far
Account h
""")
        out = run(["mbsync", "-c", rc, "-a", "-V"], home)
        assert files(home) == fetched, out
        port = hato.ports["pop3s"]
        out = run(["mpop", f"--file={mpop_rc(home, port, 'anna@example.org', True)}", "-a"],
                  home)
        assert len(letters(home / "pop")) == 37, out
        with hato.imap("anna") as c:
            assert c.select("INBOX")[1] == [b"37"]
            assert len(c.search(None, "KEYWORD", "$Label1")[1][0].split()) in (24, 25)
            c.append("INBOX", None, None, b"Subject: new\r\n\r\nx\r\n")
        run(["mbsync", "-c", rc, "-a"], home)
        assert len(letters(home / "mail" / "INBOX")) == 38
        run(["mpop", f"--file={mpop_rc(home, port, 'anna@example.org', True)}", "-a"], home)
        assert len(letters(home / "pop")) == 38
