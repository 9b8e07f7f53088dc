"""What a seat finds that updates are worth: bounds, zeros, copies, and what stays when a seat cannot tell."""

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import data as sets
from fedmeta import optimisers, pytrees, random, transforms
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import Message
from fedmeta.node import scoring
from fedmeta.node.aggregation import Exact
from fedmeta.node.errors import BadMemory
from fedmeta.node.scoring import Past, Round, held_out, news, points, score, shortened
from fedmeta.node.shapley import exact as shapley
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure

NAMES = ("a", "b", "c", "d")


@functools.cache
def learned(server="sgd", weighting: Any = "clients"):
    return Exact(
        Procedure(
            algorithm=fm.MAML(inner_lr=0.2, weighting=weighting),
            server=optimisers.make(server, learning_rate=0.5),
            transform=transforms.chain(transforms.clip_by_norm(1.0), transforms.fixed_point(20, 24)),
            model="mlp",
            model_options={"hidden": (4,)},
            inputs=Inputs((3,), ("healthy", "ill")),
            rounds=9,
            cohort_size=4,
            support=0.5,
        )
    )


@functools.cache
def patients(seed, count=40):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -1.0, 0.5]) + 0.3 * draw.normal(size=count) > 0).astype(np.int32)
    return sets.from_arrays(x, y, np.zeros(count, int), classes=2)


def weighing(weight) -> Any:
    return np.float32(weight)


def message(exact, tree, weight=1.0):
    fed = exact.federation
    body, _ = fed.transform.encode(tree, fed.transform.init(fed.phi_like), random.default_key())
    return pytrees.to_bytes(Message(body, weighing(weight)))


def honest(exact, state, seed, weight=1.0):
    fed = exact.federation
    held = patients(seed)
    task = held.task(held.client_ids[0], 0.5, seed)
    update, _ = fed.algorithm.update(fed.model, exact.read_state(state).phi, task, random.default_key())
    return message(exact, update.pseudo_gradient, weight)


def zeros(exact):
    return message(exact, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), exact.federation.phi_like))


def asked(number=1, members=NAMES, own=(True, False, False, False), budget=250_000):
    return Round(number, members, own, budget)


@pytest.fixture(scope="module")
def begun():
    exact = learned()
    state = exact.initial()
    return exact, state, [honest(exact, state, seed) for seed in range(1, 5)]


def test_scores_keep_the_ledgers_rules(begun):
    exact, state, sent = begun
    scores, memory = score(exact, state, sent, asked(), patients(9))
    assert scores[0] == 0
    assert all(one >= 0 and one % 7500 == 0 for one in scores)
    assert sum(scores) == 750_000
    assert scoring.decode(memory, 22 + 4)[0].worth.keys() == set(NAMES)


def test_the_same_again_gives_the_same_scores_and_memory(begun):
    exact, state, sent = begun
    _, memory = score(exact, state, sent, asked(1), patients(9))
    once = score(exact, state, sent, asked(2), patients(9), memory)
    # A round that is computed once more does not count as an earlier round of itself.
    assert score(exact, state, sent, asked(2), patients(9), once[1]) == once


@pytest.mark.parametrize("server", ["sgd", "adam"])
def test_zeros_earn_nothing_and_take_from_nobody(server):
    exact = learned(server)
    state = exact.initial()
    sent = [honest(exact, state, seed) for seed in (1, 2, 3)]
    scores, memory = score(exact, state, [*sent, zeros(exact)], asked(), patients(9))
    assert scores[3] == 0
    assert sum(scores) == 750_000
    assert scoring.decode(memory, 26)[0].worth["d"] == 0


