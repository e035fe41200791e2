"""TLS on smtpd, the process keys, certificates that change."""
import os
import re
import signal
import socket
import ssl
import subprocess
import time

import pytest

from hatotest import IS_ROOT, free_port, is_alive, wait_for
from mx import Mx
from smtptalk import STRANGER, Gone, Talk
from test_login import Reading

# covers: smtpd_tls_security_level smtpd_tls_cert_file smtpd_tls_key_file
# covers: smtpd_tls_loglevel smtpd_tls_received_header smtpd_tls_wrappermode
# covers: smtpd_tls_ask_ccert smtpd_tls_req_ccert smtpd_tls_CAfile
# covers: smtpd_tls_ccert_verifydepth smtpd_tls_fingerprint_digest relay_clientcerts
# covers: smtpd_tls_chain_files smtpd_tls_eccert_file smtpd_tls_eckey_file
# covers: smtpd_tls_protocols smtpd_tls_mandatory_protocols smtpd_starttls_timeout
# covers: tls_server_sni_maps smtpd_use_tls smtpd_enforce_tls plaintext_reject_code
# covers: smtpd_client_new_tls_session_rate_limit smtpd_tls_session_cache_timeout
# covers: tls_session_ticket_cipher

MASTER = """\
{port} inet n - n - - smtpd
%d inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o syslog_name=postfix/smtps
pickup unix n - n 60 1 pickup
"""


def make_cert(where, name, cn="mx.example.com", kind="P-256", days=30, issuer=None, joined=False):
    """NAME.pem and NAME.key, of `cn`."""
    cert, key = os.path.join(where, name + ".pem"), os.path.join(where, name + ".key")
    new = ["-newkey", "rsa:2048"] if kind == "RSA" else \
        ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{kind}"]
    if kind == "ED25519":
        new = ["-newkey", "ed25519"]
    signer = [] if issuer is None else ["-CA", os.path.join(where, issuer + ".pem"),
                                        "-CAkey", os.path.join(where, issuer + ".key")]
    subprocess.run(["openssl", "req", "-x509", *new, "-nodes", "-subj", f"/CN={cn}", "-days",
                    str(days), "-addext", f"subjectAltName=DNS:{cn}", "-keyout", key + ".new",
                    "-out", cert + ".new", *signer], check=True, capture_output=True)
    os.chmod(key + ".new", 0o600)
    if joined:
        with open(key + ".new", encoding="ascii") as k, open(cert + ".new", "a",
                                                             encoding="ascii") as c:
            c.write(k.read())
        os.chmod(cert + ".new", 0o600)
    os.rename(key + ".new", key)
    os.rename(cert + ".new", cert)
    return cert, key


class TlsMx(Mx):
    """An Mx with STARTTLS on its port and TLS from the first byte on `smtps`."""

    def __init__(self, path, main=None, kind="P-256", master=MASTER, **kw):
        self.smtps = free_port()
        os.makedirs(path, exist_ok=True)
        cert, key = make_cert(path, "server", kind=kind)
        super().__init__(path, main={
            "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert,
            "smtpd_tls_key_file": key, "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes", **(main or {})},
            master=master % self.smtps if "%d" in master else master, **kw)

    def pid(self, name):
        return self.processes()[name][0]


def context(ca=None, version=None, client=None):
    c = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    c.check_hostname = False
    if ca is None:
        c.verify_mode = ssl.CERT_NONE
    if version is not None:
        c.minimum_version = c.maximum_version = version
    if client is not None:
        c.load_cert_chain(*client)
    return c


