"""Mail for elsewhere: the SMTP and LMTP client."""
import email
import os
import re
import socket

import pytest

from hatotest import MASTER_CF, Hato, free_port, wait_for
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
        h.wait_log(r"to=<u4@far\.example>")


# ---- one server with a transport for each kind of setting

# covers: lmtp_tcp_port smtp_generic_maps smtp_header_checks smtp_mime_header_checks
# covers: smtp_nested_header_checks smtp_body_checks smtp_send_xforward_command
# covers: smtp_chunking_enable smtp_never_send_ehlo smtp_always_send_ehlo smtp_helo_name
# covers: smtp_discard_ehlo_keywords smtp_discard_ehlo_keyword_address_maps
# covers: smtp_line_length_limit smtp_quote_rfc821_envelope smtp_delivery_status_filter
# covers: smtp_reply_filter disable_mime_output_conversion smtp_skip_5xx_greeting
# covers: smtp_helo_timeout smtp_mail_timeout smtp_rcpt_timeout smtp_data_init_timeout
# covers: smtp_data_xfer_timeout smtp_data_done_timeout smtp_rset_timeout smtp_quit_timeout
# covers: smtp_fallback_relay smtp_bind_address smtp_bind_address_enforce
# covers: smtp_connection_cache_on_demand smtp_connection_cache_destinations
# covers: smtp_connection_cache_time_limit smtp_connection_reuse_count_limit
# covers: smtp_connection_reuse_time_limit smtp_skip_quit_response smtp_send_dummy_mail_auth
# covers: smtp_pix_workarounds smtp_pix_workaround_maps smtp_pix_workaround_threshold_time
# covers: smtp_pix_workaround_delay_time lmtp_lhlo_name lmtp_lhlo_timeout
# covers: lmtp_discard_lhlo_keywords lmtp_skip_quit_response lmtp_chunking_enable
# covers: smtp_connect_timeout smtp_starttls_timeout smtp_xforward_timeout
# covers: smtp_per_request_deadline smtp_min_data_rate lmtp_per_request_deadline
# covers: lmtp_min_data_rate lmtp_generic_maps lmtp_header_checks lmtp_body_checks
# covers: lmtp_mime_header_checks lmtp_nested_header_checks lmtp_send_xforward_command
# covers: lmtp_quote_rfc821_envelope lmtp_send_dummy_mail_auth lmtp_line_length_limit
# covers: lmtp_delivery_status_filter lmtp_reply_filter lmtp_connection_cache_on_demand
# covers: lmtp_connection_cache_destinations lmtp_connection_cache_time_limit
# covers: lmtp_connection_reuse_count_limit lmtp_discard_lhlo_keyword_address_maps
# covers: lmtp_connect_timeout lmtp_starttls_timeout lmtp_mail_timeout lmtp_rcpt_timeout
# covers: lmtp_data_init_timeout lmtp_data_xfer_timeout lmtp_data_done_timeout
# covers: lmtp_rset_timeout lmtp_quit_timeout lmtp_xforward_timeout lmtp_skip_5xx_greeting
# covers: lmtp_connection_reuse_time_limit lmtp_fallback_relay fallback_relay
SERVICES = {
    "plain": "smtp",
    "lm": "lmtp -o lmtp_lhlo_name=lhlo.example",
    "lmdisc": "lmtp -o lmtp_discard_lhlo_keywords=pipelining -o lmtp_chunking_enable=yes",
    "gen": "smtp -o { smtp_generic_maps = inline:{ {me@example.com=you@public.example}, "
           "{@far.inside=@far.outside} } }",
    "hdr": "smtp -o smtp_header_checks=regexp:%D/hdr -o smtp_body_checks=regexp:%D/body "
           "-o smtp_mime_header_checks=regexp:%D/mime "
           "-o smtp_nested_header_checks=regexp:%D/nested",
    "xf": "smtp -o smtp_send_xforward_command=yes",
    "chunk": "smtp -o smtp_chunking_enable=yes",
    "noehlo": "smtp -o smtp_never_send_ehlo=yes",
    "maybe": "smtp -o smtp_always_send_ehlo=no",
    "disc": "smtp -o smtp_discard_ehlo_keywords=pipelining,size",
    "discmap": "smtp -o { smtp_discard_ehlo_keyword_address_maps = "
               "inline:{127.0.0.1=8bitmime} }",
    "line": "smtp -o smtp_line_length_limit=100",
    "helo": "smtp -o smtp_helo_name=custom.example -o smtp_send_dummy_mail_auth=yes",
    "noquote": "smtp -o smtp_quote_rfc821_envelope=no",
    "stat": "smtp -o smtp_delivery_status_filter=regexp:%D/stat "
            "-o smtp_reply_filter=regexp:%D/reply",
    "nomime": "smtp -o disable_mime_output_conversion=yes",
    "lmall": "lmtp -o { lmtp_generic_maps = inline:{me@example.com=you@public.example} } "
             "-o lmtp_header_checks=regexp:%D/hdr -o lmtp_body_checks=regexp:%D/body "
             "-o lmtp_mime_header_checks=regexp:%D/mime "
             "-o lmtp_nested_header_checks=regexp:%D/nested "
             "-o lmtp_send_xforward_command=yes -o lmtp_quote_rfc821_envelope=no "
             "-o lmtp_send_dummy_mail_auth=yes -o lmtp_line_length_limit=100 "
             "-o lmtp_delivery_status_filter=regexp:%D/stat "
             "-o lmtp_reply_filter=regexp:%D/reply -o lmtp_connection_cache_on_demand=no "
             "-o lmtp_connection_cache_destinations=127.0.0.1 "
             "-o lmtp_connection_cache_time_limit=60s -o lmtp_connection_reuse_count_limit=2 "
             "-o { lmtp_discard_lhlo_keyword_address_maps = inline:{127.0.0.1=size} }",
    "lmslower": "lmtp -o lmtp_skip_5xx_greeting=no -o lmtp_connection_reuse_time_limit=0s "
                "-o lmtp_send_xforward_command=yes "
                + " ".join(f"-o lmtp_{t}_timeout=1s" for t in (
                    "connect", "starttls", "mail", "rcpt", "data_init", "data_xfer",
                    "data_done", "rset", "quit", "xforward")),
    "lmfall": "lmtp -o lmtp_fallback_relay=[127.0.0.1]:%F",
    "rate": "smtp -o smtp_per_request_deadline=yes -o smtp_min_data_rate=1000000 "
            "-o smtp_data_xfer_timeout=1s",
    "lmrate": "lmtp -o lmtp_per_request_deadline=yes -o lmtp_min_data_rate=1000000 "
              "-o lmtp_data_xfer_timeout=1s",
    "slow": "smtp -o smtp_send_xforward_command=yes " + " ".join(f"-o smtp_{t}_timeout=1s" for t in (
        "connect", "starttls", "xforward", "helo", "mail", "rcpt", "data_init", "data_xfer",
        "data_done", "rset", "quit")),
    "lmslow": "lmtp -o lmtp_lhlo_timeout=1s",
    "noskip": "smtp -o smtp_skip_5xx_greeting=no",
    "fall": "smtp -o smtp_fallback_relay=[127.0.0.1]:%F",
    "bind": "smtp -o smtp_bind_address=127.0.0.9",
    "badbind": "smtp -o smtp_bind_address=192.0.2.77 -o smtp_bind_address_enforce=yes",
    "twice": "smtp -o smtp_connection_reuse_count_limit=2",
    "shortlife": "smtp -o smtp_connection_reuse_time_limit=0s",
    "nocache": "smtp -o smtp_connection_cache_on_demand=no -o smtp_skip_quit_response=no",
    "always": "smtp -o smtp_connection_cache_on_demand=no "
              "-o smtp_connection_cache_destinations=127.0.0.1 "
              "-o smtp_connection_cache_time_limit=60s",
    "pix": "smtp -o smtp_pix_workaround_threshold_time=0s -o smtp_pix_workaround_delay_time=1s",
    "pixmap": "smtp -o smtp_pix_workaround_threshold_time=0s "
              "-o { smtp_pix_workaround_maps = inline:{127.0.0.1=delay_dotcrlf} } "
              "-o smtp_pix_workaround_delay_time=1s -o smtp_pix_workarounds=disable_esmtp",
}


