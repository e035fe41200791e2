"""TLS of mail that is sent: levels, DANE, MTA-STS, reports."""
import email
import gzip
import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading

import pytest

from hatotest import Hato, free_port, wait_for
from internet import Internet
from sink import Session, Sink
from smtptalk import FRIEND, Talk, TestClock

# covers: smtp_tls_security_level smtp_tls_policy_maps smtp_tls_loglevel smtp_tls_CAfile


# ---- certificates

def openssl(*args):
    p = subprocess.run(["openssl", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=60, check=False)
    assert p.returncode == 0, (args, p.stderr.decode())
    return p.stdout


class Certs:
    """An authority and certificates by it: good, wrong (for another name), old (expired);
    and `self`, which signs itself."""

    def __init__(self, where, names):
        self.dir = str(where)
        os.makedirs(self.dir, exist_ok=True)
        self.ca = self.path("ca.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", self.path("ca.key"), "-out", self.ca, "-days", "30",
                "-subj", "/CN=The Root", "-addext", "keyUsage=critical,keyCertSign")
        alt = ",".join("DNS:" + n for n in names)
        self.leaf("good", alt)
        self.leaf("wrong", "DNS:elsewhere.test")
        self.leaf("old", alt, expired=True)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", self.path("self.key"), "-out", self.path("self.pem"),
                "-days", "30", "-subj", "/CN=itself", "-addext",
                "subjectAltName=DNS:itself.test")

    def path(self, name):
        return os.path.join(self.dir, name)

    def leaf(self, name, alt, expired=False):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.path(name + ".key"), "-out", self.path(name + ".csr"),
                "-subj", "/CN=" + name)
        with open(self.path("ext"), "w", encoding="utf-8") as f:
            f.write("subjectAltName=" + alt + "\n")
        # An end before the beginning would do as well; this is how `x509 -req` can say it.
        days = "-1" if expired else "30"
        openssl("x509", "-req", "-in", self.path(name + ".csr"), "-CA", self.ca, "-CAkey",
                self.path("ca.key"), "-CAcreateserial", "-days", days, "-extfile",
                self.path("ext"), "-out", self.path(name + ".pem"))
        with open(self.path(name + ".pem"), "a", encoding="utf-8") as f, \
                open(self.ca, encoding="utf-8") as ca:
            f.write(ca.read())

    def context(self, name):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(self.path(name + ".pem"), self.path(name + ".key"))
        return c

    def der(self, name):
        return openssl("x509", "-in", self.path(name + ".pem"), "-outform", "DER")

    def spki(self, name):
        pem = openssl("x509", "-in", self.path(name + ".pem"), "-noout", "-pubkey")
        p = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem,
                           stdout=subprocess.PIPE, timeout=60, check=True)
        return p.stdout

    def tlsa(self, usage, selector, matching, name):
        data = self.spki(name) if selector else self.der(name)
        if matching:
            data = hashlib.new({1: "sha256", 2: "sha512"}[matching], data).digest()
        return f"TLSA {usage} {selector} {matching} {data.hex()}"


# ---- servers

class TlsSession(Session):
    def line(self):
        while True:
            text = super().line()
            how = self.sink.starttls
            if text.upper() != "STARTTLS" or how is None:
                return text
            self.c.sendall(b"220 2.0.0 go ahead\r\n")
            if how == "garbage":
                self.c.sendall(b"this is no TLS at all, and never will be\r\n")
                raise EOFError
            if how == "close":
                raise EOFError
            self.wrap(how)

    def wrap(self, context):
        self.c = context.wrap_socket(self.c, server_side=True)
        self.f = self.c.makefile("rb")
        with self.sink.lock:
            self.sink.tls += 1

    def run(self):
        if self.sink.wrapper:
            self.wrap(self.sink.wrapper)
        super().run()


class TlsSink(Sink):
    """`starttls`: a context, None (not offered), "garbage", "close"."""

    def __init__(self, starttls=None, wrapper=None, extra=(), **kw):
        offer = ("STARTTLS",) if starttls else ()
        super().__init__(ehlo=("PIPELINING", "8BITMIME", *extra, *offer), **kw)
        self.session = TlsSession
        self.starttls = starttls
        self.wrapper = wrapper
        self.tls = 0

    def run(self, c, number):
        s = self.session(self, c, number)
        try:
            s.run()
        except (OSError, EOFError, ValueError):
            pass
        finally:
            s.c.close()
            with self.lock:
                self.open.discard(c)


def send(h, *rcpts, params="", sender="me@example.com"):
    ids = {}
    with Talk(h, source=FRIEND) as t:
        t.hello()
        for r in rcpts:
            assert t(f"MAIL FROM:<{sender}>{params}")[:3] == "250"
            assert t(f"RCPT TO:<{r}>")[:3] == "250"
            assert t("DATA")[:3] == "354"
            t.send("Subject: hello\r\n\r\nbody\r\n")
            answer = t(".")
            assert answer[:3] == "250", answer
            ids[r] = answer.rsplit(" ", 1)[-1]
    return ids


def ends(h, rcpt, pattern, seconds=40):
    h.wait_log(rf"to=<{rcpt}>, .*{pattern}", seconds)


# ---- how mail ends

NOT_TRUSTED = r"dsn=4\.7\.5, status=deferred \(Server certificate not trusted\)"
NOT_VERIFIED = r"dsn=4\.7\.5, status=deferred \(Server certificate not verified\)"
NOT_OFFERED = r"dsn=4\.7\.4, status=deferred \(TLS is required, but was not offered"
PROBLEM = r"dsn=4\.7\.5, status=deferred \(client TLS configuration problem\)"
BROKEN = (r"dsn=4\.7\.5, status=deferred \((Cannot start TLS: handshake failure|"
          r"the server spoke in the clear behind STARTTLS)\)")
