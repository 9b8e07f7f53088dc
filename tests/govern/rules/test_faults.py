from dataclasses import replace

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import faults
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Challenge, Fault, Manifest, Member, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import DutyMissed, FaultProven, ManifestStruck, SlashAnnulled
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import CHAIN, Play, key


def prove(play, offender, kind, reporter="", infraction=None, round=1):
    """Prove a fault in a block of its own; return it, or None if it was proven before."""
    done = []

    def step(context):
        height = context.height if infraction is None else infraction
        done.append(faults.prove(context, offender, kind, round, height, reporter))

    play.by_hand(step)
    return done[0]


def tokens(play, name):
    return play.state.need(Candidate, name).tokens


def taken(fault):
    return sum(one.amount for one in fault.cuts)


def rotation(name, new):
    return tx.RotateKey(new.public, new.sign(tx.possession(CHAIN, name, new.public)))


# What a proven fault costs


@pytest.mark.parametrize(
    ("kind", "ppm"),
    [
        ("two-manifests", 100_000),
        ("false-result", 50_000),
        ("withheld-reveal", 10_000),
        ("left-out", 10_000),
        ("missed-duties", 1_000),
    ],
)
def test_each_kind_costs_what_its_parameter_says_and_a_seat(kind, ppm):
    play = Play()
    fault = prove(play, "bob", kind)
    assert fault.fraction == ppm
    assert tokens(play, "bob") == 4_500 - 4_500 * ppm // MILLION
    assert play.chain.treasury == 1_000_000 + 4_500 * ppm // MILLION
    candidate = play.state.need(Candidate, "bob")
    assert candidate.jailed
    assert candidate.tombstoned == (kind == "two-manifests")
    assert play.super_nodes() == ["ann", "eve", "cat", "dan"]


def test_a_fault_is_punished_once():
    play = Play()
    prove(play, "bob", "left-out")
    before = tokens(play, "bob")
    assert prove(play, "bob", "left-out") is None
    assert tokens(play, "bob") == before
    assert len(play.state.all(Fault)) == 1


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        (["withheld-reveal", "false-result"], 95_000),
        (["false-result", "withheld-reveal"], 95_000),
        (["missed-duties", "left-out", "false-result", "withheld-reveal"], 95_000),
        (["withheld-reveal", "left-out"], 99_000),
        (["missed-duties", "withheld-reveal", "two-manifests"], 90_000),
    ],
)
def test_within_a_term_the_highest_fault_counts_and_not_the_sum(kinds, left):
    play = Play(stakes={"ann": 100_000, "bob": 100_000, "cat": 5_000, "dan": 5_000}, delegations=())
    for kind in kinds:
        prove(play, "bob", kind)
    assert tokens(play, "bob") == left


def test_a_fault_of_another_term_counts_anew():
    play = Play(stakes={"ann": 100_000, "bob": 100_000, "cat": 5_000, "dan": 5_000}, delegations=())
    prove(play, "bob", "withheld-reveal")
    play.wait_until(41)
    play.round()
    assert play.latest.term == 2
    prove(play, "bob", "withheld-reveal", round=play.latest.number)
    assert tokens(play, "bob") == 99_000 * 99 // 100


def test_an_annulled_fault_counts_no_more_towards_the_highest():
    play = Play(stakes={"ann": 100_000, "bob": 100_000, "cat": 5_000, "dan": 5_000}, delegations=())
    prove(play, "bob", "false-result")
    play.by_hand(lambda context: faults.annul(context, 1, 1))
    assert (tokens(play, "bob"), play.member("bob").free) == (95_000, 15_000)
    prove(play, "bob", "withheld-reveal")
    assert tokens(play, "bob") == 95_000 - 950


