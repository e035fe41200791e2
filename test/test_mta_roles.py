"""Mail goes whole from Hato to other mail servers, and from them to Hato."""
import glob
import os
import shutil
import smtplib
import tempfile

import pytest

import mtapeers
import postfixpeer
from hatotest import wait_for
from mx import Mx
from smtptalk import maildir

LONG = b"y" * 900 + b"\r\n"
# name: (headers, body, options of MAIL)
MAIL = {
    "plain": (b"", b"one\r\n.two\r\n..\r\n.\r\n\r\nlast\r\n", []),
    "no body": (b"", b"", []),
    "8bit": (b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             b"Content-Transfer-Encoding: 8bit\r\n", "grün 日本\r\n".encode(), ["BODY=8BITMIME"]),
    "long lines": (b"", LONG * 100, []),
    "one MiB": (b"", b"0123456789abcdef" * 4 + b"\r\n" + b"x" * 62 + b"\r\n" * 1
                + (b"z" * 62 + b"\r\n") * 16384, []),
}


class PostfixPeer(postfixpeer.Postfix):
    """Takes what is for peer.test, sends the rest to a port."""

    def __init__(self, path, relay_port):
        self.boxes = f"{path}/boxes"
        os.makedirs(self.boxes)
        os.chmod(self.boxes, 0o777)
        super().__init__(path, virtual_mailbox_domains="peer.test",
                         virtual_mailbox_base=self.boxes,
                         virtual_mailbox_maps="static:u/", virtual_uid_maps="static:65534",
                         virtual_gid_maps="static:65534", mynetworks="127.0.0.0/8",
                         relayhost=f"[127.0.0.1]:{relay_port}", mailbox_size_limit="0",
                         virtual_mailbox_limit="0",
                         smtp_dns_support_level="disabled", smtp_host_lookup="native")
        with open(f"{path}/etc/master.cf", "a", encoding="utf-8") as f:
            f.write("virtual unix - n n - - virtual\n")

    def mail(self):
        out = []
        for path in glob.glob(f"{self.boxes}/u/new/*"):
            with open(path, "rb") as f:
                out.append(f.read())
        return out


PEERS = {"postfix": PostfixPeer, "exim": mtapeers.Exim, "opensmtpd": mtapeers.OpenSmtpd}


@pytest.fixture(scope="module", params=PEERS)
def pair(request):
    """(Hato, its peer), each the other's relay."""
    if request.param == "postfix":
        postfixpeer.need()
    else:
        mtapeers.need(request.param)
    # pytest's own directories are closed to the peers' users
    where = tempfile.mkdtemp(prefix="hato-peer-")
    os.chmod(where, 0o755)
    h = Mx(f"{where}/hato")
    peer = PEERS[request.param](f"{where}/peer", h.port)
    h.main["relayhost"] = f"[127.0.0.1]:{peer.port}"
    h.write_conf()
    with h, peer:
        yield h, peer
    shutil.rmtree(where, ignore_errors=True)


def send(port, case, rcpts):
    head, body, options = MAIL[case]
    text = b"From: <a@origin.test>\r\nSubject: " + case.encode() + b"\r\nMessage-ID: <" + \
        case.replace(" ", "").encode() + b"@origin.test>\r\nDate: Sun, 22 Nov 2026 01:00:00 +0000\r\n" \
        + head + b"\r\n" + body
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60) as s:
        s.ehlo()
        assert s.mail("a@origin.test", options)[0] == 250
        for r in rcpts:
            assert s.rcpt(r)[0] == 250
        assert s.data(text)[0] == 250
    return body.replace(b"\r\n", b"\n")


def subject(mail):
    return next((x[9:].decode() for x in mail.split(b"\n") if x.startswith(b"Subject: ")), None)


def bodies(mails, case):
    return [m.partition(b"\n\n")[2] for m in mails if subject(m) == case]


@pytest.mark.parametrize("case", MAIL)
def test_from_hato(pair, case):
    h, peer = pair
    body = send(h.port, case, ["u@peer.test"])
    wait_for(lambda: bodies(peer.mail(), case), 30)
    got = bodies(peer.mail(), case)
    assert [b.rstrip(b"\n") for b in got] == [body.rstrip(b"\n")], h.log() + peer.log()


@pytest.mark.parametrize("case", MAIL)
def test_to_hato(pair, case):
    h, peer = pair
    body = send(peer.port, case, ["tomo@example.com"])

    wait_for(lambda: bodies(maildir(h.box("tomo")), case), 30)
    got = bodies(maildir(h.box("tomo")), case)
    assert [b.rstrip(b"\n") for b in got] == [body.rstrip(b"\n")], h.log() + peer.log()


def test_many(pair):
    """Fifty messages at once each way, each once."""
    h, peer = pair
    for port, rcpt in ((h.port, "u@peer.test"), (peer.port, "ana@example.com")):
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60) as s:
            for i in range(50):
                s.sendmail("a@origin.test", [rcpt], f"Subject: many {i}\r\n\r\n{i}\r\n")

    def there():
        theirs = [subject(m) for m in peer.mail()]
        return sorted(x for x in theirs if x and x.startswith("many"))

    wanted = sorted(f"many {i}" for i in range(50))
    assert wait_for(lambda: there() == wanted, 30), h.log() + peer.log()
    assert len(h.mails("ana", 50, 60)) == 50


@pytest.mark.parametrize("where", ["unix", "inet"])
def test_dovecot_by_lmtp(where):
    """As virtual_transport of a Hato before an old Dovecot: one answer for each
    recipient."""
    mtapeers.need("dovecot")
    top = tempfile.mkdtemp(prefix="hato-peer-")
    os.chmod(top, 0o755)
    with mtapeers.DovecotLmtp(f"{top}/peer", 0) as peer:
        target = f"unix:{peer.socket}" if where == "unix" else f"inet:127.0.0.1:{peer.port}"
        h = Mx(f"{top}/hato", main={"virtual_transport": f"lmtp:{target}",
                                    "lmtp_assume_final": "yes" if where == "unix" else "no"})
        with h:
            for case in MAIL:
                body = send(h.port, case, ["tomo@example.com", "ana@example.com"])
                assert wait_for(lambda c=case: len(bodies(peer.mail(), c)) == 2, 30), \
                    h.log() + peer.log()
                assert {b.rstrip(b"\n") for b in bodies(peer.mail(), case)} == {body.rstrip(b"\n")}
            assert h.log().count("postfix/lmtp") >= 2 * len(MAIL)
            # covers: lmtp_assume_final
            with smtplib.SMTP("127.0.0.1", h.port, timeout=60) as s:
                s.ehlo()
                s.mail("tomo@example.com")
                s.rcpt("ana@example.com", ["NOTIFY=SUCCESS"])
                s.data(b"Subject: tell me\r\n\r\n")
            action = b"Action: " + (b"delivered" if where == "unix" else b"relayed")
            assert wait_for(lambda: [m for m in peer.mail() if action in m], 30), h.log()
    shutil.rmtree(top, ignore_errors=True)
