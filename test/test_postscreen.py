"""postscreen in front of smtpd: what is tested before the greeting.

covers: postscreen_access_list postscreen_denylist_action postscreen_blacklist_action
covers: postscreen_client_connection_count_limit postscreen_dnsbl_action
covers: postscreen_dnsbl_allowlist_threshold postscreen_dnsbl_whitelist_threshold
covers: postscreen_dnsbl_max_ttl postscreen_dnsbl_min_ttl postscreen_dnsbl_ttl
covers: postscreen_dnsbl_reply_map postscreen_dnsbl_sites postscreen_dnsbl_threshold
covers: postscreen_greet_action postscreen_greet_banner postscreen_greet_ttl
covers: postscreen_greet_wait postscreen_pre_queue_limit
covers: postscreen_pipelining_enable postscreen_pipelining_action postscreen_pipelining_ttl
covers: postscreen_bare_newline_enable postscreen_bare_newline_action
covers: postscreen_bare_newline_ttl postscreen_non_smtp_command_enable
covers: postscreen_non_smtp_command_action postscreen_non_smtp_command_ttl
covers: postscreen_cache_map postscreen_cache_cleanup_interval postscreen_cache_retention_time
"""
import os
import re
import time

import pytest

from hatotest import Hato
from internet import NSD
from smtptalk import Gone, Talk
from test_names import Net

pytestmark = pytest.mark.skipif(not os.path.exists(NSD), reason="nsd is not installed")

MASTER = """\
{port} inet n - n - 1 postscreen
smtpd pass - - n - - smtpd -o smtpd_helo_required=yes
pickup unix n - n 60 1 pickup
"""


@pytest.fixture(scope="module", name="net")
def net_fixture(shared_where):
    with Net(shared_where / "dns") as net:
        yield net


def screen(where, net, wait="1s", **main):
    return Hato(where, master=MASTER, main={
        **net.conf(), "mynetworks": "127.0.0.1", "postscreen_greet_wait": wait,
        "smtpd_banner": "mx.example.com ESMTP", **main})


def rcpt(t):
    t.hello()
    assert t("MAIL FROM:<a@good.test>") == "250 2.1.0 Ok"
    return t("RCPT TO:<joe@example.com>")


def test_passes(where, net):
    """A stranger waits once; then he is known.  Our own do not wait."""
    with screen(where, net) as h:
        begin = time.monotonic()
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert t.banner == "220-mx.example.com ESMTP\n220 mx.example.com ESMTP"
            assert time.monotonic() - begin >= 0.9
            assert rcpt(t) == "250 2.1.5 Ok"
        assert re.search(r"postscreen\[\d+\]: CONNECT from \[127\.0\.0\.2\]:\d+ to "
                         rf"\[127\.0\.0\.1\]:{h.port}\n", h.log())
        h.wait_log(r"postscreen\[\d+\]: PASS NEW \[127\.0\.0\.2\]:\d+\n(.*\n)*.*smtpd\[\d+\]: "
                   r"connect from good\.client\.test\[127\.0\.0\.2\]")
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert t.banner == "220 mx.example.com ESMTP"
        h.wait_log(r"PASS OLD \[127\.0\.0\.2\]:\d+\n")
        with Talk(h, source="127.0.0.1", timeout=60) as t:
            assert t.banner == "220 mx.example.com ESMTP"
            assert t("MAIL FROM:<>").startswith("503 5.5.1")  # helo_required of the pass line
        h.wait_log(r"ALLOWLISTED \[127\.0\.0\.1\]:\d+\n")


def waits(h):
    """Does a stranger have to wait?"""
    with Talk(h, source="127.0.0.2", timeout=60) as t:
        return t.banner != "220 mx.example.com ESMTP"