def test_who_takes_its_stake_out_after_the_snapshot_is_slashed_for_what_it_does_in_the_term_that_it_elected():
    play = Play()
    while play.state.get(Term, 3) is None:
        play.round()
    assert "ann" in [seat.candidate for seat in play.state.need(Term, 3).seats]
    play.must(("ann", tx.Undelegate("ann", 5_000)), ("hal", tx.Undelegate("ann", 1_000)))
    while (play.latest.term, play.latest.leader) != (3, "ann"):
        play.round()
    leader, first, second = two_manifests(play)
    assert (leader, tokens(play, "ann")) == ("ann", 0)
    play.must(("joy", tx.ReportManifests(first, second)))
    (fault,) = play.state.all(Fault)
    assert [(one.place, one.member, one.amount) for one in fault.cuts] == [
        ("unbonding", "ann", 500),
        ("unbonding", "hal", 100),
    ]


def test_what_had_left_by_the_snapshot_does_not_answer_for_the_term():
    play = Play()
    while play.height < 39:
        play.round() if play.height < 30 else play.wait()
    play.must(("hal", tx.Undelegate("ann", 1_000)))
    assert play.state.need(Term, 3).snapshot == play.height == 40
    while play.latest.term != 3:
        play.round()
    fault = prove(play, "ann", "two-manifests", round=play.latest.number)
    assert [one.place for one in fault.cuts] == ["pool"]
    assert play.state.need(Unbonding, "ann", "hal", 40).amount == 1_000


@pytest.mark.parametrize("trick", [False, True])
def test_a_fault_upon_an_emptied_pool_does_not_pay_for_an_earlier_one(trick):
    play = Play()
    while play.latest.leader == "ann":
        play.round()
    number = play.latest.number
    play.round(results={"ann": digest(b"a lie")})
    play.must(("ann", tx.Undelegate("ann", 5_000)), ("hal", tx.Undelegate("ann", 1_000)))
    if trick:
        while play.latest.leader != "ann":
            play.round()
        truth = digest(b"the truth")
        assert play.round(results=dict.fromkeys(play.super_nodes(), truth)).phase == "refuted"
    play.must(("bob", tx.OpenChallenge(number, "ann", play.result(number))))
    panel = [seat.candidate for seat in play.state.need(Challenge, 1).panel]
    play.must(*((name, tx.Judge(1, play.result(number))) for name in panel))
    assert {one.round for one in play.state.all(Fault)} >= {number}
    assert sum(taken(one) for one in play.state.all(Fault)) == 6_000 // 20
    assert sum(one.amount for one in play.state.all(Unbonding)) == 6_000 - 300


def test_a_reporter_is_paid_its_share_of_what_is_slashed():
    play = Play(reporter_share=50_000)
    fault = prove(play, "bob", "two-manifests", reporter="hal")
    assert (taken(fault), fault.reward) == (450, 22)
    assert play.state.need(Member, "hal").owed == 22
    assert play.chain.treasury == 1_000_000 + 450 - 22


def test_a_reporters_pay_is_capped():
    play = Play(reporter_share=500_000, reporter_cap=17)
    fault = prove(play, "bob", "two-manifests", reporter="hal")
    assert fault.reward == 17


def test_a_reporter_of_the_offenders_organisation_is_not_paid():
    play = Play(organisations={"bob": "org-b", "hal": "org-b"})
    assert prove(play, "bob", "two-manifests", reporter="hal").reward == 0
    assert play.chain.treasury == 1_000_450


def test_jail_keeps_a_candidate_out_until_it_asks_to_come_out():
    play = Play(jail_blocks=5)
    prove(play, "bob", "left-out")
    assert play.refusal("bob", tx.Unjail()) == "jailed"
    play.wait_until(5)
    assert play.refusal("bob", tx.Unjail()) == "jailed"
    play.wait_until(6)
    play.must(("bob", tx.Unjail()))
    assert not play.state.need(Candidate, "bob").jailed


def test_the_barred_never_come_back():
    play = Play(jail_blocks=1)
    prove(play, "bob", "two-manifests")
    play.wait(5)
    assert play.refusal("bob", tx.Unjail()) == "tombstoned"
    play.must(("bob", tx.Retire()))
    assert play.refusal("bob", tx.Register(0)) == "tombstoned"
    assert play.refusal("hal", tx.Delegate("bob", 1)) == "tombstoned"
    play.must(("ivy", tx.Undelegate("bob", 450)))


