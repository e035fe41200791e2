"""Programs that others wrote hand their mail in."""
import os
import re
import shutil
import smtplib
import subprocess

import pytest

from hatotest import BUILD, TOP, wait_for
from mx import Mx
from smtptalk import STRANGER, maildir, untraced

BODY = "first\n.\n..two dots\nFrom the start\nüß\n" + "long " * 300 + "\nend\n"


def needs(program):
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def run(cmd, data=b"", **env):
    p = subprocess.run(cmd, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60, check=False, env={**os.environ, **env})
    assert p.returncode == 0, p.stdout.decode(errors="replace")
    return p.stdout.decode(errors="replace")


@pytest.fixture(name="mx", scope="module")
def fixture_mx(shared_where):
    with Mx(shared_where, main={"myorigin": "example.com"}) as h:
        yield h


def grown(h, name, n=1):
    before = len(maildir(h.box(name)))
    return lambda: h.mails(name, before + n, 30)[before:]


def test_swaks(mx):
    swaks, got = needs("swaks"), grown(mx, "tomo")
    said = run([swaks, "--server", f"127.0.0.1:{mx.port}", "--local-interface", STRANGER,
                "--from", "s@example.net", "--to", "tomo@example.com", "--pipeline",
                "--header", "Subject: swaks", "--body", BODY])
    assert "Ok: queued as" in said
    (m,) = got()
    assert b"\nSubject: swaks\n" in m
    assert b"\n.\n..two dots\nFrom the start\n" in m


def test_msmtp(mx):
    msmtp, got = needs("msmtp"), grown(mx, "tomo")
    letter = f"From: s@example.net\nSubject: msmtp\n\n{BODY}".encode()
    run([msmtp, "--host=127.0.0.1", f"--port={mx.port}", f"--source-ip={STRANGER}", "--tls=off",
         "--from=s@example.net", "--file=/dev/null", "tomo@example.com"], letter)
    (m,) = got()
    assert m.startswith(b"Return-Path: <s@example.net>\n")
    assert untraced(m).endswith(letter.split(b"\n\n", 1)[1])


def test_mail_of_mailutils(mx):
    """mail(1) calls our sendmail."""
    mail, got = needs("mail"), grown(mx, "ana")
    if "mailutils" not in subprocess.run([mail, "--version"], stdout=subprocess.PIPE, text=True,
                                         check=False).stdout.lower():
        pytest.skip("mail is not that of mailutils")
    sendmail = os.path.join(BUILD, "bin", "sendmail")
    if mx.uid == os.geteuid():
        me = {}
    else:
        me = {"user": mx.uid, "group": mx.uid, "extra_groups": []}
    p = subprocess.run([mail, "-E", f"set sendmail=sendmail:{sendmail}", "-s", "from mail",
                        "ana@example.com"], input="hello\nthere\n", text=True, timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd="/",
                       env={**os.environ, "MAIL_CONFIG": mx.path("conf"), "HOME": mx.dir}, **me)
    assert p.returncode == 0, p.stdout
    (m,) = got()
    assert b"\nSubject: from mail\n" in m and m.endswith(b"\n\nhello\nthere\n")


def test_smtplib(mx):
    tomo, ana = grown(mx, "tomo", 20), grown(mx, "ana", 20)
    with smtplib.SMTP("127.0.0.1", mx.port, source_address=(STRANGER, 0)) as s:
        s.ehlo()
        assert s.has_extn("smtputf8") and s.esmtp_features["size"] == "10240000"
        for i in range(20):
            refused = s.sendmail("s@example.net", ["tomo@example.com", "no@example.com",
                                                   "ana@example.com"],
                                 f"Subject: {i}\n\n{BODY}".replace("\n", "\r\n").encode(),
                                 ["BODY=8BITMIME"])
            assert list(refused) == ["no@example.com"] and refused["no@example.com"][0] == 550
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            s.sendmail("s@example.net", ["x@far.example"], "x")
        assert s.verify("tomo@example.com")[0] == 252
    assert sorted(map(untraced, tomo())) == sorted(
        f"Subject: {i}\n\n{BODY}".encode() for i in range(20))
    ana()


def smtp_source():
    path = os.path.join(TOP, "build/peers/postfix/usr/sbin/smtp-source")
    if not os.path.exists(path):
        subprocess.run([os.path.join(TOP, "tools/get-peers"), "postfix"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not os.path.exists(path):
        pytest.skip("Debian's postfix package cannot be had")
    lib = os.path.join(TOP, "build/peers/postfix/usr/lib/postfix")
    return path, {"LD_LIBRARY_PATH": lib}


@pytest.mark.parametrize("options", [["-s", "20", "-l", "4096"], ["-s", "5", "-d"],
                                     ["-s", "3", "-l", "300000"]])
def test_smtp_source(mx, options, tmp_path):
    path, env = smtp_source()
    n = 30 if "300000" in options else 300
    # It reads a main.cf for its limits.
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    got = grown(mx, "tomo", n)
    run([path, *options, "-m", str(n), "-f", "s@example.net", "-t", "tomo@example.com",
         f"inet:127.0.0.1:{mx.port}"], MAIL_CONFIG=str(tmp_path), **env)
    ids = {re.search(rb"id (\w+)", m)[1] for m in got()}
    assert len(ids) == n
    assert wait_for(lambda: "Mail queue is empty" in mx.tool("postqueue", "-p").stdout)
