"""lmtpd: LMTP for other programs, over TCP and a UNIX socket.

covers: mynetworks smtpd_recipient_limit message_size_limit smtpd_timeout
"""
import concurrent.futures
import glob
import os
import smtplib
import socket
import ssl

import pytest

import postfixpeer
from hatotest import Hato, free_port, status_of, wait_for
from test_login import make_cert

MASTER = """\
{{port}} inet n - n - - smtpd
{lmtp} inet n - n - - lmtpd {options}
mail unix n - n - - lmtpd
pickup unix n - n 60 1 pickup
"""

MAIN = {
    "virtual_mailbox_domains": "example.org",
    "virtual_mailbox_maps": "inline:{ anna@example.org=anna/, ben@example.org=ben/,"
                            " carl@example.org=carl/ }",
    "recipient_delimiter": "+",
    "local_recipient_maps": "",
}


class Lmtp:
    """What the tests want to know of one server."""

    def __init__(self, path, options="", **main):
        self.port = free_port()
        mail = os.path.join(str(path), "mail")
        os.makedirs(mail, exist_ok=True)
        self.mail = mail
        uid = 65534 if os.geteuid() == 0 else os.geteuid()
        self.hato = Hato(path, main={**MAIN, "virtual_mailbox_base": mail,
                                     "virtual_uid_maps": f"static:{uid}",
                                     "virtual_gid_maps": f"static:{uid}",
                                     "first_valid_uid": "1", **main},
                         master=MASTER.format(lmtp=self.port, options=options))

    def __enter__(self):
        self.hato.start()
        return self

    def __exit__(self, *exc):
        self.hato.__exit__(*exc)

    def connect(self):
        return smtplib.LMTP("127.0.0.1", self.port)

    def files(self, user):
        return glob.glob(os.path.join(self.mail, user, "new", "*"))

    def texts(self, user):
        out = []
        for name in self.files(user):
            with open(name, "rb") as f:
                out.append(f.read())
        return out


@pytest.fixture(scope="module", name="server")
def fixture_server(shared_where):
    with Lmtp(shared_where, message_size_limit="300000") as s:
        yield s


def raw(port, text, path=None):
    """All that the server says to these bytes, until it closes."""
    s = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    s.settimeout(20)
    with s:
        s.connect(path or ("127.0.0.1", port))
        s.sendall(text)
        out = b""
        while True:
            got = s.recv(65536)
            if not got:
                return out.decode()
            out += got


def test_an_answer_for_each(server):
    with server.connect() as c:
        assert c.ehlo("client.example")[0] == 250
        for word in ("pipelining", "8bitmime", "smtputf8", "chunking",
                     "enhancedstatuscodes"):
            assert c.has_extn(word), word
        assert c.mail("sender@example.net")[0] == 250
        assert c.rcpt("anna@example.org")[0] == 250
        code, text = c.rcpt("nobody@example.org")
        assert (code, text[:5]) == (550, b"5.1.1")
        assert c.rcpt("ben+box@example.org")[0] == 250
        assert c.docmd("DATA")[0] == 354
        c.send(b"Subject: two\r\nMessage-Id: <two@x>\r\n\r\n..dot\r\nend\r\n.\r\n")
        first, second = c.getreply(), c.getreply()
        assert first[0] == 250 and b"<anna@example.org>" in first[1]
        assert second[0] == 250 and b"<ben+box@example.org>" in second[1]
    for user, addr in (("anna", b"anna@example.org"), ("ben", b"ben+box@example.org")):
        texts = [t for t in server.texts(user) if b"Subject: two" in t]
        assert len(texts) == 1
        assert b"Return-Path: <sender@example.net>\n" in texts[0]
        assert b"Received: from client.example ([127.0.0.1])\n\tby mx.example.com with LMTP" \
            in texts[0]
        assert texts[0].endswith(b"\n\n.dot\nend\n")
    server.hato.wait_log(r"lmtp\(anna@example.org\).*msgid=<two@x>: saved mail to INBOX")


def test_unix_socket_and_chunks(server):
    path = os.path.join(server.hato.main["queue_directory"], "public/mail")
    out = raw(0, b"LHLO x\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<carl@example.org>\r\n"
                 b"BDAT 25\r\nSubject: chunks\r\n\r\nline\r\nBDAT 6 LAST\r\n.\xff\x00\r\n\r"
                 b"QUIT\r\n", path)
    codes = [x[:3] for x in out.splitlines() if x[3:4] == " "]
    assert codes == ["220", "250", "250", "250", "250", "250", "221"], out
    text = server.texts("carl")[-1]
    assert b"Subject: chunks\n\nline\n.\xff\x00\n" in text


