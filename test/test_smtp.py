"""The SMTP server as a client meets it: verbs, limits, relay rules, tables."""
# covers: smtpd_banner disable_vrfy_command message_size_limit header_size_limit
# covers: line_length_limit hopcount_limit smtpd_discard_ehlo_keywords
# covers: smtpd_error_sleep_time smtpd_forbidden_commands smtpd_hard_error_limit
# covers: smtpd_helo_required smtpd_junk_command_limit smtpd_noop_commands
# covers: smtpd_recipient_limit smtpd_recipient_overshoot_limit
# covers: smtpd_soft_error_limit smtpd_timeout smtputf8_enable
# covers: strict_rfc821_envelopes message_drop_headers
# covers: smtpd_client_port_logging smtpd_forbid_unauth_pipelining
import concurrent.futures
import os
import re
import signal
import socket
import time

import pytest

from hatotest import MASTER_CF, wait_for
from mx import Mx
from smtptalk import FRIEND, Gone, Talk, TestClock, maildir, untraced

LETTER = b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n"


@pytest.fixture(name="mx", scope="module")
def fixture_mx(shared_where):
    """One server for all tests that only talk."""
    with Mx(shared_where, main={"recipient_delimiter": "+",
                                "smtpd_error_sleep_time": "0",
                                "smtpd_soft_error_limit": "1000",
                                "smtpd_hard_error_limit": "1000",
                                "smtpd_junk_command_limit": "1000"}) as h:
        yield h


def own(where, **main):
    """A server of a test's own, that never makes clients wait."""
    return Mx(where, main={"smtpd_error_sleep_time": "0", **main})


# ---- verbs

def test_ehlo_names_the_extensions(mx):
    with Talk(mx) as t:
        assert t.banner == "220 mx.example.com ESMTP Hato"
        assert t("EHLO c").split("\n") == [
            "250-mx.example.com", "250-PIPELINING", "250-SIZE 10240000", "250-VRFY",
            "250-ETRN", "250-ENHANCEDSTATUSCODES", "250-8BITMIME", "250-DSN",
            "250-SMTPUTF8", "250 CHUNKING"]
        assert t("HELO c") == "250 mx.example.com"
        assert t("QUIT") == "221 2.0.0 Bye"
        assert t.is_closed()


@pytest.mark.parametrize("command, answer", [
    ("HELO", "501 Syntax: HELO hostname"),
    ("EHLO", "501 Syntax: EHLO hostname"),
    ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
    ("MAIL FROM", "501 5.5.4 Syntax: MAIL FROM:<address>"),
    ("MAIL FROM:<a@b.example", "501 5.1.7 Bad sender address syntax"),
    ("MAIL FROM:<a@b.example> SIZE=x", "501 5.5.4 Bad message size syntax"),
    ("MAIL FROM:<a@b.example> BODY=x", "501 5.5.4 Bad BODY parameter syntax"),
    ("MAIL FROM:<a@b.example> RET=x", "501 5.5.4 Bad RET parameter syntax"),
    ("MAIL FROM:<a@b.example> FOO=x", "555 5.5.4 Unsupported option: FOO"),
    ("MAIL FROM:<a@b.example> SIZE=99999999999",
     "552 5.3.4 Message size exceeds fixed limit"),
    ("RCPT TO:<a@example.com>", "503 5.5.1 Error: need MAIL command"),
    ("DATA", "503 5.5.1 Error: need RCPT command"),
    ("DATA x", "501 5.5.4 Syntax: DATA"),
    ("RSET x", "501 5.5.4 Syntax: RSET"),
    ("RSET", "250 2.0.0 Ok"),
    ("NOOP", "250 2.0.0 Ok"),
    ("noop anything", "250 2.0.0 Ok"),
    ("VRFY", "501 5.5.4 Syntax: VRFY address"),
    ("VRFY tomo@example.com", "252 2.0.0 tomo@example.com"),
    ("ETRN", "500 Syntax: ETRN domain"),
    ("XYZZY", "500 5.5.2 Error: command not recognized"),
    ("", "500 5.5.2 Error: bad syntax"),
    ("EHLO " + "x" * 3000, "500 5.5.2 Error: line too long"),
])
def test_one_command(mx, command, answer):
    with Talk(mx) as t:
        t.hello()
        assert t(command) == answer
        # It left no trace: a letter goes as if nothing had been.
        t("RSET")
        t.envelope()


def test_order_of_commands(mx):
    with Talk(mx) as t:
        # Without smtpd_helo_required nobody must greet.
        assert t("MAIL FROM:<>") == "250 2.1.0 Ok"
        assert t("MAIL FROM:<>") == "503 5.5.1 Error: nested MAIL command"
        assert t("DATA") == "554 5.5.1 Error: no valid recipients"
        assert t("RCPT TO:<nobody@elsewhere.example>").startswith("554 5.7.1")
        assert t("DATA") == "554 5.5.1 Error: no valid recipients"
        assert t("EHLO c").startswith("250-")  # implies RSET
        assert t("RCPT TO:<tomo@example.com>") == "503 5.5.1 Error: need MAIL command"
        t.envelope()
        assert t("RSET") == "250 2.0.0 Ok"
        assert t("DATA") == "503 5.5.1 Error: need RCPT command"