class TlsTalk(Talk):
    """STARTTLS, or `wrap`: TLS first."""

    def __init__(self, h, ctx=None, name="mx.example.com", wrap=False, session=None,
                 source=STRANGER, hello=True):
        self.ctx, self.name, self.session = ctx or context(), name, session
        if wrap:
            super().__init__(h, source=source, greet=False)
            self.s.close()
            self.s = socket.create_connection(("127.0.0.1", h.smtps), 10, (source, 0))
            self.start()
            self.banner = self.reply()
        else:
            super().__init__(h, source=source)
            assert "STARTTLS" in super().hello()
            assert self("STARTTLS") == "220 2.0.0 Ready to start TLS"
            self.start()
        if hello:
            self.keywords = self.hello()

    def start(self):
        self.s = self.ctx.wrap_socket(self.s, server_hostname=self.name, session=self.session)

    def common_name(self):
        der = self.s.getpeercert(True)
        text = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"],
                              input=der, capture_output=True, check=True).stdout.decode()
        return text.split("CN = ")[1].strip()


@pytest.fixture(name="mx", scope="module")
def fixture_mx(shared_where):
    with TlsMx(shared_where) as h:
        yield h


# ---- the usual


def test_starttls(mx):
    with TlsTalk(mx, context(ca=mx.path("server.pem"))) as t:
        assert t.s.version() == "TLSv1.3"
        assert "STARTTLS" not in t.keywords
        assert t("STARTTLS") == "554 5.5.1 Error: TLS already active"
        t.mail(b"Subject: over tls\r\n\r\nhello\r\n")
        assert t("QUIT").startswith("221")
    mail = mx.mails("tomo")[-1]
    assert re.search(rb"\nReceived: from client\.example\.org \(unknown \[127\.0\.0\.2\]\)\n"
                     rb"\t\(using TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 \(256/256 bits\)\n"
                     rb"\t key-exchange X25519 server-signature ECDSA \(P-256\) server-digest "
                     rb"SHA256\)\n\t\(No client certificate requested\)\n"
                     rb"\tby mx\.example\.com \(Hato\) with ESMTPS id \w+\n"
                     rb"\tfor <tomo@example\.com>; ", mail.replace(b"(Postfix)", b"(Hato)")), mail
    mx.wait_log(r"smtpd\[\d+\]: Anonymous TLS connection established from unknown\[127\.0\.0\.2\]"
                r" to mx\.example\.com: TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 "
                r"\(256/256 bits\) key-exchange X25519 server-signature ECDSA \(P-256\) "
                r"server-digest SHA256\n")
    mx.wait_log(r"disconnect from unknown\[127\.0\.0\.2\] ehlo=2 starttls=1/2 mail=1 rcpt=1 "
                r"data=1 quit=1 commands=7/8")


def test_wrapper_mode(mx):
    with TlsTalk(mx, wrap=True) as t:
        assert t.banner.startswith("220 mx.example.com ESMTP")
        assert "STARTTLS" not in t.keywords
        t.mail(b"Subject: wrapped\r\n\r\nx\r\n")
    mx.wait_log(r"smtps/smtpd\[\d+\]: Anonymous TLS connection established")


def test_tls12(mx):
    with TlsTalk(mx, context(version=ssl.TLSVersion.TLSv1_2)) as t:
        assert t.s.version() == "TLSv1.2"
        assert t.s.cipher()[0].startswith("ECDHE-ECDSA-")
        t.mail(b"Subject: twelve\r\n\r\nx\r\n")
    mx.wait_log(r"TLSv1\.2 with cipher ECDHE-ECDSA-AES256-GCM-SHA384 \(256/256 bits\)\n")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(mx, version):
    p = subprocess.run(["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect",
                        f"127.0.0.1:{mx.smtps}"], input=b"", capture_output=True, check=False)
    assert p.returncode != 0
    mx.wait_log(r"SSL_accept error from unknown\[127\.0\.0\.1\]: -1\n.*warning: TLS library "
                r"problem: error:0A000102:SSL routines::unsupported protocol")


