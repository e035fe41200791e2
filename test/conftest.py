"""What all system tests share."""
import os
import pathlib
import shutil
import tempfile

import pytest


def directory():
    """One that an ordinary user can reach, with a short name.  pytest's own are
    closed to other users each time another pytest begins."""
    path = tempfile.mkdtemp(prefix="hato-")
    os.chmod(path, 0o755)
    return pathlib.Path(path)


@pytest.fixture(name="where")
def fixture_where():
    path = directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(name="shared_where", scope="module")
def fixture_shared_where():
    """The same for a Hato that a whole file's tests use."""
    path = directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)
