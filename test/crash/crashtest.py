"""What the crash tests share: users, a look into Maildirs, the processes."""
import os
import re
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from hatotest import Hato, IS_ROOT, NOBODY, is_alive, wait_for  # noqa: E402

__all__ = ["Hato", "IS_ROOT", "NOBODY", "is_alive", "wait_for", "ALL", "main_cf",
           "virtual_users", "write_virtual", "processes", "kill", "settle", "letters",
           "check_letters", "kill_everything", "new_place"]

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

def letters(where):
    """{user: {token: how often}} of the Maildirs under where/DOMAIN/USER."""
    out = {}
    for base, _, files in os.walk(where):
        if os.path.basename(base) not in ("new", "cur"):
            continue
        box = os.path.dirname(base)
        user = f"{os.path.basename(box)}@{os.path.basename(os.path.dirname(box))}"
        mine = out.setdefault(user, {})
        for name in files:
            with open(os.path.join(base, name), "rb") as f:
                m = TOKEN.search(f.read(4096))
            token = m[1].decode() if m else f"no token in {base}/{name}"
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