def test_a_restart_knows_who_has_passed(where, net):
    with screen(where, net) as h:
        assert waits(h)
        h.stop()
        h.start()
        assert not waits(h)
        # What is damaged is forgotten, and no more happens.
        h.stop()
        kept = h.path("q/spool/postscreen")
        assert os.stat(kept).st_mode & 0o777 == 0o600
        with open(kept, "r+b") as f:
            f.seek(20)
            f.write(b"XXXX")
        h.start()
        h.wait_log("what clients had passed of postscreen's tests is lost: it is damaged")
        assert waits(h)
        assert not waits(h)


def test_nothing_is_kept_without_a_table(where, net):
    with screen(where, net, postscreen_cache_map="") as h:
        assert waits(h)
        h.stop()
        assert not os.path.exists(h.path("q/spool/postscreen"))
        h.start()
        assert waits(h)


@pytest.mark.parametrize("retention,word", [("7d", "OLD"), ("0s", "NEW")])
def test_expired_results_are_remembered(where, net, retention, word):
    """A pass that has expired must be earned again; who comes then is no new client, unless
    that is too long ago."""
    with screen(where, net, postscreen_greet_ttl="1s",
                postscreen_cache_retention_time=retention) as h:
        assert waits(h)
        time.sleep(2.5)
        assert waits(h)
        h.wait_log(rf"PASS NEW \[127\.0\.0\.2\](.*\n)*.*PASS {word} \[127\.0\.0\.2\]")


@pytest.mark.parametrize("action", ["ignore", "enforce", "drop"])
def test_pregreet(where, net, action):
    with screen(where, net, wait="2s", postscreen_greet_action=action) as h:
        with Talk(h, source="127.0.0.2", timeout=60, greet=False) as t:
            t.send("EHLO early.test\r\n")
            if action == "drop":
                assert t.line() == "220-mx.example.com ESMTP"
                assert t.line() == "521 5.5.1 Protocol error"
                with pytest.raises(Gone):
                    t.line()
            else:
                assert t.reply().startswith("220")
                assert t.reply().startswith("250")
                t("MAIL FROM:<a@good.test>")
                assert t("RCPT TO:<joe@example.com>") == (
                    "250 2.1.5 Ok" if action == "ignore" else "550 5.5.1 Protocol error")
        h.wait_log(r"PREGREET 17 after [\d.e-]+ from \[127\.0\.0\.2\]:\d+: EHLO early\.test\\r\\n")
        if action == "enforce":
            h.wait_log(r"NOQUEUE: reject: RCPT from \[127\.0\.0\.2\]:\d+: 550 5\.5\.1 Protocol "
                       r"error; from=<a@good\.test>, to=<joe@example\.com>, proto=ESMTP, "
                       r"helo=<early\.test>")
        if action == "drop":
            h.wait_log(r"DISCONNECT \[127\.0\.0\.2\]:\d+")
            assert "connect from good" not in h.log()
        assert "PASS" not in h.log()


def test_hangup(where, net):
    with screen(where, net, wait="20s") as h:
        Talk(h, source="127.0.0.2", greet=False).s.close()
        h.wait_log(r"HANGUP after [\d.e-]+ from \[127\.0\.0\.2\]:\d+ in tests before SMTP "
                   r"handshake\n(.*\n)*.*DISCONNECT \[127\.0\.0\.2\]")
        assert "connect from" not in h.log()


SITES = "bl.test*2, bl.test=127.0.0.9*3, wl.test=127.0.[0..9].1*-1, x.broken.test"


@pytest.mark.parametrize("action,answer", [
    ("ignore", "250 2.1.5 Ok"),
    ("enforce", "550 5.7.1 Service unavailable; client [127.0.0.3] blocked using bl.test"),
    ("drop", "521 5.7.1 Service unavailable; client [127.0.0.3] blocked using bl.test")])
