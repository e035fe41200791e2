"""Signing in to the servers that mail is sent to: smtp_sasl_*, lmtp_sasl_*.

What each parameter does in detail: src/smtp/client/test_sasl.c.
"""
import base64
import hashlib
import hmac
import os

import pytest

from hatotest import IS_ROOT, Hato, wait_for
from sink import EHLO, Sink
from test_auth import Mail
from test_smtp_client import send

NAME, PASSWORD = "tomo@example.com", "secret"
SIGN_IN = {"smtp_sasl_auth_enable": "yes", "smtp_sasl_security_options": "noanonymous",
           "smtp_tls_security_level": "none"}


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def ask(session, challenge):
    session.c.sendall(f"334 {challenge}\r\n".encode())
    return base64.b64decode(session.line(), validate=True)


def serve(session, line):
    """PLAIN, LOGIN, CRAM-MD5, XOAUTH2 and OAUTHBEARER as servers do."""
    _, mech, *first = line.split(" ")
    first = base64.b64decode(first[0], validate=True) if first else None
    good = False
    if mech == "PLAIN":
        good = (first or ask(session, "")) == f"\0{NAME}\0{PASSWORD}".encode()
    elif mech == "LOGIN":
        good = (ask(session, b64("Username:")), ask(session, b64("Password:"))) == (
            NAME.encode(), PASSWORD.encode())
    elif mech == "CRAM-MD5":
        challenge = b"<1896.697170952@sink.example>"
        digest = hmac.new(PASSWORD.encode(), challenge, hashlib.md5).hexdigest()
        good = ask(session, b64(challenge)) == f"{NAME} {digest}".encode()
    elif mech == "XOAUTH2":
        good = first == f"user={NAME}\1auth=Bearer {PASSWORD}\1\1".encode()
        if not good:
            ask(session, b64('{"status":"401"}'))
    elif mech == "OAUTHBEARER":
        good = (first.startswith(f"n,a={NAME},\1".encode()) and
                f"\1auth=Bearer {PASSWORD}\1\1".encode() in first)
    session.c.sendall(b"235 2.7.0 Authentication successful\r\n" if good else
                      b"535 5.7.8 Error: authentication failed\r\n")
    session.signed_in = good


def auth_sink(mechs, **kw):
    s = Sink(ehlo=(*EHLO, f"AUTH {mechs}"), **kw)
    s.auth = serve
    return s


def relay(where, port, passwords=None, main=None, **kw):
    maps = passwords or f"{{[127.0.0.1]:{port} = {NAME}:{PASSWORD}}}"
    return Hato(where, main={"relayhost": f"[127.0.0.1]:{port}", **SIGN_IN,
                             "smtp_sasl_password_maps": f"inline:{{{maps}}}",
                             **(main or {})}, **kw)


@pytest.mark.parametrize("offered,used", [
    ("PLAIN", "PLAIN"), ("LOGIN", "LOGIN"), ("LOGIN PLAIN", "PLAIN"),
    ("PLAIN CRAM-MD5", "CRAM-MD5"), ("XOAUTH2", "XOAUTH2"), ("OAUTHBEARER", "OAUTHBEARER")])
def test_mechanisms(where, offered, used):
    with auth_sink(offered) as s, relay(where, s.port) as h:
        send(h)
        s.wait()
        assert [c.split(" ")[1] for c in s.said("AUTH")] == [used]
        assert "secret" not in h.log() and b64(f"\0{NAME}\0{PASSWORD}") not in h.log()


def test_our_own_submission(where):
    """SCRAM with both proofs, against Hato itself; the password map is root's alone."""
    (where / "a").mkdir()
    (where / "b").mkdir()
    with Mail(where / "a") as far:
        mode = "users" if IS_ROOT else "one"
        h = Hato(where / "b", mode=mode, main={
            "relayhost": f"[127.0.0.1]:{far.sub}", **SIGN_IN, "mydestination": "",
            "smtp_sasl_security_options": "noplaintext, noanonymous, mutual_auth",
            "smtp_sasl_password_maps": f"hash:{where}/b/passwords"})
        h.write("passwords", f"[127.0.0.1]:{far.sub} {NAME}:{PASSWORD}\n")
        os.chmod(h.path("passwords"), 0o600)
        if IS_ROOT:
            os.chown(h.path("passwords"), 0, 0)
        with h:
            send(h, rcpts=("tomo@example.com",), sender="me@other.example")
            h.wait_log(r"to=<tomo@example\.com>, .*status=sent", 30)
            far.wait_log(r"sasl_method=SCRAM-SHA-256, sasl_username=tomo@example\.com")