def test_what_was_sent_before_earns_nothing_whoever_sends_it(begun):
    exact, state, sent = begun
    _, memory = score(exact, state, sent, asked(1), patients(9))
    after = exact.aggregate(state, sent)
    new = [honest(exact, after, seed) for seed in (11, 12)]
    tree = exact.federation.phi_like
    updates, _ = scoring.read(exact, sent)
    step = updates.mean(0)
    places = np.cumsum([0, *(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))])
    leaves = [step[a:b] for a, b in itertools.pairwise(places)]
    published = jax.tree.unflatten(
        jax.tree.structure(tree),
        [one.reshape(leaf.shape).astype(np.float32) for one, leaf in zip(leaves, jax.tree.leaves(tree), strict=True)],
    )
    again = [message(exact, published), sent[1]]
    scores, _ = score(exact, after, [new[0], *again, new[1]], asked(2), patients(9), memory)
    assert scores[1:] == (0, 0, 750_000)
    # It is worth something all the same: without a memory of it, it is paid.
    assert min(score(exact, after, [new[0], *again, new[1]], asked(2), patients(9))[0][1:3]) > 0


def test_who_turns_the_sign_earns_nothing(begun):
    exact, state, sent = begun
    fed = exact.federation
    body, _ = pytrees.from_bytes(sent[3], Message(fed.transform.body_like(fed.phi_like), weighing(0)))
    turned = pytrees.to_bytes(Message(jax.tree.map(lambda one: -one, body), weighing(1)))
    assert score(exact, state, [*sent[:3], turned], asked(), patients(9))[0][3] == 0


def test_the_game_is_that_of_the_servers_steps_on_the_adapted_loss(begun):
    """One coalition by hand: the step by its sum over all, adaptation, and the loss on each query set."""
    exact, state, sent = begun
    fed, before = exact.federation, exact.read_state(state)
    updates, weights = scoring.read(exact, sent)
    held = patients(9)
    play = scoring.game(fed, before, updates, weights, scoring.splits(0.5, held, 3))
    coalition = np.array([True, False, True, False])
    places = np.cumsum([0, *(leaf.size for leaf in jax.tree.leaves(before.phi))])
    moved = before.phi
    step = 0.5 * updates[coalition].sum(0) / 4
    moved = jax.tree.unflatten(
        jax.tree.structure(before.phi),
        [
            leaf - step[a:b].reshape(leaf.shape)
            for leaf, (a, b) in zip(jax.tree.leaves(before.phi), itertools.pairwise(places), strict=True)
        ],
    )

    def loss(phi):
        found = []
        for seed in range(scoring.SPLITS):
            task = held.task(held.client_ids[0], 0.5, seed, round=3)
            phi32 = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), phi)
            params = fed.algorithm.adapt(fed.model, phi32, task.support, random.default_key())
            found.append(float(fed.model.mean_loss(params, task.query)))
        return np.mean(found)

    assert play(coalition[None])[0] == pytest.approx(loss(before.phi) - loss(moved), abs=2e-6)
    assert play(np.zeros((1, 4), bool))[0] == 0


def test_weights_count_as_in_the_mean():
    exact = learned(weighting="examples")
    state = exact.initial()
    fed, before = exact.federation, exact.read_state(state)
    sent = [honest(exact, state, 1, 3.0), honest(exact, state, 2, 1.0)]
    updates, weights = scoring.read(exact, sent)
    assert weights.tolist() == [3.0, 1.0]
    tasks = scoring.splits(0.5, patients(9), 1)
    play = scoring.game(fed, before, updates, weights, tasks)
    tripled = scoring.game(fed, before, updates[[0, 0, 0, 1]], np.ones(4), tasks)
    both = [play(np.array([[True, False]]))[0], tripled(np.array([[True] * 3 + [False]]))[0]]
    assert both[0] == pytest.approx(both[1], abs=1e-6)
    assert abs(both[0]) > 1e-4