SENT = "status=sent"


# ---- DANE (RFC 7672)
# covers: smtp_tls_dane_insecure_mx_policy tls_dane_digests

DANE = {
    # domain: (server, TLSA of the MX host, how it ends)
    "ee": ("self", (3, 1, 1, "self"), r"status=sent"),
    "eefull": ("self", (3, 0, 0, "self"), r"status=sent"),
    "ee512": ("wrong", (3, 1, 2, "wrong"), r"status=sent"),
    "eeold": ("old", (3, 1, 1, "old"), r"status=sent"),
    "ta": ("good", (2, 0, 1, "ca"), r"status=sent"),
    "eewrong": ("self", (3, 1, 1, "good"),
                r"dsn=4\.7\.5, status=deferred \(Server certificate not trusted\)"),
    "taold": ("old", (2, 0, 1, "ca"),
              r"dsn=4\.7\.5, status=deferred \(Server certificate not trusted\)"),
    "tawrong": ("wrong", (2, 0, 1, "ca"),
                r"dsn=4\.7\.5, status=deferred \(Server certificate not verified\)"),
    "clear": ("clear", (3, 1, 1, "self"),
              r"dsn=4\.7\.4, status=deferred \(TLS is required, but was not offered by host "),
    "broken": ("garbage", (3, 1, 1, "self"), BROKEN),
    # RFC 7672 3.1.3 and 2.1.1: TLS without a proof.
    "pkix": ("self", (1, 1, 1, "good"), r"status=sent"),
    "pkixclear": ("clear", (1, 1, 1, "good"), r"dsn=4\.7\.4, status=deferred"),
    # No TLSA: by chance.
    "none": ("self", None, r"status=sent"),
    "noneclear": ("clear", None, r"status=sent"),
    "nonebroken": ("garbage", None, BROKEN),
    "noneclose": ("close", None, BROKEN),
}
SERVERS = {"good": 2, "self": 3, "old": 4, "wrong": 5, "clear": 6, "garbage": 7, "close": 8}


@pytest.fixture(scope="module", name="certs")
def fixture_certs(shared_where):
    names = [f"mx.{d}.test" for d in (*DANE, *STS)]
    names += ["mx.level.test", "level.test"]
    c = Certs(shared_where / "certs", names)
    c.leaf("web", ",".join(f"DNS:mta-sts.{d}.test" for d in STS if d != "badcert"))
    for base, _, files in os.walk(c.dir):
        for f in files:
            os.chmod(os.path.join(base, f), 0o644)
    return c


class Servers:
    """A server for each kind of certificate, on addresses of its own and one port."""

    def __init__(self, certs, extra=()):
        self.port = free_port()
        self.sinks = {}
        for name, n in SERVERS.items():
            how = {"clear": None, "garbage": "garbage", "close": "close"}
            starttls = how[name] if name in how else certs.context(name)
            self.sinks[name] = TlsSink(starttls, host=f"127.0.0.{n}", port=self.port,
                                       extra=extra)

    def __enter__(self):
        for s in self.sinks.values():
            s.__enter__()
        return self

    def __exit__(self, *exc):
        for s in self.sinks.values():
            s.__exit__(*exc)

    def __getitem__(self, name):
        return self.sinks[name]


def main_cf(net, servers, **more):
    return {**net.conf(), "relayhost": "", "smtp_tcp_port": str(servers.port),
            "smtp_tls_loglevel": "1", **more}


def test_dane(where, certs):
    net = Internet(where / "dns")
    with Servers(certs) as servers:
        for domain, (server, tlsa, _) in DANE.items():
            zone = {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS[server]}"}
            if tlsa:
                zone[f"_{servers.port}._tcp.mx"] = certs.tlsa(*tlsa)
            net.zone(domain + ".test", zone, signed=True)
        tlsa = {f"_{servers.port}": certs.tlsa(3, 1, 1, "self")}
        host = {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS['self']}"}
        wrong = {f"_{servers.port}._tcp.mx": certs.tlsa(3, 1, 1, "good")}
        # The host is known for sure, its TLSA records are not.
        for name in ("bogus", "servfail"):
            net.zone(f"{name}.test", {"@": "MX 10 mx"}, signed=True)
            net.zone(f"mx.{name}.test", {"@": host["mx"]}, signed=True)
        net.zone("_tcp.mx.bogus.test", tlsa, signed="bogus")
        net.hostile("_tcp.mx.servfail.test", {"*": "servfail"})
        # Without DNSSEC nothing counts, not even a wrong digest.
        net.zone("unsigned.test", {**host, **wrong}, signed=False)
        # An MX that is not known for sure leads to a host that is.
        for name in ("half", "halfdane", "halfmust"):
            net.zone(name + ".test", {"@": "MX 10 mx.eewrong.test."}, signed=False)
        # Of two digests the better one counts.
        for name in ("agile", "agile256"):
            net.zone(name + ".test", {**host, f"_{servers.port}._tcp.mx":
                                      [certs.tlsa(3, 1, 2, "good"), certs.tlsa(3, 1, 1, "self")]},
                     signed=True)
        master = "127.0.0.1:{port} inet n - n - - smtpd\n"
        for name, o in (("halfdane", "smtp_tls_dane_insecure_mx_policy=dane"),
                        ("halfmust", "smtp_tls_dane_insecure_mx_policy=encrypt"),
                        ("agile256", "tls_dane_digests=sha256")):
            master += f"{name} unix - - n - - smtp\n  -o {o}\n"
        maps = "inline:{{{{ {} }}}}".format(", ".join(
            f"{n}.test={n}:" for n in ("halfdane", "halfmust", "agile256")))
        maps = maps.replace("{{", "{").replace("}}", "}")
        main = main_cf(net, servers, transport_maps=maps)
        h = Hato(where, main=main, master=master)
        clock = TestClock(h)
        with net:
            h.start(env=clock.env)
            others = {"bogus": r"dsn=4\.7\.5, status=deferred \(TLSA lookup error for mx\.bogus",
                      "servfail": r"dsn=4\.7\.5, status=deferred \(TLSA lookup error for "
                                  r"mx\.servfail\.test:",
                      "unsigned": "status=sent", "half": SENT, "halfmust": SENT,
                      "halfdane": NOT_TRUSTED, "agile": NOT_TRUSTED, "agile256": SENT}
            try:
                send(h, *[f"x@{d}.test" for d in (*DANE, *others)])
                for domain, (_, _, end) in DANE.items():
                    ends(h, f"x@{domain}.test", end)
                for domain, end in others.items():
                    ends(h, f"x@{domain}.test", end)
                log = h.log()
                for domain in ("ee", "ta", "eeold"):
                    assert f"Verified TLS connection established to mx.{domain}.test[" in log
                for domain in ("none", "unsigned", "pkix"):
                    assert f"Untrusted TLS connection established to mx.{domain}.test[" in log
                assert "certificate verification failed for mx.eewrong.test[" in log
                # Not at the first attempt; later in the clear.
                clock.move(3600)
                for domain in ("nonebroken", "noneclose"):
                    ends(h, f"x@{domain}.test", SENT)
                assert "to=<x@broken.test>" in h.log()
                assert not any("x@broken" in str(m.rcpts) for m in servers["garbage"].messages)
            finally:
                h.stop()
            assert servers["close"].tls == 0