class Many:
    """A Hato with all of SERVICES; mail for x@NAME.test goes to port(NAME) by that one."""

    def __init__(self, where):
        self.ports = {name: free_port() for name in SERVICES}
        self.fallback = free_port()
        lines = "".join(f"{n} unix - - n - - "
                        + s.replace("%D", str(where)).replace("%F", str(self.fallback))
                        + "\n" for n, s in SERVICES.items())
        # How a file is formatted, and Hato's master is a format string.
        lines = lines.replace("{", "{{").replace("}", "}}")
        self.h = Hato(where, main={
            "transport_maps": f"texthash:{where}/transport",
            # What fails here on purpose is asked again at once.
            "default_destination_concurrency_failed_cohort_limit": "0",
            "default_destination_concurrency_negative_feedback": "0"},
                      master=MASTER_CF + lines)
        self.h.write("transport", "".join(f"{n}.test {n}:[127.0.0.1]:{p}\n"
                                          for n, p in self.ports.items())
                     + f"far.inside gen:[127.0.0.1]:{self.ports['gen']}\n")
        self.h.write("hdr", "/^X-Drop:/ IGNORE\n/^Subject: (.*)$/ REPLACE Subject: [$1]\n"
                            "/^X-No:/ REJECT\n")
        self.h.write("body", "/^secret/ IGNORE\n")
        self.h.write("mime", "/^Content-Description:/ IGNORE\n")
        self.h.write("nested", "/^X-Nested:/ IGNORE\n")
        self.h.write("stat", "/^4\\.7\\.9 (.*)/ 5.7.9 final: $1\n")
        self.h.write("reply", "/^250(.)AUTH=.*/ 250${1}X\n/^454 (.*)/ 554 $1\n")


