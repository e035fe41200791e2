"""Where mail goes: virtual and system users, aliases, .forward, commands."""
# covers: alias_maps alias_database allow_mail_to_commands allow_mail_to_files
# covers: command_time_limit default_database_type default_privs
# covers: expand_owner_alias export_environment forward_path home_mailbox
# covers: luser_relay mail_gid mail_location mail_spool_directory mail_uid
# covers: mailbox_command mailbox_delivery_lock virtual_gid_maps
# covers: virtual_mailbox_base virtual_minimum_uid virtual_uid_maps
# covers: sendmail_fix_line_endings
import contextlib
import email
import email.policy
import json
import os
import re
import shutil
import signal
import time

import pytest

from conftest import directory
from hatotest import BUILD, IS_ROOT, Hato, wait_for
from mx import Mx
from smtptalk import FRIEND, STRANGER, Talk, TestClock, maildir, untraced, wait_mail

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
ME = "me@example.com"


def letter(h, rcpts, sender="s@example.net", text="Subject: x\r\n\r\nbody\r\n", source=FRIEND):
    with Talk(h, source=source) as t:
        t.hello()
        return t.mail(text.encode(), sender=sender, rcpts=rcpts)


def parse(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def is_idle(h):
    return "Mail queue is empty" in h.tool("postqueue", "-p", check=False).stdout


def system(where, main=None, users=("tomo", "ana"), aliases="", **kw):
    """System users with homes of their own; to be entered by with."""
    h = Hato(where, mode="users", users=users, main={
        "mydestination": "example.com",
        "mynetworks": "127.0.0.1/32",
        "local_recipient_maps": "",
        "alias_maps": f"hash:{where}/aliases",
        "first_valid_uid": "1000",
        "default_privs": "games",
        "recipient_delimiter": "+",
        **(main or {}),
    }, **kw)
    h.write("aliases", aliases)
    for i, name in enumerate(users):
        os.makedirs(h.path(f"home/{name}"), exist_ok=True)
        os.chmod(h.path(f"home/{name}"), 0o700)
        os.chown(h.path(f"home/{name}"), 2000 + i, 2000 + i)
    return h


def home(h, name, path="Maildir"):
    return h.path(f"home/{name}/{path}")


def put(h, name, path, text, mode=0o644):
    full = home(h, name, path)
    with open(full, "w", encoding="utf-8") as f:
        f.write(text)
    uid = 2000 + h.users.index(name)
    os.chmod(full, mode)
    os.chown(full, uid, uid)


# ---- virtual users

def test_virtual_user(where):
    with Mx(where, main={"recipient_delimiter": "+"}) as h:
        letter(h, ["tomo@example.com", "ANA+box@Example.Com"])
        (m,) = h.mails()
        assert m.startswith(b"Return-Path: <s@example.net>\nX-Original-To: tomo@example.com\n"
                            b"Delivered-To: tomo@example.com\nReceived: ")
        assert untraced(m).endswith(b"\nSubject: x\n\nbody\n")
        (m,) = h.mails("ana")
        (name,) = os.listdir(h.box("ana") + "/new")
        assert f",S={len(m)}," in name and f",W={len(m) + m.count(10)}" in name
        assert set(os.listdir(h.box("tomo"))) >= {"cur", "new", "tmp"}


@needs_root
def test_virtual_users_of_a_uid_of_their_own(where):
    h = Hato(where, mode="users", users=["vmail"], main={
        "mydestination": "", "virtual_mailbox_domains": "example.com",
        "userdb": f"passwd-file:{where}/users", "first_valid_uid": "1000",
        "mail_uid": "vmail", "mail_gid": "vmail",
        "mail_location": f"maildir:{where}/mail/%d/%n"})
    h.write("users", "tomo@example.com:::::::\nana@example.com::2001:2001::::\n")
    os.makedirs(h.path("mail"))
    os.chmod(h.path("mail"), 0o777)
    with h:
        letter(h, ["tomo@example.com"])
        wait_mail(h.path("mail/example.com/tomo"))
        st = os.stat(h.path("mail/example.com/tomo/new"))
        assert (st.st_uid, st.st_gid, st.st_mode & 0o77) == (2000, 2000, 0)


@needs_root
def test_virtual_mailbox_maps(where):
    h = Hato(where, mode="users", users=["vmail"], main={
        "mydestination": "", "virtual_mailbox_domains": "example.com",
        "virtual_mailbox_base": f"{where}/base",
        "virtual_mailbox_maps": f"texthash:{where}/boxes",
        "virtual_uid_maps": "static:2000", "virtual_gid_maps": "inline:{tomo@example.com=2000}",
        "virtual_minimum_uid": "1000", "first_valid_uid": "1000"})
    h.write("boxes", "tomo@example.com d/tomo/\nbox@example.com d/box\nno@example.com d/no/\n")
    os.makedirs(h.path("base/d"))
    os.chown(h.path("base/d"), 2000, 2000)
    with h:
        letter(h, ["tomo@example.com", "no@example.com"])
        (m,) = wait_mail(h.path("base/d/tomo"))
        assert b"\nDelivered-To: tomo@example.com\n" in m
        h.wait_log(r"to=<no@example\.com>.*status=deferred .*virtual_gid_maps: no entry")
        h.main["virtual_minimum_uid"] = "2001"
        h.write_conf()
        h.command("reload", check=True)
        letter(h, ["tomo@example.com"])
        h.wait_log(r"to=<tomo@example\.com>.*status=deferred .*virtual_uid_maps: bad value")


# ---- aliases (entirely as one user as well)

ALIASES = """\
tomo2: tomo@example.com
deep: deeper, tomo@example.com
deeper: deepest
deepest: ana@example.com, tomo@example.com, deeper
self: self, tomo@example.com
many: :include:{d}/list
owner-many: ana
request: "quoted name"@example.com, tomo@example.com
file: {d}/out/mbox
dir: {d}/out/dir/
cmd: "|cat > {d}/out/cmd"
env: "|env > {d}/out/env; pwd > {d}/out/pwd; id -u > {d}/out/id"
tell: "|echo no good; exit 65"
later: "|exit 75"
slow: "|sleep 100"
empty:
nowhere: nobody-there
elsewhere: someone@far.example
ana: ana@example.com
postmaster: tomo@example.com
loopa: loopb
loopb: loopa
"""


def aliased(where, **main):
    h = Mx(where, main={"alias_maps": f"hash:{where}/aliases",
                        "mydestination": "mx.example.com",
                        "myorigin": "mx.example.com",
                        "default_privs": "nobody", **main})
    os.makedirs(h.path("out"))
    os.chmod(h.path("out"), 0o777)
    h.write("aliases", ALIASES.replace("{d}", str(where)))
    h.write("list", "# a list\ntomo@example.com\n ana@example.com,\n")
    return h


@pytest.fixture(name="al", scope="module")
def fixture_al(shared_where):
    with aliased(shared_where, command_time_limit="2s", export_environment="COLOUR=red TZ",
                 allow_mail_to_files="alias, forward, include") as h:
        yield h


def at(name):
    return f"{name}@mx.example.com"


def grown(h, name, n=1):
    """How many more letters `name` will have: waits for them when called."""
    before = len(maildir(h.box(name)))
    return lambda: h.mails(name, before + n)[before:]


def test_alias(al):
    got = grown(al, "tomo")
    letter(al, [at("tomo2")])
    (m,) = got()
    assert b"\nX-Original-To: tomo2@mx.example.com\n" in m


def test_nested_aliases_reach_each_once(al):
    tomo, ana = grown(al, "tomo"), grown(al, "ana")
    qid = letter(al, [at("deep")], sender="")
    tomo()
    ana()
    al.wait_log(rf"{qid}: removed")
    tomo()
    ana()


def test_alias_to_itself(al):
    """The name itself in its alias is the mailbox of that name: here nobody."""
    got = grown(al, "tomo")
    qid = letter(al, [at("self")], sender="")
    got()
    al.wait_log(rf"{qid}: to=<self@mx\.example\.com>.*status=bounced \(unknown user: \"self\"\)")


def test_alias_loop(al):
    qid = letter(al, [at("loopa")], sender="")
    al.wait_log(rf"{qid}: .*status=bounced")
    al.wait_log(rf"{qid}: removed")


def test_include_and_owner(al):
    tomo, ana = grown(al, "tomo"), grown(al, "ana")
    letter(al, [at("many")])
    (m,) = tomo()
    ana()
    assert m.startswith(b"Return-Path: <owner-many@mx.example.com>\n")


def test_alias_to_file(al):
    letter(al, [at("file")], text="Subject: f\r\n\r\nFrom me\r\n>From you\r\nend\r\n")
    path = al.path("out/mbox")
    assert wait_for(lambda: os.path.exists(path) and open(path, "rb").read())
    raw = open(path, "rb").read()
    assert raw.startswith(b"From s@example.net  ")
    assert raw.endswith(b"\n\n>From me\n>From you\nend\n\n")


def test_alias_to_maildir(al):
    letter(al, [at("dir")])
    (m,) = wait_mail(al.path("out/dir"))
    assert untraced(m).endswith(b"\nSubject: x\n\nbody\n")


def test_alias_to_command(al):
    qid = letter(al, [at("cmd")])
    al.wait_log(rf"local\[\d+\]: {qid}: to=<cmd@mx\.example\.com>, .*relay=local.*status=sent "
                r"\(delivered to command: cat > ")
    raw = open(al.path("out/cmd"), "rb").read()
    assert raw.startswith(b"From s@example.net  ")
    assert b"\nDelivered-To: cmd@mx.example.com\n" in raw and raw.endswith(b"\n\nbody\n")


def test_environment_of_a_command(al):
    qid = letter(al, [at("env")])
    al.wait_log(rf"{qid}: removed")
    env = dict(x.split("=", 1) for x in open(al.path("out/env"), encoding="utf-8")
               .read().splitlines() if "=" in x)
    assert env["SENDER"] == "s@example.net" and env["RECIPIENT"] == at("env")
    assert (env["LOCAL"], env["DOMAIN"]) == ("env", "mx.example.com")
    assert env["COLOUR"] == "red"
    assert "HATO_BUILD" not in env and "MAIL_CONFIG" not in env
    assert open(al.path("out/id"), encoding="utf-8").read() == f"{al.uid}\n"


def test_command_that_fails(al):
    qid = letter(al, [at("tell")], sender="")
    al.wait_log(rf"{qid}: .*dsn=5\.6\.0, status=bounced \(data format error. "
                r"Command output: no good\)")
    qid = letter(al, [at("later")], sender="")
    al.wait_log(rf"{qid}: .*dsn=4\.3\.0, status=deferred \(temporary failure\)")
    al.tool("postsuper", "-d", qid)


def test_command_time_limit(al):
    qid = letter(al, [at("slow")], sender="")
    al.wait_log(rf"{qid}: .*status=deferred \(Command time limit exceeded: \"sleep 100\"\)")
    al.tool("postsuper", "-d", qid)


def test_unknown_user(al):
    qid = letter(al, [at("nobody-there")], sender="")
    al.wait_log(rf"local\[\d+\]: {qid}: to=<nobody-there@mx\.example\.com>, relay=local, "
                r"delay=.*, dsn=5\.1\.1, status=bounced \(unknown user: \"nobody-there\"\)")


def test_far_address_is_kept(al):
    qid = letter(al, [at("elsewhere")])
    al.wait_log(rf"{qid}: to=<someone@far\.example>, orig_to=<elsewhere@mx\.example\.com>, "
                r"relay=none, .*status=deferred")
    (entry,) = [x for x in map(json.loads, al.tool("postqueue", "-j").stdout.splitlines())
                if x["queue_id"] == qid]
    assert entry["queue_name"] == "deferred" and entry["sender"] == "s@example.net"
    assert entry["recipients"][0]["address"] == "someone@far.example"
    assert "delay_reason" in entry["recipients"][0]
    al.tool("postsuper", "-d", qid)
    al.wait_log(rf"{qid}: removed")


def test_postmaster_without_a_domain(al):
    got = grown(al, "tomo")
    letter(al, ["postmaster"], source=STRANGER)
    got()


def test_restricted_destinations(where):
    with aliased(where, allow_mail_to_commands="forward", allow_mail_to_files="forward") as h:
        for name in ("cmd", "file"):
            qid = letter(h, [at(name)], sender="")
            h.wait_log(rf"{qid}: .*dsn=5\.7\.1, status=bounced \(mail to "
                       r"(command|file) is restricted")
        assert not os.listdir(h.path("out"))


def test_luser_relay(where):
    with aliased(where, luser_relay="ana@example.com", expand_owner_alias="yes") as h:
        letter(h, [at("whoever")])
        h.mails("ana")
        letter(h, [at("many")])
        (m,) = h.mails()
        assert m.startswith(b"Return-Path: <ana@mx.example.com>\n")


def test_delivered_to_loop(al):
    qid = letter(al, [at("tomo2")], sender="",
                 text="Delivered-To: tomo2@mx.example.com\r\nSubject: x\r\n\r\nb\r\n")
    al.wait_log(rf"{qid}: .*dsn=5\.4\.6, status=bounced \(mail forwarding loop for "
                r"tomo2@mx\.example\.com\)")


# ---- system users

@needs_root
def test_system_users_and_forward(where):
    h = system(where, aliases="both: tomo, ana\nself: tomo, self\n", users=("tomo", "ana", "bo"))
    with h:
        letter(h, ["tomo@example.com", "both@example.com"])
        wait_mail(home(h, "tomo"))
        wait_mail(home(h, "ana"))
        st = os.stat(home(h, "tomo", "Maildir/new"))
        assert (st.st_uid, st.st_gid) == (2000, 2000)
        # addresses, a copy of one's own, a file, a Maildir, a command, a comment
        put(h, "tomo", ".forward", "# mine\n\\tomo, ana@example.com\n~/mbox\n"
            f"{home(h, 'tomo', 'Other/')}\n\"|cat > ~/cmd; id -u >> ~/cmd; pwd >> ~/cmd\"\n")
        letter(h, ["tomo@example.com"])
        wait_mail(home(h, "tomo"), 2)
        wait_mail(home(h, "ana"), 2)
        wait_mail(home(h, "tomo", "Other"))
        assert wait_for(lambda: os.path.exists(home(h, "tomo", "cmd")))
        assert wait_for(lambda: os.path.exists(home(h, "tomo", "mbox")))
        assert wait_for(lambda: is_idle(h))
        text = open(home(h, "tomo", "cmd"), encoding="utf-8").read()
        assert text.endswith(f"body\n2000\n{h.path('home/tomo')}\n")
        assert os.stat(home(h, "tomo", "cmd")).st_uid == 2000
        assert os.stat(home(h, "tomo", "mbox")).st_uid == 2000
        # An extension has a file of its own.
        put(h, "tomo", ".forward+list", "bo\n")
        letter(h, ["tomo+list@example.com"])
        (m,) = wait_mail(home(h, "bo"))
        assert b"\nX-Original-To: tomo+list@example.com\n" in m
        # Two who forward to one another.
        put(h, "ana", ".forward", "bo\n")
        put(h, "bo", ".forward", "ana\n")
        qid = letter(h, ["ana@example.com"], sender="")
        h.wait_log(rf"{qid}: removed")
        assert len(maildir(home(h, "bo"))) + len(maildir(home(h, "ana"))) in (3, 4)


@needs_root
def test_forward_is_not_trusted(where):
    h = system(where)
    victim = h.path("home/ana/secret")
    with h:
        # A file of somebody else, a link, a directory out of reach.
        put(h, "tomo", ".forward", f"{victim}\n")
        qid = letter(h, ["tomo@example.com"], sender="")
        h.wait_log(rf"{qid}: .*status=(bounced|deferred)")
        assert not os.path.exists(victim)
        h.tool("postsuper", "-d", "ALL", "deferred")
        # .forward that others may write is not followed.
        put(h, "tomo", ".forward", "ana\n", mode=0o666)
        letter(h, ["tomo@example.com"])
        wait_mail(home(h, "tomo"))
        assert not maildir(home(h, "ana"))
        # nor is one that is a link to another user's file
        os.unlink(home(h, "tomo", ".forward"))
        put(h, "ana", "mine", "ana\n", mode=0o600)
        os.symlink(home(h, "ana", "mine"), home(h, "tomo", ".forward"))
        qid = letter(h, ["tomo@example.com"], sender="")
        h.wait_log(rf"{qid}: .*status=")
        assert not maildir(home(h, "ana"))


@needs_root
def test_root_gets_no_mail_of_its_own(where):
    h = system(where, aliases="root: tomo\n")
    with h:
        letter(h, ["root@example.com"])
        wait_mail(home(h, "tomo"))
        letter(h, ["daemon@example.com"])
        h.wait_log(r"to=<daemon@example\.com>.*status=deferred .*first_valid_uid")


@needs_root
def test_commands_of_aliases_run_as_default_privs(where):
    h = system(where, aliases=f'cmd: "|id -un > {where}/out/id; cat /proc/self/status | sort > '
                              f'{where}/out/status"\nfile: {where}/out/f\n')
    os.makedirs(h.path("out"))
    os.chmod(h.path("out"), 0o777)
    with h:
        letter(h, ["cmd@example.com", "file@example.com"])
        assert wait_for(lambda: is_idle(h) and os.path.exists(h.path("out/f")))
        assert open(h.path("out/id"), encoding="utf-8").read() == "games\n"
        # What no program needs is refused; set-uid programs keep their rights.
        status = open(h.path("out/status"), encoding="utf-8").read()
        assert "NoNewPrivs:\t0\n" in status and "Seccomp:\t2\n" in status
        assert os.stat(h.path("out/f")).st_uid == 5


@needs_root
def test_commands_of_an_alias_file_run_as_its_owner(where):
    """Two maps, of ana (2001) and root; what she may read is included, what only
    root may is not; a file of nobody known is deferred."""
    h = system(where, {"alias_maps": f"hash:{where}/aliases, texthash:{where}/hers, "
                                     f"hash:{where}/nobodys"},
               aliases=f'cmd: "|id -un > {where}/out/root"\n')
    os.makedirs(h.path("out"))
    os.chmod(h.path("out"), 0o777)
    h.write("list", "tomo\n")
    h.write("hers", f'hers "|id -un > {where}/out/ana; echo $HOME >> {where}/out/ana"\n'
                    f"herfile {where}/out/f\nherlist :include:{where}/list\n")
    h.write("nobodys", f'lost: "|id > {where}/out/lost"\n')
    for name, uid in (("list", 2001), ("hers", 2001), ("nobodys", 4711)):
        os.chown(h.path(name), uid, uid)
    os.chmod(h.path("list"), 0o600)
    with h:
        letter(h, [f"{n}@example.com" for n in ("cmd", "hers", "herfile", "herlist")])
        wait_mail(home(h, "tomo"))
        assert wait_for(lambda: is_idle(h) and os.path.exists(h.path("out/f")))
        assert open(h.path("out/root"), encoding="utf-8").read() == "games\n"
        assert open(h.path("out/ana"), encoding="utf-8").read() == f"ana\n{home(h, 'ana', '')[:-1]}\n"
        assert os.stat(h.path("out/f")).st_uid == 2001
        letter(h, ["lost@example.com"])
        h.wait_log(r"to=<lost@example\.com>.*status=deferred \(cannot find alias database owner")
        assert not os.path.exists(h.path("out/lost"))
        # Another owner, other rights.
        os.chown(h.path("hers"), 2000, 2000)
        h.command("reload", check=True)
        letter(h, ["herfile@example.com"])
        h.wait_log(r"to=<herfile@example\.com>.*status=deferred.*[Pp]ermission")


@needs_root
@pytest.mark.parametrize("main, path", [
    ({"home_mailbox": "in/"}, "in"),
    ({"home_mailbox": "mbox"}, "mbox"),
    ({"mail_location": "maildir:~/mail/%u"}, "mail/tomo"),
    ({"mail_spool_directory": "{where}/var/"}, "../../var/tomo"),
    ({"mailbox_command": "cat > got"}, "got"),
    ({"home_mailbox": "mbox", "mailbox_delivery_lock": "dotlock"}, "mbox"),
])
def test_places_of_system_users(where, main, path):
    h = system(where, {k: v.replace("{where}", str(where)) for k, v in main.items()})
    os.makedirs(h.path("var"))
    os.chmod(h.path("var"), 0o1777)
    with h:
        letter(h, ["tomo@example.com"])
        full = home(h, "tomo", path)
        assert wait_for(lambda: maildir(full) if os.path.isdir(full)
                        else os.path.exists(full) and os.path.getsize(full))
        assert wait_for(lambda: is_idle(h))
        raw = maildir(full)[0] if os.path.isdir(full) else open(full, "rb").read()
        assert b"\nDelivered-To: tomo@example.com\n" in raw
        assert not os.path.exists(home(h, "tomo", "Maildir"))


@needs_root
def test_a_spool_directory_of_group_mail(where):
    """Debian's /var/mail: 2775 root:mail.  The file is the user's and of nobody
    else; dotlocks can be made; a .forward gets nothing of the group's rights."""
    h = system(where, {"mail_spool_directory": f"{where}/var", "mailbox_delivery_lock":
                       "dotlock, fcntl", "local_destination_concurrency_limit": "4"},
               aliases="both: tomo, ana\n")
    os.makedirs(h.path("var"))
    os.chown(h.path("var"), 0, 8)
    os.chmod(h.path("var"), 0o2775)
    with open(h.path("var/ana"), "w", encoding="utf-8") as f:
        f.write("")
    os.chown(h.path("var/ana"), 2001, 8)
    os.chmod(h.path("var/ana"), 0o660)
    with h:
        for _ in range(5):
            letter(h, ["both@example.com"])
        assert wait_for(lambda: is_idle(h) and h.log().count("status=sent") == 10, 20), h.log()
        for name, uid in (("tomo", 2000), ("ana", 2001)):
            st = os.stat(h.path(f"var/{name}"))
            assert st.st_uid == uid and not st.st_mode & 0o007, name
            with open(h.path(f"var/{name}"), encoding="utf-8") as f:
                assert f.read().count(f"\nDelivered-To: {name}@example.com\n") == 5
        assert os.stat(h.path("var/tomo")).st_mode & 0o777 == 0o600
        assert sorted(os.listdir(h.path("var"))) == ["ana", "tomo"]
        # Nothing but this directory is its to see.
        probed = h.command("probe", "spool", "2000", "2000", check=True).stdout
        assert "uid=2000 gid=2000" in probed and "open=refused" in probed
        assert "=allowed" not in probed
        # tomo's own files say otherwise: with his own rights only.
        put(h, "tomo", ".forward", f"{where}/var/ana\n")
        letter(h, ["tomo@example.com"])
        h.wait_log(r"to=<tomo@example\.com>.*status=(deferred|bounced).*[Pp]ermission")
        put(h, "tomo", ".forward", f':include:{where}/var/ana\n')
        letter(h, ["tomo@example.com"])
        h.wait_log(r"open include file.*var/ana.*[Pp]ermission")
        with open(h.path("var/ana"), encoding="utf-8") as f:
            assert f.read().count("\nDelivered-To: ") == 5


def test_a_list_of_a_hundred_thousand(where):
    """An :include: of 100,000 members, with an owner, is one expansion: nobody is
    left out or has it twice; killed in its middle it is made again."""
    n = 100000
    h = aliased(where, virtual_mailbox_domains="many.example", virtual_transport="discard",
                default_process_limit="100")
    h.write("many", "".join(f"member{i:06d}@many.example\n" for i in range(n)))
    h.write("aliases", f"many: :include:{where}/many\nowner-many: ana\n")
    def of_log(ident):
        return re.findall(rf"{ident}: to=<(member\d+)@many\.example>.*status=sent", h.log())

    def told(ident):
        wait_for(lambda: len(of_log(ident)) + dropped() >= n, 120, 0.5)
        assert wait_for(lambda: is_idle(h), 60)
        return of_log(ident)

    def dropped():
        """A sender of log lines is never kept waiting; what that cost is told."""
        return sum(map(int, re.findall(r"dropped (\d+) events", h.log())))

    with h:
        names = told(letter(h, [at("many")]))
        assert len(set(names)) == len(names)
        assert len(names) == n or len(names) + dropped() >= n
        ident = letter(h, [at("many")])
        for name in ("local", "qmgr"):
            time.sleep(0.7)
            with contextlib.suppress(ProcessLookupError):
                os.kill(wait_for(lambda: h.processes().get(name), 20)[0], signal.SIGKILL)
        # A killed process takes the lines along that it still had to say, and its
        # count of dropped ones: what can be seen is that the letter is settled.
        assert wait_for(lambda: is_idle(h), 120)
        assert of_log(ident)
        assert not re.search(r"status=(bounced|deferred)", h.log())
        assert not maildir(h.box("ana"))
        # Larger than anybody's list is: told, not tried for ever.
        h.write("many", "".join(f"m{i}@many.example\n" for i in range(200001)))
        letter(h, [at("many")])
        h.wait_log(r"to=<many@mx\.example\.com>.*status=(bounced|deferred) .*(too many|too long)", 60)


@needs_root
def test_forward_path(where):
    h = system(where, {"forward_path": "/etc/forwards/$user, $home/.fw${recipient_delimiter}"
                                       "${extension}, $home/.fw"})
    put(h, "tomo", ".forward", "ana\n")
    put(h, "tomo", ".fw", "ana, \\tomo\n")
    with h:
        letter(h, ["tomo+x@example.com"])
        wait_mail(home(h, "ana"))
        wait_mail(home(h, "tomo"))


@needs_root
def test_forward_path_is_filtered(where):
    # covers: forward_expansion_filter
    h = system(where, {"forward_path": "$home/.fw${recipient_delimiter}${extension}",
                       "forward_expansion_filter": "abcdefghijklmnopqrstuvwxyz0123456789_-./+"})
    put(h, "tomo", ".fw+a_b", "ana\n")
    with h:
        letter(h, ["tomo+a=b@example.com"])
        wait_mail(home(h, "ana"))


@needs_root
def test_local_recipients(where):
    h = system(where, {"local_recipient_maps": "unix:passwd.byname $alias_maps"},
               aliases="known: tomo\n")
    with h, Talk(h) as t:
        t("MAIL FROM:<>")
        assert t("RCPT TO:<tomo@example.com>").startswith("250")
        assert t("RCPT TO:<tomo+x@example.com>").startswith("250")
        assert t("RCPT TO:<known@example.com>").startswith("250")
        assert t("RCPT TO:<unknown@example.com>") == (
            "550 5.1.1 <unknown@example.com>: Recipient address rejected: "
            "User unknown in local recipient table")


# ---- bounces

def test_bounce_is_a_proper_dsn(where):
    with aliased(where) as h:
        letter(h, [at("nowhere"), at("tell")], sender="ana@example.com",
               text="Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@x.example>\r\n"
                    "\r\nbody\r\n")
        raw = h.mails("ana")[0]
        m = parse(raw)
        assert m["Return-Path"] == "<>"
        assert m["From"].addresses[0].addr_spec == at("MAILER-DAEMON")
        assert m["To"].addresses[0].addr_spec == "ana@example.com"
        assert m["Auto-Submitted"] == "auto-replied"
        assert m["Subject"] == "Undelivered Mail Returned to Sender"
        assert m.get_content_type() == "multipart/report"
        assert m["Content-Type"].params["report-type"] == "delivery-status"
        text, status, original = m.iter_parts()
        assert "<nobody-there@mx.example.com> (expanded from <nowhere@mx.example.com>)" in \
            text.get_content().replace("\n    ", " ")
        assert "no good" in text.get_content()
        head, *rcpts = status.get_payload()
        assert head["Reporting-MTA"] == "dns; mx.example.com"
        assert {r["Status"] for r in rcpts} == {"5.1.1", "5.6.0"}
        assert {r["Original-Recipient"] for r in rcpts} == {
            f"rfc822; {at('nowhere')}", f"rfc822; {at('tell')}"}
        assert original.get_content_type() == "message/rfc822"
        assert original.get_content()["Message-ID"] == "<1@x.example>"
        assert original.get_content().get_content() == "body\n"
        assert wait_for(lambda: is_idle(h))


def test_no_bounce_where_none_is_wanted(where):
    with aliased(where) as h, Talk(h, source=FRIEND) as t:
        t.hello()
        t("MAIL FROM:<ana@example.com>")
        t(f"RCPT TO:<{at('tell')}> NOTIFY=NEVER")
        assert t.data(b"Subject: x\r\n\r\nb\r\n").startswith("250")
        h.wait_log("status=bounced")
        assert wait_for(lambda: is_idle(h))
        letter(h, [at("tell")], sender="")  # a bounce that bounces
        assert wait_for(lambda: h.log().count("status=bounced") >= 2 and is_idle(h))
        assert h.empty("ana")


def test_retries_follow_the_clock(where):
    h = aliased(where, minimal_backoff_time="300s", maximal_backoff_time="4000s",
                maximal_queue_lifetime="1d", delay_warning_time="4h")
    clock = TestClock(h)
    h.start(env=clock.env)
    try:
        qid = letter(h, [at("later")], sender="ana@example.com")
        deferred = lambda: h.log().count(f"{qid}: to=<later@")  # noqa: E731
        assert wait_for(lambda: deferred() == 1)
        clock.move(200)
        assert not wait_for(lambda: deferred() > 1, 0.3)
        clock.move(500)
        assert wait_for(lambda: deferred() == 2)
        assert clock.until(lambda: len(maildir(h.box("ana"))) == 1, 1800)
        assert parse(h.mails("ana")[0])["Subject"].startswith("Delayed Mail")
        assert clock.until(lambda: len(maildir(h.box("ana"))) == 2, 7200)
        h.wait_log(rf"{qid}: from=<ana@example\.com>, status=expired, returned to sender")
        assert wait_for(lambda: is_idle(h))
    finally:
        h.stop()


# ---- commands

@pytest.fixture(name="cm", scope="module")
def fixture_cm():
    path = directory()
    with aliased(path) as h:
        yield h
    shutil.rmtree(path, ignore_errors=True)


def test_sendmail(cm):
    got = grown(cm, "tomo")
    cm.tool("sendmail", "-f", "from@example.org", "-F", "Full Name", "tomo@example.com",
            stdin="Subject: by hand\n\nline\n.\nlost\n")
    (m,) = got()
    assert m.startswith(b"Return-Path: <from@example.org>\n")
    m = parse(m)
    assert m["Subject"] == "by hand" and m.get_content() == "line\n"
    assert m["From"] == "Full Name <from@example.org>"
    assert m["Message-Id"] and m["Date"]
    assert re.search(r"by mx\.example\.com \(Hato.*\)\s+id \w+;", m["Received"])
    cm.wait_log(rf"pickup\[\d+\]: \w+: uid={cm.uid} from=<from@example\.org>")


def test_sendmail_reads_recipients(cm):
    tomo, ana = grown(cm, "tomo"), grown(cm, "ana")
    cm.tool("sendmail", "-t", "-i", stdin="To: Tomo <tomo@example.com>,\n"
            "Bcc: (comment) ana@example.com\nFrom: x@example.org\n\n.\n..\nend")
    (m,) = tomo()
    ana()
    assert b"Bcc" not in m and m.endswith(b"\n\n.\n..\nend\n")
    assert cm.tool("sendmail", "-t", stdin="Subject: x\n\n", check=False).returncode == 64
    # Recipients of both kinds, and lines as other systems end them.
    tomo, ana = grown(cm, "tomo"), grown(cm, "ana")
    cm.tool("sendmail", "-ti", "ana@example.com", stdin="To: tomo@example.com\r\n\r\nx\r\n")
    (m,) = ana()
    assert m.endswith(b"\nTo: tomo@example.com\n\nx\n")
    tomo()


def test_sendmail_refuses_what_would_be_a_command(cm):
    # A quoted string that is folded holds a line end.
    p = cm.tool("sendmail", "-t", stdin='To: "x\n RSET"@example.com\n\nx\n', check=False)
    assert p.returncode == 65 and "control character" in p.stderr
    p = cm.tool("sendmail", "a\x01b@example.com", stdin="x\n", check=False)
    assert p.returncode == 65 and "control character" in p.stderr


def test_output_that_cannot_be_written(cm):
    assert cm.tool("postqueue", "-p").returncode == 0
    p = cm.tool("/bin/sh", "-c", f"{BUILD}/bin/postqueue -p >/dev/full", check=False)
    assert p.returncode == 74 and "No space left" in p.stderr


def test_sendmail_bs(cm):
    got = grown(cm, "tomo")
    p = cm.tool("sendmail", "-bs", stdin="EHLO me\r\nMAIL FROM:<a@b.example>\r\n"
                "RCPT TO:<tomo@example.com>\r\nDATA\r\nSubject: bs\r\n\r\nx\r\n.\r\nQUIT\r\n")
    assert [x[:3] for x in p.stdout.splitlines() if x[3:4] != "-"] == [
        "220", "250", "250", "250", "354", "250", "221"]
    got()


def test_sendmail_when_the_server_is_down(where):
    h = aliased(where)
    p = h.tool("sendmail", "tomo@example.com", stdin="x\n", check=False)
    assert p.returncode == 75 and "down" in p.stderr


def test_sendmail_sizes(cm):
    p = cm.tool("sendmail", "tomo@example.com", stdin="a: b\n\n" + ("x" * 70 + "\n") * 200000,
                check=False)
    assert p.returncode != 0 and "5.3.4" in p.stderr


def test_an_mbox_line_is_dropped(cm):
    got = grown(cm, "tomo")
    cm.tool("sendmail", "-i", "tomo@example.com", stdin="From x  Thu Jan  1\nSubject: y\n\nb\n")
    (m,) = got()
    assert b"Mailbox-Line" not in m and b"\nFrom x" not in m and b"\nSubject: y\n" in m


def test_queue_commands(cm):
    a = letter(cm, ["x@far.example"])
    b = letter(cm, ["y@far.example", "z@far.example"], sender="ana@example.com")
    cm.wait_log(rf"{b}: to=<z@far\.example>.*deferred")
    cm.wait_log(rf"{a}: to=<x@far\.example>.*deferred")
    shown = cm.tool("mailq").stdout
    assert re.search(r"^----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n",
                     shown)
    assert re.search(rf"^{a}\s+\d+ \w{{3}} \w{{3}} [ \d]\d \d\d:\d\d:\d\d s@example\.net\n"
                     r"\s*\(.*Connection refused.*\)\n\s+x@far\.example\n", shown, re.M)
    assert re.search(r"^-- \d+ Kbytes in 2 Requests\.", shown, re.M)
    assert cm.tool("sendmail", "-bp").stdout == shown
    cat = cm.tool("postcat", "-q", a).stdout
    assert "Subject: x" in cat and "x@far.example" in cat and "s@example.net" in cat
    cm.tool("postsuper", "-h", a)
    assert f"{a}!" in cm.tool("postqueue", "-p").stdout
    cm.tool("postsuper", "-H", a)
    assert wait_for(lambda: f"{a}!" not in cm.tool("postqueue", "-p").stdout)
    before = cm.log().count(f"{b}: to=<y@far")
    cm.tool("postqueue", "-f")
    assert wait_for(lambda: cm.log().count(f"{b}: to=<y@far") > before)
    before = cm.log().count(f"{b}: to=<y@far")
    cm.tool("postqueue", "-i", b)
    assert wait_for(lambda: cm.log().count(f"{b}: to=<y@far") > before)
    cm.tool("postsuper", "-r", b)
    assert wait_for(lambda: cm.log().count(f"{b}: to=<y@far") > before + 1)
    cm.tool("postsuper", "-d", "-", stdin=f"{a}\n")
    assert a not in cm.tool("mailq").stdout
    cm.tool("postsuper", "-d", "ALL")
    assert wait_for(lambda: is_idle(cm))
    assert cm.tool("postsuper", "-d", a, check=False).returncode in (0, 1)


def test_postmap_and_postconf(cm):
    cm.write("m", "key value one\nb@c.example x\n  continued\n")
    assert cm.tool("postmap", "-q", "key", f"texthash:{cm.path('m')}").stdout == "value one\n"
    assert cm.tool("postmap", "-q", "none", f"texthash:{cm.path('m')}",
                   check=False).returncode == 1
    cm.tool("postmap", f"hash:{cm.path('m')}")
    assert cm.tool("postmap", "-q", "b@c.example", f"hash:{cm.path('m')}").stdout == \
        "x  continued\n"
    assert cm.tool("postmap", "-q", "-", f"texthash:{cm.path('m')}",
                   stdin="key\nb@c.example\n").stdout == "key\tvalue one\nb@c.example\tx  continued\n"
    cm.tool("newaliases")
    cm.tool("sendmail", "-bi")
    assert cm.tool("postalias", "-q", "ana", f"hash:{cm.path('aliases')}").stdout == \
        "ana@example.com\n"
    assert "myhostname = mx.example.com\n" in cm.tool("postconf", "-n").stdout
    assert "smtpd_banner" not in cm.tool("postconf", "-n").stdout
    assert cm.tool("postconf", "-h", "myhostname").stdout == "mx.example.com\n"
    assert "smtpd_recipient_limit = 1000\n" in cm.tool("postconf", "-d").stdout
    cm.tool("postconf", "-e", "smtpd_recipient_limit = 77")
    assert cm.tool("postconf", "smtpd_recipient_limit").stdout == "smtpd_recipient_limit = 77\n"
    assert cm.tool("postconf", "no_such_parameter", check=False).stderr


def test_postconf_shows_the_texts_of_reports(cm):
    """What postconf -t prints is a file that can be edited; Postfix's lines and order."""
    shown = cm.tool("postconf", "-t").stdout
    assert re.findall(r"^(\w+) = <<EOF$", shown, re.M) == [
        "failure_template", "delay_template", "success_template", "verify_template"]
    assert shown.count("\nEOF\n") == 4
    assert "\nPostmaster-Subject: Postmaster Copy: Undelivered Mail\n\n" in shown
    assert "at host $myhostname." in shown
    cm.write("all.cf", shown)
    assert cm.tool("postconf", "-t", cm.path("all.cf")).stdout == shown
    expanded = cm.tool("postconf", "-b").stdout
    assert re.findall(r"^(\w+) = <<EOF$", expanded, re.M) == [
        f"expanded_{x}_text" for x in ("failure", "delay", "success", "verify")]
    assert expanded.startswith("expanded_failure_text = <<EOF\n"
                               "This is the mail system at host mx.example.com.\n")
    assert "$" not in expanded and "5 day(s) old" in expanded
    cm.write("one.cf", "delay_template = <<X\nSubject: wait\n\n$delay_warning_time_hours h\nX\n")
    assert "_delay_text = <<EOF\n0 h\nEOF\n\nexp" in \
        cm.tool("postconf", "-b", cm.path("one.cf")).stdout
    cm.tool("postconf", "-e", f"bounce_template_file = {cm.path('one.cf')}")
    assert "\nSubject: wait\n" in cm.tool("postconf", "-t").stdout
    assert cm.tool("postconf", "-t", "").stdout == shown
    cm.write("bad.cf", "delay_template = none\n")
    bad = cm.tool("postconf", "-t", cm.path("bad.cf"), check=False)
    assert bad.returncode == 1 and "<<EOF is missing" in bad.stderr


@needs_root
# covers: authorized_mailq_users authorized_flush_users authorized_submit_users
@pytest.mark.skipif(not IS_ROOT, reason="needs a second user")
def test_the_queue_for_ordinary_users(where):
    """They look, flush and submit as the three lists say; nothing else."""
    stranger = 64001  # has no name
    h = aliased(where)
    with h:
        ident = letter(h, ["x@far.example"])
        h.wait_log(rf"{ident}: to=<x@far\.example>.*deferred")
        shown = h.tool("mailq").stdout
        assert ident in shown
        assert h.tool("mailq", user=stranger).stdout == shown
        assert ident in h.tool("postqueue", "-j", user=stranger).stdout
        for how in (["-f"], ["-i", ident], ["-s", "far.example"]):
            before = h.log().count(f"{ident}: to=<x@far")
            h.tool("postqueue", *how, user=stranger)
            assert wait_for(lambda: h.log().count(f"{ident}: to=<x@far") > before), how
        for name, *args in (["postsuper", "-d", ident], ["postsuper", "-h", "ALL"],
                            ["postcat", "-q", ident]):
            assert h.tool(name, *args, user=stranger, check=False).returncode != 0
        assert f"{ident} " in h.tool("mailq").stdout
        h.tool("sendmail", "tomo@example.com", stdin="a: b\n\n", user=stranger)
        h.main.update(authorized_mailq_users="!unknown, static:anyone",
                      authorized_flush_users="root, nobody",
                      authorized_submit_users="!unknown, static:anyone")
        h.write_conf()
        h.command("reload", check=True)
        p = h.tool("mailq", user=stranger, check=False)
        assert p.returncode == 77 and "User unknown(64001) is not allowed to view the mail queue" \
            in p.stderr
        p = h.tool("postqueue", "-f", user=stranger, check=False)
        assert p.returncode == 77 and "is not allowed to flush the mail queue" in p.stderr
        p = h.tool("sendmail", "tomo@example.com", stdin="a: b\n\n", user=stranger, check=False)
        assert p.returncode == 77 and "User unknown(64001) is not allowed to submit mail" in p.stderr
        h.wait_log(r"pickup\[\d+\]: warning: User unknown\(64001\) is not allowed")
        # Another ordinary user may look; the owner may do all; so may root.
        assert h.tool("mailq", user=1).stdout.startswith("----Queue ID")
        assert h.tool("postqueue", "-f", user=1, check=False).returncode == 77
        h.tool("postqueue", "-f")
        assert ident in h.tool("mailq", user=0).stdout
    p = h.tool("mailq", user=stranger, check=False)
    assert p.returncode == 69 and "mail system is down" in p.stderr


def test_postlog(cm):
    cm.tool("postlog", "hello", "there")
    cm.wait_log(r"postlog\[\d+\]: hello there\n")
    cm.tool("postlog", "-p", "warn", "-t", "backup", stdin="one\ntwo\n")
    cm.wait_log(r"backup\[\d+\]: warning: one\n.*backup\[\d+\]: warning: two\n")
    assert cm.tool("postlog", "-p", "loud", "x", check=False).returncode == 64


@needs_root
def test_sendmail_as_an_ordinary_user(where):
    """Nobody needs rights to send; who it was is known by the socket."""
    h = system(where)
    with h:
        h.tool("sendmail", "-t", user=2001, stdin="To: tomo@example.com\n\nhello\n")
        (m,) = wait_mail(home(h, "tomo"))
        assert m.startswith(b"Return-Path: <ana@mx.example.com>\n")
        assert b"from userid 2001" in m
        h.wait_log(r"pickup\[\d+\]: \w+: uid=2001 from=<ana")
        p = h.tool("postsuper", "-d", "ALL", user=2001, check=False)
        assert p.returncode != 0


def test_soft_bounce_is_logged(where):
    """soft_bounce: mail that would be returned waits, and the log says so."""
    with Hato(where, main={"soft_bounce": "yes"}) as h:
        h.tool("sendmail", "-f", "me@example.com", "nobody-there@example.com",
               stdin="Subject: x\n\nx\n")
        h.wait_log(r"local\[\d+\]: \w+: to=<nobody-there@example\.com>, .*dsn=4\.1\.1, "
                   r"status=SOFTBOUNCE \(unknown user")
        assert "nobody-there@example.com" in h.tool("postqueue", "-p").stdout
