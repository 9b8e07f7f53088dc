"""What holds after every block, checked from scratch over the whole state."""

from collections import Counter

from fedmeta.govern.errors import Refused, StateError
from fedmeta.govern.rules.stake import accrued
from fedmeta.govern.state.parameters import Parameters, check_parameters
from fedmeta.govern.state.records import (
    Candidate,
    Chain,
    Delegation,
    Member,
    Proposal,
    Redelegation,
    Term,
    Unbonding,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.parts import Seat


def supply_parts(state: State) -> dict[str, int]:
    """Return where the supply lies, in units; the parts add up to it.

    free: the members' own; bonded: in the candidates' pools; unbonding: on its way out; owed: rewards, settled or
    still with the candidates' delegators; treasury; deposits: of proposals that are voted on.
    """
    members, candidates = state.all(Member), state.all(Candidate)
    return {
        "free": sum(one.free for one in members),
        "bonded": sum(one.tokens for one in candidates),
        "unbonding": sum(one.amount for one in state.all(Unbonding)),
        "owed": sum(one.owed for one in members) + sum(one.outstanding for one in candidates),
        "treasury": state.need(Chain).treasury,
        "deposits": sum(one.deposit for one in state.where(Proposal, "status", "voting")),
    }


def check_invariants(state: State) -> None:
    """Check supply, signs, shares, claims, parameters and power.

    Raises:
        StateError: what does not hold, with the numbers.
    """
    parts, chain = supply_parts(state), state.need(Chain)
    if sum(parts.values()) != chain.supply:
        raise StateError(f"the parts of the supply {parts} add up to {sum(parts.values())}, not to {chain.supply}")
    _check_signs(state, parts)
    _check_pools(state)
    _check_parameters(state)
    for number in (chain.term, chain.term + 1):
        check_seats(state.need(Term, number).seats)
    _check_budgets(state)


def _check_signs(state: State, parts: dict[str, int]) -> None:
    amounts = {f"the supply's {name}": amount for name, amount in parts.items()}
    for one in state.all(Member):
        amounts |= {f"{one.name}'s free units": one.free, f"{one.name}'s owed units": one.owed}
    for one in state.all(Candidate):
        amounts |= {f"{one.member}'s pool": one.tokens, f"{one.member}'s outstanding rewards": one.outstanding}
    for one in state.all(Redelegation):
        amounts |= {f"{one.member}'s redelegation": one.amount, f"{one.member}'s redelegated shares": one.shares}
    for name, amount in amounts.items():
        if amount < 0:
            raise StateError(f"{name}: {amount} is negative")
    for one in state.all(Unbonding):
        if one.amount <= 0 or one.completes <= state.height:
            raise StateError(f"{one.member}'s unbonding of {one.amount} was due at {one.completes}")


def _check_pools(state: State) -> None:
    shares: Counter[str] = Counter()
    claims: Counter[str] = Counter()
    candidates = {one.member: one for one in state.all(Candidate)}
    for one in state.all(Delegation):
        if one.shares <= 0:
            raise StateError(f"{one.member} holds {one.shares} shares of {one.candidate}")
        shares[one.candidate] += one.shares
        claims[one.candidate] += accrued(one, candidates[one.candidate])
    for name, one in candidates.items():
        if shares[name] != one.shares:
            raise StateError(f"the shares of {name}'s pool add up to {shares[name]}, not to {one.shares}")
        if claims[name] > one.outstanding:
            raise StateError(f"{name}'s delegators may claim {claims[name]}, but {one.outstanding} are outstanding")
        if not one.shares and one.tokens:
            raise StateError(f"{name}'s pool holds {one.tokens} units, but has no shares")


def _check_parameters(state: State) -> None:
    values, chain = state.need(Parameters), state.need(Chain)
    try:
        named = {name: getattr(values, name) for name in Parameters.__dataclass_fields__}
        check_parameters(named, chain.supply, chain.validators)
    except Refused as error:
        raise StateError(f"the parameters contradict each other: {error}") from error


def _check_budgets(state: State) -> None:
    for term in state.all(Term):
        if term.paid < 0 or term.spent < 0:
            raise StateError(f"term {term.number} has paid {term.paid} for rounds and spent {term.spent}")


def check_seats(seats: tuple[Seat, ...]) -> None:
    """Check that no organisation has two seats or, of four or more, a third of the power.

    Raises:
        StateError: which organisation has how much.
    """
    organisations = {seat.organisation for seat in seats}
    if len(organisations) < len(seats):
        raise StateError(f"{len(seats)} seats are held by {len(organisations)} organisations: one each is due")
    total = sum(seat.power for seat in seats)
    for seat in seats:
        if len(seats) >= 4 and seat.power * 3 >= total:
            raise StateError(f"{seat.organisation} has {seat.power} of a power of {total}: it must be below a third")
