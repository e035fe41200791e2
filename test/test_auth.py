"""Sign-in: AUTH of smtpd, auth's socket for others, PAM and shadow, hostile clients."""
import base64
import os
import re
import shutil
import smtplib
import socket
import struct
import subprocess
import threading
import time

import pytest

from authtalk import AuthTalk, Scram
from hatotest import Hato, IS_ROOT, MASTER_CF, free_port, wait_for

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")

SUBMISSION = """\
{{sub}} inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_sasl_authenticated_header=yes
"""
# joe's password is Dovecot's hash of "seCr t{}: é"
USERS = """\
# name:password:uid:gid:gecos:home:shell:extra
tomo@example.com:{PLAIN}secret::::::
joe@example.com:{SHA256-CRYPT}$5$7O6QByKVP/XyzubH$mesxz6WL9znFwFoyFVBKpTIE6jsJhabEPiXnsuEKSx8::::::
off@example.com:{PLAIN}secret::::::nologin
"""


class Mail(Hato):
    """With a submission port on self.sub and passwords in the file users."""

    def __init__(self, path, master="", main=None, sub="", **kw):
        self.sub = free_port()
        lines = SUBMISSION.replace("{{sub}}", str(self.sub)) + sub
        super().__init__(path, master=MASTER_CF + lines + master, main={
            "virtual_mailbox_domains": "example.com",
            "mydestination": "localhost",
            "userdb": f"passwd-file:{path}/users",
            "passdb": f"passwd-file:{path}/users",
            "mail_location": f"maildir:{path}/mail/%n",
            "auth_mechanisms": "plain login scram-sha-256 scram-sha-1",
            "auth_failure_delay": "1s",
            "first_valid_uid": "1",
            "mail_uid": str(os.geteuid() or 65534),
            "mail_gid": str(os.getegid() or 65534),
            **(main or {}),
        }, **kw)
        os.makedirs(self.path("mail"), exist_ok=True)
        self.write("users", USERS)
        os.chmod(self.path("users"), 0o600)

    def talk(self, port=None):
        s = smtplib.SMTP("127.0.0.1", port or self.sub, timeout=30)
        s.ehlo("client.example.org")
        return s


@pytest.fixture(name="mail")
def mail_fixture(where):
    with Mail(where) as h:
        yield h


def plain(name, password, act_as=""):
    return base64.b64encode(f"{act_as}\0{name}\0{password}".encode()).decode()


# covers: smtpd_sasl_auth_enable passdb auth_mechanisms
def test_mechanisms_and_relay(mail):
    """587 relays for who has signed in; 25 does not offer it at all (M7)."""
    s = mail.talk(mail.port)
    assert not s.has_extn("auth")
    assert s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "secret")) == \
        (503, b"5.5.1 Error: authentication not enabled")
    s.quit()
    s = mail.talk()
    assert s.esmtp_features["auth"].split() == \
        ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]
    assert s.docmd("MAIL", "FROM:<tomo@example.com>")[0] == 250
    assert s.docmd("RCPT", "TO:<a@elsewhere.example>")[0] == 554
    assert s.docmd("AUTH", "PLAIN x") == (503, b"5.5.1 Error: MAIL transaction in progress")
    s.rset()
    assert s.login("tomo@example.com", "secret")[0] == 235
    assert s.docmd("AUTH", "PLAIN x") == (503, b"5.5.1 Error: already authenticated")
    s.sendmail("tomo@example.com", ["joe@example.com", "a@elsewhere.example"],
               "Subject: hello\r\n\r\nbody\r\n")
    s.quit()
    m = mail.wait_log(r"submission/smtpd\[\d+\]: (\w+): client=unknown\[127\.0\.0\.1\], "
                      r"sasl_method=PLAIN, sasl_username=tomo@example\.com")
    mail.wait_log(rf"{m[1]}: to=<joe@example\.com>.*status=sent")
    mail.wait_log(rf"{m[1]}: to=<a@elsewhere\.example>")
    new = mail.path("mail/joe/new")
    with open(os.path.join(new, os.listdir(new)[0]), encoding="utf-8") as f:
        text = f.read()
    assert re.search(r"\n\t\(Authenticated sender: tomo@example\.com\)\n\tby mx\.example\.com "
                     r"\(\S+\) with ESMTPA id ", text)
    mail.wait_log(r"disconnect from unknown\[127\.0\.0\.1\] ehlo=1 auth=1/3 ")


