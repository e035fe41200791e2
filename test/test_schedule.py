"""What the queue does with mail that waits: ETRN, long queues, how it is shown.

covers: fast_flush_domains smtpd_etrn_restrictions
"""
import json
import os
import re
import smtplib
import subprocess

from hatotest import EXE, Hato, free_port, wait_for
from mx import Mx
from postfixpeer import PEER, Postfix, need
from sink import Sink
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
        assert wait_for(lambda: new_mail(h, "a.example"), 60)
        assert not new_mail(h, "b.example")
        assert [m["recipients"][0]["address"] for m in queued(h)] == ["u@b.example"]
        h.tool("postqueue", "-s", "b.example")
        assert wait_for(lambda: new_mail(h, "b.example"), 60)


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
        assert wait_for(lambda: new_mail(h, "a.example"), 60)
        h.tool("postsuper", "-d", "ALL")
        assert not queued(h)


LETTERS = (("s@example.net", ["u@a.example"]), ("", ["u@a.example", "v@b.example"]),
           ("x@example.org", ["u@b.example", "v@b.example", "w@b.example"]))


def plain(text):
    """Without what differs from one server, and second, to another."""
    text = re.sub(r"\b4\w{14,16}\b *", "ID ", text)
    text = re.sub(r"\d+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d ", "SIZE TIME ", text)
    return re.sub(r'(arrival_time|message_size)": \d+', r'\1": N', text)


def in_order(shown):
    head, *mails, end = plain(shown).replace("Sender/Recipient------\n",
                                             "Sender/Recipient------\n\n").split("\n\n")
    return [head] + sorted(sorted(m.splitlines()) for m in mails) + [end]


def test_the_queue_as_postfix_shows_it(where):
    """The same mail in both queues; postqueue and qshape print the same."""
    need()
    main = {"defer_transports": "local", "mydestination": "a.example, b.example",
            "local_transport": "local"}
    os.mkdir(where / "p")
    with boxes(where, virtual_mailbox_domains="", **main) as h, \
            Postfix(where / "p", enable_long_queue_ids="yes", mynetworks="127.0.0.0/8",
                    **main) as p:
        def theirs(*command):
            got = subprocess.run(
                [f"{PEER}/usr/sbin/{command[0]}", *command[1:]], stdout=subprocess.PIPE,
                text=True, check=True, timeout=60,
                env={**p.env, "PATH": f"{PEER}/usr/sbin:{os.environ['PATH']}"})
            return got.stdout

        assert h.tool("postqueue", "-p").stdout == theirs("postqueue", "-p")
        for sender, rcpts in LETTERS:
            letter(h, *rcpts, sender=sender)
            letter(p, *rcpts, sender=sender)
        assert wait_for(lambda: theirs("postqueue", "-p").count("(deferred") == 3, 60)
        assert wait_for(lambda: h.tool("postqueue", "-p").stdout.count("(deferred") == 3, 60)
        assert in_order(h.tool("postqueue", "-p").stdout) == in_order(theirs("postqueue", "-p"))
        ours, his = ([json.loads(x) for x in plain(t).replace(": N", ": 0").splitlines()]
                     for t in (h.tool("postqueue", "-j").stdout, theirs("postqueue", "-j")))
        for mails in ours, his:
            mails.sort(key=lambda m: m["sender"])
            for m in mails:
                m["recipients"].sort(key=lambda r: r["address"])
                m["queue_id"] = ""
        assert ours == his
        for args in (("deferred",), ("-s", "deferred"), ("-p", "-m", "1", "-b", "4", "deferred"),
                     ("-l", "deferred"), ()):
            # destinations with as many messages come in any order
            assert sorted(h.tool("qshape", *args).stdout.splitlines()) == \
                sorted(theirs("qshape", *args).splitlines())