def test_unknown_and_foreign_recipients(mx):
    with Talk(mx) as t:
        t.hello()
        t("MAIL FROM:<s@example.net>")
        assert t("RCPT TO:<nobody@example.com>") == (
            "550 5.1.1 <nobody@example.com>: Recipient address rejected: "
            "User unknown in virtual mailbox table")
        assert t("RCPT TO:<a@elsewhere.example>") == (
            "554 5.7.1 <a@elsewhere.example>: Relay access denied")
        assert t("RCPT TO:<tomo+ext@example.com>") == "250 2.1.5 Ok"
        assert t("RCPT TO:<TOMO@EXAMPLE.COM>") == "250 2.1.5 Ok"
        assert t('RCPT TO:<"tomo"@example.com>') == "250 2.1.5 Ok"
        assert t("RCPT TO:<@a.example,@b.example:tomo@example.com>") == "250 2.1.5 Ok"
        for hack in ("a%elsewhere.example@example.com", "a@elsewhere.example@example.com",
                     "elsewhere.example!a@example.com", "a%elsewhere.example",
                     '"a@elsewhere.example"@example.com', "a@[127.0.0.9]",
                     "a@elsewhere.example@mx.example.com", "@example.com:a@elsewhere.example"):
            assert t(f"RCPT TO:<{hack}>")[:3] in ("550", "554", "501"), hack
    mx.wait_log(r"NOQUEUE: reject: RCPT from unknown\[127\.0\.0\.2\]: 554 5\.7\.1 "
                r"<a@elsewhere\.example>: Relay access denied; from=<s@example\.net> "
                r"to=<a@elsewhere\.example> proto=ESMTP helo=<client\.example\.org>")


def test_friends_may_relay(mx):
    with Talk(mx, source=FRIEND) as t:
        t.hello()
        t("MAIL FROM:<s@example.net>")
        assert t("RCPT TO:<a@elsewhere.example>") == "250 2.1.5 Ok"


def test_postmaster_always_has_an_address(mx):
    with Talk(mx) as t:
        t.hello()
        t("MAIL FROM:<>")
        assert t("RCPT TO:<postmaster>") == "250 2.1.5 Ok"


def test_pipelining(mx):
    with Talk(mx) as t:
        t.hello()
        before = len(maildir(mx.box("ana")))
        t.send(b"MAIL FROM:<a@example.net>\r\nRCPT TO:<ana@example.com>\r\n"
               b"RCPT TO:<no@example.com>\r\nDATA\r\n")
        assert [t.reply()[:3] for _ in range(4)] == ["250", "250", "550", "354"]
        t.send(LETTER + b".\r\nRSET\r\nMAIL FROM:<b@example.net>\r\n"
               b"RCPT TO:<ana@example.com>\r\nDATA\r\n" + LETTER + b".\r\nQUIT\r\n")
        assert [t.reply()[:3] for _ in range(7)] == [
            "250", "250", "250", "250", "354", "250", "221"]
        assert t.is_closed()
        mx.mails("ana", before + 2)


def test_byte_by_byte(mx):
    with Talk(mx) as t:
        for c in b"EHLO slow.example\r\nNOOP\r\n":
            t.send(bytes([c]))
        assert t.reply().startswith("250-")
        assert t.reply() == "250 2.0.0 Ok"


def test_bare_lf_ends_a_command(mx):
    with Talk(mx) as t:
        t.send(b"NOOP\nNOOP\n")
        assert t.reply() == "250 2.0.0 Ok"
        assert t.reply() == "250 2.0.0 Ok"


def test_nul_and_junk_in_commands(mx):
    with Talk(mx) as t:
        assert t(b"\0\0\0").startswith("50")
        assert t(b"MAIL\0 FROM:<>").startswith("50")
        assert t(b"MAIL FROM:<a\0b@example.net>").startswith("501")
        assert t(b"\xff\xfe\xfd").startswith("50")
        assert t("NOOP") == "250 2.0.0 Ok"


# ---- how a message ends

SMUGGLED = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<ana@example.com>\r\nDATA\r\nx\r\n"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r",
                                 b"\r.\r\n", b"\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
                                 b"\r\n.\r\r\n"])
def test_nothing_else_ends_a_message(where, end):
    with own(where) as h, Talk(h) as t:
        t.hello()
        t.envelope()
        assert t("DATA").startswith("354")
        t.send(b"Subject: x\r\n\r\nA" + end + SMUGGLED + b".\r\n")
        assert t.reply().startswith("250")
        assert t("NOOP") == "250 2.0.0 Ok"
        (m,) = h.mails()
        assert b"MAIL FROM:<evil@example.net>\nRCPT TO" in m
        assert h.empty("ana")