# Undoing a slash


def test_an_annulled_slash_is_given_back_out_of_the_treasury_once():
    play = Play()
    play.must(("ivy", tx.Undelegate("bob", 100)))
    prove(play, "bob", "two-manifests", reporter="hal", infraction=1)
    play.by_hand(lambda context: faults.annul(context, 1, 9))
    # Of the pool's 440 bob had 4,000 parts of 4,400, and ivy 400; of ivy's 100 on their way out 10 were taken.
    assert tokens(play, "bob") == 4_400 - 440
    assert (play.member("bob").free, play.member("ivy").free) == (10_400, 10_050)
    assert play.chain.treasury == 1_000_000 - play.member("hal").owed
    (event,) = play.events(SlashAnnulled)
    assert (event.fault, event.amount, event.proposal) == (1, 450, 9)
    assert play.state.need(Candidate, "bob").tombstoned
    with pytest.raises(Refused, match="already-done"):
        play.by_hand(lambda context: faults.annul(context, 1, 9))
    with pytest.raises(Refused, match="not-found"):
        play.by_hand(lambda context: faults.annul(context, 2, 9))


def test_a_slash_is_not_annulled_beyond_what_the_treasury_holds():
    play = Play(treasury=100)
    prove(play, "bob", "two-manifests")
    play.by_hand(lambda context: (context.treasury(-110), context.free("hal", 110)))
    with pytest.raises(Refused, match="insufficient-funds"):
        play.by_hand(lambda context: faults.annul(context, 1, 9))


# Two manifests


def two_manifests(play):
    """Return two manifests of the present leader for the present attempt, both signed; the round is at that phase."""
    play.to_manifest()
    leader, first = play.manifest()
    _, second = play.manifest(model=digest(b"another model"))
    return leader, play.sign(leader, first), play.sign(leader, second)


def test_two_manifests_for_one_attempt_are_proven_by_anyone_even_if_neither_is_on_the_ledger():
    play = Play()
    leader, first, second = two_manifests(play)
    before = tokens(play, leader)
    play.must(("hal", tx.ReportManifests(first, second)))
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.round, fault.reporter) == (leader, "two-manifests", 1, "hal")
    assert tokens(play, leader) == before - before // 10
    assert play.state.need(Candidate, leader).tombstoned
    assert play.latest.leader != leader
    assert play.refusal("ivy", tx.ReportManifests(second, first)) == "already-done"


def test_a_proven_equivocators_manifest_is_struck():
    play = Play()
    leader, first, second = two_manifests(play)
    play.run(first)
    assert play.latest.phase == "commit"
    play.must(("hal", tx.ReportManifests(second, first)))
    assert play.events(ManifestStruck) == [ManifestStruck(1, leader, "two-manifests")]
    assert play.state.get(Manifest, 1) is None
    assert (play.latest.phase, play.latest.attempt) == ("manifest", 1)
    assert play.round().phase == "final"


def test_the_fault_of_one_leader_does_not_strike_the_manifest_of_the_next():
    play = Play()
    leader, first, second = two_manifests(play)
    play.wait(play.parameters.manifest_blocks)
    assert play.latest.leader != leader
    play.to_reveal()
    play.must(("hal", tx.ReportManifests(first, second)))
    assert play.state.all(Fault)[0].offender == leader
    assert not play.events(ManifestStruck)
    assert play.latest.phase == "reveal"


def test_evidence_against_an_old_key_stays_valid():
    play = Play()
    leader, first, second = two_manifests(play)
    play.must((leader, rotation(leader, key("new"))))
    play.keys[leader] = key("new")
    play.wait(2)
    play.must(("hal", tx.ReportManifests(first, second)))
    assert play.state.all(Fault)[0].offender == leader


