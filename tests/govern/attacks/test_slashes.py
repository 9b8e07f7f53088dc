"""Attempts to escape a slash, to be slashed twice, or to earn by one."""

import pytest

from fedmeta.govern.rules import members
from fedmeta.govern.state.records import Attestation, Fault, Round, Term
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import LIE, TRUTH, codes, pool, prove, rotate, rotation, two_manifests, wealth
from tests.govern.playing import CHAIN, SHORT, Play, key

# Escaping a slash. Hal has 1,000 behind ann when she is elected; a tenth of it is at stake for what she does.


def stay(play):
    play.wait()


def undelegate(play):
    play.must(("hal", tx.Undelegate("ann", 1_000)))


def undelegate_in_parts(play):
    for amount in (100, 200, 300, 400):
        play.must(("hal", tx.Undelegate("ann", amount)))


def cancel(play):
    undelegate(play)
    play.must(("hal", tx.CancelUnbonding("ann", play.height, 1_000)))


def redelegate(play):
    play.must(("hal", tx.Redelegate("ann", "bob", 1_000)))


def hop(play):
    redelegate(play)
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1_000)) == "redelegation-hop"


def hop_with_stake_of_ones_own_in_between(play):
    play.must(("hal", tx.Delegate("bob", 1_000)))
    redelegate(play)
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1_000)) == "redelegation-hop"
    play.must(("hal", tx.Undelegate("bob", 1_000)))


def redelegate_in_parts(play):
    for to in ("bob", "cat", "dan", "eve"):
        play.must(("hal", tx.Redelegate("ann", to, 250)))


def redelegate_and_undelegate(play):
    redelegate(play)
    play.must(("hal", tx.Undelegate("bob", 1_000)))


def redelegate_undelegate_and_cancel(play):
    redelegate_and_undelegate(play)
    play.must(("hal", tx.CancelUnbonding("bob", play.height, 1_000)))


def half_and_half(play):
    play.must(("hal", tx.Redelegate("ann", "bob", 500)), ("hal", tx.Undelegate("ann", 500)))
    play.must(("hal", tx.Undelegate("bob", 250)))


def new_key(play):
    undelegate(play)
    rotate(play, "hal", key("hal, later"))


@pytest.mark.parametrize(
    "escape",
    [
        stay,
        undelegate,
        undelegate_in_parts,
        cancel,
        redelegate,
        hop,
        hop_with_stake_of_ones_own_in_between,
        redelegate_in_parts,
        redelegate_and_undelegate,
        redelegate_undelegate_and_cancel,
        half_and_half,
        new_key,
    ],
)
def test_stake_that_elected_an_offender_pays_for_the_deed_wherever_it_has_gone(escape):
    play = Play()
    escape(play)
    before, others = wealth(play, "hal"), {name: wealth(play, name) for name in ("bob", "cat", "ivy", "joy")}
    prove(play, "ann")
    assert before - wealth(play, "hal") == 100
    assert {name: wealth(play, name) for name in others} == others


def test_what_was_taken_back_before_the_election_does_not_answer_for_the_term_and_what_stayed_for_it_does():
    play = Play(open_blocks=1_000)
    play.wait_until(39)
    play.must(("hal", tx.Undelegate("ann", 500)))
    play.must(("hal", tx.Undelegate("ann", 300)))
    play.wait_until(81)
    assert (play.latest.term, play.state.need(Term, 3).snapshot) == (3, 40)
    before = wealth(play, "hal")
    prove(play, "ann", infraction=81)
    assert before - wealth(play, "hal") == (200 + 300) // 10


def test_many_small_pieces_save_less_than_a_unit_each():
    play = Play(max_unbonding=10)
    for _ in range(9):
        play.must(("hal", tx.Undelegate("ann", 9)))
    play.must(("hal", tx.Redelegate("ann", "bob", 9)))
    assert play.refusal("hal", tx.Undelegate("ann", 9)) == "limit-reached"
    assert play.refusal("hal", tx.Redelegate("ann", "cat", 9)) == "limit-reached"
    before = wealth(play, "hal")
    prove(play, "ann")
    assert 100 - 10 < before - wealth(play, "hal") <= 100