def test_dots(mx):
    before = len(maildir(mx.box("tomo")))
    with Talk(mx) as t:
        t.hello()
        t.mail(b"Subject: dots\r\n\r\n..\r\n...\r\n..x\r\n.y\r\n")
    assert untraced(mx.mails("tomo", before + 1)[-1]) == b"Subject: dots\n\n.\n..\n.x\ny\n"


# ---- BDAT

def test_bdat(mx):
    before = len(maildir(mx.box("ana")))
    with Talk(mx) as t:
        t.hello()
        t.envelope(rcpts="ana@example.com")
        t.send(b"BDAT 16\r\nSubject: x\r\n\r\n.\r")
        assert t.reply() == "250 2.0.0 Ok: 16 bytes"
        t.send(b"BDAT 6\r\n\n.\r\n..")
        assert t.reply() == "250 2.0.0 Ok: 6 bytes"
        assert t("DATA").startswith("503")
        assert t("MAIL FROM:<>").startswith("503")
        t.send(b"BDAT 0 LAST\r\n")
        assert t.reply().startswith("250 2.0.0 Ok: queued as")
        # All in one write, and the next command behind it.
        t.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<ana@example.com>\r\n"
               b"BDAT 4 LAST\r\na: bNOOP\r\n")
        assert [t.reply()[:3] for _ in range(4)] == ["250", "250", "250", "250"]
    # deliveries may overtake one another
    two, one = sorted(map(untraced, mx.mails("ana", before + 2)[-2:]), key=len)
    assert one == b"Subject: x\n\n.\n.\n..\n"
    assert two in (b"a: b\n", b"a: b\n\n")


def test_bdat_refused_stays_in_step(mx):
    with Talk(mx) as t:
        t.hello()
        t.send(b"BDAT 6\r\nRSET\r\nNOOP\r\n")
        assert t.reply().startswith("503")
        assert t.reply() == "250 2.0.0 Ok"
        t.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<no@example.com>\r\n"
               b"BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n")
        assert [t.reply()[:3] for _ in range(5)] == ["250", "550", "554", "503", "250"]
    with Talk(mx) as t:
        t.hello()
        assert t("BDAT x") == "521 5.5.4 Syntax: BDAT count [LAST]"
        assert t.is_closed()


def test_bdat_too_large(where):
    with own(where, message_size_limit="5000") as h, Talk(h) as t:
        t.hello()
        t.envelope()
        t.send(b"BDAT 6000 LAST\r\n" + b"x" * 6000)
        assert t.reply().startswith("552 5.3.4")
        t.mail()
        t.envelope()
        t.send(b"BDAT 4000\r\n" + b"x" * 4000)
        assert t.reply().startswith("250")
        t.send(b"BDAT 4000\r\n" + b"x" * 4000)
        assert t.reply().startswith("552 5.3.4")
        t.send(b"BDAT 4000 LAST\r\n" + b"x" * 4000)
        assert t.reply().startswith("503")
        t.mail()


# ---- limits

def test_message_size(where):
    with own(where, message_size_limit="5000") as h, Talk(h) as t:
        assert t.hello()["SIZE"] == ["5000"]
        assert t("MAIL FROM:<a@b.example> SIZE=5001").startswith("552 5.3.4")
        t.envelope()
        assert t.data(b"a: b\r\n\r\n" + b"x" * 5000 + b"\r\n").startswith("552 5.3.4")
        # A size that was said too small changes nothing.
        t("MAIL FROM:<a@b.example> SIZE=10")
        t("RCPT TO:<tomo@example.com>")
        assert t.data(b"a: b\r\n\r\n" + b"x" * 4000 + b"\r\n").startswith("250")
        h.mails()
        h.wait_log(r"NOQUEUE: reject: END-OF-MESSAGE from unknown\[127\.0\.0\.2\]: 552 5\.3\.4 "
                   r"Error: message file too big; from=<s@example\.net> "
                   r"to=<tomo@example\.com> proto=ESMTP helo=<client\.example\.org>")
        h.wait_log(r"NOQUEUE: reject: MAIL from unknown\[127\.0\.0\.2\]: 552 5\.3\.4 "
                   r"Message size exceeds fixed limit; from=<a@b\.example> proto=ESMTP")


def test_message_size_unlimited(where):
    with own(where, message_size_limit="0") as h, Talk(h) as t:
        assert t.hello()["SIZE"] in ([], ["0"])
        t.envelope()
        assert t.data(b"a: b\r\n\r\n" + (b"x" * 78 + b"\r\n") * 150000).startswith("250")
        assert len(h.mails(seconds=20)[0]) > 79 * 150000


def test_recipient_limit(where):
    with own(where, smtpd_recipient_limit="3", smtpd_recipient_overshoot_limit="2",
             smtpd_hard_error_limit="1") as h, Talk(h) as t:
        t.hello()
        t.envelope(rcpts=["tomo@example.com"] * 3)
        assert t("RCPT TO:<ana@example.com>") == "452 4.5.3 Error: too many recipients"
        assert t("RCPT TO:<ana@example.com>") == "452 4.5.3 Error: too many recipients"
        # Those beyond the overshoot count as errors.
        assert t("RCPT TO:<ana@example.com>") == "452 4.5.3 Error: too many recipients"
        assert t.reply() == "421 4.7.0 mx.example.com Error: too many errors"
        assert t.is_closed()
        with Talk(h) as u:
            u.hello()
            u.envelope(rcpts=["tomo@example.com"] * 3)
            assert u("RCPT TO:<ana@example.com>").startswith("452")
            assert u.data(LETTER).startswith("250")
        h.mails()
        assert h.empty("ana")