def test_pipelined_transactions(server):
    one = (b"MAIL FROM:<a@b>\r\nRCPT TO:<carl@example.org>\r\nDATA\r\n"
           b"Subject: pipe\r\n\r\nx\r\n.\r\n")
    before = len(server.files("carl"))
    out = raw(server.port, b"LHLO x\r\n" + one * 50 + b"QUIT\r\n")
    assert out.count("Saved") == 50, out[-500:]
    assert len(server.files("carl")) == before + 50


def test_refusals(server):
    out = raw(server.port, b"EHLO x\r\nMAIL FROM:<a@b>\r\nLHLO x\r\nRCPT TO:<carl@example.org>\r\n"
                           b"DATA\r\nMAIL FROM:<a@b> SIZE=999999999\r\nMAIL FROM:<a b\r\n"
                           b"MAIL FROM:<a@b> RET=HDRS\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<c@d>\r\n"
                           b"DATA\r\nRCPT TO:<../../etc@example.org>\r\nRCPT TO:<%d>\r\nNONSENSE\r\n"
                           b"VRFY x\r\nRSET\r\nQUIT\r\n")
    codes = [x[:3] for x in out.splitlines() if x[3:4] == " "]
    assert codes == ["220", "500", "503", "250", "503", "503", "552", "501", "555", "250", "503",
                     "503", "550", "550", "500", "252", "250", "221"], out


def test_hostile(server):
    assert "500 5.5.2 Line too long" in raw(server.port, b"x" * 10000)
    out = raw(server.port, b"LHLO x\r\n" + b"FOO\r\n" * 100)
    assert out.splitlines()[-1].startswith("421 4.7.0")
    big = b"MAIL FROM:<a@b>\r\nRCPT TO:<carl@example.org>\r\nDATA\r\n" + b"y" * 70 + b"\r\n" \
        + (b"z" * 1000 + b"\r\n") * 500 + b".\r\n"
    out = raw(server.port, b"LHLO x\r\n" + big + b"NOOP\r\nQUIT\r\n")
    codes = [x[:9] for x in out.splitlines() if x[3:4] == " "]
    assert codes[-3:] == ["550 5.3.4", "250 2.0.0", "221 2.0.0"], out


def test_big_message(where):
    with Lmtp(where) as s:
        body = b"".join(b"%08d " % i + b"q" * 60 + b"\r\n" for i in range(40000))
        c = s.connect()
        c.sendmail("a@b", ["anna@example.org", "ben@example.org"],
                   b"Subject: big\r\n\r\n" + body)
        assert c.getreply()[0] == 250
        c.close()
        for user in ("anna", "ben"):
            [text] = s.texts(user)
            assert text.endswith(body.replace(b"\r\n", b"\n"))


def test_strangers_are_refused(where):
    with Lmtp(where, options="-o mynetworks=192.0.2.0/24") as s:
        assert raw(s.port, b"").startswith("554 5.7.1")
        s.hato.wait_log(r"is not of mynetworks: refused")


def test_trouble_is_temporary(where):
    with Lmtp(where) as s:
        s.hato.write("mail/anna", "a file in the place of a Maildir\n")
        with s.connect() as c:
            c.ehlo("x")
            c.mail("a@b")
            c.rcpt("anna@example.org")
            c.docmd("DATA")
            c.send(b"Subject: x\r\n\r\n.\r\n")
            code, _ = c.getreply()
            assert code == 451


def test_killed_workers(where):
    """SIGKILL of mailbox workers under load: 250 means there, at least once."""
    with Lmtp(where) as s:
        def send(i):
            for k in range(40):
                tag = f"m{i}-{k}"
                for _ in range(50):
                    try:
                        with s.connect() as c:
                            c.sendmail("a@b", ["anna@example.org"],
                                       f"Subject: {tag}\r\n\r\nx\r\n")
                        done.append(tag)
                        break
                    except (smtplib.SMTPException, OSError):
                        pass
        done = []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(send, i) for i in range(4)]
            while not all(j.done() for j in jobs):
                for pid in workers(s.hato):
                    os.kill(pid, 9)
                wait_for(lambda: all(j.done() for j in jobs), 0.3)
        found = b"\n".join(s.texts("anna"))
        assert len(done) == 160
        for tag in done:
            assert f"Subject: {tag}\n".encode() in found, tag


