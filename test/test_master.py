"""master, the log, the broker's workers, and what each process gave up."""
# covers: queue_directory data_directory mail_owner maillog_file syslog_name
# covers: hato_log_format inet_interfaces inet_protocols first_valid_uid
# covers: last_valid_uid first_valid_gid last_valid_gid
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from hatotest import EXE, Hato, IS_ROOT, MASTER_CF, USERS, free_port, is_alive, status_of, wait_for

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
SINGLES = ["log", "tables", "template", "broker", "local", "qmgr"]


def test_start_status_stop(where):
    with Hato(where) as h:
        p = h.all_ready()
        assert set(SINGLES) <= set(p)
        assert len(p) - len(SINGLES) == (os.cpu_count() + 1) // 2
        with h.connect():
            pass
        pids = [pid for pid, _ in p.values()]
        h.stop()
        assert wait_for(lambda: not any(is_alive(pid) for pid in pids), 2)
        assert h.command("status").returncode == 1
        assert "not running" in h.command("status").stderr
        assert re.search(r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ postfix/master\[\d+\]: "
                         r"daemon started -- version", h.log(), re.M)
        assert "warning" not in h.log()
        h.start()


def test_second_start_says_so(where):
    with Hato(where) as h:
        pid = open(h.path("q/pid/master.pid"), encoding="utf-8").read().strip()
        p = h.command("start")
        assert p.returncode == 1
        assert f"already running: master pid {pid}" in p.stderr


def test_broken_configuration_is_refused(where):
    h = Hato(where, main={"smtpd_banner_typo": "x", "smtpd_helo_required": "perhaps"})
    p = h.command("start")
    assert p.returncode == 1
    assert "main.cf:" in p.stderr and "smtpd_helo_required" in p.stderr
    assert h.command("status").returncode == 1


def test_reload_keeps_what_runs_when_broken(where):
    with Hato(where) as h:
        before = h.all_ready()
        good = dict(h.main)
        h.main["smtpd_helo_required"] = "perhaps"
        h.write_conf()
        p = h.command("reload")
        assert p.returncode == 1
        assert "smtpd_helo_required" in p.stdout
        assert h.all_ready() == before
        h.main = {**good, "alias_maps": f"hash:{h.path('missing')}"}
        h.write_conf()
        p = h.command("reload")
        assert p.returncode == 1 and "missing" in p.stdout
        assert h.all_ready() == before
        h.main = good
        h.write_conf()
        h.command("reload", check=True)
        after = h.all_ready()
        assert after["qmgr"] == before["qmgr"]
        assert after["smtpd/0"] != before["smtpd/0"]
        assert wait_for(lambda: not is_alive(before["smtpd/0"][0]))


def test_a_missing_table_is_refused(where):
    h = Hato(where, main={"alias_maps": "hash:/nonexistent/aliases"})
    p = h.command("start")
    assert p.returncode == 1
    assert "hash:/nonexistent/aliases" in p.stderr


def test_a_port_in_use_is_told(where):
    h = Hato(where)
    with socket.socket() as s:
        s.bind(("127.0.0.1", h.port))
        s.listen()
        p = h.command("start")
    assert p.returncode == 1
    assert f"127.0.0.1:{h.port}" in p.stderr and "in use" in p.stderr


def test_the_dead_come_back(where):
    with Hato(where) as h:
        for name in SINGLES + ["smtpd/0"]:
            old = h.all_ready()[name][0]
            os.kill(old, signal.SIGKILL)
            new = wait_for(lambda n=name, o=old: (
                (p := h.all_ready()) and n in p and p[n][0] != o and p[n][0]))
            assert new, f"{name} did not come back"
        h.wait_log(r"warning: process hato: qmgr pid \d+ killed by signal 9")


def test_nobody_outlives_master(where):
    with Hato(where) as h:
        pids = [pid for pid, _ in h.all_ready().values()]
        pid = int(open(h.path("q/pid/master.pid"), encoding="utf-8").read())
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not any(is_alive(p) for p in pids), 5)
        h.start()


def test_abort(where):
    with Hato(where) as h:
        pids = [pid for pid, _ in h.all_ready().values()]
        began = time.monotonic()
        h.command("abort", check=True)
        h.started = False
        assert time.monotonic() - began < 3
        assert wait_for(lambda: not any(is_alive(p) for p in pids), 2)


def test_foreground_logs_to_stdout(where):
    h = Hato(where, main={"maillog_file": "/dev/stdout"})
    assert "is for start-fg" in h.command("start").stderr
    kw = {"user": h.uid, "group": h.uid, "extra_groups": []} if IS_ROOT else {}
    with subprocess.Popen([EXE, "-c", h.path("conf"), "start-fg"], stdout=subprocess.PIPE,
                          text=True, **kw) as p:
        assert "daemon started" in p.stdout.readline()
        h.connect().close()
        p.send_signal(signal.SIGTERM)
        rest = p.stdout.read()
        assert p.wait(20) == 0
    assert "connect from unknown[127.0.0.1]" in rest
    assert "stopping the mail system" in rest


