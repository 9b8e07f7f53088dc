import pwd
from pathlib import Path

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import _files
from fedmeta._engine import autotune
from fedmeta._engine.plan import Plan
from fedmeta.cli.start import start
from fedmeta.data import locate
from fedmeta.errors import DataError, RunError
from tests import toys


@pytest.fixture
def nobody(monkeypatch):
    """A user without a home folder and without an entry in passwd, as `--user 12345` in a container."""

    def unknown(*_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "FEDMETA_CACHE", "FEDMETA_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_trains_and_leaves_nothing_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.devices()  # so that the number of devices stays as it is for other tests
    start()
    autotune.remember("a" * 32, [autotune.Trial(Plan(), 1.0, 2.0, 3)])
    assert autotune.remembered("a" * 32) == []
    run = fm.train(fm.MAML(inner_lr=0.1), toys.network(), toys.classification(), rounds=2)
    assert np.isfinite(run.history["loss"].to_numpy()).all()
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
