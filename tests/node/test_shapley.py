"""Shapley values by their definition and their axioms, and GTG-Shapley beside them."""

import itertools
import math

import numpy as np
import pytest

from fedmeta.errors import UsageError
from fedmeta.node.shapley import EXACT, contributions, exact, guided, leave_one_out


class Table:
    """A game whose worths are drawn, and that counts what it is asked for."""

    def __init__(self, players, seed=0):
        self.players = players
        self.worths = np.random.default_rng(seed).normal(size=2**players)
        self.asked = []

    def __call__(self, coalitions):
        places = coalitions @ (1 << np.arange(self.players))
        self.asked.extend(places.tolist())
        return self.worths[places]


def saturating(players, seed=0):
    """Return a game like a round's: each brings a step in a direction, and what they bring saturates."""
    steps = np.random.default_rng(seed).normal(0.3, 0.4, (players, 5))

    def game(coalitions):
        reached = coalitions @ steps / players
        return reached.sum(1) - 0.8 * (reached**2).sum(1)

    return game


def by_all_orders(game, players):
    """Shapley's definition: what each adds, over all orders."""
    values = np.zeros(players)
    for order in itertools.permutations(range(players)):
        there = np.zeros((1, players), bool)
        before = game(there)[0]
        for player in order:
            there[0, player] = True
            after = game(there)[0]
            values[player] += after - before
            before = after
    return values / math.factorial(players)


@pytest.mark.parametrize("players", [1, 2, 3, 6])
def test_exact_is_the_mean_over_all_orders(players):
    game = Table(players, seed=players)
    np.testing.assert_allclose(exact(game, players), by_all_orders(game, players), rtol=0, atol=1e-12)


def test_exact_asks_for_each_coalition_once():
    game = Table(5)
    exact(game, 5)
    assert sorted(game.asked) == list(range(32))


@pytest.mark.parametrize("players", [3, EXACT])
def test_efficiency_all_that_is_gained_is_shared(players):
    game = Table(players)
    assert exact(game, players).sum() == pytest.approx(game.worths[-1] - game.worths[0], abs=1e-12)


def test_symmetry_who_adds_the_same_everywhere_is_worth_the_same():
    draw = np.random.default_rng(1).normal(size=(4, 3))

    def game(coalitions):
        # The first two count by how many of them there are.
        rest = coalitions[:, 2:] @ np.array([1, 2])
        return draw[rest, coalitions[:, :2].sum(1)]

    values = exact(game, 4)
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    assert abs(values[0] - values[2]) > 1e-3


def test_dummy_who_adds_a_fixed_amount_is_worth_just_that():
    other = Table(4)
    for amount in (0.0, 0.7):
        values = exact(lambda one, amount=amount: other(one[:, [0, 1, 2, 3]]) + amount * one[:, 4], 5)
        assert values[4] == pytest.approx(amount, abs=1e-12)
        np.testing.assert_allclose(values[:4], exact(other, 4), rtol=0, atol=1e-12)


def test_additivity_of_a_sum_of_games_each_has_the_sum():
    one, two = Table(5, seed=1), Table(5, seed=2)
    both = exact(lambda coalitions: one(coalitions) + 3 * two(coalitions), 5)
    np.testing.assert_allclose(both, exact(one, 5) + 3 * exact(two, 5), rtol=0, atol=1e-12)


def test_leave_one_out_is_what_is_lost():
    game = Table(3)
    worth = game.worths
    np.testing.assert_allclose(leave_one_out(game, 3), worth[7] - worth[[6, 5, 3]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("players", [4, 9, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_guided_comes_near_the_exact_values(players, seed):
    game = saturating(players, seed)
    right = exact(game, players)
    found = guided(game, players, seed)
    assert np.abs(found - right).max() < 0.04 * np.abs(right).mean() * math.sqrt(players)


def test_guided_without_truncation_is_efficient_and_knows_dummies():
    other = saturating(9)
    found = guided(lambda one: other(one[:, :9]), 10, within=0.0)
    assert found.sum() == pytest.approx(other(np.ones((1, 9), bool))[0], abs=1e-12)
    assert found[9] == 0


def test_guided_asks_for_no_coalition_twice_and_for_few_of_them():
    game, asked = saturating(14), []

    def counting(coalitions):
        asked.extend(one.tobytes() for one in coalitions)
        return game(coalitions)

    guided(counting, 14)
    assert len(asked) == len(set(asked)) < 2**14 / 4


def test_guided_ends_permutations_that_have_gained_nearly_everything():
    """Who comes when all has been gained already gains nothing; without truncation it would be asked for."""
    full, asked = np.ones(10, bool), []

    def game(coalitions):
        asked.extend(coalitions.sum(1).tolist())
        return np.minimum(coalitions.sum(1), 3).astype(float)

    found = guided(game, 10)
    assert set(asked) == {0, 1, 2, 3, 10}
    assert found.sum() == pytest.approx(game(full[None])[0], abs=1e-12)


@pytest.mark.parametrize(("gain", "between"), [(0.0, 0.0), (0.1, 0.1)])
def test_guided_gives_nothing_for_a_round_that_gained_nothing(gain, between):
    asked = []

    def game(coalitions):
        asked.extend(coalitions)
        return gain * coalitions.all(1)

    assert guided(game, 9, between=between).tolist() == [0.0] * 9
    assert len(asked) == 2


def test_guided_gives_the_same_again():
    game = saturating(9)
    assert guided(game, 9, 3).tolist() == guided(game, 9, 3).tolist()
    assert guided(game, 9, 3).tolist() != guided(game, 9, 4).tolist()


def test_up_to_eight_are_exact_and_more_are_guided():
    assert contributions(game := Table(EXACT), EXACT).tolist() == exact(game, EXACT).tolist()
    assert contributions(game := saturating(9), 9, 5).tolist() == guided(game, 9, 5).tolist()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda game: exact(game, 0), "1 to 16 players, not 0"),
        (lambda game: exact(game, 17), "1 to 16 players, not 17"),
        (lambda game: guided(game, 0), "players must be at least 1, not 0"),
        (lambda game: guided(game, 3, most=0), "most must be at least 1, not 0"),
        (lambda game: guided(game, 3, within=-1.0), "between and within must be at least 0, not 0.0 and -1.0"),
        (lambda game: guided(game, 3, between=math.nan), "between and within must be at least 0, not nan"),
        (lambda game: exact(lambda one: np.zeros((len(one), 1)), 2), "a game must give 4 numbers"),
    ],
)
def test_what_cannot_be_is_said(call, says):
    with pytest.raises(UsageError, match=says):
        call(saturating(3))