def test_header_limit(where):
    # What is beyond header_size_limit is not lost: the letter comes in whole.
    with own(where, header_size_limit="2000") as h, Talk(h) as t:
        t.hello()
        header = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 60) for i in range(100))
        answer = None
        t.envelope()
        answer = t.data(header + b"Subject: z\r\n\r\nbody\r\n")
        assert answer.startswith("250"), answer
        assert untraced(h.mails()[0]) == (header + b"Subject: z\r\n\r\nbody\r\n").replace(
            b"\r\n", b"\n")


def test_long_lines(mx):
    before = len(maildir(mx.box("tomo")))
    with Talk(mx) as t:
        t.hello()
        line = b"x" * 200000
        t.mail(b"Subject: long\r\n\r\n" + line + b"\r\nend\r\n")
    assert untraced(mx.mails("tomo", before + 1)[-1]) == b"Subject: long\n\n" + line + b"\nend\n"


def test_endless_line_ends(mx):
    """A client that never sends a line end is ended; the memory stays small."""
    with Talk(mx) as t:
        try:
            for _ in range(100):
                t.send(b"A" * 65536)
        except OSError:
            pass
        t.s.settimeout(5)
        try:
            while t.s.recv(65536):
                pass
        except ConnectionResetError:
            pass
    with Talk(mx) as t:
        t.hello()


def test_hops(where):
    with own(where, hopcount_limit="5") as h, Talk(h) as t:
        t.hello()
        hop = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        t.envelope()
        assert t.data(hop * 4 + LETTER).startswith("250")
        t.envelope()
        answer = t.data(hop * 6 + LETTER)
        assert answer.startswith("554 5.4.0 Error: too many hops"), answer
        h.mails()


def test_too_many_errors(where):
    with own(where, smtpd_hard_error_limit="3") as h, Talk(h) as t:
        t.hello()
        for _ in range(3):
            assert t("X").startswith("500")
        assert t.reply() == "421 4.7.0 mx.example.com Error: too many errors"
        assert t.is_closed()
        h.wait_log(r"smtpd\[\d+\]: too many errors after UNKNOWN from unknown\[127\.0\.0\.2\]")
        h.wait_log(r"disconnect from unknown\[127\.0\.0\.2\] ehlo=1 unknown=0/3 commands=1/4")
        # A letter that went well starts the count anew.
        with Talk(h) as u:
            u.hello()
            for _ in range(5):
                u("MAIL FROM:<a@b.example>")
                assert u("RCPT TO:<no@example.com>").startswith("550")
                u("RCPT TO:<tomo@example.com>")
                assert u.data(LETTER).startswith("250")


def test_junk_commands(where):
    with own(where, smtpd_hard_error_limit="3", smtpd_junk_command_limit="4") as h:
        with Talk(h) as t:
            t.hello()  # one of them
            # Each beyond the limit counts as an error.
            for _ in range(4 + 3):
                assert t("NOOP").startswith("250")
            assert t.reply().startswith("421 4.7.0")
            assert t.is_closed()
        with Talk(h) as t:
            t.hello()
            for _ in range(4):
                t("RSET")
                t.mail()
            for _ in range(3):
                assert t("RSET").startswith("250")


def test_errors_slow_a_client_down(where):
    h = Mx(where, main={"smtpd_soft_error_limit": "2", "smtpd_error_sleep_time": "1s"})
    with h, Talk(h) as t:
        began = time.monotonic()
        t("X")
        t("X")
        assert time.monotonic() - began < 0.9
        t("X")
        t("X")
        assert time.monotonic() - began > 0.9


def test_timeout(where):
    h = own(where, smtpd_timeout="300")
    clock = TestClock(h)
    h.start(env=clock.env)
    with h_running(h), Talk(h) as t, Talk(h) as u, Talk(h) as v:
        t.hello()
        u.hello()
        u.envelope()
        u("DATA")
        u.send(b"Subject: half\r\n\r\n")
        v.hello()
        time.sleep(0.2)
        clock.move(299)
        assert v("NOOP").startswith("250")
        clock.move(2)
        assert t.reply() == "421 4.4.2 mx.example.com Error: timeout exceeded"
        assert t.is_closed()
        assert u.reply() == "421 4.4.2 mx.example.com Error: timeout exceeded"
        assert u.is_closed()
        assert v("NOOP").startswith("250")
        h.wait_log(r"timeout after EHLO from unknown\[127\.0\.0\.2\]")
        h.wait_log(r"timeout after DATA \(\d+ bytes\) from unknown\[127\.0\.0\.2\]")


class h_running:
    """Stops a Hato that was started by hand."""

    def __init__(self, h):
        self.h = h

    def __enter__(self):
        return self.h

    def __exit__(self, *exc):
        self.h.__exit__(*exc)