# ---- levels and their names, as TLS_README tells them
# covers: smtp_tls_verify_cert_match smtp_tls_secure_cert_match smtp_tls_protocols
# covers: smtp_tls_fingerprint_cert_match smtp_tls_fingerprint_digest smtp_tls_ciphers
# covers: smtp_tls_mandatory_protocols smtp_tls_mandatory_ciphers smtp_tls_exclude_ciphers
# covers: smtp_tls_mandatory_exclude_ciphers smtp_tls_servername smtp_tls_scert_verifydepth
# covers: smtp_tls_session_cache_timeout tls_wildcard_matches_multiple_labels

# next hop in the policy table: (server, policy, how it ends)
LEVELS = {
    "none": ("self", "none", SENT),
    "may": ("self", "may", SENT),
    "mayclear": ("clear", "may", SENT),
    "maybroken": ("garbage", "may", BROKEN),
    "encrypt": ("self", "encrypt", SENT),
    "encclear": ("clear", "encrypt", NOT_OFFERED),
    "verify": ("good", "verify match=mx.level.test", SENT),
    "verhost": ("good", "verify", NOT_VERIFIED),
    "verself": ("self", "verify match=mx.level.test", NOT_TRUSTED),
    "verold": ("old", "verify match=mx.level.test", NOT_TRUSTED),
    "secure": ("good", "secure match=level.test:.level.test", SENT),
    "secdot": ("good", "secure match=.level.test", SENT),
    "secwrong": ("wrong", "secure match=level.test", NOT_VERIFIED),
    "secnext": ("good", "secure", NOT_VERIFIED),
    "finger": ("self", "fingerprint match={self}", SENT),
    "fingerkey": ("self", "fingerprint match=00:11|{selfkey}", SENT),
    "fingerno": ("self", "fingerprint match=00:11", NOT_TRUSTED),
    "daneonly": ("self", "dane-only", r"dsn=4\.7\.5, status=deferred \(non DNSSEC destination\)"),
    "tls12": ("self", "encrypt protocols=TLSv1.2 ciphers=high exclude=AES128", SENT),
    "tls13": ("self", "encrypt protocols=>=TLSv1.3", SENT),
    "nolevel": ("self", "perhaps", PROBLEM),
    "noattr": ("self", "encrypt color=blue", PROBLEM),
    "noversion": ("self", "encrypt protocols=TLSv9", PROBLEM),
    "nograde": ("self", "encrypt ciphers=best", PROBLEM),
    "sni": ("self", "encrypt servername=asked.test", SENT),
    "tafile": ("good", "verify match=mx.level.test tafile={goodpem}", SENT),
    "tafiles": ("good", "secure match=mx.level.test tafile={selfpem} tafile={ca}", SENT),
    "tafileself": ("self", "secure match=itself.test tafile={selfpem}", SENT),
    "tafilename": ("self", "secure match=mx.level.test tafile={selfpem}", NOT_VERIFIED),
    "tafileonly": ("good", "verify match=mx.level.test tafile={selfpem}", NOT_TRUSTED),
    "tafilegone": ("good", "verify match=mx.level.test tafile=/no/such", PROBLEM),
    "tafilekey": ("good", "verify match=mx.level.test tafile={selfkeyfile}", PROBLEM),
    "tafilelevel": ("good", "encrypt tafile={selfpem}", PROBLEM),
    "sub.parent": ("clear", None, NOT_OFFERED),
}


def fingerprint(data, digest="sha256"):
    h = hashlib.new(digest, data).hexdigest()
    return ":".join(h[i:i + 2] for i in range(0, len(h), 2))


