"""Elections: who holds a seat in a term, and with what power.

A term's last block takes a snapshot and elects the term after the next. A candidate's weight is the stake behind it, at
most a multiple of its own. Seats go by weight, then earliest registration, then name; an organisation holds one, and an
election brings in a bounded number of newcomers while incumbents can serve.
"""

from collections.abc import Sequence

from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.pruning import prune
from fedmeta.govern.state.parameters import MILLION, Parameters
from fedmeta.govern.state.records import Candidate, Member, Term
from fedmeta.govern.wire.events import SeatReplaced, StandbyDropped, TermElected, TermStarted
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.parts import Seat

FEWEST = 4
"""Organisations that a term needs to do without a third of the power: fewer serve with those that were absent."""


def elect(context: Context, number: int) -> Term:
    """Elect a term by the present stakes, and return it; where nobody can be elected, the seats stay as they are.

    A term that is the present one already, as at genesis, starts with the next block.
    """
    parameters = context.parameters
    ranked = ranking(context)
    previous = context.draft.get(Term, number - 1)
    incumbents = None if previous is None else frozenset(seat.candidate for seat in previous.seats)
    chosen = _choose(ranked, incumbents, parameters)
    others = [one for one in ranked if one.candidate not in chosen]
    seats = with_powers([one for one in ranked if one.candidate in chosen], parameters.organisation_cap)
    snapshot = context.height
    if not seats and previous is not None:
        # Whoever stays on answers with the stake that elected it.
        seats, snapshot = previous.seats, previous.snapshot
    at_once = number == context.chain.term
    term = Term(
        number=number,
        snapshot=snapshot,
        start=context.height + 1 if at_once else 0,
        ends=context.height + parameters.term_length if at_once else 0,
        seats=seats,
        standbys=tuple(others[: parameters.standbys]),
        ended=0,
        paid=0,
        spent=0,
    )
    context.draft.put(term)
    context.emit(TermElected(number, term.seats, term.standbys))
    return term


def ranking(context: Context) -> list[Seat]:
    """Return all who may be elected now, the first in rank first, with their weights and without power.

    While they are of fewer than four organisations, those that are in jail for absence come after them.
    """
    able = _ranked(context, absent=False)
    organisations = {one.organisation for one in able}
    for one in _ranked(context, absent=True):
        if len(organisations) < FEWEST and one.organisation not in organisations:
            organisations.add(one.organisation)
            able.append(one)
    return able


def _ranked(context: Context, absent: bool) -> list[Seat]:
    parameters, draft = context.parameters, context.draft
    ranked = []
    for one in draft.all(Candidate):
        if not one.active or (one.jailed, one.absent) != (absent, absent) or one.tokens < parameters.min_self_stake:
            continue
        if context.chain.validators and not one.consensus:
            continue
        own = stake.own_stake(context, one)
        if own >= parameters.min_self_stake and draft.need(Member, one.member).active:
            weight = min(one.tokens, parameters.self_stake_factor * own)
            ranked.append((-weight, one.registered, one.member, one.organisation))
    ranked.sort()
    return [Seat(name, organisation, -weight, 0) for weight, _, name, organisation in ranked]


def _choose(ranked: list[Seat], incumbents: frozenset[str] | None, parameters: Parameters) -> frozenset[str]:
    """Return the names of those that get a seat; `incumbents` is None where no election was before."""
    size = parameters.super_nodes
    bound = size if incumbents is None else parameters.max_seat_changes
    chosen: set[str] = set()
    held: set[str] = set()
    newcomers = 0
    # Seats that no incumbent can take are filled by further newcomers: the bound must not leave a term short.
    for most in (bound, size):
        for one in ranked:
            if len(chosen) == size:
                break
            new = incumbents is None or one.candidate not in incumbents
            if one.candidate in chosen or one.organisation in held or (new and newcomers >= most):
                continue
            chosen.add(one.candidate)
            held.add(one.organisation)
            newcomers += new
    return frozenset(chosen)


