import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta import random
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, UsageError

labels = st.lists(st.integers(0, 4), min_size=2, max_size=60)
fractions = st.floats(0.01, 0.99)


def client(y):
    """One client whose x is the number of the row."""
    return fm.data.from_arrays(np.arange(len(y)), y, ["only"] * len(y), classes=5)


@given(labels, fractions, st.integers(0, 9))
def test_query_and_support_share_no_example_and_lose_none(y, support, seed):
    task = client(y).task("only", support, seed)
    rows = [*task.support.x.tolist(), *task.query.x.tolist()]
    assert sorted(rows) == list(range(len(y)))
    assert min(len(task.support), len(task.query)) >= 1


@given(labels, fractions)
def test_support_has_the_fraction_of_the_examples(y, support):
    task = client(y).task("only", support)
    assert len(task.support) == min(max(round(support * len(y)), 1), len(y) - 1)


@given(labels, fractions, st.integers(0, 9))
def test_every_class_is_on_both_sides_where_the_sizes_allow_it(y, support, seed):
    task = client(y).task("only", support, seed)
    held, sizes = np.unique(y, return_counts=True)
    if sizes.min() >= 2 and len(task.support) >= len(held) and len(task.query) >= len(held):
        assert set(task.support.y) == set(task.query.y) == set(held)


def test_support_is_stratified():
    task = client([0] * 50 + [1] * 30 + [2] * 20).task("only", 0.2, seed=3)
    assert np.bincount(task.support.y).tolist() == [10, 6, 4]


def test_the_same_seed_gives_the_same_task_whatever_else_runs(small):
    before = small.task("a", 0.5, seed=7)
    np.random.default_rng(0).random(100)
    small.split_clients((0.5, 0.5), seed=7)
    small.task("c", 0.5, seed=7)
    after = small.select([2, 0, 1]).task("a", 0.5, seed=7)
    np.testing.assert_array_equal(before.support.x, after.support.x)
    np.testing.assert_array_equal(before.query.y, after.query.y)


def test_a_task_by_place_is_the_task_by_name(small):
    place = small.position("c")
    np.testing.assert_array_equal(small.task_at(place, 0.5).query.x, small.task("c", 0.5).query.x)


def test_seeds_and_rounds_give_other_tasks():
    data = client([0] * 40)
    first = data.task("only", 0.5).support.x.tolist()
    assert first != data.task("only", 0.5, seed=1).support.x.tolist()
    assert first != data.task("only", 0.5, round=1).support.x.tolist()


def test_max_examples_bounds_what_a_task_reads():
    task = client([0, 1] * 30).task("only", 0.5, max_examples=10)
    assert len(task.support) + len(task.query) == 10


@given(st.integers(3, 60), st.integers(0, 5))
def test_a_client_is_in_one_part_of_a_split_only(num_clients, seed):
    data = fm.data.from_arrays(np.zeros((num_clients, 1)), np.zeros(num_clients), np.arange(num_clients))
    parts = data.split_clients((0.4, 0.3, 0.3), seed)
    ids = [name for part in parts for name in part.client_ids]
    assert sorted(ids) == sorted(data.client_ids)
    assert [part.client_ids for part in parts] == [
        part.client_ids for part in data.split_clients((0.4, 0.3, 0.3), seed)
    ]


def test_a_split_leaves_no_part_without_a_client(small):
    parts = small.split_clients((0.98, 0.01, 0.01))
    assert [part.num_clients for part in parts] == [1, 1, 1]
    with pytest.raises(UsageError, match="3 clients cannot be split into 4 parts"):
        small.split_clients((0.25,) * 4)


@pytest.mark.parametrize("wrong", [(0.8, 0.3), (0.5, 0.0), (-0.1, 0.5)])
def test_fractions_out_of_range_are_refused(small, wrong):
    with pytest.raises(UsageError, match="fractions"):
        small.split_clients(wrong)


@pytest.mark.parametrize("support", [0.0, 1.0, -1.0])
def test_a_support_fraction_out_of_range_is_refused(small, support):
    with pytest.raises(UsageError, match="support fraction"):
        small.task("a", support)


def test_a_client_with_one_example_has_no_task():
    data = fm.data.from_arrays([[1.0]], [0], ["lonely"], classes=2)
    with pytest.raises(DataError, match="'lonely' has 1 examples"):
        data.task("lonely")


def test_an_unknown_client_is_named(small):
    with pytest.raises(UsageError, match="'nobody'"):
        small["nobody"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (0, r"by its name, which is text, not by 0: client_ids\[0\], which is '3', is the name at place 0$"),
        (np.int64(7), r"not by .*7.*: '7' is the name of the client of that number$"),
        (-1, r"client_ids\[-1\], which is '12'"),
        (99, "client_ids lists the names"),
        (7.0, "client_ids lists the names"),
        (True, "client_ids lists the names"),
        (None, "client_ids lists the names"),
        (b"7", "not by b'7'"),
        (["7"], "client_ids lists the names"),
        (slice(0, 2), r"select\(range\(...\)\) gives the clients at these places"),
    ],
)
def test_a_client_that_is_not_asked_for_by_its_name_is_refused_with_what_is_right(asked, message):
    data = fm.data.from_arrays(np.arange(4), np.arange(4.0), [7, 12, 3, 7])
    for ask in (lambda: data[asked], lambda: data.task(asked), lambda: data.position(asked)):
        with pytest.raises(UsageError, match=message):
            ask()
    assert data["7"].x.tolist() == [0, 3]
    assert data[data.client_ids[0]].x.tolist() == [2]


def test_a_number_that_is_a_place_and_a_name_is_answered_with_both():
    data = fm.data.from_arrays(np.arange(3), np.arange(3.0), [1, 2, 3])
    with pytest.raises(UsageError, match=r"client_ids\[1\], which is '2', is .* and '1' is the name of the client"):
        data[1]


@pytest.mark.parametrize("places", [["a"], "a", [0, 3], 1.5, [True, False]])
def test_places_that_are_none_are_refused(small, places):
    with pytest.raises(UsageError, match="places of clients are whole numbers from 0 to 2"):
        small.select(places)


def test_clients_are_selected_by_place_by_slice_and_by_mask(small):
    for places in ([0, 2], np.array([0, 2]), slice(0, 3, 2), np.array([True, False, True])):
        assert small.select(places).client_ids == ["a", "c"]
    assert small.select([]).client_ids == []


@given(st.lists(st.text(max_size=6).filter(lambda name: "\0" not in name), unique=True), st.text(max_size=9))
def test_a_client_is_found_by_its_name_and_no_other_is(names, other):
    ids, count = np.array(names, str), len(names)
    data = FederatedDataset(np.zeros(count), np.zeros(count), np.arange(count), np.ones(count, int), ids)
    assert [data.position(name) for name in names] == list(range(count))
    if other not in names:
        with pytest.raises(UsageError, match="no client"):
            data.position(other)


def test_draws_depend_on_purpose_and_place_only():
    assert random.generator(0, "a", 1).random() == random.generator(0, "a", 1).random()
    assert random.generator(0, "a", 1).random() != random.generator(0, "a", 2).random()
    assert random.generator(0, "a", 1).random() != random.generator(0, "b", 1).random()
