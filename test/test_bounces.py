"""Reports, address verification, VERP: what people and other systems are told.

covers: unverified_recipient_reject_code unverified_recipient_defer_code
covers: unverified_recipient_reject_reason unverified_recipient_tempfail_action
covers: unverified_sender_reject_code unverified_sender_defer_code
covers: unverified_sender_reject_reason unverified_sender_tempfail_action
covers: address_verify_poll_count address_verify_poll_delay reject_tempfail_action
covers: address_verify_transport_maps address_verify_relayhost
covers: address_verify_default_transport address_verify_local_transport
covers: address_verify_relay_transport address_verify_virtual_transport
covers: address_verify_sender_dependent_default_transport_maps
covers: address_verify_sender_dependent_relayhost_maps
covers: smtpd_authorized_verp_clients authorized_verp_clients
covers: default_verp_delimiters verp_delimiter_filter
covers: notify_classes error_notice_recipient bounce_template_file
"""
import email
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hatotest import wait_for  # noqa: E402
from mx import Mx  # noqa: E402
from smtptalk import FRIEND, STRANGER, Talk  # noqa: E402

VERIFY = {"smtpd_reject_unlisted_recipient": "no", "address_verify_poll_delay": "1s",
          "unverified_recipient_reject_code": "550", "address_verify_poll_count": "20"}


