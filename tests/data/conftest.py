import json

import numpy as np
import pytest

import fedmeta as fm


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
