"""Maildirs of Dovecot and Courier are taken over in place: UIDs, UIDVALIDITY,
UIDNEXT, flags, keywords, dates, POP3's unique ids, subscriptions."""
import imaplib
import os
import re
import subprocess

import pytest

import dovecotpeer
from hatotest import EXE, IS_ROOT, NOBODY

SHOW = os.path.join(os.path.dirname(EXE), "..", "store", "show_store")


def show(maildir, *names):
    got = subprocess.run([SHOW, str(maildir), *names], capture_output=True,
                         text=True, timeout=60, check=False)
    assert got.returncode == 0, got.stderr
    return Shown(got.stdout)


class Shown:
    """What show_store printed."""

    def __init__(self, text):
        self.folders, self.boxes, self.rows = {}, {}, {}
        name = None
        for line in text.splitlines():
            w = line.split(" ")
            if w[0] == "folder":
                m = re.match(r"folder (.*?)((?: exists| children| subscribed)*)"
                             r" use=(\d+)$", line)
                self.folders[m[1]] = set(m[2].split())
            elif w[0] == "mailbox":
                name = w[1]
                self.boxes[name] = dict(x.split("=", 1) for x in w[2:])
                self.rows[name] = {}
            else:
                self.rows[name][int(w[0])] = {
                    "flags": int(w[1]), "keywords": set(w[2].split(",")) - {"-"},
                    "date": int(w[3]), "size": int(w[4]), "crlf": int(w[5]),
                    "uidl": w[6], "file": w[7]}


def letter(n):
    return (f"From: a{n}@example.net\r\nSubject: letter {n}\r\n\r\n"
            + f"line {n}\r\n" * (n + 1)).encode()


def fill(client, box, numbers):
    for n in numbers:
        date = imaplib.Time2Internaldate(1600000000 + n)
        typ, got = client.append(box, None, date, letter(n))
        assert typ == "OK", got


@pytest.fixture(name="dovecot")
def fixture_dovecot(where):
    dovecotpeer.need()
    home = where / "home"
    home.mkdir()
    return dovecotpeer.Dovecot(home / "Maildir")


def ours(path):
    """Everything in it belongs to us from now on."""
    if IS_ROOT:
        subprocess.run(["chown", "-R", "0:0", str(path)], check=True)


def theirs(path):
    if IS_ROOT:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(path)],
                       check=True)


def status(client, box):
    typ, got = client.status(box, "(UIDNEXT UIDVALIDITY MESSAGES)")
    assert typ == "OK"
    return dict(re.findall(r"(\w+) (\d+)", got[0].decode().split("(")[1]))


def fetch(client, box):
    """{uid: (flags, INTERNALDATE, RFC822.SIZE)} as that server says."""
    typ, got = client.select(box, readonly=True)
    assert typ == "OK", got
    out = {}
    if got[0] == b"0":
        return out
    typ, got = client.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE)")
    for line in got:
        if line is None:
            continue
        text = line.decode()
        flags = set(re.search(r"FLAGS \((.*?)\)", text)[1].split())
        date = imaplib.Internaldate2tuple(line)
        size = int(re.search(r"RFC822.SIZE (\d+)", text)[1])
        out[int(re.search(r"UID (\d+)", text)[1])] = (
            flags - {"\\Recent"}, date, size)
    return out


BITS = {1: "\\Seen", 2: "\\Answered", 4: "\\Flagged", 8: "\\Deleted",
        16: "\\Draft"}


def equal(rows, want):
    assert sorted(rows) == sorted(want)
    for uid, (flags, date, size) in want.items():
        row = rows[uid]
        got = {name for bit, name in BITS.items() if row["flags"] & bit}
        assert got | row["keywords"] == flags
        assert imaplib.Internaldate2tuple(
            b'INTERNALDATE ' + imaplib.Time2Internaldate(row["date"]).encode()
        ) == date
        assert row["crlf"] in (0, size)


def make(client):
    fill(client, "INBOX", range(1, 8))
    client.select("INBOX")
    client.uid("STORE", "1,4", "+FLAGS", "(\\Seen $Label1 Junk)")
    client.uid("STORE", "3", "+FLAGS", "(\\Flagged \\Answered NonJunk)")
    client.uid("STORE", "2,7", "+FLAGS", "(\\Deleted)")
    client.expunge()  # so UIDNEXT is above the highest UID
    for box in "Work", "Work.Hato", "&AMQ-rger":
        assert client.create(box)[0] == "OK"
    fill(client, "Work.Hato", range(1, 4))
    client.select("Work.Hato")
    client.uid("STORE", "2", "+FLAGS", "(\\Draft Junk)")
    for box in "INBOX", "Work.Hato", "&AMQ-rger":
        assert client.subscribe(box)[0] == "OK"


