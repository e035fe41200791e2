"""A relay in front of a store, and a second MX (MISSION H1 and H5): two and three Hatos.

covers: relay_recipient_maps transport_maps fast_flush_domains best_mx_transport
"""
import os
import smtplib

from hatotest import Hato, free_port, wait_for
from internet import Internet
from mx import Mx
from smtptalk import FRIEND, STRANGER, Talk, maildir

NOW = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}


def store(where, port=None, **main):
    """Who has the mailboxes of example.com."""
    os.makedirs(f"{where}/store", exist_ok=True)
    os.chmod(f"{where}/store", 0o755)
    h = Mx(f"{where}/store", main={"myhostname": "store.example.com", **main},
           users=("tomo", "ana", "boss"))
    if port:
        h.port = port
        h.write_conf()
    return h


def relay(where, port, **main):
    """Who stands in front of it: no user of its own."""
    os.makedirs(f"{where}/relay", exist_ok=True)
    os.chmod(f"{where}/relay", 0o755)
    return Hato(f"{where}/relay", main={
        "myhostname": "relay.example.com", "mydestination": "", "mynetworks": "127.0.0.1/32",
        "relay_domains": "example.com", "smtpd_relay_restrictions": "reject_unauth_destination",
        "transport_maps": f"inline:{{ {{example.com=relay:[127.0.0.1]:{port}}} }}",
        "smtp_tls_security_level": "none", "address_verify_poll_delay": "1s",
        "address_verify_poll_count": "20", "unverified_recipient_reject_code": "550",
        **NOW, **main})


def say(h, rcpt, body=None, sender="x@far.example"):
    with Talk(h, STRANGER, timeout=60) as t:
        t.hello()
        t(f"MAIL FROM:<{sender}>")
        got = t(f"RCPT TO:<{rcpt}>")
        if body and got.startswith("250"):
            t("DATA")
            assert t(f"Subject: {body}\r\n\r\n{body}\r\n.").startswith("250")
        return got


def test_recipients_are_checked_by_a_table(where):
    with store(where) as s, relay(where, s.port, relay_recipient_maps=(
            "inline:{ {tomo@example.com=x} }")) as r:
        assert say(r, "tomo@example.com", "one").startswith("250")
        assert say(r, "gone@example.com") == (
            "550 5.1.1 <gone@example.com>: Recipient address rejected: "
            "User unknown in relay recipient table")
        assert say(r, "x@other.example").startswith("554 5.7.1")
        assert len(s.mails("tomo", 1, 30)) == 1


def test_recipients_are_checked_at_the_store(where):
    with store(where) as s, relay(where, s.port, smtpd_recipient_restrictions=(
            "reject_unverified_recipient")) as r:
        assert say(r, "tomo@example.com", "one").startswith("250")
        got = say(r, "gone@example.com")
        assert got.startswith("550 5.1.1 <gone@example.com>: Recipient address rejected: "
                              "undeliverable address: host 127.0.0.1"), got
        assert "User unknown" in got
        assert len(s.mails("tomo", 1, 30)) == 1
        r.wait_log(r"to=<tomo@example\.com>, .*status=deliverable \(250 2\.1\.5")
        # The probe of somebody else's sender is answered by the store: nothing stays.
        assert s.empty("ana")
        s.stop()
        # What was learned holds while the store is away.
        assert say(r, "tomo@example.com", "two").startswith("250")
        assert say(r, "gone@example.com").startswith("550")
        got = say(r, "ana@example.com")
        assert got.startswith("450 4.1.1 <ana@example.com>: Recipient address rejected: "
                              "unverified address: "), got
        s.start()
        assert len(s.mails("tomo", 2, 60)) == 2