# covers: auth_failure_delay
def test_refusals(mail):
    def tries(what):
        start = time.monotonic()
        s = mail.talk()
        got = s.docmd("AUTH", what)
        s.close()
        return got, time.monotonic() - start

    wrong, t1 = tries("PLAIN " + plain("joe@example.com", "wrong"))
    time.sleep(1.1)  # the client's second try waits
    unknown, t2 = tries("PLAIN " + plain("jim@example.com", "wrong"))
    assert wrong == unknown == (535, b"5.7.8 Error: authentication failed: (reason unavailable)")
    assert t1 >= 0.9 and t2 >= 0.9
    mail.wait_log(r"smtpd\[\d+\]: warning: unknown\[127\.0\.0\.1\]: SASL PLAIN authentication "
                  r"failed: \(reason unavailable\), sasl_username=joe@example\.com")
    s = mail.talk()
    assert s.docmd("AUTH")[0] == 501
    assert s.docmd("AUTH", "PLAIN a b")[0] == 501
    assert s.docmd("AUTH", "NTLM") == \
        (535, b"5.7.8 Error: authentication failed: Invalid authentication mechanism")
    assert s.docmd("AUTH", "PLAIN !!!!")[0] == 501
    assert s.docmd("AUTH", "LOGIN") == (334, b"VXNlcm5hbWU6")
    assert s.docmd("*") == (501, b"5.7.0 Authentication aborted")
    assert s.docmd("AUTH", "PLAIN") == (334, b"")
    assert s.docmd("=!")[0] == 501
    assert s.docmd("MAIL", "FROM:<a@example.com> AUTH=<>") == \
        (503, b"5.5.4 Error: send AUTH command first")
    s.docmd("AUTH", "LOGIN")
    assert s.docmd("A" * 13000)[0] == 500
    s.close()


def scram(sock, name, password, mech="SCRAM-SHA-256"):
    """The reply to the last line."""
    c = Scram(mech, name, password)
    code, line = sock.docmd(f"AUTH {mech} {c.first()}")
    assert code == 334, line
    code, line = sock.docmd(c.last(line.decode()))
    if code == 334:
        assert line.decode() == c.proof
        code, line = sock.docmd("")
    return code


@pytest.mark.parametrize("mech", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_scram(mail, mech):
    s = mail.talk()
    assert scram(s, "tomo@example.com", "secret", mech) == 235
    s.quit()
    mail.wait_log(rf"sasl_method={mech}" if False else "disconnect")
    s = mail.talk()
    assert scram(s, "tomo@example.com", "wrong", mech) == 535
    s.quit()
    time.sleep(1.1)
    s = mail.talk()
    assert scram(s, "nobody@example.com", "wrong", mech) == 535
    s.quit()


@pytest.mark.skipif(not shutil.which("swaks"), reason="no swaks")
@pytest.mark.parametrize("mech", ["PLAIN", "LOGIN"])
def test_swaks(mail, mech):
    p = subprocess.run(["swaks", "--server", f"127.0.0.1:{mail.sub}", "--auth", mech,
                        "--auth-user", "joe@example.com", "--auth-password", "seCr t{}: é",
                        "--from", "joe@example.com", "--to", "tomo@example.com"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60)
    assert p.returncode == 0, p.stdout.decode()
    mail.wait_log(rf"sasl_method={mech}, sasl_username=joe@example\.com")


@pytest.mark.skipif(not shutil.which("msmtp"), reason="no msmtp")
@pytest.mark.parametrize("mech", ["plain", "login", "scram-sha-256"])
def test_msmtp(mail, mech):
    p = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={mail.sub}", f"--auth={mech}",
                        "--user=tomo@example.com", "--passwordeval=echo secret", "--tls=off",
                        "--from=tomo@example.com", "joe@example.com"],
                       input=b"Subject: x\n\nhello\n", stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, check=False, timeout=60)
    text = p.stdout.decode()
    if "not" in text and "support" in text and mech.startswith("scram"):
        pytest.skip(text)
    assert p.returncode == 0, text
    mail.wait_log(rf"sasl_method={mech.upper()}, sasl_username=tomo@example\.com")


