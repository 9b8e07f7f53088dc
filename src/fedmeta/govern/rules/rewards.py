"""What a final round pays, to whom and why: whole units, rounded down, and the rest stays in the treasury.

The pool is drawn from the treasury as far as it reaches. A contributor is paid by its score: the lower median of what
the seats of other organisations gave it, weighted by power. Scores are never normalised upwards, and seats share their
part equally whether or not all of them are there: so nobody gains by keeping another out. A super node keeps its
commission and the rest raises its voters' reward index; a unit of stake therefore earns more behind a smaller super
node, and stake gains by moving there.
"""

from collections.abc import Callable, Iterable, Sequence

from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Attestation, Round, Update
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.round_events import ContributorPaid, PoolReturned, PoolShared, SuperNodePaid


def pay(context: Context, round: Round) -> int:
    """Share the pool of a round that is final, and return what was paid; the rest stays in the treasury."""
    parameters = context.parameters
    agreed = agreed_on(context.draft.get, round)
    pool = min(round.pool, context.chain.treasury)
    contributors = pool * parameters.contributor_share // MILLION
    super_nodes = pool * parameters.super_node_share // MILLION
    updates = [context.draft.need(Update, round.number, one) for one in round.members]
    scores = merged(updates, agreed)
    total = max(MILLION, sum(scores))
    context.emit(PoolShared(round.number, round.term, pool, contributors, super_nodes, total, len(round.seats)))
    paid = 0
    for update, score in zip(updates, scores, strict=True):
        # Who may have seen others' updates before it committed to its own is not paid for it.
        paid += _pay_contributor(context, round, update.member, 0 if update.unpaid else score, total, contributors)
    for seat, _ in agreed:
        if not context.candidate(seat.candidate).jailed:
            paid += _pay_super_node(context, round, seat.candidate, super_nodes)
    context.treasury(-paid)
    context.emit(PoolReturned(round.number, pool - paid))
    return paid


def agreed_on(get: Callable[..., Attestation | None], round: Round) -> list[tuple[Seat, Attestation]]:
    """Return the seats that opened the round's result, with what they opened; `get` is a state's, or a draft's."""
    found = ((seat, get(Attestation, round.number, seat.candidate)) for seat in round.seats)
    return [(seat, one) for seat, one in found if one is not None and one.revealed and one.result == round.result]


def merged(updates: Sequence[Update], agreed: Sequence[tuple[Seat, Attestation]]) -> list[int]:
    """Return the score of each update: the lower median, by power, of what seats of other organisations gave it."""
    return [
        lower_median(
            (attestation.scores[at], seat.power)
            for seat, attestation in agreed
            if seat.organisation != update.organisation
        )
        for at, update in enumerate(updates)
    ]


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


def _pay_super_node(context: Context, round: Round, name: str, pool: int) -> int:
    candidate = context.candidate(name)
    seats = len(round.seats)
    amount = pool // seats
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
            seats=seats,
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
