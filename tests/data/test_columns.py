import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.data.columns import Column, Scaled, Taken, Windows

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


def test_arrays_and_views_are_columns():
    base = np.zeros((3, 2))
    assert all(isinstance(column, Column) for column in (base, Scaled(base, 1.0), Taken(base, np.arange(2))))
