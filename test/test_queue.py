"""The queue through the real processes: bounces, deferrals, what commands see."""
import email
import glob
import os
import re
import shutil
import signal
import smtplib
import sys
import tempfile
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hatotest import IS_ROOT, Hato, is_alive, wait_for  # noqa: E402

NOW = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}


@pytest.fixture
def where():
    path = tempfile.mkdtemp(prefix="hato-queue-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def make(where, **main):
    h = Hato(where, main={
        "virtual_mailbox_domains": "virtual.test",
        "userdb": f"passwd-file:{where}/users",
        "mail_location": f"maildir:{where}/mail/%d/%n",
        "first_valid_uid": "100",
        "local_recipient_maps": "",
        "alias_maps": f"texthash:{where}/aliases",
        # Whatever RCPT says: what the queue does is tried here.
        "smtpd_reject_unlisted_recipient": "no",
        **main,
    })
    os.makedirs(h.path("mail"), exist_ok=True)
    uid = os.geteuid() if not IS_ROOT else h.uid
    h.write("users", "".join(f"{u}@virtual.test::{uid}:{uid}::{h.path('home')}/{u}::\n"
                             for u in ("a", "b", "c")))
    h.write("aliases", "both: b@virtual.test, c@virtual.test\n")
    h.own()
    return h


def send(h, sender, rcpts, text="Subject: one\r\n\r\nbody\r\n", **kw):
    with smtplib.SMTP("127.0.0.1", h.port, timeout=20) as s:
        s.sendmail(sender, rcpts, text, **kw)


def mailbox(h, user):
    return [open(f, "rb").read() for f in
            glob.glob(f"{h.dir}/mail/virtual.test/{user}/new/*")
            + glob.glob(f"{h.dir}/mail/virtual.test/{user}/cur/*")]


def one_letter(h, user, seconds=15):
    assert wait_for(lambda: mailbox(h, user), seconds), h.log()
    return email.message_from_bytes(mailbox(h, user)[0])


def queue(h):
    return h.command("postqueue", "-p", check=True).stdout


def test_sent_and_removed(where):
    with make(where) as h:
        send(h, "x@client.example", ["a@virtual.test"])
        assert one_letter(h, "a")["Subject"] == "one"
        m = h.wait_log(r"qmgr\[\d+\]: (\w+): from=<x@client.example>, size=\d+, nrcpt=1 "
                       r"\(queue active\)")
        h.wait_log(rf"{m[1]}: removed")
        h.wait_log(rf"{m[1]}: to=<a@virtual.test>, .*status=sent")
        assert "Mail queue is empty" in queue(h)


def test_unknown_user_bounces(where):
    with make(where) as h:
        send(h, "a@virtual.test", ["nobody@virtual.test", "b@virtual.test"])
        assert one_letter(h, "b")["Subject"] == "one"
        m = one_letter(h, "a")
        assert m["Subject"] == "Undelivered Mail Returned to Sender"
        assert m["Return-Path"] == "<>"
        text, status, original = m.get_payload()
        assert "<nobody@virtual.test>: " in text.get_payload()
        assert status.get_payload()[1]["Action"] == "failed"
        assert status.get_payload()[1]["Status"].startswith("5.1.1")
        assert original.get_payload()[0]["Subject"] == "one"
        h.wait_log(r"bounce\[\d+\]: \w+: sender non-delivery notification: \w+")
        assert wait_for(lambda: "Mail queue is empty" in queue(h))


def test_success_is_reported(where):
    with make(where) as h:
        with smtplib.SMTP("127.0.0.1", h.port, timeout=20) as s:
            s.ehlo()
            s.mail("a@virtual.test", ["RET=HDRS", "ENVID=id7"])
            s.rcpt("b@virtual.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;Bee@there.test"])
            s.data("Subject: two\r\n\r\nbody\r\n")
        m = one_letter(h, "a")
        assert m["Subject"] == "Successful Mail Delivery Report"
        blocks = m.get_payload()[1].get_payload()
        assert blocks[0]["Original-Envelope-Id"] == "id7"
        assert blocks[1]["Original-Recipient"] == "rfc822;Bee@there.test"
        assert blocks[1]["Action"] == "delivered"


def test_far_mail_waits_and_is_seen(where):
    with make(where) as h:
        send(h, "a@virtual.test", ["x@far.example"])
        h.wait_log(r"/smtp\[\d+\]: \w+: to=<x@far.example>, relay=none, .*dsn=4.4.1, "
                   r"status=deferred \(connect to 127\.0\.0\.1")
        shown = queue(h)
        assert "x@far.example" in shown and "Connection refused" in shown
        ident = re.search(r"^(\w+)\W", shown.splitlines()[1])[1]
        assert "Subject: one" in h.command("postcat", "-q", ident, check=True).stdout
        h.command("postsuper", "-h", ident, check=True)
        assert f"{ident}!" in queue(h)
        h.stop()
        h.start()
        assert f"{ident}!" in queue(h)
        h.command("postsuper", "-H", ident, check=True)
        assert wait_for(lambda: f"{ident}!" not in queue(h))
        h.command("postsuper", "-d", ident, check=True)
        assert "Mail queue is empty" in queue(h)


def test_deferred_mail_expires(where):
    with make(where, maximal_queue_lifetime="3s", **NOW) as h:
        send(h, "a@virtual.test", ["x@far.example"])
        h.wait_log(r"status=expired, returned to sender", 30)
        m = one_letter(h, "a")
        assert m.get_payload()[1].get_payload()[1]["Status"] == "4.4.1"


