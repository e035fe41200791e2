"""A load of small messages by SMTP, and what became of each.

Every message has a number of its own in its body; `answered` holds those for
which 250 was seen, `refused` the answers that were not 2xx.
"""
import asyncio
import collections
import os
import re


class Load:
    def __init__(self, port, rcpts, sessions=10, per_session=5):
        self.port = port
        self.rcpts = rcpts
        self.sessions = sessions
        self.per_session = per_session
        self.sent = 0
        self.answered = {}  # number -> recipients
        self.refused = collections.Counter()
        self.broken = 0     # connections that ended without our QUIT
        self.no_connect = 0
        self.stopping = False

    async def answer(self, r):
        while True:
            line = await asyncio.wait_for(r.readline(), 60)
            if not line:
                raise ConnectionError("closed")
            if line[3:4] != b"-":
                return line.decode("latin-1").rstrip()

    async def ask(self, r, w, text):
        w.write(text.encode("latin-1"))
        await w.drain()
        return await self.answer(r)

    async def message(self, r, w):
        self.sent += 1
        number = self.sent
        rcpts = [self.rcpts[(number + i) % len(self.rcpts)] for i in range(1 + number % 3)]
        rcpts = sorted(set(rcpts))
        commands = ["MAIL FROM:<load@client.example>\r\n",
                    *(f"RCPT TO:<{x}>\r\n" for x in rcpts), "DATA\r\n"]
        w.write("".join(commands).encode())
        await w.drain()
        replies = [await self.answer(r) for _ in commands]
        if not replies[-1].startswith("354"):
            for x in replies:
                if x[0] not in "23":
                    self.refused[re.sub(r"<.*?>", "<>", x)] += 1
            await self.ask(r, w, "RSET\r\n")
            return
        body = f"Subject: {number}\r\n\r\nnumber={number};\r\n" + "x" * 70 + "\r\n.\r\n"
        reply = await self.ask(r, w, body)
        if reply.startswith("250"):
            self.answered[number] = rcpts
        else:
            self.refused[reply] += 1

    async def session(self):
        try:
            r, w = await asyncio.wait_for(
                asyncio.open_connection("127.0.0.1", self.port), 30)
        except (OSError, asyncio.TimeoutError):
            self.no_connect += 1
            await asyncio.sleep(0.05)
            return
        try:
            await self.answer(r)
            await self.ask(r, w, "EHLO client.example\r\n")
            for _ in range(self.per_session):
                if self.stopping:
                    break
                await self.message(r, w)
            await self.ask(r, w, "QUIT\r\n")
        except (OSError, asyncio.TimeoutError):
            self.broken += 1
        finally:
            w.close()

    async def worker(self):
        while not self.stopping:
            await self.session()

    async def run(self, seconds=None):
        tasks = [asyncio.create_task(self.worker()) for _ in range(self.sessions)]
        if seconds is not None:
            await asyncio.sleep(seconds)
            self.stopping = True
        await asyncio.gather(*tasks)


def delivered(mail_dir):
    """{(number, user): count} of every message file below mail_dir/USER."""
    out = collections.Counter()
    for user in os.listdir(mail_dir):
        for sub in ("new", "cur"):
            path = os.path.join(mail_dir, user, sub)
            for name in os.listdir(path) if os.path.isdir(path) else ():
                with open(os.path.join(path, name), "rb") as f:
                    m = re.search(rb"number=(\d+);", f.read())
                out[int(m[1]) if m else name, user] += 1
    return out
