"""What a final round pays, to whom and why: whole units, rounded down, and the rest stays in the treasury.

The pool is a parameter, drawn from the treasury as far as it reaches. Contributors share their part by score: the
lower median of what the super nodes revealed, weighted by power. Super nodes share theirs by duty done, not by stake:
equal pay for equal duty. A super node keeps its commission and the rest raises its voters' reward index; so a unit of
stake earns more behind a smaller super node, and stake gains by moving there.
"""

from collections.abc import Iterable

from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Attestation, Manifest, Round, Term
from fedmeta.govern.wire.events import ContributorPaid, PoolReturned, PoolShared, SuperNodePaid
from fedmeta.govern.wire.parts import Seat


def pay(context: Context, round: Round) -> None:
    """Share the pool of a round whose result is the manifest's; what is not paid stays in the treasury."""
    parameters, draft = context.parameters, context.draft
    manifest = draft.need(Manifest, round.number)
    term = draft.need(Term, round.term)
    agreed = _agreed(context, round, term)
    pool = min(parameters.round_pool, context.chain.treasury)
    contributors = pool * parameters.contributor_share // MILLION
    super_nodes = pool * parameters.super_node_share // MILLION
    scores = [lower_median((one.scores[at], seat.power) for seat, one in agreed) for at in range(len(manifest.members))]
    names = {seat.candidate for seat, _ in agreed}
    points = {
        seat.candidate: (seat.candidate in names) + parameters.leader_points * (seat.candidate == manifest.leader)
        for seat in term.seats
    }
    total_score, total_points = sum(scores), sum(points.values())
    context.emit(PoolShared(round.number, round.term, pool, contributors, super_nodes, total_score, total_points))
    paid = 0
    if total_score:
        for name, score in zip(manifest.members, scores, strict=True):
            paid += _pay_contributor(context, round, name, score, total_score, contributors)
    for name, done in points.items():
        if done:
            paid += _pay_super_node(context, round, name, done, total_points, super_nodes)
    context.treasury(-paid)
    kept = pool - paid
    context.emit(PoolReturned(round.number, kept, kept - pool * parameters.treasury_share // MILLION))


def _agreed(context: Context, round: Round, term: Term) -> list[tuple[Seat, Attestation]]:
    """Return the seats that revealed the round's result, with what they revealed."""
    found = ((seat, context.draft.get(Attestation, round.number, seat.candidate)) for seat in term.seats)
    return [(seat, one) for seat, one in found if one is not None and one.revealed and one.result == round.result]


def lower_median(values: Iterable[tuple[int, int]]) -> int:
    """Return the smallest of the (value, weight) pairs' values up to which half the weight lies; 0 for no pairs.

    Whoever holds less than half the weight cannot move it beyond what the others say.
    """
    ordered = sorted(values)
    total, below = sum(weight for _, weight in ordered), 0
    for value, weight in ordered:
        below += weight
        if below * 2 >= total:
            return value
    return 0


def _pay_contributor(context: Context, round: Round, name: str, score: int, total: int, pool: int) -> int:
    amount = pool * score // total
    context.owe(name, amount)
    context.emit(ContributorPaid(round.number, round.term, name, score, total, pool, amount))
    return amount


def _pay_super_node(context: Context, round: Round, name: str, points: int, total: int, pool: int) -> int:
    candidate = context.candidate(name)
    amount = pool * points // total
    rate = min(candidate.commission, context.parameters.commission_cap)
    commission = amount * rate // MILLION
    voters = amount - commission
    index = candidate.reward_index
    if candidate.shares and voters:
        index = stake.give_voters(context, name, voters).reward_index
        context.owe(name, commission)
    else:
        context.owe(name, amount)
    context.emit(
        SuperNodePaid(
            round=round.number,
            term=round.term,
            candidate=name,
            points=points,
            total_points=total,
            pool=pool,
            amount=amount,
            commission_rate=rate,
            commission=commission,
            voters=voters,
            shares=candidate.shares,
            index_from=candidate.reward_index,
            index_to=index,
        )
    )
    return amount
