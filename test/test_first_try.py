"""What a new user meets: `hato init`, `hato check`, and what they say to slips."""
import imaplib
import os
import poplib
import re
import signal
import smtplib
import ssl
import stat
import subprocess
import threading

import pytest
from hatotest import BUILD, EXE, IS_ROOT, NOBODY, TOP, free_port, wait_for


def hato(conf, *args):
    env = {**os.environ, "MAIL_CONFIG": str(conf)}
    return subprocess.run([EXE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False, env=env, timeout=60)


@pytest.fixture(name="conf")
def fixture_conf(tmp_path):
    conf = tmp_path / "conf"
    p = hato(conf, "init", str(conf), "--domain", "example.org", "--user", "anna")
    assert p.returncode == 0, p.stderr
    assert "anna@example.org" in p.stdout
    return conf


def test_init_is_without_findings(conf):
    p = hato(conf, "check")
    assert (p.returncode, p.stderr) == (0, "")
    assert p.stdout == f"{conf}: 0 warnings, no errors\n"


def test_init_overwrites_nothing(conf):
    before = (conf / "main.cf").read_text()
    p = hato(conf, "init", str(conf))
    assert p.returncode != 0 and "exists already" in p.stderr
    assert (conf / "main.cf").read_text() == before


SLIPS = [
    ("main.cf", "virtual_alias_mapps = static:x", "(did you mean virtual_alias_maps?)"),
    ("main.cf", "relay_domains = ${mydomain", "truncated ${"),
    ("main.cf", "message_size_limit = 10M", "(bytes, written out)"),
    ("main.cf", "smtpd_helo_required = maybe", "neither yes nor no"),
    ("main.cf", "queue_run_delay = 5 minutes", "(a number and s, m, h, d or w)"),
    ("main.cf", "virtual_alias_maps = hash:/no/such/file", "No such file or directory (make"),
    ("main.cf", "virtual_alias_maps = /etc/virtual", "(put hash: in front)"),
    ("main.cf", "smtpd_relay_restrictions = permit", "would relay for everybody"),
    ("main.cf", "mynetworks = 0.0.0.0/0", "(name your own networks)"),
    ("main.cf", "mynetworks = 10.1.2.3/8", 'you should use "10.0.0.0/8"'),
    ("main.cf", "smtpd_recipient_restrictions = reject_unauth_destinatio",
     "(did you mean reject_unauth_destination?)"),
    ("main.cf", "queue_directory = /var/spool/postfix", "belongs to Postfix (give"),
    ("main.cf", "hello world", "(write: name = value)"),
    ("master.cf", "smtp inet n - n", "(name type private unpriv chroot wakeup"),
    ("master.cf", "2526 inet n - n - - smptd", "(did you mean smtpd?)"),
    ("master.cf", "smpt inet n - n - - smtpd", "unknown port (write the number"),
]


@pytest.mark.parametrize("name,line,text", SLIPS)
def test_slip(conf, name, line, text):
    path = conf / name
    with open(path, "a", encoding="utf-8") as f:
        f.write(line + "\n")
    number = len(path.read_text().splitlines())
    p = hato(conf, "check")
    assert p.returncode == 78, p.stdout + p.stderr
    found = [l for l in p.stderr.splitlines() if l.startswith(f"{path}:{number}: error: ")]
    assert len(found) == 1 and text in found[0], p.stderr


def test_slips_in_tables_are_told(conf):
    with open(conf / "aliases", "a", encoding="utf-8") as f:
        f.write("no colon here\n")
    (conf / "checks").write_text("/unclosed(/ REJECT\n")
    with open(conf / "main.cf", "a", encoding="utf-8") as f:
        f.write(f"header_checks = regexp:{conf}/checks\n")
    p = hato(conf, "check")
    assert p.returncode == 0
    assert f"warning: {conf}/aliases, line " in p.stderr
    assert f"regexp map {conf}/checks, line 1:" in p.stderr


def test_no_configuration_names_the_cure(tmp_path):
    p = hato(tmp_path / "none", "check")
    assert p.returncode == 78 and "hato init DIR" in p.stderr


def test_version_and_usage(tmp_path):
    assert hato(tmp_path, "--version").stdout.startswith("hato 0.")
    p = hato(tmp_path, "frobnicate")
    assert p.returncode == 64 and "usage: hato [-c DIR] start" in p.stderr


def test_samples_are_without_findings(tmp_path):
    for name in ("main.cf", "master.cf"):
        with open(os.path.join(TOP, "conf", name), encoding="utf-8") as f:
            text = f.read().replace("/etc/aliases", f"{tmp_path}/aliases")
        (tmp_path / name).write_text(text)
    (tmp_path / "aliases").write_text("root: taro\n")
    p = hato(tmp_path, "check")
    assert (p.returncode, p.stderr) == (0, "")


def test_install(tmp_path):
    """The executable, its names, the man pages and the samples."""
    build = os.path.dirname(os.path.dirname(os.path.dirname(EXE)))
    subprocess.run(["meson", "install", "--no-rebuild", "-C", build], check=True,
                   stdout=subprocess.DEVNULL, env={**os.environ, "DESTDIR": str(tmp_path)})
    found = {os.path.relpath(os.path.join(base, name), tmp_path)
             for base, _, names in os.walk(tmp_path) for name in names}
    base = {os.path.basename(path) for path in found}
    programs = hato(tmp_path, "--names").stdout.split()
    assert "sendmail" in programs
    for name in programs:
        where = [p for p in found if os.path.basename(p) == name and "bin/" in p]
        assert where, name
        assert os.path.exists(tmp_path / where[0]), f"{name}: a link to nothing"
        page = name + (".8" if name == "hato" else ".1")
        assert page in base, page
    assert {"hato-params.5", "hato-master.cf.5", "main.cf", "master.cf", "hato.service"} <= base
    assert not [p for p in found if p.startswith(("etc", "var"))]


def hears_sigint():
    """Who is started in the background of a shell script ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_make_run():
    """What `make run` does when all is built, until it is interrupted."""
    env = {**os.environ, "HATO_BUILD": BUILD, "PYTHONUNBUFFERED": "1"}
    for _ in range(5):  # it needs four ports that go together
        with subprocess.Popen([os.path.join(TOP, "tools", "demo")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, preexec_fn=hears_sigint, start_new_session=True,
                              env={**env, "HATO_DEMO_PORT": str(free_port() % 50000 + 10000)}) as p:
            said = []
            patience = threading.Timer(120, os.killpg, (p.pid, signal.SIGKILL))
            patience.start()
            for line in p.stdout:
                said.append(line)
                if line.startswith("Interrupt (Ctrl-C)"):
                    p.send_signal(signal.SIGINT)
                    break
            said = "".join(said) + p.stdout.read()
            p.wait(timeout=60)
            patience.cancel()
        if "Interrupt" in said:
            break
    assert p.returncode == 0, said
    assert "A letter was sent by SMTP from you@example.test to tomo@example.test." in said
    assert "Read back over IMAP, in TLS:" in said and "Subject: The first letter" in said
    assert "And over POP3: 1 letter, unique id " in said
    assert "Stopping." in said
    directory = re.search(r"everything below (\S+)", said)[1]
    assert directory.count("hato-demo.") == 1 and not os.path.exists(directory)


def test_a_fresh_configuration_reaches_everybody(where):
    """The addresses that a domain must have, and what programs write to."""
    conf = os.path.join(where, "conf")
    kw = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if IS_ROOT else {}
    if IS_ROOT:
        os.chown(where, NOBODY, NOBODY)

    def run(*args, text=None):
        p = subprocess.run(args, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, check=False, timeout=60, cwd="/",
                           env={**os.environ, "MAIL_CONFIG": conf}, **kw)
        assert p.returncode == 0, p.stdout
        return p.stdout

    run(EXE, "init", conf, "--port", str(free_port(60, 470)))
    run(EXE, "start")
    try:
        rcpts = ["tomo", "root", "postmaster", "abuse@example.test",
                 "root@mail.example.test", "tomo+x@example.test"]
        for rcpt in rcpts:
            run(os.path.join(BUILD, "bin/sendmail"), rcpt, text="Subject: x\n\nx\n")
        new = os.path.join(conf, "mail/example.test/tomo/new")
        assert wait_for(lambda: os.path.isdir(new) and len(os.listdir(new)) == len(rcpts)), \
            run(os.path.join(BUILD, "bin/mailq"))
    finally:
        run(EXE, "stop")


def passwords(conf):
    with open(os.path.join(conf, "users"), encoding="utf-8") as f:
        return f.read()


def test_user_commands(conf):
    """hato user: from standard input, never from the command line; in one step."""
    users = conf / "users"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert stat.S_IMODE((conf / "key.pem").stat().st_mode) == 0o600

    def user(*args, text="", status=0):
        p = subprocess.run([EXE, "user", *args], input=text, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, check=False, timeout=60,
                           env={**os.environ, "MAIL_CONFIG": str(conf)})
        assert p.returncode == status, p.stdout + p.stderr
        return p.stdout + p.stderr

    first = passwords(conf)
    user("add", "bob@example.org", "--uid", "5000", "--gid", "5000", "--home", "/home/b",
         "--extra", "allow_nets=127.0.0.1", text="geheim\n")
    assert user("list") == "anna@example.org\nbob@example.org\n"
    text = passwords(conf)
    assert text.startswith(first) and "geheim" not in text
    assert text.endswith(":5000:5000::/home/b::allow_nets=127.0.0.1\n")
    assert "is there already" in user("add", "BOB@example.org", text="x\n", status=65)
    user("passwd", "bob@example.org", "--scheme", "PLAIN", text="new\n")
    assert "bob@example.org:{PLAIN}new:5000:5000::/home/b::allow_nets=" in passwords(conf)
    user("delete", "bob@example.org")
    assert passwords(conf) == first
    user("delete", "bob@example.org", status=67)
    user("passwd", "bob@example.org", text="x\n", status=67)
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    for name in ("a:b", "../x", "a b", "#x", "", "x\ny", "a" * 300):
        user("add", name, text="x\n", status=65)
    user("add", "c@example.org", text="\n", status=65)
    user("add", "c@example.org", "--home", "/a:b", text="x\n", status=65)
    user("add", "c@example.org", "--scheme", "ROT13", text="x\n", status=64)
    user("add", "c@example.org", "secret", status=64)
    assert passwords(conf) == first
    assert user("hash", "--scheme", "ARGON2ID", text="x\n").startswith("{ARGON2ID}$argon2id$")
    user("list", "--file", str(conf / "none"), status=66)


def test_a_fresh_configuration_signs_people_in(where):
    """Submission by STARTTLS and TLS, IMAP and POP3, with the first user's password."""
    conf = os.path.join(where, "conf")
    kw = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if IS_ROOT else {}
    if IS_ROOT:
        os.chown(where, NOBODY, NOBODY)

    def run(*args):
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           check=False, timeout=60, cwd="/",
                           env={**os.environ, "MAIL_CONFIG": conf}, **kw)
        assert p.returncode == 0, p.stdout
        return p.stdout

    port = free_port(60, 470)
    run(EXE, "init", conf, "--port", str(port), "--user", "anna", "--password", "geheim")
    tls = ssl.create_default_context(cafile=os.path.join(conf, "cert.pem"))
    tls.check_hostname = False
    run(EXE, "start")
    try:
        s = smtplib.SMTP("127.0.0.1", port + 62, timeout=20)
        s.ehlo()
        assert not s.has_extn("auth")
        s.starttls(context=tls)
        s.login("anna@example.test", "geheim")
        s.sendmail("anna@example.test", "anna@example.test", "Subject: one\r\n\r\nx\r\n")
        s.quit()
        s = smtplib.SMTP_SSL("127.0.0.1", port - 60, timeout=20, context=tls)
        try:
            s.sendmail("anna@example.test", "x@elsewhere.example", "Subject: no\r\n\r\nx\r\n")
            raise AssertionError("relayed without sign-in")
        except smtplib.SMTPRecipientsRefused:
            pass
        s.login("anna@example.test", "geheim")
        s.sendmail("anna@example.test", "anna@example.test", "Subject: two\r\n\r\nx\r\n")
        s.quit()
        box = os.path.join(conf, "mail/example.test/anna/new")
        assert wait_for(lambda: os.path.isdir(box) and len(os.listdir(box)) == 2)
        m = imaplib.IMAP4_SSL("127.0.0.1", port + 468, ssl_context=tls, timeout=20)
        m.login("anna@example.test", "geheim")
        assert m.select()[1] == [b"2"]
        assert m.fetch("1:2", "(BODY[HEADER.FIELDS (RECEIVED)])")[1][0][1].count(b"ESMTPSA") == 1
        m.logout()
        p = poplib.POP3_SSL("127.0.0.1", port + 470, timeout=20, context=tls)
        p.user("anna@example.test")
        p.pass_("geheim")
        assert p.stat()[0] == 2
        p.quit()
    finally:
        run(EXE, "stop")