def test_a_model_that_is_ruined_by_a_step_leaves_the_others_values():
    exact = learned()
    state = exact.initial()
    updates = np.zeros((2, 26))
    updates[0], updates[1] = 0.01, 1e38
    play = scoring.game(
        exact.federation, exact.read_state(state), updates, np.ones(2), scoring.splits(0.5, patients(9), 1)
    )
    worth = play(np.array([[True, False], [False, True], [True, True]]))
    assert np.isfinite(worth).all()
    assert worth[1] == worth[2] < -0.1
    assert shapley(play, 2)[1] < 0


# News


def test_news_is_at_right_angles_to_all_that_was_and_loses_nothing_else():
    draw = np.random.default_rng(0)
    old = [draw.normal(size=(3, 40)), draw.normal(size=(2, 40))]
    now = draw.normal(size=(4, 40))
    found = news(now, old)
    everything = np.concatenate(old)
    np.testing.assert_allclose(found @ everything.T, 0, atol=1e-9)
    least, *_ = np.linalg.lstsq(everything.T, now.T, rcond=None)
    np.testing.assert_allclose(found, now - (everything.T @ least).T, atol=1e-9)


def test_any_mix_of_earlier_updates_is_no_news():
    draw = np.random.default_rng(1)
    old = [draw.normal(size=(4, 60)), np.zeros((1, 60)), draw.normal(size=(4, 60))]
    mix = draw.normal(size=9) @ np.concatenate(old)
    grid = np.rint(mix * 2**12) / 2**12
    assert np.abs(grid - mix).max() > 0
    assert not news(np.array([mix, grid]), old).any()


def test_earlier_updates_that_are_nearly_equal_leave_the_rest_as_it_is():
    draw = np.random.default_rng(2)
    one = draw.normal(size=50)
    old = [np.array([one, one, one * (1 + 1e-9)])]
    now = draw.normal(size=(1, 50))
    np.testing.assert_allclose(news(now, old), now - (now @ one / (one @ one))[:, None] * one, atol=1e-7)


def test_of_a_small_model_half_of_the_directions_stay_news():
    draw = np.random.default_rng(3)
    old = [draw.normal(size=(3, 10)) for _ in range(3)]
    now = draw.normal(size=(2, 10))
    np.testing.assert_allclose(news(now, old), news(now, old[-1:]), atol=1e-12)
    assert np.linalg.matrix_rank(news(np.eye(10), old)) == 7


def test_no_update_counts_as_longer_than_the_median_one():
    found = np.linalg.norm(shortened(np.diag([1.0, 2.0, 3.0, 4.0, 500.0])), axis=1)
    np.testing.assert_allclose(found, [1, 2, 3, 3, 3])
    assert shortened(np.zeros((2, 3))).tolist() == np.zeros((2, 3)).tolist()


# Points


def test_points_are_by_the_news_of_those_that_do_no_harm():
    # The others' worth is 3 from zero on average, so that -4 is harm and -2 is not.
    worth, new = np.array([-90, 2, 4, -2, -4, 3.0]), np.array([9, 1, 2, 1, 7, -7.0])
    own = (True, False, False, False, False, False)
    assert points(worth, new, own, 200_000) == (0, 250_000, 500_000, 250_000, 0, 0)


def test_points_are_whole_hundredths_of_all_that_there_is_to_give():
    worth = np.array([1.0, 1.0, 1.0])
    assert points(worth, worth, (False,) * 3, 333_333) == (339_966, 329_967, 329_967)
    assert sum(points(worth, worth, (False,) * 3, 333_333)) <= 999_999


@pytest.mark.parametrize("players", [2, 3, 7, 64])
def test_points_keep_the_budget_and_are_never_negative(players):
    draw = np.random.default_rng(players)
    for _ in range(20):
        own = tuple((draw.random(players) < 0.2).tolist())
        budget = 1_000_000 // players
        found = points(draw.normal(size=players), draw.normal(size=players), own, budget)
        assert min(found) >= 0
        assert sum(found) <= budget * own.count(False)
        assert not any(found[place] for place in np.flatnonzero(own))


