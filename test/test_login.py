"""IMAP and POP3 before sign-in, the hand-over to the workers, parking, reload,
`hato who` and `hato kick`.

covers: login_greeting login_trusted_networks imap_login_timeout pop3_login_timeout
covers: login_process_count login_drain_timeout mail_max_userip_connections disable_plaintext_auth
"""
import base64
import contextlib
import imaplib
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from authtalk import Scram
from hatotest import Hato, free_port, is_alive, wait_for
from smtptalk import TestClock

MASTER = """\
{{port}} inet n - n - - smtpd
{imap} inet n - n - - imapd
{imaps} inet n - n - - imapd
  -o smtpd_tls_wrappermode=yes
{pop3} inet n - n - - pop3d
{pop3s} inet n - n - - pop3d
  -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
"""

USERS = ["anna", "ben", "carl", "dora"]


def make_cert(directory):
    os.makedirs(directory, exist_ok=True)
    cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                    "/CN=mx.example.com", "-keyout", key, "-out", cert],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return cert, key


def mail_owner():
    return (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


class Reading:
    """A Hato that is read from: IMAP and POP3, with and without TLS."""

    def __init__(self, path, mode="one", **main):
        self.ports = {n: free_port() for n in ("imap", "imaps", "pop3", "pop3s")}
        cert, key = make_cert(f"{path}/tls")
        uid = 65534 if os.geteuid() == 0 else os.geteuid()
        if mode == "users":
            os.chmod(path, 0o755)
        self.mail = f"{path}/mail"
        os.makedirs(self.mail, exist_ok=True)
        boxes = ", ".join(f"{u}@example.org={u}/" for u in USERS)
        self.hato = Hato(path, main={
            "virtual_mailbox_domains": "example.org",
            "virtual_mailbox_maps": "inline:{ " + boxes + " }",
            "virtual_mailbox_base": self.mail,
            "virtual_uid_maps": f"static:{uid}", "virtual_gid_maps": f"static:{uid}",
            "first_valid_uid": "1",
            "passdb": f"texthash:{path}/passwords",
            "auth_failure_delay": "1s",
            "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key,
            "smtpd_tls_security_level": "may",
            **main}, master=MASTER.format(**self.ports), mode=mode)
        if mode == "users":
            os.chown(self.mail, uid, uid)
        self.hato.write("passwords", "".join(
            f"{u}@example.org {{PLAIN}}secret-{u}\n" for u in USERS))

    def __enter__(self):
        self.hato.start()
        return self

    def __exit__(self, *exc):
        self.hato.__exit__(*exc)

    def imap(self, user=None, tls=True):
        ctx = ssl.create_default_context()
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
        if tls:
            c = imaplib.IMAP4_SSL("127.0.0.1", self.ports["imaps"], ssl_context=ctx, timeout=30)
        else:
            c = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=30)
        if user:
            c.login(f"{user}@example.org", f"secret-{user}")
        return c

    def pop3(self, user=None, tls=True):
        ctx = ssl.create_default_context()
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
        if tls:
            c = poplib.POP3_SSL("127.0.0.1", self.ports["pop3s"], context=ctx, timeout=30)
        else:
            c = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=30)
        if user:
            c.user(f"{user}@example.org")
            c.pass_(f"secret-{user}")
        return c

    def raw(self, service):
        s = socket.create_connection(("127.0.0.1", self.ports[service]), 30)
        return s, s.makefile("rb")

    def send(self, user, text="hello", n=1):
        with smtplib.SMTP("127.0.0.1", self.hato.port, timeout=30) as c:
            for i in range(n):
                c.sendmail("x@example.com", [f"{user}@example.org"],
                           f"Subject: {text} {i}\r\n\r\n{text}\r\n")

    def who(self, *args):
        return self.hato.command("who", *args, check=True).stdout


@pytest.fixture(scope="module", name="server")
def fixture_server(shared_where):
    with Reading(shared_where) as s:
        yield s


def idle_start(c):
    """Into IDLE; the tag."""
    tag = c._new_tag()  # pylint: disable=protected-access
    c.send(tag + b" IDLE\r\n")
    while not c.readline().startswith(b"+"):
        pass
    return tag


