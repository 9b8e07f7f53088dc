import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import in_soak

import fedmeta as fm
from fedmeta.data.columns import Scaled, Windows
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.storage import Block, write_blocks
from fedmeta.errors import DataError, UsageError


def images():
    """Three clients with bytes read as 0 to 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4), dtype=np.uint8)
    starts, sizes = np.array([0, 2, 6]), np.array([2, 4, 3])
    info = Info("images", classes=("no", "yes"), features=("one",))
    ids = np.array(["a", "bb", "c"])
    return FederatedDataset(Scaled(pixels, 1 / 255), np.arange(9, dtype=np.int32) % 2, starts, sizes, ids, info)


def text():
    """Three clients with the next code after every three."""
    codes = np.random.default_rng(0).integers(0, 9, 30).astype(np.uint8)
    offsets = np.array([0, 5, 12, 21])
    x, y = (Windows(codes, offsets, 3, successor) for successor in (False, True))
    info = Info("text", characters="abcdefghi", classes=tuple("abcdefghi"))
    return FederatedDataset(x, y, offsets[:-1], np.diff(offsets), np.array(["k", "l", "m"]), info)


def assert_same(one, other):
    assert one.client_ids == other.client_ids
    assert one.info == other.info
    for name in one.client_ids:
        for part in ("x", "y"):
            a, b = getattr(one[name], part), getattr(other[name], part)
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize("make", [images, text])
def test_what_is_opened_is_what_was_saved(make, tmp_path):
    data = make()
    fm.data.save(data, tmp_path / "set")
    assert_same(fm.data.open(tmp_path / "set"), data)


@pytest.mark.parametrize("make", [images, text])
@pytest.mark.parametrize("places", [[1], [2, 0]])
def test_only_the_clients_own_examples_are_stored(make, places, tmp_path):
    part = make().select(places)
    fm.data.save(part, tmp_path / "part")
    opened = fm.data.open(tmp_path / "part")
    assert_same(opened, part)
    assert len(opened.x.shape) == len(part.x.shape)
    assert opened.x.shape[0] == part.num_examples


def test_kept_classes_can_be_stored(tmp_path):
    data = fm.data.keep_classes(images(), 1)
    fm.data.save(data, tmp_path / "kept")
    assert_same(fm.data.open(tmp_path / "kept"), data)


def test_text_is_stored_once_and_stays_windows(tmp_path):
    fm.data.save(text(), tmp_path / "set")
    opened = fm.data.open(tmp_path / "set")
    assert isinstance(opened.x, Windows)
    assert sorted(path.name for path in (tmp_path / "set").glob("*codes*")) == ["x_codes.npy"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("precious")
    for store in (
        lambda: fm.data.save(images(), tmp_path / "set"),
        lambda: fm.data.write(tmp_path / "set", []),
    ):
        with pytest.raises(UsageError, match="exists already"):
            store()
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "mine"]


def test_a_failed_write_leaves_nothing(tmp_path):
    def clients():
        yield "a", np.ones((2, 3)), [0, 1]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        fm.data.write(tmp_path / "set", clients())
    assert list(tmp_path.iterdir()) == []


def test_clients_are_written_one_after_the_other(tmp_path):
    generator = np.random.default_rng(1)
    clients = {f"client {n}": (generator.random((n + 1, 2)), np.arange(n + 1) % 3) for n in range(20)}
    data = fm.data.write(tmp_path / "set", ((name, *pair) for name, pair in clients.items()), Info("streamed"))
    assert data.client_ids == list(clients)
    assert data.info.classes == ("0", "1", "2")
    for name, (x, y) in clients.items():
        np.testing.assert_array_equal(data[name].x, x.astype(np.float32))
        np.testing.assert_array_equal(data[name].y, y)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.sets(st.integers(1, 11)), st.integers(0, 9))
def test_blocks_of_clients_are_stored_as_the_clients_one_by_one(sizes, cuts, seed):
    generator = np.random.default_rng(seed)
    x, y = generator.random((sum(sizes), 2)), generator.integers(0, 3, sum(sizes))
    names, ends = [f"client {place}" for place in range(len(sizes))], np.cumsum([0, *sizes])
    single = [(name, x[a:b], y[a:b]) for name, (a, b) in zip(names, pairwise(ends), strict=True)]
    bounds = [0, *sorted(cut for cut in cuts if cut < len(sizes)), len(sizes)]
    blocks = [
        Block(names[a:b], x[ends[a] : ends[b]], y[ends[a] : ends[b]], np.array(sizes[a:b])) for a, b in pairwise(bounds)
    ]
    with TemporaryDirectory() as folder:
        fm.data.write(f"{folder}/one", single, Info(classes=("a", "b", "c")))
        write_blocks(f"{folder}/other", blocks, Info(classes=("a", "b", "c")))
        contents = [
            {path.name: path.read_bytes() for path in Path(folder, kind).iterdir()} for kind in ("one", "other")
        ]
        assert contents[0] == contents[1]


NAMES, SIZES = ["a", "b", "c"], np.array([2, 1, 2])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block(["a", "b", "a"], np.ones((5, 1)), np.zeros(5, int), SIZES), "client 'a' comes twice"),
        (Block(NAMES, np.ones((4, 1)), np.zeros(5, int), SIZES), r"clients of the sizes \[2, 1, 2\] have 4 x and 5 y"),
        (Block(NAMES, np.ones((4, 1)), np.zeros(4, int), SIZES), r"clients of the sizes \[2, 1, 2\] have 4 x and 4 y"),
        (Block(NAMES, np.ones((5, 1)), np.array([0, 1, 9, 0, 1]), SIZES), "client 'b' has the label 9"),
        (Block(NAMES, np.ones((5, 1)), np.array([0, 1, 1, -1, 1]), SIZES), "client 'c' has the label -1"),
        (
            Block(NAMES, np.array([[1], [1], [1], [np.nan], [np.inf]]), np.zeros(5, int), SIZES),
            "x of client 'c' holds 2",
        ),
        (Block(NAMES, np.array([[1], [2**40], [1], [1], [1]]), np.zeros(5, int), SIZES), "x of client 'a' holds 1099"),
    ],
)
def test_the_client_in_a_block_that_cannot_be_stored_is_named(tmp_path, block, message):
    with pytest.raises(DataError, match=message):
        write_blocks(tmp_path / "set", [block], Info(classes=("no", "yes")))
    assert list(tmp_path.iterdir()) == []


def test_bytes_can_be_written_to_be_read_scaled(tmp_path):
    data = fm.data.write(tmp_path / "set", [("a", np.array([[0], [255]], np.uint8), [0, 1])], scale=1 / 255)
    np.testing.assert_allclose(data["a"].x, [[0], [1]])


def test_names_in_bytes_are_written_as_the_text_that_they_are(tmp_path):
    data = fm.data.write(tmp_path / "set", [("f\u00e9".encode(), np.ones((2, 1)), [0, 1])])
    assert data.client_ids == ["f\u00e9"]


@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "f4", "f8"])
def test_numbers_of_either_byte_order_are_stored_alike(tmp_path, kind):
    contents = []
    for order in "<>":
        x, y = np.arange(300, 306).reshape(3, 2).astype(order + kind), np.array([0, 1, 0], order + "i2")
        fm.data.write(tmp_path / f"written{order}", [("a", x, y)])
        columns = FederatedDataset(x, y, np.array([0]), np.array([3]), np.array(["a"]))
        fm.data.save(columns, tmp_path / f"saved{order}")
        for how in ("written", "saved"):
            opened = fm.data.open(tmp_path / f"{how}{order}")
            assert opened["a"].x.tolist() == x.tolist()
            assert opened["a"].x.dtype.isnative
            contents.append((how, (tmp_path / f"{how}{order}" / "x.npy").read_bytes()))
    assert len(set(contents)) == 2


def test_a_stored_column_of_another_byte_order_trains(tmp_path):
    phi = []
    for order in "<>":
        folder = tmp_path / order
        fm.data.write(folder, [(name, np.zeros((4, 1), "i2"), [0.5, 1.0, 2.0, 3.0]) for name in "ab"])
        np.save(folder / "x.npy", np.arange(8).reshape(8, 1).astype(order + "i2"))
        assert np.load(folder / "x.npy").dtype.isnative == (order == "<")
        model = fm.Model(lambda key: jnp.zeros(1), lambda w, x: x.astype(jnp.float32) @ w, fm.losses.squared_error)
        phi.append(fm.train(fm.Reptile(inner_lr=0.01), model, fm.data.open(folder), rounds=1, cohort_size=2).state.phi)
    assert phi[0] == phi[1]
    assert phi[0] != 0


def test_floats_written_as_targets_are_regression(tmp_path):
    data = fm.data.write(tmp_path / "set", [("a", np.ones((2, 1)), [0.5, 1.0])])
    assert data.num_classes is None


ONE = ("a", np.ones((2, 1)), [0, 1])


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([], "no client"),
        ([ONE, ONE], "client 'a' comes twice"),
        ([("", *ONE[1:])], "no name"),
        ([("  ", *ONE[1:])], "no name, but '  '"),
        ([("a\0", *ONE[1:])], "no name"),
        ([ONE, (b"a", *ONE[1:])], "client 'a' comes twice"),
        ([(b"\xff", *ONE[1:])], r"name b'\\xff', which is no text in UTF-8"),
        ([(1, *ONE[1:])], "name 1; names are text, here '1'"),
        ([("a", np.ones((2, 1), complex), [0, 1])], "x of client 'a' is not an array of numbers, but complex128"),
        ([("a", np.ma.array(np.ones((2, 1)), mask=[[0], [1]]), [0, 1])], "x of client 'a' holds 1 masked"),
        ([("a", [[1.0], [1.0, 2.0]], [0, 1])], "x of client 'a' is not an array"),
        ([("a", np.ones((3, 1)), [0, 1])], "'a' has 3 x and 2 y"),
        ([ONE, ("b", np.ones((2, 2)), [0, 1])], r"x of client 'b' has rows of float32 \[2\]"),
        ([ONE, ("b", np.ones((2, 1)), [0.5, 1])], "y of client 'b'"),
        ([ONE, ("b", np.full((2, 1), np.nan), [0, 1])], "x of client 'b' holds 2 values"),
        ([("a", np.ones((2, 1)), [0, 9])], "client 'a' has the label 9"),
        ([("a", np.ones((2, 1)), [0, -1])], "client 'a' has the label -1"),
        ([("a", np.array([[2**32 + 5], [0]]), [0, 1])], "x of client 'a' holds 4294967301, which is beyond 32 bits"),
        ([("a", np.array([[-(2**40)], [0]]), [0, 1])], "x of client 'a' holds -1099511627776"),
        ([("a", np.array([[2**63], [0]], np.uint64), [0, 1])], "x of client 'a' holds 9223372036854775808"),
        ([ONE, ("b", np.ones((2, 1)), [0, 2**32])], "y of client 'b' holds 4294967296, which is beyond 32 bits"),
        ([("a", np.array([{}, {}]), [0, 1])], "not an array of numbers"),
    ],
)
def test_clients_that_cannot_be_stored_are_named(tmp_path, clients, message):
    with pytest.raises(DataError, match=message):
        fm.data.write(tmp_path / "set", clients, Info(classes=("no", "yes")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["x.npy", "y.npy", "ids.npy", "sizes.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "missing", "empty"])
def test_a_damaged_file_is_named(tmp_path, file, damage):
    fm.data.save(images(), tmp_path / "set")
    path = tmp_path / "set" / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-3], "garbage": b"\x00rubbish" * 30, "empty": b""}[damage])
    with pytest.raises(DataError, match=file.replace(".", r"\.")):
        fm.data.open(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"x": {"kind": "pickle", "file": "x.npy"}}, "unknown kind 'pickle'"),
        ({"x": {"kind": "array", "file": "../x.npy"}}, "not in its folder"),
        ({"x": {"kind": "array"}}, "damaged"),
        ({"info": {"colour": "red"}}, "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(tmp_path, change, message):
    fm.data.save(images(), tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        fm.data.open(tmp_path / "set")


def test_objects_are_never_read(tmp_path):
    fm.data.save(images(), tmp_path / "set")
    np.save(tmp_path / "set" / "y.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"y\.npy is damaged"):
        fm.data.open(tmp_path / "set")


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(DataError):
            fm.data.open(folder)


def test_a_data_set_without_a_client_is_not_stored(tmp_path):
    with pytest.raises(UsageError, match="no client"):
        fm.data.save(images().select([]), tmp_path / "set")


def sparse(path, shape, dtype):
    """Make a `.npy` file that holds nothing but holes, so that it takes no space."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        except OSError:
            pytest.skip("the file system allows no sparse file of this size")