@pytest.fixture(name="many", scope="module")
def fixture_many(shared_where):
    m = Many(shared_where)
    with m.h:
        yield m


def one(many, name, sink, rcpt=None, n=1, **kw):
    """Send through service `name` and wait for what the sink got."""
    before = len(sink.messages)
    send(many.h, rcpts=rcpt or (f"x@{name}.test",), **kw)
    return sink.wait(before + n)[-1]


def sink_for(many, name, *args, **kw):
    return Sink(*args, port=many.ports[name], **kw)


def test_lmtp(many):
    def rcpt_done(line):
        return "550 5.2.2 full" if "full" in line else "250 2.1.5 delivered"

    with sink_for(many, "lm", {"DOT": rcpt_done}, lmtp=True) as s:
        qid = send(many.h, rcpts=("a@lm.test", "full@lm.test", "b@lm.test"))
        many.h.wait_log(rf"lmtp\[\d+\]: {qid}: to=<a@lm\.test>, .*status=sent "
                        r"\(250 2\.1\.5 delivered\)")
        many.h.wait_log(rf"{qid}: to=<full@lm\.test>, .*dsn=5\.2\.2, status=bounced")
        many.h.wait_log(rf"{qid}: to=<b@lm\.test>, .*status=sent")
        assert s.said("LHLO") == ["LHLO lhlo.example"]


def test_lmtp_keywords_and_timeout(many):
    with sink_for(many, "lmdisc", lmtp=True) as s:
        one(many, "lmdisc", s)
    with sink_for(many, "lmslow", {"LHLO": 30}, lmtp=True):
        send(many.h, rcpts=("x@lmslow.test",))
        many.h.wait_log(r"conversation with 127\.0\.0\.1\[127\.0\.0\.1\] timed out while "
                        r"performing the LHLO handshake", 30)


def test_generic(many):
    with sink_for(many, "gen") as s:
        m = one(many, "gen", s, rcpt=("x+y@far.inside",),
                body="From: Me <me@example.com>\r\nTo: x@far.inside\r\n\r\nme@example.com\r\n")
        assert m.mail.startswith("MAIL FROM:<you@public.example>")
        assert m.rcpts == ["RCPT TO:<x+y@far.outside>"]
        assert b"\r\nFrom: Me <you@public.example>\r\nTo: x@far.outside\r\n" in m.data
        assert m.data.endswith(b"\r\n\r\nme@example.com\r\n")
        many.h.wait_log(r"to=<x\+y@far\.inside>, .*status=sent")


