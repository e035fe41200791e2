"""Real mail programs read: mbsync, fetchmail, getmail, mpop, curl, mutt, neomutt,
alpine, offlineimap.  Each is skipped where it is not installed."""
import email
import glob
import os
import pty
import re
import select
import shutil
import smtplib
import subprocess
import time

import pytest

from hatotest import IS_ROOT, NOBODY, wait_for
from test_login import Reading


def need(program):
    path = shutil.which(program)
    if not path:
        pytest.skip(f"{program} is not installed")
    return path


@pytest.fixture(name="server", scope="module")
def fixture_server(shared_where):
    s = Reading(shared_where, mail_max_userip_connections="100")
    tls = f"{shared_where}/tls"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", f"{tls}/key.pem", "-out", f"{tls}/cert.pem"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    s.hato.own()
    with s:
        yield s


@pytest.fixture(name="home")
def fixture_home(where):
    path = where / "home"
    path.mkdir(mode=0o700)
    return path


def send(server, user, subjects):
    with smtplib.SMTP("127.0.0.1", server.hato.port, timeout=30) as c:
        for s in subjects:
            c.sendmail("sender@example.com", [f"{user}@example.org"],
                       f"From: sender@example.com\r\nTo: {user}@example.org\r\n"
                       f"Subject: {s}\r\nMessage-Id: <{s}@example.com>\r\n\r\n"
                       f"The text of {s}.\r\n.dot\r\n")
    with server.imap(user) as c:
        def there():
            c.select("INBOX", readonly=True)
            have = c.search(None, "ALL")[1][0].split()
            return len(have) >= len(subjects)
        assert wait_for(there)


def clean(server, user):
    with server.imap(user) as c:
        for name in ("Copy", "Local"):
            c.delete(name)
        c.select("INBOX")
        c.store("1:*", "+FLAGS", "\\Deleted")
        c.expunge()


def subjects(server, user, box="INBOX"):
    with server.imap(user) as c:
        if c.select(box, readonly=True)[0] != "OK":
            return None
        got = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return sorted(re.search(rb"Subject: (\S+)", x[1])[1].decode()
                      for x in got if isinstance(x, tuple))


def flags(server, user, subject, box="INBOX"):
    with server.imap(user) as c:
        c.select(box, readonly=True)
        [n] = c.search(None, "SUBJECT", subject)[1][0].split()
        return set(re.search(rb"FLAGS \((.*?)\)", c.fetch(n, "(FLAGS)")[1][0])[1]
                   .decode().split()) - {"\\Recent"}


def run(args, home, timeout=60, ok=(0,), **kw):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=timeout, check=False, cwd=home, stdin=subprocess.DEVNULL,
                       env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
                       **kw)
    assert p.returncode in ok, p.stdout
    return p.stdout


def letters(directory):
    out = {}
    for name in glob.glob(f"{directory}/*/*"):
        if os.path.basename(os.path.dirname(name)) in ("cur", "new"):
            with open(name, "rb") as f:
                m = email.message_from_binary_file(f)
            out[m["Subject"]] = (name, m.get_payload())
    return out


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return str(path)


