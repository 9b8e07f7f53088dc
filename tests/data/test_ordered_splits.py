"""Splits in time and by group: what is promised of every one of them, whatever is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data.splits import ByGroup, InTime, support_size
from fedmeta.errors import DataError, UsageError


def ordered(size, split, others=3):
    """A client of so many rows after another one, each row's x its place."""
    x = np.arange(others + size, dtype=np.float32)[:, None]
    owner = np.repeat(["a", "b"], [others, size])
    return replace(fm.data.from_arrays(x, np.zeros(others + size), owner), split=split)


@given(st.integers(2, 60), st.integers(0, 20), st.sampled_from([0.05, 0.2, 0.5, 0.9]), st.integers(2, 70))
def test_in_time_support_comes_first_then_a_gap_then_the_query(free, gap, support, most):
    size = free + gap
    data = ordered(size, InTime(gap))
    whole = data.task("b", support)
    first, last = (batch.x[:, 0].astype(int) - 3 for batch in (whole.support, whole.query))
    assert first.tolist() == list(range(support_size(free, support)))
    assert last.tolist() == list(range(len(first) + gap, size))
    some = data.task("b", support, seed=4, max_examples=most)
    drawn = min(free, most)
    assert (len(some.support), len(some.query)) == (support_size(drawn, support), drawn - support_size(drawn, support))
    assert set(some.support.x[:, 0]) <= set(whole.support.x[:, 0])
    assert set(some.query.x[:, 0]) <= set(whole.query.x[:, 0])


@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 5), st.sampled_from([0.1, 0.9]))
def test_of_a_count_so_many_examples_are_support_whatever_the_fraction(free, count, gap, support):
    data = ordered(free + gap, InTime(gap, count=count))
    first, last = data.split_at(1, support)
    assert len(first) == min(count, free - 1)
    assert (first - 3).tolist() == list(range(len(first)))
    assert (last - 3).tolist() == list(range(len(first) + gap, free + gap))


@given(st.integers(2, 10), st.integers(1, 6), st.integers(0, 50))
def test_by_group_each_group_is_on_one_side_and_which_is_drawn(groups, each, seed):
    data = ordered(groups * each, InTime())
    split = ByGroup(np.concatenate([[7, 7, 7], np.tile(np.arange(groups), each)]))
    task = replace(data, split=split).task("b", 1 / groups, seed)
    sides = [set(split.groups[batch.x[:, 0].astype(int)].tolist()) for batch in (task.support, task.query)]
    assert sides[0] | sides[1] == set(range(groups))
    assert not sides[0] & sides[1]
    assert len(task.support) == each * support_size(groups, 1 / groups)


def test_a_fraction_that_would_cut_a_group_is_refused():
    data = ordered(20, ByGroup(np.repeat(np.arange(8), [3, 4, 4, 4, 4, 2, 1, 1])))
    with pytest.raises(UsageError, match="'b' has 7 groups of examples that stay together"):
        data.task("b", 0.37)


def test_a_client_without_room_for_the_gap_is_named_and_left_out():
    data = ordered(6, InTime(5))
    with pytest.raises(DataError, match=r"'b' has 6 examples; .* beside a gap of 5"):
        data.task("b")
    assert ordered(7, InTime(5)).drawable.tolist() == [0, 2]
    with pytest.raises(DataError, match="'b' has 1 group"):
        ordered(6, ByGroup(np.zeros(9, int))).task("b")


def test_candidates_of_one_fraction_are_split_by_no_other():
    data = ordered(10, InTime(support=0.2))
    assert len(data.task("b", 0.2).support) == 2
    with pytest.raises(UsageError, match=r"first 0\.2 of each client's examples.*load the data set with support=0\.5"):
        data.task("b", 0.5)


@pytest.mark.parametrize("wrong", [{"gap": -1}, {"support": 0.0}, {"support": 1.0}, {"count": 0}])
def test_a_split_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError):
        InTime(**wrong)


@pytest.mark.parametrize("split", [InTime(2), InTime(1, 0.5), InTime(1, count=4), ByGroup(np.arange(11) % 4)])
def test_a_split_is_stored_and_is_part_of_the_fingerprint(split, tmp_path):
    data = ordered(8, split)
    fm.data.save(data, tmp_path / "kept")
    opened = fm.data.open(tmp_path / "kept")
    for support in [0.5] if split == InTime(1, 0.5) else [0.25, 0.75]:
        one, other = (held.task("b", support, 3) for held in (data, opened))
        np.testing.assert_array_equal(one.support.x, other.support.x)
        np.testing.assert_array_equal(one.query.x, other.query.x)
    assert data.fingerprint != replace(data, split=InTime(3)).fingerprint
    assert data.fingerprint != replace(data, split=InTime(1)).fingerprint
    if isinstance(split, ByGroup):
        other = replace(data, split=ByGroup(np.arange(11) % 2))
        assert other.fingerprint != data.fingerprint


def test_evaluation_counts_what_the_gap_leaves():
    """The engine's padded lengths are those of the split."""
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    owner = np.repeat(["a", "b", "c"], [30, 18, 12])
    data = replace(fm.data.from_arrays(rows, (rows[:, 0] > 0).astype(int), owner), split=InTime(10))
    model = fm.models.softmax_regression(3, 2)
    algorithm = fm.MAML(inner_steps=1)
    phi = algorithm.init(model, fm.random.as_key(fm.random.key_data(0, "init")))
    report = fm.evaluate(algorithm, model, phi, data, 0.5, predictions=True)
    assert report.support_examples.tolist() == [10, 4, 1]
    assert [len(y) for y in report.predictions.y] == [10, 4, 1]
    for name, y in zip(report.clients, report.predictions.y, strict=True):
        np.testing.assert_array_equal(y, data.task(name, 0.5).query.y)


def test_groups_stay_together_where_classes_are_left_out():
    """Four drawers drew each of three characters once; with two characters kept, a drawer is still on one side."""
    y, drawer = np.tile(np.arange(3), 4), np.repeat(np.arange(4), 3)
    data = fm.data.from_arrays(drawer[:, None].astype(np.float32), y, ["a"] * 12)
    kept = fm.data.keep_classes(replace(data, split=ByGroup(drawer)), 2)
    task = kept.task("a", 0.5)
    assert (len(task.support), len(task.query)) == (4, 4)
    assert not set(task.support.x.ravel()) & set(task.query.x.ravel())