def test_levels(where, certs):
    prints = {"self": fingerprint(certs.der("self")), "selfkey": fingerprint(certs.spki("self")),
              "goodpem": certs.path("good.pem"), "selfpem": certs.path("self.pem"),
              "selfkeyfile": certs.path("self.key"), "ca": certs.ca}
    transport = where / "transport"
    policy = where / "policy"
    asked = []
    with Servers(certs) as servers:
        servers["self"].starttls.sni_callback = lambda s, name, c: asked.append(name)
        hops = {d: f"[127.0.0.{SERVERS[server]}]:{servers.port}"
                for d, (server, _, _) in LEVELS.items()}
        # Next hops of their own: host names that only /etc/hosts could know do not serve,
        # so each domain has a name of DNS.
        net = Internet(where / "dns")
        for d, (server, _, _) in LEVELS.items():
            net.zone(f"{d}.test", {"@": f"A 127.0.0.{SERVERS[server]}"})
        transport.write_text("".join(f"{d}.test smtp:{d}.test\n" for d in LEVELS) +
                             f"port.test smtp:{hops['encclear']}\n")
        policy.write_text("".join(f"{d}.test {p.format(**prints)}\n"
                                  for d, (_, p, _) in LEVELS.items() if p) +
                          f".parent.test encrypt\n{hops['encclear']} encrypt\n")
        main = main_cf(net, servers, transport_maps=f"texthash:{transport}",
                       smtp_tls_policy_maps=f"texthash:{policy}",
                       smtp_tls_CAfile=certs.ca, smtp_tls_security_level="none")
        with net, Hato(where, main=main) as h:
            send(h, *[f"x@{d}.test" for d in LEVELS], "x@port.test")
            for d, (_, _, end) in LEVELS.items():
                ends(h, f"x@{d}.test", end)
            ends(h, "x@port.test", NOT_OFFERED)
            log = h.log()
            assert "connection established to none.test[" not in log
            assert "Untrusted TLS connection established to may.test[" in log
            assert "Verified TLS connection established to verify.test[" in log
            assert "Verified TLS connection established to finger.test[" in log
            assert "tls12.test[127.0.0.3]:%d: TLSv1.2 with cipher " % servers.port in log
            assert "tls13.test[127.0.0.3]:%d: TLSv1.3 with cipher " % servers.port in log
            assert "asked.test" in asked
            assert "tafile=/no/such: open /no/such: No such file or directory" in log
            # A session goes on.
            send(h, "y@sni.test")
            ends(h, "y@sni.test", SENT)


def one(where, certs, server, end, net=None, log=None, **more):
    """A message to a host whose address is a literal."""
    with Servers(certs) as servers:
        hop = f"[127.0.0.{SERVERS[server]}]:{servers.port}"
        with Hato(where, main={"relayhost": hop, "smtp_tls_loglevel": "1", **more}) as h:
            send(h, "x@far.test")
            ends(h, "x@far.test", end)
            if log:
                h.wait_log(log)
            return servers[server].tls


ROWS = {
    "verify": ("good", NOT_VERIFIED, dict(smtp_tls_security_level="verify")),
    "match": ("good", SENT, dict(smtp_tls_security_level="verify",
                                 smtp_tls_verify_cert_match="mx.level.test, nexthop")),
    "secure": ("good", SENT, dict(smtp_tls_security_level="secure",
                                  smtp_tls_secure_cert_match="mx.level.test")),
    "fingerprint": ("self", SENT, dict(smtp_tls_security_level="fingerprint",
                                       smtp_tls_fingerprint_digest="sha512",
                                       smtp_tls_fingerprint_cert_match="{sha512}")),
    "old names": ("clear", NOT_OFFERED, dict(smtp_enforce_tls="yes",
                                             smtp_tls_enforce_peername="no")),
    "old peername": ("self", NOT_TRUSTED, dict(smtp_enforce_tls="yes")),
    "protocols": ("self", SENT, dict(smtp_tls_security_level="encrypt",
                                     smtp_tls_mandatory_protocols="!TLSv1.3",
                                     smtp_tls_mandatory_ciphers="high",
                                     smtp_tls_mandatory_exclude_ciphers="AES128")),
    "by chance": ("self", SENT, dict(smtp_use_tls="yes", smtp_tls_protocols="TLSv1.2",
                                     smtp_tls_ciphers="medium",
                                     smtp_tls_exclude_ciphers="aNULL, SEED")),
    "anchor": ("good", SENT, dict(smtp_tls_security_level="verify", smtp_tls_CAfile="",
                                  smtp_tls_verify_cert_match="mx.level.test",
                                  smtp_tls_trust_anchor_file="{anchor}")),
    "path": ("good", SENT, dict(smtp_tls_security_level="verify", smtp_tls_CAfile="",
                                smtp_tls_verify_cert_match="mx.level.test",
                                smtp_tls_CApath="{capath}")),
    "default CA": ("good", NOT_TRUSTED, dict(smtp_tls_security_level="verify",
                                             smtp_tls_CAfile="{self}",
                                             tls_append_default_CA="yes")),
    "wrapper": ("wrapped", SENT, dict(smtp_tls_wrappermode="yes",
                                      smtp_tls_security_level="encrypt")),
    "wrapper may": ("wrapped", PROBLEM, dict(smtp_tls_wrappermode="yes",
                                             smtp_tls_security_level="may")),
    "offer": ("self", SENT, dict(smtp_tls_security_level="none",
                                 smtp_tls_note_starttls_offer="yes")),
    "policy": ("clear", NOT_OFFERED, dict(smtp_tls_policy_maps="static:encrypt",
                                          smtp_tls_security_level="none")),
    "site none": ("clear", SENT, dict(smtp_tls_security_level="encrypt",
                                      smtp_tls_per_site="inline:{{{{ {hop}=NONE }}}}")),
    "site must": ("self", NOT_TRUSTED, dict(smtp_tls_per_site="static:MUST")),
    "site nomatch": ("clear", NOT_OFFERED, dict(smtp_tls_per_site="static:must_nopeermatch")),
    "site may": ("clear", SENT, dict(smtp_tls_security_level="none",
                                     smtp_tls_per_site="static:MAY")),
    "site may not": ("clear", NOT_OFFERED, dict(smtp_tls_security_level="encrypt",
                                                smtp_tls_per_site="static:MAY")),
    "site host": ("clear", NOT_OFFERED, dict(
        smtp_tls_per_site="inline:{{{{ {hop}=MAY, {host}=MUST_NOPEERMATCH }}}}")),
    "site wrong": ("self", PROBLEM, dict(smtp_tls_per_site="static:maybe")),
    "site and map": ("clear", SENT, dict(smtp_tls_policy_maps="static:may",
                                         smtp_tls_per_site="static:MUST")),
    "depth": ("good", SENT, dict(smtp_tls_security_level="verify", smtp_tls_scert_verifydepth="5",
                                 smtp_tls_verify_cert_match="mx.level.test",
                                 smtp_tls_servername="hostname",
                                 smtp_tls_force_insecure_host_tlsa_lookup="yes",
                                 smtp_tls_session_cache_timeout="0")),
}
# covers: smtp_tls_per_site lmtp_tls_per_site
# covers: smtp_enforce_tls smtp_use_tls smtp_tls_enforce_peername smtp_tls_CApath
# covers: smtp_tls_trust_anchor_file smtp_tls_wrappermode smtp_tls_note_starttls_offer
# covers: tls_append_default_CA lmtp_tls_security_level lmtp_tls_CAfile lmtp_tls_policy_maps
# covers: lmtp_tls_verify_cert_match lmtp_tls_loglevel smtp_tls_force_insecure_host_tlsa_lookup
# covers: lmtp_enforce_tls lmtp_tls_CApath lmtp_tls_ciphers lmtp_tls_enforce_peername
# covers: lmtp_tls_exclude_ciphers lmtp_tls_fingerprint_cert_match lmtp_tls_fingerprint_digest
# covers: lmtp_tls_force_insecure_host_tlsa_lookup lmtp_tls_mandatory_ciphers lmtp_use_tls
# covers: lmtp_tls_mandatory_exclude_ciphers lmtp_tls_mandatory_protocols
# covers: lmtp_tls_note_starttls_offer lmtp_tls_protocols lmtp_tls_scert_verifydepth
# covers: lmtp_tls_secure_cert_match lmtp_tls_servername lmtp_tls_session_cache_timeout
# covers: lmtp_tls_trust_anchor_file lmtp_tls_wrappermode