def with_powers(seats: Sequence[Seat], cap: int) -> tuple[Seat, ...]:
    """Return the seats with the powers that they have among one another, under a cap in parts per million."""
    found = powers([one.weight for one in seats], cap)
    return tuple(replace(one, power=power) for one, power in zip(seats, found, strict=True))


def powers(weights: Sequence[int], cap: int) -> list[int]:
    """Return the power of each seat: its weight, but at most L.

    L is the largest whole number with L * 10^6 <= cap * (the sum of all powers). Where there are too few seats for that
    (number * cap < 10^6), all get the power of the smallest. So every power is at least 1; none is above the cap if
    number * cap >= 10^6; and whatever the weights, each is below a third if there are at least four seats and the cap
    is at most 333,333.

    Args:
        weights: Of each seat, positive; an organisation has one seat.
        cap: Parts per million of the sum of the powers.
    """
    limit = _limit(weights, cap)
    return [min(one, limit) for one in weights]


def _limit(held: Sequence[int], cap: int) -> int:
    """Return the most that a seat may hold."""
    if not held:
        return 0
    low, high = min(held), max(held)
    if len(held) * cap < MILLION:
        return low
    # What the cap allows grows slower and slower with the limit, so that it is kept up to one point and never beyond.
    while low < high:
        middle = (low + high + 1) // 2
        if middle * MILLION <= cap * sum(min(one, middle) for one in held):
            low = middle
        else:
            high = middle - 1
    return low


def replace_seat(context: Context, candidate: str) -> None:
    """Take a jailed, barred or removed candidate out of the present and the next term.

    The first standby that may serve gets the seat; without one it goes empty, but for a term's last seat, and but for
    that of a candidate which was only absent where fewer than four organisations would remain. A round that has begun
    keeps its seats.
    """
    chain, draft = context.chain, context.draft
    for number in (chain.term, chain.term + 1):
        term = draft.get(Term, number)
        if term is None:
            continue
        if any(one.candidate == candidate for one in term.seats):
            _replace(context, term, candidate)
        elif any(one.candidate == candidate for one in term.standbys):
            standbys = tuple(one for one in term.standbys if one.candidate != candidate)
            draft.put(replace(term, standbys=standbys))
            context.emit(StandbyDropped(number, candidate))


def _replace(context: Context, term: Term, candidate: str) -> None:
    cap = context.parameters.organisation_cap
    rest = [seat for seat in term.seats if seat.candidate != candidate]
    held = {seat.organisation for seat in rest}
    by = next(
        (one for one in term.standbys if one.organisation not in held and _may_serve(context, one.candidate)), None
    )
    if by is None:
        gone = context.candidate(candidate)
        if not rest or (gone.absent and context.member(candidate).active and len(term.seats) <= FEWEST):
            return
        changed = replace(term, seats=with_powers(rest, cap))
    else:
        seats = [by if seat.candidate == candidate else seat for seat in term.seats]
        standbys = tuple(one for one in term.standbys if one.candidate != by.candidate)
        changed = replace(term, seats=with_powers(seats, cap), standbys=standbys)
    context.draft.put(changed)
    context.emit(SeatReplaced(term.number, candidate, by.candidate if by else "", changed.seats))


def _may_serve(context: Context, name: str) -> bool:
    candidate = context.draft.need(Candidate, name)
    return not candidate.jailed and not candidate.tombstoned and context.draft.need(Member, name).active


def end_block(context: Context) -> None:
    """In a term's last block: elect the term after the next, let the next one start, and drop what is out of date."""
    present = context.term
    if context.height < present.ends:
        return
    elect(context, present.number + 2)
    _start(context, present.number + 1)
    prune(context)


def _start(context: Context, number: int) -> None:
    ends = context.height + context.parameters.term_length
    context.draft.put(replace(context.term, ended=context.time))
    context.draft.put(replace(context.draft.need(Term, number), start=context.height + 1, ends=ends))
    context.change_chain(term=number)
    context.emit(TermStarted(number, ends))