def idle_until(c, want):
    while True:
        line = c.readline()
        assert line, f"the line ended while {want!r} was waited for"
        if want in line:
            return line


def idle_done(c, tag):
    c.send(b"DONE\r\n")
    idle_until(c, tag + b" OK")


# ------------------------------------------------------------------- sign-in

@pytest.mark.parametrize("tls", [True, False])
def test_a_letter_is_read(server, tls):
    server.send("anna", f"letter-{tls}")
    with server.imap("anna", tls) as c:
        assert wait_for(lambda: int(c.select("INBOX")[1][0]) >= 1)
        n = int(c.select("INBOX")[1][0])
        ok, data = c.fetch(str(n), "(BODY[])")
        assert ok == "OK" and f"letter-{tls}".encode() in data[0][1]
    c = server.pop3("anna", tls)
    n = c.stat()[0]
    assert f"letter-{tls}".encode() in b"\n".join(c.retr(n)[1])
    c.quit()
    server.hato.wait_log(r"dovecot(\[\d+\])?: imap-login: Login: user=<anna@example.org>, method=PLAIN, "
                         r"rip=127.0.0.1, lip=127.0.0.1, mpid=\d+, " + ("TLS" if tls else "secured") +
                         r", session=<\S+>")
    server.hato.wait_log(r"pop3-login: Login: user=<anna@example.org>")


def test_starttls(server):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    c = server.imap(tls=False)
    assert "STARTTLS" in c.capabilities
    c.starttls(ctx)
    assert "STARTTLS" not in c.capabilities
    c.login("anna@example.org", "secret-anna")
    c.logout()
    p = server.pop3(tls=False)
    assert "STLS" in p.capa()
    p.stls(ctx)
    p.user("anna@example.org")
    p.pass_("secret-anna")
    p.quit()


def test_wrong_password_and_unknown_user(server):
    """The same text, about the same time; the log is fail2ban's food."""
    times, texts = [], []
    for user in ("anna", "nobody"):
        c = server.imap()
        begin = time.monotonic()
        with pytest.raises(imaplib.IMAP4.error) as e:
            c.login(f"{user}@example.org", "wrong")
        times.append(time.monotonic() - begin)
        texts.append(str(e.value))
        c.shutdown()
    assert texts[0] == texts[1] and "AUTHENTICATIONFAILED" in texts[0]
    assert min(times) > 0.5
    # fail2ban's dovecot filter, its line for failed sign-ins
    server.hato.wait_log(
        r"dovecot(?:\[\d+\])?: (?:pop3|imap)-login: "
        r"(?:Aborted login|Disconnected|Remote closed connection|Client has quit the connection)"
        r"(?::(?: [^ \(]+)+)? \((?:auth failed, \d+ attempts(?: in \d+ secs)?)\):"
        r"(?: user=<[^>]*>,)?(?: method=\S+,)? rip=127.0.0.1(?:[^>]*(?:, session=<\S+>)?)\s*")
    p = server.pop3()
    p.user("anna@example.org")
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        p.pass_("wrong")
    p.close()


def test_input_behind_the_sign_in_is_not_lost(server):
    """Commands that are pipelined behind LOGIN, without and with TLS."""
    for tls in (False, True):
        c = server.imap(tls=tls)
        c.send(b'x1 LOGIN anna@example.org secret-anna\r\nx2 NOOP\r\nx3 LIST "" INBOX\r\nx4 LOGOUT\r\n')
        text = c.file.read()
        for want in (b"x1 OK", b"x2 OK", b"x3 OK", b"* BYE", b"x4 OK"):
            assert want in text
        c.shutdown()


# ----------------------------------------------------------------- bad input

def read_all(f):
    with contextlib.suppress(ConnectionError):
        return f.read()
    return b""


def test_injection_behind_starttls(server):
    for service, command, ok in (("imap", b"a STARTTLS\r\n", b"a OK"), ("pop3", b"STLS\r\n", b"+OK Begin")):
        s, f = server.raw(service)
        f.readline()
        s.sendall(command + b"b NOOP\r\nCAPA\r\n")
        answer = read_all(f)
        assert ok not in answer and (b"BAD" in answer or b"-ERR" in answer)
        s.close()


