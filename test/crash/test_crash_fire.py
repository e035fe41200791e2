"""The test of fire: one message of 1 MB to a thousand users, and the whole
server is killed in the middle, several times: everybody has it once."""
import os
import random
import threading
import time

import pytest

from crashtest import (ALL, Hato, IS_ROOT, boxes, check_letters, kill_everything, letters,
                       main_cf, new_place, settle, virtual_users, wait_for, write_virtual)
from crashload import Message, Session

SEED = int(os.environ.get("HATO_SEED", "1"))
pytestmark = pytest.mark.skipif("HATO_ASAN" in os.environ, reason="takes too long")
ROUNDS = 21 if ALL else 1
BYTES = 1 << 20


@pytest.fixture(name="where")
def fixture_where():
    yield from new_place()


class Fire:
    """1,000 users: all virtual, or 900 virtual and 100 of the system."""

    def __init__(self, where, mode):
        n_system = 100 if mode == "users" else 0
        names = [f"sys{i}" for i in range(n_system)]
        self.virtual = virtual_users(1000 - n_system)
        self.everybody = self.virtual + [f"{n}@example.com" for n in names]
        h = self.h = Hato(where, mode=mode, users=names)
        h.main.update(main_cf(h.dir, alias_maps=f"hash:{h.path('aliases')}",
                              smtpd_recipient_limit="2000"))
        if mode == "users":
            h.main["home_mailbox"] = "Maildir/"
        h.write("aliases", "everybody: " + ",\n ".join(self.everybody) + "\n"
                "half: " + ",\n ".join(self.everybody[::2]) + "\n"
                "other: " + ",\n ".join(self.everybody[1::2]) + "\n"
                "nested: half, other\n")
        write_virtual(h, self.virtual, [2200, 2201] if mode == "users" else None)
        os.makedirs(h.path("mail/virtual.test"))
        os.makedirs(h.path("home"))
        if mode == "users":
            os.chmod(h.path("mail/virtual.test"), 0o1777)
        for i, name in enumerate(names):
            os.makedirs(h.path(f"home/{name}"))
            os.chown(h.path(f"home/{name}"), 2000 + i, 2000 + i)
        h.own()
        h.write_conf()
        self.sent = []
        self.new_dirs = []

    def expand(self, rcpt):
        return self.everybody if rcpt in ("everybody@example.com", "nested@example.com") \
            else [rcpt]

    def send(self, rcpts):
        m = Message(rcpts)
        session = Session(self.h.port)
        session.send(m, BYTES)
        session.close()
        self.sent.append(m)

    def start_and_kill(self, target):
        """Starts the server and kills it as soon as `target` users have the
        message, be its start complete or not."""
        starter = threading.Thread(target=self.h.command, args=("start",))
        starter.start()
        end = time.monotonic() + 20
        while self.count() < target and time.monotonic() < end:
            pass
        n = self.count()
        kill_everything(self.h)
        starter.join()
        kill_everything(self.h)
        return n

    def check(self):
        settle(self.h, 120)
        wrong = check_letters(letters(self.h.dir), self.sent, self.expand)
        assert not wrong, f"{len(wrong)}: " + "\n".join(wrong[:20]) + self.h.log()[-4000:]

    def count(self):
        return sum(len(os.listdir(d)) for d in self.new_dirs)

    def empty(self):
        """Room for the next message; the index is told by its absence."""
        self.new_dirs = [f"{box}/new" for box, _ in boxes(self.h.dir)]
        for box, _ in boxes(self.h.dir):
            for part in ("new", "cur"):
                for name in os.listdir(f"{box}/{part}"):
                    os.unlink(f"{box}/{part}/{name}")
        self.sent = []


@pytest.mark.parametrize("mode", ["one", "users"])
def test_crash_fire(where, mode):
    if mode == "users" and not IS_ROOT:
        pytest.skip("needs root")
    rng = random.Random(SEED)
    f = Fire(where, mode)
    with f.h:
        f.send(["everybody@example.com"])
        f.check()
        for number in range(ROUNDS):
            f.empty()
            rcpts = [["nested@example.com"], f.virtual, ["everybody@example.com"]][number % 3]
            f.send(rcpts)
            # The first just behind the 250, while aliases expand.
            time.sleep(rng.random() * 0.05)
            seen = [f.count()]
            kill_everything(f.h)
            for target in sorted(rng.randint(1, 800) for _ in range(3)):
                if seen[-1] < target:
                    seen.append(f.start_and_kill(target))
            f.h.start()
            f.check()
            print(f"{mode}: killed when {seen} had it")
            assert f.count() == (1000 if number % 3 != 1 else len(f.virtual))