# covers: auth_username_chars auth_username_format auth_default_realm
def test_names(where):
    with Mail(where, main={"auth_default_realm": "example.com"}) as h:
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("TOMO", "secret"))[0] == 235
        s.quit()
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("tomo", "secret", "root"))[0] == 535
        s.quit()
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("off", "secret"))[0] == 535
        s.quit()
    with Mail(os.path.join(where, "x"), main={
            "auth_username_format": "%n@example.com", "auth_username_chars": "tom@x"}) as h:
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("tomo@xxx", "secret"))[0] == 235
        s.quit()
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("joe@example.com", "seCr t{}: é"))[0] == 535
        s.quit()


def test_hostile_names(mail):
    """Nothing of them is a path, a variable or a line; memory stays bounded."""
    names = ["../tomo", "/etc/passwd", "%d", "%u@%d", "a\nb", "\x01", "é" * 100, "a" * 1000,
             "tomo@example.com:{PLAIN}x", "*", "tomo@example.com\0x"]
    answers = []

    def one(name):
        s = mail.talk()
        answers.append(s.docmd("AUTH", "PLAIN " + plain(name, "secret"))[0])
        s.close()

    threads = [threading.Thread(target=one, args=(n,)) for n in names]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert answers == [535] * len(names)
    # 200 KB, as initial response and as answer
    s = socket.create_connection(("127.0.0.1", mail.sub), timeout=30)
    f = s.makefile("rwb")
    f.readline()
    big = base64.b64encode(b"\0" + b"a" * 200000 + b"\0secret")
    f.write(b"EHLO x\r\nAUTH PLAIN " + big + b"\r\n")
    f.flush()
    while not (line := f.readline()).startswith(b"250 "):
        pass
    line = f.readline()
    assert line.startswith(b"500 "), line
    f.write(b"AUTH LOGIN\r\n")
    f.flush()
    assert f.readline().startswith(b"334 ")
    f.write(big + b"\r\n")
    f.flush()
    assert f.readline().startswith(b"500 5.5.6")
    s.close()
    assert "panic" not in mail.log()
    s = mail.talk()
    assert s.login("tomo@example.com", "secret")[0] == 235


