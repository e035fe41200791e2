"""Reports side by side with Debian's Postfix: the same mail through both to the same
scripted host; what each says of every recipient."""
import email
import os
import re
import smtplib

import pytest

import postfixpeer
from hatotest import Hato, wait_for
from sink import EHLO, Sink

BOTH = {
    "myhostname": "relay.example.com", "myorigin": "relay.example.com", "mydestination": "",
    "mynetworks": "127.0.0.0/8", "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
    "queue_run_delay": "1s", "smtp_tls_security_level": "none",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
}
NOTIFY = (None, "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE,DELAY")
RCPTS = ("ok", "no", "later")


class Far:
    """Everybody but us: takes, refuses or puts off by the name of the recipient."""

    def __init__(self, has_dsn):
        self.is_late = True
        self.sink = Sink({"RCPT": self.rcpt, "DOT": self.dot},
                         ehlo=EHLO + (("DSN",) if has_dsn else ()))

    def rcpt(self, line):
        if "<no" in line:
            return "550 5.1.1 no such user"
        if "<later" in line and self.is_late:
            return "450 4.2.1 come again"
        return "250 2.1.5 Ok"

    @staticmethod
    def dot(rcpts):
        return "554 5.7.1 spam" if "<dot" in rcpts else "250 2.0.0 taken"

    def notices(self):
        with self.sink.lock:
            return [m for m in self.sink.messages if "@src.example" in str(m.rcpts)]


def submit(port, number, sender, rcpts, mail=(), esmtp=()):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as s:
        s.ehlo("client.example")
        assert s.mail(sender, list(mail))[0] == 250
        for r in rcpts:
            assert s.rcpt(f"{r}@far.example", [e.replace("@", r) for e in esmtp])[0] == 250
        assert s.data(f"Subject: case {number}\r\nFrom: a@b.example\r\n\r\nbody\r\n")[0] == 250


def send_all(port):
    number = 0
    for notify in NOTIFY:
        params = [f"NOTIFY={notify}"] if notify else []
        submit(port, number, f"s{number}@src.example", RCPTS, esmtp=params)
        submit(port, number + 1, f"s{number + 1}@src.example", RCPTS,
               ["RET=HDRS", f"ENVID=id+2B{number}"], params + ["ORCPT=rfc822;Orig-@@there.example"])
        number += 2
    submit(port, number, f"s{number}@src.example", ("dot",), ["RET=FULL"])
    submit(port, number + 1, "", RCPTS)
    return number


def clean(text):
    return re.sub(r"\s+", " ", text or "").strip()


def summary(notices):
    """{(to, final recipient, action): all that must be the same}"""
    out = {}
    for n in notices:
        m = email.message_from_bytes(n.data)
        assert n.mail.startswith("MAIL FROM:<>"), n.mail
        report = m.get_payload()[1].get_payload()
        to = re.search(r"<(.*)>", str(n.rcpts))[1]
        for b in report[1:]:
            key = to, clean(b["Final-Recipient"]), b["Action"]
            # Postfix says it twice to who asked for success and was warned.
            out[key] = {
                "status": b["Status"], "original": clean(b["Original-Recipient"]).replace("; ", ";"),
                "mta": b["Remote-MTA"], "diagnostic": clean(b["Diagnostic-Code"]),
                "envid": report[0]["Original-Envelope-Id"], "type": m.get_content_type(),
                "subject": m["Subject"], "returned": m.get_payload()[2].get_content_type(),
                "retry": b["Will-Retry-Until"] is not None,
                "auto": m["Auto-Submitted"],
            }
    return out


def run_postfix(where, far, main, act):
    with postfixpeer.Postfix(f"{where}/postfix", relayhost=f"[127.0.0.1]:{far.sink.port}",
                             **{**BOTH, **main}) as p:
        send_all(p.port)

        def queued():
            return sum(len(names) for d in ("incoming", "active", "deferred", "maildrop")
                       for _, _, names in os.walk(f"{p.dir}/spool/{d}"))
        act(far, queued)


def run_hato(where, far, main, act):
    with Hato(f"{where}/hato", main={"relayhost": f"[127.0.0.1]:{far.sink.port}",
                                    **BOTH, **main}) as h:
        send_all(h.port)

        def queued():
            shown = h.command("postqueue", "-p").stdout
            return 0 if "is empty" in shown else 1
        act(far, queued)


def until_empty(far, queued):
    del far
    assert wait_for(lambda: queued() == 0, 60, 0.3)


def late_then_good(far, queued):
    """All who want a warning have it (three of the six kinds, twice), then it goes."""
    def warned():
        return len({str(m.rcpts) for m in far.notices() if b"\nSubject: Delayed" in m.data})
    wait_for(lambda: warned() >= 6, 60, 0.3)
    far.is_late = False
    until_empty(far, queued)


@pytest.mark.parametrize("has_dsn", (False, True))
@pytest.mark.parametrize("main, act", (
    ({"maximal_queue_lifetime": "0"}, until_empty),
    ({"delay_warning_time": "1s", "confirm_delay_cleared": "yes"}, late_then_good),
), ids=("bounced", "late"))
def test_same_reports(where, has_dsn, main, act):
    postfixpeer.need()
    got = []
    for run in (run_postfix, run_hato):
        far = Far(has_dsn)
        with far.sink:
            run(where, far, main, act)
            got.append(summary(far.notices()))
    postfix, hato = got
    assert len(postfix) > 10
    assert sorted(hato) == sorted(postfix)
    for key, want in postfix.items():
        assert hato[key] == want, key
