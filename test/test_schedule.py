"""What the queue does with mail that waits: ETRN, long queues, how it is shown.

covers: fast_flush_domains smtpd_etrn_restrictions
"""
import json
import os
import smtplib
import subprocess

from hatotest import EXE, wait_for
from mx import Mx
from smtptalk import FRIEND, Talk

FILL = os.path.join(os.path.dirname(EXE), "..", "..", "bench", "fill_spool")


def boxes(where, **main):
    """A server with a box for u@a.example and u@b.example."""
    h = Mx(where, main={"virtual_mailbox_domains": "a.example, b.example", **main})
    h.write("users", "".join(f"u@{d}.example:{{PLAIN}}x::::::\n" for d in "ab"))
    return h


def letter(h, *rcpts, sender="s@example.net"):
    with smtplib.SMTP("127.0.0.1", h.port, timeout=20) as s:
        s.sendmail(sender, rcpts, "Subject: x\r\n\r\nbody\r\n")


def new_mail(h, domain):
    try:
        return os.listdir(h.box("u", domain) + "/new")
    except FileNotFoundError:
        return []


def queued(h):
    return [json.loads(line) for line in h.tool("postqueue", "-j").stdout.splitlines()]


def test_etrn(where):
    h = boxes(where, defer_transports="virtual", fast_flush_domains="a.example",
              smtpd_etrn_restrictions="check_etrn_access inline:{b.example=REJECT}")
    with h:
        for d in "ab":
            letter(h, f"u@{d}.example")
        h.wait_log(r"to=<u@a.example>.*status=deferred \(deferred transport\)")
        h.wait_log(r"to=<u@b.example>.*status=deferred \(deferred transport\)")
        with Talk(h, FRIEND) as t:
            assert t("ETRN a.example").startswith("503 ")
            t.hello()
            assert t("ETRN").startswith("500 ")
            assert t("ETRN a_b..c").startswith("501 ")
            assert t("ETRN c.example") == "459 <c.example>: service unavailable"
            assert t("ETRN b.example").startswith("554 5.7.1 <b.example>: Etrn command rejected")
            assert t("MAIL FROM:<s@example.net>").startswith("250")
            assert t("ETRN a.example").startswith("503 ")
            t("RSET")
            assert t("ETRN A.example") == "250 Queuing started"
            assert t("ETRN @a.example") == "250 Queuing started"
        assert wait_for(lambda: new_mail(h, "a.example"), 20)
        assert not new_mail(h, "b.example")
        assert [m["recipients"][0]["address"] for m in queued(h)] == ["u@b.example"]
        h.tool("postqueue", "-s", "b.example")
        assert wait_for(lambda: new_mail(h, "b.example"), 20)


def test_a_long_queue(where):
    """What waits is there after a start, and costs no more than a little memory."""
    h = boxes(where)
    os.makedirs(h.path("q"))
    subprocess.run([FILL, h.path("q/spool"), "20000", "200", "50"], check=True, timeout=60)
    h.own()
    with h:
        pid = next(v[0] for k, v in h.all_ready().items() if k.startswith("qmgr"))
        mails = queued(h)
        assert len(mails) == 20000
        assert mails[17]["recipients"] == [{
            "address": mails[17]["recipients"][0]["address"],
            "delay_reason": mails[17]["recipients"][0]["delay_reason"]}]
        assert "Connection refused" in mails[17]["recipients"][0]["delay_reason"]
        shown = h.tool("postqueue", "-p").stdout
        assert shown.endswith(" Kbytes in 20000 Requests.\n")
        if "asan" not in EXE:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                rss = next(int(x.split()[1]) for x in f if x.startswith("RssAnon:"))
            assert rss * 1024 < 20000 * 500 + (16 << 20)
        letter(h, "u@a.example")
        assert wait_for(lambda: new_mail(h, "a.example"), 20)
        h.tool("postsuper", "-d", "ALL")
        assert not queued(h)
