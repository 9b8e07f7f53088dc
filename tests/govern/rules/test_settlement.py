from dataclasses import replace
from itertools import product

import pytest

from fedmeta.govern.rules import candidates, members, stake
from fedmeta.govern.state.records import Candidate, Fault, Recipe, Round, Term, Unbonding
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import (
    ContributorPaid,
    DutyDone,
    DutyMissed,
    FaultProven,
    ModelAdvanced,
    PoolReturned,
    PoolShared,
    RoundFinal,
    RoundSettled,
    SuperNodePaid,
)
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import LIE, pool
from tests.govern.playing import RECIPE, Play

FIVE = {f"node{at}": 2_000 for at in range(5)}


def five(**options):
    """Five seats of equal power: four of them decide."""
    windows = {f"{phase}_blocks": 20 for phase in ("commit", "deliver", "compute", "reveal")}
    options = {"stakes": FIVE, "delegations": (), "super_nodes": 5, "standbys": 0, **windows, **options}
    return Play(**{"members": ("hal", "ivy", "joy"), "contributors": ("hal", "ivy", "joy"), **options})


def faults(play):
    return {(one.offender, one.kind) for one in play.state.all(Fault)}


def misses(play):
    return [one.candidate for one in play.events(DutyMissed)]


def test_a_final_round_moves_the_recipe_s_model_on_pays_and_is_over():
    play = Play()
    treasury = play.chain.treasury
    found = play.round()
    assert (found.phase, found.settled) == ("final", play.height)
    assert play.state.need(Recipe, RECIPE).model == found.result
    assert play.chain.treasury < treasury
    assert play.events(RoundSettled) == [RoundSettled(1, "final", "")]


def test_a_settlement_says_what_is_final_then_who_is_paid_and_then_who_missed_what_or_was_at_fault():
    play = five()
    play.round(results={"node4": LIE})
    kinds = [RoundFinal, ModelAdvanced, PoolShared, *[ContributorPaid] * 3, *[SuperNodePaid] * 4, PoolReturned]
    kinds += [RoundSettled, *[DutyDone] * 5, FaultProven]
    found = [type(one) for one in play.log[-1]]
    assert found[found.index(RoundFinal) :][: len(kinds)] == kinds


def test_who_opens_a_result_was_there_whichever_it_is_and_who_opens_none_was_not():
    play = five()
    play.round(withhold=["node1"], results={"node0": LIE})
    # Without node0's there are three for the truth, of five: that is not more than two thirds.
    assert play.latest.attempt == 2
    assert misses(play) == ["node1"]
    assert play.events(DutyDone) == []


@pytest.mark.parametrize("how", ["silent", "withhold", "absent"])
def test_whoever_takes_no_part_to_the_end_of_a_final_round_misses_one_duty_and_loses_nothing_else(how):
    play = five()
    found = play.round(**{how: ["node3"]})
    assert found.phase == "final"
    assert misses(play) == ["node3"]
    assert sorted(one.candidate for one in play.events(DutyDone)) == ["node0", "node1", "node2", "node4"]
    assert faults(play) == set()
    assert pool(play, "node3").tokens == 2_000
    assert "node3" not in [one.candidate for one in play.events(SuperNodePaid)]


def test_in_an_attempt_that_fails_those_that_were_there_neither_miss_a_duty_nor_do_one():
    play = five()
    play.to_reveal(silent=["node3", "node4"])
    assert play.latest.attempt == 2
    assert misses(play) == ["node3", "node4"]
    assert play.events(DutyDone) == []
    openings = play.to_reveal()
    play.must(*((name, one) for name, one in openings.items() if name not in ("node2", "node3")))
    play.wait_while("reveal")
    assert play.latest.attempt == 3
    assert misses(play) == ["node3", "node4", "node2", "node3"]
    assert {one.member: one.window for one in play.state.all(Candidate)} == {
        "node0": 0,
        "node1": 0,
        "node2": 1,
        "node3": 3,
        "node4": 1,
    }


@pytest.mark.parametrize(
    ("holders", "missed"),
    [
        # What node0 and node1 hold is two fifths of the power, so an honest seat has it: who held nothing was away.
        ({"node0": "hal", "node1": "hal"}, ["node2", "node3", "node4"]),
        ({"node0": "hal", "node1": "hal", "node2": "ivy"}, ["node3", "node4"]),
        ({"node0": "hal", "node1": "ivy", "node2": "joy"}, []),
        ({"node0": "hal"}, []),
        ({}, []),
    ],
    ids=str,
)
def test_who_holds_nothing_has_missed_a_duty_if_more_than_a_third_of_the_power_holds_one_update(holders, missed):
    play = five()
    play.to_deliver()
    play.must(*(play.hold(name, [held]) for name, held in holders.items()))
    play.wait_while("deliver", attempt=1)
    assert (play.latest.attempt, misses(play)) == (2, missed)


def test_who_has_signed_the_header_was_there_although_it_was_given_nothing_to_hold():
    play = five()
    play.to_deliver()
    play.must(*((name, tx.Seal(1, LIE)) for name in ("node1", "node2", "node3")))
    play.must(play.hold("node0", ["hal"]), play.hold("node1", ["hal"]))
    play.wait_while("deliver", attempt=1)
    assert misses(play) == ["node4"]
    # It signs once for all attempts.
    play.must(play.hold("node0", ["hal"]), play.hold("node1", ["hal"]))
    play.wait_while("deliver", attempt=2)
    assert misses(play) == ["node4", "node4"]