def test_a_second_mx_keeps_mail_for_days(where, monkeypatch):
    """The store is away for four days of the clock; its mail waits, is told of once, and
    comes when ETRN calls for it."""
    clock = f"{where}/clock"
    with open(clock, "wb") as f:
        f.write(bytes(8))
    os.chmod(clock, 0o666)
    monkeypatch.setenv("HATO_TEST_CLOCK", clock)
    port = free_port()
    r = relay(where, port, delay_warning_time="4h", relay_recipient_maps="static:x",
              minimal_backoff_time="300s", maximal_backoff_time="4000s", queue_run_delay="300s",
              smtpd_relay_restrictions="permit_mynetworks, reject_unauth_destination")

    def forward(hours):
        with open(clock, "r+b") as f:
            now = int.from_bytes(f.read(8), "little")
            f.seek(0)
            f.write((now + hours * 3600 * 1000).to_bytes(8, "little"))

    with r:
        for i in range(20):
            assert say(r, f"{('tomo', 'ana')[i % 2]}@example.com", str(i),
                       sender="boss@example.com").startswith("250")
        r.wait_log(r"status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: "
                   r"Connection refused\)")
        for day in range(4):
            n = r.log().count("status=deferred")
            forward(24)
            assert wait_for(lambda n=n: r.log().count("status=deferred") >= n + 20, 150), day
        assert "status=bounced" not in r.log() and "expired" not in r.log()
        s = store(where, port)
        with s:
            with Talk(r, FRIEND) as t:
                t.hello()
                assert t("ETRN example.com").startswith("250")
            assert len(s.mails("tomo", 10, 60)) == 10
            assert len(s.mails("ana", 10, 60)) == 10
            # One warning of each, and nothing else, waited with them.
            assert len(s.mails("boss", 20, 60)) == 20
            assert wait_for(lambda: "Mail queue is empty" in r.command("postqueue", "-p").stdout)


def test_a_second_mx_by_dns(where):
    """MX 10 the store, MX 20 the relay: the relay takes the mail while the store is away, and
    the store gets it when it is back."""
    port = free_port()
    net = Internet(where / "dns")
    net.zone("example.test", {"@": ["MX 10 first", "MX 20 second"], "first": "A 127.0.0.1",
                              "second": "A 127.0.0.3"})
    r = relay(where, port, transport_maps="", relayhost="", inet_interfaces="127.0.0.3",
              relay_domains="example.test", relay_recipient_maps="static:x",
              smtp_tcp_port=str(port), **net.conf())
    s = store(where, port, virtual_mailbox_domains="example.test")
    s.write("users", "tomo@example.test:{PLAIN}x::::::\n")
    with net, r:
        with smtplib.SMTP("127.0.0.3", r.port, timeout=30) as t:
            t.sendmail("x@far.example", ["tomo@example.test"], "Subject: x\r\n\r\nx\r\n")
        # On a port that is not 25 it does not know itself in the list, as Postfix.
        r.wait_log(r"connect to first\.example\.test\[127\.0\.0\.1\]:\d+: Connection refused", 60)
        r.wait_log(r"to=<tomo@example\.test>, relay=none, .*status=deferred", 60)
        with s:
            r.command("postqueue", "-s", "example.test", check=True)
            assert wait_for(lambda: maildir(s.box("tomo", "example.test")), 60), r.log()
            r.wait_log(r"relay=first\.example\.test\[127\.0\.0\.1\]:\d+, .*status=sent")
            assert wait_for(lambda: "Mail queue is empty" in r.command("postqueue", "-p").stdout)


def test_best_mx_transport(where):
    """Domains whose best MX we are go where best_mx_transport says, once."""
    net = Internet(where / "dns")
    net.zone("ours.test", {"@": ["MX 10 mx", "MX 20 other"], "mx": "A 127.0.0.1",
                           "other": "A 127.0.0.9"})
    net.zone("second.test", {"@": ["MX 10 other", "MX 20 mx"], "mx": "A 127.0.0.1",
                             "other": "A 127.0.0.9"})
    with net:
        for transport, rcpt, line in (
                ("discard:", "x@ours.test", r"to=<x@ours.test>, relay=none,.*status=sent"),
                ("error:5.7.1 nobody here", "y@ours.test",
                 r"to=<y@ours.test>,.*dsn=5.7.1, status=bounced \(nobody here"),
                ("smtp", "z@ours.test", r"to=<z@ours.test>,.*dsn=5.4.6, status=bounced"),
                ("discard:", "x@second.test", r"to=<x@second.test>,.*dsn=4.4.1, status=deferred")):
            h = Mx(f"{where}/{rcpt}", main={
                "best_mx_transport": transport, "relayhost": "", "inet_interfaces": "127.0.0.1",
                "smtp_tls_security_level": "none", **net.conf()})
            with h:
                h.tool("sendmail", "-f", "tomo@example.com", rcpt, stdin="Subject: x\n\n")
                h.wait_log(line, 30)
