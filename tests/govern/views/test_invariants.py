from dataclasses import replace

import pytest

from fedmeta.govern.errors import StateError
from fedmeta.govern.state.parameters import Parameters
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
from fedmeta.govern.views.invariants import check_invariants, check_seats, supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import TermElected
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play

LEFT = 6
"""The height at which stake has left."""


@pytest.fixture(scope="module")
def state():
    """A state that has something of everything."""
    play = Play()
    play.round(results={"dan": digest(b"other")})
    play.must(
        ("hal", tx.Undelegate("ann", 100)),
        ("hal", tx.Redelegate("ann", "bob", 100)),
        ("ivy", tx.Propose("pay", {"kind": "spend", "member": "hal", "amount": 5})),
    )
    assert play.height == LEFT
    check_invariants(play.state)
    assert all(supply_parts(play.state).values())
    return play.state


def change(state, *changes):
    """Return the state with fields of records changed: (class, key, fields)."""
    draft = state.draft()
    for cls, key, fields in changes:
        draft.put(replace(draft.need(cls, *key), **fields))
    return draft.finish()


def free(state, name, amount):
    return Member, (name,), {"free": state.need(Member, name).free + amount}


@pytest.mark.parametrize(
    ("cls", "key", "field"),
    [
        (Member, ("hal",), "free"),
        (Member, ("hal",), "owed"),
        (Candidate, ("ann",), "tokens"),
        (Candidate, ("ann",), "outstanding"),
        (Unbonding, ("ann", "hal", LEFT), "amount"),
        (Chain, (), "treasury"),
        (Proposal, (1,), "deposit"),
    ],
)
@pytest.mark.parametrize("by", [1, -1])
def test_a_unit_too_many_or_too_few_anywhere_is_found(state, cls, key, field, by):
    broken = change(state, (cls, key, {field: getattr(state.need(cls, *key), field) + by}))
    with pytest.raises(StateError, match="supply"):
        check_invariants(broken)


def test_a_negative_amount_is_found_even_where_the_sum_is_right(state):
    member = state.need(Member, "hal")
    with pytest.raises(StateError, match="hal's free units: -1"):
        check_invariants(change(state, free(state, "hal", -member.free - 1), free(state, "ivy", member.free + 1)))
    with pytest.raises(StateError, match="hal's owed units"):
        check_invariants(
            change(state, (Member, ("hal",), {"owed": -1, "free": member.free + member.owed + 1})),
        )
    treasury = state.need(Chain).treasury
    with pytest.raises(StateError, match="treasury"):
        check_invariants(change(state, (Chain, (), {"treasury": -1}), free(state, "hal", treasury + 1)))


def test_unbonding_that_was_due_or_holds_nothing_is_found(state):
    key = ("ann", "hal", LEFT)
    with pytest.raises(StateError, match="unbonding"):
        check_invariants(change(state, (Unbonding, key, {"completes": LEFT})))
    amount = state.need(Unbonding, *key).amount
    with pytest.raises(StateError, match="unbonding"):
        check_invariants(change(state, (Unbonding, key, {"amount": 0}), free(state, "hal", amount)))


def test_negative_redelegations_are_found(state):
    key = ("hal", "ann", "bob", LEFT)
    for field in ("amount", "shares"):
        with pytest.raises(StateError, match="redelegat"):
            check_invariants(change(state, (Redelegation, key, {field: -1})))


def test_shares_that_do_not_add_up_are_found(state):
    shares = state.need(Delegation, "hal", "ann").shares
    for more in (1, -1):
        with pytest.raises(StateError, match="shares of ann's pool"):
            check_invariants(change(state, (Delegation, ("hal", "ann"), {"shares": shares + more})))
    draft = state.draft()
    draft.delete(Delegation, "hal", "ann")
    with pytest.raises(StateError, match="shares of ann's pool"):
        check_invariants(draft.finish())


def test_a_delegation_without_shares_is_found(state):
    draft = state.draft()
    draft.put(Delegation("joy", "ann", 0, 0))
    with pytest.raises(StateError, match="joy holds 0 shares"):
        check_invariants(draft.finish())


def test_claims_beyond_what_is_outstanding_are_found(state):
    index = state.need(Candidate, "ann").reward_index
    with pytest.raises(StateError, match="may claim"):
        check_invariants(change(state, (Candidate, ("ann",), {"reward_index": 2 * index})))


def test_units_in_a_pool_without_shares_are_found(state):
    tokens = state.need(Candidate, "gil").tokens
    draft = change(state, (Candidate, ("gil",), {"shares": 0, "tokens": tokens})).draft()
    draft.delete(Delegation, "gil", "gil")
    with pytest.raises(StateError, match="no shares"):
        check_invariants(draft.finish())


def test_parameters_that_contradict_each_other_are_found(state):
    with pytest.raises(StateError, match="parameters"):
        check_invariants(change(state, (Parameters, (), {"unbonding_blocks": 1})))


@pytest.mark.parametrize("number", [1, 2])
def test_an_organisation_with_a_third_of_the_power_is_found(state, number):
    seats = state.need(Term, number).seats
    others = sum(seat.power for seat in seats[1:])
    third = (replace(seats[0], power=others // 2), *seats[1:])
    check_invariants(
        change(state, (Term, (number,), {"seats": (replace(third[0], power=others // 2 - 1), *seats[1:])}))
    )
    with pytest.raises(StateError, match="below a third"):
        check_invariants(change(state, (Term, (number,), {"seats": third})))


def test_an_organisation_with_two_seats_is_found():
    spread = tuple(Seat(f"s{at}", f"o{at}", 20, 20) for at in range(5))
    check_seats(spread)
    with pytest.raises(StateError, match="6 seats are held by 5 organisations"):
        check_seats((*spread, Seat("more", "o0", 1, 1)))


@pytest.mark.parametrize("field", ["paid", "spent"])
def test_a_term_that_was_paid_less_than_nothing_is_found(state, field):
    with pytest.raises(StateError, match="term 1 has paid"):
        check_invariants(change(state, (Term, (1,), {field: -1})))


def test_a_missing_term_is_found(state):
    draft = state.draft()
    draft.delete(Term, 2)
    with pytest.raises(StateError, match="term"):
        check_invariants(draft.finish())


def test_the_invariants_hold_through_terms_rounds_and_slashes():
    play = Play(term_length=12, jail_blocks=6)
    for number in range(12):
        seats = play.super_nodes()
        withhold = [seats[1]] if number % 4 == 1 else []
        results = {seats[-1]: digest(b"a lie")} if number % 5 == 2 else {}
        play.round(withhold=withhold, absent=[seats[-1]] if number % 3 == 2 else [], results=results)
        play.block(("hal", tx.Undelegate("ann", 7)), ("ivy", tx.Redelegate("bob", "cat", 3)), ("joy", tx.Claim()))
    assert len(play.events(TermElected)) >= 6
    assert play.chain.faults
