"""hato mailbox list, status, check, rebuild."""
import os
import smtplib
import subprocess

from hatotest import EXE, Hato, IS_ROOT, NOBODY, wait_for

MASTER = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
auth unix - - n - - auth
"""


def command(hato, *args, fails=False):
    got = subprocess.run([EXE, "-c", hato.path("conf"), "mailbox", *args],
                         capture_output=True, text=True, timeout=60, check=False)
    assert (got.returncode != 0) == fails, got
    return got.stdout + got.stderr


def test_mailbox(where):
    uid = NOBODY if IS_ROOT else os.geteuid()
    mail = where / "mail"
    mail.mkdir()
    hato = Hato(where, main={
        "virtual_mailbox_domains": "example.org",
        "virtual_mailbox_maps": "inline:{ anna@example.org=anna/ }",
        "virtual_mailbox_base": str(mail),
        "virtual_uid_maps": f"static:{uid}", "virtual_gid_maps": f"static:{uid}",
        "first_valid_uid": "1",
        "passdb": f"texthash:{where}/passwords"}, master=MASTER)
    hato.write("passwords", "anna@example.org {PLAIN}secret\n")
    with hato:
        with smtplib.SMTP("127.0.0.1", hato.port, timeout=30) as s:
            for n in range(3):
                s.sendmail("ben@example.com", ["anna@example.org"],
                           f"Subject: {n}\r\n\r\nletter {n}\r\n")
        new = mail / "anna" / "new"
        assert wait_for(lambda: new.exists() and len(list(new.iterdir())) == 3)
        assert command(hato, "list", "anna@example.org") == "INBOX\n"
        text = command(hato, "status", "anna@example.org")
        assert text.startswith("INBOX: 3 messages, 3 unseen, "), text
        assert " UIDNEXT 4," in text
        text = command(hato, "check", "anna@example.org", "INBOX")
        assert "every message has its file" in text
        with open(sorted(new.iterdir())[1], "r+b") as f:
            f.seek(5)
            f.write(b"#")
        text = command(hato, "check", "anna@example.org", fails=True)
        assert "UID 2 has other bytes than were delivered" in text
        assert "1 troubles" in text
        text = command(hato, "rebuild", "anna@example.org", "INBOX")
        assert text.startswith("INBOX: 3 messages") and " UIDNEXT 4," in text
        assert "No such mailbox" in command(
            hato, "status", "anna@example.org", "None", fails=True)
        assert "no such user" in command(hato, "list", "ben@example.org",
                                         fails=True)
        assert "usage" in command(hato, "list", fails=True)
