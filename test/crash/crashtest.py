"""What the crash tests share: users, a look into Maildirs, the processes."""
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import hatotest  # noqa: E402
from hatotest import Hato, IS_ROOT, NOBODY, is_alive, wait_for  # noqa: E402

__all__ = ["Hato", "IS_ROOT", "NOBODY", "is_alive", "wait_for", "ALL", "main_cf",
           "virtual_users", "write_virtual", "processes", "kill", "settle", "letters",
           "check_letters", "kill_everything", "new_place", "crash_build", "fixture_traced",
           "boxes", "once_is_enough"]

ALL = os.environ.get("HATO_CRASH") == "all"
TOKEN = re.compile(rb"^X-Token: (\w+)\r?$", re.M)
QUICK = {  # what was deferred comes back soon
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
    "queue_run_delay": "1s",
}


def new_place():
    """A directory that ordinary users reach, for one test; yields its path."""
    path = tempfile.mkdtemp(prefix="hato-crash-")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def virtual_users(n):
    return [f"user{i}@virtual.test" for i in range(n)]


def main_cf(where, **more):
    return {
        "virtual_mailbox_domains": "virtual.test",
        "userdb": f"passwd-file:{where}/users",
        "mail_location": f"maildir:{where}/mail/%d/%n",
        "first_valid_uid": "100",
        # the postmaster is nobody here, and what he is told would stay for ever
        "notify_classes": "",
        **QUICK,
        **more,
    }


def write_virtual(h, users, uids=None):
    """The file of virtual users; uids are dealt out in turn."""
    uids = uids or [h.uid]
    os.makedirs(h.path("mail"), exist_ok=True)
    h.write("users", "".join(
        f"{u}::{uids[i % len(uids)]}:{uids[i % len(uids)]}::{h.path('home')}/{i}::\n"
        for i, u in enumerate(users)))
    h.own()


# Tests with a build of their own do not repeat themselves for other builds; as
# an ordinary user they run Hato anyway.
once_is_enough = pytest.mark.skipif(
    "HATO_ASAN" in os.environ or "HATO_TESTS_AS_USER" in os.environ,
    reason="runs with the build that traces, in another step")


# ---- the build that traces and makes faults

def crash_build():
    """The directory of the -Dfstrace=true build, brought up to date by one run of
    tests at a time."""
    given = os.environ.get("HATO_CRASH_BUILD")
    if given:
        return given
    # Whoever has no business in our build directory gets none.
    top = hatotest.TOP
    build = os.path.join(top, "build", "crash")
    os.makedirs(os.path.dirname(build), exist_ok=True)
    with open(build + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ([os.path.join(top, "tools", "build"), build, build + "-out",
                         "-Dfstrace=true", "-Dtests=false"],
                        ["ninja", "-C", build, "src/store/crash_mailbox"]):
            p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, check=False)
            assert p.returncode == 0, p.stdout
    return build


@pytest.fixture(name="traced", scope="module")
def fixture_traced():
    """Makes Hato() of this module run the build that traces; its directory."""
    build, before = crash_build(), hatotest.EXE
    hatotest.EXE = os.path.join(build, "src", "daemon", "hato")
    yield build
    hatotest.EXE = before


# ---- processes

def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
            return [int(p) for p in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def title(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
            return f.read().split("\0")[0].strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def master_pid(h):
    try:
        with open(h.path("q/pid/master.pid"), encoding="utf-8") as f:
            return int(f.read())
    except (FileNotFoundError, ValueError):
        return 0


def processes(h):
    """[(type, pid)] of everything that runs, workers too."""
    out = []
    master = master_pid(h)
    todo = [(master, "")] if master and is_alive(master) else []
    while todo:
        pid, parent = todo.pop()
        name = re.sub(r"^hato: ?", "", title(pid)).split(" ")[0]
        name = "master" if pid == master else name
        if parent == "template":
            name = "command" if name == "command" else "mailbox"
        if name:
            out.append((name, pid))
        todo += [(p, name) for p in children(pid)]
    return out


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_everything(h):
    """A machine that stops, but for its page cache."""
    all_of_it = processes(h)
    for _, pid in all_of_it:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            pass
    for _, pid in all_of_it:
        kill(pid)
    assert wait_for(lambda: not any(is_alive(p) for _, p in all_of_it), 20)


def settle(h, seconds=90):
    """Until nothing is left in the queue."""
    end = time.monotonic() + seconds
    last = ""
    while time.monotonic() < end:
        p = h.command("flush")
        # The exit status alone says nothing: the list may be cut short.
        q = h.command("postqueue", "-p")
        last = q.stdout + q.stderr + p.stderr
        if q.returncode == 0 and "Mail queue is empty" in q.stdout:
            return
        time.sleep(0.2)
    raise AssertionError(f"the queue does not empty:\n{last[-3000:]}\n{h.log()[-6000:]}")


# ---- letters

def boxes(where):
    """[(directory of a Maildir, user)] of a private Hato's directory."""
    out = []
    for base, dirs, _ in os.walk(where):
        if "new" in dirs and "cur" in dirs:
            parts = os.path.relpath(base, where).split(os.sep)
            if parts[0] == "home":
                out.append((base, f"{parts[1]}@example.com"))
            else:
                out.append((base, f"{parts[-1]}@{parts[-2]}"))
    return out


def letters(where):
    """{user: {token: how often}} of all Maildirs below `where`."""
    out = {}
    for box, user in boxes(where):
        mine = out.setdefault(user, {})
        for name in os.listdir(f"{box}/new") + os.listdir(f"{box}/cur"):
            part = "new" if os.path.exists(f"{box}/new/{name}") else "cur"
            with open(f"{box}/{part}/{name}", "rb") as f:
                data = f.read()
            m = TOKEN.search(data[:4096])
            token = m[1].decode() if m else f"no token in {box}/{part}/{name}"
            if m and not data.endswith(b"to fill a line\n"):
                token = f"{token} cut short"
            mine[token] = mine.get(token, 0) + 1
    return out


def check_letters(found, messages, expand=lambda r: [r]):
    """What was answered is there once; what was not, at most once."""
    wrong = []
    known = set()
    for m in messages:
        for rcpt in {x for r in m.rcpts for x in expand(r)}:
            n = found.get(rcpt, {}).get(m.token, 0)
            known.add((rcpt, m.token))
            if n > 1 or (n == 0 and m.state == "yes"):
                wrong.append(f"{m.token} for {rcpt}: {n} times, answer {m.state}")
    for rcpt, tokens in found.items():
        wrong += [f"{rcpt} has {t}, which nobody sent to him" for t in tokens
                  if (rcpt, t) not in known]
    return wrong
