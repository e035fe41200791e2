"""Reloads under load: no connection is refused or reset, no session ended."""
import asyncio
import os
import time

from hatotest import Hato, IS_ROOT, NOBODY, wait_for
from mailload import Load, delivered

RELOADS = 100
OPEN = 1000
PER_SECOND = 200
AT_ONCE = 500  # a slow server gets fewer


class Sessions:
    """Sessions that stay open, and new ones all the time."""

    def __init__(self, port):
        self.port = port
        self.errors = []
        self.n = 0
        self.stopping = False

    async def open(self):
        r, w = await asyncio.open_connection("127.0.0.1", self.port)
        greeting = await asyncio.wait_for(r.readline(), 30)
        assert greeting.startswith(b"220 "), greeting
        return r, w

    async def one(self):
        try:
            r, w = await self.open()
            w.write(b"QUIT\r\n")
            bye = await asyncio.wait_for(r.readline(), 30)
            assert bye.startswith(b"221 "), bye
            w.close()
            self.n += 1
        except (OSError, AssertionError, asyncio.TimeoutError) as e:
            self.errors.append(repr(e))

    async def keep_coming(self):
        began = time.monotonic()
        started = 0
        tasks = set()
        while not self.stopping:
            while (started < (time.monotonic() - began) * PER_SECOND
                   and len(tasks) < AT_ONCE):
                task = asyncio.create_task(self.one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                started += 1
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)


async def is_alive(r, w):
    w.write(b"NOOP\r\n")
    return (await asyncio.wait_for(r.readline(), 30)).startswith(b"250 ")


def test_reloads_under_load(where):
    h = Hato(where, main={"smtpd_client_connection_count_limit": "0",
                          "smtpd_timeout": "300s"})

    async def run():
        s = Sessions(h.port)
        stay = [await s.open() for _ in range(OPEN)]
        coming = asyncio.create_task(s.keep_coming())
        for _ in range(RELOADS):
            p = await asyncio.to_thread(h.command, "reload")
            assert p.returncode == 0, p.stdout + p.stderr
        s.stopping = True
        await coming
        alive = [await is_alive(r, w) for r, w in stay]
        for _, w in stay:
            w.close()
        return s, alive
    with h:
        s, alive = asyncio.run(run())
        assert s.errors == []
        assert s.n > 100
        assert alive == [True] * OPEN
        # The old processes end with their last session.
        assert wait_for(lambda: "draining" not in h.command("status").stdout, 20)


def test_reloads_while_mail_flows(where):
    uid = NOBODY if IS_ROOT else os.geteuid()
    users = [f"u{i}" for i in range(20)]
    mail = where / "mail"
    mail.mkdir()
    h = Hato(where, main={
        "virtual_mailbox_domains": "v.example",
        "virtual_mailbox_base": str(mail),
        "virtual_mailbox_maps": f"texthash:{where}/vmap",
        "virtual_uid_maps": f"static:{uid}",
        "virtual_gid_maps": f"static:{uid}",
    })
    h.write("vmap", "".join(f"{u}@v.example {u}/\n" for u in users))

    async def run():
        load = Load(h.port, [f"{u}@v.example" for u in users])

        async def reloads():
            for _ in range(10):
                p = await asyncio.to_thread(h.command, "reload")
                assert p.returncode == 0, p.stdout + p.stderr
                await asyncio.sleep(0.1)
            load.stopping = True
        await asyncio.gather(load.run(), reloads())
        return load
    with h:
        load = asyncio.run(run())
        assert (load.broken, load.no_connect, dict(load.refused)) == (0, 0, {})
        want = {(n, a.split("@")[0]) for n, rcpts in load.answered.items() for a in rcpts}
        assert wait_for(lambda: want == set(delivered(mail)), 30)
        assert set(delivered(mail).values()) == {1}
        assert "status=deferred" not in h.log()
