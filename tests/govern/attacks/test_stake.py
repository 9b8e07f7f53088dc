"""Attacks on stake, commissions, claims, seats and votes: refused, or without gain."""

from dataclasses import replace

import pytest

from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.proposals import count_votes
from fedmeta.govern.rules.stake import INDEX_SCALE, SHARES_PER_UNIT, THINNEST, give_voters
from fedmeta.govern.state.parameters import MILLION, PHASES
from fedmeta.govern.state.records import Proposal, Term, Vote
from fedmeta.govern.views.invariants import check_seats, supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import SuperNodePaid
from fedmeta.govern.wire.schema import MAX_AMOUNT
from tests.govern.attacks.means import codes, wealth
from tests.govern.playing import SHORT, YEAR, Play, federation

# Stake in circles


def test_stake_cannot_be_delegated_to_oneself_or_moved_in_circles():
    play = Play()
    assert play.refusal("ann", tx.Delegate("ann", 100)) == "not-allowed"
    assert play.refusal("hal", tx.Redelegate("ann", "ann", 100)) == "not-allowed"
    play.must(("hal", tx.Redelegate("ann", "bob", 400)))
    assert play.refusal("hal", tx.Redelegate("bob", "ann", 400)) == "redelegation-hop"
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1)) == "redelegation-hop"
    assert codes(play.block(("hal", tx.Redelegate("ann", "cat", 100)), ("hal", tx.Redelegate("cat", "ann", 100)))) == [
        "redelegation-hop"
    ]


def test_candidates_that_stake_on_each_other_make_no_stake_and_lose_weight_of_their_own():
    play = Play()
    before = supply_parts(play.state)["bonded"]
    play.must(("ann", tx.Redelegate("ann", "bob", 4_900)), ("bob", tx.Redelegate("bob", "ann", 3_900)))
    assert supply_parts(play.state)["bonded"] == before
    play.wait_until(40)
    seats = {one.candidate: one.weight for one in play.state.need(Term, 3).seats}
    # Neither has the stake of its own that an election needs.
    assert "ann" not in seats
    assert "bob" not in seats


# Commission


def test_a_commission_cannot_jump():
    play = Play()
    rise = play.parameters.commission_rise
    step = YEAR // rise + (YEAR % rise > 0)
    assert play.refusal("ann", tx.SetCommission(play.parameters.commission_cap + 1)) == "commission-cap"
    assert play.refusal("hal", tx.Register(play.parameters.commission_cap + 1)) == "commission-cap"
    # One part per million comes free after so many milliseconds, and not one before.
    assert codes(play.block(("ann", tx.SetCommission(100_001)), time=step - 1)) == ["commission-cap"]
    assert codes(play.block(("ann", tx.SetCommission(100_002)), time=1)) == ["commission-cap"]
    assert not codes(play.block(("ann", tx.SetCommission(100_001)), time=0))
    # In one block or one time there is no second step.
    assert codes(play.block(("ann", tx.SetCommission(100_002)), time=0)) == ["commission-cap"]


def test_what_was_not_risen_for_years_is_not_saved_up():
    play = Play(commission_rise=50_000)
    assert codes(play.block(("ann", tx.SetCommission(150_001)), time=10 * YEAR)) == ["commission-cap"]
    assert not codes(play.block(("ann", tx.SetCommission(150_000)), time=0))


def test_retiring_and_registering_anew_does_not_reset_the_commission():
    play = Play()
    play.must(("ann", tx.Retire()))
    assert play.refusal("ann", tx.Register(200_000)) == "commission-cap"
    assert play.refusal("ann", tx.Register(100_001)) == "commission-cap"
    play.must(("ann", tx.Register(100_000)))
    assert play.refusal("ann", tx.SetCommission(100_001)) == "commission-cap"
    # Nor does going down first save anything up.
    play.must(("ann", tx.SetCommission(0)))
    play.must(("ann", tx.Retire()))
    assert play.refusal("ann", tx.Register(100_000)) == "commission-cap"


def test_a_cap_that_is_lowered_holds_for_those_that_were_above_it():
    play = Play()
    play.by_hand(lambda context: context.draft.put(replace(context.parameters, commission_cap=50_000)))
    play.round()
    assert {one.commission_rate for one in play.events(SuperNodePaid)} == {50_000}


# Claims


def test_rewards_are_paid_once_however_they_are_asked_for():
    def twice(*bodies):
        play = Play()
        play.round()
        play.block(*bodies)
        return play

    once = twice(("hal", tx.Claim()))
    assert once.member("hal").owed == 0
    assert once.refusal("hal", tx.Claim()) == "insufficient-funds"
    earned = once.member("hal").free
    for bodies in (
        [tx.Claim(), tx.Claim()],
        [tx.Delegate("ann", 1), tx.Claim(), tx.Claim()],
        [tx.Claim(), tx.Undelegate("ann", 500), tx.Claim()],
        [tx.Undelegate("ann", 1_000), tx.Claim(), tx.Delegate("ann", 1_000), tx.Claim()],
        [tx.Redelegate("ann", "bob", 500), tx.Claim(), tx.Undelegate("bob", 100), tx.Claim()],
    ):
        play = twice(*(("hal", one) for one in bodies))
        assert wealth(play, "hal") - wealth(once, "hal") <= 0
        assert play.member("hal").earned == once.member("hal").earned
    assert earned > 10_000


