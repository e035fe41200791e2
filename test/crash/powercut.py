#!/usr/bin/python3
"""What a disk may hold after a power cut, made from the trace of a
-Dfstrace=true build (doc/fstrace.md).

    powercut.py base ROOT BASE            before the traced processes start
    powercut.py states BASE TRACE OUT [--points N] [--seed S] [--each M]

`base` copies the tree ROOT and notes its inodes.  `states` writes directory
trees OUT/000001 ... and a line per state: number, trace offset, kind.  As a
library: Trace, Base, Disk; see test_crash_spool.py.

The model.  Every write, truncation and directory entry that no sync covers may
have happened or not, each by itself and in any order; a write may be torn at
sectors of 512 bytes; a file may have its new length with zeroes in it.  A rename
that is covered in neither directory happens in both or in none.  A sync covers
what was recorded before its begin; what stood pending at a failed sync is never
covered any more.  Kinds of states:

    all      nothing lost (as after SIGKILL)
    none     everything lost that may be lost
    prefix   what may be lost is lost from some moment on, in order
    random   each by itself
    torn     as random, and writes torn
"""
import argparse
import json
import mmap
import os
import random
import shutil
import stat
import struct
import sys

HEAD = struct.Struct("<IIIHHqiIQQQQQQqqqIIIIIHHIIQ")
MAGIC = 0x52545346
(OPENAT, PWRITE, PWRITEV, FTRUNCATE, FALLOCATE, FDATASYNC, FSYNC, SYNCFS, RENAMEAT, LINKAT,
 UNLINKAT, MKDIRAT) = range(1, 13)
CREATED, TRUNCATED, BEGIN, END, REPLACED, IS_DIR = 1, 2, 4, 8, 16, 32
PAGE = 4096
SECTOR = 512
KINDS = ["all", "none", "prefix", "random", "torn"]


class Record:
    __slots__ = ("at", "pid", "call", "flags", "result", "obj", "dir", "dir2", "offset",
                 "length", "mode", "uid", "gid", "open_flags", "name", "name2", "data")

    def __init__(self, view, at):
        (_, size, self.pid, self.call, self.flags, self.result, _, _, dev, ino, dir_dev,
         dir_ino, dir2_dev, dir2_ino, self.offset, self.length, _, self.mode, self.uid,
         self.gid, _, self.open_flags, n1, n2, n3, _, _) = HEAD.unpack_from(view, at)
        self.at = at
        self.obj = (dev, ino)
        self.dir = (dir_dev, dir_ino)
        self.dir2 = (dir2_dev, dir2_ino)
        p = at + HEAD.size
        self.name = bytes(view[p:p + n1]).decode("utf-8", "surrogateescape")
        self.name2 = bytes(view[p + n1:p + n1 + n2]).decode("utf-8", "surrogateescape")
        self.data = view[p + n1 + n2:p + n1 + n2 + n3]
        if HEAD.size + n1 + n2 + n3 != size:
            raise ValueError(f"record at {at}: lengths do not agree")


class Trace:
    """The records of a trace file, in order.  A torn last one is left out."""

    def __init__(self, path):
        with open(path, "rb") as f:
            n = os.fstat(f.fileno()).st_size
            self.view = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)) if n \
                else memoryview(b"")
        self.records = []
        at = 0
        while at + HEAD.size <= len(self.view):
            magic, size = struct.unpack_from("<II", self.view, at)
            if magic != MAGIC or size < HEAD.size:
                raise ValueError(f"{path}: no record at {at}")
            if at + size > len(self.view):
                break
            self.records.append(Record(self.view, at))
            at += size
        self.end = at

    def index_at(self, offset):
        """The number of records that end at or below this offset of the trace."""
        low, high = 0, len(self.records)
        while low < high:
            mid = (low + high) // 2
            end = self.records[mid + 1].at if mid + 1 < len(self.records) else self.end
            if end <= offset:
                low = mid + 1
            else:
                high = mid
        return low


# ---- the tree before the trace

class Base:
    """A copy of a tree and the inodes it had."""

    def __init__(self, path):
        self.path = path
        with open(os.path.join(path, "inodes.json"), encoding="utf-8") as f:
            self.inodes = json.load(f)

    @staticmethod
    def save(root, path):
        os.makedirs(path)
        inodes = []
        for top, _, names in os.walk(root):
            for p in [top] + [os.path.join(top, n) for n in names]:
                st = os.lstat(p)
                if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
                    continue
                inodes.append([os.path.relpath(p, root), st.st_dev, st.st_ino, st.st_mode,
                               st.st_uid, st.st_gid])
        shutil.copytree(root, os.path.join(path, "tree"), symlinks=True,
                        ignore=lambda d, ns: [n for n in ns if not keeps(os.path.join(d, n))])
        with open(os.path.join(path, "inodes.json"), "w", encoding="utf-8") as f:
            json.dump(inodes, f)
        return Base(path)