def test_mbsync_both_ways(server, home):
    need("mbsync")
    clean(server, "anna")
    send(server, "anna", ["one", "two", "three"])
    rc = write(home / "rc", f"""\
IMAPAccount h
Host localhost
Port {server.ports["imaps"]}
User anna@example.org
Pass secret-anna
SSLType IMAPS
CertificateFile {server.hato.dir}/tls/cert.pem

IMAPStore far
Account h

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
    os.mkdir(home / "mail")
    sync = ["mbsync", "-c", rc, "-a"]
    run(sync, home)
    box = home / "mail" / "INBOX"
    got = letters(box)
    assert sorted(got) == ["one", "three", "two"]
    assert got["one"][1] == "The text of one.\n.dot\n"
    # Seen and deleted here, flagged there, a new one on either side.
    name = got["one"][0]
    os.rename(name, f"{box}/cur/{os.path.basename(name).split(':')[0]}:2,S")
    os.unlink(got["two"][0])
    with server.imap("anna") as c:
        c.select("INBOX")
        [n] = c.search(None, "SUBJECT", "three")[1][0].split()
        c.store(n, "+FLAGS", "(\\Flagged \\Answered)")
    send(server, "anna", ["four"])
    write(box / "new" / "1.local", "Subject: local\n\nwritten here\n")
    os.makedirs(home / "mail" / "Local" / "cur")
    os.makedirs(home / "mail" / "Local" / "new")
    os.makedirs(home / "mail" / "Local" / "tmp")
    write(home / "mail" / "Local" / "cur" / "1.x:2,F", "Subject: kept\n\nhere\n")
    run(sync, home)
    assert subjects(server, "anna") == ["four", "local", "one", "three"]
    assert subjects(server, "anna", "Local") == ["kept"]
    assert flags(server, "anna", "one") == {"\\Seen"}
    assert flags(server, "anna", "kept", "Local") == {"\\Flagged"}
    got = letters(box)
    assert sorted(got) == ["four", "local", "one", "three"]
    assert set(got["three"][0].split(":2,")[1]) == {"F", "R"}
    # Nothing more to do: what is there is known.
    before = sorted(glob.glob(f"{box}/*/*"))
    run(sync, home)
    assert sorted(glob.glob(f"{box}/*/*")) == before


def test_fetchmail(server, home):
    need("fetchmail")
    clean(server, "ben")
    send(server, "ben", ["f1", "f2"])
    for proto, port in (("POP3", "pop3s"), ("IMAP", "imaps")):
        rc = write(home / f"rc.{proto}", f"""\
poll 127.0.0.1 protocol {proto} port {server.ports[port]}
  user "ben@example.org" password "secret-ben" ssl no sslcertck keep
  mda "cat >>{home}/{proto}.mbox; echo >>{home}/{proto}.mbox"
""")
        args = ["fetchmail", "-f", rc, "--pidfile", f"{home}/pid",
                "-i", f"{home}/ids", "--uidl" if proto == "POP3" else "--all", "-v", "-v"]
        out = run(args, home)
        with open(home / f"{proto}.mbox", encoding="utf-8") as f:
            text = f.read()
        assert "The text of f1." in text and "The text of f2." in text, out
        if proto == "POP3":  # what it has seen it does not fetch again
            run(args, home, ok=(0, 1))
            with open(home / f"{proto}.mbox", encoding="utf-8") as f:
                assert f.read() == text
    rc = write(home / "rc.flush", f"""\
poll 127.0.0.1 protocol POP3 port {server.ports["pop3"]}
  user "ben@example.org" password "secret-ben" sslproto "TLS1.2+" no sslcertck fetchall nokeep
  mda "cat >/dev/null"
""")
    run(["fetchmail", "-f", rc, "--pidfile", f"{home}/pid"], home)
    assert subjects(server, "ben") == []


def test_getmail(server, home):
    need("getmail")
    clean(server, "carl")
    send(server, "carl", ["g1", "g2"])
    for d in ("cur", "new", "tmp"):
        os.makedirs(home / "box" / d)
    write(home / "getmailrc", f"""\
[retriever]
type = SimplePOP3SSLRetriever
server = 127.0.0.1
port = {server.ports["pop3s"]}
username = carl@example.org
password = secret-carl
[destination]
type = Maildir
path = {home}/box/
[options]
delete = false
read_all = false
""")
    args = ["getmail", "--getmaildir", str(home), "--rcfile", "getmailrc"]
    who = {}
    if IS_ROOT:  # it refuses to deliver as root
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(home)], check=True)
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    run(args, home, **who)
    assert sorted(letters(home / "box")) == ["g1", "g2"]
    send(server, "carl", ["g3"])
    run(args, home, **who)
    assert len(glob.glob(f"{home}/box/new/*")) == 3


def test_mpop(server, home):
    need("mpop")
    clean(server, "dora")
    send(server, "dora", ["m1", "m2"])
    for d in ("cur", "new", "tmp"):
        os.makedirs(home / "box" / d)
    rc = write(home / "mpoprc", f"""\
defaults
tls on
tls_certcheck off
uidls_file {home}/uidls
account a
host 127.0.0.1
port {server.ports["pop3"]}
tls_starttls on
user dora@example.org
password secret-dora
delivery maildir {home}/box
keep off
""")
    run(["mpop", f"--file={rc}", "-a"], home)
    assert sorted(letters(home / "box")) == ["m1", "m2"]
    assert subjects(server, "dora") == []


def test_curl(server, home):
    need("curl")
    clean(server, "anna")
    send(server, "anna", ["c1"])
    auth = ["curl", "-sSk", "--max-time", "30", "-u", "anna@example.org:secret-anna"]
    imap = f"imaps://127.0.0.1:{server.ports['imaps']}"
    assert "INBOX" in run([*auth, imap], home)
    assert "The text of c1." in run([*auth, f"{imap}/INBOX;MAILINDEX=1"], home)
    assert "* SEARCH 1" in run([*auth, f"{imap}/INBOX?SUBJECT%20c1"], home)
    letter = write(home / "letter", "Subject: up\r\n\r\nx\r\n")
    run([*auth, "-T", letter, f"{imap}/INBOX"], home)
    assert subjects(server, "anna") == ["c1", "up"]
    pop3 = f"pop3s://127.0.0.1:{server.ports['pop3s']}"
    assert run([*auth, pop3], home).splitlines()[0].startswith("1 ")
    assert "The text of c1.\n.dot" in run([*auth, f"{pop3}/1"], home).replace("\r", "")
    starttls = f"imap://127.0.0.1:{server.ports['imap']}"
    assert "INBOX" in run([*auth, "--ssl-reqd", starttls], home)
    out = run(["curl", "-sSk", "-u", "anna@example.org:wrong", imap], home, ok=(67,))
    assert "denied" in out or "Login" in out or "curl: (67)" in out


def in_terminal(args, home, until, keys=(), seconds=60):
    """Run a program on a terminal, type the keys one after another when it is
    quiet, until `until()` holds; then end it."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execve(shutil.which(args[0]), args,
                  {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "vt100",
                   "LANG": "C.UTF-8", "LINES": "24", "COLUMNS": "80"})
    keys = list(keys)
    shown = b""
    end = time.monotonic() + seconds
    done = False
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], 0.7)
        if ready:
            try:
                got = os.read(fd, 65536)
            except OSError:
                break
            if not got:
                break
            shown += got
        elif keys:
            os.write(fd, keys.pop(0).encode())
        elif until():
            done = True
            break
    done = done or until()
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        pass
    os.close(fd)
    os.waitpid(pid, 0)
    assert done, shown[-3000:].decode(errors="replace")


