"""hato trace: one message's whole life out of the log, in its three formats, rotated
files too; by queue id, address, Message-ID."""
import gzip
import imaplib
import json
import re
import smtplib

import pytest
from hatotest import free_port, MASTER_CF, wait_for
from mx import Mx

RUN = """\
Nov 20 10:00:00 vm postfix/smtpd[10]: connect from a.example[192.0.2.1]
Nov 20 10:00:00 vm postfix/smtpd[10]: Anonymous TLS connection established from \
a.example[192.0.2.1]: TLSv1.3 with cipher X
Nov 20 10:00:01 vm postfix/smtpd[10]: 4abcdef0001: client=a.example[192.0.2.1]
Nov 20 10:00:01 vm postfix/cleanup[10]: 4abcdef0001: message-id=<one@a.example>
Nov 20 10:00:01 vm postfix/qmgr[11]: 4abcdef0001: from=<tomo@a.example>, size=900, nrcpt=2 \
(queue active)
Nov 20 10:00:01 vm postfix/smtpd[10]: disconnect from a.example[192.0.2.1] ehlo=1 quit=1
Nov 20 10:00:02 vm postfix/smtpd[10]: 4abcdef0009: client=b.example[192.0.2.2]
"""
LATER = """\
Nov 21 10:00:02 vm postfix/virtual[12]: 4abcdef0001: to=<ana@example.com>, relay=virtual, \
delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to maildir)
Nov 21 10:00:02 vm postfix/smtp[12]: 4abcdef0001: to=<far@b.example>, orig_to=<list@example.com>, \
relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred (no route)
Nov 21 10:00:03 vm postfix/smtpd[10]: NOQUEUE: reject: RCPT from c.example[192.0.2.3]: 550 5.1.1 \
<no@example.com>: unknown; from=<x@c.example> to=<no@example.com> proto=ESMTP helo=<c>
Nov 21 10:00:04 vm postfix/smtp[12]: 4abcdef0001: to=<far@b.example>, orig_to=<list@example.com>, \
relay=b.example[192.0.2.2]:25, delay=2, delays=0/0/0/1, dsn=5.0.0, status=bounced (host said: 550)
Nov 21 10:00:04 vm postfix/cleanup[11]: 4abcdef0002: message-id=<report@mx.example.com>
Nov 21 10:00:04 vm postfix/bounce[11]: 4abcdef0001: sender non-delivery notification: 4abcdef0002
Nov 21 10:00:04 vm postfix/qmgr[11]: 4abcdef0001: removed
Nov 21 10:00:04 vm postfix/qmgr[11]: 4abcdef0002: from=<>, size=2000, nrcpt=1 (queue active)
Nov 21 10:00:05 vm postfix/smtp[12]: 4abcdef0002: to=<tomo@a.example>, relay=f[127.0.0.1]:10025, \
delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4abcdef0003)
Nov 21 10:00:05 vm postfix/qmgr[11]: 4abcdef0002: removed
Nov 21 10:00:05 vm postfix/qmgr[11]: 4abcdef0003: from=<>, size=2010, nrcpt=1 (queue active)
Nov 21 10:00:06 vm postfix/smtp[12]: 4abcdef0003: to=<tomo@a.example>, relay=a[192.0.2.1]:25, \
delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok: queued as 9ABCDEF01)
Nov 21 10:01:00 vm dovecot[20]: imap(bob@example.com)<20><s1>: Disconnected: out=1 fetched=3
Nov 21 10:01:00 vm dovecot[20]: imap(ana@example.com)<20><s2>: Disconnected: out=1 fetched=0
Nov 21 10:02:00 vm dovecot[20]: imap(Ana@example.com)<20><s3>: Disconnected: out=1 fetched=1
Nov 21 10:03:00 vm dovecot[20]: imap(ana@example.com)<20><s4>: Disconnected: out=1 fetched=1
Nov 21 10:04:00 vm dovecot[21]: lmtp(ana@example.com)<21><s5>: msgid=<two@a.example>: saved mail \
to INBOX
"""


@pytest.fixture(name="log")
def fixture_log(where):
    """The older half was rotated and compressed."""
    h = Mx(where)
    with gzip.open(h.path("log.2.gz"), "wb") as f:
        f.write(RUN.encode())
    h.write("log", LATER)
    h.write("logbook", "Nov 21 10:00:00 vm x/qmgr[1]: 4abcdef0001: from=<no@x>, size=1\n")
    h.own()
    return h


def objects(h, *args):
    p = h.command("trace", "--json", *args, check=True)
    return [json.loads(line) for line in p.stdout.splitlines()]


@pytest.mark.parametrize("key", ["4abcdef0001", "<one@a.example>", "one@a.example",
                                 "far@b.example", "list@example.com", "4abcdef0002"])
def test_a_life_in_rotated_logs(log, key):
    """From the connection to the report about it and its copy, and to the reading."""
    p = log.command("trace", key, check=True)
    out = p.stdout
    for text in ("connect from a.example", "Anonymous TLS", "client=a.example",
                 "disconnect from a.example", "status=deferred", "status=bounced",
                 "4abcdef0002 from <>", "notification of 4abcdef0001",
                 "4abcdef0003 from <>", "copy of 4abcdef0002", "<s3>",
                 "=> <far@b.example> (for <list@example.com>) bounced (host said: 550), "
                 "after 2 attempts"):
        assert text in out, text
    for text in ("<s1>", "<s2>", "<s4>", "logbook", "from=<no@x>", "9ABCDEF01 ", "4abcdef0009"):
        assert text not in out, text
    first = out.index("4abcdef0001 from <tomo@a.example>, message-id <one@a.example>, "
                      "900 bytes, done")
    assert out.index("removed", first) < out.index("=> <ana@example.com> sent")