def keeps(path):
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


# ---- objects

class Node:
    def __init__(self, mode, uid, gid):
        self.mode, self.uid, self.gid = mode, uid, gid


class File(Node):
    """Pages that are on the disk for good, and operations that may be lost."""

    def __init__(self, mode, uid, gid):
        super().__init__(mode, uid, gid)
        self.pages = {}
        self.size = 0
        self.pending = []   # FileOp

    @staticmethod
    def load(path, mode, uid, gid):
        f = File(mode, uid, gid)
        with open(path, "rb") as source:
            data = source.read()
        write_pages(f.pages, 0, data)
        f.size = len(data)
        return f

    def fold(self):
        """Operations at the front that are durable become part of the base."""
        n = 0
        while n < len(self.pending) and self.pending[n].durable:
            self.size = self.pending[n].apply(self.pages, self.size)
            n += 1
        del self.pending[:n]


class Dir(Node):
    def __init__(self, mode, uid, gid):
        super().__init__(mode, uid, gid)
        self.entries = {}


def write_pages(pages, at, data):
    """Put bytes into pages of 4096; all-zero new pages stay holes."""
    pos = 0
    while pos < len(data):
        number, inside = divmod(at + pos, PAGE)
        n = min(PAGE - inside, len(data) - pos)
        piece = data[pos:pos + n]
        page = pages.get(number)
        if page is None:
            page = pages[number] = bytearray(PAGE)
        page[inside:inside + n] = piece
        pos += n


class FileOp:
    """A write, a new size, or room made (fallocate)."""
    __slots__ = ("index", "call", "offset", "length", "data", "durable", "poisoned")

    def __init__(self, index, call, offset, length, data):
        self.index, self.call, self.offset, self.length = index, call, offset, length
        self.data = data
        self.durable = self.poisoned = False

    def apply(self, pages, size, parts=None):
        """The new size.  parts: (from, to) of the data that got there."""
        if self.call == FTRUNCATE:
            if self.length < size:
                cut(pages, self.length)
            return self.length
        end = self.offset + self.length
        if self.call == FALLOCATE:
            return max(size, end)
        for a, b in parts if parts is not None else [(0, self.length)]:
            write_pages(pages, self.offset + a, self.data[a:b])
        return max(size, end)


def cut(pages, size):
    first = (size + PAGE - 1) // PAGE
    for number in [n for n in pages if n >= first]:
        del pages[number]
    number, inside = divmod(size, PAGE)
    if inside and number in pages:
        pages[number][inside:] = bytes(PAGE - inside)


class DirOp:
    """Entries that change together: [directory, name, node or None, durable]."""
    __slots__ = ("index", "parts", "poisoned")

    def __init__(self, index, parts):
        self.index = index
        self.parts = [[d, name, node, False] for d, name, node in parts]
        self.poisoned = set()

    def durable(self):
        return all(p[3] for p in self.parts)

    def apply(self, entries_of, only_durable=False):
        for d, name, node, durable in self.parts:
            if only_durable and not durable:
                continue
            if node is None:
                entries_of(d).pop(name, None)
            else:
                entries_of(d)[name] = node


# ---- the disk

