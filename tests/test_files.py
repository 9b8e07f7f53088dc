import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from fedmeta import _files
from fedmeta.data import locate
from fedmeta.errors import DataError, RunError


@pytest.fixture
def nobody(monkeypatch):
    """A user without a home folder and without an entry in passwd, as `--user 12345` in a container."""

    def unknown(*_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "FEDMETA_CACHE", "FEDMETA_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


NOBODY = """
import pwd

def unknown(*_):
    raise KeyError("getpwuid(): uid not found")

pwd.getpwuid = unknown
import numpy as np
import fedmeta as fm
from fedmeta._engine import autotune
from fedmeta.cli.start import start
start()
autotune.remember("a" * 32, [autotune.Trial(fm.Plan(), 1.0, 2.0, 3)])
assert autotune.remembered("a" * 32) == []
x, y = np.arange(80.0).reshape(40, 2) % 7, np.arange(40) % 3
data = fm.data.from_arrays(x, y, np.repeat(list("abcd"), 10))
run = fm.train(fm.MAML(inner_lr=0.1), fm.models.mlp((2, 4, 3)), data, rounds=2)
print(np.isfinite([row["loss"] for row in run.rows]).all())
"""


def test_a_user_without_a_home_trains_and_leaves_nothing_in_the_working_folder(tmp_path):
    """In a process of its own, for what other tests have set stays set."""
    without = ("HOME", "FEDMETA_CACHE", "FEDMETA_DATA", "XDG_CACHE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run([sys.executable, "-c", NOBODY], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_is_told_how_to_keep_data():
    assert locate.folders() == []
    with pytest.raises(DataError, match="this user has no home folder; set FEDMETA_CACHE"):
        locate.cache()
    with pytest.raises(DataError, match="not found in FEDMETA_DATA, which is not set"):
        locate.need("mnist", ["file"])


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("FEDMETA_CACHE", "/somewhere")
    assert _files.cache_folder("plans") == Path("/somewhere/plans")
    monkeypatch.delenv("FEDMETA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert _files.cache_folder("plans") == Path("/caches/fedmeta/plans")


def test_a_path_that_cannot_be_is_an_error_of_its_own(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(RunError, match=r"cannot write .*file/below/it"):
        _files.write_atomically(tmp_path / "file" / "below" / "it", b"")
    assert (tmp_path / "file").read_text() == "here"


def test_writing_replaces_whole_files(tmp_path):
    for content in (b"long old content", b"new"):
        _files.write_atomically(tmp_path / "f", content)
        assert (tmp_path / "f").read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
