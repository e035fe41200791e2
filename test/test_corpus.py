"""Every message of the corpus comes in by SMTP and lies in the Maildir as the
table of doc/message-bytes.md says.  HATO_CORPUS names a directory that holds the
messages, or the archive; skipped where there is none."""
# covers: cleanup_replace_stray_cr_lf message_drop_headers
import concurrent.futures
import glob
import os
import re
import tarfile

import pytest

from hatotest import TOP, wait_for
from mx import Mx
from smtptalk import Talk, maildir, untraced

SESSIONS = 8


def corpus_dir():
    """The unpacked corpus, or None."""
    named = os.environ.get("HATO_CORPUS")
    if named and os.path.isdir(named):
        return named
    archive = named or os.path.join(TOP, "../shared/corpus/corpus.tar.xz")
    unpacked = os.path.join(TOP, "build/corpus")
    if not glob.glob(f"{unpacked}/**/INDEX.tsv", recursive=True):
        if not os.path.isfile(archive):
            return None
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked)
    return unpacked


def messages(top):
    """The paths that INDEX.tsv names, but for the published vectors."""
    (index,) = glob.glob(f"{top}/**/INDEX.tsv", recursive=True)
    paths = []
    with open(index, encoding="utf-8") as f:
        for line in f:
            path = os.path.join(os.path.dirname(index), line.split("\t")[0])
            if "/vectors/" not in path and os.path.isfile(path):
                paths.append(path)
    return sorted(paths)


def wire(raw):
    """The bytes as a client sends them: lines with CRLF, dots doubled."""
    text = re.sub(rb"(?<!\r)\n", b"\r\n", raw)
    if not text.endswith(b"\r\n"):
        text += b"\r\n"
    return re.sub(rb"(\A|\n)\.", rb"\1..", text)


def stored(raw):
    """The table's rows, as they apply to a message that came by DATA."""
    text = re.sub(rb"\r+\n", b"\n", re.sub(rb"(?<!\r)\n", b"\r\n", raw))
    # What wire() adds, as a last line without an end has none on the wire either.
    text = text.rstrip(b"\r") if text.endswith(b"\r") else text
    if not text.endswith(b"\n"):
        text += b"\n"
    if re.match(rb">?From ", text):
        text = b"Mailbox-Line: " + text
    elif text[:1] in b" \t":
        text = b"\n" + text
    return text


@pytest.mark.parametrize("raw, text", [
    (b"a: b\n\nx", b"a: b\n\nx\n"),
    (b"a: b\r\n\r\nx\r\n", b"a: b\n\nx\n"),
    (b"From x\na: b\n", b"Mailbox-Line: From x\na: b\n"),
    (b">From x\n", b"Mailbox-Line: >From x\n"),
    (b" folded\na: b\n", b"\n folded\na: b\n"),
    (b"a: b\n\nx\r\r\ny\rz\n", b"a: b\n\nx\ny\rz\n"),
    (b"a: b\n\n.\n..\n.x\n", b"a: b\n\n.\n..\n.x\n"),
    (b"a: b\n\n\0\xff\n", b"a: b\n\n\0\xff\n"),
    (b"a: b\n\n" + b"x" * 70000 + b"\n", b"a: b\n\n" + b"x" * 70000 + b"\n"),
    (b"no header at all\n", b"no header at all\n"),
])
def test_the_model(raw, text):
    assert stored(raw) == text


def send(h, numbered):
    with Talk(h, timeout=60) as t:
        t.hello()
        for i, raw in numbered:
            t.send(f"MAIL FROM:<s@example.net>\r\nRCPT TO:<tomo+{i}@example.com>\r\nDATA\r\n")
            assert [t.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
            t.send(wire(raw) + b".\r\n")
            answer = t.reply()
            assert answer.startswith("250"), (i, answer)


def check(where, raws):
    main = {"recipient_delimiter": "+", "cleanup_replace_stray_cr_lf": "no",
            "message_drop_headers": "", "hopcount_limit": "1000", "message_size_limit": "0"}
    with Mx(where, main=main) as h:
        parts = [list(enumerate(raws))[k::SESSIONS] for k in range(SESSIONS)]
        with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
            list(pool.map(lambda part: send(h, part), parts))
        box = h.box("tomo")
        assert wait_for(lambda: sum(len(os.listdir(f"{box}/{d}")) for d in ("new", "cur"))
                        >= len(raws), 60)
        found = {}
        for m in maildir(box):
            n = int(re.search(rb"^X-Original-To: tomo\+(\d+)@", m, re.M)[1])
            assert n not in found
            found[n] = untraced(m)
        assert len(found) == len(raws)
        return [i for i, raw in enumerate(raws) if found[i] != stored(raw)], found


def test_made_messages(where):
    raws = [b"a: b\n\nx", b"From x\na: b\n", b">From x\n", b" folded\na: b\n", b"\n\nx\n",
            b"a: b\n\nx\r\r\ny\rz\n", b"a: b\n\n.\n..\n.x\n", b"a: b\n\n\0\xff\n", b"\0\n",
            b"a: b\n\n" + b"x" * 300000 + b"\n", b"no header at all\n", b":\n", b"a\n b\n\nc\n",
            b"".join(b"X-%d: %s\n" % (i, b"y" * 900) for i in range(300)) + b"\nbody\n",
            b"a: b\n" + b" more\n" * 50000, b"\r\r\r\nx\n", b"a: b\r\n\r\nx\ry\r\n"]
    wrong, found = check(where, raws)
    assert not wrong, [(raws[i][:100], found[i][:200]) for i in wrong]


def test_corpus(where):
    top = corpus_dir()
    if top is None:
        pytest.skip("no corpus")
    paths = messages(top)
    assert len(paths) > 1000
    raws = []
    for path in paths:
        with open(path, "rb") as f:
            raws.append(f.read())
    wrong, _ = check(where, raws)
    assert not wrong, [paths[i] for i in wrong]