def test_dovecot(dovecot):
    boxes = ["INBOX", "Work.Hato", "\u00c4rger"]
    with dovecot.imap() as c:
        make(c)
    with dovecot.imap() as c:
        want = {b: fetch(c, b.replace("\u00c4", "&AMQ-")) for b in boxes}
        numbers = {b: status(c, b.replace("\u00c4", "&AMQ-")) for b in boxes}
    uidls = dovecot.uidls()
    # Quotas: not enforced here, and not ours to change.
    quota = os.path.join(dovecot.maildir, "maildirsize")
    with open(quota, "w", encoding="ascii") as f:
        f.write("1000000S,1000C\n600 3\n")
    ours(dovecot.maildir)
    for _ in range(2):  # taken over, and from our own index
        got = show(dovecot.maildir, *boxes)
        for b in boxes:
            assert got.boxes[b]["uidvalidity"] == numbers[b]["UIDVALIDITY"]
            assert got.boxes[b]["uidnext"] == numbers[b]["UIDNEXT"]
            equal(got.rows[b], want[b])
    with open(quota, encoding="ascii") as f:
        assert f.read() == "1000000S,1000C\n600 3\n"
    os.unlink(quota)
    inbox = got.rows["INBOX"]
    assert [inbox[u]["uidl"] for u in sorted(inbox)] == [
        uidls[n] for n in sorted(uidls)]
    assert got.folders == {
        "INBOX": {"exists", "subscribed"},
        "Work": {"exists", "children"},
        "Work.Hato": {"exists", "subscribed"},
        "\u00c4rger": {"exists", "subscribed"}}
    # UIDVALIDITY of what is made later is above all that Dovecot gave.
    with open(dovecot.maildir + "/dovecot-uidlist", encoding="ascii") as f:
        guid = re.search(r" G([0-9a-f]{32})", f.readline())[1]
    assert got.boxes["INBOX"]["guid"] == guid


FORMATS = ["%08Xu%08Xv", "%f", "%g", "UID%u-%v", "%v.%u", "%u", "%LXv-%u", "%4u",
           "%04u-%v", "%UXv%u", "%XUv%u"]


def test_unique_ids(dovecot, monkeypatch):
    with dovecot.imap() as c:
        fill(c, "INBOX", range(1, 13))
    long = "1700000000.M123456P12345." + "x" * 60 + ".example.com,S=13,W=16:2,S"
    path = os.path.join(dovecot.maildir, "cur", long)
    with open(path, "wb") as f:
        f.write(b"Subject: x\n\nx")
    theirs(dovecot.maildir)
    want = {}
    for form in FORMATS:
        dovecot.settings = {"pop3_uidl_format": form}
        want[form] = dovecot.uidls()
        assert len(want[form]) == 13
    ours(dovecot.maildir)
    for form in FORMATS:
        monkeypatch.setenv("UIDL_FORMAT", form)
        rows = show(dovecot.maildir, "INBOX").rows["INBOX"]
        assert [rows[u]["uidl"] for u in sorted(rows)] == [
            want[form][n] for n in sorted(want[form])], form


def test_back_to_dovecot(dovecot):
    """What we did in between, Dovecot sees in names and dovecot-keywords; what
    it does meanwhile, we see."""
    with dovecot.imap() as c:
        make(c)
    ours(dovecot.maildir)
    show(dovecot.maildir, "INBOX")
    theirs(dovecot.maildir)
    with dovecot.imap() as c:
        c.select("INBOX")
        c.uid("STORE", "5", "+FLAGS", "(\\Seen Later)")
        c.uid("STORE", "1", "-FLAGS", "(Junk)")
        c.uid("STORE", "6", "+FLAGS", "(\\Deleted)")
        c.expunge()
        fill(c, "INBOX", [9])
        want = fetch(c, "INBOX")
    ours(dovecot.maildir)
    got = show(dovecot.maildir, "INBOX")
    equal(got.rows["INBOX"], want)
    assert got.rows["INBOX"][5]["keywords"] == {"Later"}


