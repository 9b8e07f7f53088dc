"""Support sets of a given number of examples: the same questions at each size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data import columns
from fedmeta.data.splits import AtRandom, ByGroup, InTime
from fedmeta.errors import UsageError
from fedmeta.study.supports import with_support
from tests.examples import examples

SIZES = (20, 24, 30)
SUPPORT = 0.5

# 20, 24 and 30 examples in groups of 2, 4 and 5: half of each is a whole number of groups.
GROUPS = np.concatenate([np.repeat(np.arange(size // each), each) for size, each in zip(SIZES, (2, 4, 5), strict=True)])


def clients(split):
    """Clients whose only feature is the number of the row."""
    rows = np.arange(sum(SIZES))
    owners = np.repeat([f"c{place}" for place in range(len(SIZES))], SIZES)
    data = fm.data.from_arrays(rows[:, None].astype(np.float32), rows % 3, owners, classes=3)
    return fm.data.FederatedDataset(data.x, data.y, data.starts, data.sizes, data.ids, data.info, split)


SPLITS = {"at random": AtRandom(), "in time": InTime(gap=3), "by group": ByGroup(GROUPS)}


def sides(data, place, support=SUPPORT, seed=1):
    return [columns.read(data.x, rows)[:, 0].astype(int).tolist() for rows in data.split_at(place, support, seed)]


@examples(20)
@given(st.sampled_from(sorted(SPLITS)), st.integers(1, 7), st.integers(1, 7), st.integers(0, 5))
def test_a_larger_support_set_holds_a_smaller_one_and_both_are_asked_the_same(kind, one, other, seed):
    data = clients(SPLITS[kind])
    less, more = (with_support(data, count, SUPPORT, seed) for count in sorted((one, other)))
    for place in range(len(SIZES)):
        near, query = sides(data, place, seed=seed)
        (few, asked), (many, same) = (sides(each, place, seed=seed) for each in (less, more))
        assert asked == same == query
        assert (len(few), len(many)) == tuple(sorted((one, other)))
        assert set(few) <= set(many)
        assert not set(many) & set(query)
        # At random, all that is no query is support; else it is the side of support, without the gap.
        assert set(many) <= set(near)


def test_the_fraction_no_longer_matters_for_the_new_data_set():
    found = with_support(clients(AtRandom()), 4, SUPPORT, 0)
    assert sides(found, 1, support=0.1) == sides(found, 1, support=0.9)
    assert found.split == InTime(count=4)


def test_support_may_hold_examples_that_a_limit_leaves_out_and_the_query_set_is_the_limited_one():
    data = clients(AtRandom())
    _, query = data.split_at(2, SUPPORT, 1, max_examples=10)
    found = sides(with_support(data, 8, SUPPORT, 1, max_examples=10), 2)
    assert found[1] == query.tolist()
    assert len(found[0]) == 8
    _, query = data.split_at(2, SUPPORT, 1)
    assert len(query) == 15


def test_a_client_with_too_few_examples_is_named():
    # Half of 20 examples, and of 24 and 30, are no query.
    with pytest.raises(UsageError, match=r"2 of 3 clients have fewer than 13 examples.*client 'c0' has 10.*smaller"):
        with_support(clients(AtRandom()), 13, SUPPORT, 0)
    # In time, the gap is no support either: half of 17.
    with pytest.raises(UsageError, match=r"client 'c0' has 8"):
        with_support(clients(InTime(gap=3)), 9, SUPPORT, 0)


def test_candidates_from_the_support_set_have_settled_its_size():
    with pytest.raises(UsageError, match=r"candidates from the first 0\.3 of each client's examples"):
        with_support(clients(InTime(support=0.3)), 4, 0.3, 0)