def test_settings(where, certs):
    """Each row is a transport of its own, so that one server shows them all."""
    capath = where / "capath"
    capath.mkdir()
    (capath / "12345678.0").write_text(open(certs.ca, encoding="utf-8").read())
    (capath / "README").write_text("no certificate\n")
    words = {"sha512": fingerprint(certs.der("self"), "sha512"), "capath": str(capath),
             "anchor": certs.path("good.pem"), "ca": certs.ca, "self": certs.path("self.pem")}
    master = "127.0.0.1:{port} inet n - n - - smtpd\n"
    transport = where / "transport"
    with Servers(certs) as servers, \
            TlsSink(wrapper=certs.context("self"), host="127.0.0.20") as wrapped:
        text = ""
        for i, (server, _, settings) in enumerate(ROWS.values()):
            hop = (f"[127.0.0.20]:{wrapped.port}" if server == "wrapped" else
                   f"[127.0.0.{SERVERS[server]}]:{servers.port}")
            words.update(hop=hop, host=hop[1:].split("]")[0])
            # The same by LMTP, whose parameters have names of their own.
            for kind in ("smtp", "lmtp"):
                inet = "inet:" if kind == "lmtp" else ""
                text += f"{kind}{i}.test {kind}{i}:{inet}{hop}\n"
                master += f"{kind}{i} unix - - n - - {kind}\n"
                for k, v in {"smtp_tls_loglevel": "1", "smtp_tls_CAfile": "{ca}",
                             **settings}.items():
                    k, v = k.replace("smtp_", kind + "_"), v.format(**words)
                    master += f"  -o {{{{ {k} = {v} }}}}\n"
        transport.write_text(text)
        with Hato(where, main={"transport_maps": f"texthash:{transport}", "relayhost": ""},
                  master=master) as h:
            send(h, *[f"x@{kind}{i}.test" for kind in ("smtp", "lmtp") for i in range(len(ROWS))])
            for i, (_, end, _) in enumerate(ROWS.values()):
                ends(h, f"x@smtp{i}.test", end)
                ends(h, f"x@lmtp{i}.test", end)
            log = h.log()
            assert log.count("Host offered STARTTLS: [127.0.0.3]") == 2
            assert log.count(": TLSv1.2 with cipher ") == 4



# ---- MTA-STS (RFC 8461)
# covers: smtp_tls_mta_sts smtp_tls_mta_sts_CAfile smtp_tls_mta_sts_port