def test_half_closed(where):
    """A client that shuts its side down still gets its answers."""
    with own(where) as h:
        with Talk(h) as t:
            t.send(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<tomo@example.com>\r\n"
                   b"DATA\r\n" + LETTER + b".\r\n")
            t.s.shutdown(socket.SHUT_WR)
            assert [t.reply()[:3] for _ in range(5)] == ["250", "250", "250", "354", "250"]
            assert t.is_closed()
        h.mails()
        with Talk(h) as t:
            t.hello()
            t.envelope(rcpts="ana@example.com")
            t("DATA")
            t.send(LETTER)
            t.s.shutdown(socket.SHUT_WR)
            assert t.is_closed()
        h.wait_log(r"lost connection after DATA \(\d+ bytes\) from unknown\[127\.0\.0\.2\]")
        with Talk(h) as t:
            t.send(b"NOOP")  # no line end, and gone
        h.wait_log(r"lost connection after CONNECT from unknown\[127\.0\.0\.2\]")
        assert h.empty("ana")


def test_rates(where):
    with own(where, smtpd_client_connection_rate_limit="60",
             smtpd_client_message_rate_limit="4", smtpd_client_recipient_rate_limit="6",
             smtpd_client_connection_count_limit="2") as h:
        with Talk(h) as t:
            t.hello()
            for _ in range(4):
                t.mail()
            assert t("MAIL FROM:<a@b.example>").startswith("450 4.7.1")
        h.wait_log(r"warning: Message delivery request rate limit exceeded: 5 from "
                   r"unknown\[127\.0\.0\.2\] for service")
        with Talk(h), Talk(h):
            with Talk(h) as t:
                assert t.banner.startswith("421 4.7.0 mx.example.com Error: too many connections")
                assert t.is_closed()

        def banner():
            with Talk(h) as t:
                return t.banner
        # The places of the closed ones are given back soon.
        assert wait_for(lambda: banner().startswith("220"), step=0.3)
        # Friends are never refused (smtpd_client_event_limit_exceptions).
        for _ in range(10):
            with Talk(h, source=FRIEND) as t:
                assert t.banner.startswith("220")
        for _ in range(80):
            last = banner()
        assert last.startswith("421 4.7.0")
        h.wait_log("warning: Connection rate limit exceeded: ")


def test_maxproc_limits_a_line(where):
    h = own(where)
    h.master = MASTER_CF.replace("n - - smtpd", "n - 2 smtpd")
    h.write_conf()
    with h:
        # The others wait in the backlog until one has gone.
        with Talk(h) as a, Talk(h) as b, Talk(h, greet=False) as c:
            c.s.settimeout(0.3)
            with pytest.raises(socket.timeout):
                c.reply()
            c.s.settimeout(10)
            assert a("QUIT").startswith("221")
            assert c.reply().startswith("220")
            assert b("NOOP").startswith("250")


def test_strict_envelopes(where):
    with own(where, strict_rfc821_envelopes="yes") as h, Talk(h) as t:
        t.hello()
        assert t("MAIL FROM:a@b.example").startswith("501 5.1.7")
        assert t("MAIL FROM:<a@b.example>").startswith("250")
        assert t("RCPT TO: tomo@example.com").startswith("501 5.1.3")
        assert t("RCPT TO:<tomo@example.com>").startswith("250")


def test_lenient_envelopes(mx):
    with Talk(mx) as t:
        t.hello()
        assert t("MAIL FROM: <a@b.example>").startswith("250")
        assert t("RCPT TO: tomo@example.com").startswith("250")


def test_switches(where):
    with own(where, disable_vrfy_command="yes", smtpd_helo_required="yes",
             smtpd_banner="$myhostname says \"hi\"", smtputf8_enable="no",
             smtpd_discard_ehlo_keywords="etrn, chunking, silent-discard",
             smtpd_noop_commands="xnoop", smtpd_forbidden_commands="CONNECT GET xbad",
             message_drop_headers="x-drop, bcc") as h:
        with Talk(h) as t:
            assert t.banner == '220 mx.example.com says "hi"'
            assert t("MAIL FROM:<>") == "503 5.5.1 Error: send HELO/EHLO first"
            words = t.hello()
            assert not {"VRFY", "ETRN", "CHUNKING", "SMTPUTF8"} & set(words)
            assert t("VRFY tomo@example.com") == "502 5.5.1 VRFY command is disabled"
            assert t("ETRN example.com").startswith("502")
            assert t("XNOOP") == "250 2.0.0 Ok"
            t.mail(b"X-Drop: a\r\nSubject: x\r\nBcc: b@c.example\r\n  d@e.example\r\n\r\nb\r\n")
            assert t("GET / HTTP/1.1") == "221 2.7.0 Error: I can break rules, too. Goodbye."
            assert t.is_closed()
        h.wait_log(r"warning: non-SMTP command from unknown\[127\.0\.0\.2\]: GET / HTTP/1\.1")
        assert untraced(h.mails()[0]) == b"Subject: x\n\nb\n"


