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
"""
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hatotest import wait_for  # noqa: E402
from mx import Mx  # noqa: E402
from smtptalk import FRIEND, Talk  # noqa: E402

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