# covers: smtpd_sasl_security_options smtpd_sasl_mechanism_filter broken_sasl_auth_clients
# covers: smtpd_sasl_exceptions_networks smtpd_tls_auth_only smtpd_sasl_tls_security_options
# covers: smtpd_sasl_local_domain smtpd_sasl_response_limit smtpd_sasl_service
# covers: smtpd_sasl_authenticated_header
@pytest.mark.parametrize("options,want", [
    ("-o smtpd_sasl_security_options=noplaintext", ["SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ("-o smtpd_sasl_security_options=mutual_auth", ["SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ("-o smtpd_sasl_security_options=forward_secrecy", None),
    ("-o smtpd_sasl_mechanism_filter=login,plain", ["PLAIN", "LOGIN"]),
    ("-o smtpd_sasl_mechanism_filter=!plain,static:x", ["LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ("-o smtpd_sasl_exceptions_networks=127.0.0.0/8", None),
    ("-o smtpd_tls_auth_only=yes", None),
    ("-o smtpd_discard_ehlo_keywords=auth", None),
    ("-o broken_sasl_auth_clients=yes", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]),
])
def test_what_is_offered(where, options, want):
    with Mail(where, sub=f"  {options}\n") as h:
        s = h.talk()
        code, text = s.ehlo("x")
        assert code == 250
        got = re.findall(r"(?m)^AUTH (.*)", text.decode())
        assert (got[0].split() if got else None) == want
        assert ("AUTH=PLAIN LOGIN" in text.decode()) == ("broken" in options)
        code, _ = s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "secret"))
        allowed = 235 if want is None or "PLAIN" in want else 535
        if "tls_auth_only" in options:
            allowed = 538
        elif "discard" in options:
            allowed = 503
        elif "forward" in options:
            allowed = 535
        assert code == allowed


def test_local_domain_and_limits(where):
    h = Mail(where, main={"auth_username_format": "%Ln"}, sub="""\
  -o smtpd_sasl_local_domain=realm.example
  -o smtpd_sasl_response_limit=200
  -o smtpd_sasl_service=other
""")
    h.write("users", "tomo:{PLAIN}secret::::::\n")
    with h:
        s = h.talk()
        assert s.docmd("AUTH", "PLAIN " + plain("tomo", "secret"))[0] == 235
        s.sendmail("x@example.com", ["a@elsewhere.example"], "Subject: x\r\n\r\nx\r\n")
        h.wait_log(r"sasl_username=tomo@realm\.example")
        s.quit()
        s = h.talk()
        s.docmd("AUTH", "LOGIN")
        assert s.docmd("A" * 240)[0] == 500
        s.close()


# covers: smtpd_client_auth_rate_limit
def test_rate_of_auth(where):
    with Mail(where, sub="  -o smtpd_client_auth_rate_limit=2\n"
                         "  -o smtpd_client_event_limit_exceptions=\n") as h:
        codes = []
        for _ in range(3):
            s = h.talk()
            s.docmd("AUTH", "LOGIN")
            codes.append(s.docmd("*")[0])
            s.close()
        assert codes[:2] == [501, 501]
        s = h.talk()
        assert s.docmd("AUTH", "LOGIN") == \
            (450, b"4.7.1 Error: too many AUTH commands from 127.0.0.1")
        s.close()


# covers: smtpd_sender_login_maps
def test_sender_login(where):
    with Mail(where, main={"smtpd_sender_login_maps":
                           "inline:{ {tomo@example.com = tomo@example.com} "
                           "{joe@example.com = joe@example.com} }"},
              sub="  -o smtpd_sender_restrictions=reject_sender_login_mismatch\n") as h:
        s = h.talk()
        assert s.login("tomo@example.com", "secret")[0] == 235
        s.docmd("MAIL", "FROM:<joe@example.com>")
        assert s.docmd("RCPT", "TO:<joe@example.com>") == \
            (553, b"5.7.1 <joe@example.com>: Sender address rejected: "
                  b"not owned by user tomo@example.com")
        s.rset()
        assert s.docmd("MAIL", "FROM:<tomo@example.com> AUTH=joe+40example.com")[0] == 250
        assert s.docmd("RCPT", "TO:<joe@example.com>")[0] == 250
        assert s.data("Subject: x\r\n\r\nx\r\n")[0] == 250
        h.wait_log(r"sasl_username=tomo@example\.com, sasl_sender=joe@example\.com")
        s.quit()


# covers: auth_cache_size auth_cache_ttl auth_verbose disable_plaintext_auth
# covers: unix_listener_mode
def test_auth_socket(where):
    """Other programs speak Dovecot's protocol to the line `auth`."""
    with Mail(where, master=f"{where}/sock unix - - n - - auth\n"
                            "  -o unix_listener_mode=0666\n",
              main={"auth_verbose": "yes"}) as h:
        assert os.stat(h.path("sock")).st_mode & 0o777 == 0o666
        a = AuthTalk(h.path("sock"))
        assert a.mechs == ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]
        assert a.plain("tomo@example.com", "secret") == ["OK", "user=tomo@example.com"]
        assert a.plain("tomo@example.com", "secret", service="imap")[0] == "FAIL"
        # no tickets here, whatever is asked
        assert a.plain("tomo@example.com", "secret", service="imap", more="\tsecured") == \
            ["OK", "user=tomo@example.com"]
        assert a.plain("tomo@example.com", "wrong") == ["FAIL", "user=tomo@example.com"]
        assert a.plain("bob@example.com", "x", rip="192.0.2.77") == \
            ["FAIL", "user=bob@example.com"]
        h.wait_log(r"dovecot\[\d+\]: auth: passwd-file\(tomo@example\.com,192\.0\.2\.1\): "
                   "Password mismatch")
        h.wait_log(r"auth: passwd-file\(bob@example\.com,192\.0\.2\.77\): unknown user")
        # A changed password counts at once, whatever was checked before.
        assert a.plain("joe@example.com", "seCr t{}: é", rip="192.0.2.50")[0] == "OK"
        h.write("users", USERS.replace("{SHA256-CRYPT}$5$7O6", "{SHA256-CRYPT}$5$8O6"))
        h.wait_log("table passwd-file:.* has changed")
        assert wait_for(lambda: a.plain("joe@example.com", "seCr t{}: é",
                                        rip="192.0.2.50")[0] == "FAIL")
        status = h.command("status", check=True).stdout
        assert re.search(r"sign-ins good \d+, refused \d+", status)
        a.close()