def test_pipelining_before_its_time(where):
    with own(where, smtpd_data_restrictions="reject_unauth_pipelining") as h, Talk(h) as t:
        t.hello()
        t.envelope()
        t.send(b"DATA\r\nSubject: too early\r\n")
        assert t.reply().startswith("503 5.5.0 <DATA>: Data command rejected: "
                                    "Improper use of SMTP command pipelining")
        t.reply()
        h.wait_log(r"improper command pipelining after DATA from unknown\[127\.0\.0\.2\]: "
                   "Subject: too early")
    with own(where, smtpd_forbid_unauth_pipelining="yes") as h, Talk(h) as t:
        t.send("EHLO c\r\nNOOP\r\n")
        assert t.reply() == "554 5.5.0 Error: SMTP protocol synchronization"
        assert t.is_closed()


def test_port_in_the_log(where):
    with own(where, smtpd_client_port_logging="yes") as h, Talk(h) as t:
        t.hello()
        t("MAIL FROM:<>")
        t("RCPT TO:<a@elsewhere.example>")
        port = t.s.getsockname()[1]
        h.wait_log(rf"reject: RCPT from unknown\[127\.0\.0\.2\]:{port}: 554")
        h.wait_log(rf"connect from unknown\[127\.0\.0\.2\]:{port}")


# ---- addresses beyond ASCII, DSN

def test_smtputf8(mx):
    before = len(maildir(mx.box("tomo")))
    with Talk(mx) as t:
        t.hello()
        assert t("MAIL FROM:<ünï@exämple.net> SMTPUTF8") == "250 2.1.0 Ok"
        assert t("RCPT TO:<tomo@example.com>") == "250 2.1.5 Ok"
        assert t.data("Subject: grüße\r\n\r\nü\r\n".encode()).startswith("250")
        assert t("MAIL FROM:<\xff@example.net> SMTPUTF8".encode("latin-1")) == \
            "500 5.5.2 Error: bad UTF-8 syntax"
    m = mx.mails("tomo", before + 1)[-1]
    assert m.startswith("Return-Path: <ünï@exämple.net>\n".encode())
    assert b"with UTF8SMTP id" in m


def test_dsn_parameters(mx):
    with Talk(mx) as t:
        t.hello()
        assert t("MAIL FROM:<a@b.example> RET=HDRS ENVID=ab+2Bc").startswith("250")
        for bad in ("NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY=MAYBE", "ORCPT=foo",
                    "ORCPT=rfc822;a+GG", "NOTIFY=NEVER NOTIFY=NEVER"):
            assert t(f"RCPT TO:<tomo@example.com> {bad}").startswith("501 5.5.4"), bad
        assert t("RCPT TO:<tomo@example.com> NOTIFY=SUCCESS,FAILURE,DELAY "
                 "ORCPT=rfc822;x+40y").startswith("250")
        t("RSET")
        for bad in ("RET=FULL RET=HDRS", "ENVID=a+4", "ENVID=" + "x" * 200):
            assert t(f"MAIL FROM:<a@b.example> {bad}").startswith("501 5.5.4"), bad


# ---- access maps, header checks, tables

def test_access_maps_in_the_five_lists(where):
    h = own(where, smtpd_delay_reject="no",
            smtpd_client_restrictions=f"check_client_access cidr:{where}/clients",
            smtpd_helo_restrictions=f"check_helo_access hash:{where}/helo",
            smtpd_sender_restrictions=f"check_sender_access texthash:{where}/senders",
            smtpd_recipient_restrictions="check_recipient_access "
                                         f"pcre:{where}/rcpts, reject_unauth_destination",
            smtpd_data_restrictions="check_sender_access inline:{d@example.net=reject}",
            smtpd_end_of_data_restrictions="check_sender_access "
                                           "inline:{e@example.net=HOLD}")
    h.write("clients", "127.0.0.3 reject go away\n127.0.0.0/8 dunno\n")
    h.write("helo", "bad.example 550 5.7.1 no such host\nlater.example defer\n")
    h.write("senders", "spam@ REJECT\nexample.edu 450 4.2.0 later\n<> OK\n"
            "pre@example.net PREPEND X-Seen: yes\nbcc@example.net BCC ana@example.com\n"
            "void@example.net DISCARD\nredir@example.net REDIRECT ana@example.com\n"
            "warn@example.net WARN hm\n")
    h.write("rcpts", "/^ana\\+(.*)@/ REJECT no $1 here\n")
    with h:
        with Talk(h, source="127.0.0.3") as t:
            assert t.banner == ("554 5.7.1 <unknown[127.0.0.3]>: Client host rejected: go away")
            assert t("EHLO c") == "503 5.7.0 Error: access denied for unknown[127.0.0.3]"
            assert t("QUIT") == "221 2.0.0 Bye"
        with Talk(h) as t:
            assert t("EHLO bad.example") == (
                "550 5.7.1 <bad.example>: Helo command rejected: no such host")
            assert t("EHLO later.example").startswith("450 4.7.1 <later.example>: Helo command")
            t.hello()
            assert t("MAIL FROM:<spam@x.example>") == (
                "554 5.7.1 <spam@x.example>: Sender address rejected: Access denied")
            assert t("MAIL FROM:<a@example.edu>") == (
                "450 4.2.0 <a@example.edu>: Sender address rejected: later")
            t("MAIL FROM:<ok@example.net>")
            assert t("RCPT TO:<ana+box@example.com>") == (
                "554 5.7.1 <ana+box@example.com>: Recipient address rejected: no box here")
            t("RSET")
            t.envelope("d@example.net")
            assert t("DATA") == (
                "554 5.7.1 <d@example.net>: Sender address rejected: Access denied")
            t("RSET")
            t.mail(sender="pre@example.net")
            (m,) = h.mails()
            assert b"\nX-Seen: yes\n" in m
            t.mail(sender="bcc@example.net")
            h.mails("ana")
            h.mails("tomo", 2)
            assert "DISCARD" in t_mail(t, "void@example.net")
            t.mail(sender="redir@example.net")
            h.mails("ana", 2)
            qid = t.mail(sender="e@example.net")
            assert h.tool("postqueue", "-p").stdout.count(qid + "!") == 1
            t.mail(sender="warn@example.net")
            h.mails("tomo", 3)
        h.wait_log("warn: RCPT|warn: MAIL")
        h.wait_log(r"redirect: MAIL from .* Sender address triggers REDIRECT ana@example\.com|"
                   r"redirect: ")