class Disk:
    """Follows a trace; state() makes a tree of what may be left at this point."""

    def __init__(self, base, trace):
        self.trace = trace
        self.next = 0
        self.nodes = {}     # (dev, ino) -> node, as it is now
        self.devs = {}      # id(node) -> dev
        self.dirty = {}     # id -> File with operations that may be lost
        self.dir_ops = []   # not wholly durable
        self.begun = []     # [key, index]
        self.ignored = 0
        self.root = self.load(base)

    def load(self, base):
        root = None
        by_path = {}
        for path, dev, ino, mode, uid, gid in base.inodes:
            node = self.nodes.get((dev, ino))
            if node is None:
                if stat.S_ISDIR(mode):
                    node = Dir(mode, uid, gid)
                else:
                    node = File.load(os.path.join(base.path, "tree", path), mode, uid, gid)
                self.nodes[(dev, ino)] = node
                self.devs[id(node)] = dev
            by_path[path] = node
            if path == ".":
                root = node
            else:
                parent = os.path.dirname(path) or "."
                by_path[parent].entries[os.path.basename(path)] = node
        return root

    def advance(self, n):
        """Follow the trace until n records are done."""
        while self.next < n:
            self.step(self.trace.records[self.next])
            self.next += 1

    # -- one record

    def new_node(self, rec, is_dir):
        node = (Dir if is_dir else File)(rec.mode, rec.uid, rec.gid)
        self.nodes[rec.obj] = node
        self.devs[id(node)] = rec.obj[0]
        return node

    def step(self, rec):
        if rec.call in (FDATASYNC, FSYNC, SYNCFS):
            self.sync(rec)
        elif rec.call in (RENAMEAT, LINKAT, UNLINKAT, MKDIRAT):
            self.entry(rec)
        elif rec.call == OPENAT:
            self.open(rec)
        else:
            self.change(rec)

    def change(self, rec):
        node = self.nodes.get(rec.obj)
        if not isinstance(node, File):
            self.ignored += 1
            return
        self.add(node, FileOp(self.next, rec.call, rec.offset, rec.length, rec.data))

    def add(self, node, op):
        node.pending.append(op)
        self.dirty[id(node)] = node

    def open(self, rec):
        parent = self.nodes.get(rec.dir)
        if not isinstance(parent, Dir):
            self.ignored += 1
            return
        if rec.flags & CREATED:
            node = self.new_node(rec, False)
            self.dir_ops.append(DirOp(self.next, [(parent, rec.name, node)]))
        elif rec.flags & TRUNCATED and isinstance(self.nodes.get(rec.obj), File):
            self.add(self.nodes[rec.obj], FileOp(self.next, FTRUNCATE, 0, 0, b""))

    def entry(self, rec):
        parent = self.nodes.get(rec.dir)
        parent2 = self.nodes.get(rec.dir2)
        if rec.call == MKDIRAT:
            if isinstance(parent, Dir):
                node = self.new_node(rec, True)
                self.dir_ops.append(DirOp(self.next, [(parent, rec.name, node)]))
            return
        node = self.nodes.get(rec.obj)
        parts = []
        if rec.call in (RENAMEAT, UNLINKAT) and isinstance(parent, Dir):
            parts.append((parent, rec.name, None))
        if rec.call in (RENAMEAT, LINKAT) and isinstance(parent2, Dir) and node is not None:
            parts.append((parent2, rec.name2, node))
        if parts:
            self.dir_ops.append(DirOp(self.next, parts))
        else:
            self.ignored += 1

    def sync(self, rec):
        key = (rec.pid, rec.call, rec.obj)
        if rec.flags & BEGIN:
            self.begun.append((key, self.next))
            return
        for i, (k, index) in enumerate(self.begun):
            if k == key:
                del self.begun[i]
                self.covered(rec, index)
                return

    def covered(self, rec, index):
        node = self.nodes.get(rec.obj)
        files, dirs = [], []
        if rec.call == SYNCFS:
            files = [n for n in self.dirty.values() if self.devs[id(n)] == rec.obj[0]]
            dirs = None
        elif isinstance(node, File):
            files = [node]
        elif isinstance(node, Dir):
            dirs = [node]
        for f in files:
            for op in f.pending:
                if op.index < index and not op.poisoned:
                    op.durable = rec.result == 0
                    op.poisoned = rec.result != 0
            f.fold()
            if not f.pending:
                self.dirty.pop(id(f), None)
        if dirs == []:
            return
        for op in self.dir_ops:
            if op.index >= index:
                break
            for i, part in enumerate(op.parts):
                if dirs is not None and part[0] not in dirs or i in op.poisoned:
                    continue
                if dirs is None and self.devs[id(part[0])] != rec.obj[0]:
                    continue
                if rec.result == 0:
                    part[3] = True
                else:
                    op.poisoned.add(i)
        self.fold_dirs()

    def fold_dirs(self):
        n = 0
        while n < len(self.dir_ops) and self.dir_ops[n].durable():
            self.dir_ops[n].apply(lambda d: d.entries)
            n += 1
        del self.dir_ops[:n]

    # -- a state

    def choose(self, rng, kind):
        """A function: may-be-lost operation -> did it happen?"""
        if kind == "all":
            return lambda index: True
        if kind == "none":
            return lambda index: False
        if kind == "prefix":
            pending = [op.index for op in self.dir_ops]
            for node in self.dirty.values():
                pending += [op.index for op in node.pending]
            limit = rng.randint(min(pending), max(pending) + 1) if pending else 0
            return lambda index: index < limit
        odds = rng.choice([0.1, 0.5, 0.9])
        return lambda index: rng.random() < odds

    def state(self, out, seed, kind="random"):
        """Write the tree to `out`, which must not exist."""
        rng = random.Random(f"{seed}:{self.next}:{kind}")
        happened = self.choose(rng, kind)
        entries = {}

        def entries_of(d):
            if id(d) not in entries:
                entries[id(d)] = dict(d.entries)
            return entries[id(d)]

        for op in self.dir_ops:
            if op.durable():
                op.apply(entries_of)
            elif any(p[3] for p in op.parts):
                op.apply(entries_of, only_durable=not happened(op.index))
            elif happened(op.index):
                op.apply(entries_of)
        self.write_dir(self.root, out, entries_of, (happened, rng, kind, {}))

    def write_dir(self, node, path, entries_of, how, depth=0):
        if depth > 64:
            raise ValueError("directories too deep")
        os.mkdir(path)
        for name, child in entries_of(node).items():
            target = os.path.join(path, name)
            if isinstance(child, Dir):
                self.write_dir(child, target, entries_of, how, depth + 1)
            else:
                self.write_file(child, target, how)
        own(path, node)

    def write_file(self, node, path, how):
        happened, rng, kind, done = how
        if id(node) in done:
            os.link(done[id(node)], path)
            return
        done[id(node)] = path
        pages, size = node.pages, node.size
        if node.pending:
            pages = {n: bytearray(p) for n, p in pages.items()}
            for op in node.pending:
                if op.durable or happened(op.index):
                    size = op.apply(pages, size)
                elif kind == "torn" and op.call in (PWRITE, PWRITEV):
                    size = tear(op, pages, size, rng)
        with open(path, "wb") as f:
            os.ftruncate(f.fileno(), size)
            for number in sorted(pages):
                at = number * PAGE
                if at < size:
                    os.pwrite(f.fileno(), pages[number][:size - at], at)
        own(path, node)