def test_private_socket(where):
    with Mail(where, master="auth unix - - n - - auth\n") as h:
        assert os.stat(h.path("q/private/auth")).st_mode & 0o777 == 0o600
        a = AuthTalk(h.path("q/private/auth"))
        a.say("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + "A" * 100000)
        with pytest.raises((ConnectionResetError, AssertionError)):
            a.line()  # not the protocol: the end
        a = AuthTalk(h.path("q/private/auth"))
        assert a.plain("tomo@example.com", "secret")[0] == "OK"


def test_reload_and_death(mail):
    s = mail.talk()
    mail.write("users", USERS + "new@example.com:{PLAIN}fresh::::::\n")
    mail.main["auth_mechanisms"] = "plain"
    mail.write_conf()
    mail.command("reload", check=True)
    s = mail.talk()
    assert wait_for(lambda: s.docmd("AUTH", "PLAIN " + plain("new@example.com", "fresh"))[0] == 235,
                    15)
    pid = mail.processes()["auth"][0]
    os.kill(pid, 9)
    s = mail.talk()
    assert s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "secret"))[0] == 235
    s.quit()
    # A list that is wrong changes nothing.
    mail.main["auth_mechanisms"] = "plain ntlm"
    mail.write_conf()
    p = mail.command("reload")
    s = mail.talk()
    assert s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "secret"))[0] == 235, p.stdout


def test_reputation(where):
    """Who fails waits; the test's clock moves on, and he is forgiven."""
    clock = os.path.join(where, "clock")
    os.makedirs(where, exist_ok=True)
    with open(clock, "wb") as f:
        f.write(struct.pack("<q", 0))
    os.chmod(clock, 0o644)
    h = Mail(where, master=f"{where}/sock unix - - n - - auth\n  -o unix_listener_mode=0666\n",
             main={"auth_failure_delay": "0"})
    h.start(env={"HATO_TEST_CLOCK": clock})
    try:
        a = AuthTalk(h.path("sock"))

        def took(name, password, rip):
            start = time.monotonic()
            got = a.plain(name, password, rip=rip)[0]
            return got, time.monotonic() - start

        assert took("tomo@example.com", "secret", "203.0.113.9")[1] < 0.9
        got, t = took("tomo@example.com", "wrong", "203.0.113.1")
        assert got == "FAIL" and t < 0.9
        got, t = took("joe@example.com", "wrong", "203.0.113.1")
        assert got == "FAIL" and t > 0.8
        got, t = took("tomo@example.com", "secret", "203.0.113.1")
        assert got == "OK" and t > 1.8
        # now he is known there, and others elsewhere never waited
        assert took("tomo@example.com", "secret", "203.0.113.1")[1] < 0.9
        assert took("tomo@example.com", "secret", "198.51.100.1")[1] < 0.9
        # in place: a file cut to nothing under a mapping would kill who reads it
        with open(clock, "r+b") as f:
            f.write(struct.pack("<q", 2 * 3600 * 1000))
        got, t = took("joe@example.com", "wrong2", "203.0.113.1")
        assert got == "FAIL" and t < 0.9
        a.close()
    finally:
        h.stop()


