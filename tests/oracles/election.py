"""An election by the rules of `docs/ledger.md`: who has a seat, and how much power under the organisations' cap."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from math import floor

MILLION = 1_000_000


@dataclass(frozen=True)
class Standing:
    """A candidate at an election: what lies in its pool, what of that is its own, and whether it may be elected."""

    name: str
    organisation: str
    units: int
    own: int
    registered: int
    able: bool


def elect(standing, incumbents, parameters):
    """Elect from scratch; `incumbents` is None at the first election.

    Returns:
        The (name, weight, power) of the super nodes, and of the standbys, by rank.
    """
    weights = {
        one.name: min(one.units, parameters["self_stake_factor"] * one.own)
        for one in standing
        if one.able and one.own >= parameters["min_self_stake"]
    }
    of = {one.name: one.organisation for one in standing}
    since = {one.name: one.registered for one in standing}
    ranked = sorted(weights, key=lambda name: (-weights[name], since[name], name))
    size = parameters["super_nodes"]
    most = max(1, (size - 1) // 3)
    chosen: list[str] = []

    def fill(newcomers):
        for name in ranked:
            seated = sum(of[other] == of[name] for other in chosen)
            new = incumbents is not None and name not in incumbents
            came = sum(incumbents is not None and other not in incumbents for other in chosen)
            if name not in chosen and seated < most and len(chosen) < size and (not new or came < newcomers):
                chosen.append(name)

    fill(parameters["max_seat_changes"])
    fill(size)
    seats = [name for name in ranked if name in chosen]
    standbys = [name for name in ranked if name not in chosen][: parameters["standbys"]]
    cap = parameters["organisation_cap"]
    return [
        [(name, weights[name], power) for name, power in zip(names, powers(names, of, weights, cap), strict=True)]
        for names in (seats, standbys)
    ]


def powers(names, of, weights, cap):
    """The power of each: its weight, with that of an organisation cut to `cap` ppm of all that is left."""
    held = Counter()
    for name in names:
        held[of[name]] += weights[name]
    limit = power_limit(sorted(held.values(), reverse=True), Fraction(cap, MILLION))
    found = {}
    for organisation, weight in held.items():
        mine = [name for name in names if of[name] == organisation]
        assert limit >= len(mine), "too small for this oracle"
        if weight <= limit:
            found |= {name: weights[name] for name in mine}
            continue
        # One unit each, and the rest by the largest remainder.
        quotas = {name: Fraction((limit - len(mine)) * (weights[name] - 1), weight - len(mine)) for name in mine}
        shares = {name: 1 + floor(quota) for name, quota in quotas.items()}
        over = limit - sum(shares.values())
        for name in sorted(mine, key=lambda name: (floor(quotas[name]) - quotas[name], name))[:over]:
            shares[name] += 1
        found |= shares
    return [found[name] for name in names]


def power_limit(held, cap):
    """The most that an organisation may have, in closed form: by how many of the largest, which come first, are cut."""
    if not held or len(held) * cap < 1:
        return min(held, default=0)
    if held[0] <= cap * sum(held):
        return held[0]
    for cut in range(1, len(held) + 1):
        # With `cut` organisations at the limit, limit = cap * (cut * limit + the others').
        limit = cap * sum(held[cut:]) / (1 - cut * cap) if cut * cap < 1 else 0
        if sum(held[cut : cut + 1]) <= limit <= held[cut - 1]:
            return floor(limit)
    raise AssertionError(f"no limit for {held} under {cap}")
