"""Mail for elsewhere: the SMTP and LMTP client."""
import re

from hatotest import Hato, free_port
from sink import Sink
from smtptalk import FRIEND, Talk

# covers: relayhost default_transport relay_transport


def relay(where, port, main=None, **kw):
    return Hato(where, main={"relayhost": f"[127.0.0.1]:{port}", **(main or {})}, **kw)


def send(h, rcpts=("x@far.example",), body="Subject: hello\r\n\r\nbody\r\n",
         sender="me@example.com", params="", rcpt_params=""):
    with Talk(h, source=FRIEND) as t:
        t.hello()
        assert t(f"MAIL FROM:<{sender}>{params}")[:3] == "250"
        for r in rcpts:
            assert t(f"RCPT TO:<{r}>{rcpt_params}")[:3] == "250"
        assert t("DATA")[:3] == "354"
        if isinstance(body, str):
            body = body.encode()
        t.send(body.replace(b"\n.", b"\n.."))
        answer = t(".")
        assert answer[:3] == "250", answer
        return answer.rsplit(" ", 1)[-1]


def test_a_message(where):
    with Sink() as s, relay(where, s.port) as h:
        qid = send(h, body="Subject: dots\r\n\r\n.one\r\n..two\r\nend\r\n")
        m = s.wait()[0]
        assert m.mail.startswith("MAIL FROM:<me@example.com>") and " SIZE=" in m.mail
        assert m.rcpts == ["RCPT TO:<x@far.example>"]
        assert m.data.endswith(b"Subject: dots\r\n\r\n.one\r\n..two\r\nend\r\n"), m.data
        assert b"\n" not in m.data.replace(b"\r\n", b"")
        h.wait_log(rf"postfix/smtp\[\d+\]: {qid}: to=<x@far\.example>, "
                   rf"relay=127\.0\.0\.1\[127\.0\.0\.1\]:{s.port}, delay=[\d.]+, "
                   r"delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=2\.0\.0, status=sent "
                   r"\(250 2\.0\.0 Ok: queued\)")
        h.wait_log(rf"{qid}: removed")


def test_refused_and_deferred(where):
    def rcpt(line):
        return ("550 5.1.1 no such user" if "bad" in line else
                "451 4.2.0 not now" if "later" in line else "250 2.1.5 Ok")

    with Sink({"RCPT": rcpt}) as s, relay(where, s.port) as h:
        send(h, rcpts=("good@far.example", "bad@far.example", "later@far.example"))
        s.wait()
        h.wait_log(r"to=<bad@far\.example>, .*dsn=5\.1\.1, status=bounced \(host "
                   r"127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.1\.1 no such user "
                   r"\(in reply to RCPT TO command\)\)")
        h.wait_log(r"to=<later@far\.example>, .*dsn=4\.2\.0, status=deferred \(host .*"
                   r"in reply to RCPT TO command\)\)")


def test_nobody_there(where):
    port = free_port()
    with relay(where, port) as h:
        send(h)
        h.wait_log(rf"to=<x@far\.example>, relay=none, .*dsn=4\.4\.1, status=deferred "
                   rf"\(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:{port}: Connection refused\)")


def test_connection_is_used_again(where):
    with Sink() as s, relay(where, s.port) as h:
        for i in range(5):
            send(h, rcpts=(f"u{i}@far.example",))
            s.wait(i + 1)
        h.wait_log(r"conn_use=\d")
        assert s.sessions < 5
        assert re.search(r"to=<u4@far\.example>", h.log())