class PolicyHost:
    """HTTPS on one address: what it says at /.well-known/mta-sts.txt."""

    def __init__(self, context, host, port=0):
        self.context = context
        self.answers = {}  # Host -> (status, body) or bytes
        self.asked = []
        self.posted = []
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.s.bind((host, port))
        self.port = self.s.getsockname()[1]
        self.s.listen(50)

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *exc):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.s.close()

    def accept(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(c,), daemon=True).start()

    def run(self, c):
        try:
            c.settimeout(20)
            with self.context.wrap_socket(c, server_side=True) as t, t.makefile("rb") as f:
                self.answer(t, f)
        except (OSError, ValueError):
            pass
        finally:
            c.close()

    def answer(self, t, f):
        method, path, _ = f.readline().decode().split()
        fields = {}
        while (line := f.readline().strip()):
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        host = fields["host"].split(":")[0]
        self.asked.append((host, path))
        if method == "POST":
            self.posted.append((fields["content-type"], f.read(int(fields["content-length"]))))
        what = self.answers.get(host, (404, ""))
        if isinstance(what, tuple):
            status, body = what
            what = (f"HTTP/1.1 {status} Thing\r\nContent-Type: text/plain\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
        t.sendall(what)
        if what == STALL:
            t.recv(1)


def policy(*mx, mode="enforce", age=86400):
    return "".join(f"{x}\r\n" for x in ("version: STSv1", f"mode: {mode}", f"max_age: {age}",
                                        *[f"mx: {m}" for m in mx]))


NOT_LISTED = r"dsn=4\.7\.5, status=deferred \(host mx\.\w+\.test is not in the MTA-STS policy of"

STALL = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nversion"

STS = {
    # domain: (server of the MX, what the policy host says, how it ends)
    "sts": ("good", policy("mx.sts.test"), SENT),
    "wild": ("good", policy("a.test", "*.wild.test"), SENT),
    "unlisted": ("good", policy("other.unlisted.test"), NOT_LISTED),
    "stsold": ("old", policy("mx.stsold.test"), NOT_TRUSTED),
    "stsname": ("wrong", policy("mx.stsname.test"), NOT_VERIFIED),
    "stsself": ("self", policy("mx.stsself.test"), NOT_TRUSTED),
    "stsclear": ("clear", policy("mx.stsclear.test"), NOT_OFFERED),
    "testing": ("self", policy("mx.testing.test", mode="testing"), SENT),
    "testing2": ("clear", policy("other.test", mode="testing"), SENT),
    "modenone": ("clear", policy(mode="none"), SENT),
    # What is no policy holds nobody.
    "moved": ("clear", b"HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.sts.test/\r\n\r\n", SENT),
    "gone": ("clear", (404, policy("x.test")), SENT),
    "garbled": ("clear", (200, "version: STSv1\r\nmode: enforce\r\n"), SENT),
    "toolong": ("clear", (200, policy("x.test") + "a: b\r\n" * 20000), SENT),
    "html": ("clear", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" +
             policy("x.test").encode(), SENT),
    "cut": ("clear", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nversion", SENT),
    "chunks": ("good", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
               b"%x\r\n" % len(policy("o.test")) + policy("o.test").encode() + b"\r\n0\r\n\r\n",
               NOT_LISTED),
    "badcert": ("clear", policy("x.test"), SENT),
    "fields": ("clear", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20000, SENT),
    "stall": ("clear", STALL, SENT),
    "nohost": ("clear", None, SENT),
    # DANE takes precedence.
    "stsdane": ("self", policy("other.test"), SENT),
}


def test_mta_sts(where, certs):
    net = Internet(where / "dns")
    def zones(servers, number):
        for d, (server, _, _) in STS.items():
            zone = {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS[server]}",
                    "_mta-sts": f'TXT "v=STSv1; id={number};"'}
            if d != "nohost":
                zone["mta-sts"] = "A 127.0.0.30"
            if d == "stsdane":
                zone[f"_{servers.port}._tcp.mx"] = certs.tlsa(3, 1, 1, "self")
            net.zone(d + ".test", zone, signed=d == "stsdane", ttl=1)

    with Servers(certs) as servers, PolicyHost(certs.context("web"), "127.0.0.30") as web:
        for d, (_, what, _) in STS.items():
            if what is not None:
                web.answers[f"mta-sts.{d}.test"] = (200, what) if isinstance(what, str) else what
        zones(servers, 1)
        h = Hato(where, main=main_cf(net, servers, smtp_tls_mta_sts_CAfile=certs.ca,
                                     smtp_tls_mta_sts_port=str(web.port)))
        clock = TestClock(h)
        with net:
            h.start(env=clock.env)
            try:
                send(h, *[f"x@{d}.test" for d in STS])
                for d, (_, _, end) in STS.items():
                    if d != "stall":
                        ends(h, f"x@{d}.test", end)
                # Who stalls is waited for a minute.
                assert "x@stall.test" in h.command("queue").stdout
                clock.move(61)
                ends(h, "x@stall.test", SENT)
                log = h.log()
                assert "MTA-STS policy of fields.test: the answer's header is too long" in log
                assert "MTA-STS policy of toolong.test: the answer is longer than" in log
                for d in ("sts", "wild", "stsdane"):
                    assert f"Verified TLS connection established to mx.{d}.test[" in log
                assert "MTA-STS policy of badcert.test: " in log
                said = h.command("probe", "fetcher", check=True).stdout
                assert said.count("=allowed") == 1 and "inet=allowed" in said
                asked = web.asked.count(("mta-sts.unlisted.test", "/.well-known/mta-sts.txt"))
                assert asked == 1 and ("mta-sts.stsdane.test", "/.well-known/mta-sts.txt") \
                    not in web.asked
                # Kept: nobody is asked again.
                send(h, "kept@unlisted.test")
                ends(h, "kept@unlisted.test", NOT_LISTED)
                assert web.asked.count(("mta-sts.unlisted.test",
                                        "/.well-known/mta-sts.txt")) == 1
                # A new id: fetched anew; what cannot be had changes nothing.
                web.answers["mta-sts.unlisted.test"] = (200, policy("mx.unlisted.test"))
                web.answers["mta-sts.chunks.test"] = (500, "")
                zones(servers, 2)
                net.start()
                wait_for(lambda: False, 2)
                clock.move(7200)
                send(h, "new@unlisted.test", "new@chunks.test")
                ends(h, "new@unlisted.test", SENT)
                ends(h, "new@chunks.test", NOT_LISTED)
                h.wait_log("MTA-STS policy of chunks.test: .*the one before stays in use")
                # And over a restart.
                wait_for(lambda: False, 1)
                h.stop()
                h.start(env=clock.env)
                send(h, "again@chunks.test")
                ends(h, "again@chunks.test", NOT_LISTED)
                # Until its time is over.
                clock.move(2 * 86400)
                send(h, "late@chunks.test")
                ends(h, "late@chunks.test", SENT)
            finally:
                h.stop()



# ---- reports (RFC 8460)
# covers: smtp_tls_reporting smtp_tls_reporting_sender

def test_reports(where, certs):
    net = Internet(where / "dns")
    with Servers(certs) as servers, PolicyHost(certs.context("web"), "127.0.0.30") as web:
        for d, server in (("sts", "good"), ("stsself", "self"), ("ee", "self"), ("none", "clear"),
                          ("reports", "clear")):
            zone = {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS[server]}",
                    "mta-sts": "A 127.0.0.30",
                    "_smtp._tls": 'TXT "v=TLSRPTv1; rua=mailto:tls@reports.test"'}
            if d.startswith("sts"):
                zone["_mta-sts"] = 'TXT "v=STSv1; id=1;"'
                web.answers[f"mta-sts.{d}.test"] = (200, policy(f"mx.{d}.test"))
            if d == "sts":
                zone["_smtp._tls"] = ('TXT "v=TLSRPTv1;rua=https://mta-sts.sts.test:'
                                      f'{web.port}/v1/tlsrpt"')
            if d == "ee":
                zone[f"_{servers.port}._tcp.mx"] = certs.tlsa(3, 1, 1, "good")
            net.zone(d + ".test", zone, signed=d == "ee", ttl=1)
        h = Hato(where, main=main_cf(net, servers, smtp_tls_mta_sts_CAfile=certs.ca,
                                     smtp_tls_mta_sts_port=str(web.port),
                                     smtp_tls_reporting="yes",
                                     smtp_tls_reporting_sender="reports@example.com"))
        clock = TestClock(h)
        with net:
            h.start(env=clock.env)
            try:
                send(h, "a@sts.test", "a@stsself.test", "a@ee.test", "a@none.test")
                ends(h, "a@sts.test", SENT)
                ends(h, "a@stsself.test", NOT_TRUSTED)
                ends(h, "a@ee.test", NOT_TRUSTED)
                ends(h, "a@none.test", SENT)
                assert wait_for(lambda: "reported domains 4" in h.command("status").stdout,
                                30, 0.5), h.command("status").stdout
                clock.move(86400)
                assert wait_for(lambda: web.posted, 30), h.log()
                mail = servers["clear"].wait(4, 60)  # a@none and three reports
            finally:
                h.stop()
        kind, data = web.posted[0]
        assert kind == "application/tlsrpt+gzip"
        check_report(json.loads(gzip.decompress(data)), "sts.test", "sts", 1, None)
        got = {}
        for m in mail:
            message = email.message_from_bytes(m.data)
            if message["TLS-Report-Domain"]:
                assert m.mail.startswith("MAIL FROM:<reports@example.com>")
                assert message["Content-Type"].startswith("multipart/report; "
                                                          'report-type="tlsrpt"')
                part = message.get_payload()[1]
                assert part.get_content_type() == "application/tlsrpt+gzip"
                got[message["TLS-Report-Domain"]] = json.loads(
                    gzip.decompress(part.get_payload(decode=True)))
        assert sorted(got) == ["ee.test", "none.test", "stsself.test"]
        check_report(got["stsself.test"], "stsself.test", "sts", 0, "certificate-not-trusted")
        check_report(got["ee.test"], "ee.test", "tlsa", 0, "validation-failure")
        check_report(got["none.test"], "none.test", "no-policy-found", 0,
                     "starttls-not-supported")