def test_claiming_often_gains_and_loses_nothing():
    def earned(often):
        play = Play()
        for _ in range(4):
            play.round()
            if often:
                play.must(*((name, tx.Claim()) for name in ("hal", "ivy", "joy")))
        if not often:
            play.wait()
            play.must(*((name, tx.Claim()) for name in ("hal", "ivy", "joy")))
        return [play.member(name).earned for name in ("hal", "ivy", "joy")]

    assert earned(often=True) == earned(often=False)


def test_no_number_of_small_payments_lets_the_claims_run_ahead_of_what_was_paid():
    play = Play()
    ahead = []

    def pay(context):
        before = context.candidate("ann")
        for number in range(1, 50):
            context.treasury(-1)
            after = give_voters(context, "ann", 1)
            due = (after.reward_index - before.reward_index) * after.shares - number * INDEX_SCALE
            ahead.append(0 <= due < number * after.shares)

    play.by_hand(pay)
    # At most one step of the index a payment; the thinnest pool of the largest supply needs 2**48 of them for a unit.
    assert all(ahead)
    assert MAX_AMOUNT * SHARES_PER_UNIT * THINNEST < INDEX_SCALE // 2**48


def test_stake_that_comes_for_one_payment_is_bound_for_the_whole_unbonding_period():
    play = Play(**SHORT)
    openings = play.to_reveal()
    play.must(*openings.items(), ("ivy", tx.Delegate("ann", 9_000)))
    free = play.member("ivy").free
    play.must(("ivy", tx.Undelegate("ann", 9_000)))
    out = play.height + play.parameters.unbonding_blocks
    play.wait_until(out - 1)
    assert play.member("ivy").free == free
    play.wait()
    assert play.member("ivy").free == free + 9_000


# Many identities of one organisation


def power_of(stakes, organisations, **options):
    """Return the seats and the part of the power, in ppm, of `big` in the first term."""
    seats = (
        start(federation(stakes=stakes, delegations=(), organisations=organisations, **options))
        .state.need(Term, 1)
        .seats
    )
    check_seats(seats)
    own = [one for one in seats if one.organisation == "big"]
    return len(own), sum(one.power for one in own) * MILLION // sum(one.power for one in seats)


@pytest.mark.parametrize("identities", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("super_nodes", [4, 7])
def test_splitting_an_organisation_into_identities_buys_neither_seats_nor_power(identities, super_nodes):
    others = {f"other-{at}": 2_000 for at in range(7)}
    parts = {f"big-{at}": 120_000 // identities for at in range(identities)}
    windows = {f"{phase}_blocks": 24 for phase in PHASES}
    seats, power = power_of({**others, **parts}, dict.fromkeys(parts, "big"), super_nodes=super_nodes, **windows)
    assert seats == 1
    assert power <= 330_000


def test_splitting_does_not_bring_an_organisation_more_of_a_vote():
    def count(parts):
        play = Play(
            stakes={**{f"other-{at}": 2_000 for at in range(4)}, **parts},
            delegations=(),
            organisations=dict.fromkeys(parts, "big"),
        )
        action = {"kind": "spend", "member": "other-0", "amount": 1}
        play.must(("other-0", tx.Propose("Spend", action)))
        play.must(*((name, tx.CastVote(1, "yes")) for name in parts))
        return count_votes(play.state, play.state.all(Vote)).yes

    assert count({"big-0": 6_000}) == count({f"big-{at}": 2_000 for at in range(3)}) == 6_000


# Votes


def test_moving_stake_between_votes_does_not_count_it_twice():
    play = Play()
    play.must(("ann", tx.Propose("Spend", {"kind": "spend", "member": "ann", "amount": 1})))
    play.must(("hal", tx.CastVote(1, "yes")))
    play.must(("hal", tx.Redelegate("ann", "bob", 1_000)))
    play.must(("hal", tx.CastVote(1, "no")), ("ann", tx.CastVote(1, "yes")), ("bob", tx.CastVote(1, "yes")))
    tally = count_votes(play.state, play.state.all(Vote))
    assert (tally.yes, tally.no) == (5_000 + 4_500, 1_000)
    # Stake on its way out votes no more, and comes back only to one pool.
    play.must(("hal", tx.Undelegate("bob", 1_000)))
    assert count_votes(play.state, play.state.all(Vote)).no == 0
    while play.state.need(Proposal, 1).status == "voting":
        play.wait()
    closed = play.state.need(Proposal, 1)
    assert closed.yes + closed.no + closed.abstain + closed.against <= closed.bonded
    assert play.refusal("hal", tx.CastVote(1, "yes")) == "wrong-phase"