@pytest.mark.parametrize("program", ["mutt", "neomutt"])
def test_mutt(server, home, program):
    need(program)
    clean(server, "ben")
    send(server, "ben", ["u1", "u2"])
    rc = write(home / "rc", f"""\
set imap_user="ben@example.org" imap_pass="secret-ben"
set folder="imaps://127.0.0.1:{server.ports["imaps"]}/"
set spoolfile="+INBOX" certificate_file="{home}/certs"
set ssl_verify_host=no ssl_verify_dates=no confirmappend=no confirmcreate=no
set delete=yes quit=yes mail_check=1 record="" header_cache=""
push "<tag-pattern>~A<enter><tag-prefix><copy-message>=Copy<enter><first-entry><flag-message><next-entry><delete-message><sync-mailbox>"
""")
    shutil.copy(f"{server.hato.dir}/tls/cert.pem", home / "certs")
    in_terminal([program, "-n", "-F", rc], home,
                lambda: subjects(server, "ben", "Copy") == ["u1", "u2"] and
                subjects(server, "ben") == ["u1"] and
                "\\Flagged" in flags(server, "ben", "u1"), keys=["a"])


def test_alpine(server, home):
    need("alpine")
    clean(server, "carl")
    send(server, "carl", ["a1", "a2"])
    rc = write(home / "pinerc", f"""\
inbox-path={{127.0.0.1:{server.ports["imaps"]}/ssl/novalidate-cert/user="carl@example.org"}}INBOX
personal-name=Carl
feature-list=quit-without-confirm, expunge-without-confirm, no-pause-at-quit
last-version-used=9.99
nntp-server=
""")
    # Folder list, INBOX, the first letter: read, then the second one: deleted.
    in_terminal(["alpine", "-p", rc, "-i", "-n", "1"], home,
                lambda: subjects(server, "carl") == ["a1"] and
                "\\Seen" in flags(server, "carl", "a1"),
                keys=["secret-carl\r", "n", "\r", "n", "d", "i", "x", "q", "y"])


def test_offlineimap(server, home):
    need("offlineimap")
    clean(server, "dora")
    send(server, "dora", ["o1", "o2"])
    rc = write(home / "rc", f"""\
[general]
accounts = a
metadata = {home}/meta
ui = quiet
[Account a]
localrepository = l
remoterepository = r
[Repository l]
type = Maildir
localfolders = {home}/box
[Repository r]
type = IMAP
remotehost = localhost
remoteport = {server.ports["imaps"]}
remoteuser = dora@example.org
remotepass = secret-dora
ssl = yes
sslcacertfile = {server.hato.dir}/tls/cert.pem
cert_fingerprint = {fingerprint(server)}
auth_mechanisms = PLAIN
""")
    run(["offlineimap", "-c", rc, "-o"], home, timeout=120)
    got = letters(home / "box" / "INBOX")
    assert sorted(got) == ["o1", "o2"]
    os.unlink(got["o1"][0])
    run(["offlineimap", "-c", rc, "-o"], home, timeout=120)
    assert subjects(server, "dora") == ["o2"]


def fingerprint(server):
    out = subprocess.run(["openssl", "x509", "-in", f"{server.hato.dir}/tls/cert.pem",
                          "-noout", "-fingerprint", "-sha1"], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return out.split("=")[1].strip().replace(":", "").lower()
