import os
import stat

import pytest

from fedmeta.govern.engines import disk


def test_a_new_file_is_whole_and_has_its_mode(tmp_path):
    path = tmp_path / "new"
    disk.write_new(path, b"content", 0o600)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_is_never_written_over(tmp_path):
    path = tmp_path / "there"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        disk.write_new(path, b"new", 0o600)
    assert path.read_bytes() == b"old"


def test_half_a_file_is_taken_away_again(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        disk.write_new(tmp_path / "half", b"content", 0o600)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_and_what_is_none_is_refused_without_waiting_for_a_writer(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert disk.read_file(tmp_path / "file") == b"content"
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("pipe", "not a regular file"), ("absent", "No such file"), ("", "Is a directory")):
        with pytest.raises(OSError, match=says) as caught:
            disk.read_file(tmp_path / name)
        assert os.fspath(caught.value.filename) == str(tmp_path / name)
