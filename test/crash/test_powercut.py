"""The simulator itself, on traces made by hand."""
import os

import powercut
from powercut import (BEGIN, CREATED, END, FDATASYNC, FSYNC, HEAD, LINKAT, MAGIC, OPENAT, PWRITE,
                      RENAMEAT, SYNCFS, UNLINKAT)

ROOT, FILE, OTHER = (1, 10), (1, 20), (1, 30)


class Maker:
    """Writes records as file_traced.c does."""

    def __init__(self, tmp_path):
        self.path = str(tmp_path / "trace")
        self.out = b""
        root = tmp_path / "root"
        os.makedirs(root)
        powercut.Base.save(str(root), str(tmp_path / "base"))
        self.base = powercut.Base(str(tmp_path / "base"))
        st = os.lstat(root)
        self.root = (st.st_dev, st.st_ino)
        self.tmp = tmp_path
        self.n = 0

    def add(self, call, obj, **k):
        def ref(o):
            return self.root if o == ROOT else o
        name, name2 = k.get("name", "").encode(), k.get("name2", "").encode()
        data = k.get("data", b"")
        d, d2 = ref(k.get("dir", (0, 0))), ref(k.get("dir2", (0, 0)))
        o = ref(obj)
        size = HEAD.size + len(name) + len(name2) + len(data)
        self.out += HEAD.pack(MAGIC, size, 1, call, k.get("flags", 0), k.get("result", 0), 0,
                              self.n, *o, *d, *d2, k.get("offset", 0),
                              k.get("length", len(data)), 0, 0o100600, os.geteuid(),
                              os.getegid(), 1, 0, len(name), len(name2), len(data), 0, 0)
        self.out += name + name2 + data
        self.n += 1

    def create(self, obj, name):
        self.add(OPENAT, obj, dir=ROOT, name=name, flags=CREATED)

    def write(self, obj, data, offset=0):
        self.add(PWRITE, obj, data=data, offset=offset)

    def sync(self, call, obj, result=0):
        self.add(call, obj, flags=BEGIN)
        self.add(call, obj, flags=END, result=result)

    def states(self, n=60):
        """The set of what the root may hold at the end: {name: bytes} as tuples."""
        with open(self.path, "wb") as f:
            f.write(self.out)
        trace = powercut.Trace(self.path)
        disk = powercut.Disk(self.base, trace)
        disk.advance(len(trace.records))
        assert disk.ignored == 0
        seen = set()
        for i in range(n):
            out = str(self.tmp / f"state{i}")
            disk.state(out, str(i), powercut.KINDS[i % len(powercut.KINDS)])
            seen.add(tuple(sorted((name, open(os.path.join(out, name), "rb").read())
                                  for name in os.listdir(out))))
        return seen


def test_unsynced_may_be_lost(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.write(FILE, b"one")
    states = m.states()
    assert {(), (("a", b"one"),), (("a", b""),)} <= states


def test_synced_is_kept(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.write(FILE, b"one")
    m.sync(FDATASYNC, FILE)
    m.sync(FSYNC, ROOT)
    m.write(FILE, b"two", 3)
    states = m.states()
    assert {(("a", b"one"),), (("a", b"onetwo"),)} <= states
    assert all(s[0][1].startswith(b"one") for s in states)


def test_names_need_their_directory(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.write(FILE, b"one")
    m.sync(FDATASYNC, FILE)
    assert m.states() == {(), (("a", b"one"),)}


def test_rename_is_one_step(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "tmp")
    m.write(FILE, b"x")
    m.sync(SYNCFS, FILE)
    m.sync(FSYNC, ROOT)  # on another file system than the made-up file
    m.add(RENAMEAT, FILE, dir=ROOT, name="tmp", dir2=ROOT, name2="new")
    assert m.states() == {(("tmp", b"x"),), (("new", b"x"),)}


def test_links_and_unlinks(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.write(FILE, b"x")
    m.sync(FDATASYNC, FILE)
    m.sync(FSYNC, ROOT)
    m.add(LINKAT, FILE, dir=ROOT, name="a", dir2=ROOT, name2="b")
    m.add(UNLINKAT, FILE, dir=ROOT, name="a")
    assert m.states(300) == {(("a", b"x"),), (("a", b"x"), ("b", b"x")), (("b", b"x"),), ()}


def test_a_failed_sync_promises_nothing(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.sync(FSYNC, ROOT)
    m.write(FILE, b"one")
    m.sync(FDATASYNC, FILE, result=-1)
    m.sync(FDATASYNC, FILE)
    assert (("a", b""),) in m.states()


def test_what_comes_during_a_sync_is_not_covered(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.sync(FSYNC, ROOT)
    m.add(FDATASYNC, FILE, flags=BEGIN)
    m.write(FILE, b"late")
    m.add(FDATASYNC, FILE, flags=END)
    assert (("a", b""),) in m.states()


def test_writes_are_torn(tmp_path):
    m = Maker(tmp_path)
    m.create(FILE, "a")
    m.sync(FSYNC, ROOT)
    m.write(FILE, b"y" * 4096)
    torn = {s[0][1] for s in m.states(100)}
    assert any(0 < t.count(b"y") < 4096 for t in torn)
    assert all(t[i:i + 512] in (b"y" * 512, bytes(512)) for t in torn
               for i in range(0, len(t), 512))
