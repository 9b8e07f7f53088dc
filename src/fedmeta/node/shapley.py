"""What each of several is worth to what they do together: exact Shapley values, GTG-Shapley, and leave-one-out.

A game is a function of coalitions: booleans of shape [coalitions, players] in, the worth of each in float64 of shape
[coalitions] out. It is asked for many at once, and for none twice.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64

from fedmeta._settings import whole_number
from fedmeta.errors import UsageError

Game = Callable[[Bool[np.ndarray, "coalitions players"]], Float[np.ndarray, " coalitions"]]
"""What coalitions are worth."""

EXACT = 8
"""The most players whose 2**players coalitions are all asked for."""

CONVERGED = 0.02
"""GTG-Shapley stops when the values have moved by at most this part of the players' mean, over `LOOK_BACK` passes."""

LOOK_BACK = 5
"""Passes of GTG-Shapley over which it looks for changes; a pass has one permutation for each player."""


def contributions(game: Game, players: int, seed: int = 0) -> Float64[np.ndarray, " players"]:
    """Return each player's Shapley value: exact for at most `EXACT` players, by GTG-Shapley for more.

    Args:
        game: what coalitions are worth.
        players: how many there are, at least 1.
        seed: of the permutations.
    """
    return exact(game, players) if players <= EXACT else guided(game, players, seed)


def exact(game: Game, players: int) -> Float64[np.ndarray, " players"]:
    """Return each player's Shapley value (Shapley 1953): what it adds, on average over all orders of coming.

    Raises:
        UsageError: there are no players, or more than 16, with too many coalitions.
    """
    if not 1 <= whole_number("players", players) <= 16:
        raise UsageError(f"exact Shapley values are for 1 to 16 players, not {players}")
    coalitions = np.array(list(itertools.product((False, True), repeat=players)))
    worth = _asked(game, coalitions)
    sizes = coalitions.sum(1)
    # Of a coalition without the player; the share of all orders in which just these come before it.
    before = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    values = np.empty(players)
    for player in range(players):
        without = np.flatnonzero(~coalitions[:, player])
        # Coalitions stand in the order of binary numbers, the first player's digit the highest.
        joined = without + (1 << (players - 1 - player))
        values[player] = math.fsum(before[sizes[without]] * (worth[joined] - worth[without]))
    return values


def leave_one_out(game: Game, players: int) -> Float64[np.ndarray, " players"]:
    """Return what everyone together would lose without each player."""
    everyone = np.ones((1, players), bool)
    worth = _asked(game, np.concatenate([everyone, ~np.eye(players, dtype=bool)]))
    return worth[0] - worth[1:]


def guided(
    game: Game, players: int, seed: int = 0, *, between: float = 0.0, within: float = 0.01, most: int = 200
) -> Float64[np.ndarray, " players"]:
    """Return estimates of the Shapley values by permutations (GTG-Shapley, Liu et al., arXiv 2109.02053, algorithm 1).

    Everyone comes first equally often (guided sampling). A permutation ends where its coalition is worth about what all
    are (truncation within the round), and if all together gain nothing there is none (between rounds). A pass is one
    permutation for each player; so what it costs is at most a question for each pair of them.

    Args:
        game: what coalitions are worth.
        players: how many there are, at least 1.
        seed: of the permutations.
        between: the gain of all together up to which everyone's value is 0.
        within: the part of that gain up to which the rest of a permutation gains nothing.
        most: passes, at most.

    Raises:
        UsageError: a number is out of range.
    """
    for name, value in (("players", players), ("most", most)):
        if whole_number(name, value) < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    if not (between >= 0 and within >= 0):
        raise UsageError(f"between and within must be at least 0, not {between} and {within}")
    known: dict[bytes, float] = {}
    nobody, everyone = _known(game, known, np.array([[False] * players, [True] * players]))
    if abs(everyone - nobody) <= between:
        return np.zeros(players)
    draw = np.random.default_rng(seed)
    sums, means = np.zeros(players), []
    for number in range(1, most + 1):
        sums += _passed(game, known, _orders(players, draw), everyone, within * abs(everyone - nobody))
        means.append(sums / (number * players))
        if number > LOOK_BACK:
            moved = np.abs(means[-1] - np.array(means[-1 - LOOK_BACK : -1])).max(0).mean()
            if moved <= CONVERGED * np.abs(means[-1]).mean():
                break
    return means[-1]


def _orders(players: int, draw: np.random.Generator) -> np.ndarray:
    """Return a permutation for each player, which it begins, [players, players]."""
    rest = [draw.permutation(np.delete(np.arange(players), first)) for first in range(players)]
    return np.array([[first, *others] for first, others in enumerate(rest)])


def _passed(game: Game, known: dict[bytes, float], orders: np.ndarray, everyone: float, within: float) -> np.ndarray:
    """Return the sums of what each player adds in some permutations, each up to its truncation."""
    count, players = orders.shape
    coalitions = np.zeros((count, players), bool)
    worth = np.full(count, _known(game, known, coalitions[:1])[0])
    sums = np.zeros(players)
    for place in range(players):
        going = np.flatnonzero(np.abs(everyone - worth) > within)
        if not going.size:
            break
        coming = orders[going, place]
        coalitions[going, coming] = True
        reached = _known(game, known, coalitions[going])
        np.add.at(sums, coming, reached - worth[going])
        worth[going] = reached
    return sums


def _known(game: Game, known: dict[bytes, float], coalitions: np.ndarray) -> np.ndarray:
    """Return what coalitions are worth, and ask for those only that have not been asked for."""
    names = [one.tobytes() for one in coalitions]
    new = {name: one for name, one in zip(names, coalitions, strict=True) if name not in known}
    if new:
        known.update(zip(new, _asked(game, np.array(list(new.values()))), strict=True))
    return np.array([known[name] for name in names])


def _asked(game: Game, coalitions: np.ndarray) -> np.ndarray:
    worth = np.asarray(game(coalitions), np.float64)
    if worth.shape != coalitions.shape[:1]:
        raise UsageError(f"a game must give {len(coalitions)} numbers for so many coalitions, not {worth.shape}")
    return worth
