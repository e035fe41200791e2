"""Numbers for Prometheus: `hato metrics`, and the process `metrics` over HTTP."""
import http.client
import os
import re
import smtplib
import socket
import subprocess
import time

import pytest
from hatotest import free_port, MASTER_CF, wait_for
from mx import Mx


@pytest.fixture(name="h", scope="module")
def fixture_h(shared_where):
    port = free_port()
    with Mx(shared_where, users=("ana",),
            master=MASTER_CF + f"127.0.0.1:{port} inet n - n - - metrics\n") as h:
        h.http = port
        yield h


def parse(text):
    """{'name{labels}': number}; every sample stands under its HELP and TYPE."""
    out, known = {}, {}
    for line in text.splitlines():
        m = re.fullmatch(r"# (HELP|TYPE) (hato_\w+) (.+)", line)
        if m:
            assert known.setdefault(m[2], []) == ([] if m[1] == "HELP" else ["HELP"]), line
            known[m[2]].append(m[1])
            last = m[2]
            continue
        m = re.fullmatch(r'((hato_\w+)(?:\{(?:\w+="[^"\\]*",?)+\})?) (\d+)', line)
        assert m and m[2] == last and known[last] == ["HELP", "TYPE"], line
        assert m[1] not in out
        out[m[1]] = int(m[3])
    return out


def scrape(h):
    url = f"http://127.0.0.1:{h.http}/metrics"
    p = subprocess.run(["curl", "-sS", "-i", "--max-time", "20", url], check=True,
                       capture_output=True, text=True)
    head, body = p.stdout.replace("\r", "").split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200 OK")
    assert "Content-Type: text/plain; version=0.0.4" in head
    return parse(body)


def test_numbers_follow_what_happens(h):
    key = 'hato_deliveries_total{transport="virtual",status="sent"}'
    before = scrape(h)
    assert before["hato_queue_messages"] == 0
    with smtplib.SMTP("127.0.0.1", h.port) as s:
        for _ in range(3):
            s.sendmail("x@example.com", ["ana@example.com"], "Subject: x\r\n\r\nx\r\n")
        assert s.rcpt("nobody@example.com")[0] in (503, 550)
        s.mail("x@example.com")
        assert s.rcpt("nobody@example.com")[0] == 550
        s.rset()
        after = wait_for(lambda: scrape(h).get(key, 0) >= 3 and scrape(h), 30, 1.1)
    assert after, h.log()
    assert after[key] == before.get(key, 0) + 3
    assert after['hato_messages_accepted_total{service="smtpd"}'] == 3
    assert after['hato_rejects_total{service="smtpd"}'] >= 1
    assert after['hato_connections_total{service="smtpd"}'] == 1
    assert after["hato_queue_messages_total"] == 3
    assert after['hato_queue_recipients_total{outcome="sent"}'] == 3
    assert sum(v for k, v in after.items() if k.startswith("hato_smtpd_messages_total")) == 3
    assert sum(v for k, v in after.items() if k.startswith("hato_smtpd_sessions")) == 1
    assert after["hato_mailbox_workers"] == 1
    assert any(k.startswith("hato_mail_syncs_total") and v > 0 for k, v in after.items())


def test_the_command_prints_the_same(h):
    p = h.command("metrics", check=True)
    names = {k for k in parse(p.stdout)}
    assert names >= set(scrape(h)) - {k for k in scrape(h) if "tls" in k}
    assert h.command("metrics", "x").returncode == 64


def test_deaths_are_counted(h):
    pid = h.processes()["local"][0]
    os.kill(pid, 9)
    assert wait_for(lambda: scrape(h).get('hato_process_deaths_total{type="local"}') == 1, 30, 1.1)
    assert wait_for(h.all_ready, 30)


REQUESTS = {
    "root": (b"GET / HTTP/1.0\r\n\r\n", b"200"),
    "head": (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
    "query": (b"GET /metrics?a=b HTTP/1.1\r\n\r\n", b"200"),
    "other path": (b"GET /etc/passwd HTTP/1.1\r\n\r\n", b"404"),
    "post": (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
    "nonsense": (b"nonsense\r\n\r\n", b"400"),
    "empty": (b"\r\n\r\n", b"400"),
    "long line": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"400"),
    "long head": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n", b"400"),
    "cut": (b"GET", b""),
    "bytes": (bytes(range(128, 228)) + b"\n\n", b"400"),
}


@pytest.mark.parametrize("what", list(REQUESTS))
def test_requests(h, what):
    request_line, status = REQUESTS[what]
    with socket.create_connection(("127.0.0.1", h.http), 20) as s:
        try:
            s.sendall(request_line)
            s.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        except TimeoutError:
            raise
        except OSError:
            answer = b"HTTP/1.1 400"  # it went while we were still talking
    assert answer[9:12] == status
    if what == "head":
        assert answer.endswith(b"\r\n\r\n")


def test_many_and_idle_clients_do_no_harm(h):
    idle = [socket.create_connection(("127.0.0.1", h.http), 20) for _ in range(60)]
    assert h.command("status", check=True).stdout
    for s in idle:
        s.close()
    assert wait_for(lambda: has_answer(h), 30)


def has_answer(h):
    try:
        c = http.client.HTTPConnection("127.0.0.1", h.http, timeout=20)
        c.request("GET", "/metrics")
        return c.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        time.sleep(0.2)
        return False


def test_reload_keeps_the_port(h):
    h.command("reload", check=True)
    assert wait_for(lambda: has_answer(h), 30)
    assert scrape(h)["hato_uptime_seconds"] >= 0