def test_what_does_not_prove_two_manifests_is_refused():
    play = Play()
    leader, first, second = two_manifests(play)
    other = next(name for name in play.super_nodes() if name != leader)
    _, body = play.manifest()
    sequence = play.member(leader).sequence

    def signed(signer, name=leader, chain_id=CHAIN, **changes):
        return tx.sign(key(signer), chain_id, name, sequence, replace(body, **changes))

    for one, why in [
        (first, "the same manifest twice"),
        (signed(leader), "the same content, signed again"),
        (tx.sign(key(leader), CHAIN, leader, sequence + 1, body), "the same content under another number"),
        (signed(leader, attempt=1), "of another attempt"),
        (signed(leader, round=2), "of another round"),
        (signed(other, other, aggregate=digest(b"x")), "of somebody else"),
        (signed(other, aggregate=digest(b"x")), "not signed by the leader"),
        (signed(leader, chain_id="other", aggregate=digest(b"x")), "for another chain"),
        (play.sign(leader, tx.Claim()), "no manifest"),
        (b"\x80", "no transaction"),
        (second + b"\x00", "malformed"),
    ]:
        assert play.refusal("hal", tx.ReportManifests(first, one)) == "bad-evidence", why
        assert play.refusal("hal", tx.ReportManifests(one, first)) == "bad-evidence", why
    strangers = signed(other, other), signed(other, other, aggregate=digest(b"x"))
    assert play.refusal("hal", tx.ReportManifests(*strangers)) == "bad-evidence"
    later = signed(leader, round=7), signed(leader, round=7, aggregate=digest(b"x"))
    assert play.refusal("hal", tx.ReportManifests(*later)) == "not-found"


def test_evidence_of_two_manifests_expires():
    play = Play()
    _, first, second = two_manifests(play)
    opened = play.latest.opened
    play.wait_until(opened + 55)
    taken_at_last = play.sign("hal", tx.ReportManifests(first, second))
    assert not [one for one in play.run(taken_at_last) if one.kind == "transaction-refused"]
    play = Play()
    _, first, second = two_manifests(play)
    play.wait_until(opened + 56)
    assert play.refusal("hal", tx.ReportManifests(first, second)) == "stale-evidence"


def test_evidence_of_the_last_leader_s_last_block_is_taken_however_short_its_age():
    longest = 4 + 4 * (4 + 4 + 4)
    play = Play(evidence_age=longest)
    play.to_manifest()
    while play.latest.attempt < 3:
        play.wait()
    play.wait(play.parameters.manifest_blocks - 1)
    leader, body = play.manifest()
    sequence = play.member(leader).sequence
    first, second = (
        tx.sign(key(leader), CHAIN, leader, sequence, replace(body, model=digest(bytes([at])))) for at in range(2)
    )
    play.run(first)
    assert play.latest.phase == "commit"
    play.must(("hal", tx.ReportManifests(first, second)))
    assert play.state.all(Fault)[-1].offender == leader


# An update left out


def test_an_update_left_out_is_proven_by_anyone_and_the_manifest_struck():
    play = Play()
    play.to_commit(left_out=[play.latest.cohort[0]])
    leader, victim = play.latest.leader, play.latest.cohort[0]
    play.must(("hal", tx.ReportLeftOut(1, victim)))
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.infraction) == (leader, "left-out", play.height - 1)
    assert play.state.get(Manifest, 1) is None
    assert not play.state.need(Candidate, leader).tombstoned
    assert leader not in play.super_nodes()


def test_what_does_not_prove_that_an_update_was_left_out_is_refused():
    play = Play()
    assert play.refusal("hal", tx.ReportLeftOut(1, "hal")) == "wrong-phase"
    assert play.refusal("hal", tx.ReportLeftOut(2, "hal")) == "not-found"
    play.to_manifest(idle=[play.latest.cohort[1]])
    assert play.refusal("hal", tx.ReportLeftOut(1, play.latest.cohort[0])) == "not-found"
    play.to_commit()
    assert play.refusal("hal", tx.ReportLeftOut(1, play.latest.cohort[0])) == "bad-evidence"
    assert play.refusal("hal", tx.ReportLeftOut(1, play.latest.cohort[1])) == "bad-evidence"