def test_hostile_input_before_sign_in(server):
    # a line without end
    s, f = server.raw("imap")
    f.readline()
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            s.sendall(b"A" * 65536)
    assert b"OK" not in read_all(f)
    # 100,000 commands in a pipe
    s, f = server.raw("imap")
    data = b"a NOOP\r\n" * 100000

    def feed():
        with contextlib.suppress(OSError):
            s.sendall(data)

    t = threading.Thread(target=feed)
    t.start()
    answer = read_all(f)
    t.join()
    assert answer.count(b"a OK NOOP") <= 1002
    # names
    for name in (b"../../etc/passwd", b"%d", b"anna@example.org/..", b"\xff\xfe", b""):
        s, f = server.raw("imap")
        f.readline()
        s.sendall(b'a LOGIN {%d+}\r\n%s secret\r\n' % (len(name), name))
        assert f.readline().startswith(b"a NO")
        s.close()
    s, f = server.raw("imap")
    f.readline()
    s.sendall(b"a LOGIN {8+}\r\nan\0na@ex secret\r\nb AUTHENTICATE PLAIN "
              b"AGFuAG5hQGV4AHNlY3JldA==\r\n")
    assert f.readline().startswith(b"a BAD")
    assert f.readline().startswith(b"b NO")
    s.sendall(b"c LOGIN {200000}\r\n")
    assert f.readline().startswith(b"c BAD")
    s.close()
    # the same over POP3, and a name of 200 KB
    for name in (b"../%d", b"an\0na@example.org"):
        s, f = server.raw("pop3")
        f.readline()
        s.sendall(b"USER " + name + b"\r\nPASS secret\r\n")
        assert b"-ERR" in f.readline() + f.readline()
        s.close()
    s, f = server.raw("pop3")
    f.readline()
    with contextlib.suppress(ConnectionError):
        s.sendall(b"USER " + b"a" * 200000 + b"\r\n")
    with contextlib.suppress(ConnectionError):
        assert not f.readline().startswith(b"+OK")
    s.close()
    # and it still works
    server.imap("anna").logout()
    server.pop3("anna").quit()
    assert "was killed" not in server.hato.log() and "killed by signal" not in server.hato.log()


def test_a_user_sees_only_his_own(server):
    with server.imap("ben") as c:
        for name in ("../anna", "/etc", "../../anna/", "..", "&AC4ALg-/anna"):
            assert c.select(f'"{name}"')[0] == "NO" or int(c.select(f'"{name}"')[1][0] or 0) == 0


# ------------------------------------------------------------ after sign-in

def test_large_pieces_both_ways(server):
    big = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 4 * 20000
    with server.imap("carl") as c:
        assert c.append("INBOX", None, None, big)[0] == "OK"
        c.select("INBOX")
        ok, data = c.fetch("1", "(BODY.PEEK[])")
        assert ok == "OK" and data[0][1].replace(b"\r\n", b"\n") == big.replace(b"\r\n", b"\n")


def test_commands_side_by_side(server):
    # RFC 9051 5.5: a quick command behind a long one is not kept waiting.
    c = server.imap("dora")
    assert c.select()[0] == "OK"
    box = f"{server.mail}/dora/cur"
    body = "a line of a letter that nobody searches for\n" * 5000
    for i in range(60):
        with open(f"{box}/{i}.long.mx:2,", "w", encoding="ascii") as f:
            f.write(f"Subject: {i}\n\n{body}")
        os.chmod(f.name, 0o600)
        shutil.chown(f.name, *mail_owner())
    assert wait_for(lambda: c.select()[1] == [b"60"], 30)
    c.send(b'a SEARCH BODY "nothing of this"\r\nb NOOP\r\n'
           b'c FETCH 1 (UID)\r\nd STORE 1 +FLAGS.SILENT (\\Seen)\r\n')
    order = []
    while len(order) < 4:
        line = c.readline()
        if line[:1] != b"*":
            assert line[1:5] == b" OK ", line
            order.append(line[:1])
    assert order == [b"b", b"c", b"a", b"d"]
    c.logout()