def test_checks(many):
    body = ("Subject: hello\r\nX-Drop: a\r\nX-No: b\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=q\r\n\r\n"
            "--q\r\nContent-Description: d\r\n\r\nsecret\r\nopen\r\n"
            "--q\r\nContent-Type: message/rfc822\r\n\r\nX-Nested: n\r\nSubject: in\r\n\r\nb\r\n"
            "--q--\r\n")
    with sink_for(many, "hdr") as s:
        m = one(many, "hdr", s, body=body)
    assert b"Subject: [hello]\r\n" in m.data and b"X-Drop" not in m.data
    assert b"X-No: b\r\n" in m.data, "too late to refuse"
    assert b"secret" not in m.data and b"open\r\n" in m.data
    assert b"Content-Description" not in m.data and b"X-Nested" not in m.data
    assert b"Subject: in\r\n" in m.data
    many.h.wait_log(r"smtp\[\d+\]: \w+: replace: header Subject: hello from ")


def test_xforward(many):
    with sink_for(many, "xf", {"XFORWARD": "250 2.0.0 Ok"},
                  ehlo=("PIPELINING", "XFORWARD NAME ADDR PORT PROTO HELO SOURCE")) as s:
        one(many, "xf", s)
        first, second = s.said("XFORWARD")
        assert re.fullmatch(r"XFORWARD NAME=\[UNAVAILABLE\] ADDR=127\.0\.0\.1 PORT=\d+", first)
        assert second == "XFORWARD PROTO=ESMTP HELO=client.example.org SOURCE=REMOTE"


def test_chunking(many):
    with sink_for(many, "chunk", ehlo=("PIPELINING", "CHUNKING")) as s:
        m = one(many, "chunk", s, body="Subject: x\r\n\r\n.dot\r\n")
        assert m.data.endswith(b"\r\n\r\n.dot\r\n")
        assert len(s.said("BDAT")) == 1 and not s.said("DATA")
        s.answers["RCPT"] = "550 5.1.1 no"
        send(many.h, rcpts=("y@chunk.test",))
        many.h.wait_log(r"to=<y@chunk\.test>, .*status=bounced")
    with sink_for(many, "chunk", ehlo=("PIPELINING",)) as s:
        one(many, "chunk", s)
        assert s.said("DATA")


def test_hello(many):
    with sink_for(many, "noehlo") as s:
        one(many, "noehlo", s)
        assert s.said("HELO") and not s.said("EHLO")
    with sink_for(many, "maybe", {"CONNECT": "220 old SMTP"}) as s:
        one(many, "maybe", s)
        assert s.said("HELO") and not s.said("EHLO")
    with sink_for(many, "plain", {"EHLO": "502 5.5.1 what"}) as s:
        one(many, "plain", s)
        assert s.said("EHLO") and s.said("HELO")
    with sink_for(many, "helo", ehlo=("AUTH PLAIN",)) as s:
        m = one(many, "helo", s)
        assert s.said("EHLO") == ["EHLO custom.example"] and m.mail.endswith(" AUTH=<>")


def test_keywords_passed_over(many):
    with sink_for(many, "disc") as s:
        m = one(many, "disc", s)
        assert "SIZE=" not in m.mail
    with sink_for(many, "discmap") as s:
        m = one(many, "discmap", s, params=" BODY=8BITMIME", body=EIGHT)
        assert "BODY=" not in m.mail and b"=C3=A4" in m.data


EIGHT = ("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
         "Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n"
         "--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
         "Content-Transfer-Encoding: 8bit\r\n\r\nä=1 \r\n" + "ö" * 60 + "\r\n"
         "--b\r\nContent-Transfer-Encoding: 7bit\r\n\r\nplain=\r\n--b--\r\nend\r\n")


