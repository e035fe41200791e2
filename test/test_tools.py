"""The scripts in tools/ find what they are there to find."""
import os
import shutil
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MESON = "rooms = ['base', 'rt', 'mail', 'smtp']\n"
DESIGN = """# 7
```
src/
  base/      bytes
  rt/        tasks
  mail/      what a message is
  smtp/      server/ and client/
web/ conf/
```
"""


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(os.path.join(TOP, "tools"), tmp_path / "tools")
    (tmp_path / "doc").mkdir()
    (tmp_path / "doc/design.md").write_text(DESIGN)
    (tmp_path / "meson.build").write_text(MESON)
    for room in ("base", "rt", "mail", "smtp"):
        (tmp_path / "src" / room).mkdir(parents=True)
    put(tmp_path, "src/base/base.h", "#define MAY_WAIT\n")
    put(tmp_path, "src/rt/rt.h", '#include "base/base.h"\n/* waits */\n'
        "MAY_WAIT int task_sleep(int ms);\n")
    return tmp_path


def put(tree, path, text):
    (tree / path).write_text(text)


def run(tree, tool, *args):
    p = subprocess.run([str(tree / "tools" / tool), *args], capture_output=True, text=True,
                       cwd="/", check=False)
    assert p.returncode in (0, 1), p.stderr
    assert (p.returncode == 0) == (p.stdout == ""), p.stdout + p.stderr
    return p.stdout


def test_clean_tree(tree):
    put(tree, "src/smtp/a.c", '#include "rt/rt.h"\n/* atoi(1) // */\n'
        'const char *f(void) { return "http://x strcpy(a)"; }\n')
    assert run(tree, "check-rooms") == ""
    assert run(tree, "check-waits") == ""


@pytest.mark.parametrize("path, text, want", [
    ("src/rt/a.c", '#include "smtp/x.h"\n', 'src/rt/a.c:1: "smtp/x.h": smtp stands after rt'),
    ("src/smtp/a.c", '\n#include "rt/rt_priv.h"\n', "src/smtp/a.c:2: \"rt/rt_priv.h\" is private"),
    ("src/mail/a.c", '#  include "rt/rt.h"\n', "this file is pure and may not use rt"),
    ("src/smtp/a.c", "#include <uv.h>\n", "<uv.h> is for rt only"),
    ("src/smtp/a.c", "#include <openssl/ssl.h>\n", "is for base and rt only"),
    ("src/rt/a.c", "int f(void)\n{\n    return atoi (\"1\");\n}\n",
     "src/rt/a.c:3: atoi() is forbidden"),
    ("src/rt/a.c", "int i; // why\n", "src/rt/a.c:1: a `//` comment"),
    ("src/rt/a.c", "/* TO" "DO */\n", "left"),
    ("src/rt/a.c", "\n" * 1001, "src/rt/a.c:1001: 1001 lines"),
    ("src/rt/a.h", "size_t n;\n", "src/rt/a.h:1: does not compile alone"),
    ("doc/design.md", DESIGN.replace("rt/ ", "xx/ "), "room rt of meson.build is not in"),
    ("doc/design.md", DESIGN.replace("rt/ ", "yy/ ").replace("mail/ ", "rt/ ")
     .replace("yy/ ", "mail/ "), "the rooms stand as base mail rt smtp"),
])
def test_findings(tree, path, text, want):
    put(tree, path, text)
    out = run(tree, "check-rooms")
    assert want in out
    assert out.count("\n") == 1, out


def test_room_that_nobody_knows(tree):
    (tree / "src/extra").mkdir()
    put(tree, "src/extra/a.c", "int a;\n")
    assert "src/extra:1: is no room" in run(tree, "check-rooms")


def test_wrapped_call_and_member(tree):
    put(tree, "src/rt/a.c", "int g(struct x *x)\n{\n    return x->signal(1) + x->o.sleep(2);\n}\n")
    assert run(tree, "check-rooms") == ""
    put(tree, "src/rt/b.c", "int g(void)\n{\n    return getaddrinfo(1);\n}\n")
    assert "getaddrinfo() is forbidden" in run(tree, "check-rooms")
    with open(tree / "tools/rules", "a", encoding="utf-8") as f:
        f.write("wraps getaddrinfo src/rt/b.c\n")
    assert run(tree, "check-rooms") == ""


CALLER = '#include "rt/rt.h"\n%s int g(void)\n{\n    if (1)\n        return %s;\n    return 0;\n}\n'


@pytest.mark.parametrize("mark, body, finds", [
    ("static", "task_sleep(1)", True),
    ("MAY_WAIT static", "task_sleep(1)", False),
    ("static MAY_WAIT", "task_sleep(1)", False),
    ("static", "o->task_sleep(1)", False),
    ("static", "task_sleep", False),
])
def test_waits(tree, mark, body, finds):
    put(tree, "src/smtp/a.c", CALLER % (mark, body))
    out = run(tree, "check-waits")
    assert (out == "src/smtp/a.c:2: g() calls task_sleep(), which may wait, and is not "
            "MAY_WAIT itself\n") == finds


def test_waits_through_static_and_cleanup(tree):
    put(tree, "src/smtp/a.c", "MAY_WAIT static int f(int a);\nstatic int f(int a)\n{\n"
        "    return a;\n}\nint g(void)\n{\n    return f(1);\n}\n"
        "void h(void)\n{\n    int fd CLEANUP(f) = 1;\n}\n")
    out = run(tree, "check-waits")
    assert "a.c:6: g() calls f()" in out
    assert "a.c:10: h() calls f()" in out
    assert out.count("\n") == 2


def test_format(tree):
    if shutil.which("clang-format") is None:
        pytest.skip("no clang-format")
    shutil.copy(os.path.join(TOP, ".clang-format"), tree)
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    put(tree, "src/mail/good.c", "int f(void);\n")
    assert run(tree, "check-format") == ""
    put(tree, "src/mail/bad.c", "int f( void ) ;\n")
    assert run(tree, "check-format").startswith("src/mail/bad.c:1:")


# ---- tools/install-deps

def install_deps(tmp_path, uid, has_apt):
    """Where no package is installed: `dpkg-query` knows none, `id -u` says uid."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    stubs = {"dpkg-query": "exit 1", "id": f"echo {uid}"}
    if has_apt:
        stubs["apt-get"] = f"echo \"$@\" >>{tmp_path}/apt.log"
    for name, body in stubs.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    (bin_ / "grep").symlink_to(shutil.which("grep"))
    return subprocess.run(["/bin/sh", os.path.join(TOP, "tools/install-deps"), "test"],
                          env={"PATH": str(bin_)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("uid,has_apt,text", [
    (1000, True, "Missing packages: gcc make meson"),
    (0, False, "Hato needs what Debian 12 calls: gcc make meson"),
])
def test_missing_packages_are_listed(tmp_path, uid, has_apt, text):
    p = install_deps(tmp_path, uid, has_apt)
    assert p.returncode == 1
    assert text in p.stderr and "valgrind" in p.stderr
    assert not (tmp_path / "apt.log").exists()


def test_root_gets_the_missing_packages(tmp_path):
    p = install_deps(tmp_path, 0, True)
    assert (p.returncode, p.stderr) == (0, "")
    said = (tmp_path / "apt.log").read_text()
    assert said.startswith("install -y --no-install-recommends gcc make meson")