def test_dnsbl(where, net, action, answer):
    """The weights of all sites and filters are summed; a good list takes off."""
    with screen(where, net, postscreen_dnsbl_sites=SITES, postscreen_dnsbl_threshold="2",
                postscreen_dnsbl_action=action, postscreen_greet_banner="") as h:
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert rcpt(t) == "250 2.1.5 Ok"  # 2 - 1
        with Talk(h, source="127.0.0.3", timeout=60) as t:
            assert t.banner == answer or action != "drop"
            assert action == "drop" or rcpt(t) == answer
        h.wait_log(r"DNSBL rank 5 for \[127\.0\.0\.3\]:\d+\n")
        h.wait_log(r"PASS NEW \[127\.0\.0\.2\]")
        assert "PASS NEW [127.0.0.3]" not in h.log()


def test_dnsbl_names(where, net):
    """Secret names of lists are not told."""
    with screen(where, net, postscreen_dnsbl_sites="bl.test", postscreen_dnsbl_action="drop",
                postscreen_dnsbl_reply_map="inline:{bl.test=public.example}") as h:
        with Talk(h, source="127.0.0.4", timeout=60, greet=False) as t:
            assert t.line() == "220-mx.example.com ESMTP"
            assert t.line() == ("521 5.7.1 Service unavailable; client [127.0.0.4] blocked using "
                                "public.example")
        h.wait_log(r"DNSBL rank 1 for")


def test_vouched_for(where, net):
    """A good score spares the wait."""
    with screen(where, net, wait="60s", postscreen_dnsbl_sites="wl.test*-3",
                postscreen_dnsbl_whitelist_threshold="-2") as h:
        with Talk(h, source="127.0.0.2", timeout=30) as t:
            assert t.banner.endswith("\n220 mx.example.com ESMTP")
        h.wait_log(r"PASS NEW \[127\.0\.0\.2\]")
        with Talk(h, source="127.0.0.2", timeout=30) as t:
            assert t.banner == "220 mx.example.com ESMTP"


@pytest.mark.parametrize("action,answer", [
    ("ignore", "250 2.1.5 Ok"), ("enforce", "550 5.3.2 Service currently unavailable"),
    ("drop", "521 5.3.2 Service currently unavailable")])
def test_access_list(where, net, action, answer):
    (where / "cidr").write_text("127.0.0.7/32 permit\n")
    with screen(where, net, postscreen_greet_wait="0s", postscreen_blacklist_action=action,
                postscreen_access_list="permit_mynetworks, inline:{127.0.0.5=reject "
                f"127.0.0.6=dunno}}, cidr:{where}/cidr, static:dunno") as h:
        with Talk(h, source="127.0.0.5", timeout=60) as t:
            assert t.banner == answer or action != "drop"
            assert action == "drop" or rcpt(t) == answer
        h.wait_log(r"DENYLISTED \[127\.0\.0\.5\]:\d+\n")
        for n in (6, 7):
            with Talk(h, source=f"127.0.0.{n}", timeout=60) as t:
                assert rcpt(t) == "250 2.1.5 Ok"
        h.wait_log(r"ALLOWLISTED \[127\.0\.0\.7\]:\d+\n")
        h.wait_log(r"PASS NEW \[127\.0\.0\.6\]:\d+\n")


def test_expires(where, net):
    """What has run out is tested again."""
    with screen(where, net, postscreen_greet_ttl="2s") as h:
        for _ in range(2):
            with Talk(h, source="127.0.0.2", timeout=60) as t:
                assert t.banner.startswith("220-")
            time.sleep(3)
        h.wait_log(r"PASS OLD")


def test_limits(where, net):
    with screen(where, net, wait="60s", postscreen_client_connection_count_limit="1",
                postscreen_pre_queue_limit="2") as h:
        held = [Talk(h, source=f"127.0.0.{n}", timeout=60, greet=False) for n in (2, 3)]
        for t in held:
            assert t.line().startswith("220-")
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert t.banner == "421 4.7.0 Error: too many connections"
        with Talk(h, source="127.0.0.4", timeout=60) as t:
            assert t.banner == "421 4.3.2 All screening ports are busy"
        h.command("stop", check=True)
        h.started = False
        assert held[0].line() == "421 4.3.2 Service currently unavailable"


DEEP = {"postscreen_pipelining_enable": "yes", "postscreen_bare_newline_enable": "yes",
        "postscreen_non_smtp_command_enable": "yes", "postscreen_greet_wait": "0s"}
