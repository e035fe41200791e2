#!/usr/bin/env python3
"""Reports as another program reads them (RFC 3461, 3464, 6533): python's email.

usage: test_dsn.py PRINT_DSN
"""
import email
import email.policy
import subprocess
import sys


def report(*args):
    raw = subprocess.run([sys.argv[1], *args], check=True, stdout=subprocess.PIPE).stdout
    return raw, email.message_from_bytes(raw, policy=email.policy.compat32)


def check(what, got, want):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


def blocks(part):
    return part.get_payload()


def common(raw, m, prefix=""):
    check("defects", m.defects, [])
    check("type", m.get_content_type(), "multipart/report")
    check("report-type", m.get_param("report-type"), prefix + "delivery-status")
    check("to", m["To"], '"a b"@example.org')
    check("auto", m["Auto-Submitted"], "auto-replied")
    assert "MAILER-DAEMON" in m["From"] and "Mail Delivery System" in m["From"]
    parts = m.get_payload()
    check("parts", len(parts), 3)
    check("status type", parts[1].get_content_type(), f"message/{prefix}delivery-status")
    assert all(len(line) <= 998 for line in raw.split(b"\n"))
    return parts


def test_failure():
    raw, m = report("failure")
    text, status, original = common(raw, m)
    check("subject", m["Subject"], "Undelivered Mail Returned to Sender")
    b = blocks(status)
    check("blocks", len(b), 4)
    check("mta", b[0]["Reporting-MTA"], "dns; mx.example.com")
    check("envid", b[0]["Original-Envelope-Id"], "QQ314159")
    check("queue id", b[0]["X-Hato-Queue-ID"], "4jX1tF1kJ3z7t7J")
    assert b[0]["Arrival-Date"]
    check("final", b[1]["Final-Recipient"], "rfc822; u@example.com")
    check("action", b[1]["Action"], "failed")
    check("status", b[1]["Status"], "5.1.1")
    check("diag", b[1]["Diagnostic-Code"], 'X-Hato; unknown user: "u"')
    check("quoted", b[2]["Final-Recipient"], 'rfc822; "john doe"@example.com')
    check("sender", b[0]["X-Hato-Sender"], 'rfc822; "a b"@example.org')
    check("original", b[2]["Original-Recipient"], "rfc822;All@example.com")
    diag = " ".join(b[2]["Diagnostic-Code"].split())
    assert diag.startswith("smtp; 451 4.4.1 a text"), diag
    assert diag.endswith("Injected: no"), diag
    assert "Injected" not in b[2]
    check("7bit", b[3]["Final-Recipient"], "rfc822; ??@example.com")
    raw.decode("ascii")
    body = text.get_payload()
    assert "This is the mail system at host mx.example.com." in body
    assert '<u@example.com>: unknown user: "u"' in body
    assert "(expanded from <all@example.com>): 451 4.4.1" in " ".join(body.split())
    assert max(map(len, body.split("\n"))) <= 79
    check("returned", original.get_content_type(), "message/rfc822")
    inner = original.get_payload()[0]
    check("inner", (inner["Subject"], inner["Return-Path"]),
          ("original", '<"a b"@example.org>'))
    check("inner body", inner.get_payload(), "original body\n")


def test_delay():
    raw, m = report("delay")
    text, status, original = common(raw, m)
    check("subject", m["Subject"], "Delayed Mail (still being retried)")
    body = text.get_payload()
    assert "THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE." in body
    assert "more than 4 hour(s)" in body and "5 day(s)" in body
    assert blocks(status)[2]["Will-Retry-Until"]
    check("returned", original.get_content_type(), "text/rfc822-headers")
    assert "original body" not in original.get_payload()


def test_success():
    raw, m = report("success")
    _, status, _ = common(raw, m)
    check("subject", m["Subject"], "Successful Mail Delivery Report")
    check("action", blocks(status)[3]["Action"], "delivered")


def test_copy():
    raw, m = report("copy")
    text, _, _ = common(raw, m)
    check("subject", m["Subject"], "Postmaster Copy: Undelivered Mail")
    assert "mail system at host" not in text.get_payload()


def test_utf8():
    raw, m = report("failure", "utf8")
    text, status, original = common(raw, m, "global-")
    raw.decode("utf-8")
    assert b"Final-Recipient: utf-8; \xc3\xa4@example.com\n" in raw
    check("charset", text.get_content_charset(), "utf-8")
    check("returned", original.get_content_type(), "message/global")


for name, fn in sorted(globals().items()):
    if name.startswith("test_"):
        fn()
        print("ok", name)
