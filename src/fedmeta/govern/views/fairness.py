"""How fair and how concentrated a federation is, in whole numbers: shares are in parts per million, rounded down."""

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

from fedmeta.govern.rules.stake import value_of
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Delegation, Member, Proposal, Vote
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.parts import Seat


class Nakamoto(NamedTuple):
    """How many organisations, the largest first, it takes; both 0 where there is no power."""

    stop: int
    """To hold at least a third of the power: without them nothing becomes final, which needs more than two thirds."""
    decide: int
    """To hold more than two thirds of the power: they make final what they like."""


class Overlap(NamedTuple):
    """How often two organisations voted alike."""

    first: str
    second: str
    both: int
    """Decided proposals on which both voted."""
    alike: int
    """Those on which all members of both that voted made one choice."""


def gini(values: Iterable[int]) -> int:
    """Return the Gini coefficient of amounts that are not negative; 0 if all are alike, or there are none.

    With x_1 <= ... <= x_n it is (2 * sum(i * x_i) - (n + 1) * sum(x_i)) / (n * sum(x_i)).
    """
    ordered = sorted(values)
    number, total = len(ordered), sum(ordered)
    if not total:
        return 0
    ranked = sum(rank * value for rank, value in enumerate(ordered, 1))
    return (2 * ranked - (number + 1) * total) * MILLION // (number * total)


def nakamoto(powers: Mapping[str, int]) -> Nakamoto:
    """Return the Nakamoto coefficients of the powers of organisations."""
    total, held = sum(powers.values()), 0
    stop = decide = 0
    if not total:
        return Nakamoto(0, 0)
    for count, power in enumerate(sorted(powers.values(), reverse=True), 1):
        held += power
        if not stop and held * 3 >= total:
            stop = count
        if not decide and held * 3 > total * 2:
            decide = count
    return Nakamoto(stop, decide)


def share(part: int, whole: int) -> int:
    """Return a part of a whole in parts per million; 0 if there is no whole."""
    return part * MILLION // whole if whole else 0


def turnout(proposal: Proposal) -> int:
    """Return the part of the bonded stake that voted on a decided proposal; 0 if nothing was bonded."""
    return share(proposal.yes + proposal.no + proposal.abstain + proposal.against, proposal.bonded)


def vote_overlap(state: State, organisations: Collection[str] | None = None) -> list[Overlap]:
    """Return how often each two of the organisations voted alike, for those that voted on one proposal at all.

    Only proposals that are decided, and not forgotten yet, are counted.

    Args:
        state: The state to read.
        organisations: Which ones to compare; the work grows with the square of their number. None for all.
    """
    home = {member.name: member.organisation for member in state.all(Member)}
    wanted = None if organisations is None else frozenset(organisations)
    both: dict[tuple[str, str], int] = {}
    alike: dict[tuple[str, str], int] = {}
    for proposal in state.all(Proposal):
        if proposal.status == "voting":
            continue
        choices: dict[str, set[str]] = {}
        for vote in state.where(Vote, "proposal", proposal.number):
            if wanted is None or home[vote.member] in wanted:
                choices.setdefault(home[vote.member], set()).add(vote.choice)
        for pair in combinations(sorted(choices), 2):
            made = choices[pair[0]] | choices[pair[1]]
            both[pair] = both.get(pair, 0) + 1
            alike[pair] = alike.get(pair, 0) + (len(made) == 1)
    return [Overlap(*pair, both[pair], alike[pair]) for pair in sorted(both)]


def powers_by_organisation(seats: Iterable[Seat]) -> dict[str, int]:
    """Return the power of each organisation among the seats, by name."""
    powers: dict[str, int] = {}
    for seat in seats:
        powers[seat.organisation] = powers.get(seat.organisation, 0) + seat.power
    return dict(sorted(powers.items()))


def stake_by_member(state: State) -> dict[str, int]:
    """Return the units that each active member has bonded, nothing included."""
    stakes = {member.name: 0 for member in state.all(Member) if member.active}
    pools = {candidate.member: candidate for candidate in state.all(Candidate)}
    for one in state.all(Delegation):
        if one.member in stakes:
            stakes[one.member] += value_of(pools[one.candidate], one.shares)
    return stakes


def rewards_by_member(state: State) -> dict[str, int]:
    """Return the rewards that were ever settled for each active member, claimed or not."""
    return {member.name: member.earned for member in state.all(Member) if member.active}