def workers(hato):
    """Pids of the mailbox workers: children of its template."""
    template = hato.processes().get("template", (0, ""))[0]
    out = []
    for name in os.listdir("/proc"):
        s = status_of(name) if name.isdigit() else None
        if s and s.get("PPid") == str(template):
            out.append(int(name))
    return out


def test_reload_adds_and_takes_away(where):
    with Lmtp(where) as s:
        assert "lmtpd/0" in s.hato.processes()
        s.hato.master = "{port} inet n - n - - smtpd\npickup unix n - n 60 1 pickup\n"
        s.hato.write_conf()
        s.hato.command("reload", check=True)
        assert wait_for(lambda: "lmtpd/0" not in s.hato.processes())
        with pytest.raises(OSError):
            s.connect()


def test_behind_a_real_postfix(where):
    """virtual_transport = lmtp:unix:... of a Postfix that stays in front."""
    postfixpeer.need()
    with Lmtp(where) as s:
        sock = os.path.join(s.hato.main["queue_directory"], "public/mail")
        with postfixpeer.Postfix(where / "postfix", virtual_mailbox_domains="example.org",
                                 virtual_transport=f"lmtp:unix:{sock}",
                                 virtual_mailbox_maps="static:there") as p:
            with smtplib.SMTP("127.0.0.1", p.port, timeout=30) as c:
                for i in range(20):
                    c.sendmail("a@sender.example", ["anna@example.org", "ben@example.org"],
                               f"Subject: via {i}\r\n\r\n.x\r\n")
                c.sendmail("", ["nobody@example.org"], "Subject: lost\r\n\r\nx\r\n")
            assert wait_for(lambda: len(s.files("anna")) == 20 and len(s.files("ben")) == 20, 20), \
                p.log()
            assert wait_for(lambda: "User doesn't exist" in p.log()), p.log()
            assert wait_for(lambda: p.log().count("status=sent (250 2.0.0") == 40), p.log()
            assert b"Return-Path: <a@sender.example>\n" in s.texts("anna")[0]


def test_tls(where):
    """STARTTLS, TLS from the first byte, and what is refused without."""
    cert, key = make_cert(f"{where}/tls")
    wrapped = free_port()
    with Lmtp(where, options="-o smtpd_tls_security_level=encrypt\n"
              f"{wrapped} inet n - n - - lmtpd -o smtpd_tls_wrappermode=yes",
              smtpd_tls_cert_file=cert, smtpd_tls_key_file=key,
              smtpd_tls_security_level="may") as s:
        ctx = ssl._create_unverified_context()  # pylint: disable=protected-access
        c = s.connect()
        c.ehlo("x")
        assert c.mail("a@b")[0] == 530
        assert c.has_extn("starttls")
        assert c.starttls(context=ctx)[0] == 220
        assert c.mail("a@b")[0] == 503  # LHLO is forgotten
        c.ehlo("x")
        assert not c.has_extn("starttls")
        assert c.sendmail("a@b", ["anna@example.org"], "Subject: safe\r\n\r\nx\r\n") == {}
        c.close()
        assert "554 5.5.0" in raw(s.port, b"LHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@x>\r\n")
        with ctx.wrap_socket(socket.create_connection(("127.0.0.1", wrapped), 20)) as t:
            assert t.recv(100).startswith(b"220 ")
        assert len(s.files("anna")) == 1


def test_maxproc_limits_a_line(where):
    """Who comes when the line is full waits until somebody leaves."""
    s = Lmtp(where)
    s.hato.master = s.hato.master.replace("n - n - - lmtpd", "n - n - 1 lmtpd", 1)
    s.hato.write_conf()
    with s:
        n = sum(name.startswith("lmtpd/") for name in s.hato.processes())
        first = [socket.create_connection(("127.0.0.1", s.port), 10) for _ in range(n)]
        for c in first:
            assert c.recv(100).startswith(b"220 ")
        with socket.create_connection(("127.0.0.1", s.port), 1) as late:
            with pytest.raises(TimeoutError):
                late.recv(100)
            first[0].close()
            late.settimeout(10)
            assert late.recv(100).startswith(b"220 ")
        for c in first:
            c.close()