LATER = "450 4.3.2 Service currently unavailable"


def test_deep_tests_pass(where, net):
    """Deferred once, then known; until the tests' time has run out."""
    with screen(where, net, **DEEP, postscreen_pipelining_ttl="4s") as h:
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert "PIPELINING" not in t("EHLO x.test")
            assert t("MAIL FROM:<a@good.test>").startswith("250")
            assert t("RCPT TO:<joe@example.com>") == LATER
            assert t("DATA").startswith("554")
            assert t("QUIT").startswith("221")
        h.wait_log(r"NOQUEUE: reject: RCPT from \[127\.0\.0\.2\]:\d+: 450 4\.3\.2 Service "
                   r"currently unavailable; from=<a@good\.test>, to=<joe@example\.com>, "
                   r"proto=ESMTP, helo=<x\.test>\n(.*\n)*.*PASS NEW \[127\.0\.0\.2\]:")
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert "PIPELINING" in t("EHLO x.test")
            assert rcpt(t) == "250 2.1.5 Ok"
        time.sleep(5.5)  # passes are kept in whole seconds
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            assert rcpt(t) == LATER
        h.wait_log(r"PASS OLD")


@pytest.mark.parametrize("said,log", [
    ("EHLO a.test\r\nMAIL FROM:<a@good.test>\r\n",
     r"COMMAND PIPELINING from \[127\.0\.0\.2\]:\d+ after EHLO a\.test: MAIL FROM:<a@good\.test>"
     r"\\r\\n"),
    ("EHLO a.test\n", r"BARE NEWLINE from \[127\.0\.0\.2\]:\d+ after CONNECT"),
    ("GET / HTTP/1.0\r\n",
     r"NON-SMTP COMMAND from \[127\.0\.0\.2\]:\d+ after CONNECT: GET / HTTP/1\.0")])
@pytest.mark.parametrize("action", ["ignore", "enforce", "drop"])
def test_deep_faults(where, net, said, log, action):
    actions = {f"postscreen_{n}_action": action
               for n in ("pipelining", "bare_newline", "non_smtp_command")}
    is_foreign = said.startswith("GET")
    with screen(where, net, **DEEP, **actions, smtpd_forbidden_commands="CONNECT GET") as h:
        with Talk(h, source="127.0.0.2", timeout=60) as t:
            t.send(said)
            if action == "drop":
                assert t.reply() == ("521 5.7.0 Error: I can break rules, too. Goodbye."
                                     if is_foreign else "521 5.5.1 Protocol error")
                with pytest.raises((Gone, ConnectionResetError)):
                    t.reply()
            elif not is_foreign:
                for _ in range(said.count("\n")):
                    assert t.reply().startswith("250")
                assert t("RSET").startswith("250")
                t("MAIL FROM:<a@good.test>")
                assert t("RCPT TO:<joe@example.com>") == (
                    LATER if action == "ignore" else "550 5.5.1 Protocol error")
        h.wait_log(log)
        assert "PASS NEW" not in h.log()


def test_ttl_of_lists(where, net):
    """postscreen_dnsbl_ttl is the old name of _max_ttl, in hours; with less than the records'
    own 60 s the lists are asked again."""
    with screen(where, net, postscreen_dnsbl_sites="wl.test", postscreen_dnsbl_threshold="5",
                postscreen_greet_banner="", postscreen_dnsbl_min_ttl="1s",
                postscreen_dnsbl_max_ttl="1s") as h:
        with Talk(h, source="127.0.0.2", timeout=60):
            pass
        time.sleep(2.5)
        with Talk(h, source="127.0.0.2", timeout=60):
            pass
        h.wait_log(r"PASS NEW(.*\n)*.*PASS OLD")
    assert screen(where / "x", net, postscreen_dnsbl_ttl="7").tool(
        "postconf", "-hx", "postscreen_dnsbl_max_ttl").stdout == "7h\n"