def test_tables_give_no_passwords(mail):
    """What smtpd may ask of tables has no password in it."""
    s = mail.talk(mail.port)
    s.docmd("MAIL", "FROM:<>")
    assert s.docmd("RCPT", "TO:<tomo@example.com>")[0] == 250
    s.quit()
    text = mail.command("status", check=True).stdout
    assert "secret" not in text


FAIL2BAN = {
    # of fail2ban's filter.d/postfix.conf (mdre-auth) and filter.d/dovecot.conf
    "postfix": r"postfix(?:-\w+)?/\w+(?:/smtp[ds])?\[\d+\]: warning: [^[]*\[(?P<host>[^\]]+)\]: "
               r"SASL ((?i)LOGIN|PLAIN|(?:CRAM|DIGEST)-MD5) authentication failed:",
    "dovecot": r"dovecot\[\d+\]: auth: [a-z\-]{3,15}\(\S*,(?P<host>[^,)]+)(?:,\S*)?\): "
               r"(?:[Uu]nknown user|[Ii]nvalid credentials|[Pp]assword mismatch)",
}


def test_fail2ban(where):
    with Mail(where, main={"auth_verbose": "yes", "auth_failure_delay": "0"}) as h:
        s = h.talk()
        s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "wrong"))
        s.close()
        for name, pattern in FAIL2BAN.items():
            pattern = pattern.replace("((?i)LOGIN", "(LOGIN")
            assert wait_for(lambda p=pattern: re.search(p, h.log())), name
            assert re.search(pattern, h.log())["host"] == "127.0.0.1"


# covers: auth_worker_max_count unix_listener_user unix_listener_group
@needs_root
def test_shadow_and_pam(where):
    """As root, with a private passwd, shadow and pam.d in a mount namespace."""
    import crypt
    h = Mail(where, mode="users", users=["ann", "bob"],
             master=f"{where}/sock unix - - n - - auth\n  -o unix_listener_user=hato-smtp\n"
                    "  -o unix_listener_mode=0660\n",
             main={"passdb": "shadow, pam:hatotest", "auth_verbose": "yes",
                   "mydestination": "example.com", "virtual_mailbox_domains": "",
                   "userdb": "", "mail_location": "maildir:~/Maildir",
                   "auth_failure_delay": "0", "auth_worker_max_count": "2"})
    h.write("shadow", "ann:%s:19000:0:99999:7:::\nbob:!:19000:0:99999:7:::\n"
            "root:*:19000:0:99999:7:::\n" % crypt.crypt("geheim", crypt.mksalt()))
    os.chmod(h.path("shadow"), 0o600)
    os.makedirs(h.path("pam.d"), exist_ok=True)
    # bob may sign in by PAM with any password, ann by what shadow says
    h.write("pam.d/hatotest", "auth required pam_succeed_if.so user = bob quiet\n"
            "auth sufficient pam_permit.so\nauth required pam_deny.so\n"
            "account required pam_permit.so\n")
    h.inside = ["unshare", "-m", "sh", "-c",
                'for f in passwd group shadow; do mount --bind "$0/$f" /etc/$f || exit 1; done; '
                'mount --bind "$0/pam.d" /etc/pam.d && exec "$@"', h.dir]
    h.mode = "private"
    h.write_passwd()
    h.start()
    try:
        assert "authworker" in h.processes()
        st = os.stat(h.path("sock"))
        assert st.st_mode & 0o777 == 0o660 and st.st_uid != 0
        a = AuthTalk(h.path("sock"))
        assert a.plain("ann", "geheim") == ["OK", "user=ann"]
        assert a.plain("ann", "falsch")[0] == "FAIL"
        assert a.plain("bob", "any", rip="192.0.2.2") == ["OK", "user=bob"]
        assert a.plain("nobody", "x", rip="192.0.2.3")[0] == "FAIL"
        assert a.plain("root", "x", rip="192.0.2.4")[0] == "FAIL"
        h.wait_log(r"auth: shadow\(ann,192\.0\.2\.1\): Password mismatch")
        h.wait_log(r"auth: pam\(ann,192\.0\.2\.1\): pam_authenticate\(\) failed: ")
        assert "geheim" not in h.log() and "falsch" not in h.log()
        pid = h.processes()["authworker"][0]
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            assert re.search(r"(?m)^Uid:\s+0\s", f.read())
        # What PAM's modules need cannot be known; what none needs is refused.
        said = h.command("probe", "authworker", check=True).stdout
        assert "ptrace=refused" in said and "unshare=refused" in said
    finally:
        h.stop()


