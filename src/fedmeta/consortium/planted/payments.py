"""What contributors are paid by what the seats have found: points, their lower median, shares of a pool."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedmeta.consortium.planted.rounds import Found
from fedmeta.govern.rules.rewards import lower_median
from fedmeta.govern.state.parameters import MILLION
from fedmeta.node import scoring

Given = tuple[int, ...]
"""A seat's points of a round, one for each update."""

Rule = Callable[[Sequence[Found], tuple[bool, ...]], Given]
"""How a seat comes from what it has found, the latest round last, to points; with which updates are its own."""


def by(worth: np.ndarray, new: np.ndarray, own: tuple[bool, ...]) -> Given:
    """Return the points by the news of those that do no harm, of a seat with the ledger's budget; see `scoring`."""
    return scoring.points(worth, new, own, MILLION // len(new))


def averaged(found: Sequence[Found], name: str) -> np.ndarray:
    """Return the values in one game, of each round back by `scoring.DECAY` less, as a node averages them."""
    kept = np.array([one[name] for one in found[-scoring.KEPT :]])
    return scoring.DECAY ** np.arange(len(kept))[::-1] @ kept


def plainly(name: str) -> Rule:
    """Return the rule by the values in one game, of this round alone."""
    return lambda found, own: by(np.ones(len(own)), found[-1][name], own)


RULES: Mapping[str, Rule] = {
    "leave-one-out": plainly("without"),
    "exact Shapley": plainly("sent"),
    "node": lambda found, own: by(averaged(found, "worth"), found[-1]["news"], own),
}
"""By name; the last one is what a node does."""


class Paid(NamedTuple):
    """What a rule pays.

    Args:
        shares: of the contributors' pool of each round, float64 of shape [rounds, updates]; what is not paid stays in
            the treasury.
        distance: how far a seat's points are from the median, as a part of a million, on average.
    """

    shares: np.ndarray
    distance: float


def paid(found: Sequence[Sequence[Found]], rule: Rule) -> Paid:
    """Return what a rule pays, where seats have equal powers and each contributor but the last has one.

    The points go through the lower median of the seats of other organisations and the ledger's payment.

    Args:
        found: of each round, what each seat has found.
        rule: how the seats come to points.
    """
    seats = range(len(found[0]))
    updates = range(len(seats) + 1)
    shares, distances = [], []
    for number in range(1, len(found) + 1):
        given = [rule([one[seat] for one in found[:number]], tuple(at == seat for at in updates)) for seat in seats]
        medians = [lower_median((given[seat][at], 1) for seat in seats if seat != at) for at in updates]
        distances += [abs(given[seat][at] - medians[at]) for seat in seats for at in updates if seat != at]
        shares.append(np.array(medians) / max(MILLION, sum(medians)))
    return Paid(np.array(shares), float(np.mean(distances)) / MILLION)
