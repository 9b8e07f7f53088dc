"""Attacks on rounds: on the draw of the cohort, on receipts, panels and deposits; what is not refused has its price."""

from dataclasses import replace

from fedmeta.govern.state.records import Challenge, Fault, Proposal
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import LIE, TRUTH, pool, wealth
from tests.govern.playing import CHAIN, Play, key

# Grinding the cohort


def course(wait=0, model=None, left_out=()):
    play = Play()
    play.wait(wait)
    play.to_manifest()
    play.wait(wait)
    play.round(model=model, left_out=left_out)
    return play


def test_neither_when_the_leader_acts_nor_what_it_says_changes_the_next_cohort():
    plain = course()
    left_out = Play().latest.cohort[:1]
    for other in (course(wait=1), course(wait=3), course(model=digest(b"another")), course(left_out=left_out)):
        assert other.latest.cohort == plain.latest.cohort
        assert other.chain.beacon == plain.chain.beacon


def test_the_cohort_is_drawn_before_the_round_opens_and_stays():
    play = Play()
    cohort = play.latest.cohort
    # Another recipe, or a leader that lets its turn pass, does not draw anew.
    play.wait(5)
    assert play.latest.leaders != ("ann",)
    assert play.latest.cohort == cohort
    play.open()
    assert play.latest.cohort == cohort


def test_neither_coming_nor_going_changes_the_next_cohort_once_salts_are_known():
    def course(*last):
        play = Play(members=("lou", "mia"))
        openings = play.to_reveal()
        play.must(*((name, openings[name]) for name in ("ann", "bob", "cat")))
        # Whoever reveals last knows the next cohort, for any list of members that it can bring about.
        play.must(("dan", openings["dan"]), *last)
        while play.chain.round == 1:
            play.wait()
        return play.latest.cohort

    plain = course()
    assert course(("lou", tx.Leave())) == plain
    assert course(("lou", tx.Leave()), ("mia", tx.Leave())) == plain


def test_the_last_revealer_has_one_bit_and_pays_for_it():
    def last(withhold):
        play = Play()
        play.round(withhold=withhold)
        return play

    honest, grinding = last(()), last(("dan",))
    assert honest.chain.beacon != grinding.chain.beacon
    (fault,) = grinding.state.all(Fault)
    assert (fault.offender, fault.kind) == ("dan", "withheld-reveal")
    assert pool(grinding, "dan").tokens == 3_200 - 32
    assert pool(grinding, "dan").jailed
    assert "dan" not in grinding.super_nodes()
    assert wealth(grinding, "dan") < wealth(honest, "dan")


def test_nobody_can_change_its_mind_about_the_salt_once_others_are_known():
    play = Play()
    openings = play.to_reveal()
    play.must(("ann", openings["ann"]), ("bob", openings["bob"]), ("cat", openings["cat"]))
    mine = openings["dan"]
    assert play.refusal("dan", replace(mine, salt=digest(b"better"))) == "bad-reveal"
    assert play.refusal("dan", replace(mine, result=LIE)) == "bad-reveal"
    assert play.refusal("dan", replace(mine, scores=tuple(one + 1 for one in mine.scores))) == "bad-reveal"
    assert play.refusal("dan", play.attestation("dan", mine)[1]) == "wrong-phase"
    assert play.refusal("ann", openings["ann"]) == "already-done"


def test_a_copied_commitment_opens_nothing_and_costs_the_copier():
    play = Play()
    play.to_commit()
    openings = {name: play.opening(name) for name in ("ann", "bob", "cat")}
    for name, opening in openings.items():
        play.must(play.attestation(name, opening))
    # The others' commitments are bound to who made them.
    copied = play.attestation("ann", openings["ann"])[1]
    play.must(("dan", copied))
    play.must(*openings.items())
    assert play.refusal("dan", openings["ann"]) == "bad-reveal"
    while play.chain.round == 1:
        play.wait()
    assert [(one.offender, one.kind) for one in play.state.all(Fault)] == [("dan", "withheld-reveal")]


def test_a_commitment_of_an_earlier_round_opens_nothing():
    play = Play()
    old = play.to_reveal()["ann"]
    play.must(*((name, play.opening(name)) for name in play.super_nodes()))
    play.to_commit()
    play.must(("ann", tx.Attest(2, play.attestation("ann", old)[1].commitment)))
    while play.latest.phase == "commit":
        play.wait()
    assert play.refusal("ann", replace(old, round=2)) == "bad-reveal"


# Receipts