def test_7bit(many):
    with sink_for(many, "plain", ehlo=("PIPELINING",)) as s:
        m = one(many, "plain", s, params=" BODY=8BITMIME", body=EIGHT)
    assert all(c < 128 for c in m.data)
    got = email.message_from_bytes(m.data)
    first, second = got.get_payload()
    assert first["Content-Transfer-Encoding"] == "quoted-printable"
    assert got["Content-Transfer-Encoding"] == "7bit"
    assert first.get_payload(decode=True).decode() == "ä=1 \r\n" + "ö" * 60
    assert second.get_payload() == "plain=" and m.data.endswith(b"--b--\r\nend\r\n")
    assert max(len(line) for line in m.data.split(b"\r\n")) <= 78
    with sink_for(many, "nomime", ehlo=("PIPELINING",)) as s:
        m = one(many, "nomime", s, params=" BODY=8BITMIME", body=EIGHT)
        assert "ä=1".encode() in m.data
    with sink_for(many, "plain") as s:
        m = one(many, "plain", s, params=" BODY=8BITMIME", body=EIGHT)
        assert m.mail.endswith(" BODY=8BITMIME") and "ä=1".encode() in m.data


def test_long_lines(many):
    with sink_for(many, "line") as s:
        m = one(many, "line", s, body="Subject: x\r\n\r\n" + "x" * 250 + "\r\n.y\r\n")
        assert m.data.endswith(b"\r\n\r\n" + b"x" * 100 + b"\r\n " + b"x" * 99 + b"\r\n "
                               + b"x" * 51 + b"\r\n.y\r\n")


def test_quotes(many):
    with sink_for(many, "plain") as s:
        m = one(many, "plain", s, rcpt=('"a b"@plain.test',))
        assert m.rcpts == ['RCPT TO:<"a b"@plain.test>']
    with sink_for(many, "noquote") as s:
        m = one(many, "noquote", s, rcpt=('"a b"@noquote.test',))
        assert m.rcpts == ["RCPT TO:<a b@noquote.test>"]


def test_filters_of_answers(many):
    with sink_for(many, "stat", {"RCPT": "454 4.7.9 later"}):
        send(many.h, rcpts=("x@stat.test",))
        many.h.wait_log(r"to=<x@stat\.test>, .*status=bounced")
    with sink_for(many, "stat", {"RCPT": "450 4.7.9 later"}):
        send(many.h, rcpts=("y@stat.test",))
        many.h.wait_log(r"to=<y@stat\.test>, .*dsn=5\.7\.9, status=bounced \(final: host")


@pytest.mark.parametrize("step,doing", [
    ("CONNECT", "receiving the initial server greeting"),
    ("EHLO", "performing the EHLO handshake"),
    ("MAIL", "sending MAIL FROM"),
    ("RCPT", "sending RCPT TO"),
    ("DATA", "sending DATA command"),
    ("DOT", "sending end of data -- message may be sent more than once"),
])
@pytest.mark.parametrize("how", ["stall", "close"])
def test_stalls_and_closes(many, step, doing, how):
    what = {"stall": 30, "close": None}[how]
    words = {"stall": r"conversation with \S+ timed out while ",
             "close": r"lost connection with \S+ while "}[how]
    with sink_for(many, "slow", {step: what}):
        qid = send(many.h, rcpts=("x@slow.test",))
        many.h.wait_log(rf"{qid}: to=<x@slow\.test>, relay=127.*dsn=4\.4\.2, "
                        rf"status=deferred \({words}{doing}\)", 30)
        many.h.command("postsuper", "-d", qid)


@pytest.mark.parametrize("step,request_of", [
    ("MAIL", "MAIL FROM command"), ("RCPT", "RCPT TO command"), ("DATA", "DATA command"),
    ("DOT", "end of DATA command"),
])
@pytest.mark.parametrize("code", ["421 4.3.2", "452 4.3.1", "552 5.2.2", "550", "199", "333"])
def test_refusals(many, step, request_of, code):
    if (step, code) == ("DATA", "333"):
        return
    with sink_for(many, "slow", {step: f"{code} no"}):
        qid = send(many.h, rcpts=("x@slow.test",))
        status = {"421": r"4\.3\.2", "452": r"4\.3\.1", "552": r"5\.2\.2", "550": r"5\.0\.0",
                  "199": r"4\.5\.0", "333": r"4\.5\.0"}[code[:3]]
        word = "bounced" if code[0] == "5" else "deferred"
        many.h.wait_log(rf"{qid}: to=<x@slow\.test>, .*dsn={status}, status={word} \(host "
                        rf"127\.0\.0\.1\[127\.0\.0\.1\] said: {code} no "
                        rf"\(in reply to {request_of}\)\)", 30)
        many.h.command("postsuper", "-d", qid)


