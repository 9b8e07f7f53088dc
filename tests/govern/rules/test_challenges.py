from dataclasses import replace

import pytest

from fedmeta.govern.rules import candidates, members
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import Candidate, Challenge, Fault, Manifest, Member, Round, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import ChallengeDecided, DutyDone, DutyMissed
from fedmeta.govern.wire.parts import Cut
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import STAKES, Play

TRUTH = digest(b"the truth")
LIE = digest(b"a lie")


def disputed(liar="dan", **options):
    """Return a play after a final round in which `liar` revealed another result than the rest."""
    play = Play(**options)
    play.round(results={liar: LIE})
    return play


def challenge(play, accused="dan", challenger="hal", result=TRUTH, round=1):
    play.must((challenger, tx.OpenChallenge(round, accused, result)))
    return play.state.need(Challenge, play.chain.challenges)


def judge(play, results):
    return play.must(*((name, tx.Judge(play.chain.challenges, one)) for name, one in results.items()))


def test_a_result_that_the_panel_refutes_is_a_fault_and_the_challenger_is_paid():
    play = disputed()
    before, owed = play.member("hal").free, play.member("hal").owed
    found = challenge(play)
    assert play.member("hal").free == before - 100
    assert [one.candidate for one in found.panel] == ["eve", "fay", "gil"]
    judge(play, {"eve": TRUTH, "fay": TRUTH, "gil": TRUTH})
    assert play.state.need(Challenge, 1).status == "upheld"
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.reporter) == ("dan", "false-result", "hal")
    assert sum(one.amount for one in fault.cuts) == 3_200 // 20
    assert (play.member("hal").free, play.member("hal").owed) == (before, owed + 160 // 20)
    assert play.state.need(Candidate, "dan").jailed


def test_a_challenger_who_is_wrong_loses_the_deposit_to_the_treasury():
    play = disputed()
    before = play.chain.treasury
    challenge(play)
    judge(play, {"eve": LIE, "fay": LIE, "gil": LIE})
    assert play.state.need(Challenge, 1).status == "rejected"
    assert play.chain.treasury == before + 100
    assert not play.state.all(Fault)


def test_a_challenger_need_not_know_what_is_right_to_be_right_that_it_is_wrong():
    play = disputed()
    challenge(play, result=digest(b"another guess"))
    judge(play, {"eve": TRUTH, "fay": TRUTH, "gil": TRUTH})
    assert play.state.need(Challenge, 1).status == "upheld"


def test_two_thirds_of_the_panel_are_not_enough():
    play = disputed()
    found = challenge(play)
    powers = {one.candidate: one.power for one in found.panel}
    assert powers["eve"] == powers["fay"] == powers["gil"]
    judge(play, {"eve": TRUTH, "fay": TRUTH})
    assert play.state.need(Challenge, 1).status == "open"
    play.wait_until(found.closes)
    assert play.state.need(Challenge, 1).status == "undecided"
    assert not play.state.all(Fault)


def test_an_undecided_challenge_gives_the_deposit_back_and_counts_against_who_did_not_judge():
    play = disputed()
    before = play.member("hal").free
    found = challenge(play)
    judge(play, {"eve": TRUTH, "fay": LIE})
    play.wait_until(found.closes - 1)
    assert play.state.need(Challenge, 1).status == "open"
    play.wait()
    assert play.events(ChallengeDecided) == [ChallengeDecided(1, "undecided", "hal")]
    assert play.member("hal").free == before
    assert [one for one in play.events(DutyMissed) if one.duty == "judge"] == [DutyMissed(1, "gil", "judge", 1)]
    assert challenge(play).status == "open"


def test_a_verdict_in_the_last_block_counts_and_none_after_it():
    play = disputed()
    found = challenge(play)
    judge(play, {"eve": TRUTH, "fay": TRUTH})
    play.wait_until(found.closes - 1)
    judge(play, {"gil": TRUTH})
    assert play.height == found.closes
    assert play.state.need(Challenge, 1).status == "upheld"
    assert play.refusal("gil", tx.Judge(1, TRUTH)) == "wrong-phase"


def test_only_the_panel_judges_and_each_once():
    play = disputed()
    challenge(play)
    assert play.refusal("ann", tx.Judge(1, TRUTH)) == "not-allowed"
    assert play.refusal("dan", tx.Judge(1, TRUTH)) == "not-allowed"
    assert play.refusal("eve", tx.Judge(2, TRUTH)) == "not-found"
    judge(play, {"eve": TRUTH})
    assert play.refusal("eve", tx.Judge(1, LIE)) == "already-done"


def test_the_accuseds_organisation_does_not_judge():
    play = disputed(organisations={"dan": "org-d", "eve": "org-d"})
    found = challenge(play)
    assert [one.candidate for one in found.panel] == ["fay", "gil"]
    assert play.refusal("eve", tx.Judge(1, LIE)) == "not-allowed"


def test_the_challengers_organisation_does_not_judge():
    play = disputed(organisations={"hal": "org-h", "eve": "org-h"})
    found = challenge(play)
    assert [one.candidate for one in found.panel] == ["fay", "gil"]
    assert play.refusal("eve", tx.Judge(1, TRUTH)) == "not-allowed"


def test_nobody_is_the_only_judge_of_its_own_challenge():
    play = disputed(standbys=1)
    assert play.standbys() == ["eve"]
    assert play.refusal("eve", tx.OpenChallenge(1, "ann", TRUTH)) == "not-allowed"
    assert [one.candidate for one in challenge(play, challenger="fay").panel] == ["eve"]


def test_who_was_removed_or_barred_since_does_not_judge_and_who_is_in_jail_does():
    # In term 2: the standbys of term 1 are as they were.
    play = disputed(stakes={**STAKES, "joe": 1_100}, standbys=4)
    play.wait_until(44)
    assert (play.latest.phase, play.latest.term) == ("opening", 2)
    play.by_hand(
        lambda now: members.remove(now, "gil", 1),
        lambda now: candidates.tombstone(now, "fay"),
        lambda now: candidates.jail(now, "eve", 100),
    )
    term = play.state.need(Term, play.state.need(Round, 1).term)
    assert [one.candidate for one in term.standbys] == ["eve", "fay", "gil", "joe"]
    found = challenge(play)
    assert [one.candidate for one in found.panel] == ["eve", "joe"]
    judge(play, {"eve": TRUTH, "joe": TRUTH})
    assert play.state.need(Challenge, 1).status == "upheld"


def test_with_the_default_number_of_standbys_no_single_one_keeps_a_false_result_from_being_punished():
    many = Parameters().standbys
    stakes = {**dict.fromkeys(("ann", "bob", "cat", "dan"), 5000), **{f"s{at}": 1_200 for at in range(many)}}
    play = disputed(stakes=stakes, delegations=(("hal", "s0", 10),), standbys=many, organisations={"s0": "org-dan"})
    found = challenge(play)
    assert [one.candidate for one in found.panel] == [f"s{at}" for at in range(1, many)]
    judge(play, {"s1": LIE} | {f"s{at}": TRUTH for at in range(2, many)})
    assert play.state.need(Challenge, 1).status == "upheld"


def test_who_found_something_else_than_the_panel_has_missed_a_duty_and_the_rest_have_done_one():
    stakes = {**STAKES, "joe": 1_100}
    play = disputed(stakes=stakes, standbys=4)
    challenge(play)
    judge(play, {"eve": LIE, "fay": TRUTH, "gil": TRUTH, "joe": TRUTH})
    assert play.state.need(Challenge, 1).status == "upheld"
    judged = [one for one in (*play.events(DutyMissed), *play.events(DutyDone)) if one.duty == "judge"]
    done = [DutyDone(1, name, "judge", 0) for name in ("fay", "gil", "joe")]
    assert judged == [DutyMissed(1, "eve", "judge", 1), *done]
    assert play.state.need(Candidate, "eve").window & 1


def test_who_has_not_judged_when_the_others_agree_has_missed_nothing():
    play = disputed(stakes={**STAKES, "joe": 1_100}, standbys=4)
    found = challenge(play)
    judge(play, {"eve": TRUTH, "fay": TRUTH, "gil": TRUTH})
    play.wait_until(found.closes)
    assert not [one for one in play.events(DutyMissed) if one.duty == "judge"]


def test_an_organisation_has_one_open_challenge_at_a_time_so_that_nobody_can_wear_the_standbys_out():
    play = disputed(organisations={"hal": "org-h", "ivy": "org-h"})
    found = challenge(play)
    for name in ("hal", "ivy"):
        assert play.refusal(name, tx.OpenChallenge(1, "ann", TRUTH)) == "limit-reached"
    challenge(play, accused="ann", challenger="joy")
    play.wait_until(found.closes)
    assert challenge(play, accused="bob", challenger="ivy").status == "open"


def test_what_cannot_be_challenged_is_refused():
    play = Play()
    assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "not-found"
    play.round(results={"dan": LIE}, absent=["cat"])
    assert play.refusal("hal", tx.OpenChallenge(1, "dan", LIE)) == "bad-evidence"
    assert play.refusal("hal", tx.OpenChallenge(1, "cat", TRUTH)) == "not-found"
    assert play.refusal("hal", tx.OpenChallenge(2, "dan", TRUTH)) == "not-found"
    assert play.refusal("hal", tx.OpenChallenge(1, "nobody", TRUTH)) == "not-found"
    challenge(play)
    assert play.refusal("ivy", tx.OpenChallenge(1, "dan", TRUTH)) == "already-done"
    judge(play, {"eve": LIE, "fay": LIE, "gil": LIE})
    assert play.refusal("ivy", tx.OpenChallenge(1, "dan", TRUTH)) == "already-done"


def test_a_challenge_needs_its_deposit_and_someone_to_judge():
    play = disputed(free=99)
    assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "insufficient-funds"
    alone = disputed(standbys=0)
    assert alone.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "not-allowed"


def test_a_reveal_is_challenged_once_its_round_is_over():
    play = Play()
    openings = play.to_reveal(results={"dan": LIE})
    play.must(("dan", openings["dan"]))
    assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "wrong-phase"


def test_a_struck_manifest_cannot_take_the_ground_from_under_a_challenge():
    play = Play()
    victim = play.latest.cohort[0]
    openings = play.to_reveal(left_out=[victim])
    play.must(("dan", openings["dan"]))
    play.block(("hal", tx.OpenChallenge(1, "dan", TRUTH)), ("ivy", tx.ReportLeftOut(1, victim)))
    for name in ("eve", "fay", "gil"):
        play.block((name, tx.Judge(1, TRUTH)))
    play.wait(10)


@pytest.mark.parametrize("late", [0, 1])
def test_a_false_result_is_challenged_while_the_stake_behind_it_can_still_be_slashed(late):
    # With the shortest unbonding that the parameters allow, and each phase to its last block.
    options = {"unbonding_period": 2_112, "evidence_age": 52, "challenge_blocks": 8, "term_length": 1_000}
    play = Play(**options, slash_missed_duties=0)
    play.to_commit()
    openings = {name: play.opening(name, LIE if name == "dan" else None) for name in play.super_nodes()}
    play.must(play.attestation("dan", openings["dan"]), ("joy", tx.Undelegate("dan", 700)))
    committed = play.height
    play.must(*(play.attestation(name, openings[name]) for name in ("ann", "bob", "cat")))
    play.wait(play.parameters.reveal_blocks - 1)
    play.must(*openings.items())
    assert play.latest.number == 2
    play.wait_until(committed + 52 - 1 + late)
    if late:
        assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "stale-evidence"
        return
    found = challenge(play)
    play.wait_until(found.closes - 1)
    assert play.state.all(Unbonding)
    play.must(*((name, tx.Judge(1, TRUTH)) for name in ("eve", "fay", "gil")))
    (fault,) = [one for one in play.state.all(Fault) if one.kind == "false-result"]
    assert [(one.place, one.amount) for one in fault.cuts] == [("pool", 125), ("unbonding", 35)]


def test_stake_that_left_after_the_snapshot_answers_for_the_term_s_last_round_to_its_last_challenge():
    # The shortest unbonding, and all in its last block: the opening in the term's, the manifest by the last leader.
    options = {"term_length": 4, "open_blocks": 8, "evidence_age": 52, "unbonding_period": 2 * 4 + 52 + 52 + 8}
    play = Play(**options, slash_missed_duties=0)
    play.wait_until(4)
    assert play.state.need(Term, 3).snapshot == 4
    assert "dan" in [seat.candidate for seat in play.state.need(Term, 3).seats]
    play.must(("dan", tx.Undelegate("dan", 2_500)), ("joy", tx.Redelegate("dan", "ann", 700)))
    play.wait_until(11)
    play.open()
    assert (play.height, play.latest.term) == (12, 3)
    play.wait(2)
    play.must(*(play.update(name) for name in play.latest.cohort[:3]))
    while play.latest.attempt < 3:
        play.wait()
    play.wait(3)
    play.to_reveal(results={"dan": LIE})
    assert play.state.need(Manifest, 1).height == play.latest.opened + 4 + 4 * 4
    committed = play.height
    openings = {name: play.opening(name, LIE if name == "dan" else None) for name in play.super_nodes(1)}
    play.wait(3)
    play.must(*openings.items())
    play.wait_until(committed + 52 - 1)
    found = challenge(play)
    play.wait_until(found.closes - 1)
    judge(play, {one.candidate: TRUTH for one in found.panel})
    (fault,) = [one for one in play.state.all(Fault) if one.kind == "false-result"]
    assert fault.cuts == (Cut("unbonding", "dan", "dan", 125), Cut("redelegation", "joy", "ann", 35))


def test_stake_that_is_due_in_the_block_of_the_decision_is_slashed_before_it_is_paid():
    play = disputed()
    play.must(("joy", tx.Undelegate("dan", 700)))
    found = challenge(play)
    (entry,) = play.state.all(Unbonding)
    play.by_hand(lambda context: context.draft.put(replace(entry, completes=found.closes)))
    play.wait_until(found.closes - 1)
    free = play.member("joy").free
    judge(play, {one.candidate: TRUTH for one in found.panel})
    assert play.height == found.closes
    (fault,) = [one for one in play.state.all(Fault) if one.kind == "false-result"]
    assert Cut("unbonding", "joy", "dan", 35) in fault.cuts
    assert play.member("joy").free == free + 700 - 35


def test_a_deposit_is_counted_while_the_challenge_is_open():
    play = disputed()
    before = play.state.need(Member, "hal").free
    challenge(play)
    assert before - play.state.need(Member, "hal").free == play.state.need(Challenge, 1).deposit == 100