def test_receipts_cannot_be_copied_padded_or_made_up():
    play = Play()
    play.round()
    play.open()
    number, (name, other) = play.chain.round, play.latest.cohort[:2]
    _, update = play.update(name)
    two = update.receipts[:2]
    signers = {one: key(one) for one, _ in update.receipts}

    def receipts(round=number, member=name, content=update.digest, examples=update.examples):
        message = tx.receipt(CHAIN, round, member, content, examples)
        return tuple((one, signers[one].sign(message)) for one in sorted(signers))

    standby = play.standbys()[0]
    message = tx.receipt(CHAIN, number, name, update.digest, update.examples)
    foreign = (standby, key(standby).sign(message))
    for why, bad in {
        "of another round": receipts(round=number - 1),
        "of another member": receipts(member=other),
        "of another update": receipts(content=digest(b"poison")),
        "of fewer examples": receipts(examples=update.examples - 1),
        "one signer twice": (two[0], two[0]),
        "signed by another super node": ((two[0][0], two[1][1]), two[1]),
        "out of order": two[::-1],
        "of f signers only": two[:1],
        "none": (),
        "a standby's": tuple(sorted([two[0], foreign])),
        "a stranger's": (two[0], ("zoe", two[1][1])),
    }.items():
        assert play.refusal(name, replace(update, receipts=bad)) == "bad-receipts", why
    assert play.refusal(name, replace(update, examples=update.examples * 1_000)) == "bad-receipts"
    outsider = next(one for one in ("ann", "bob", "cat", "hal", "joy") if one not in play.latest.cohort)
    assert play.refusal(outsider, update) == "not-allowed"
    play.must((name, replace(update, receipts=two)))


# Panels and deposits


def test_the_accuseds_organisation_does_not_judge_it():
    play = Play(organisations={"eve": "org-dan"})
    play.round(results={"dan": LIE})
    play.must(("hal", tx.OpenChallenge(1, "dan", TRUTH)))
    assert "eve" not in [one.candidate for one in play.state.need(Challenge, 1).panel]
    for name in ("eve", "dan", "hal", "ann"):
        assert play.refusal(name, tx.Judge(1, LIE)) == "not-allowed"
    play.must(("fay", tx.Judge(1, TRUTH)))
    assert play.refusal("fay", tx.Judge(1, LIE)) == "already-done"


def test_the_challengers_organisation_does_not_judge_either():
    play = Play(organisations={"eve": "org-hal"})
    play.round(results={"dan": LIE})
    play.must(("hal", tx.OpenChallenge(1, "dan", TRUTH)))
    assert [one.candidate for one in play.state.need(Challenge, 1).panel] == ["fay", "gil"]
    assert play.refusal("eve", tx.Judge(1, TRUTH)) == "not-allowed"


def test_an_organisation_cannot_keep_the_panel_busy_with_challenges():
    play = Play(organisations={"joy": "org-hal"})
    play.round()
    play.must(("hal", tx.OpenChallenge(1, "ann", LIE)))
    for name in ("hal", "joy"):
        assert play.refusal(name, tx.OpenChallenge(1, "bob", LIE)) == "limit-reached"
    play.must(("ivy", tx.OpenChallenge(1, "bob", LIE)))


def test_an_offender_that_challenges_itself_first_neither_saves_nor_earns_anything():
    play = Play()
    play.round(results={"dan": LIE})
    before = wealth(play, "dan")
    play.must(("dan", tx.OpenChallenge(1, "dan", TRUTH)))
    assert play.refusal("hal", tx.OpenChallenge(1, "dan", TRUTH)) == "already-done"
    play.must(*((name, tx.Judge(1, TRUTH)) for name in ("eve", "fay", "gil")))
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.reward) == ("dan", 0)
    # Five per cent of its own stake; its deposit is back.
    assert before - wealth(play, "dan") == 125


def test_challenging_the_honest_costs_the_deposit_each_time_it_is_tried():
    play = Play()
    play.round()
    treasury, before = play.chain.treasury, wealth(play, "hal")
    play.must(("hal", tx.OpenChallenge(1, "ann", LIE)))
    right = play.result(1)
    play.must(*((name, tx.Judge(1, right)) for name in ("eve", "fay", "gil")))
    deposit = play.parameters.challenge_deposit
    assert (wealth(play, "hal"), play.chain.treasury) == (before - deposit, treasury + deposit)
    assert play.refusal("hal", tx.OpenChallenge(1, "ann", LIE)) == "already-done"


def test_a_deposit_cannot_be_left_behind_paid_twice_or_done_without():
    play = Play(members=("lou",), free=150)
    spend = {"kind": "spend", "member": "lou", "amount": 1}
    play.must(("lou", tx.Propose("One", spend)))
    assert play.refusal("lou", tx.Propose("Two", spend)) == "insufficient-funds"
    assert play.refusal("lou", tx.Leave()) == "not-allowed"
    play.wait(7)
    assert play.state.need(Proposal, 1).status == "rejected"
    assert play.member("lou").free == 150
    play.wait(10)
    assert play.member("lou").free == 150


def test_a_flood_of_proposals_is_bounded():
    play = Play(max_proposals=3)
    spend = {"kind": "spend", "member": "hal", "amount": 1}
    play.must(*(("hal", tx.Propose("More", spend)) for _ in range(3)))
    assert play.refusal("ivy", tx.Propose("More", spend)) == "limit-reached"
    play = Play(max_own_proposals=2, organisations={"joy": "org-hal"})
    play.must(("hal", tx.Propose("More", spend)), ("joy", tx.Propose("More", spend)))
    assert play.refusal("joy", tx.Propose("More", spend)) == "limit-reached"
    play.must(("ivy", tx.Propose("More", spend)))
