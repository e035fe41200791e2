"""What all system tests share."""
import os

import pytest


def reachable(path):
    """Opens the directories above `path` to the users that Hato runs as."""
    for d in [path, *path.parents][:3]:
        os.chmod(d, 0o755)
    return path


@pytest.fixture(name="where")
def fixture_where(tmp_path_factory):
    """A directory that an ordinary user can reach, with a short name."""
    return reachable(tmp_path_factory.mktemp("h"))


@pytest.fixture(name="shared_where", scope="module")
def fixture_shared_where(tmp_path_factory):
    """The same for a Hato that a whole file's tests use."""
    return reachable(tmp_path_factory.mktemp("h"))