def test_an_update_left_out_of_a_final_round_is_still_a_fault_until_the_evidence_is_too_old():
    play = Play()
    victim = play.latest.cohort[0]
    play.round(left_out=[victim])
    posted = play.state.need(Manifest, 1).height
    play.wait_until(posted + 55)
    other = Play()
    other.round(left_out=[victim])
    other.wait_until(posted + 56)
    assert other.refusal("hal", tx.ReportLeftOut(1, victim)) == "stale-evidence"
    play.must(("hal", tx.ReportLeftOut(1, victim)))
    assert not play.events(ManifestStruck)


# What the ledger sees itself


def test_a_commitment_that_is_never_revealed_is_a_fault_and_slashes_what_was_undelegated_since():
    play = Play()
    play.to_commit()
    openings = {name: play.opening(name) for name in play.super_nodes()}
    play.must(*(play.attestation(name, one) for name, one in openings.items()))
    play.must(("ivy", tx.Undelegate("cat", 500)))
    play.must(*((name, one) for name, one in openings.items() if name != "cat"))
    play.wait(play.parameters.reveal_blocks)
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.fraction, fault.reporter) == ("cat", "withheld-reveal", 10_000, "")
    assert tokens(play, "cat") == 3_000 - 30
    assert [one.amount for one in play.state.all(Unbonding)] == [500 - 5]


def test_who_does_not_commit_misses_a_duty_and_is_not_slashed():
    play = Play()
    play.round(absent=["cat"])
    assert not play.state.all(Fault)
    assert play.events(DutyMissed) == [DutyMissed(1, "cat", "attest", 1)]


def test_the_leader_of_a_refuted_manifest_stood_for_a_false_result():
    play = Play()
    names, truth = play.super_nodes(), digest(b"the truth")
    leader = play.latest.leader
    settled = play.round(results=dict.fromkeys(names, truth))
    assert settled.phase == "refuted"
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind) == (leader, "false-result")
    assert fault.infraction == play.state.need(Manifest, 1).height


def test_too_many_misses_in_the_window_are_a_fault_and_the_window_starts_anew():
    play = Play(duty_window=4, duty_misses=2)
    play.round(absent=["cat"])
    assert not play.state.all(Fault)
    play.round()
    play.round(absent=["cat"])
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.round) == ("cat", "missed-duties", 3)
    assert play.state.need(Candidate, "cat").window == 0


def test_misses_that_have_left_the_window_do_not_count():
    play = Play(duty_window=3, duty_misses=2, term_length=1_000, unbonding_period=2_200)
    for absent in (["cat"], [], [], ["cat"], []):
        play.round(absent=absent)
        leads = [one for one in play.events(DutyMissed) if one.duty == "lead"]
        assert not leads
    assert not play.state.all(Fault)


def test_the_events_of_a_fault_say_what_was_taken_from_where():
    play = Play()
    prove(play, "bob", "withheld-reveal")
    prove(play, "bob", "false-result", reporter="hal")
    first, second = play.events(FaultProven)
    assert (first.already, first.amount) == (0, 45)
    assert (second.already, second.fraction, second.amount) == (10_000, 50_000, 4_455 * 40_000 // 990_000)
    assert second.amount == sum(one.amount for one in second.cuts)


def test_an_offender_with_no_stake_left_is_jailed_all_the_same():
    play = Play()
    play.must(("gil", tx.Undelegate("gil", 1_200)))
    play.wait_until(201)
    assert prove(play, "gil", "left-out").cuts == ()
    assert play.state.need(Candidate, "gil").jailed
    assert all(seat.candidate != "gil" for seat in play.state.need(Term, play.chain.term).standbys)
