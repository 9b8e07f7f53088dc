import json
import os
from pathlib import Path

import numpy as np
import pytest

import fedmeta as fm

BESIDE = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def real_data(monkeypatch):
    """Ask for a source's real files; the test is skipped, with the reason, where they are absent."""
    if "FEDMETA_DATA" not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv("FEDMETA_DATA", str(BESIDE))

    def need(name):
        if not fm.data.source(name).present:
            pytest.skip(f"the files of {name} are absent: set FEDMETA_DATA or run `fedmeta data get {name}`")

    return need


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """No files anywhere: an empty FEDMETA_CACHE and no FEDMETA_DATA."""
    monkeypatch.delenv("FEDMETA_DATA", raising=False)
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def small():
    """Twelve examples with three classes of three clients."""
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    return fm.data.from_arrays(x, np.arange(12) % 3, np.repeat(["b", "a", "c"], [3, 5, 4]))


@pytest.fixture
def write_json():
    def write(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return write
