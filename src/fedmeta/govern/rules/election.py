"""Elections: who holds a seat in a term, with what power, and who leads.

A term's last block takes a snapshot and elects the term after the next. A candidate's weight is the stake behind it, at
most a multiple of its own. Seats go by weight, then earliest registration, then name; an organisation holds less than a
third of the seats (one at least), and an election brings in a bounded number of newcomers while incumbents can serve.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.pruning import prune
from fedmeta.govern.state.parameters import MILLION, Parameters
from fedmeta.govern.state.records import Candidate, Member, Round, Term
from fedmeta.govern.wire.events import LeaderChosen, SeatReplaced, StandbyDropped, TermElected, TermStarted
from fedmeta.govern.wire.parts import Seat


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
    if not seats and previous is not None:
        seats = previous.seats
    at_once = number == context.chain.term
    term = Term(
        number=number,
        snapshot=context.height,
        start=context.height + 1 if at_once else 0,
        ends=context.height + parameters.term_length if at_once else 0,
        seats=seats,
        standbys=with_powers(others[: parameters.standbys], parameters.organisation_cap),
    )
    context.draft.put(term)
    context.emit(TermElected(number, term.seats, term.standbys))
    return term


def ranking(context: Context) -> list[Seat]:
    """Return all who may be elected now, the first in rank first, with their weights and without power."""
    parameters, draft = context.parameters, context.draft
    ranked = []
    for one in draft.all(Candidate):
        if not one.active or one.jailed or one.tombstoned or one.tokens < parameters.min_self_stake:
            continue
        own = stake.own_stake(context, one)
        if own >= parameters.min_self_stake and draft.need(Member, one.member).active:
            weight = min(one.tokens, parameters.self_stake_factor * own)
            ranked.append((-weight, one.registered, one.member, one.organisation))
    ranked.sort()
    return [Seat(name, organisation, -weight, 0, 0) for weight, _, name, organisation in ranked]


def seat_limit(parameters: Parameters) -> int:
    """Return how many seats one organisation may hold: less than a third, but one at least."""
    return max(1, (parameters.super_nodes - 1) // 3)


def _choose(ranked: list[Seat], incumbents: frozenset[str] | None, parameters: Parameters) -> frozenset[str]:
    """Return the names of those that get a seat; `incumbents` is None where no election was before."""
    size, limit = parameters.super_nodes, seat_limit(parameters)
    bound = size if incumbents is None else parameters.max_seat_changes
    chosen: set[str] = set()
    held: Counter[str] = Counter()
    newcomers = 0
    # Seats that no incumbent can take are filled by further newcomers: the bound must not leave a term short.
    for most in (bound, size):
        for one in ranked:
            if len(chosen) == size:
                break
            new = incumbents is None or one.candidate not in incumbents
            if one.candidate in chosen or held[one.organisation] >= limit or (new and newcomers >= most):
                continue
            chosen.add(one.candidate)
            held[one.organisation] += 1
            newcomers += new
    return frozenset(chosen)


def with_powers(seats: Sequence[Seat], cap: int) -> tuple[Seat, ...]:
    """Return the seats with the powers that they have among one another, under a cap in parts per million."""
    found = powers([(one.candidate, one.organisation, one.weight) for one in seats], cap)
    return tuple(replace(one, power=power) for one, power in zip(seats, found, strict=True))


def powers(seats: Sequence[tuple[str, str, int]], cap: int) -> list[int]:
    """Return the power of each (name, organisation, weight): its weight, unless its organisation is above the cap.

    An organisation's power is then cut to the largest L with L * 10^6 <= cap * (the sum of all powers so cut), and
    divided among its seats: one unit each, the rest in proportion to the weights less one, by the largest remainder.
    Where there are too few organisations for the cap (number * cap < 10^6), all get the power of the smallest. Where
    this leaves an organisation less than one unit a seat, all weights are first multiplied by the number of seats.

    So every power is at least 1; no organisation's is above the cap if number * cap >= 10^6; and whatever the weights,
    each is below a third if there are at least four organisations and the cap is at most 333,333.

    Args:
        seats: Distinct names; the weights are positive.
        cap: Parts per million of the sum of the powers.
    """
    held: Counter[str] = Counter()
    places: dict[str, list[int]] = {}
    for at, (_, organisation, weight) in enumerate(seats):
        held[organisation] += weight
        places.setdefault(organisation, []).append(at)
    limit = _limit(list(held.values()), cap)
    if any(min(held[one], limit) < len(places[one]) for one in held):
        return powers([(name, organisation, weight * len(seats)) for name, organisation, weight in seats], cap)
    result = [weight for _, _, weight in seats]
    for organisation, at in places.items():
        if held[organisation] > limit:
            for place, power in zip(at, _divide(limit, [seats[one] for one in at]), strict=True):
                result[place] = power
    return result


def _limit(held: list[int], cap: int) -> int:
    """Return the most that an organisation may hold."""
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


def _divide(power: int, seats: list[tuple[str, str, int]]) -> list[int]:
    rest, whole = power - len(seats), sum(weight for _, _, weight in seats) - len(seats)
    parts = [divmod(rest * (weight - 1), whole) for _, _, weight in seats]
    result = [1 + part for part, _ in parts]
    by_remainder = sorted(range(len(seats)), key=lambda at: (-parts[at][1], seats[at][0]))
    for at in by_remainder[: power - sum(result)]:
        result[at] += 1
    return result


def next_leader(context: Context, number: int) -> str:
    """Return who leads next in a term, by smooth weighted round-robin; the empty string if the term has no seats.

    Every seat's priority grows by its power; the highest, the earlier seat of equals, leads and pays the total power.
    So of n seats with fixed powers none is a whole turn ahead of its due, or more than 1/2 + ... + 1/n turns behind.
    The priorities go on from term to term, so this also holds where terms are short.
    """
    term = context.draft.need(Term, number)
    if not term.seats:
        return ""
    priorities = [seat.priority + seat.power for seat in term.seats]
    first = priorities.index(max(priorities))
    priorities[first] -= sum(seat.power for seat in term.seats)
    seats = tuple(replace(seat, priority=one) for seat, one in zip(term.seats, priorities, strict=True))
    context.draft.put(replace(term, seats=seats))
    return seats[first].candidate


def replace_seat(context: Context, candidate: str) -> None:
    """Take a jailed or barred candidate out of the terms in which it has duties: the round's, the present, the next.

    The first standby that may serve gets the seat; without one it goes empty, but for a term's last seat.
    """
    chain, draft = context.chain, context.draft
    numbers = {chain.term, chain.term + 1}
    live = draft.get(Round, chain.round)
    if live is not None:
        numbers.add(live.term)
    for number in sorted(numbers):
        term = draft.get(Term, number)
        if term is None:
            continue
        if any(one.candidate == candidate for one in term.seats):
            _replace(context, term, candidate)
        elif any(one.candidate == candidate for one in term.standbys):
            standbys = _without(term.standbys, candidate, context.parameters.organisation_cap)
            draft.put(replace(term, standbys=standbys))
            context.emit(StandbyDropped(number, candidate))


def _replace(context: Context, term: Term, candidate: str) -> None:
    parameters = context.parameters
    cap, limit = parameters.organisation_cap, seat_limit(parameters)
    held = Counter(seat.organisation for seat in term.seats if seat.candidate != candidate)
    by = next(
        (one for one in term.standbys if held[one.organisation] < limit and _may_serve(context, one.candidate)), None
    )
    if by is None:
        if len(term.seats) == 1:
            return
        changed = replace(term, seats=_without(term.seats, candidate, cap))
    else:
        entering = replace(by, priority=0, since=context.height)
        seats = [entering if seat.candidate == candidate else seat for seat in term.seats]
        changed = replace(term, seats=with_powers(seats, cap), standbys=_without(term.standbys, by.candidate, cap))
    context.draft.put(changed)
    context.emit(SeatReplaced(term.number, candidate, by.candidate if by else "", changed.seats))


def _without(seats: Sequence[Seat], candidate: str, cap: int) -> tuple[Seat, ...]:
    return with_powers([one for one in seats if one.candidate != candidate], cap)


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
    height, parameters = context.height, context.parameters
    ends, term = height + parameters.term_length, context.draft.need(Term, number)
    seats = _carry_on(context.term.seats, term.seats)
    context.draft.put(replace(term, start=height + 1, ends=ends, seats=seats))
    chain = context.change_chain(term=number)
    context.emit(TermStarted(number, ends))
    live = context.draft.get(Round, chain.round)
    if live is not None and live.phase == "opening":
        leader = next_leader(context, number)
        deadline = height + parameters.open_blocks if live.deadline else 0
        context.draft.put(replace(live, term=number, leader=leader, leaders=(leader,), deadline=deadline))
        context.emit(LeaderChosen(live.number, number, leader, live.attempt, deadline))


def _carry_on(before: Sequence[Seat], seats: Sequence[Seat]) -> tuple[Seat, ...]:
    """Return the seats of a term that starts, with the priorities that their candidates have in the term before.

    Others start in the middle. All are moved so that the sum is 0 again, to the unit: what those that lost their seats
    had owed, or were owed, must not add up over the terms.
    """
    known = {seat.candidate: seat.priority for seat in before}
    priorities = [known.get(seat.candidate, 0) for seat in seats]
    surplus = sum(priorities) // max(1, len(seats))
    return tuple(replace(seat, priority=one - surplus) for seat, one in zip(seats, priorities, strict=True))
