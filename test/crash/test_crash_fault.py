"""The disk fails in one process: the sender gets 4xx or the message waits, the
log names the cause, and nothing that was answered is lost."""
import os
import re

import pytest

from crashtest import (ALL, Hato, check_letters, letters, main_cf, new_place,
                       once_is_enough, settle, fixture_traced, virtual_users, wait_for,
                       write_virtual)
from crashload import Load

USERS = virtual_users(6)
EIO = "Input/output error"
FULL = "No space left on device"

# What fails, what the log says of it, whether the sender must hear of it.
FAULTS = [
    ("smtpd/fdatasync:3:EIO", EIO, True),
    ("smtpd/fdatasync:2+:EIO", EIO, True),
    ("smtpd/pwritev:3:ENOSPC", FULL, True),
    ("smtpd/pwritev:2+:ENOSPC", FULL, True),
    ("smtpd/pwrite:1:ENOSPC", FULL, True),
    ("smtpd/pwrite:2+:EIO", EIO, True),
    ("qmgr/fdatasync:3:EIO", EIO, False),
    ("qmgr/fdatasync:4+:EIO", EIO, False),
    ("qmgr/pwritev:3:ENOSPC", FULL, False),
    ("qmgr/pwritev:4+:ENOSPC", FULL, False),
    ("qmgr/openat:8+:ENOSPC", FULL, False),
    ("qmgr/fallocate:6+:ENOSPC", None, False),
    ("qmgr/fsync:9:EIO", None, False),
    ("mailbox/openat:6:EMFILE", "Too many open files", False),
    ("mailbox/openat:9+:ENOSPC", FULL, False),
    ("mailbox/pwrite:4:EIO", EIO, False),
    ("mailbox/pwritev:5:ENOSPC", FULL, False),
    ("mailbox/pwritev:7+:ENOSPC", FULL, False),
    ("mailbox/renameat:3:EIO", EIO, False),
    ("mailbox/renameat:4+:EIO", EIO, False),
    ("mailbox/linkat:1:EMLINK", None, False),
    ("mailbox/linkat:1+:EIO", EIO, False),
    ("mailbox/mkdirat:2:ENOSPC", None, False),
    ("broker/syncfs:1:EIO", EIO, False),
    ("broker/syncfs:2+:EIO", EIO, False),
]


if not ALL:
    FAULTS = FAULTS[int(os.environ.get("HATO_SEED", "1")) % 3::3]
pytestmark = once_is_enough


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


def accepts(h, messages):
    """Are five messages accepted?  Adds them to `messages`."""
    load = Load(h.port, USERS, sessions=1, sizes=(500,), limit=5)
    load.wait()
    messages += load.messages
    return all(m.state == "yes" for m in load.messages)


@pytest.mark.parametrize("fault,cause,is_heard", FAULTS, ids=[f[0] for f in FAULTS])
def test_crash_fault(where, traced, fault, cause, is_heard):
    h = Hato(where)
    h.main.update(main_cf(h.dir, alias_maps=f"hash:{h.path('aliases')}"))
    h.write("aliases", "all: " + ", ".join(USERS) + "\n")
    write_virtual(h, USERS)
    h.write_conf()
    h.start(env={"HATO_FAULT": fault})
    load = Load(h.port, USERS + ["all@example.com"], sessions=3, sizes=(500, 5000, 280000),
                limit=60, pause=0.02)
    load.wait()
    if "+" not in fault:
        # What failed once is over after a while: mail is accepted again.
        assert wait_for(lambda: accepts(h, load.messages), 30, 0.3), \
            f"nothing is accepted any more: {load.errors}\n{h.log()[-4000:]}"
    heard = [e for e in load.errors if re.match(r"4\d\d 4\.", e)]
    assert not [e for e in load.errors if re.search(r"(^|')5\d\d 5", e)], load.errors
    assert bool(heard) or not is_heard, load.errors
    if cause:
        # The process that has it may be the log's last to be heard.
        assert wait_for(lambda: cause in h.log()), f"{cause}: not in the log:\n{h.log()[-4000:]}"
    if "+" not in fault:
        settle(h)
    h.command("stop")
    h.started = False
    h.start()
    settle(h)
    h.stop()
    wrong = check_letters(letters(h.dir), load.messages,
                          lambda r: USERS if r == "all@example.com" else [r])
    assert not wrong, "\n".join(wrong[:10]) + h.log()[-6000:]
    assert "from=<>" not in h.log(), "a bounce:\n" + h.log()[-6000:]