@pytest.fixture
def where():
    path = tempfile.mkdtemp(prefix="hato-bounces-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def rcpt(h, addr, sender="x@far.example", source=FRIEND):
    with Talk(h, source, timeout=60) as t:
        t.hello()
        assert t(f"MAIL FROM:<{sender}>").startswith("250")
        return t(f"RCPT TO:<{addr}>")


def test_unverified_recipient(where):
    with Mx(where, main={"smtpd_recipient_restrictions": "reject_unverified_recipient",
                         "mydestination": "mx.example.com, local.example",
                         "alias_maps": "inline:{ {known=tomo@example.com, ana@example.com} }",
                         **VERIFY}) as h:
        assert rcpt(h, "tomo@example.com").startswith("250")
        got = rcpt(h, "nobody@example.com")
        assert got.startswith('550 5.1.1 <nobody@example.com>: Recipient address rejected: '
                              'undeliverable address: unknown user: "nobody@example.com"'), got
        assert rcpt(h, "known@local.example").startswith("250")
        assert rcpt(h, "no-such-user@local.example").startswith("550 5.1.1")
        h.wait_log(r"virtual\[\d+\]: \w+: to=<tomo@example.com>, .*dsn=2.0.0, "
                   r"status=deliverable \(delivers to mailbox\)")
        h.wait_log(r"local\[\d+\]: \w+: to=<known@local.example>, .*status=deliverable "
                   r"\(aliased to ")
        h.wait_log(r"virtual\[\d+\]: \w+: to=<nobody@example.com>, .*status=undeliverable ")
        assert h.empty("tomo")
        # What is known is known after a restart as well.
        h.stop()
        n = h.log().count("status=undeliverable")
        h.start()
        assert rcpt(h, "nobody@example.com").startswith("550")
        assert h.log().count("status=undeliverable") == n


def test_unverified_sender(where):
    with Mx(where, main={"smtpd_sender_restrictions": "reject_unverified_sender",
                         "unverified_sender_reject_code": "550",
                         "unverified_sender_defer_code": "451",
                         "unverified_sender_reject_reason": "go away",
                         "address_verify_transport_maps":
                             "inline:{ {bad.example=error:5.7.9 never}, {slow.example=error:4.7.9 later} }",
                         **VERIFY}) as h:
        assert rcpt(h, "tomo@example.com", sender="ana@example.com").startswith("250")
        assert rcpt(h, "tomo@example.com", sender="").startswith("250")
        assert rcpt(h, "tomo@example.com", sender="a@bad.example") == (
            "550 5.1.0 <a@bad.example>: Sender address rejected: undeliverable address: go away")
        assert rcpt(h, "tomo@example.com", sender="a@slow.example") == (
            "451 4.1.0 <a@slow.example>: Sender address rejected: unverified address: go away")
        assert wait_for(lambda: "Mail queue is empty" in h.command("postqueue", "-p").stdout)


def letters(h, name, n=1, seconds=30):
    """The mails of a user, oldest first."""
    return [email.message_from_bytes(m if isinstance(m, bytes) else open(m, "rb").read())
            for m in h.mails(name, n, seconds)]


def blocks(m):
    """The per-recipient fields of a report by recipient."""
    return {b["Final-Recipient"].split("; ")[1]: b for b in m.get_payload()[1].get_payload()[1:]}


def test_xverp(where):
    with Mx(where, main={"smtpd_authorized_verp_clients": "127.0.0.1",
                         "default_verp_delimiters": "-=",
                         "smtpd_reject_unlisted_recipient": "no",
                         "recipient_delimiter": "-"}) as h:
        with Talk(h, STRANGER) as t:
            assert "XVERP" not in t("EHLO c")
            assert t("MAIL FROM:<a@b.example> XVERP").startswith("555 5.5.4")
        with Talk(h, FRIEND) as t:
            assert "250 XVERP" in t("EHLO c").split("\n")
            assert t("MAIL FROM:<> XVERP").startswith("503 5.5.4")
            assert t("MAIL FROM:<tomo@example.com> XVERP=ab") == (
                "501 5.5.4 Error: XVERP needs two characters from -=+")
            assert t("MAIL FROM:<tomo@example.com> XVERP").startswith("250")
            assert t("RCPT TO:<ana@example.com>").startswith("250")
            assert t("RCPT TO:<gone@example.com>").startswith("250")
            t("DATA")
            assert t("Subject: v\r\n\r\nx\r\n.").startswith("250")
        assert letters(h, "ana")[0]["Return-Path"] == "<tomo-ana=example.com@example.com>"
        bounce = letters(h, "tomo")[0]
        assert bounce["To"] == "tomo-gone=example.com@example.com"
        assert list(blocks(bounce)) == ["gone@example.com"]


def test_sendmail_asks_and_traces(where):
    with Mx(where) as h:
        h.tool("sendmail", "-f", "tomo@example.com", "-bv", "ana@example.com", "gone@example.com")
        m = letters(h, "tomo")[0]
        assert m["Subject"] == "Mail Delivery Status Report"
        by = blocks(m)
        assert by["ana@example.com"]["Action"] == "deliverable"
        assert by["gone@example.com"]["Action"] == "undeliverable"
        assert by["gone@example.com"]["Status"] == "5.1.1"
        assert h.empty("ana")
        h.tool("sendmail", "-v", "-f", "tomo@example.com", "ana@example.com",
               stdin="Subject: t\n\nx\n")
        letters(h, "ana")
        m, = (m for m in letters(h, "tomo", 2) if m["Subject"].startswith("Success"))
        assert blocks(m)["ana@example.com"]["Action"] == "delivered"


def test_sendmail_dsn_options(where):
    with Mx(where) as h:
        h.tool("sendmail", "-f", "tomo@example.com", "-N", "success, delay", "-R", "hdrs", "-V",
               "id 7", "ana@example.com", stdin="Subject: t\n\nx\n")
        m = letters(h, "tomo")[0]
        assert m["Subject"] == "Successful Mail Delivery Report"
        assert m.get_payload()[1].get_payload()[0]["Original-Envelope-Id"] == "id 7"
        assert h.tool("sendmail", "-N", "maybe", "x", stdin="", check=False).returncode == 64
        assert h.tool("sendmail", "-R", "half", "x", stdin="", check=False).returncode == 64
        h.tool("sendmail", "-f", "tomo@example.com", "-XV+=", "ana@example.com",
               stdin="Subject: t\n\nx\n")
        got = sorted(x["Return-Path"] for x in letters(h, "ana", 2))
        assert got == ["<tomo+ana=example.com@example.com>", "<tomo@example.com>"]


def test_the_sender_of_probes_is_taken(where):
    """Others verify it; what is sent to it goes nowhere."""
    with Mx(where, main={"myorigin": "mx.example.com", "local_recipient_maps": "static:",
                         "smtpd_recipient_restrictions": "reject"}) as h:
        assert rcpt(h, "root@mx.example.com").startswith("554")
        with Talk(h, STRANGER) as t:
            t.hello()
            t("MAIL FROM:<>")
            assert t("RCPT TO:<double-bounce@mx.example.com>").startswith("250")
            t("DATA")
            assert t("Subject: v\r\n\r\nx\r\n.").startswith("250")
        h.wait_log(r"to=<double-bounce@mx.example.com>, .*status=sent \(undeliverable postmaster "
                   r"notification discarded\)")
        h.wait_log("removed")


def test_transcripts_for_the_postmaster(where):
    with Mx(where, main={"notify_classes": "policy, protocol",
                         "error_notice_recipient": "ana@example.com"}) as h:
        with Talk(h, STRANGER) as t:
            t.hello()
            t("NOOP")
            t("QUIT")
        with Talk(h, STRANGER) as t:
            t.hello()
            assert t("FOO bar").startswith("500")
            t("MAIL FROM:<a@b.example>")
            assert t("RCPT TO:<x@elsewhere.example>").startswith("554")
            t("QUIT")
        m = letters(h, "ana")[0]
        assert m["Subject"] == "Hato SMTP server: errors from unknown[127.0.0.2]"
        assert m["Return-Path"] == "<double-bounce@mx.example.com>"
        text = m.get_payload()
        assert text.startswith("Transcript of session follows.\n\n Out: 220 ")
        assert " In:  FOO bar\n Out: 500 5.5.2 Error: command not recognized\n" in text
        assert " In:  RCPT TO:<x@elsewhere.example>\n Out: 554 5.7.1 " in text
        assert "FOO" not in text[text.index("RCPT"):]


def test_texts_of_our_own(where):
    h = Mx(where, main={"bounce_template_file": f"{where}/bounce.cf",
                        "smtpd_reject_unlisted_recipient": "no"})
    h.write("bounce.cf", "failure_template = <<EOF\nCharset: us-ascii\nSubject: Oh no\n\n"
                         "Says $myhostname.\n\nEOF\n")
    with h:
        with Talk(h, FRIEND) as t:
            t.hello()
            t("MAIL FROM:<tomo@example.com>")
            t("RCPT TO:<gone@example.com>")
            t("DATA")
            t("Subject: v\r\n\r\nx\r\n.")
        m = letters(h, "tomo")[0]
        assert m["Subject"] == "Oh no"
        assert m["From"] == "MAILER-DAEMON@mx.example.com (Mail Delivery System)"
        assert m.get_payload()[0].get_payload().startswith("Says mx.example.com.\n")


def bounce_subject(h, n):
    """Of a message to nobody, whose report is the n-th."""
    with Talk(h, FRIEND) as t:
        t.hello()
        t("MAIL FROM:<tomo@example.com>")
        t("RCPT TO:<gone@example.com>")
        t("DATA")
        t("Subject: v\r\n\r\nx\r\n.")
    return letters(h, "tomo", n)[-1]["Subject"]


def test_a_reload_reads_the_texts_again(where):
    h = Mx(where, main={"bounce_template_file": f"{where}/bounce.cf",
                        "smtpd_reject_unlisted_recipient": "no"})
    usual = "Undelivered Mail Returned to Sender"
    text = "failure_template = <<EOF\nSubject: {}\n\nx\n\nEOF\n"
    h.write("bounce.cf", text.format("first"))
    with h:
        assert bounce_subject(h, 1) == "first"
        h.write("bounce.cf", text.format("second"))
        assert h.command("reload").returncode == 0
        assert bounce_subject(h, 2) == "second"
        h.write("bounce.cf", "nonsense\n")
        h.command("reload")
        assert bounce_subject(h, 3) == usual
        h.write("bounce.cf", text.format("third"))
        h.command("reload")
        assert bounce_subject(h, 4) == "third"
        os.unlink(f"{where}/bounce.cf")
        h.command("reload")
        assert bounce_subject(h, 5) == usual