@pytest.mark.parametrize("what", [
    b"", b"\0\xff\r\n", b"hello there\r\n" * 1000, b"250-" + b"x" * 100000 + b"\r\n250 \r\n",
    b"220-\r\n" * 2000000, b"999 nine\r\n", b"220 a\n220 b\n", b"220" + b" " * 70000,
], ids="nothing bytes words cut flood nine two blanks".split())
def test_garbage(many, what):
    """Whatever a server says first: the mail waits or goes, and the process stays."""
    many.h.wait_log("")
    before = many.h.processes()
    with sink_for(many, "slow", {"CONNECT": what}):
        qid = send(many.h, rcpts=("x@slow.test",))
        many.h.wait_log(rf"{qid}: to=<x@slow\.test>, .*status=", 60)
        many.h.command("postsuper", "-d", qid)
    assert many.h.processes().get("smtp/0") == before.get("smtp/0", many.h.processes()["smtp/0"])


def test_greetings(many):
    with sink_for(many, "plain", {"CONNECT": "554 5.7.1 go away"}):
        qid = send(many.h, rcpts=("x@plain.test",))
        many.h.wait_log(rf"{qid}: to=<x@plain\.test>, .*dsn=4\.7\.1, status=deferred \(host \S+ "
                        r"refused to talk to me: 554 5\.7\.1 go away\)")
        many.h.command("postsuper", "-d", qid)
    with sink_for(many, "noskip", {"CONNECT": "554 5.7.1 go away"}):
        qid = send(many.h, rcpts=("x@noskip.test",))
        many.h.wait_log(rf"{qid}: to=<x@noskip\.test>, .*dsn=5\.7\.1, status=bounced")


def test_fallback(many):
    with Sink(port=many.fallback) as s:
        m = one(many, "fall", s)
        assert m.rcpts == ["RCPT TO:<x@fall.test>"]
    with Sink(port=many.fallback) as s, sink_for(many, "fall", {"RCPT": "450 4.2.0 no"}):
        one(many, "fall", s)
    with Sink(port=many.fallback) as s, sink_for(many, "fall", {"RCPT": "550 5.1.1 no"}):
        qid = send(many.h, rcpts=("x@fall.test",))
        many.h.wait_log(rf"{qid}: to=<x@fall\.test>, .*status=bounced")
        assert s.sessions == 0


def test_bind(many):
    seen = []
    with sink_for(many, "bind") as s:
        was = s.run
        s.run = lambda c, n: (seen.append(c.getpeername()[0]), was(c, n))
        one(many, "bind", s)
    assert seen[0] == "127.0.0.9"
    qid = send(many.h, rcpts=("x@badbind.test",))
    many.h.wait_log(rf"{qid}: to=<x@badbind\.test>, .*status=deferred \(connect to ")


def test_connections_are_kept_as_configured(many):
    def sessions(name, n):
        with sink_for(many, name) as s:
            for i in range(n):
                one(many, name, s)
            return s.sessions, len(s.said("QUIT"))

    assert sessions("shortlife", 3)[0] == 3
    assert sessions("nocache", 3) == (3, 3)
    assert sessions("twice", 4)[0] >= 2
    assert sessions("always", 4)[0] == 1


def test_pix(many):
    stars = "220 " + "*" * 40
    with sink_for(many, "pix", {"CONNECT": stars}) as s:
        one(many, "pix", s)
        assert s.said("HELO") and not s.said("EHLO")
        many.h.wait_log(r"enabling PIX workarounds: disable_esmtp,delay_dotcrlf for 127")
    with sink_for(many, "pixmap", {"CONNECT": stars}) as s:
        one(many, "pixmap", s)
        assert s.said("EHLO")