def test_a_third_of_the_power_is_not_more_than_a_third():
    six = {f"node{at}": 2_000 for at in range(6)}
    windows = {f"{phase}_blocks": 22 for phase in ("commit", "deliver", "compute", "reveal")}
    for holders, missed in ((2, 0), (3, 3)):
        play = five(stakes=six, super_nodes=6, **windows)
        play.to_deliver()
        play.must(*(play.hold(f"node{at}", ["hal"]) for at in range(holders)))
        play.wait_while("deliver", attempt=1)
        assert len(misses(play)) == missed


def test_who_opened_another_result_than_the_final_one_is_at_fault_from_its_commitment_on():
    play = five()
    play.to_compute()
    play.wait(3)
    play.round(results={"node2": LIE})
    assert faults(play) == {("node2", "false-result")}
    (fault,) = play.state.all(Fault)
    assert (fault.round, fault.term, fault.height) == (1, 1, play.height)
    assert fault.infraction == play.height - 1
    assert pool(play, "node2").tokens == 2_000 - 100
    assert "node2" not in [one.candidate for one in play.events(SuperNodePaid)]
    assert misses(play) == []


@pytest.mark.parametrize("liars", [2, 3, 4, 5])
def test_where_no_result_is_final_nobody_is_at_fault(liars):
    play = five()
    play.round(results={f"node{at}": digest(bytes([at])) for at in range(liars)})
    assert play.latest.attempt == 2
    assert faults(play) == set()
    assert all(pool(play, name).tokens == 2_000 for name in FIVE)


def test_only_the_last_attempt_s_reveals_are_judged():
    play = five()
    play.round(results={"node0": LIE, "node1": LIE})
    assert play.round().phase == "final"
    assert faults(play) == set()


def test_a_seat_that_is_in_jail_by_the_end_is_not_paid_but_counts():
    play = Play()
    openings = play.to_reveal(silent=["cat"])
    play.by_hand(lambda now: candidates.jail(now, "dan", 5, absent=False))
    play.must(*openings.items())
    assert play.state.need(Round, 1).phase == "final"
    assert [one.candidate for one in play.events(SuperNodePaid)] == ["ann", "bob"]
    assert "dan" in [one.candidate for one in play.events(DutyDone)]
    # Its part of the four is not the others'.
    assert {one.amount for one in play.events(SuperNodePaid)} == {400_000 // 1_000 // 4}


def test_a_contributor_that_was_removed_meanwhile_is_paid_what_is_due_to_it():
    play = Play()
    openings = play.to_reveal()
    play.by_hand(lambda now: members.remove(now, "joy", 1))
    owed = play.member("joy").owed
    play.must(*openings.items())
    (paid,) = [one for one in play.events(ContributorPaid) if one.member == "joy"]
    assert play.member("joy").owed - owed == paid.amount > 0


def test_the_punishments_of_a_settlement_do_not_change_what_it_pays():
    def paid(lies):
        play = Play()
        play.round(results=lies, withhold=[] if lies else ["dan"])
        play.to_commit()
        return [(one.candidate, one.amount) for one in play.events(SuperNodePaid)]

    assert paid({"dan": LIE}) == paid({})


@pytest.mark.parametrize("acts", list(product(("honest", "liar", "silent"), repeat=3)), ids="-".join)
def test_the_supply_is_conserved_however_a_round_ends(acts):
    play = five()
    supply = play.chain.supply
    names = [f"node{at}" for at in range(3)]
    kinds = dict(zip(names, acts, strict=True))
    play.to_compute()
    play.round(
        results={name: LIE for name, act in kinds.items() if act == "liar"},
        withhold=[name for name, act in kinds.items() if act == "silent"],
    )
    assert sum(supply_parts(play.state).values()) == play.chain.supply == supply


def test_a_slash_in_a_term_s_last_block_comes_before_the_snapshot():
    play = five(term_length=5, unbonding_blocks=5_000, stakes={**FIVE, "spare": 1_900})
    play.round(results={"node1": LIE})
    third = play.state.need(Term, 3)
    assert third.snapshot == play.height == 5
    assert "node1" not in [one.candidate for one in third.seats]
    assert "spare" in [one.candidate for one in third.seats]


def test_stake_on_its_way_out_is_slashed_before_it_is_paid_in_the_same_block():
    play = five(term_length=5, unbonding_blocks=5_000)
    openings = play.to_reveal(results={"node1": LIE})
    play.by_hand(lambda now: undelegated(now, "node1", now.height + 1))
    free = play.member("node1").free
    play.must(*openings.items())
    assert play.state.need(Round, 1).phase == "final"
    (fault,) = play.state.all(Fault)
    assert [(one.place, one.amount) for one in fault.cuts] == [("pool", 50), ("unbonding", 50)]
    assert play.member("node1").free == free + 950


def undelegated(now, name, completes):
    """Take 1,000 back so that it would be paid at a height, as if its term had been elected afterwards."""
    stake.undelegate(now, name, tx.Undelegate(name, 1_000))
    entry = now.draft.need(Unbonding, name, name, now.height)
    now.draft.put(replace(entry, completes=completes))
