"""Who may send what to whom, and tables that change or break, through the real processes."""
import contextlib
import glob
import os
import re
import shutil
import smtplib
import socket
import sys
import tempfile
import threading

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hatotest import IS_ROOT, Hato, wait_for  # noqa: E402


@pytest.fixture
def where():
    path = tempfile.mkdtemp(prefix="hato-access-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def make(where, files=None, **main):
    h = Hato(where, main={
        "virtual_mailbox_domains": "virtual.test",
        "userdb": f"passwd-file:{where}/users",
        "mail_location": f"maildir:{where}/mail/%d/%n",
        "first_valid_uid": "100",
        "local_recipient_maps": "unix:passwd.byname",
        # The tests' client is a stranger.
        "mynetworks": "192.0.2.0/24",
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        **main,
    })
    os.makedirs(h.path("mail"), exist_ok=True)
    uid = os.geteuid() if not IS_ROOT else h.uid
    h.write("users", "".join(f"{u}@virtual.test::{uid}:{uid}::{h.path('home')}/{u}::\n"
                             for u in ("a", "b")))
    for name, text in (files or {}).items():
        h.write(name, text)
    h.own()
    return h


def rcpt(h, to, sender="x@client.example"):
    """The answer to RCPT TO."""
    with smtplib.SMTP("127.0.0.1", h.port, timeout=20) as s:
        s.ehlo("client.example")
        s.mail(sender)
        code, text = s.rcpt(to)
        return f"{code} {text.decode()}"


def send(h, to, text="Subject: one\r\n\r\nbody\r\n"):
    with smtplib.SMTP("127.0.0.1", h.port, timeout=20) as s:
        s.sendmail("x@client.example", [to], text)


def mailbox(h, user):
    return [open(f, encoding="utf-8").read()
            for f in glob.glob(f"{h.dir}/mail/virtual.test/{user}/new/*")]


def test_strangers_do_not_relay(where):
    with make(where) as h:
        assert rcpt(h, "a@virtual.test") == "250 2.1.5 Ok"
        for to in ("a@else.example", "a%else.example@virtual.test",
                   "a%else.example@example.com", "else.example!a@example.com",
                   "a@else.example@example.com", "@example.com:a@else.example"):
            assert "Relay access denied" in rcpt(h, f"<{to}>"), to
        h.wait_log(r"NOQUEUE: reject: RCPT from unknown\[127.0.0.1\]: 554 5.7.1 <a@else.example>: "
                   r"Relay access denied; from=<x@client.example> to=<a@else.example> proto=ESMTP "
                   r"helo=<client.example>")


def test_unknown_users_are_refused(where):
    with make(where, relay_domains="relay.test",
              relay_recipient_maps="inline:{r@relay.test=x}",
              virtual_alias_domains="alias.test",
              virtual_alias_maps="inline:{l@alias.test=a@virtual.test}") as h:
        assert rcpt(h, "root@example.com") == "250 2.1.5 Ok"
        assert rcpt(h, "nobody-here@example.com") == (
            "550 5.1.1 <nobody-here@example.com>: Recipient address rejected: "
            "User unknown in local recipient table")
        assert rcpt(h, "zz@virtual.test") == (
            "550 5.1.1 <zz@virtual.test>: Recipient address rejected: "
            "User unknown in virtual mailbox table")
        assert rcpt(h, "l@alias.test") == "250 2.1.5 Ok"
        assert rcpt(h, "m@alias.test") == (
            "550 5.1.1 <m@alias.test>: Recipient address rejected: "
            "User unknown in virtual alias table")
        assert rcpt(h, "r@relay.test") == "250 2.1.5 Ok"
        assert rcpt(h, "s@relay.test") == (
            "550 5.1.1 <s@relay.test>: Recipient address rejected: "
            "User unknown in relay recipient table")


def test_access_tables(where):
    files = {"sender": "spam.example REJECT 5.7.9 go away\nslow.example DEFER\n",
             "client": "192.0.2.0/24 OK\n",
             "rcpt": "/^b@/ PREPEND X-Seen: yes\n",
             "heads": "/^Subject: buy/ REJECT not here\n/^X-Old/ IGNORE\n"}
    with make(where, files,
              smtpd_sender_restrictions=f"check_sender_access hash:{where}/sender",
              smtpd_client_restrictions=f"check_client_access cidr:{where}/client",
              smtpd_recipient_restrictions=f"check_recipient_access regexp:{where}/rcpt",
              header_checks=f"regexp:{where}/heads") as h:
        assert rcpt(h, "a@virtual.test", "j@mx.spam.example") == (
            "554 5.7.9 <j@mx.spam.example>: Sender address rejected: go away")
        assert rcpt(h, "a@virtual.test", "j@slow.example") == (
            "450 4.7.1 <j@slow.example>: Sender address rejected: Access denied")
        with pytest.raises(smtplib.SMTPDataError) as e:
            send(h, "a@virtual.test", "Subject: buy now\r\n\r\nx\r\n")
        assert (e.value.smtp_code, e.value.smtp_error) == (550, b"5.7.1 not here")
        send(h, "b@virtual.test", "Subject: two\r\nX-Old: x\r\n\r\nbody\r\n")
        assert wait_for(lambda: mailbox(h, "b"), 15), h.log()
        letter = mailbox(h, "b")[0]
        assert "X-Seen: yes\n" in letter and "X-Old" not in letter


def test_table_changes_by_itself(where):
    with make(where, {"virtual": "new@virtual.test a@virtual.test\n"},
              virtual_alias_maps=f"hash:{where}/virtual") as h:
        assert rcpt(h, "new@virtual.test") == "250 2.1.5 Ok"
        assert "550 5.1.1" in rcpt(h, "newer@virtual.test")
        h.write("virtual", "new@virtual.test a@virtual.test\nnewer@virtual.test b@virtual.test\n")
        assert wait_for(lambda: rcpt(h, "newer@virtual.test").startswith("250"), 30), h.log()
        send(h, "newer@virtual.test")
        assert wait_for(lambda: mailbox(h, "b"), 15), h.log()


def test_broken_table_defers(where):
    with make(where, smtpd_sender_restrictions="check_sender_access fail:oops",
              relay_domains="relay.test", relay_recipient_maps="fail:gone") as h:
        assert rcpt(h, "a@virtual.test") == (
            "451 4.3.5 <x@client.example>: Sender address rejected: Server configuration error")
        h.wait_log("fail:oops")
    with make(where, relay_domains="relay.test", relay_recipient_maps="fail:gone") as h:
        assert rcpt(h, "r@relay.test") == "451 4.3.0 <r@relay.test>: Temporary lookup failure"
        assert rcpt(h, "a@virtual.test") == "250 2.1.5 Ok"


def test_tables_of_tables(where):
    files = {"one": "one@virtual.test a@virtual.test\n", "two": "c@else.test b@virtual.test\n",
             "three": "two@virtual.test c@else.test\n"}
    with make(where, files,
              virtual_alias_maps=f"unionmap:{{hash:{where}/one,inline:{{ {{one@virtual.test = "
                                 f"b@virtual.test}} }}}}, pipemap:{{texthash:{where}/three,"
                                 f"cdb:{where}/two}}") as h:
        send(h, "one@virtual.test")
        assert wait_for(lambda: mailbox(h, "a") and mailbox(h, "b"), 15), h.log()
        send(h, "two@virtual.test")
        assert wait_for(lambda: len(mailbox(h, "b")) == 2, 15), h.log()


def test_rewriting(where):
    with make(where, canonical_maps="inline:{old@virtual.test=a@virtual.test}",
              sender_bcc_maps="inline:{x@client.example=b@virtual.test}",
              local_header_rewrite_clients="static:all") as h:
        send(h, "old@virtual.test", "To: Old <old@virtual.test>\r\nSubject: s\r\n\r\nbody\r\n")
        assert wait_for(lambda: mailbox(h, "a") and mailbox(h, "b"), 15), h.log()
        assert "To: Old <a@virtual.test>\n" in mailbox(h, "a")[0]


def test_rates(where):
    with make(where, smtpd_client_connection_count_limit="2",
              smtpd_client_event_limit_exceptions="") as h:
        held = [h.connect() for _ in range(2)]
        for s in held:
            assert s.recv(1000).startswith(b"220 ")
        with h.connect() as third:
            assert third.recv(1000) == (
                b"421 4.7.0 mx.example.com Error: too many connections from 127.0.0.1\r\n")
        h.wait_log(r"warning: Connection concurrency limit exceeded: 3 from unknown\[127.0.0.1\] "
                   r"for service \S+")
        # A killed smtpd takes its connections with it.
        for name, (pid, _) in h.processes().items():
            if name.startswith("smtpd"):
                os.kill(pid, 9)
        for s in held:
            s.close()

        def welcome():
            try:
                with h.connect() as s:
                    return s.recv(1000).startswith(b"220 ")
            except OSError:
                return False
        assert wait_for(welcome, 20), h.log()


class MapServer(threading.Thread):
    """A socketmap_table(5) or tcp_table(5) server on a UNIX or TCP socket."""

    def __init__(self, where, kind, table):
        super().__init__(daemon=True)
        self.kind, self.table, self.asked = kind, table, []
        self.listener = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(where)
        if isinstance(where, str):
            os.chmod(where, 0o666)
        self.listener.listen(8)
        self.at = self.listener.getsockname()
        self.conns = []
        self.start()

    def run(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conns.append(conn)
            threading.Thread(target=self.talk, args=(conn,), daemon=True).start()

    def talk(self, conn):
        f = conn.makefile("rwb")
        try:
            while True:
                answer = self.socketmap(f) if self.kind == "socketmap" else self.tcp(f)
                if answer is None:
                    return
                f.write(answer)
                f.flush()
        except OSError:
            pass

    def socketmap(self, f):
        n = b""
        while (c := f.read(1)) != b":":
            if not c:
                return None
            n += c
        name, key = f.read(int(n)).decode().split(" ", 1)
        assert f.read(1) == b","
        self.asked.append((name, key))
        value = self.table.get(key)
        text = ("NOTFOUND " if value is None else f"OK {value}").encode()
        return b"%d:%s," % (len(text), text)

    def tcp(self, f):
        line = f.readline()
        if not line:
            return None
        key = line.decode().split()[1]
        self.asked.append(key)
        value = self.table.get(key)
        return (f"200 {value}\n" if value is not None else "500 not found\n").encode()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.conns:
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)
            c.close()


def test_tables_on_sockets(where):
    """socketmap and tcp tables are asked by `tables`, which has the network only then."""
    path = os.path.join(where, "maps")
    aliases = MapServer(path, "socketmap", {"box@virtual.test": "a@virtual.test"})
    access = MapServer(("127.0.0.1", 0), "tcp", {"bad@client.example": "REJECT%20not%20you"})
    users = MapServer(("127.0.0.1", 0), "socketmap", {"a@virtual.test": "x", "b@virtual.test": "x"})
    h = make(where, virtual_alias_maps=f"socketmap:unix:{path}:aliases",
             smtpd_sender_restrictions="check_sender_access tcp:127.0.0.1:%d" % access.at[1],
             smtpd_recipient_restrictions="check_recipient_access "
                                          "unionmap:{socketmap:inet:localhost:%d:users}, reject"
                                          % users.at[1])
    users.table = {"box@virtual.test": "OK", "b@virtual.test": "OK"}
    with h:
        assert rcpt(h, "box@virtual.test").startswith("250 ")
        assert ("aliases", "box@virtual.test") in aliases.asked
        assert ("users", "box@virtual.test") in users.asked
        said = rcpt(h, "box@virtual.test", "bad@client.example")
        assert said.startswith("554 ") and "not you" in said
        assert rcpt(h, "a@virtual.test").startswith("554 ")
        allowed = set(re.findall(r"^(\w+)=allowed", h.command("probe", "tables", check=True).stdout,
                                 re.M))
        assert allowed == {"open", "unix", "inet"}
        assert h.tool("postmap", "-q", "box@virtual.test",
                      f"socketmap:unix:{path}:aliases").stdout == "a@virtual.test\n"
        # Gone: 4xx and a word in the log; back: as before.
        access.close()
        assert rcpt(h, "box@virtual.test").startswith("451 ")
        h.wait_log(r"warning: .*tcp:127.0.0.1:%d" % access.at[1])
        access = MapServer(access.at, "tcp", {})
        assert wait_for(lambda: rcpt(h, "box@virtual.test", "bad@client.example")[:3] == "250", 20)
    for s in (aliases, access, users):
        s.close()


@pytest.mark.parametrize("name, value, why", [
    ("alias_maps", "tcp:127.0.0.1:99", "not allowed for security-sensitive data"),
    ("virtual_alias_maps", "tcp:maps.example:99", "names need DNS"),
    ("virtual_alias_maps", "socketmap:inet:maps.example:99:x", "names need DNS"),
    ("virtual_alias_maps", "socketmap:/a/path:x", "unix:path:name"),
    ("virtual_alias_maps", "environ:x", "not there yet"),
])
def test_tables_on_sockets_that_are_refused(where, name, value, why):
    h = make(where, **{name: value})
    p = h.command("start")
    assert p.returncode != 0 and why in p.stderr, p.stderr