def test_what_a_server_lacks(many):
    with sink_for(many, "plain", ehlo=("SIZE 100",)):
        qid = send(many.h, rcpts=("x@plain.test",))
        many.h.wait_log(rf"{qid}: to=<x@plain\.test>, .*dsn=5\.3\.4, status=bounced \(message "
                        r"size \d+ exceeds size limit 100 of server 127")
    with sink_for(many, "plain"):
        qid = send(many.h, rcpts=("x@plain.test",), params=" SMTPUTF8",
                   body="Subject: ä\r\n\r\nx\r\n")
        many.h.wait_log(rf"{qid}: to=<x@plain\.test>, .*dsn=5\.6\.7, status=bounced \(SMTPUTF8 "
                        r"is required, but was not offered by host 127")


def test_dsn_is_passed_on(many):
    with sink_for(many, "plain", ehlo=("PIPELINING", "DSN")) as s:
        m = one(many, "plain", s, params=" RET=HDRS ENVID=a+2Bb",
                rcpt_params=" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;q+40r.example")
        assert m.mail.endswith(" ENVID=a+2Bb RET=HDRS")
        assert m.rcpts[0].endswith(" ORCPT=rfc822;q@r.example NOTIFY=SUCCESS,DELAY")


def test_many_recipients_and_a_big_body(many):
    body = "Subject: big\r\n\r\n" + ("." + "x" * 70 + "\r\n") * 30000
    with sink_for(many, "plain") as s:
        m = one(many, "plain", s, rcpt=[f"u{i}@plain.test" for i in range(350)], body=body, n=1)
        wait_for(lambda: sum(len(m.rcpts) for m in s.messages) == 350, 30)
        assert sum(len(m.rcpts) for m in s.messages) == 350
        assert m.data.endswith(body.partition("\r\n")[2].encode())


def test_a_connection_that_died_meanwhile(many):
    """The server closes a kept connection: the next message takes a new one."""
    with sink_for(many, "always") as s:
        one(many, "always", s)
        with s.lock:
            for c in s.open:
                c.shutdown(2)
        one(many, "always", s)
        s.answers["MAIL"] = [None, "250 2.1.0 Ok"]
        one(many, "always", s)
        assert "deferred" not in "".join(x for x in many.h.log().splitlines()
                                         if "@always.test" in x)


def test_drain_and_reload(many):
    with sink_for(many, "plain") as s:
        many.h.command("reload", check=True)
        one(many, "plain", s)


def test_lmtp_settings(many):
    with sink_for(many, "lmall", lmtp=True,
                  ehlo=("PIPELINING", "SIZE", "AUTH PLAIN", "XFORWARD ADDR HELO")) as s:
        m = one(many, "lmall", s, rcpt=('"a b"@lmall.test',),
                body="From: me@example.com\r\nSubject: hello\r\nX-Drop: a\r\n\r\nsecret\r\n"
                     + "x" * 150 + "\r\n")
        assert m.mail == "MAIL FROM:<you@public.example> AUTH=<>", "no SIZE"
        assert m.rcpts == ["RCPT TO:<a b@lmall.test>"]
        assert b"From: you@public.example\r\nSubject: [hello]\r\n\r\n" + b"x" * 100 in m.data
        assert s.said("XFORWARD")[0] == "XFORWARD ADDR=127.0.0.1"
        for _ in range(3):
            one(many, "lmall", s)
        assert s.sessions == 2
        s.answers["DOT"] = "450 4.7.9 later"
        send(many.h, rcpts=("y@lmall.test",))
        many.h.wait_log(r"to=<y@lmall\.test>, .*dsn=5\.7\.9, status=bounced \(final: host")