def test_s_client_and_swaks(mx):
    p = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect",
                        f"127.0.0.1:{mx.port}", "-CAfile", mx.path("server.pem"), "-quiet",
                        "-verify_return_error"], input=b"QUIT\r\n", capture_output=True,
                       check=False, timeout=20)
    assert p.returncode == 0, p.stderr
    for args in (["--tls", "--port", str(mx.port)], ["--tlsc", "--port", str(mx.smtps)]):
        p = subprocess.run(["swaks", "--server", "127.0.0.1", "--from", "s@example.net", "--to",
                            "ana@example.com", *args], capture_output=True, text=True,
                           check=False, timeout=30)
        assert p.returncode == 0, p.stdout


def test_state_is_forgotten(mx):
    with TlsTalk(mx, hello=False) as t:
        # RFC 3207 4.2: the EHLO and the MAIL of before count for nothing.
        assert t("RCPT TO:<tomo@example.com>") == "503 5.5.1 Error: need MAIL command"
    with Talk(mx) as t:
        t.hello()
        t.envelope()
        assert t("STARTTLS").startswith("220")
        t.s = context().wrap_socket(t.s)
        assert t("DATA").startswith("503 5.5.1")


def test_much_and_pipelined(mx):
    with TlsTalk(mx) as t:
        t.send("MAIL FROM:<s@example.net>\r\nRCPT TO:<tomo@example.com>\r\nDATA\r\n")
        assert [t.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        t.send(b"Subject: big\r\n\r\n" + b"x" * 70 * 1000 + b"\r\n" * 1000 +
               b"0123456789abcdef\r\n" * 60000 + b".\r\nNOOP\r\n")
        assert t.reply().startswith("250 2.0.0")
        assert t.reply() == "250 2.0.0 Ok"


# ---- what must not work


def test_injection(mx):
    with Talk(mx) as t:
        t.hello()
        t.send("STARTTLS\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<tomo@example.com>\r\n")
        assert t.reply().startswith("220")
        t.s = context().wrap_socket(t.s)
        t.hello()
        assert t("DATA").startswith("503 5.5.1")
    mx.wait_log(r"improper command pipelining after STARTTLS from unknown\[127\.0\.0\.2\]: "
                r"MAIL FROM:<evil@example\.net>")


def test_nonsense(mx):
    with Talk(mx) as t:
        t.hello()
        assert t("STARTTLS now") == "501 5.5.4 Syntax: STARTTLS"
        assert t("STARTTLS").startswith("220")
        t.send(b"GET / HTTP/1.0\r\n\r\n" * 10)
        with pytest.raises((Gone, ConnectionResetError)):
            while True:
                t.line()
    mx.wait_log(r"lost connection after STARTTLS from unknown\[127\.0\.0\.2\]")
    with Talk(mx) as t:
        t.hello()
        assert t("STARTTLS").startswith("220")
    mx.wait_log(r"SSL_accept error from unknown\[127\.0\.0\.2\]: lost connection")
    with TlsTalk(mx) as t:
        assert t("NOOP").startswith("250")


def test_slow_handshake(where):
    with TlsMx(where, main={"smtpd_starttls_timeout": "2s"}) as h:
        with Talk(h) as t:
            t.hello()
            assert t("STARTTLS").startswith("220")
            t.send(b"\x16\x03\x01")
            t0 = time.monotonic()
            with pytest.raises((Gone, ConnectionResetError)):
                t.line()
            assert 1 < time.monotonic() - t0 < 8


def test_rate(where):
    main = {"smtpd_client_new_tls_session_rate_limit": "2",
            "smtpd_client_event_limit_exceptions": ""}
    with TlsMx(where, main=main) as h:
        for _ in range(2):
            with TlsTalk(h):
                pass
        with Talk(h) as t:
            t.hello()
            assert t("STARTTLS") == ("454 4.7.0 Error: too many new TLS sessions from "
                                     "127.0.0.2")
            assert t("NOOP").startswith("250")
        h.wait_log(r"New TLS session rate limit exceeded: 3 from unknown\[127\.0\.0\.2\]")


# ---- levels


def test_encrypt(where):
    with TlsMx(where, main={"smtpd_tls_security_level": "encrypt",
                            "smtpd_tls_mandatory_protocols": ">=TLSv1.3"}) as h:
        with Talk(h) as t:
            t.hello()
            for verb in ("MAIL FROM:<>", "RCPT TO:<a@b>", "DATA", "RSET", "VRFY x", "ETRN x"):
                assert t(verb) == "530 5.7.0 Must issue a STARTTLS command first"
            assert t("NOOP") == "250 2.0.0 Ok"
        with TlsTalk(h) as t:
            t.mail(b"Subject: x\r\n\r\nx\r\n")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            TlsTalk(h, context(version=ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("main,offered,demanded", [
    ({"smtpd_use_tls": "yes"}, True, False), ({"smtpd_enforce_tls": "yes"}, True, True),
    ({}, False, False), ({"smtpd_tls_cert_file": "none", "smtpd_use_tls": "yes"}, False, False)])
def test_old_switches(where, main, offered, demanded):
    with TlsMx(where, main={"smtpd_tls_security_level": "", **main},
               master="{port} inet n - n - - smtpd\n") as h:
        assert ("keys" in h.processes()) == offered
        with Talk(h) as t:
            assert ("STARTTLS" in t.hello()) == offered
            assert t("MAIL FROM:<>").startswith("530" if demanded else "250")
            if not offered:
                assert t("STARTTLS") == (
                    "502 5.5.1 Error: command not implemented" if not main
                    else "454 4.7.0 TLS not available due to local problem")


# ---- names and several certificates


def test_names(where):
    path = str(where)
    one = make_cert(path, "one", "one.example.org", joined=True)[0]
    two = make_cert(path, "two", "two.example.net", kind="RSA", joined=True)[0]
    with open(os.path.join(path, "sni"), "w", encoding="ascii") as f:
        f.write(f"# names\none.example.org {one}\n.example.net\n    {two}\n")
    with TlsMx(path, main={"tls_server_sni_maps": f"hash:{path}/sni"}) as h:
        for name, cn in (("one.example.org", "one.example.org"),
                         ("ONE.example.org", "one.example.org"),
                         ("two.example.net", "two.example.net"),
                         ("x.y.example.net", "two.example.net"),
                         ("example.net", "mx.example.com"), (None, "mx.example.com"),
                         ("elsewhere.example", "mx.example.com")):
            with TlsTalk(h, name=name) as t:
                assert t.common_name() == cn, name
        h.wait_log(r"established from unknown\[127\.0\.0\.2\] to one\.example\.org: ")
        # A name more, without a restart.
        three = make_cert(path, "three", "three.example.org", joined=True)[0]
        with open(os.path.join(path, "sni.new"), "w", encoding="ascii") as f:
            f.write(f"three.example.org {three}\n")
        os.rename(os.path.join(path, "sni.new"), os.path.join(path, "sni"))
        h.own()

        def is_there():
            with TlsTalk(h, name="three.example.org") as t:
                return t.common_name() == "three.example.org"
        assert wait_for(is_there, 10, 0.3)


def test_two_kinds_and_chain_files(where):
    path = str(where)
    ec = make_cert(path, "ec")
    rsa = make_cert(path, "rsa", kind="RSA")
    both = make_cert(path, "both", cn="chain.example.com", kind="ED25519", joined=True)[0]
    main = {"smtpd_tls_cert_file": rsa[0], "smtpd_tls_key_file": rsa[1],
            "smtpd_tls_eccert_file": ec[0], "smtpd_tls_eckey_file": ec[1]}
    with TlsMx(path, main=main) as h:
        for sigs, kind in (("ECDSA+SHA256", "ECDSA (P-256)"), ("RSA-PSS+SHA256", "RSA-PSS (2048")):
            subprocess.run(["openssl", "s_client", "-sigalgs", sigs, "-connect",
                            f"127.0.0.1:{h.smtps}"], input=b"QUIT\r\n", capture_output=True,
                           check=True, timeout=20)
            h.wait_log(re.escape(f"server-signature {kind}"))
        h.main["smtpd_tls_chain_files"] = both
        h.write_conf()
        h.command("reload", check=True)
        with TlsTalk(h) as t:
            assert t.common_name() == "chain.example.com"
        h.wait_log(r"server-signature ED25519\n")


# ---- client certificates


def fingerprint(cert, digest="sha256"):
    text = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint",
                           f"-{digest}"], capture_output=True, check=True).stdout.decode()
    return text.split("=")[1].strip()


def test_client_certificates(where):
    path = str(where)
    ca = make_cert(path, "ca", "Our CA")[0]
    good = make_cert(path, "good", "good.example.org", issuer="ca")
    other = make_cert(path, "other", "other.example.org")
    main = {"smtpd_tls_ask_ccert": "yes", "smtpd_tls_CAfile": ca,
            "smtpd_tls_fingerprint_digest": "sha256",
            "relay_clientcerts": f"texthash:{path}/relay",
            "smtpd_relay_restrictions":
                "permit_tls_clientcerts, "
                f"check_ccert_access texthash:{path}/access, reject_unauth_destination"}
    with open(os.path.join(path, "relay"), "w", encoding="ascii") as f:
        f.write(f"{fingerprint(good[0])} good\n")
    with open(os.path.join(path, "access"), "w", encoding="ascii") as f:
        f.write(f"{fingerprint(other[0])} REJECT not you\n")
    far = "RCPT TO:<x@elsewhere.example>"
    with TlsMx(path, main=main) as h:
        with TlsTalk(h, context(client=good)) as t:
            assert t("MAIL FROM:<a@example.net>").startswith("250")
            # It may relay; that nobody sends yet is another matter.
            assert "Relay access denied" not in t(far)
            assert t("RCPT TO:<tomo@example.com>").startswith("250")
            assert t.data(b"Subject: c\r\n\r\nx\r\n").startswith("250")
        assert b'\n\t client-signature ECDSA (P-256) client-digest SHA256)\n' \
               b'\t(Client CN "good.example.org", Issuer "Our CA" (verified OK))\n' \
            in h.mails("tomo")[-1]
        h.wait_log(r"Trusted TLS connection established from")
        h.wait_log(r"unknown\[127\.0\.0\.2\]: subject_CN=good\.example\.org, issuer=Our CA, "
                   rf"fingerprint={fingerprint(good[0])}, pkey_fingerprint=([0-9A-F]{{2}}:?){{32}}")
        with TlsTalk(h, context(client=other)) as t:
            assert t("MAIL FROM:<a@example.net>").startswith("250")
            assert t(far) == ("554 5.7.1 <unknown[127.0.0.2]>: Client certificate rejected: "
                              "not you")
        h.wait_log(r"Untrusted TLS connection established from")
        with TlsTalk(h) as t:
            assert t("MAIL FROM:<a@example.net>").startswith("250")
            assert "Relay access denied" in t(far)
        h.main.update({"smtpd_tls_req_ccert": "yes", "smtpd_tls_security_level": "encrypt",
                       "smtpd_tls_ccert_verifydepth": "2"})
        h.write_conf()
        h.command("reload", check=True)
        with TlsTalk(h, context(client=good)) as t:
            assert t("NOOP").startswith("250")
        with TlsTalk(h, hello=False) as t:
            assert t.reply() == "421 4.7.1 mx.example.com Error: No client certificate presented"
        h.wait_log(r"NOQUEUE: abort: TLS from unknown\[127\.0\.0\.2\]: No client certificate")


def test_plaintext_refused(where):
    with TlsMx(where, main={"plaintext_reject_code": "451", "smtpd_sender_restrictions":
                            "reject_plaintext_session"}) as h:
        with Talk(h) as t:
            t.hello()
            assert t("MAIL FROM:<a@example.net>").startswith("250")
            assert t("RCPT TO:<tomo@example.com>") == (
                "451 4.7.1 <a@example.net>: Sender address rejected: Session encryption is "
                "required")
        with TlsTalk(h) as t:
            t.mail(b"Subject: x\r\n\r\nx\r\n")


# ---- sessions go on


def resume(h, ctx, session, n=8):
    """How many of n connections resumed; the session of the last."""
    hits = 0
    for _ in range(n):
        with TlsTalk(h, ctx, session=session) as t:
            hits += t.s.session_reused
            session = t.s.session
            t("QUIT")
    return hits, session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption(where, version):
    with TlsMx(where) as h:
        ctx = context(version=version)
        _, session = resume(h, ctx, None, 1)
        hits, session = resume(h, ctx, session)
        assert hits == 8  # whichever of the processes took it
        h.wait_log(r"Anonymous TLS connection reused from unknown\[127\.0\.0\.2\]")
        os.kill(h.pid("keys"), signal.SIGKILL)
        assert wait_for(lambda: (h.all_ready() or {}).get("keys"), 10)
        assert resume(h, ctx, session, 4)[0] == 4
        h.command("reload", check=True)
        time.sleep(0.5)
        # The keys process stays over a reload, and so do its ticket keys.
        with TlsTalk(h, ctx) as t:
            session = t.s.session
            t("NOOP")
            session = t.s.session
        assert resume(h, ctx, session, 4)[0] == 4


def test_no_tickets(where):
    with TlsMx(where, main={"tls_session_ticket_cipher": "",
                            "smtpd_tls_session_cache_timeout": "600s"}) as h:
        _, session = resume(h, context(version=ssl.TLSVersion.TLSv1_2), None, 1)
        assert session is None or not session.has_ticket


# ---- certificates that change, keys that die


def serial(h):
    with TlsTalk(h) as t:
        return t.s.getpeercert(True)


def test_rotation(where):
    path = str(where)
    with TlsMx(path) as h:
        old = serial(h)
        pid = h.pid("smtpd/0")
        make_cert(path, "server")
        h.own()
        assert wait_for(lambda: serial(h) != old, 10, 0.3)
        h.wait_log(r"key file \S+server\.key has changed")
        assert h.pid("smtpd/0") == pid
        now = serial(h)
        # Half of a pair: the old one serves, and somebody says so.
        make_cert(path, "next", kind="RSA")
        os.rename(h.path("next.pem"), h.path("server.pem"))
        h.wait_log(r"warning: no private key that was given fits the certificate in "
                   r"\S+server\.pem; the one before stays in use", 15)
        assert serial(h) == now
        os.rename(h.path("next.key"), h.path("server.key"))
        h.own()
        assert wait_for(lambda: serial(h) != now, 10, 0.3)
        now = serial(h)
        # Nonsense in the place of either.
        for name in ("server.key", "server.pem"):
            with open(h.path(name), encoding="ascii") as f:
                good = f.read()
            h.write(name, "nonsense\n")
            h.wait_log(rf"{'key' if name.endswith('key') else 'certificate'} file \S+{name} "
                       "cannot be used", 15)
            assert serial(h) == now
            h.write(name, good)
        # A configuration with such a file is refused.
        h.write("server.key", "nonsense\n")
        p = h.command("reload")
        assert p.returncode != 0 and "there is no private key in" in p.stdout + p.stderr
        assert serial(h) == now


def test_key_first(where):
    """The key is replaced first, the certificate a while later."""
    path = str(where)
    with TlsMx(path) as h:
        old = serial(h)
        make_cert(path, "next")
        os.rename(h.path("next.key"), h.path("server.key"))
        h.own()
        h.wait_log(r"key file \S+server\.key has changed")
        assert serial(h) == old
        os.rename(h.path("next.pem"), h.path("server.pem"))
        h.own()
        assert wait_for(lambda: serial(h) != old, 10, 0.3)


def test_certbot_directories(where):
    """live/NAME/fullchain.pem is a symbolic link into archive/, and is switched."""
    path = str(where)
    for n in ("1", "2"):
        cert, key = make_cert(path, "c" + n, f"v{n}.example.org")
        os.rename(cert, os.path.join(path, f"fullchain{n}.pem"))
        os.rename(key, os.path.join(path, f"privkey{n}.pem"))
    os.mkdir(os.path.join(path, "live"))

    def switch(n):
        for name in ("fullchain", "privkey"):
            new = os.path.join(path, "live", "new")
            os.symlink(f"../{name}{n}.pem", new)
            os.rename(new, os.path.join(path, "live", name + ".pem"))
    switch("1")
    with TlsMx(path, main={"smtpd_tls_cert_file": f"{path}/live/fullchain.pem",
                           "smtpd_tls_key_file": f"{path}/live/privkey.pem"}) as h:
        def name():
            with TlsTalk(h) as t:
                return t.common_name()
        assert name() == "v1.example.org"
        switch("2")
        assert wait_for(lambda: name() == "v2.example.org", 10, 0.3)


def test_keys_killed(mx):
    pid = mx.pid("keys")
    with TlsTalk(mx) as t:
        os.kill(pid, signal.SIGKILL)
        with TlsTalk(mx) as other:  # waits for the next one
            other.mail(b"Subject: while keys was away\r\n\r\nx\r\n")
        t.mail(b"Subject: before\r\n\r\nx\r\n")
    assert mx.pid("keys") != pid
    assert not is_alive(pid)


# ---- only keys has the key


def key_bytes(path):
    with open(path, encoding="ascii") as f:
        return "".join(f.read().split("\n")[1:-2])


def test_isolation(where):
    if not IS_ROOT:
        pytest.skip("needs root, for users of their own")
    path = str(where)
    # Both in one file: what smtpd gets of it must be the certificate alone.
    cert = make_cert(path, "joined", joined=True)[0]
    secret = key_bytes(os.path.join(path, "joined.key"))
    os.unlink(os.path.join(path, "joined.key"))
    with TlsMx(path, main={"smtpd_tls_cert_file": cert, "smtpd_tls_key_file": cert},
               mode="users") as h:
        with TlsTalk(h) as t:
            t("NOOP")
        inode = os.stat(cert).st_ino
        processes = {name: pid for name, (pid, _) in h.processes().items()}
        assert os.stat(f"/proc/{processes['keys']}").st_uid not in (
            0, os.stat(f"/proc/{processes['smtpd/0']}").st_uid)
        for name, pid in processes.items():
            if name == "keys":
                continue
            for fd in os.listdir(f"/proc/{pid}/fd"):
                assert os.stat(f"/proc/{pid}/fd/{fd}").st_ino != inode, name
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if "memfd:certificates" in link:
                    with open(f"/proc/{pid}/fd/{fd}", encoding="ascii") as f:
                        assert "PRIVATE" not in f.read()
        # Nor is it in the memory of who speaks TLS.
        for name, pid in processes.items():
            if name.startswith("smtpd/"):
                assert secret[40:80].encode() not in memory_of(pid), name


def memory_of(pid):
    out = b""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            span, rights = line.split()[:2]
            start, end = (int(x, 16) for x in span.split("-"))
            if "rw" not in rights or end - start > 64 << 20:
                continue
            try:
                mem.seek(start)
                out += mem.read(end - start)
            except (OSError, ValueError, OverflowError):
                pass
    return out


# ---- hato check


@pytest.mark.parametrize("change,text", [
    ({"smtpd_tls_cert_file": "/no/such"}, "smtpd_tls_cert_file: /no/such: No such file"),
    ({"smtpd_tls_key_file": "{other}.key"}, "does not fit the certificate in"),
    ({"smtpd_tls_key_file": "{server}.pem"}, "there is no private key in"),
    ({"smtpd_tls_cert_file": "{server}.key"}, "no certificate in PEM|no key id"),
    ({"smtpd_tls_cert_file": "{old}.pem", "smtpd_tls_key_file": "{old}.key"},
     "expires within a week"),
    ({"smtpd_tls_ciphers": "best"}, '"best" is no grade of ciphers'),
    ({"smtpd_tls_protocols": "SSLv3"}, "neither TLSv1.2 nor TLSv1.3 is allowed"),
    ({"tls_server_sni_maps": "regexp:/etc/passwd"}, "the names must be known at start"),
    ({"smtpd_tls_cert_file": "", "smtpd_tls_security_level": "encrypt"},
     "demands TLS, but there is no certificate"),
])
def test_check(where, change, text):
    path = str(where)
    make_cert(path, "other")
    make_cert(path, "old", days=1)
    names = {n: os.path.join(path, n) for n in ("server", "other", "old")}
    h = TlsMx(path, main={k: v.format(**names) for k, v in change.items()},
              master="{port} inet n - n - - smtpd\n")
    p = h.command("check")
    assert re.search(text, p.stderr), p.stderr
    is_warning = "expires" in text
    assert (p.returncode == 0) == is_warning, p.stderr
    if not is_warning:
        assert h.command("start").returncode != 0


def test_check_says_who_may_read_the_key(where):
    h = TlsMx(str(where))
    os.chmod(h.path("server.key"), 0o644)
    p = h.command("check")
    assert p.returncode == 0 and "is readable for others" in p.stderr


# ---- IMAP and POP3


def cn_of(port, name, alpn=None):
    """The name in the certificate of a port with wrapper mode; None: refused."""
    args = ["-alpn", alpn] if alpn else []
    p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername",
                        name, *args], input=b"", capture_output=True, check=False, timeout=20)
    m = re.search(rb"subject=CN = (\S+)", p.stdout)
    return m and m[1].decode()