def check_report(report, domain, kind, good, why):
    assert report["organization-name"] and report["report-id"]
    assert report["contact-info"] == "reports@example.com"
    (p,) = report["policies"]
    assert p["policy"]["policy-domain"] == domain
    assert p["policy"]["policy-type"] == kind
    if kind == "sts":
        assert "version: STSv1" in p["policy"]["policy-string"]
        assert p["policy"]["mx-host"] == [f"mx.{domain}"]
    if kind == "tlsa":
        assert p["policy"]["policy-string"][0].startswith("3 1 1 ")
    failed = p["summary"]["total-failure-session-count"]
    assert p["summary"]["total-successful-session-count"] == good
    # What was deferred may have been tried again when the day was over.
    assert failed >= 1 if why else failed == 0
    if why:
        (detail,) = p["failure-details"]
        assert detail["result-type"] == why
        assert detail["failed-session-count"] == failed
        assert detail["receiving-mx-hostname"] == "mx." + domain


# ---- REQUIRETLS (RFC 8689), at both ends

def inside_tls(t):
    t.hello()
    assert t("STARTTLS")[:3] == "220"
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    t.s = c.wrap_socket(t.s)


def test_requiretls(where, certs):
    net = Internet(where / "dns")
    with Servers(certs, extra=("REQUIRETLS",)) as servers:
        for d in ("dane", "secure", "unproved"):
            server = {"dane": "self", "secure": "good", "unproved": "self"}[d]
            name = "sts" if d == "secure" else d  # the certificate is for that
            zone = {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS[server]}"}
            if d == "dane":
                zone[f"_{servers.port}._tcp.mx"] = certs.tlsa(3, 1, 1, "self")
            net.zone(name + ".test", zone, signed=d != "unproved")
        net.zone("silent.test", {"@": "MX 10 mx", "mx": f"A 127.0.0.{SERVERS['old']}",
                                 f"_{servers.port}._tcp.mx": certs.tlsa(3, 1, 1, "old")},
                 signed=True)
        servers["old"].ehlo = tuple(w for w in servers["old"].ehlo if w != "REQUIRETLS")
        main = main_cf(net, servers, smtpd_tls_security_level="may",
                       smtpd_tls_cert_file=certs.path("self.pem"),
                       smtpd_tls_key_file=certs.path("self.key"),
                       smtp_tls_mta_sts_CAfile=certs.ca)
        with net, Hato(where, main=main) as h:
            with Talk(h, source=FRIEND) as t:
                assert "REQUIRETLS" not in t("EHLO me.test")
                assert t("MAIL FROM:<me@example.com> REQUIRETLS")[:3] == "555"
            with Talk(h, source=FRIEND) as t:
                inside_tls(t)
                assert "REQUIRETLS" in t.hello()
                assert t("MAIL FROM:<me@example.com> REQUIRETLS=1")[:3] == "555"
                for d in ("dane", "sts", "unproved", "silent"):
                    assert t("MAIL FROM:<me@example.com> REQUIRETLS")[:3] == "250"
                    assert t(f"RCPT TO:<x@{d}.test>")[:3] == "250"
                    assert t("DATA")[:3] == "354"
                    t.send("Subject: secret\r\n\r\nbody\r\n")
                    assert t(".")[:3] == "250"
            ends(h, "x@dane.test", SENT)
            ends(h, "x@sts.test", SENT)
            ends(h, "x@unproved.test", r"dsn=5\.7\.30, status=bounced")
            ends(h, "x@silent.test", r"dsn=5\.7\.30, status=bounced")
            for s in ("self", "good"):
                assert servers[s].messages[0].mail.endswith(" REQUIRETLS")
            assert len(servers["self"].messages) == 1 and not servers["old"].messages


