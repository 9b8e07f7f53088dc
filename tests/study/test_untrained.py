"""What answers without training: against plain loops, and on the real flights."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data import Info
from fedmeta.errors import DataError, UsageError
from fedmeta.study import untrained
from fedmeta.study.answers import NEVER, Sides
from tests.examples import in_soak

CLASSES = 4
logs = st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=25), min_size=1, max_size=4)
supports = st.sampled_from([0.2, 0.5])


def log(clients, misses=False):
    info = Info(name="log", classes=tuple("abcdef"[:CLASSES]), misses=misses)
    items = np.array([item for client in clients for item in client])
    return fm.data.next_items(items, np.array(list(map(len, clients))), [f"u{n}" for n in range(len(clients))], info)


def first(items, support):
    return min(max(round(support * len(items)), 1), len(items) - 1)


def check(report, expected):
    """Accuracy and top 4 are those of the expected rankings: for each client a list of (ranking, class)."""
    for place, asked in enumerate(expected):
        hits = [ranking[0] == y for ranking, y in asked]
        assert report.after.values["accuracy"][place] == pytest.approx(np.mean(hits))
    assert report.after.examples.tolist() == [len(asked) for asked in expected]


@given(logs, supports)
def test_the_most_recent_is_the_item_before(clients, support):
    report = untrained.most_recent(log(clients), Sides(support=support))
    check(
        report,
        [[([items[row - 1]], items[row]) for row in range(first(items, support), len(items))] for items in clients],
    )
    assert report.support_examples.tolist() == [first(items, support) for items in clients]
    for items, logits in zip(clients, report.predictions.after, strict=True):
        for row, answer in enumerate(logits, first(items, support)):
            seen = list(dict.fromkeys(reversed(items[:row])))
            assert np.argsort(-answer, kind="stable")[: len(seen)].tolist() == seen


@given(logs, supports)
def test_the_most_frequent_is_of_the_support_alone(clients, support):
    report = untrained.most_frequent(log(clients), None, Sides(support=support))
    expected = []
    for items in clients:
        head = items[: first(items, support)]
        most = max(range(CLASSES), key=lambda item, head=head: (head.count(item), -item))
        expected.append([([most], y) for y in items[len(head) :]])
    check(report, expected)


def test_what_all_others_have_decides_a_tie_and_a_miss_is_no_answer():
    data = log([[1, 2, 0, 0, 0], [2, 2, 2, 2, 2]])
    assert untrained.most_frequent(data.select([0]), data, Sides(support=0.4)).predictions.after[0][0].argmax() == 2
    report = untrained.most_frequent(log([[3, 3, 1, 3, 3]], misses=True), None, Sides(support=0.6))
    assert report.predictions.after[0].argmax(axis=1).tolist() == [1, 1]
    assert (report.accuracy, report.after.pooled["top_4"]) == (0, 1)
    report = untrained.most_recent(log([[3, 1, 3, 1, 3, 3]], misses=True), Sides(support=0.5))
    assert report.predictions.after[0].argmax(axis=1).tolist() == [1, 1, 1]


def chain(train, items, head, last, backoff):
    """The shares of the next item, spelled out."""
    everyone = [item for client in train for item in client]
    overall = [(everyone.count(i) + 1 / CLASSES) / (len(everyone) + 1) for i in range(CLASSES)]
    pairs = [pair for client in train for pair in pairwise(client)]
    after = [second for one, second in pairs if one == last]
    wide = [(after.count(i) + backoff * overall[i]) / (len(after) + backoff) for i in range(CLASSES)]
    own = [(items.count(i) + backoff * wide[i]) / (len(items) + backoff) for i in range(CLASSES)]
    near = [b for a, b in pairwise(head) if a == last]
    return [(near.count(i) + backoff * own[i]) / (len(near) + backoff) for i in range(CLASSES)]


@given(logs, logs, st.sampled_from([0.5, 3.0]))
def test_the_chain_backs_off_from_the_client_to_all(train, clients, backoff):
    sides = Sides(support=0.5)
    report = untrained.markov_chain(log(clients), log(train), sides, backoff=backoff)
    for items, logits in zip(clients, report.predictions.after, strict=True):
        head = items[: first(items, 0.5)]
        expected = [chain(train, head, head, items[row - 1], backoff) for row in range(len(head), len(items))]
        np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-5)
    own = untrained.markov_chain(log(clients), log(train), sides, backoff=backoff, own_only=True)
    for items, logits in zip(clients, own.predictions.after, strict=True):
        held = sorted(set(items[: first(items, 0.5)]))
        assert (logits[:, [c for c in range(CLASSES) if c not in held]] == NEVER).all()


@given(st.integers(0, 50), st.sampled_from([0.5, 4.0]))
def test_naive_bayes_is_that_of_its_counts(seed, prior):
    draw = np.random.default_rng(seed)
    y, owner = draw.integers(0, 3, 60), draw.integers(0, 4, 60)
    x = (draw.random((60, 5)) < 0.2 + 0.2 * y[:, None]).astype(np.float32)
    data = fm.data.from_arrays(x, y, owner, classes=3)
    train, test = data.select([0, 1]), data.select([2, 3])
    report = untrained.naive_bayes(test, train, Sides(support=0.5, seed=seed), prior=prior)
    batches = [train[name] for name in train.client_ids]
    tx, ty = np.concatenate([batch.x for batch in batches]), np.concatenate([batch.y for batch in batches])
    overall = [(np.sum(ty == c) + 1 / 3) / (len(ty) + 1) for c in range(3)]
    for name, logits in zip(test.client_ids, report.predictions.after, strict=True):
        task = test.task(name, 0.5, seed)
        n = len(task.support.y)
        for row, answer in zip(task.query.x, logits, strict=True):
            expected = []
            for c in range(3):
                mine = task.support.x[task.support.y == c]
                total = math.log((len(mine) + prior * overall[c]) / (n + prior))
                for j in range(5):
                    wide = (tx[ty == c, j].sum() + tx[:, j].mean()) / (np.sum(ty == c) + 1)
                    share = (mine[:, j].sum() + prior * wide) / (len(mine) + prior)
                    total += math.log(share if row[j] else 1 - share)
                expected.append(total)
            np.testing.assert_allclose(answer, np.array(expected) - max(expected), rtol=1e-4, atol=1e-5)
    own = untrained.naive_bayes(test, train, Sides(support=0.5, seed=seed), prior=prior, own_only=True)
    for name, logits in zip(test.client_ids, own.predictions.after, strict=True):
        held = set(test.task(name, 0.5, seed).support.y.tolist())
        assert set(logits.argmax(axis=1).tolist()) <= held


def test_validation_clients_choose_the_value_that_is_best_for_them():
    train, validation = log([[0, 1] * 20]), log([[0, 2] * 20])
    report = {value: untrained.markov_chain(validation, train, backoff=value).accuracy for value in untrained.GRID}
    best = untrained.best_of(untrained.GRID, lambda value: untrained.markov_chain(validation, train, backoff=value))
    assert report[best] == max(report.values())
    assert untrained.best_of((3.0, 4.0), lambda value: untrained.most_recent(validation)) == 3.0


def test_what_cannot_be_answered_is_refused(small):
    numbers = fm.data.from_arrays(np.zeros((4, 1)), [0.5, 1.5, 2.5, 3.5], ["a"] * 4)
    for refused in (
        lambda: untrained.most_recent(small),
        lambda: untrained.markov_chain(log([[0, 1]]), small),
        lambda: untrained.most_frequent(numbers),
        lambda: untrained.markov_chain(log([[0, 1]]), log([[0, 1]]), backoff=0.0),
        lambda: untrained.naive_bayes(small, small, prior=-1.0),
    ):
        with pytest.raises(UsageError):
            refused()
    with pytest.raises(DataError, match="no client"):
        untrained.most_frequent(log([[0]]))


@pytest.fixture
def small():
    return fm.data.from_arrays(np.zeros((6, 1)), [0, 1, 2, 0, 1, 2], ["a"] * 6)


@in_soak
def test_the_flights_are_as_often_right_as_was_measured(real_data):
    """Another program, by hand and over all aircraft: 23.7 % with the item before, 22.9 with the commonest."""
    real_data("flights")
    test = fm.data.load("flights", context=False)
    frequent = untrained.most_frequent(test)
    assert untrained.most_recent(test).accuracy == pytest.approx(0.237, abs=0.0005)
    assert frequent.accuracy == pytest.approx(0.2295, abs=0.0006)
    assert frequent.after.pooled["top_4"] == pytest.approx(0.488, abs=0.002)
