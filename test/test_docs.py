"""What the documentation names is there: files, links, and the tests of doc/status.md."""
import glob
import os
import re

import pytest
from hatotest import TOP

PAGES = sorted(os.path.relpath(p, TOP)
               for pattern in ("*.md", "doc/*.md", "packaging/*.md")
               for p in glob.glob(os.path.join(TOP, pattern)))


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    base = os.path.dirname(os.path.join(TOP, page))
    for link in re.findall(r"\]\(([^)#:\s]+)\)", read(page)):
        assert os.path.exists(os.path.join(base, link)), link


@pytest.mark.parametrize("page", ["README.md", "README.ja.md", "doc/status.md"])
def test_named_files_are_there(page):
    for name in re.findall(r"`((?:src|doc|tools|test|bench|conf|man|packaging)/[\w./-]+)`",
                           read(page)):
        assert os.path.exists(os.path.join(TOP, name)), name


def test_named_tests_are_there():
    for name in re.findall(r"`(test_[\w.:]+)`", read("doc/status.md")):
        path, _, function = name.partition("::")
        text = read(os.path.join("test", path))
        assert f"def {function}" in text, name


def test_every_fuzzer_has_its_line():
    files = {os.path.relpath(p, TOP)
             for p in glob.glob(os.path.join(TOP, "src/**/fuzz_*.c"), recursive=True)}
    assert set(re.findall(r"`(src/[\w/]*/fuzz_\w+\.c)`", read("doc/fuzzing.md"))) == files


def test_every_row_has_its_state():
    text = read("doc/status.md")
    rows = [f"M{i}" for i in range(1, 19)] + [f"S{i}" for i in range(1, 15)] + \
           [f"H{i}" for i in range(1, 7)] + ["T1", "F1", "F2", "F3", "W1", "W2", "W3", "L1", "A1"]
    for row in rows:
        assert re.search(rf"^\|[^|]*\b{row} ", text, re.M), row


def test_both_readmes_say_the_same():
    """The same sections, commands, and links."""
    def shape(path):
        text = read(path)
        commands = re.findall(r"^```\n(.*?)^```", text, re.S | re.M)
        return (len(re.findall(r"^## ", text, re.M)),
                [re.sub(r"#.*", "", c) for c in commands],
                set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.ja.md"})
    assert shape("README.md") == shape("README.ja.md")
