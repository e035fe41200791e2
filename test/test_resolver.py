"""The resolver end to end: `hato dns` asks the running one, on a test internet with
signed, bogus and expired zones and hostile name servers."""
import os
import time

import pytest
from hatotest import Hato, IS_ROOT
from internet import Hostile, Internet

TEMPFAIL = 75
USAGE = 64


@pytest.fixture(name="net", scope="module")
def fixture_net(shared_where):
    net = Internet(shared_where / "net")
    net.zone("example.test", {
        "@": ["MX 10 mx", "MX 20 mx2.plain.test.", 'TXT "v=spf1 -all" " x\\"y"'],
        "mx": ["A 127.0.0.2", "AAAA ::1"],
        "_25._tcp.mx": "TLSA 3 1 1 " + "ab" * 32,
        "www": "CNAME mx", "null": "MX 0 .",
        "_imap._tcp": "SRV 1 2 143 mx",
        "many": [f"A 127.1.{i >> 8}.{i & 255}" for i in range(300)],
    }, signed=True)
    net.zone("plain.test", {"@": "MX 5 mx", "mx2": "A 127.0.0.3"})
    net.zone("bogus.test", {"@": "MX 5 mx", "mx": "A 127.0.0.4"}, signed="bogus")
    net.zone("old.test", {"mx": "A 127.0.0.4"}, signed="expired")
    net.zone("127.in-addr.arpa", {"2.0.0": "PTR mx.example.test."})
    net.hostile("evil.test", {
        "@": "A 127.0.0.9", "fails": "servfail", "refuses": "refused", "quiet": "silent",
        "junk": "garbage", "lies": "lie", "id": "wrong_id", "cut": "truncated", "loop": "loop",
        "big": "huge", "nil": "empty", "*": "chain"})
    with net:
        yield net


@pytest.fixture(name="h", scope="module")
def fixture_h(net, shared_where):
    main = {**net.conf(), "resolver_query_timeout": "3s"}
    with Hato(shared_where, main=main, mode="users" if IS_ROOT else "one") as h:
        yield h


def ask(h, *args):
    p = h.command("dns", *args)
    print(p.stderr, end="")
    return p.returncode, p.stdout.splitlines()


def test_records(h):
    status, lines = ask(h, "example.test", "MX")
    assert status == 0
    assert lines[0] == "example.test MX: found, secure"
    assert {" ".join(x.split()[2:]) for x in lines[1:]} == {"MX 10 mx.example.test.",
                                                           "MX 20 mx2.plain.test."}
    status, lines = ask(h, "mx.example.test")
    assert status == 0 and lines[0] == "mx.example.test A: found, secure"
    name, ttl, kind, address = lines[1].split()
    assert (name, kind, address) == ("mx.example.test.", "A", "127.0.0.2")
    assert 0 <= int(ttl) <= 60  # it may have come with an earlier answer
    assert ask(h, "mx.example.test", "aaaa")[1][1].endswith(" AAAA ::1")
    assert ask(h, "example.test", "TXT")[1][1].endswith(' TXT "v=spf1 -all x\\"y"')
    assert ask(h, "_25._tcp.mx.example.test", "TLSA")[1][1].endswith(
        "TLSA 3 1 1 " + "ab" * 32)
    assert ask(h, "_imap._tcp.example.test", "SRV")[1][1].endswith(
        "SRV 1 2 143 mx.example.test.")
    assert ask(h, "null.example.test", "MX")[1][1].endswith("MX 0 .")
    status, lines = ask(h, "www.example.test")
    assert lines[0] == "www.example.test A: found, secure, alias of mx.example.test"
    assert ask(h, "127.0.0.2")[1][1].endswith(" PTR mx.example.test.")


def test_what_is_not_there(h):
    assert ask(h, "none.example.test") == (1, ["none.example.test A: no such name, secure"])
    assert ask(h, "mx.example.test", "MX") == (1, ["mx.example.test MX: no such record, secure"])
    assert ask(h, "none.plain.test") == (1, ["none.plain.test A: no such name"])
    assert ask(h, "a..b")[0] == USAGE
    assert ask(h, "x" * 64 + ".test")[0] == USAGE
    assert ask(h, "example.test", "NOSUCH")[0] == USAGE