def test_mailbox_ports(where):
    path = str(where)
    own = make_cert(path, "own", "imap.example.org", kind="RSA")
    one = make_cert(path, "one", "one.example.org", joined=True)[0]
    with Reading(path, ssl_cert=f"<{own[0]}", ssl_key=f"<{own[1]}",
                 tls_server_sni_maps=f"inline:{{ {{one.example.org = {one}}} }}") as r:
        for port in ("imaps", "pop3s"):
            assert cn_of(r.ports[port], "imap.example.org") == "imap.example.org"
            assert cn_of(r.ports[port], "one.example.org") == "one.example.org"
            # RFC 7301: who wants another protocol is at the wrong door.
            assert cn_of(r.ports[port], "x.example", port[:4]) == "imap.example.org"
            assert cn_of(r.ports[port], "x.example", "h2") is None
        # Sessions go on, whichever process of login made the ticket.
        ctx, session = context(), None
        for i in range(6):
            with socket.create_connection(("127.0.0.1", r.ports["imaps"]), 10) as plain, \
                    ctx.wrap_socket(plain, session=session) as s:
                assert s.recv(100).startswith(b"* OK")
                assert s.session_reused == (i > 0)
                session = s.session
        # SMTP shows its own, and a ticket of IMAP is no session of SMTP.
        with Talk(r.hato) as t:
            t.hello()
            assert t("STARTTLS").startswith("220")
            t.s = ctx.wrap_socket(t.s, session=session)
            assert not t.s.session_reused
        make_cert(path, "own", "new.example.org", kind="RSA")
        r.hato.own()
        assert wait_for(lambda: cn_of(r.ports["imaps"], "x") == "new.example.org", 10, 0.3)


def test_mailboxes_without_tls(where):
    with Reading(str(where), ssl="no", disable_plaintext_auth="no") as r:
        with socket.create_connection(("127.0.0.1", r.ports["imap"]), 10) as s:
            assert b"STARTTLS" not in s.recv(1000)
        assert r.imap(user="anna").noop()[0] == "OK"  # wrapper mode is said on its line