def tear(op, pages, size, rng):
    """Some sectors of a write got there, or only the new length did."""
    first = op.offset // SECTOR
    last = (op.offset + op.length - 1) // SECTOR
    mode = rng.random()
    keep = rng.randint(0, last - first)
    parts = []
    for i in range(first, last + 1):
        if mode < 0.4 and i - first >= keep:      # a prefix
            continue
        if mode >= 0.4 and rng.random() < 0.5:    # any of them
            continue
        a = max(i * SECTOR - op.offset, 0)
        b = min((i + 1) * SECTOR - op.offset, op.length)
        parts.append((a, b))
    if not parts and rng.random() < 0.5:
        return size
    return op.apply(pages, size, parts)


def own(path, node):
    os.chmod(path, stat.S_IMODE(node.mode))
    if os.geteuid() == 0:
        os.chown(path, node.uid, node.gid)


def points_of(trace, n, rng, first=0):
    """Record counts at which to cut: half anywhere, half around syncs."""
    syncs = [i for i, r in enumerate(trace.records) if r.call in (FDATASYNC, FSYNC, SYNCFS)]
    points = []
    for i in range(n):
        if i % 2 and syncs:
            p = rng.choice(syncs) + rng.randint(0, 2)
        else:
            p = rng.randint(first, len(trace.records))
        points.append(max(first, min(p, len(trace.records))))
    return sorted(points)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = parser.add_subparsers(dest="what", required=True)
    p = sub.add_parser("base")
    p.add_argument("root")
    p.add_argument("base")
    p = sub.add_parser("states")
    p.add_argument("base")
    p.add_argument("trace")
    p.add_argument("out")
    p.add_argument("--points", type=int, default=20)
    p.add_argument("--each", type=int, default=1)
    p.add_argument("--seed", default="1")
    a = parser.parse_args()
    if a.what == "base":
        Base.save(a.root, a.base)
        return 0
    trace = Trace(a.trace)
    disk = Disk(Base(a.base), trace)
    rng = random.Random(a.seed)
    os.makedirs(a.out, exist_ok=True)
    number = 0
    for point in points_of(trace, a.points, rng):
        disk.advance(point)
        for _ in range(a.each):
            number += 1
            kind = KINDS[number % len(KINDS)]
            disk.state(os.path.join(a.out, f"{number:06}"), f"{a.seed}:{number}", kind)
            offset = trace.records[point].at if point < len(trace.records) else trace.end
            print(number, offset, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