def t_mail(t, sender):
    t.envelope(sender)
    return t.data(LETTER)


def test_header_checks(where):
    h = own(where, header_checks=f"regexp:{where}/hc")
    h.write("hc", "/^Subject: .*viagra/ REJECT no spam\n/^X-Trace:/ IGNORE\n"
            "/^X-Old: (.*)/ REPLACE X-New: $1\n/^Subject: hold/ HOLD\n"
            "/^Subject: void/ DISCARD\n/^Subject: pre/ PREPEND X-Pre: yes\n")
    with h, Talk(h) as t:
        t.hello()
        t.envelope()
        assert t.data(b"Subject: buy viagra\r\n\r\nx\r\n") == "550 5.7.1 no spam"
        t.mail(b"X-Trace: 1\r\nX-Old: v\r\nSubject: pre\r\n\r\nbody\r\n")
        assert untraced(h.mails()[0]) == b"X-New: v\nX-Pre: yes\nSubject: pre\n\nbody\n"
        t.envelope()
        assert t.data(b"Subject: void\r\n\r\n").startswith("250")
        qid = t.mail(b"Subject: hold\r\n\r\n")
        assert qid + "!" in h.tool("postqueue", "-p").stdout
        h.wait_log(r"cleanup\[\d+\]: NOQUEUE: reject: header Subject: buy viagra from "
                   r"unknown\[127\.0\.0\.2\]; from=<s@example\.net> to=<tomo@example\.com> "
                   r"proto=ESMTP helo=<client\.example\.org>: 5\.7\.1 no spam")
        assert len(maildir(h.box("tomo"))) == 1


TABLES = {
    "hash": "al@example.com tomo@example.com\n",
    "btree": "al@example.com tomo@example.com\n",
    "lmdb": "al@example.com tomo@example.com\n",
    "texthash": "al@example.com tomo@example.com\n",
    "regexp": "/^al@example\\.com$/ tomo@example.com\n",
    "pcre": "/^AL@EXAMPLE\\.com$/ tomo@example.com\n",
}


def test_each_table_type_as_virtual_aliases(where):
    for kind, text in TABLES.items():
        d = where / kind
        os.makedirs(d)
        os.chmod(d, 0o755)
        h = own(d, virtual_alias_maps=f"{kind}:{d}/map")
        h.write("map", text)
        with h, Talk(h) as t:
            t.hello()
            t.mail(rcpts="al@example.com")
            (m,) = h.mails()
            assert b"\nX-Original-To: al@example.com\n" in m
            assert b"\nDelivered-To: tomo@example.com\n" in m


def test_inline_static_unix_tables(where):
    with own(where, virtual_alias_maps="inline:{al@example.com=tomo@example.com, "
             "bo@example.com=ana@example.com}",
             local_recipient_maps="unix:passwd.byname",
             smtpd_sender_restrictions="check_sender_access static:{dunno}") as h, \
            Talk(h) as t:
        t.hello()
        t.mail(rcpts=["al@example.com", "bo@example.com"])
        h.mails()
        h.mails("ana")
        t("MAIL FROM:<>")
        assert t("RCPT TO:<root@mx.example.com>").startswith("250")
        assert t("RCPT TO:<no-such-user@mx.example.com>") == (
            "550 5.1.1 <no-such-user@mx.example.com>: Recipient address rejected: "
            "User unknown in local recipient table")


