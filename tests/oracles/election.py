"""An election by the rules of `docs/ledger.md`: who has a seat, and how much power under the organisations' cap."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

MILLION = 1_000_000
FEWEST = 4


@dataclass(frozen=True)
class Standing:
    """A candidate at an election: what lies in its pool, what of that is its own, and whether it may be elected."""

    name: str
    organisation: str
    units: int
    own: int
    registered: int
    able: bool
    absent: bool = False
    """It is in jail because it was absent, and would be able otherwise."""


def elect(standing, incumbents, parameters):
    """Elect from scratch; `incumbents` is None at the first election.

    Returns:
        The (name, weight, power) of the super nodes, and of the standbys, which have no power, by rank.
    """
    of = {one.name: one.organisation for one in standing}
    weights = {
        one.name: min(one.units, parameters["self_stake_factor"] * one.own)
        for one in standing
        if one.own >= parameters["min_self_stake"]
    }

    def rank(some):
        since = {one.name: one.registered for one in some if one.name in weights}
        return sorted(since, key=lambda name: (-weights[name], since[name], name))

    ranked = rank([one for one in standing if one.able])
    for name in rank([one for one in standing if one.absent]):
        present = {of[other] for other in ranked}
        if len(present) < FEWEST and of[name] not in present:
            ranked.append(name)
    size = parameters["super_nodes"]
    chosen: list[str] = []

    def fill(newcomers):
        for name in ranked:
            new = incumbents is not None and name not in incumbents
            came = sum(incumbents is not None and other not in incumbents for other in chosen)
            free = all(of[other] != of[name] for other in chosen)
            if free and len(chosen) < size and (not new or came < newcomers):
                chosen.append(name)

    fill(parameters["max_seat_changes"])
    fill(size)
    seats = [name for name in ranked if name in chosen]
    standbys = [name for name in ranked if name not in chosen][: parameters["standbys"]]
    found = powers([weights[name] for name in seats], parameters["organisation_cap"])
    return (
        [(name, weights[name], power) for name, power in zip(seats, found, strict=True)],
        [(name, weights[name], 0) for name in standbys],
    )


def powers(weights, cap):
    """The power of each seat: its weight, cut to `cap` ppm of all that is left."""
    limit = power_limit(sorted(weights, reverse=True), Fraction(cap, MILLION))
    return [min(weight, limit) for weight in weights]


def power_limit(held, cap):
    """The most that a seat may have, in closed form: by how many of the largest, which come first, are cut."""
    if not held or len(held) * cap < 1:
        return min(held, default=0)
    if held[0] <= cap * sum(held):
        return held[0]
    for cut in range(1, len(held) + 1):
        # With `cut` seats at the limit, limit = cap * (cut * limit + the others').
        limit = cap * sum(held[cut:]) / (1 - cut * cap) if cut * cap < 1 else 0
        if sum(held[cut : cut + 1]) <= limit <= held[cut - 1]:
            return floor(limit)
    raise AssertionError(f"no limit for {held} under {cap}")