def test_idle_hears_of_mail_and_goes_on(server):
    c = server.imap("dora")
    c.select("INBOX")
    tag = idle_start(c)
    assert wait_for(lambda: re.search(r"dora@.*parked", server.who()))
    server.send("dora", "news")
    idle_until(c, b"EXISTS")
    idle_done(c, tag)
    assert c.noop()[0] == "OK"
    tag = idle_start(c)
    idle_done(c, tag)
    c.logout()


def test_who_and_kick(server):
    a, b = server.imap("anna"), server.imap("ben", tls=False)
    idler = server.imap("anna")
    idler.select("INBOX")
    idle_start(idler)
    assert wait_for(lambda: "parked" in server.who("anna@example.org"))
    p = server.pop3("carl")
    text = server.who()
    for user, service in (("anna", "imap"), ("ben", "imap"), ("carl", "pop3")):
        assert re.search(rf"{user}@example\.org\s.*{service}.*127\.0\.0\.1", text), text
    assert "ben@" not in server.who("anna@example.org")
    out = server.hato.command("kick", "anna@example.org", check=True).stdout
    assert out.startswith("2 ")
    assert b"BYE" in a.readline()
    assert b"BYE" in idler.file.read()
    assert server.hato.command("kick", "anna@example.org", "192.0.2.99").returncode != 0
    assert wait_for(lambda: "anna@" not in server.who())
    assert b.noop()[0] == "OK"
    b.logout()
    p.quit()
    assert wait_for(lambda: "ben@" not in server.who() and "carl@" not in server.who())


def test_connections_of_one_user_are_limited(server):
    got = []
    with pytest.raises(imaplib.IMAP4.error, match="Maximum number of connections"):
        for _ in range(11):
            got.append(server.imap("ben"))
    assert len(got) == 10
    got[0].logout()
    got[0] = None
    assert wait_for(lambda: server.who().count("ben@") == 9)
    server.imap("ben").logout()
    for c in got[1:]:
        c.logout()


def test_a_worker_with_parked_sessions_alone_leaves(where):
    """The broker keeps the record and looks at the mailbox; the client notices nothing."""
    with Reading(where) as r:
        r.hato.stop()
        clock = TestClock(r.hato)
        r.hato.start(env=clock.env)
        c = r.imap("anna")
        c.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")
        c.select("INBOX")
        tag = idle_start(c)
        assert wait_for(lambda: "parked" in r.who())

        def left():
            clock.move(10)
            return "without a worker 1" in r.hato.command("status").stdout

        assert wait_for(left, 20)
        assert "workers: 0" in r.hato.command("status").stdout
        # a stranger delivers
        with open(f"{r.mail}/anna/new/1700000000.stranger", "w", encoding="utf-8") as f:
            f.write("Subject: stranger\n\nhello\n")
        os.chmod(f"{r.mail}/anna/new/1700000000.stranger", 0o644)
        idle_until(c, b"2 EXISTS")
        assert wait_for(left, 20)
        # and the client comes back by itself
        idle_done(c, tag)
        assert b"Subject: stranger" in c.fetch("2", "(BODY.PEEK[HEADER])")[1][0][1]
        c.logout()


# ---------------------------------------------------------------- isolation

@pytest.mark.parametrize("mode", ["one"] + (["users"] if os.geteuid() == 0 else []))
def test_login_and_smtpd_open_nothing_of_others(where, mode):
    """As if login and smtpd were broken into: same user, same sandbox."""
    with Reading(where, mode=mode) as r:
        r.imap("anna").logout()
        for name, joints in (("login", {"keys", "auth", "broker"}),
                             ("smtpd", {"qmgr", "tables", "keys", "auth", "resolver"})):
            text = r.hato.command("probe", name, check=True).stdout
            files = re.findall(r"^file (\S+): (\w+)", text, re.M)
            assert len(files) == 4 and {what for _, what in files} == {"refused"}, text
            assert set(re.findall(r"^joint (\w+): open", text, re.M)) == joints, text
            assert "answered" not in text, text
            if name == "login":
                assert text.count(": refused") >= 4 + 8, text
            else:
                assert "BROKER_DELIVER" not in text
        # and nobody was signed in by that
        assert "forged" not in r.who()