def test_nobody_is_paid_where_there_is_no_news_without_harm():
    assert points(np.array([1.0, -1.0]), np.array([-1.0, 1.0]), (False, False), 500_000) == (0, 0)
    assert points(np.array([1.0, 2.0]), np.array([-1.0, 0.0]), (False, False), 500_000) == (0, 0)
    assert points(np.array([1.0]), np.array([1.0]), (True,), 500_000) == (0,)


def test_a_seat_that_cannot_tell_gives_all_others_the_same():
    assert scoring.alike((True, False, False), 333_333) == (0, 333_333, 333_333)


# Held-out examples


def test_a_quarter_of_each_class_is_held_out_the_same_each_time():
    y = np.repeat([0, 1], [160, 40])
    chosen = held_out(y, 5)
    assert (chosen[:160].sum(), chosen[160:].sum()) == (40, 10)
    assert (held_out(y, 5) == chosen).all()
    assert (held_out(y, 6) != chosen).any()
    assert held_out(np.linspace(0, 1, 100, dtype=np.float32), 5).sum() == 25


def test_of_too_few_examples_none_is_held_out():
    assert held_out(np.zeros(80, int), 0).sum() == scoring.SMALLEST
    assert held_out(np.zeros(77, int), 0).sum() == 0


# Memory


def test_earlier_rounds_count_by_their_age():
    past = [Past(number, {"a": 1.0, "b": number / 10}, np.zeros((0, 2))) for number in (1, 2, 3)]
    found = scoring.averaged(past, ("a", "b", "new"))
    np.testing.assert_allclose(found, [1 + 0.8 + 0.64, 0.3 + 0.8 * 0.2 + 0.64 * 0.1, 0])


def test_what_is_kept_is_bounded(monkeypatch):
    rounds = [Past(number, {"a": 1.0}, np.ones((2, 5), np.float32)) for number in range(1, 31)]
    kept = scoring.remembered(rounds)
    assert [one.number for one in kept] == list(range(31 - scoring.KEPT, 31))
    assert [len(one.updates) for one in kept] == [0] * (scoring.KEPT - 3) + [2] * 3
    monkeypatch.setattr(scoring, "LARGEST", 100)
    assert [len(one.updates) for one in scoring.remembered(rounds)][-4:] == [0, 0, 2, 2]


def test_what_is_kept_comes_back():
    rounds = [Past(4, {"a": 0.5, "b": -1e-9}, np.zeros((0, 3))), Past(7, {"b": 2.0}, np.eye(3, dtype=np.float32))]
    found = scoring.decode(scoring.encode(rounds), 3)
    assert [(one.number, one.worth) for one in found] == [(one.number, one.worth) for one in rounds]
    assert [one.updates.tolist() for one in found] == [one.updates.tolist() for one in rounds]
    assert scoring.decode(b"", 3) == []


@pytest.mark.parametrize("memory", [b"\xff", b"\x05", scoring.encode([Past(1, {"a": 1.0}, np.ones((1, 4)))])])
def test_a_damaged_memory_is_refused(begun, memory):
    exact, state, sent = begun
    with pytest.raises(BadMemory, match="cannot be read"):
        score(exact, state, sent, asked(), patients(9), memory)


def test_what_cannot_be_scored_is_said(begun):
    exact, state, sent = begun
    with pytest.raises(UsageError, match="3 messages came for 4 members"):
        score(exact, state, sent[:3], asked(), patients(9))
    with pytest.raises(DataError, match="19 examples are held out, and it takes 20"):
        score(exact, state, sent, asked(), patients(9, 19))
    before = exact.read_state(state)
    lost = pytrees.to_bytes(replace_phi(before, np.nan))
    with pytest.raises(Diverged, match="not finite before the round"):
        score(exact, lost, sent, asked(), patients(9))


def replace_phi(state, value):
    return state._replace(phi=jax.tree.map(lambda leaf: np.full_like(leaf, value), state.phi))