def test_index_lost(dovecot):
    """Numbers that we have given since are not given again."""
    with dovecot.imap() as c:
        make(c)
    ours(dovecot.maildir)
    was = show(dovecot.maildir, "INBOX").boxes["INBOX"]
    for name in os.listdir(dovecot.maildir):
        if name.startswith("hato.index"):
            os.unlink(os.path.join(dovecot.maildir, name))
    got = show(dovecot.maildir, "INBOX").boxes["INBOX"]
    assert int(got["uidvalidity"]) > int(was["uidvalidity"])
    assert got["guid"] == was["guid"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def courier(top):
    for sub in "cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp":
        (top / sub).mkdir(parents=True, exist_ok=True)
    for n in range(1, 6):
        write(top / "cur" / f"10{n}.M1P{n}.h,S=20:2,S",
              b"Subject: letter\n\nx\n\n")
    write(top / "new" / "200.M1P9.h", b"Subject: new\n\ny\n")
    write(top / "courierimapuiddb",
          "1 1234567890 40\n7 101.M1P1.h,S=20\n9 103.M1P3.h,S=20\n"
          "8 102.M1P2.h,S=20\n31 999.gone.h\n")
    write(top / "courierimapkeywords" / ":list",
          "Junk\n$Label2\n\n101.M1P1.h,S=20:0 1\n103.M1P3.h,S=20:1\n")
    write(top / "courierimapkeywords" / "103.M1P3.h,S=20", "Junk\nNew\n")
    write(top / "courierpop3dsizelist",
          "/2 55 77\n101.M1P1.h,S=20 24 12:77\n102.M1P2.h,S=20 24 13:77\n"
          "103.M1P3.h,S=20 24 0:0\n")
    write(top / "courierimapsubscribed", "INBOX\nINBOX.Sent\n")
    write(top / ".Sent" / "courierimapuiddb", "1 1234567891 5\n")


def test_courier(where):
    top = where / "Maildir"
    courier(top)
    for _ in range(2):
        got = show(top, "INBOX", "Sent")
        box, rows = got.boxes["INBOX"], got.rows["INBOX"]
        assert box["uidvalidity"] == "1234567890"
        assert sorted(rows) == [7, 8, 9, 40, 41, 42]
        assert box["uidnext"] == "43"
        assert got.boxes["Sent"]["uidvalidity"] == "1234567891"
        assert got.boxes["Sent"]["uidnext"] == "5"
    assert rows[7]["keywords"] == {"Junk", "$Label2"}
    assert rows[9]["keywords"] == {"Junk", "New"}
    assert rows[8]["keywords"] == set()
    assert rows[7]["uidl"] == "UID12-77"
    assert rows[8]["uidl"] == "UID13-77"
    assert rows[9]["uidl"] == "103.M1P3.h,S=20"
    assert rows[40]["uidl"] == "%08x%08x" % (40, 1234567890)
    assert rows[7]["crlf"] == 24
    assert rows[7]["flags"] == 1
    assert got.folders["Sent"] == {"exists", "subscribed"}


def test_damaged_lists(where):
    """Lines that cannot be understood cost their numbers and nothing else."""
    top = where / "Maildir"
    for sub in "cur", "new", "tmp":
        (top / sub).mkdir(parents=True)
    for n in range(1, 6):
        write(top / "cur" / f"10{n}.M1P{n}.h:2,", b"Subject: x\n\nx\n")
    write(top / "dovecot-uidlist",
          b"3 V5000 N20 Gxyz\n3 :101.M1P1.h\nabc\n\xff\xfe :102\n"
          b"7 Pold.id X5 :\n8 : \n9\n"  # no name: once read for ever
          b"3 :102.M1P2.h\n99999999999 :103.M1P3.h\n18 W7 Pold.id :104.M1P4.h\n"
          b"5 :105.M1P5")  # not whole
    write(top / "dovecot-keywords", b"0 Good\n1 bad name\n77 Far\nx\n2 \xff\n")
    got = show(top, "INBOX")
    rows = got.rows["INBOX"]
    assert got.boxes["INBOX"]["uidvalidity"] == "5000"
    assert len(rows) == 5
    assert {3, 18} < set(rows)
    assert min(set(rows) - {3, 18}) == 20
    assert rows[18]["uidl"] == "old.id"
    write(top / ".Bad" / "dovecot-uidlist", b"7 nonsense")
    for sub in "cur", "new", "tmp":
        (top / ".Bad" / sub).mkdir()
    assert show(top, "Bad").boxes["Bad"]["uidnext"] == "1"