@needs_root
def test_real_postfix(where):
    """A real Postfix signs its clients in at our socket."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    postfix = os.path.join(top, "build/peers/postfix")
    if not os.path.exists(postfix + "/.done"):
        pytest.skip("tools/get-peers postfix")
    with Mail(where, master=f"{where}/sock unix - - n - - auth\n"
                            "  -o unix_listener_mode=0666\n") as h:
        port = free_port()
        d = h.path("postfix")
        os.makedirs(d + "/etc")
        os.makedirs(d + "/spool")
        os.makedirs(d + "/lib")
        with open(d + "/etc/main.cf", "w", encoding="utf-8") as f:
            f.write(f"""compatibility_level = 3.6
queue_directory = {d}/spool
data_directory = {d}/lib
command_directory = {postfix}/usr/sbin
daemon_directory = {postfix}/usr/lib/postfix/sbin
shlib_directory = {postfix}/usr/lib/postfix
myhostname = peer.example.org
inet_interfaces = 127.0.0.1
mydestination =
maillog_file = {d}/log
maillog_file_prefixes = /
alias_maps =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {h.path("sock")}
import_environment = MAIL_CONFIG TZ LD_LIBRARY_PATH
export_environment = MAIL_CONFIG TZ LD_LIBRARY_PATH
mail_owner = nobody
setgid_group = bin
default_privs = games
""")
        with open(d + "/etc/master.cf", "w", encoding="utf-8") as f:
            f.write(f"{port} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n"
                    "rewrite unix - - n - - trivial-rewrite\nanvil unix - - n - 1 anvil\n"
                    "proxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n")
        for name in ("private", "public", "pid", "active", "incoming"):
            os.makedirs(f"{d}/spool/{name}", exist_ok=True)
            shutil.chown(f"{d}/spool/{name}", "nobody")
        shutil.chown(d + "/lib", "nobody")
        os.chmod(where, 0o755)
        env = {**os.environ, "MAIL_CONFIG": d + "/etc",
               "LD_LIBRARY_PATH": f"{postfix}/usr/lib/postfix"}
        with subprocess.Popen([postfix + "/usr/lib/postfix/sbin/master", "-d", "-c", d + "/etc"],
                              env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
            try:
                def up():
                    try:
                        return smtplib.SMTP("127.0.0.1", port, timeout=10)
                    except OSError:
                        return None
                s = wait_for(up, 15)
                assert s, "Postfix does not start"
                s.ehlo("x")
                assert "PLAIN" in s.esmtp_features.get("auth", ""), s.esmtp_features
                assert s.docmd("AUTH", "PLAIN " + plain("tomo@example.com", "bad"))[0] == 535
                assert s.docmd("AUTH", "PLAIN " + plain("joe@example.com", "seCr t{}: é"))[0] \
                    == 235
                s.quit()
                s = smtplib.SMTP("127.0.0.1", port, timeout=10)
                s.ehlo("x")
                assert s.login("tomo@example.com", "secret")[0] == 235
                s.quit()
            finally:
                p.terminate()