def test_log_formats_and_reopen(where):
    h = Hato(where, main={"hato_log_format": "json"})
    with h:
        h.wait_log("daemon started")
        line = json.loads(h.log().splitlines()[0])
        assert line["service"] == "master" and "daemon started" in line["text"]
        h.main["hato_log_format"] = "logfmt"
        h.write_conf()
        h.command("reload", check=True)
        os.rename(h.log_file, h.log_file + ".1")
        h.command("reopen", check=True)
        h.command("reload", check=True)
        h.wait_log(r"^time=\S+Z level=info service=master pid=\d+ event=text text=\"reload")
    h = Hato(where, main={"syslog_name": "post"})
    with h:
        h.wait_log(r" post/master\[\d+\]: daemon started")


def test_a_changed_table_is_built_anew(where):
    h = Hato(where)
    h.write("aliases", "a: b\n")
    h.main["alias_maps"] = f"hash:{h.path('aliases')}"
    h.write_conf()
    with h:
        tables = h.path("data/tables")
        (name,) = os.listdir(tables)
        inode = os.stat(f"{tables}/{name}").st_ino
        h.write("aliases", "a: c\n")
        h.wait_log("table hash:.*/aliases has changed")
        assert os.listdir(tables) == [name]
        assert os.stat(f"{tables}/{name}").st_ino != inode
        # A change by rename, with a complaint of the builder in the log.
        h.write("aliases.new", "a: d\nno colon\n")
        os.rename(h.path("aliases.new"), h.path("aliases"))
        h.wait_log(r"postfix/postmap\[\d+\]: warning: .*line 2")


class Knocker(threading.Thread):
    """Connects all the time; what is refused or reset counts."""

    def __init__(self, h):
        super().__init__()
        self.h, self.stop, self.n, self.errors = h, False, 0, []

    def run(self):
        while not self.stop:
            try:
                with self.h.connect(5):
                    self.n += 1
            except OSError as e:
                self.errors.append(e)
            time.sleep(0.005)


def test_reloads_refuse_nobody(where):
    with Hato(where) as h:
        knocker = Knocker(h)
        knocker.start()
        for _ in range(20):
            h.command("reload", check=True)
        knocker.stop = True
        knocker.join()
        assert not knocker.errors and knocker.n > 20
        assert wait_for(lambda: h.log().count("reload -- version") == 20, 5)


def test_listeners_follow_the_configuration(where):
    with Hato(where) as h:
        old = h.port
        h.port = free_port()
        h.write_conf()
        h.command("reload", check=True)
        with h.connect():
            pass

        def is_closed():
            try:
                socket.create_connection(("127.0.0.1", old), 1).close()
            except ConnectionRefusedError:
                return True
            return False
        assert wait_for(is_closed)


def test_worker_and_template_as_one_user(where):
    with Hato(where) as h:
        p = h.command("probe", "mailbox", check=True)
        assert f"uid={h.uid} " in p.stdout


def test_idle_workers_retire(where):
    h = Hato(where)
    clock = h.path("clock")
    with open(clock, "wb") as f:
        f.write(struct.pack("<q", 0))
    h.own()

    def move(ms):
        with open(clock, "r+b") as f:
            f.write(struct.pack("<q", ms))

    def workers():
        return re.findall(r"worker \S+:mailbox:0 pid (\d+) ready",
                          h.command("status", check=True).stdout)

    h.start(env={"HATO_TEST_CLOCK": clock})
    try:
        h.command("probe", "mailbox", check=True)
        (first,) = workers()
        move(50_000)
        time.sleep(0.3)
        assert workers() == [first]
        move(125_000)
        assert wait_for(lambda: not workers())
        h.command("probe", "mailbox", check=True)
        assert workers() and workers() != [first]
    finally:
        h.stop()


@needs_root
def test_missing_users_get_a_cure(where):
    h = Hato(where, mode="users")
    USERS_BEFORE = list(USERS)
    USERS.remove("hato-smtp")
    try:
        p = h.command("start")
    finally:
        USERS[:] = USERS_BEFORE
    assert p.returncode == 1
    assert "no user hato-smtp: useradd --system" in p.stderr


# What each row of doc/design.md section 1 needs; all else is refused.
NEEDS = {
    "log": set(),
    "tables": {"open", "unix"},  # name services
    "broker": set(),
    "qmgr": set(),
    "local": set(),
    "smtpd": set(),
    "auth": set(),
    "login": set(),
    "resolver": {"inet"},
    "metrics": set(),
    "mailbox": {"open", "create"},  # as its user; the uid is the limit
    # What a user's programs may need: what no program needs is refused.
    "command": {"open", "create", "inet", "unix", "fork", "exec"},
    "template": {"open", "create", "inet", "unix", "fork", "exec", "kill", "setuid"},
}
AUTH_LINE = (f"auth unix - - n - - auth\n{free_port()} inet n - n - - imapd\n"
             f"{free_port()} inet n - n - - metrics\n")