@pytest.mark.parametrize("step,doing", [
    ("STARTTLS", "sending STARTTLS"), ("XFORWARD", "sending XFORWARD name/address"),
    ("MAIL", "sending MAIL FROM"), ("RCPT", "sending RCPT TO"),
    ("DATA", "sending DATA command"),
    ("DOT", "sending end of data -- message may be sent more than once"),
])
@pytest.mark.parametrize("name", ["slow", "lmslower"])
def test_each_step_has_its_time(many, name, step, doing):
    if name == "slow" and step not in ("STARTTLS", "XFORWARD"):
        return  # test_stalls_and_closes
    words = ("PIPELINING", "XFORWARD ADDR", *(["STARTTLS"] if step == "STARTTLS" else []))
    with sink_for(many, name, {"XFORWARD": "250 2.0.0 Ok", step: 30}, ehlo=words,
                  lmtp=name.startswith("lm")):
        qid = send(many.h, rcpts=(f"x@{name}.test",))
        many.h.wait_log(rf"{qid}: to=<x@{name}\.test>, .*status=deferred \(conversation with "
                        rf"\S+ timed out while {doing}\)", 30)
        many.h.command("postsuper", "-d", qid)


@pytest.mark.parametrize("name", ["slow", "lmslower"])
def test_connecting_has_its_time(many, name):
    with socket.socket() as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", many.ports[name]))
        full.listen(0)
        held = [socket.socket() for _ in range(4)]
        for c in held:
            c.setblocking(False)
            c.connect_ex(full.getsockname())
        qid = send(many.h, rcpts=(f"x@{name}.test",))
        many.h.wait_log(rf"{qid}: to=<x@{name}\.test>, .*status=deferred \(connect to \S+: "
                        r"Connection timed out\)", 30)
        many.h.command("postsuper", "-d", qid)
        for c in held:
            c.close()


@pytest.mark.parametrize("name", ["rate", "lmrate"])
def test_a_server_that_reads_too_slowly(many, name):
    body = "Subject: big\r\n\r\n" + ("x" * 998 + "\r\n") * 3000
    with sink_for(many, name, lmtp=name.startswith("lm"), slow=0.2):
        qid = send(many.h, rcpts=(f"x@{name}.test",), body=body)
        many.h.wait_log(rf"{qid}: to=<x@{name}\.test>, .*status=deferred \(conversation with "
                        r"\S+ timed out while sending message body\)", 60)
        many.h.command("postsuper", "-d", qid)


def test_lmtp_fallback_and_greeting(many):
    with Sink(port=many.fallback, lmtp=True) as s:
        one(many, "lmfall", s)
    with sink_for(many, "lmslower", {"CONNECT": "554 5.7.1 go"}):
        qid = send(many.h, rcpts=("x@lmslower.test",))
        many.h.wait_log(rf"{qid}: to=<x@lmslower\.test>, .*dsn=5\.7\.1, status=bounced")
    with sink_for(many, "lmslower", lmtp=True) as s:
        one(many, "lmslower", s)
        one(many, "lmslower", s)
        assert s.sessions == 2


def test_lmtp_over_a_unix_socket(where):
    with Sink(lmtp=True, path=str(where / "s")) as s:
        os.chmod(where / "s", 0o777)
        with Hato(where, main={"relayhost": "", "default_transport": f"lmtp:unix:{where}/s"}) as h:
            qid = send(h)
            s.wait()
            h.wait_log(rf"lmtp\[\d+\]: {qid}: to=<x@far\.example>, "
                       rf"relay=mx\.example\.com\[{where}/s\], .*status=sent")


# covers: smtp_address_verify_target lmtp_address_verify_target
@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
@pytest.mark.parametrize("target", ["rcpt", "data"])
def test_probes(where, kind, target):
    with Sink({"RCPT": lambda line: "550 5.1.1 no" if "bad" in line else "250 2.1.5 Ok"},
              lmtp=kind == "lmtp") as s:
        with relay(where, s.port, main={
                f"{kind}_address_verify_target": target, "default_transport": kind,
                "address_verify_poll_count": "3", "address_verify_poll_delay": "5s",
                "smtpd_recipient_restrictions": "reject_unverified_recipient"}) as h:
            with Talk(h, source=FRIEND, timeout=60) as t:
                t.hello()
                t("MAIL FROM:<a@example.com>")
                assert t("RCPT TO:<good@far.example>")[:3] == "250"
                assert t("RCPT TO:<bad@far.example>")[:3] in ("450", "550")
            assert bool(s.said("DATA")) == (target == "data")
            assert not s.messages