def test_alias_reaches_everybody_once(where):
    with make(where, alias_maps=f"hash:{where}/aliases") as h:
        h.write("aliases", "both: b@virtual.test, c@virtual.test\n")
        send(h, "a@virtual.test", ["both@example.com", "b@virtual.test"])
        assert one_letter(h, "c") and one_letter(h, "b")
        assert wait_for(lambda: "Mail queue is empty" in queue(h))
        assert (len(mailbox(h, "b")), len(mailbox(h, "c"))) == (1, 1)


def test_dead_local_is_asked_again(where):
    with make(where) as h:
        pid = h.processes()["local"][0]
        os.kill(pid, 19)  # SIGSTOP: what is asked now gets no answer
        for _ in range(20):
            send(h, "x@client.example", ["a@virtual.test"])
        os.kill(pid, 9)
        assert wait_for(lambda: "Mail queue is empty" in queue(h), 40), h.log()
        assert len(mailbox(h, "a")) == 20


def test_stop_while_a_delivery_hangs(where):
    """The word to stop may come twice, the second time by SIGTERM."""
    with make(where) as h:
        ps = h.processes()
        local, qmgr = ps["local"][0], ps["qmgr"][0]
        os.kill(local, signal.SIGSTOP)
        send(h, "x@client.example", ["a@virtual.test"])
        h.wait_log(r"queue active")
        for _ in range(2):
            os.kill(qmgr, signal.SIGTERM)
            time.sleep(0.5)
        assert wait_for(lambda: not is_alive(qmgr), 4), h.log()
        os.kill(local, signal.SIGCONT)
        assert wait_for(lambda: mailbox(h, "a"), 20), h.log()
        assert wait_for(lambda: "Mail queue is empty" in queue(h), 20)
        assert len(mailbox(h, "a")) == 1
        assert not re.search("panic|signal", h.log()), h.log()


def test_clients_are_told_that_the_queue_is_away(where):
    """A frozen or missing qmgr costs a client seconds, however many wait."""
    with make(where, message_size_limit="10000000") as h:
        pid = h.processes()["qmgr"][0]
        os.kill(pid, signal.SIGSTOP)
        told = []

        def one(size):
            with smtplib.SMTP("127.0.0.1", h.port, timeout=60) as s:
                began = time.monotonic()
                try:
                    s.sendmail("x@client.example", ["a@virtual.test"], "x\r\n" * (size // 3),
                               mail_options=[f"SIZE={size}"])
                    told.append(("sent", 0))
                except smtplib.SMTPDataError as e:
                    told.append((e.smtp_code, time.monotonic() - began))

        threads = [threading.Thread(target=one, args=(600000 if i % 2 else 300,))
                   for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(told) == 12 and all(code == 451 for code, _ in told), told
        assert max(seconds for _, seconds in told) < 20, told
        h.wait_log(r"smtpd\[\d+\]: warning: unknown\[127.0.0.1\]: SPOOL_\w+: timed out")
        os.kill(pid, signal.SIGCONT)
        send(h, "x@client.example", ["a@virtual.test"])
        assert wait_for(lambda: mailbox(h, "a"), 20), h.log()
        # Still bounded where nobody answers at all.
        os.rename(h.path("q/spool"), h.path("q/away"))
        h.write("q/spool", "")
        os.kill(pid, signal.SIGKILL)
        one(600000)
        h.wait_log("fatal: spool ")
        os.unlink(h.path("q/spool"))
        os.rename(h.path("q/away"), h.path("q/spool"))
        wait_for(lambda: h.processes().get("qmgr", (0, ""))[1] == "ready", 20)
        one(600000)
        assert [code for code, _ in told[12:]] == [451, "sent"], told


# covers: queue_minfree
def test_too_little_room_is_told(where):
    with make(where, queue_minfree="1000000000000000") as h:
        with pytest.raises(smtplib.SMTPException) as e:
            send(h, "x@client.example", ["a@virtual.test"])
        assert re.search(r"\(?452, b'4\.3\.1", str(e.value)), e.value
        assert "Mail queue is empty" in queue(h)
        # A reload brings another limit.
        h.main["queue_minfree"] = "1"
        h.write_conf()
        h.command("reload", check=True)
        send(h, "x@client.example", ["a@virtual.test"])
        assert one_letter(h, "a")["Subject"] == "one"
        h.main["queue_minfree"] = "1000000000000000"
        h.write_conf()
        h.command("reload", check=True)
        with pytest.raises(smtplib.SMTPException) as e:
            send(h, "x@client.example", ["a@virtual.test"])
        assert re.search(r"\(?452, b'4\.3\.1", str(e.value)), e.value


def test_bounces_come_once_through_kills(where):
    """A bounce and what it settles are one step, whenever qmgr dies."""
    number = re.compile(rb"\nSubject: (n\d+)\n")
    with make(where) as h:
        with smtplib.SMTP("127.0.0.1", h.port, timeout=30) as s:
            for i in range(120):
                s.sendmail("a@virtual.test", ["nobody@virtual.test"],
                           f"Subject: n{i}\r\n\r\nbody\r\n")
                if i % 40 == 20:
                    qmgr = wait_for(lambda: h.processes().get("qmgr"), 20)
                    os.kill(qmgr[0], 9)
        wait_for(lambda: len(mailbox(h, "a")) >= 120, 60)
        assert wait_for(lambda: "Mail queue is empty" in queue(h), 20)
        told = [number.search(m)[1] for m in mailbox(h, "a")]
        assert (len(told), len(set(told))) == (120, 120), h.log()[-5000:]