# ------------------------------------------------------------ reload, deaths

def test_reload_keeps_sessions_and_refuses_nobody(where):
    with Reading(where, mail_max_userip_connections="0") as r:
        c, plain = r.imap("anna"), r.imap("anna", tls=False)
        c.select("INBOX")
        idler = r.imap("anna")
        idler.select("INBOX")
        tag = idle_start(idler)
        stop, failures, n = threading.Event(), [], [0]

        def load():
            while not stop.is_set():
                try:
                    r.imap("ben").logout()
                    n[0] += 1
                except Exception as e:  # pylint: disable=broad-except
                    failures.append(repr(e))

        t = threading.Thread(target=load)
        t.start()
        for _ in range(2):
            r.hato.command("reload", check=True)
            time.sleep(1)
        stop.set()
        t.join()
        assert not failures and n[0] > 0
        assert c.noop()[0] == "OK" and plain.noop()[0] == "OK"
        r.send("anna")
        idle_until(idler, b"EXISTS")
        idle_done(idler, tag)
        for x in (c, plain, idler):
            x.logout()
        # Old ones go when their last session has ended.
        assert wait_for(lambda: "draining" not in r.hato.command("status").stdout)


def test_stop_says_goodbye(where):
    with Reading(where, login_process_count="3") as r:
        assert sum(n.startswith("login/") for n in r.hato.processes()) == 3
        conns = [r.imap("anna"), r.imap("anna", tls=False), r.imap()]
        idler = r.imap("anna")
        idler.select("INBOX")
        idle_start(idler)
        assert wait_for(lambda: "parked" in r.who())
        r.hato.stop()
        for c in conns + [idler]:
            assert b"* BYE" in c.file.read()


@pytest.mark.parametrize("who", ["login/0", "broker", "mailbox"])
def test_sessions_survive_a_kill_by_signing_in_again(where, who):
    with Reading(where) as r:
        c = r.imap("anna")
        c.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")
        c.select("INBOX")
        uids = c.uid("search", "ALL")
        if who == "mailbox":
            pid = int(re.search(r"worker \S+:mailbox:\d+ pid (\d+)",
                                r.hato.command("status").stdout)[1])
        else:
            pid = r.hato.processes()[who][0]
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not is_alive(pid))
        c.shutdown()

        def again():
            try:
                return r.imap("anna")
            except (OSError, imaplib.IMAP4.error):
                return None

        c = wait_for(again, 20)
        assert c
        c.select("INBOX")
        assert c.uid("search", "ALL") == uids
        c.logout()