def test_wrong_password(where):
    """Deferred, as smtp_sasl_auth_soft_bounce says; bounced without it, and remembered."""
    with auth_sink("PLAIN") as s:
        passwords = f"{{[127.0.0.1]:{s.port} = {NAME}:wrong}}"
        with relay(where / "x", s.port, passwords) as h:
            send(h)
            h.wait_log(r"dsn=4\.7\.8, status=deferred \(SASL authentication failed; server "
                       r"127\.0\.0\.1\[127\.0\.0\.1\].* said: 535 5\.7\.8 Error: authentication "
                       r"failed\)")
            assert not s.messages
        before = len(s.said("AUTH"))
        with relay(where / "y", s.port, passwords,
                   main={"smtp_sasl_auth_soft_bounce": "no",
                         "smtp_sasl_auth_cache_name": "btree:any"}) as h:
            for i in range(2):
                send(h, rcpts=(f"x{i}@far.example",))
                h.wait_log(rf"to=<x{i}@far\.example>, .*dsn=5\.7\.8, status=bounced \(SASL "
                           r"(\[CACHED\] )?authentication failed; server")
            assert "[CACHED]" in h.log()
            assert len(s.said("AUTH")) == before + 1


def test_nothing_fits(where):
    """No password in clear by default; no mail without the sign-in that is asked for."""
    with auth_sink("PLAIN LOGIN") as s, \
            relay(where, s.port, main={"smtp_sasl_security_options":
                                       "noplaintext, noanonymous"}) as h:
        send(h)
        h.wait_log(r"dsn=4\.7\.0, status=deferred \(SASL authentication failed; .*no mechanism "
                   r"available \(the security options \"noplaintext, noanonymous\" allow none that "
                   r"it offers\)")
        assert not s.said("AUTH") and not s.messages


def test_server_without_auth(where):
    """As with Postfix, a server that offers no AUTH gets the mail all the same."""
    with Sink() as s, relay(where, s.port) as h:
        send(h)
        s.wait()
        assert not s.said("AUTH")


def test_stranger(where):
    """Nor does one for which there is no password hear of AUTH."""
    with auth_sink("PLAIN") as s, relay(where, s.port, "{other.example = a:b}") as h:
        send(h)
        s.wait()
        assert not s.said("AUTH")


def test_by_sender(where):
    """smtp_sender_dependent_authentication: each sender signs in for himself, also where
    connections are kept."""
    with auth_sink("PLAIN") as s, \
            relay(where, s.port, f"{{ann@example.com = {NAME}:{PASSWORD}}} "
                  f"{{[127.0.0.1]:{s.port} = bob:{PASSWORD}}}",
                  main={"smtp_sender_dependent_authentication": "yes"}) as h:
        send(h, sender="ann@example.com")
        s.wait(1)
        send(h, sender="other@example.com")
        h.wait_log(r"status=deferred \(SASL authentication failed")
        assert s.said("AUTH") == [f"AUTH PLAIN {b64(x)}" for x in
                                  (f"\0{NAME}\0{PASSWORD}", f"\0bob\0{PASSWORD}")]
        assert len(s.messages) == 1


def test_lmtp(where):
    with auth_sink("PLAIN", lmtp=True) as s, \
            Hato(where, main={"relayhost": "", "default_transport": f"lmtp:[127.0.0.1]:{s.port}",
                              "lmtp_sasl_auth_enable": "yes",
                              "lmtp_sasl_security_options": "noanonymous",
                              "lmtp_sasl_password_maps":
                              f"inline:{{{{[127.0.0.1]:{s.port} = {NAME}:{PASSWORD}}}}}"}) as h:
        send(h)
        s.wait()
        assert [c.split(" ")[1] for c in s.said("AUTH")] == ["PLAIN"]


def test_lmtp_by_sender(where):
    """lmtp_sender_dependent_authentication, which smtp's does not touch."""
    with auth_sink("PLAIN", lmtp=True) as s, \
            Hato(where, main={"relayhost": "", "default_transport": f"lmtp:[127.0.0.1]:{s.port}",
                              "lmtp_sasl_auth_enable": "yes",
                              "lmtp_sender_dependent_authentication": "yes",
                              "lmtp_sasl_security_options": "noanonymous",
                              "lmtp_sasl_password_maps":
                              f"inline:{{{{ann@example.com = {NAME}:{PASSWORD}}} "
                              f"{{[127.0.0.1]:{s.port} = bob:{PASSWORD}}}}}"}) as h:
        send(h, sender="ann@example.com")
        s.wait(1)
        send(h, sender="other@example.com")
        wait_for(lambda: len(s.said("AUTH")) == 2, 60)
        assert s.said("AUTH") == [f"AUTH PLAIN {b64(x)}" for x in
                                  (f"\0{NAME}\0{PASSWORD}", f"\0bob\0{PASSWORD}")]


@pytest.mark.parametrize("answers", [
    ["334 !!!", "334 !!!"], ["334"], ["235 2.7.0 so soon"], [b"334 " + b"A" * 20000 + b"\r\n"],
    ["421 4.3.0 bye"], [None], ["334 " + b64("r=x,s=QQ==,i=1999999999")]])
def test_hostile_server(where, answers):
    """Deferred, whatever it says; nothing of the mail is sent to it."""
    with Sink({"AUTH": answers}, ehlo=(*EHLO, "AUTH SCRAM-SHA-1")) as s, \
            relay(where, s.port) as h:
        send(h)
        h.wait_log(r"to=<x@far\.example>, .*status=deferred \(")
        assert not s.said("MAIL") and not s.messages