def test_tables_rebuild_themselves(where):
    h = own(where, virtual_alias_maps=f"hash:{where}/map")
    h.write("map", "al@example.com tomo@example.com\n")
    with h, Talk(h) as t:
        t.hello()
        t.mail(rcpts="al@example.com")
        h.mails()
        h.write("map", "al@example.com ana@example.com\nnew@example.com ana@example.com\n")

        def is_known():
            with Talk(h) as u:
                u("MAIL FROM:<>")
                return u("RCPT TO:<new@example.com>").startswith("250")
        assert wait_for(is_known)
        with Talk(h) as u:
            u.hello()
            u.mail(rcpts="al@example.com")
        h.mails("ana")
        assert len(maildir(h.box("tomo"))) == 1


def test_a_table_that_does_not_answer(where):
    """What cannot be asked is a 451 with the cause in the log, not an unknown user."""
    h = own(where)
    clock = TestClock(h)
    h.start(env=clock.env)
    with h_running(h), Talk(h, timeout=20) as t:
        t.hello()
        t("MAIL FROM:<>")
        tables = h.processes()["tables"][0]
        os.kill(tables, signal.SIGSTOP)
        try:
            t.send("RCPT TO:<someone@example.com>\r\n")
            time.sleep(0.3)
            clock.move(120)
            answer = t.reply()
        finally:
            os.kill(tables, signal.SIGCONT)
        assert answer == "451 4.3.0 <someone@example.com>: Temporary lookup failure"
        h.wait_log("warning: .*passwd-file:.*users")
        assert t("RCPT TO:<someone@example.com>").startswith("550 5.1.1")
        assert t("RCPT TO:<tomo@example.com>").startswith("250")


def test_a_source_that_vanishes(where):
    """Hato goes on with what it has, says so, and takes up the new one."""
    with own(where) as h:
        os.rename(h.path("users"), h.path("users.away"))

        def answer(who):
            with Talk(h) as t:
                t("MAIL FROM:<>")
                return t(f"RCPT TO:<{who}@example.com>")
        assert answer("tomo").startswith("250")
        h.write("users.away", "eve@example.com:{PLAIN}x::::::\n")
        os.rename(h.path("users.away"), h.path("users"))
        assert wait_for(lambda: answer("eve").startswith("250"))
        assert wait_for(lambda: answer("tomo").startswith("550"))


def test_log_of_a_letter(mx):
    with Talk(mx) as t:
        t.hello()
        qid = t.mail(b"Message-ID: <1@x.example>\r\nSubject: x\r\n\r\nb\r\n",
                     sender="log@example.net")
        t("QUIT")
    mx.wait_log(rf"{qid}: removed")
    mx.wait_log(rf"{qid}: to=")
    # Lines of different processes may change places.
    lines = [x.split(": ", 1) for x in mx.log().splitlines() if qid in x]
    want = [
        (r"postfix/smtpd\[\d+\]", r"{q}: client=unknown\[127\.0\.0\.2\]"),
        (r"postfix/cleanup\[\d+\]", r"{q}: message-id=<1@x\.example>"),
        (r"postfix/qmgr\[\d+\]", r"{q}: from=<log@example\.net>, size=\d+, nrcpt=1 "
                                 r"\(queue active\)"),
        (r"postfix/virtual\[\d+\]", r"{q}: to=<tomo@example\.com>, relay=virtual, "
                                    r"delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, "
                                    r"dsn=2\.0\.0, status=sent \(delivered to maildir\)"),
        (r"postfix/qmgr\[\d+\]", r"{q}: removed"),
    ]
    assert len(lines) == len(want)
    for service, pattern in want:
        assert [1 for head, text in lines if re.search(service + "$", head)
                and re.fullmatch(pattern.replace("{q}", qid), text)] == [1], pattern


def test_no_message_id(mx):
    with Talk(mx) as t:
        t.hello()
        qid = t.mail(b"Subject: x\r\n\r\nb\r\n")
    mx.wait_log(rf"cleanup\[\d+\]: {qid}: message-id=<>")


def test_received_with_several_recipients(mx):
    before = len(maildir(mx.box("tomo")))
    with Talk(mx) as t:
        t("HELO old.example")
        t.mail(rcpts=["tomo@example.com", "ana@example.com"])
    m = mx.mails("tomo", before + 1)[-1]
    assert re.search(rb"\nReceived: from old\.example \(unknown \[127\.0\.0\.2\]\)\n"
                     rb"\tby mx\.example\.com \(Hato\) with SMTP id \w+;\n"
                     rb"\t\w{3}, [ \d]\d? \w{3} \d{4} [\d:]{8} [-+]\d{4}\n", m)


def test_many_at_once(mx):
    """200 clients with 3 letters each; nobody gets what was not meant for him."""
    before = len(maildir(mx.box("tomo")))

    def one(i):
        with Talk(mx, timeout=30) as t:
            t.hello()
            for k in range(3):
                t.mail(b"Subject: %d-%d\r\n\r\n" % (i, k) + b"%d\r\n" % i * 500)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(200)))
    found = mx.mails("tomo", before + 600, 30)[before:]
    for m in found:
        n = re.search(rb"^Subject: (\d+)-\d$", m, re.M)[1]
        assert set(m.split(b"\n\n", 1)[1].split()) == {n}