def subjects(c):
    """{uid: subject} of the selected mailbox."""
    c.select("INBOX")
    out = {}
    for part in c.uid("fetch", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
        if isinstance(part, tuple):
            uid = int(re.search(rb"UID (\d+)", part[0])[1])
            out[uid] = part[1].split(b":")[1].strip().decode()
    return out


def test_kills_under_load_lose_nothing(where):
    """Three clients append while login, broker and worker are killed again and again: what was
    answered OK is there once, under the UID it was first seen with."""
    with Reading(where, mail_max_userip_connections="0") as r:
        stop, done, seen, broken = threading.Event(), [], {}, []

        def client(name):
            n = 0
            while not stop.is_set():
                try:
                    c = r.imap("anna")
                    while not stop.is_set():
                        n += 1
                        text = f"{name}-{n}"
                        if c.append("INBOX", None, None,
                                    f"Subject: {text}\r\n\r\nx\r\n".encode())[0] == "OK":
                            done.append(text)
                        if n % 5 == 0:
                            for uid, subject in subjects(c).items():
                                if seen.setdefault(uid, subject) != subject:
                                    broken.append((uid, subject))
                        time.sleep(0.02)
                    c.shutdown()
                except (OSError, imaplib.IMAP4.error):
                    time.sleep(0.1)

        threads = [threading.Thread(target=client, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        for who in ("login/0", "mailbox", "broker", "mailbox", "login/0", "broker"):
            time.sleep(1.2)
            if who == "mailbox":
                m = re.search(r"worker \S+:mailbox:\d+ pid (\d+)",
                              r.hato.command("status").stdout)
                pid = int(m[1]) if m else None
            else:
                pid = r.hato.processes().get(who, (None,))[0]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(2)
        stop.set()
        for t in threads:
            t.join()

        def again():
            try:
                return subjects(r.imap("anna"))
            except (OSError, imaplib.IMAP4.error):
                return None

        now = wait_for(again, 20)
        there = sorted(now.values())
        assert len(done) > 20 and not broken
        assert [x for x in done if there.count(x) != 1] == []
        assert {uid: now.get(uid) for uid in seen} == seen


def test_timeout_before_sign_in(where):
    with Reading(where, imap_login_timeout="2s", pop3_login_timeout="2s",
                 login_greeting="Who is there?") as r:
        for service, greeting, bye in (("imap", b"Who is there?", b"* BYE Disconnected for inactivity."),
                                       ("pop3", b"+OK Who is there?", b"-ERR Disconnected for inactivity.")):
            s, f = r.raw(service)
            assert greeting in f.readline()
            assert f.readline().startswith(bye)
            assert f.read() == b""
            s.close()
        r.hato.wait_log(r"imap-login: Disconnected: Inactivity \(no auth attempts in \d secs\): user=<>")


# ---- SCRAM bound to the channel

BOUND = "SCRAM-SHA-256-PLUS"


def old_tls():
    """Python knows tls-unique only, which TLS 1.3 has not."""
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    return ctx


def bound(sock, mech=BOUND, flag="p=tls-unique", binding=None):
    if binding is None:
        binding = sock.get_channel_binding("tls-unique") if flag[0] == "p" else b""
    return Scram(mech, "anna@example.org", "secret-anna", flag, binding)


def by_imap(r, **kw):
    c = imaplib.IMAP4_SSL("127.0.0.1", r.ports["imaps"], ssl_context=old_tls(), timeout=30)
    assert f"AUTH={BOUND}" in c.capabilities
    s = bound(c.sock, **kw)

    def reply(line):
        if not line:
            return base64.b64decode(s.first())
        line = base64.b64encode(line).decode()
        return b"" if line == s.proof else base64.b64decode(s.last(line))
    try:
        return c.authenticate(kw.get("mech", BOUND), reply)[0] == "OK"
    except imaplib.IMAP4.error:
        return False
    finally:
        c.shutdown()


def by_smtp(r, **kw):
    with smtplib.SMTP("127.0.0.1", r.hato.port, timeout=30) as c:
        c.ehlo()
        assert BOUND not in c.esmtp_features["auth"]
        c.starttls(context=old_tls())
        c.ehlo()
        assert BOUND in c.esmtp_features["auth"]
        s = bound(c.sock, **kw)
        code, line = c.docmd(f"AUTH {kw.get('mech', BOUND)} {s.first()}")
        if code == 334:
            code, line = c.docmd(s.last(line.decode()))
        if code == 334:
            assert line.decode() == s.proof
            code, line = c.docmd("")
        return code == 235


def test_bound_to_the_channel(where):
    """RFC 5802 6: a proof for another channel is none, and an offer that somebody has
    shortened on its way is told."""
    with Reading(str(where), auth_mechanisms="plain scram-sha-256 scram-sha-256-plus",
                 smtpd_sasl_auth_enable="yes", auth_failure_delay="0") as r:
        for by in (by_imap, by_smtp):
            assert by(r)
            assert by(r, mech="SCRAM-SHA-256", flag="n")
            assert not by(r, mech="SCRAM-SHA-256", flag="y")
            time.sleep(1.1)  # after a failure the next try waits
            assert not by(r, binding=b"another one")
            time.sleep(1.1)
        with r.imap(tls=False) as c:
            assert f"AUTH={BOUND}" not in c.capabilities
