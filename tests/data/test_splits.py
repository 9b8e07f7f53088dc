"""What a client's split is, bit for bit: a run of today repeats one of years ago."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import splits

import fedmeta as fm
from fedmeta.errors import DataError, UsageError

fractions = st.one_of(st.sampled_from([0.1, 0.2, 0.5, 0.8, 0.9]), st.floats(0.01, 0.99))
bounds = st.one_of(st.none(), st.integers(1, 70))
seeds = st.integers(0, 2**40)
# Few classes with many examples, many with few, gaps in the numbers, and one class that outweighs the others.
labels = st.one_of(
    st.integers(1, 12).flatmap(lambda classes: st.lists(st.integers(0, classes - 1), min_size=2, max_size=80)),
    st.lists(st.sampled_from([0, 7, 61, 5000, 2**31 - 1]), min_size=2, max_size=40),
    st.lists(st.integers(2, 40), min_size=1, max_size=8).map(lambda sizes: np.repeat(range(len(sizes)), sizes)),
)
targets = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40)


def two_clients(y):
    """A client before, so that rows and places differ, and the one of interest; x is the number of the row."""
    y = np.asarray(y)
    y = np.concatenate([y[:1], y]).astype(np.float32 if y.dtype.kind == "f" else np.int32)
    x = np.arange(len(y))
    starts, sizes = np.array([0, 1]), np.array([1, len(y) - 1])
    return fm.data.FederatedDataset(x, y, starts, sizes, np.array(["before", "it"]))


def assert_split_as_defined(y, support, seed, bound, number):
    data = two_clients(y)
    expected = splits.split(data.y[1:], "it", support, seed, bound, number)
    found = data.split_at(1, support, seed, max_examples=bound, round=number)
    assert tuple((rows - 1).tolist() for rows in found) == expected
    task = data.task_at(1, support, seed, max_examples=bound, round=number)
    for side, rows in zip((task.support, task.query), found, strict=True):
        np.testing.assert_array_equal(side.x, rows)
        np.testing.assert_array_equal(side.y, data.y[rows])


@given(labels, fractions, seeds, bounds, st.integers(0, 1000))
def test_labels_are_split_as_defined(y, support, seed, bound, number):
    assert_split_as_defined(y, support, seed, bound, number)


@given(targets, fractions, seeds, bounds, st.integers(0, 1000))
def test_numbers_are_split_as_defined(y, support, seed, bound, number):
    assert_split_as_defined(np.array(y), support, seed, bound, number)


def test_a_class_gets_its_share_also_where_rounding_leaves_many_over():
    """Many classes of 2 to 9: about half of them are rounded up or down, and ties are frequent."""
    sizes = 2 + np.arange(200) % 8
    for support in (0.25, 0.5, 0.75):
        assert_split_as_defined(np.repeat(np.arange(200), sizes), support, 1, None, 0)


def test_more_axes_or_other_types_of_targets_are_split_at_random():
    for y in (np.zeros((6, 2), np.int32), np.zeros(6, bool)):
        data = fm.data.FederatedDataset(np.arange(6), y, np.array([0]), np.array([6]), np.array(["it"]))
        order = splits.generator(3, "support and query", 0, "it").permutation(6)
        support, query = data.split_at(0, 0.5, 3)
        assert support.tolist() == sorted(order[:3])
        assert query.tolist() == sorted(order[3:])


def test_rows_are_refused_where_a_task_is(small):
    with pytest.raises(UsageError, match="support fraction"):
        small.split_at(0, 1.0)
    with pytest.raises(DataError, match="'before' has 1 examples"):
        two_clients([0, 1]).split_at(0, 0.5)
