import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data.partition import assign_classes, deal
from fedmeta.errors import UsageError


@st.composite
def assignments(draw):
    num_classes = draw(st.integers(1, 12))
    return draw(st.integers(1, 40)), num_classes, draw(st.integers(1, num_classes)), draw(st.integers(0, 9))


@given(assignments())
def test_every_client_holds_its_number_of_classes_and_all_classes_are_as_common(case):
    holds = assign_classes(*case)
    assert holds.shape == case[:2]
    assert (holds.sum(axis=1) == case[2]).all()
    assert np.ptp(holds.sum(axis=0)) <= 1


@given(st.integers(2, 20), st.integers(0, 9), st.data())
def test_every_example_is_dealt_once_to_a_client_that_holds_its_class(num_clients, seed, data):
    y = np.array(data.draw(st.lists(st.integers(0, 5), min_size=num_clients, max_size=200)))
    num_classes = int(y.max()) + 1
    count = data.draw(st.integers(-(-num_classes // num_clients), num_classes))
    rows = deal(y, num_clients, count, seed)
    holds = assign_classes(num_clients, num_classes, count, seed)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(y)))
    for client, part in enumerate(rows):
        assert holds[client, y[part]].all()


@given(st.integers(0, 20))
def test_clients_are_nearly_as_large_where_classes_are(seed):
    sizes = [len(part) for part in deal(np.arange(1000) % 10, 30, 3, seed)]
    assert max(sizes) - min(sizes) <= 3


def test_the_same_seed_deals_the_same_and_another_does_not():
    y = np.arange(100) % 5
    same, again, other = deal(y, 10, 2, 0), deal(y, 10, 2, 0), deal(y, 10, 2, 1)
    assert all(np.array_equal(a, b) for a, b in zip(same, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(same, other, strict=True))


@given(st.integers(1, 4), st.integers(0, 9))
def test_kept_clients_hold_k_of_their_own_classes_with_all_their_examples(count, seed):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 4, 80)
    data = fm.data.from_arrays(np.arange(80), y, generator.integers(0, 6, 80), classes=4)
    kept = fm.data.keep_classes(data, count, seed)
    assert kept.client_ids == data.client_ids
    for name in data.client_ids:
        before, after = data[name], kept[name]
        held = np.unique(before.y)
        classes = np.unique(after.y)
        assert len(classes) == min(count, len(held))
        np.testing.assert_array_equal(after.x, before.x[np.isin(before.y, classes)])
        np.testing.assert_array_equal(after.y, before.y[np.isin(before.y, classes)])


def test_kept_classes_stay_as_common():
    data = fm.data.from_arrays(np.zeros((400, 1)), np.tile(np.arange(10), 40), np.repeat(np.arange(40), 10))
    kept = fm.data.keep_classes(data, 3)
    assert np.bincount(np.asarray(kept.y[:])).tolist() == [12] * 10


@pytest.mark.parametrize("count", [0, 4, -1])
def test_a_number_of_classes_out_of_range_is_refused(small, count):
    with pytest.raises(UsageError, match=r"1\.\.3"):
        fm.data.keep_classes(small, count)
    with pytest.raises(UsageError, match=r"1\.\.3"):
        deal(np.arange(9) % 3, 3, count)


def test_regression_has_no_classes_to_keep():
    data = fm.data.from_arrays(np.zeros((2, 1)), [0.5, 1.5], ["a", "b"])
    with pytest.raises(UsageError, match="no classes"):
        fm.data.keep_classes(data, 1)


def test_clients_that_cannot_hold_all_classes_are_refused():
    with pytest.raises(UsageError, match="cannot hold 10 classes"):
        deal(np.arange(20) % 10, 3, 3)
    with pytest.raises(UsageError, match="cannot be dealt"):
        deal(np.arange(3), 4, 1)
