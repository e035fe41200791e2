"""Disks that are full or fail: proper answers, the cause in the log, nothing lost."""
# covers: queue_minfree
import os
import subprocess
import sys

import pytest

import hatotest
from hatotest import IS_ROOT, wait_for
from mx import Mx
from smtptalk import FRIEND, Talk, maildir

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "crash"))
from crashtest import crash_build, once_is_enough  # noqa: E402

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
BODY = b"x" * 998 + b"\r\n"


class SmallDisk:
    """A tmpfs of `mib` MiB on `where`, in a mount namespace of its own."""

    def __init__(self, where, mib, uid):
        self.where = where
        self.holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={mib}m,uid={uid},gid={uid},'
             'mode=755 none "$0" && echo ready && exec sleep 1000', where],
            stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"ready\n"
        self.inside = ["nsenter", "-t", str(self.holder.pid), "-m", "--"]

    def path(self, name):
        """As seen from out here."""
        return f"/proc/{self.holder.pid}/root{self.where}/{name}"

    def fill(self, leave):
        st = os.statvfs(self.path(""))
        with open(self.path("ballast"), "wb") as f:
            os.posix_fallocate(f.fileno(), 0, max(st.f_bfree * st.f_frsize - leave, 4096))

    def relieve(self):
        os.unlink(self.path("ballast"))

    def close(self):
        self.holder.kill()
        self.holder.wait()


def one(t, i, n):
    """A letter of n KB; the answer to its end, or what came before instead."""
    for command in ("MAIL FROM:<>", "RCPT TO:<tomo@example.com>", "DATA"):
        answer = t(command)
        if answer[0] not in "23":
            t("RSET")
            return answer
    t.send(b"Subject: %d\r\n\r\n" % i + BODY * n + b".\r\n")
    return t.reply()


def subjects(h, box=None):
    return sorted(int(m.split(b"\nSubject: ")[1].split(b"\n")[0])
                  for m in maildir(box or h.box("tomo")))


@needs_root
def test_full_queue_disk(where):
    h = Mx(where, main={"mynetworks": "127.0.0.0/8", "message_size_limit": "2000000",
                        "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "1000"})
    os.makedirs(h.path("q"))
    disk = SmallDisk(h.path("q"), 400, h.uid)
    h.inside = disk.inside
    try:
        with h:
            with Talk(h, source=FRIEND, timeout=60) as t:
                t.hello()
                taken = []
                answer = one(t, 0, 1000)
                while answer.startswith("250"):
                    taken.append(len(taken))
                    if len(taken) == 3:
                        disk.fill(0)
                    assert len(taken) < 400
                    answer = one(t, len(taken), 1000)
                assert answer.startswith("452 4.3.1") and len(taken) >= 3, answer
                h.wait_log("warning: .*(No space left on device|too little free space)")
                disk.relieve()
                assert wait_for(lambda: one(t, 1000, 1).startswith("250"))
                taken.append(1000)
            assert wait_for(lambda: subjects(h) == taken, 30), (subjects(h), taken)
            h.stop()
            h.start()
            assert wait_for(lambda: "Mail queue is empty" in h.tool("postqueue", "-p").stdout)
            assert subjects(h) == taken
    finally:
        disk.close()


@needs_root
def test_queue_minfree(where):
    h = Mx(where, main={"message_size_limit": "1000000", "queue_minfree": "200000000"})
    os.makedirs(h.path("q"))
    disk = SmallDisk(h.path("q"), 64, h.uid)
    h.inside = disk.inside
    try:
        with h, Talk(h) as t:
            t.hello()
            answer = one(t, 1, 1)
            assert answer.startswith("452 4.3.1"), answer
    finally:
        disk.close()


@needs_root
def test_full_mail_disk(where):
    h = Mx(where, main={"mynetworks": "127.0.0.0/8", "minimal_backoff_time": "1s",
                        "maximal_backoff_time": "2s", "queue_run_delay": "1s"})
    disk = SmallDisk(h.path("mail"), 8, h.uid)
    h.inside = disk.inside
    box = disk.path("example.com/tomo")
    try:
        with h:
            with Talk(h, source=FRIEND, timeout=60) as t:
                t.hello()
                assert one(t, 0, 10).startswith("250")
                assert wait_for(lambda: subjects(h, box) == [0])
                disk.fill(100000)
                for i in range(1, 5):
                    assert one(t, i, 300).startswith("250")
            h.wait_log(r"to=<tomo@example\.com>, .*dsn=4\.[23]\.\d, status=deferred "
                       r"\(.*(No space left|space|full)")
            disk.relieve()
            assert wait_for(lambda: subjects(h, box) == [0, 1, 2, 3, 4], 20), h.log()
            assert wait_for(lambda: "Mail queue is empty" in h.tool("postqueue", "-p").stdout)
            assert not os.listdir(f"{box}/tmp")
    finally:
        disk.close()


@pytest.fixture(name="faulty", scope="module")
def fixture_faulty():
    """Tests run the build that can make calls fail."""
    before = hatotest.EXE
    hatotest.EXE = os.path.join(crash_build(), "src", "daemon", "hato")
    yield
    hatotest.EXE = before


@once_is_enough
@pytest.mark.parametrize("fault", ["fdatasync:2+:EIO", "fdatasync:2:EIO", "pwritev:3:EIO",
                                   "syncfs:1:EIO", "linkat:1:EIO", "renameat:3:ENOSPC"])
def test_a_call_that_fails(where, faulty, fault):
    """Whatever fails, 250 is kept and nobody gets a letter twice."""
    h = Mx(where, main={"mynetworks": "127.0.0.0/8", "minimal_backoff_time": "1s",
                        "maximal_backoff_time": "2s", "queue_run_delay": "1s",
                        "smtpd_error_sleep_time": "0"})
    taken = []
    h.command("start", env={"HATO_FAULT": fault})
    h.started = True
    try:
        for i in range(12):
            try:
                with Talk(h, source=FRIEND, timeout=5) as t:
                    t.hello()
                    answer = one(t, i, 4)
            except (OSError, AssertionError):
                continue
            assert answer[:3] in ("250", "451", "452", "421"), answer
            if answer.startswith("250"):
                taken.append(i)
        if "+" in fault:
            assert len(taken) < 12
            h.wait_log("(warning|error|panic).*(sync|Input/output error)")
    finally:
        h.command("abort")
    h.start()
    try:
        assert wait_for(lambda: subjects(h) == taken, 15), (subjects(h), taken, h.log())
        assert wait_for(lambda: "Mail queue is empty" in h.command("postqueue", "-p").stdout)
    finally:
        h.stop()
    assert subjects(h) == taken