@pytest.fixture
def huge(tmp_path):
    """A million clients of 32 images: 100 GB if they were written out."""
    clients, each = 1_000_000, 32
    sparse(tmp_path / "x.npy", (clients * each, 28, 28, 1), "f4")
    sparse(tmp_path / "y.npy", (clients * each,), "i4")
    np.save(tmp_path / "sizes.npy", np.full(clients, each))
    np.save(tmp_path / "ids.npy", np.char.mod("%07d", np.arange(clients)))
    parts = {part: {"kind": "array", "file": f"{part}.npy"} for part in ("x", "y")}
    manifest = {"version": 1, "info": {"name": "huge", "classes": ["0", "1"]}, **parts}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    assert (tmp_path / "x.npy").stat().st_size > 100 * 10**9
    return tmp_path


def test_a_million_clients_larger_than_memory_open_at_once_and_give_one_client(huge):
    data = fm.data.open(huge)
    train, test = data.split_clients((0.9, 0.1))
    task = train.task_at(123_456, 0.25)
    assert (data.num_clients, data.num_examples) == (1_000_000, 32_000_000)
    assert isinstance(data.ids, np.memmap)
    assert (len(task.support), len(task.query), test.num_clients) == (8, 24, 100_000)
    assert data.position("0765432") == 765_432


def resident():
    """The memory of this process in bytes, pages of mapped files included."""
    said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(said["VmRSS"].split()[0]) * 1024


@in_soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process holds")
def test_memory_does_not_grow_with_the_clients_that_were_drawn(huge):
    data = fm.data.open(huge)
    places = np.random.default_rng(0).integers(0, data.num_clients, 1500).tolist()
    for place in places[:100]:
        data.task_at(place)
    before = resident()
    read = sum(task.support.x.nbytes + task.query.x.nbytes for task in map(data.task_at, places))
    assert read > 150 * 10**6
    assert resident() - before < read / 5
