"""Hato sends as Debian's Postfix does: the same mail of both into the same test
internet (sidebyside.py), and no recipient fares otherwise."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

import postfixpeer
import sidebyside
from hatotest import TOP


@pytest.fixture(scope="module")
def results():
    postfixpeer.need()
    if not os.path.exists("/usr/sbin/nsd"):
        pytest.skip("no nsd")
    # pytest's own directories are closed to the servers' users
    where = tempfile.mkdtemp(prefix="hato-sbs-")
    os.chmod(where, 0o755)
    p = subprocess.run(["unshare", "-n", "-m", sys.executable,
                        os.path.join(TOP, "test", "sidebyside.py"), where],
                       capture_output=True, text=True, timeout=400, check=False)
    path = os.path.join(where, "result.json")
    assert os.path.exists(path), p.stdout + p.stderr
    with open(path, encoding="utf-8") as f:
        yield json.load(f)
    shutil.rmtree(where, ignore_errors=True)


@pytest.mark.parametrize("case", sidebyside.cases())
def test_outcome(results, case):
    """Sent, deferred or bounced, with the same enhanced status, at the same host."""
    rcpt = sidebyside.cases()[case][0].replace('"', "")
    theirs, ours = results["postfix"], results["hato"]
    assert ours["outcomes"].get(rcpt) == theirs["outcomes"][rcpt]
    assert ours["at"].get(rcpt) == theirs["at"].get(rcpt)
    assert ours["bodies"].get(rcpt) == theirs["bodies"].get(rcpt)
    assert ours["said"].get(rcpt) == theirs["said"].get(rcpt)


def fields(report):
    kind = report.pop("type")
    return {**report, "type": "x" if kind.lower().startswith("x-") else kind}


def test_reports(results):
    """The same reports, with the same fields."""
    theirs, ours = ({k: fields(v) for k, v in results[who]["reports"].items()}
                    for who in ("postfix", "hato"))
    assert ours == theirs