def test_an_offender_escapes_neither_by_keys_nor_by_retiring_nor_by_taking_all_back():
    play = Play()
    leader, first, second = two_manifests(play)
    assert leader == "ann"
    before = wealth(play, "ann")
    rotate(play, "ann", key("ann, later"))
    play.must(("ann", tx.Retire()), ("ann", tx.Undelegate("ann", 5_000)))
    rotate(play, "ann", key("ann, last"))
    assert play.refusal("ann", tx.Leave()) == "not-allowed"
    play.must(("joy", tx.ReportManifests(first, second)))
    assert before - wealth(play, "ann") == 500
    assert pool(play, "ann").tombstoned
    assert play.refusal("ann", tx.Register(100_000)) == "tombstoned"
    assert play.refusal("ann", tx.Unjail()) == "tombstoned"
    assert play.refusal("ann", tx.Bond(100)) == "tombstoned"


def test_a_removed_offender_pays_out_of_what_is_on_its_way_out():
    play = Play()
    leader, first, second = two_manifests(play)
    before = wealth(play, leader)
    play.by_hand(lambda context: members.remove(context, leader, 1))
    play.must(("joy", tx.ReportManifests(first, second)))
    assert before - wealth(play, leader) == 500


def test_no_number_of_new_keys_makes_the_ledger_forget_the_one_that_signed():
    play = Play()
    leader, first, second = two_manifests(play)
    refused = ""
    for at in range(members.MAX_KEYS):
        new = key(f"{leader} {at}")
        refused = (codes(play.block((leader, rotation(leader, new)))) or [""])[0]
        if refused:
            break
        play.keys[leader] = new
    assert refused == "limit-reached"
    play.must(("joy", tx.ReportManifests(first, second)))
    assert play.state.all(Fault)[0].offender == leader


def test_stake_taken_back_right_after_a_deed_is_still_there_when_the_evidence_expires():
    play = Play()
    leader, first, second = two_manifests(play)
    opened = play.latest.opened
    play.must((leader, tx.Undelegate(leader, 5_000)))
    play.wait_until(opened + play.parameters.evidence_age - 1)
    play.must(("joy", tx.ReportManifests(first, second)))
    assert [(one.place, one.amount) for one in play.state.all(Fault)[0].cuts] == [("pool", 100), ("unbonding", 500)]


def test_no_vote_makes_the_unbonding_period_shorter_than_what_evidence_can_take():
    play = Play()
    action = {"kind": "set-parameter", "name": "unbonding_period", "value": 195}
    assert play.refusal("hal", tx.Propose("Out sooner", action)) == "bad-value"
    action = {"kind": "set-parameter", "name": "evidence_age", "value": 61}
    assert play.refusal("hal", tx.Propose("Evidence for longer", action)) == "bad-value"
    action = {"kind": "set-parameters", "values": {"evidence_age": 60, "unbonding_period": 200}}
    play.must(("hal", tx.Propose("Just enough", action)))


# Evidence


def test_stale_evidence_is_refused():
    play = Play(**SHORT)
    _, first, second = two_manifests(play)
    victim = play.latest.cohort[0]
    play.must(play.manifest(left_out=[victim]))
    posted, opened = play.height, play.latest.opened
    openings = play.to_reveal(results={"dan": LIE})
    committed = play.state.need(Attestation, 1, "dan").committed
    play.must(*openings.items())
    play.wait_until(opened + play.parameters.evidence_age)
    assert play.refusal("joy", tx.ReportManifests(first, second)) == "stale-evidence"
    play.wait_until(posted + play.parameters.evidence_age)
    assert play.refusal("joy", tx.ReportLeftOut(1, victim)) == "stale-evidence"
    play.wait_until(committed + play.parameters.evidence_age + 1)
    assert play.refusal("joy", tx.OpenChallenge(1, "dan", TRUTH)) == "stale-evidence"
    # Long after, when the round itself is forgotten, too.
    play.wait_until(60)
    assert play.state.get(Round, 1) is None
    assert play.refusal("joy", tx.ReportManifests(first, second)) == "stale-evidence"
    assert play.refusal("joy", tx.ReportLeftOut(1, victim)) == "stale-evidence"
    assert not [one for one in play.state.all(Fault) if one.kind != "missed-duties"]