def test_json(log):
    m, dsn, copy = objects(log, "4abcdef0001")
    assert (m["queue_id"], m["message_id"], m["state"]) == ("4abcdef0001", "one@a.example", "done")
    assert [(r["to"], r["status"], r["attempts"]) for r in m["recipients"]] == [
        ("ana@example.com", "sent", 1), ("far@b.example", "bounced", 2)]
    assert (dsn["of"], dsn["is"]) == ("4abcdef0001", "notification")
    assert (copy["of"], copy["is"], copy["state"]) == ("4abcdef0002", "copy", "queued")
    assert m["events"][0]["text"].startswith("connect from")


def test_what_has_no_queue_id(log):
    assert "reject: RCPT" in log.command("trace", "no@example.com", check=True).stdout
    assert "saved mail" in log.command("trace", "<two@a.example>", check=True).stdout


def test_nothing_found_and_bad_use(log):
    p = log.command("trace", "nobody@nowhere.example")
    assert p.returncode == 1 and "nothing of" in p.stderr
    assert log.command("trace").returncode == 64
    assert log.command("trace", "-n", "x", "y").returncode == 64
    assert log.command("trace", "-f", "/nonexistent", "y@z").returncode == 66


def test_the_newest_are_shown(log):
    lines = "".join(f"Nov 21 11:00:00 vm postfix/qmgr[1]: 5abcdef{i:04}: from=<many@x>, size=1, "
                    f"nrcpt=1 (queue active)\n" for i in range(500))
    log.write("log", lines + "junk\n" * 3 + "x" * 300000 + "\n")
    p = log.command("trace", "-n", "10", "many@x", check=True)
    assert p.stdout.count(" from <many@x>") == 10 and "5abcdef0499" in p.stdout
    assert "490 older messages" in p.stderr
    assert log.command("trace", "@x", check=True).stdout.count(" from <many@x>") == 100


@pytest.mark.parametrize("fmt", ["postfix", "json", "logfmt"])
def test_of_a_running_server(where, fmt):
    port = free_port()
    with Mx(where, main={"hato_log_format": fmt, "disable_plaintext_auth": "no",
                         "passdb": f"passwd-file:{where}/users"},
            master=MASTER_CF + f"{port} inet n - n - - imapd\n") as h:
        with smtplib.SMTP("127.0.0.1", h.port) as s:
            s.sendmail("tomo@example.com", ["ana@example.com"],
                       "Message-ID: <first@x>\r\n\r\nhi\r\n")
            s.sendmail("tomo@example.com", ["tomo@example.com"],
                       "Message-ID: <second@x>\r\n\r\nhi\r\n")
        h.mails("ana")
        h.wait_log(r"ana@example.com.*delivered to maildir")
        with imaplib.IMAP4("127.0.0.1", port) as i:
            i.login("ana@example.com", "x")
            i.select()
            i.fetch("1", "(BODY[])")
        found = wait_for(lambda: "fetched=1" in h.command("trace", "<first@x>").stdout, 20)
        out = h.command("trace", "<first@x>", check=True).stdout
        assert found, out
        assert "connect from unknown[127.0.0.1]" in out
        assert "message-id <first@x>" in out and "second" not in out
        assert "=> <ana@example.com> sent (delivered to maildir)" in out
        assert wait_for(lambda: ", done" in h.command("trace", "<first@x>").stdout, 20)


def test_mail_to_another_server(where):
    """The attempt, the far side's answer, and the report when it refuses."""
    (where / "far").mkdir()
    with Mx(where / "far", users=("ana",)) as far, \
            Mx(where, main={"relayhost": f"[127.0.0.1]:{far.port}",
                            "virtual_mailbox_domains": "home.example",
                            "smtpd_relay_restrictions": "permit_mynetworks, reject"}) as h:
        h.write("users", "tomo@home.example:{PLAIN}x::::::\n")
        with smtplib.SMTP("127.0.0.1", h.port) as s:
            s.sendmail("tomo@home.example", ["ana@example.com"], "Message-ID: <good@x>\r\n\r\nx\r\n")
            s.sendmail("tomo@home.example", ["no@example.com"], "Message-ID: <bad@x>\r\n\r\nx\r\n")
        far.mails("ana")
        h.wait_log("to=<tomo@home.example>.*status=sent", 30)
        out = h.command("trace", "<good@x>", check=True).stdout
        assert "=> <ana@example.com> sent (250 2.0.0 Ok: queued as " in out, out
        there = far.command("trace", "ana@example.com", check=True).stdout
        assert "message-id <good@x>" in there and "delivered to maildir" in there
        out = h.command("trace", "no@example.com", check=True).stdout
        assert "=> <no@example.com> bounced (" in out and "notification of " in out, out
        assert "=> <tomo@home.example> sent (delivered to maildir)" in out, out
        numbers = h.command("metrics", check=True).stdout
        for status in ("sent", "bounced"):
            assert f'hato_deliveries_total{{transport="smtp",status="{status}"}} 1' in numbers
        assert re.search(r"^hato_smtp_deliveries_total.* [1-9]", numbers, re.M), numbers