def test_hato_queue(where):
    h = boxes(where, defer_transports="virtual")
    with h:
        for sender, rcpts in LETTERS:
            letter(h, *(r.replace("v@", "u@").replace("w@", "u@") for r in rcpts), sender=sender)
        assert wait_for(lambda: h.tool("postqueue", "-p").stdout.count("(deferred") == 3, 60)

        def count(*filters):
            return int(h.command("queue", "--count", *filters, check=True).stdout)

        assert count() == 3
        assert count("--sender", "@example.net") == count("--sender", "<>") == 1
        assert count("--sender", "*@EXAMPLE.*") == 2
        assert count("--rcpt", "u@a.example") == count("--site", "A.example") == 2
        assert count("--transport", "virtual") == 3 and count("--transport", "smtp") == 0
        assert count("--status", "hold") == 0 and count("--status", "deferred") == 3
        assert count("--older", "1h") == 0 and count("--younger", "2d") == 3
        assert count("--reason", "deferred transport", "--site", "b.example") == 2
        (m,) = map(json.loads, h.command("queue", "--json", "--sender", "<>").stdout.splitlines())
        assert m["recipients"][0] == {
            "address": "u@a.example", "transport": "virtual", "nexthop": "a.example",
            "status": "4.3.2", "delay_reason": "deferred transport"}
        assert m["attempts"] == 1 and m["next_try"] >= m["arrival_time"] + 300
        assert m["why"] == "waits for its next try"
        assert h.command("queue", "--ids", "--sender", "<>").stdout == m["queue_id"] + "\n"
        shown = h.command("queue", "--id", m["queue_id"]).stdout
        assert re.search(r"waits for its next try in \d+m \(.*\), tried 1 time\n"
                         r"    to u@a.example by virtual:a.example\n"
                         r"        4.3.2 deferred transport\n", shown)
        assert re.search(r"a\.example +1 +1 ", h.command(
            "queue", "--shape", "--sender", "@example.net").stdout)
        assert h.command("queue", "hold").returncode == 64
        assert h.command("queue", "--site", "b.example", "hold").stdout == "2 messages held\n"
        assert count("--status", "hold") == 2
        assert h.command("queue", "--sender", "<>", "release").stdout == "1 message released\n"
        assert h.command("queue", "--status", "hold", "delete").stdout == "1 message deleted\n"
        h.command("queue", "--sender", "@example.net", "flush", check=True)
        assert wait_for(lambda: new_mail(h, "a.example"), 60)


def test_sick_destinations_do_not_slow_healthy_ones(where):
    """30 destinations, three dead, three that never say a word: the others get their mail,
    though what is allowed at once is less than what waits for the silent ones."""
    dead = free_port()
    with Sink(host="0.0.0.0") as well, Sink({"CONNECT": 3600}, host="0.0.0.0") as silent:
        ports = [dead] * 3 + [silent.port] * 3 + [well.port] * 24
        table = " ".join(f"{{d{i}.example = smtp:[127.0.1.{i}]:{port}}}"
                         for i, port in enumerate(ports))
        h = Hato(where, main={
            "transport_maps": f"inline:{{ {table} }}", "default_process_limit": "1",
            "smtp_helo_timeout": "900s", "minimal_backoff_time": "900s"})
        with h:
            for k in range(5):
                for i in range(30):
                    letter(h, f"u{k}@d{i}.example")
            well.wait(24 * 5, 180)
            to = {r for m in well.messages for r in m.rcpts}
            assert len(to) == 24 * 5
            h.wait_log(r"status=deferred \(connect to 127\.0\.1\.\d\[127\.0\.1\.\d\]:\d+: "
                       r"Connection refused", 120)
            h.wait_log(r"status=deferred \(delivery temporarily suspended: connect to ", 120)
            sick = {f"d{i}.example" for i in range(6)}
            assert wait_for(lambda: {r["address"].split("@")[1] for m in queued(h)
                                     for r in m["recipients"]} == sick, 60, 0.5)
            assert "d3.example" in h.command("queue", "--site", "d3.example").stdout
