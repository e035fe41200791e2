"""Parameters that change how mail is kept and who may get it."""
# covers: mail_fsync queue_minfree allow_min_user
import re

import pytest

from mx import Mx
from smtptalk import FRIEND, Talk


def letter(h, rcpt="tomo@example.com", source=FRIEND):
    """The answers to MAIL, RCPT and the data, as far as it goes."""
    with Talk(h, source) as t:
        t("EHLO client.test")
        answers = [t("MAIL FROM:<a@b.test>"), t(f"RCPT TO:<{rcpt}>")]
        if answers[-1].startswith("250"):
            answers.append(t("DATA"))
        if answers[-1].startswith("354"):
            answers.append(t("Subject: x\r\n\r\ntext\r\n."))
    return answers


@pytest.mark.parametrize("mode", ["optimized", "always", "never"])
def test_mail_fsync(where, mode):
    with Mx(where, main={"mail_fsync": mode}) as h:
        assert letter(h)[-1].startswith("250 2.0.0 Ok: queued as ")
        assert len(h.mails()) == 1
        h.wait_log(r"status=sent \(delivered to maildir\)")
        status = h.command("status", check=True).stdout
        # Only the shared sync of `optimized` goes through the broker.
        syncs = re.findall(r": (\d+) syncs for", status)
        assert any(n != "0" for n in syncs) == (mode == "optimized")


def test_queue_minfree(where):
    with Mx(where, main={"queue_minfree": str(1 << 60)}) as h:
        answers = letter(h)
        assert answers[-1].startswith("452 4.3.1"), answers
        assert h.empty()


def test_names_with_a_minus(where):
    with Mx(where, users=("tomo", "-x")) as h:
        answers = letter(h, "-x@example.com")
        if answers[-1].startswith("250"):
            h.wait_log(r"status=bounced \(Invalid recipient syntax\)")
        assert h.empty("-x")
    with Mx(where, main={"allow_min_user": "yes"}, users=("tomo", "-x")) as h:
        assert letter(h, "-x@example.com")[-1].startswith("250")
        assert len(h.mails("-x")) == 1
