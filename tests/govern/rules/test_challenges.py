import pytest

from fedmeta.govern import transactions as tx
from fedmeta.govern.events import ChallengeDecided, DutyMissed
from fedmeta.govern.records import Candidate, Challenge, Fault, Member, Unbonding
from fedmeta.govern.signatures import digest
from tests.govern.playing import Play

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
    options = {"unbonding_period": 48, "evidence_age": 40, "challenge_blocks": 8, "term_length": 1_000}
    play = Play(**options)
    play.to_commit()
    openings = {name: play.opening(name, LIE if name == "dan" else None) for name in play.super_nodes()}
    play.must(play.attestation("dan", openings["dan"]), ("joy", tx.Undelegate("dan", 700)))
    committed = play.height
    play.must(*(play.attestation(name, openings[name]) for name in ("ann", "bob", "cat")))
    play.wait(play.parameters.reveal_blocks - 1)
    play.must(*openings.items())
    assert play.latest.number == 2
    play.wait_until(committed + 40 - 1 + late)
    if late:
        assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "stale-evidence"
        return
    found = challenge(play)
    play.wait_until(found.closes - 1)
    assert play.state.all(Unbonding)
    play.must(*((name, tx.Judge(1, TRUTH)) for name in ("eve", "fay", "gil")))
    (fault,) = play.state.all(Fault)
    assert [(one.place, one.amount) for one in fault.cuts] == [("pool", 125), ("unbonding", 35)]


def test_a_deposit_is_counted_while_the_challenge_is_open():
    play = disputed()
    before = play.state.need(Member, "hal").free
    challenge(play)
    assert before - play.state.need(Member, "hal").free == play.state.need(Challenge, 1).deposit == 100
