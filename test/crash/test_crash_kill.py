"""Crash 1: SIGKILL in each process type at random moments under load."""
import os
import random
import time

import pytest

from crashtest import (ALL, Hato, check_letters, kill, letters, main_cf, new_place,
                       processes, settle, virtual_users, wait_for, write_virtual)
from crashload import Load

TYPES = ["smtpd", "qmgr", "local", "broker", "template", "mailbox", "tables", "log", "master"]
KILLS = 1000 if ALL else 30
SEED = int(os.environ.get("HATO_SEED", "1"))
USERS = virtual_users(12)
LISTS = {"all@example.com": USERS[:6], "nested@example.com": USERS[:8]}
ALIASES = ("all: " + ", ".join(USERS[:6]) + "\n"
           "nested: all, " + ", ".join(USERS[6:8]) + "\n")


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


def kill_one(h, rng, kind):
    """True when there was one of this kind to kill."""
    victims = [pid for name, pid in processes(h) if name == kind]
    if not victims:
        return False
    if kind == "master":
        everybody = [pid for _, pid in processes(h)]
        kill(victims[0])
        assert wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in everybody), 20)
        h.start()
        return True
    kill(rng.choice(victims))
    return True


def test_crash_kill(where):
    rng = random.Random(SEED)
    h = Hato(where)
    h.main.update(main_cf(h.dir, alias_maps=f"hash:{h.path('aliases')}"))
    h.write("aliases", ALIASES)
    write_virtual(h, USERS)
    h.write_conf()
    sent = []
    killed = 0
    with h:
        while killed < KILLS:
            load = Load(h.port, USERS + list(LISTS), sessions=6, seed=SEED + killed,
                        sizes=(500, 4000, 4000, 40000, 300000), pause=0.01)
            try:
                for _ in range(4):
                    for kind in rng.sample(TYPES[:-1], len(TYPES) - 1) + ["master"]:
                        time.sleep(rng.choice((0.01, 0.05, 0.1, 0.3)) * 2 * rng.random())
                        killed += kill_one(h, rng, kind)
            finally:
                load.stop()
                sent += load.messages
            yes = sum(m.state == "yes" for m in load.messages)
            assert yes > 0, f"nothing was accepted: {load.errors}\n{h.log()[-3000:]}"
            settle(h)
            wrong = check_letters(letters(h.dir), sent,
                                  lambda r: LISTS.get(r, [r]))
            assert not wrong, "\n".join(wrong[:20]) + f"\nafter {killed} kills\n{log_of(h, wrong)}"
            print(f"{killed} kills, {len(sent)} sent, {yes} answered in this round", load.errors)
    assert "from=<>" not in h.log(), "a bounce:\n" + h.log()[-6000:]


def log_of(h, wrong):
    token = wrong[0].split(" ")[0]
    lines = h.log().splitlines()
    ids = {line.split(": ")[1] for line in lines if token in line and ": " in line}
    return "\n".join(line for line in lines if any(i in line for i in ids))