def test_dnssec(h):
    """Not signed is no trouble; signed and wrong is no data."""
    assert ask(h, "plain.test", "MX")[1][0] == "plain.test MX: found"
    for name in ("mx.bogus.test", "none.bogus.test", "mx.old.test"):
        status, lines = ask(h, name)
        assert status == TEMPFAIL and lines[0].startswith(f"{name} A: bogus: "), lines
        assert len(lines) == 1
    assert "expired" in ask(h, "mx.old.test")[1][0]


def test_hostile_servers(h):
    """Every trouble is a failure, never data, and ends in time."""
    assert ask(h, "evil.test")[0] == 0
    for name in ("fails", "refuses", "junk", "id", "cut", "loop", "quiet", "x"):
        begin = time.monotonic()
        status, lines = ask(h, f"{name}.evil.test")
        assert status == TEMPFAIL and ": failed" in lines[0], lines
        assert time.monotonic() - begin < 30
    # A name that is not there, and records of names that nobody asked for.
    assert ask(h, "nil.evil.test")[0] in (1, TEMPFAIL)
    status, lines = ask(h, "lies.evil.test")
    assert status in (1, TEMPFAIL) and len(lines) == 1
    assert ask(h, "www.example.com")[0] == 1


def test_at_most_a_hundred_records(h):
    status, lines = ask(h, "many.example.test")
    assert status == 0 and len(lines) == 101
    status, lines = ask(h, "big.evil.test")
    assert (status, len(lines)) in ((0, 101), (TEMPFAIL, 1))


def test_status(h):
    ask(h, "example.test", "MX")
    text = h.command("status").stdout
    assert "resolver" in text


def test_reload_takes_another_server(h, net):
    """The new resolver has the new servers; a bad list changes nothing."""
    hostile = net.hosts["evil.test"]
    before = h.main["resolver_forwarders"]
    h.main["resolver_forwarders"] = f"127.0.0.1@{hostile.port}"
    h.main["resolver_dnssec"] = "no"
    h.write_conf()
    h.command("reload", check=True)
    assert ask(h, "x.other.evil.test")[0] == TEMPFAIL  # "*": CNAMEs without an end
    h.main["resolver_forwarders"] = "no.address"
    h.write_conf()
    p = h.command("reload")
    assert p.returncode != 0 and "resolver_forwarders" in p.stdout + p.stderr + h.log()
    assert ask(h, "evil.test")[0] == 0
    h.main["resolver_forwarders"] = before
    h.main["resolver_dnssec"] = "yes"
    h.write_conf()
    h.command("reload", check=True)
    assert ask(h, "example.test", "MX")[1][0] == "example.test MX: found, secure"


def test_a_killed_resolver_comes_back(h):
    ask(h, "example.test", "MX")
    pid = h.processes()["resolver"][0]
    os.kill(pid, 9)
    assert ask(h, "example.test", "MX")[0] == 0
    assert h.processes()["resolver"][0] != pid


def test_dead_servers(where):
    """Nobody answers: a failure in time, and an answer once they are back."""
    net = Internet(where / "net")
    net.zone("example.test", {"mx": "A 127.0.0.2"}, signed=True)
    net.start()
    net.stop()
    with Hato(where, main={**net.conf(), "resolver_query_timeout": "2s"}) as h:
        assert ask(h, "mx.example.test")[0] == TEMPFAIL
        net.start()
        try:
            end = time.monotonic() + 90
            while ask(h, "mx.example.test")[0] != 0 and time.monotonic() < end:
                time.sleep(1)
            assert ask(h, "mx.example.test")[1][0].endswith("found, secure")
        finally:
            net.stop()


BIND = 'mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"'


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
@pytest.mark.parametrize("is_signed", [True, False])
def test_servers_of_resolv_conf(where, is_signed):
    """Validated, unless they do not pass on signatures: then without, and a warning."""
    net = Internet(where / "net")
    net.zone("test", {"mx": "A 127.0.0.2"}, signed=True)
    strips = Hostile("test", {"mx": "A 127.0.0.2", "": "empty"})
    with net:
        strips.start()
        h = Hato(where, main={**net.conf(), "resolver_forwarders": "", "resolver_dnssec": "auto",
                              "resolver_port": str(net.port if is_signed else strips.port)})
        h.write("resolv.conf", "# a comment\nsearch example.com\nnameserver 127.0.0.1\n")
        h.inside = ["unshare", "-m", "sh", "-c", BIND, h.dir]
        with h:
            status, lines = ask(h, "mx.test")
            assert (status, lines[0]) == (0, "mx.test A: found" + (", secure" if is_signed else ""))
            assert ("do not pass on signatures" in h.log()) == (not is_signed)
        strips.stop()