RUNS_AS = {"log": "hato-log", "tables": "hato-tables", "broker": "hato-broker",
           "qmgr": "hato", "local": "hato", "smtpd": "hato-smtp",
           "auth": "hato-auth", "login": "hato-login", "resolver": "hato-dns",
           "metrics": "hato-fetch"}
NO_DNS = {"resolver_forwarders": "127.0.0.1@1", "resolver_dnssec": "no"}


def probe(h, name):
    text = h.command("probe", name, check=True).stdout
    return text, {m[1] for m in re.finditer(r"^(\w+)=allowed", text, re.M)}


@needs_root
def test_each_process_has_its_uid_and_sandbox(where):
    with Hato(where, NO_DNS, mode="users", master=MASTER_CF + AUTH_LINE) as h:
        h.command("dns", "localhost", check=True)  # starts the resolver
        for name, (pid, _) in h.all_ready().items():
            kind = name.split("/")[0]
            s = status_of(pid)
            uids = set(s["Uid"].split())
            if kind == "template":
                assert uids == {"0"}
                assert int(s["CapEff"], 16) == 1 << 5 | 1 << 6 | 1 << 7
                # Set-uid programs of commands go on working: no_new_privs is off.
                assert (s["NoNewPrivs"], s["Seccomp"]) == ("0", "2")
                continue
            assert uids == {str(970 + USERS.index(RUNS_AS[kind]))}
            assert set(s["Gid"].split()) == uids
            assert s["Groups"].split() in ([], list(uids))
            assert int(s["CapEff"], 16) == 0
            assert (s["NoNewPrivs"], s["Seccomp"]) == ("1", "2")
            if kind == "resolver" or (not NEEDS[kind] and kind != "qmgr"):
                assert os.readlink(f"/proc/{pid}/root") == h.path("q/empty")
        for name, needs in NEEDS.items():
            text, allowed = probe(h, name)
            assert allowed == needs, f"{name}:\n{text}"
            assert text.count("=refused") == 10 - len(needs)


def test_one_user_has_sandboxes_too(where):
    with Hato(where, NO_DNS, master=MASTER_CF + AUTH_LINE) as h:
        h.command("dns", "localhost", check=True)
        for name, needs in NEEDS.items():
            if name in ("template", "command"):
                continue  # a filter without no_new_privs takes root
            text, allowed = probe(h, name)
            assert allowed == needs, f"{name}:\n{text}"


# Those that only some configurations have; authworker's is in test_auth.py, fetcher's
# in test_tls_client.py.
NEEDS_OF_OTHERS = {"keys": set(), "lmtpd": set(), "smtp": {"inet", "unix"}}


@pytest.mark.parametrize("mode", ["one", pytest.param("users", marks=needs_root)])
def test_the_others_are_held_too(where, mode):
    cert, key = str(where / "cert.pem"), str(where / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                    "/CN=mx.example.com", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    main = {"smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key,
            "smtpd_tls_security_level": "may", "relayhost": "[127.0.0.1]:1", **NO_DNS}
    with Hato(where, main, mode=mode,
              master=MASTER_CF + f"{free_port()} inet n - n - - lmtpd\n") as h:
        h.tool("sendmail", "someone@far.test", stdin="Subject: far\n\nx\n")
        h.wait_log("status=deferred")  # smtp was started for it
        for name, needs in NEEDS_OF_OTHERS.items():
            text, allowed = probe(h, name)
            assert allowed == needs, f"{name}:\n{text}"
            assert text.count("=refused") == 10 - len(needs)
            if mode == "users":
                user = "hato-keys" if name == "keys" else "hato-smtp"
                assert f"uid={970 + USERS.index(user)} " in text


@needs_root
def test_workers_have_the_uid_asked_for(where):
    main = {"first_valid_uid": "1000", "last_valid_uid": "3000",
            "first_valid_gid": "1000", "last_valid_gid": "3000"}
    with Hato(where, main=main, mode="users") as h:
        for kind in ("mailbox", "command"):
            text = h.command("probe", kind, "2000", "2001", check=True).stdout
            assert "uid=2000 gid=2001" in text
        for uid, gid in (("0", "2000"), ("2000", "0"), ("999", "2000"), ("3001", "2000"),
                         ("2000", "999"), ("2000", "3001")):
            p = h.command("probe", "mailbox", uid, gid)
            assert p.returncode == 1, (uid, gid)
        # default_privs may run commands, but has no mail.
        assert h.command("probe", "command", "65534", "65534").returncode == 0
        assert h.command("probe", "mailbox", "65534", "65534").returncode == 1
        h.wait_log("outside first_valid_uid/last_valid_uid")


@needs_root
def test_owners_and_modes(where):
    with Hato(where, mode="users") as h:
        def look(name):
            st = os.stat(h.path(name))
            return st.st_uid, oct(st.st_mode & 0o7777)
        assert look("q") == (0, "0o755")
        assert look("q/run") == (0, "0o755")
        assert look("q/run/pickup") == (0, "0o666")
        assert look("q/run/control") == (0, "0o600")
        assert look("q/spool") == (970, "0o700")
        assert look("q/empty") == (0, "0o555")
        assert look("data/tables") == (0, "0o755")
