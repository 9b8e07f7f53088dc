import gc
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.data import columns
from fedmeta.data.columns import Column, Scaled, Stored, Taken, Windows, read
from fedmeta.errors import DataError

sequences = st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=12), min_size=1, max_size=5)


@given(sequences, st.integers(1, 3))
def test_windows_are_what_slicing_each_sequence_gives(clients, length):
    codes = np.concatenate(clients).astype(np.uint8)
    offsets = np.cumsum([0, *(len(part) - length for part in clients)])
    x, y = (Windows(codes, offsets, length, successor) for successor in (False, True))
    expected = [part[i : i + length] for part in clients for i in range(len(part) - length)]
    following = [code for part in clients for code in part[length:]]
    np.testing.assert_array_equal(x[:], np.reshape(expected, (-1, length)))
    np.testing.assert_array_equal(y[:], following)
    rows = np.arange(len(following))[::-2]
    np.testing.assert_array_equal(x[rows], x[:][rows])
    assert x.shape == x[:].shape
    assert y.shape == y[:].shape


def test_scaled_pixels_are_read_between_0_and_1():
    column = Scaled(np.array([[0, 51], [255, 102]], np.uint8), 1 / 255)
    np.testing.assert_allclose(column[:], [[0, 0.2], [1, 0.4]], rtol=1e-6)
    assert column[0:1].dtype == np.float32


def test_taken_rows_are_read_in_their_order():
    column = Taken(np.arange(10) * 10, np.array([7, 2, 2]))
    assert column[:].tolist() == [70, 20, 20]
    assert column[np.array([1, 0])].tolist() == [20, 70]
    assert column.shape == (3,)


def store(path, array):
    np.save(path / "column.npy", array)
    return Stored(path / "column.npy")


def test_arrays_and_views_are_columns(tmp_path):
    base = np.zeros((3, 2))
    views = (Scaled(base, 1.0), Taken(base, np.arange(2)), store(tmp_path, base))
    assert all(isinstance(column, Column) for column in (base, *views))


bounds = st.one_of(st.none(), st.integers(-25, 25))
indices = st.lists(st.lists(st.integers(0, 19), min_size=3, max_size=3), max_size=4)


@pytest.mark.parametrize("array", [np.arange(20.0), np.arange(120, dtype=np.int16).reshape(20, 2, 3)])
@pytest.mark.parametrize("gap", [0, 8, 1 << 14])
def test_what_is_read_of_a_file_is_what_indexing_its_array_gives(tmp_path, monkeypatch, array, gap):
    """Rows that lie far apart are read one by one, others at once: the result is the same."""
    monkeypatch.setattr(columns, "GAP", gap)
    column = store(tmp_path, array)

    @given(st.slices(20), bounds, bounds, indices)
    def check(part, begin, end, places):
        several = np.array(places, int).reshape(-1, 3)
        for rows in (part, slice(begin, end), several, several.ravel(), np.array([19, 0])):
            found = column[rows]
            np.testing.assert_array_equal(found, array[rows])
            assert (found.shape, found.dtype) == (array[rows].shape, array.dtype)

    check()


@pytest.mark.parametrize("rows", [[-1], [0, 20], np.array([[3], [20]])])
def test_rows_that_a_file_does_not_have_are_refused(tmp_path, rows):
    with pytest.raises(IndexError, match="the 20 of"):
        store(tmp_path, np.zeros((20, 2)))[rows]


def test_a_file_that_is_cut_short_while_it_is_used_is_named(tmp_path):
    column = store(tmp_path, np.zeros((20, 2)))
    os.truncate(column.path, 200)
    with pytest.raises(DataError, match=r"column\.npy was cut short"):
        column[:]


@pytest.mark.parametrize("array", [np.asfortranarray(np.ones((3, 2))), np.array(1.0)])
def test_a_file_that_does_not_hold_rows_is_refused(tmp_path, array):
    with pytest.raises(DataError, match=r"column\.npy is damaged"):
        store(tmp_path, array)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_a_column_that_is_gone_leaves_no_file_open(tmp_path):
    def is_open(path):
        return any(link.is_symlink() and link.resolve() == path for link in Path("/proc/self/fd").iterdir())

    column = store(tmp_path, np.ones(3))
    path = column.path.resolve()
    assert is_open(path)
    del column
    gc.collect()
    assert not is_open(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "f2", "f4", "f8"])
def test_what_is_read_is_in_the_byte_order_of_the_machine(tmp_path, order, kind):
    array = (np.arange(6).reshape(3, 2) * 100).astype(order + kind)
    for column in (array, store(tmp_path, array), Taken(array, np.arange(3))):
        found = read({"a": (column,)}, np.array([2, 0]))["a"][0]
        assert found.dtype == np.dtype(kind)
        assert found.tolist() == [[400, 500], [0, 100]]


def test_rows_that_lie_together_are_read_at_once_and_none_twice(tmp_path, monkeypatch):
    rows = columns.GAP // 8
    column, spans = store(tmp_path, np.arange(10.0 * rows)), []
    span = Stored._span
    monkeypatch.setattr(Stored, "_span", lambda self, *ends: spans.append(ends) or span(self, *ends))
    far = 5 * rows
    asked = np.array([[far + 7, 3, 3, 3], [0, far + 1, 9, far + 7]])
    np.testing.assert_array_equal(column[asked], asked)
    assert spans == [(0, 10), (far + 1, far + 8)]