def test_one_deed_is_punished_once_however_often_it_is_reported():
    play = Play()
    leader, first, second = two_manifests(play)
    _, third = play.manifest(model=digest(b"a third model"))
    third = play.sign(leader, third, ahead=3)
    play.must(("joy", tx.ReportManifests(first, second)))
    left = wealth(play, leader)
    for pair in ((first, second), (second, first), (first, third), (third, second)):
        for name in ("joy", "hal", leader):
            assert play.refusal(name, tx.ReportManifests(*pair)) == "already-done"
    assert wealth(play, leader) == left


def test_for_several_faults_of_one_term_only_the_highest_counts():
    play = Play()
    leader, first, second = two_manifests(play)
    victim = play.latest.cohort[0]
    play.must(play.manifest(left_out=[victim]))
    before = pool(play, leader).tokens
    play.must(("joy", tx.ReportLeftOut(1, victim)))
    assert pool(play, leader).tokens == before - before // 100
    play.must(("joy", tx.ReportManifests(first, second)))
    # As much as for the graver one alone, but for what two roundings down leave.
    assert 0 <= pool(play, leader).tokens - (before - before // 10) <= 1
    assert [one.kind for one in play.state.where(Fault, "offender", leader)] == ["left-out", "two-manifests"]


def test_the_other_order_takes_no_more():
    play = Play()
    before = pool(play, "ann").tokens
    prove(play, "ann", "two-manifests")
    prove(play, "ann", "left-out")
    prove(play, "ann", "false-result")
    assert pool(play, "ann").tokens == before - before // 10


@pytest.mark.parametrize("reporter", ["ann", "joy"])
def test_reporting_oneself_or_ones_own_organisation_is_not_paid(reporter):
    play = Play(organisations={"joy": "org-ann"})
    _, first, second = two_manifests(play)
    owed = play.member(reporter).owed
    play.must((reporter, tx.ReportManifests(first, second)))
    assert play.state.all(Fault)[0].reward == 0
    assert play.member(reporter).owed == owed


def test_reporting_oneself_through_an_accomplice_costs_more_than_it_brings():
    play = Play(reporter_share=500_000, reporter_cap=10**12)
    _, first, second = two_manifests(play)
    before = wealth(play, "ann") + wealth(play, "joy")
    play.must(("joy", tx.ReportManifests(first, second)))
    assert wealth(play, "ann") + wealth(play, "joy") == before - 500 + 600 // 2
    capped = Play(reporter_cap=7)
    _, first, second = two_manifests(capped)
    owed = capped.member("joy").owed
    capped.must(("joy", tx.ReportManifests(first, second)))
    assert capped.member("joy").owed == owed + 7


def test_evidence_cannot_be_forged():
    play = Play()
    leader, first, _ = two_manifests(play)
    _, body = play.manifest(model=LIE)
    sequence = play.member(leader).sequence
    forged = tx.sign(key("joy"), CHAIN, leader, sequence, body)
    elsewhere = tx.sign(key(leader), "other", leader, sequence, body)
    content = codec.decode(tx.sign(key(leader), CHAIN, leader, sequence, play.manifest()[1]))
    altered = codec.encode([*content[:4], {**content[4], "model": LIE}, content[5]])
    later = key("later")
    rotate(play, leader, later)
    for bad in (forged, elsewhere, altered, first + b"\x00"):
        assert play.refusal("joy", tx.ReportManifests(first, bad)) == "bad-evidence"
    assert play.refusal("joy", tx.ReportLeftOut(1, "ivy")) == "not-found"
    play.to_commit()
    assert {play.refusal("joy", tx.ReportLeftOut(1, name)) for name in play.latest.cohort} == {"bad-evidence"}
