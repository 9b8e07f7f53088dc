import hashlib
import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.data import fingerprint
from fedmeta.data.columns import Scaled, Taken, Windows
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.errors import DataError

STARTS, SIZES, IDS = np.array([0, 2, 6]), np.array([2, 4, 3]), np.array(["a", "bb", "c"])


def images():
    """Three clients with bytes that are read as 0 to 1."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 4, 4), dtype=np.uint8)
    info = Info("images", classes=("no", "yes"))
    return FederatedDataset(Scaled(pixels, 1 / 255), np.arange(9, dtype=np.int32) % 2, STARTS, SIZES, IDS, info)


def taken():
    """The images in the reverse order."""
    data, rows = images(), np.arange(9)[::-1]
    return replace(data, x=Taken(data.x, rows), y=Taken(data.y, rows))


def text():
    """Three clients with the next code after every three."""
    codes = np.random.default_rng(0).integers(0, 9, 18).astype(np.uint8)
    x, y = (Windows(codes, np.array([0, 2, 6, 9]), 3, successor) for successor in (False, True))
    return FederatedDataset(x, y, STARTS, SIZES, IDS, Info("text", characters="abcdefghi"))


@pytest.mark.parametrize("make", [images, taken, text])
def test_the_same_data_have_the_same_fingerprint(make):
    assert make().fingerprint == make().fingerprint
    assert len(make().fingerprint) == 16
    assert int(make().fingerprint, 16) >= 0
    assert make().fingerprint == replace(make(), info=replace(make().info, name="another")).fingerprint


@pytest.mark.parametrize("make", [images, taken])
def test_one_pixel_or_one_label_changes_the_fingerprint_of_its_client_only(make):
    for part in ("x", "y"):
        before, after = make(), make()
        column = getattr(after, part)
        while not isinstance(column, np.ndarray):
            column = column.base
        column[(3, 1, 1) if part == "x" else 3] += 1
        changed = [name for name in IDS if not np.array_equal(getattr(before[name], part), getattr(after[name], part))]
        assert changed == ["bb"]
        assert before.fingerprint != after.fingerprint
        for place, name in enumerate(IDS):
            same = before.select([place]).fingerprint == after.select([place]).fingerprint
            assert same == (name not in changed)


def test_one_code_of_a_text_changes_the_fingerprint_of_its_client_only():
    before, after = text(), text()
    after.x.codes[17] += 1
    after.y.codes[17] = after.x.codes[17]
    same = [before.select([place]).fingerprint == after.select([place]).fingerprint for place in range(3)]
    assert same == [True, True, False]


def test_clients_their_order_and_the_names_of_classes_count():
    data = images()
    kinds = [
        data,
        data.select([0, 1]),
        data.select([1, 0, 2]),
        replace(data, ids=np.array(["a", "bb", "d"])),
        replace(data, x=Scaled(np.asarray(images().x.base), 1.0)),
        replace(data, info=replace(data.info, classes=("no", "maybe"))),
        fm.data.keep_classes(data, 1),
        text(),
        replace(text(), x=Taken(text().x, np.arange(9)[::-1])),
    ]
    assert len({kind.fingerprint for kind in kinds}) == len(kinds)


def test_neighbours_do_not_count_and_neither_does_where_a_client_lies():
    one = fm.data.from_arrays(np.arange(4.0), [0, 1, 1, 0], ["m", "m", "z-long-name", "z-long-name"])
    two = fm.data.from_arrays(np.array([7.0, 7, 0, 1]), [1, 1, 0, 1], ["a", "a", "m", "m"])
    assert one.select([0]).fingerprint == two.select([1]).fingerprint


def test_digits_that_are_loaded_twice_are_the_same():
    assert fm.data.load("digits").fingerprint == fm.data.load("digits").fingerprint
    assert fm.data.load("digits").fingerprint != fm.data.load("digits", seed=1).fingerprint


def test_a_stored_data_set_counts_by_its_files(tmp_path):
    fm.data.save(images(), tmp_path / "set")
    opened = fm.data.open(tmp_path / "set")
    assert opened.fingerprint == fm.data.open(tmp_path / "set").fingerprint
    assert opened.select([0]).fingerprint != opened.select([1]).fingerprint
    os.utime(tmp_path / "set" / "x.npy", ns=(0, 1))
    assert opened.fingerprint != fm.data.open(tmp_path / "set").fingerprint
    (tmp_path / "set" / "y.npy").unlink()
    with pytest.raises(DataError, match=r"y\.npy is gone"):
        _ = replace(opened).fingerprint


def test_a_file_counts_the_same_whether_it_is_mapped_or_read(tmp_path):
    fm.data.save(replace(images(), x=np.arange(9.0)), tmp_path / "set")
    opened = fm.data.open(tmp_path / "set")
    mapped = {part: np.load(tmp_path / "set" / f"{part}.npy", mmap_mode="r") for part in "xy"}
    assert opened.fingerprint == replace(opened, **mapped).fingerprint


def test_names_are_one_list_however_many_are_taken_at_a_time(monkeypatch):
    whole = images().fingerprint
    for number in (1, 2, 3):
        monkeypatch.setattr(fingerprint, "NAMES", number)
        assert images().fingerprint == whole
    said = json.dumps([IDS.tolist(), [["no", "yes"], None, None]]).encode() + b"\n"
    kinds = [("scaled", 1 / 255), ("array", "|u1", (4, 4)), ("array", "<i4", ())]
    scaled, x, y = (json.dumps(kind).encode() + b"\n" for kind in kinds)
    content = said + SIZES.tobytes() + scaled + x + images().x.base.tobytes() + y + images().y.tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == whole


def test_a_mapped_column_is_not_read(tmp_path):
    rows = 32_000_000
    try:
        x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, 784))
    except OSError:
        pytest.skip("the file system allows no sparse file of this size")
    assert x.nbytes > 100 * 10**9
    y = np.zeros(rows // 1000, np.int32)
    begin = time.perf_counter()
    views = [x, np.asarray(x), x[1:], Scaled(x, 0.5), Taken(x, np.arange(len(y)))]
    prints = {
        FederatedDataset(view, y, np.array([0]), np.array([len(y)]), np.array(["only"])).fingerprint for view in views
    }
    assert time.perf_counter() - begin < 5
    assert len(prints) >= 4