# ---- certificates of our own
# covers: smtp_tls_cert_file smtp_tls_key_file smtp_tls_eccert_file smtp_tls_eckey_file
# covers: smtp_tls_chain_files lmtp_tls_cert_file lmtp_tls_key_file lmtp_tls_eccert_file
# covers: lmtp_tls_eckey_file lmtp_tls_chain_files

def test_client_certificates(where, certs):
    """Each transport shows its own, or none."""
    context = certs.context("self")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certs.ca)
    rows = {"none": ("smtp", {}, None),
            "pair": ("smtp", {"smtp_tls_cert_file": "good.pem", "smtp_tls_key_file": "good.key"},
                     "good"),
            "ec": ("smtp", {"smtp_tls_eccert_file": "wrong.pem",
                            "smtp_tls_eckey_file": "wrong.key"}, "wrong"),
            "chain": ("smtp", {"smtp_tls_chain_files": "web.both"}, "web"),
            "lmtp": ("lmtp", {"lmtp_tls_cert_file": "good.pem", "lmtp_tls_key_file": "good.key"},
                     "good"),
            "lmtpec": ("lmtp", {"lmtp_tls_eccert_file": "wrong.pem",
                                "lmtp_tls_eckey_file": "wrong.key"}, "wrong"),
            "lmtpchain": ("lmtp", {"lmtp_tls_chain_files": "web.both"}, "web")}
    with open(certs.path("web.both"), "w", encoding="utf-8") as f:
        for part in ("web.key", "web.pem"):
            with open(certs.path(part), encoding="utf-8") as g:
                f.write(g.read())
    os.chmod(certs.path("web.both"), 0o644)
    shown = {}

    class Session2(TlsSession):
        def data(self):
            cert = self.c.getpeercert() or {}
            names = [v for part in cert.get("subject", ()) for k, v in part if k == "commonName"]
            shown[self.rcpts[0]] = names[0] if names else None
            return super().data()

    with TlsSink(context, host="127.0.0.2") as s:
        s.session = Session2
        master = "127.0.0.1:{port} inet n - n - - smtpd\n"
        transport = where / "transport"
        text = ""
        for name, (kind, settings, _) in rows.items():
            inet = "inet:" if kind == "lmtp" else ""
            text += f"{name}.test {name}:{inet}[127.0.0.2]:{s.port}\n"
            master += f"{name} unix - - n - - {kind}\n"
            for k, v in {f"{kind}_tls_security_level": "encrypt", **settings}.items():
                v = certs.path(v) if "." in v else v
                master += f"  -o {k}={v}\n"
        transport.write_text(text)
        with Hato(where, main={"transport_maps": f"texthash:{transport}", "relayhost": ""},
                  master=master) as h:
            send(h, *[f"x@{name}.test" for name in rows])
            for name in rows:
                ends(h, f"x@{name}.test", SENT)
        assert shown == {f"RCPT TO:<x@{name}.test>": cn for name, (_, _, cn) in rows.items()}


def test_bad_settings(where, certs):
    """What cannot be meant is told before anything starts."""
    bad = {"smtp_tls_security_level": "always", "lmtp_tls_CAfile": "/nowhere/ca.pem",
           "smtp_tls_cert_file": certs.path("good.pem"),
           "smtp_tls_key_file": certs.path("self.key"),
           "smtp_tls_protocols": "TLSv1.7", "lmtp_tls_mandatory_protocols": "SSLv3",
           "smtp_tls_mandatory_ciphers": "best", "lmtp_tls_ciphers": "worst",
           "smtp_tls_exclude_ciphers": "!AES"}
    h = Hato(where, main=bad, master="strict unix - - n - - smtp\n"
                                     "  -o smtp_tls_mandatory_exclude_ciphers=@STRENGTH\n")
    p = h.command("check")
    out = p.stdout + p.stderr
    assert p.returncode != 0
    assert 'smtp_tls_security_level: "always" is no level' in out
    assert "/nowhere/ca.pem: No such file or directory" in out
    assert "does not fit the certificate in" in out
    assert 'main.cf' in out
    assert 'smtp_tls_protocols: "TLSv1.7" is no version of TLS' in out
    assert 'lmtp_tls_mandatory_protocols: no version of TLS is left' in out
    assert 'smtp_tls_mandatory_ciphers: "best" is no grade of ciphers' in out
    assert 'lmtp_tls_ciphers: "worst" is no grade of ciphers' in out
    assert 'smtp_tls_exclude_ciphers: "!AES" cannot be excluded' in out
    assert 'smtp_tls_mandatory_exclude_ciphers: "@STRENGTH" cannot be excluded' in out
    p = h.command("start")
    assert p.returncode != 0 and '"worst" is no grade of ciphers' in p.stdout + p.stderr
