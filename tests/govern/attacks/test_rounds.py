"""Attacks on rounds: copying, locking out, phantoms, framing, shrinking, many names, holding up; none gains."""

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules import candidates
from fedmeta.govern.state.parameters import PHASES, TABLE, check_parameters
from fedmeta.govern.state.records import Attestation, Candidate, Fault, Hold, Registration, Round, Term, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import (
    AttemptFailed,
    ContributorPaid,
    DutyMissed,
    FaultProven,
    RoundFinal,
    SuperNodePaid,
    UpdateCommitted,
)
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import DISTRIBUTIONS, LIE, TRUTH, dishonest, pool, powers_of, rotate, wealth
from tests.govern.playing import CONTRIBUTORS, RECIPE, Play, federation, key

SEATS = {"mal": 3_000, "ann": 2_500, "bob": 2_500, "cat": 2_000}
"""Mal, who is dishonest, has 30 % of the power, and the honest have 25, 25 and 20."""

SENDERS = ("hal", "ivy", "joy", "kim")


def hostile(**options):
    plain = {"stakes": SEATS, "delegations": (), "standbys": 0, "members": SENDERS, "contributors": SENDERS}
    return Play(**{**plain, **options})


def everyone_s(play):
    """Return what each of the honest has staked, and owns besides."""
    return {name: wealth(play, name) for name in ("ann", "bob", "cat", *SENDERS)}


def paid(play, kind=ContributorPaid):
    return {one.member if kind is ContributorPaid else one.candidate: one.amount for one in play.events(kind)}


def honest_round(**options):
    play = hostile(**options)
    play.round()
    return play


# Copying


def test_a_digest_that_was_seen_in_the_mempool_opens_nothing_under_the_name_of_who_copies_it():
    play = hostile()
    play.to_commit()
    name, body = play.update("hal")
    play.must(("joy", body), (name, body))
    opening = play.salt("hal"), play.content("hal")
    assert tx.update_digest(play.genesis.digest, 1, "hal", *opening) == body.digest
    assert tx.update_digest(play.genesis.digest, 1, "joy", *opening) != body.digest
    # Nor does it, under the same name, in another round.
    assert tx.update_digest(play.genesis.digest, 2, "hal", *opening) != body.digest
    # Honest seats hold what opens: joy's is not in, and hal's pay is what it would have been.
    play.round(holds=dict.fromkeys(SEATS, ("hal", "ivy", "kim")), idle=["joy", "hal"])
    assert play.state.need(Round, 1).members == ("hal", "ivy", "kim")
    assert paid(play)["hal"] == paid(honest_round())["hal"]


@pytest.mark.parametrize("phase", PHASES[1:])
@pytest.mark.parametrize("attempt", [1, 2])
def test_who_sees_the_bytes_of_an_update_sees_them_when_no_commitment_is_taken_any_more(phase, attempt):
    play = hostile()
    play.to_deliver(idle=["joy"])
    if attempt == 2:
        play.wait_while("deliver")
    {"deliver": play.to_deliver, "compute": play.to_compute, "reveal": play.to_reveal}[phase]()
    assert (play.latest.phase, play.latest.attempt) == (phase, attempt)
    copied = tx.update_digest(play.genesis.digest, 1, "joy", TRUTH, play.content("hal"))
    assert play.refusal("joy", tx.CommitUpdate(1, copied)) == "wrong-phase"


def test_nobody_exchanges_its_update_for_a_better_one_that_it_has_seen():
    play = hostile()
    play.to_commit()
    play.must(play.update("joy"))
    assert play.refusal("joy", tx.CommitUpdate(1, LIE)) == "already-done"


def void(play):
    play.to_commit()
    number = play.chain.round
    while not play.state.need(Round, number).settled:
        play.to_deliver()
        play.must(play.hold(play.super_nodes()[0]))
        play.wait_while("deliver")


def test_who_saw_updates_in_a_round_that_came_to_nothing_commits_to_no_other_in_the_next():
    play = Play(contributors=("ann", "bob", "hal"))
    void(play)
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("ann", "bob", "hal")))
    play.to_commit()
    better = tx.update_digest(play.genesis.digest, 2, "ann", TRUTH, play.content("hal", 1))
    assert play.refusal("ann", tx.CommitUpdate(2, better)) == "already-done"


def test_who_kept_back_its_commitment_in_a_round_that_came_to_nothing_is_not_paid_in_the_next_for_what_it_saw():
    play = Play(contributors=("ann", "hal", "ivy", "joy"))
    play.to_deliver(idle=["ann"])
    void(play)
    # Without it there would be too few.
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("ann", "hal", "ivy")))
    play.to_commit()
    assert "ann" in [one.member for one in play.latest.cohort]
    better = tx.update_digest(play.genesis.digest, 2, "ann", play.salt("ann"), play.content("hal", 1))
    play.must(("ann", tx.CommitUpdate(2, better)))
    assert play.round().phase == "final"
    assert [(one.member, one.unpaid) for one in play.events(UpdateCommitted) if one.unpaid] == [("ann", True)]
    assert {one.member: one.amount > 0 for one in play.events(ContributorPaid)} == {
        "ann": False,
        "hal": True,
        "ivy": True,
    }


def test_a_copied_commitment_to_a_result_opens_nothing_and_costs_the_pay():
    play = hostile()
    play.to_compute()
    openings = {name: play.opening(name) for name in ("ann", "bob", "cat")}
    play.must(*(play.attestation(name, one) for name, one in openings.items()))
    play.must(("mal", play.attestation("ann", openings["ann"])[1]))
    play.must(*openings.items())
    assert play.refusal("mal", openings["ann"]) == "bad-reveal"
    assert play.refusal("mal", replace(openings["ann"], salt=TRUTH)) == "bad-reveal"
    play.wait_while("reveal")
    assert sorted(paid(play, SuperNodePaid)) == ["ann", "bob", "cat"]
    assert not play.state.all(Fault)


def test_what_was_opened_in_an_earlier_round_or_attempt_opens_nothing_later():
    play = hostile()
    old = play.to_reveal()
    play.must(*((name, one) for name, one in old.items() if name in ("ann", "bob")))
    play.wait_while("reveal")
    assert play.latest.attempt == 2
    play.to_compute()
    mine = old["ann"]
    parts = 1, 1, "mal", mine.result, mine.scores, mine.salt
    play.must(("mal", tx.Attest(1, 2, tx.commitment(play.genesis.digest, *parts))))
    play.must(*(play.attestation(name, play.opening(name)) for name in ("ann", "bob", "cat")))
    assert play.latest.phase == "reveal"
    assert play.refusal("mal", mine) == "wrong-attempt"
    assert play.refusal("mal", replace(mine, attempt=2)) == "bad-reveal"


def test_nobody_changes_its_mind_once_it_has_seen_what_others_opened():
    play = hostile()
    openings = play.to_reveal(results={"mal": LIE})
    play.must(*((name, openings[name]) for name in ("ann", "bob", "cat")))
    mine = openings["mal"]
    assert play.refusal("mal", replace(mine, result=openings["ann"].result)) == "bad-reveal"
    assert play.refusal("mal", replace(mine, scores=(0, *mine.scores[1:]))) == "bad-reveal"
    assert play.refusal("mal", play.attestation("mal", openings["mal"])[1]) == "wrong-phase"
    assert play.refusal("ann", openings["ann"]) == "already-done"


# Locking out


def test_an_equal_digest_that_is_included_first_locks_nobody_out():
    play = hostile()
    play.to_commit()
    name, body = play.update("hal")
    play.must(("kim", body))
    play.must((name, body))
    assert {one.member for one in play.state.where(Update, "round", 1)} == {"hal", "kim"}


@pytest.mark.parametrize("phase", PHASES)
def test_parts_that_dishonest_proposers_leave_out_of_all_blocks_but_one_of_a_window_are_in(phase):
    play = hostile()
    {"commit": play.to_commit, "deliver": play.to_deliver, "compute": play.to_compute, "reveal": play.to_reveal}[
        phase
    ]()
    honest = {
        "commit": lambda: [play.update(name) for name in SENDERS],
        "deliver": lambda: [play.hold(name) for name in ("ann", "bob", "cat")],
        "compute": lambda: [play.attestation(name, play.opening(name)) for name in ("ann", "bob", "cat")],
        "reveal": lambda: [(name, play.opening(name)) for name in ("ann", "bob", "cat")],
    }[phase]()
    # Of a window of 2 * seats + 10 blocks dishonest proposers have all but the last.
    play.wait(2 * len(SEATS) + 10 - 1)
    assert play.latest.phase == phase
    play.must(*honest)
    if phase == "compute":
        play.must(*((name, play.opening(name)) for name in ("ann", "bob", "cat")))
    elif phase != "reveal":
        play.round()
    assert play.state.need(Round, 1).phase == "final"
    assert paid(play) == paid(honest_round())


def proposers(powers, blocks):
    """Yield who proposes, as CometBFT has it: by smooth weighted round-robin."""
    priorities = [0] * len(powers)
    for _ in range(blocks):
        priorities = [one + power for one, power in zip(priorities, powers, strict=True)]
        first = max(range(len(powers)), key=lambda at: (priorities[at], -at))
        priorities[first] -= sum(powers)
        yield first


def below_a_third(held):
    """Yield sets of seats with less than a third of the power: all of them, or the largest and the smallest."""
    if len(held) <= 7:
        sets = [one for count in range(1, len(held)) for one in combinations(range(len(held)), count)]
        yield from (one for one in sets if 3 * sum(held[at] for at in one) < sum(held))
        return
    for order in (range(len(held)), reversed(range(len(held)))):
        chosen = []
        for at in order:
            if 3 * sum(held[one] for one in [*chosen, at]) < sum(held):
                chosen.append(at)
        yield tuple(chosen)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_run_of_dishonest_proposers_is_as_long_as_the_shortest_window(name):
    held = powers_of(name)
    turns = list(proposers(held, 2_000))
    for bad in below_a_third(held):
        runs = "".join("x" if one in bad else " " for one in turns).split()
        # About one turn each, as where 21 of 64 that are alike come one after the other: half a window at most.
        assert max(map(len, runs), default=0) <= len(bad) + 1 <= (2 * len(held) + 10) // 2


@pytest.mark.parametrize("seats", [4, 7, 64, 100])
def test_no_vote_makes_a_window_that_short(seats):
    long = {f"{phase}_blocks": 2 * seats + 10 for phase in PHASES}
    assert check_parameters({**long, "super_nodes": seats, "unbonding_blocks": 100_000}, 10**9)
    for phase in PHASES:
        with pytest.raises(Refused, match=f"{phase}_blocks"):
            check_parameters(
                {**long, f"{phase}_blocks": 2 * seats + 9, "super_nodes": seats, "unbonding_blocks": 100_000}, 10**9
            )


def test_a_seat_that_refuses_to_hold_a_rival_s_update_keeps_nobody_out():
    play = hostile()
    play.round(holds={"mal": ("joy",)})
    assert play.state.need(Round, 1).members == SENDERS
    assert paid(play) == paid(honest_round())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_reaches_all_honest_seats_is_in_whatever_less_than_a_third_of_the_power_denies(name):
    held = powers_of(name)
    honest = sum(held) - sum(held[at] for at in dishonest(held))
    assert honest * 3 > sum(held) * 2


# Phantoms


def test_an_update_that_nobody_has_is_not_in_if_30_per_cent_and_one_that_then_crashes_claim_it():
    for crashing in ("ann", "bob", "cat"):
        play = hostile()
        play.to_deliver()
        honest = ("hal", "ivy", "joy")
        play.round(
            holds={
                "mal": SENDERS,
                crashing: SENDERS,
                **{name: honest for name in SEATS if name not in ("mal", crashing)},
            }
        )
        found = play.state.need(Round, 1)
        assert (found.phase, found.members) == ("final", honest)
        assert {one.member: one.active for one in play.state.all(Registration)} == {
            **dict.fromkeys(honest, True),
            "kim": False,
        }


def test_an_update_that_one_honest_seat_alone_was_given_is_not_in_whatever_the_others_claim():
    for only in ("ann", "bob", "cat"):
        play = hostile()
        others = {name: ("hal", "ivy", "joy") for name in SEATS if name not in ("mal", only)}
        before = everyone_s(play)
        play.round(holds=others)
        assert play.state.need(Round, 1).members == ("hal", "ivy", "joy")
        assert all(wealth(play, name) >= units for name, units in before.items())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_is_in_is_held_by_two_honest_organisations_at_least_with_more_than_a_third_of_the_power(name):
    held = powers_of(name)
    bad, total = dishonest(held), sum(held)
    honest = [at for at in range(len(held)) if at not in bad]
    claimed = sum(held[at] for at in bad)
    # The fewest that suffice are the largest, and none alone does.
    assert all((claimed + held[at]) * 3 <= total * 2 for at in honest)
    for count in range(1, min(4, len(honest))):
        for chosen in combinations(honest, count):
            power = sum(held[at] for at in chosen)
            if (claimed + power) * 3 > total * 2:
                assert power * 3 > total
                assert count >= 2


@pytest.mark.parametrize("crash", ["ann", "bob"])
def test_what_was_given_to_some_only_can_be_had_from_one_of_them_when_the_other_crashes_and_nobody_loses_stake(crash):
    play = hostile()
    # Kim gives its update to ann and bob alone; with mal's word that is four fifths.
    play.to_compute(holds={"cat": ("hal", "ivy", "joy")})
    assert play.latest.members == SENDERS
    before = {name: pool(play, name).tokens for name in SEATS}
    there = [name for name in ("ann", "bob", "cat") if name != crash]
    assert set(there) & {"ann", "bob"}
    # Mal is silent besides, so that the attempt fails; the next has the same commitments, and comes to an end.
    play.must(*(play.attestation(name, play.opening(name)) for name in there))
    play.wait_while("compute")
    assert play.events(AttemptFailed) == [AttemptFailed(1, 1, "too-few-commitments")]
    assert play.round(absent=["mal"]).phase == "final"
    assert {name: pool(play, name).tokens for name in SEATS} == before
    assert not play.state.all(Fault)


def test_what_is_delivered_in_the_last_block_is_in_or_not_for_all_alike():
    play = hostile()
    play.to_deliver()
    for name in ("ann", "bob", "cat"):
        play.must(play.hold(name, ("hal", "ivy", "joy")))
    last = play.latest.opened + 18
    play.wait_until(last - 1)
    # Two have got it, and say so with the last block that counts: 55 % is too little, and 80 % is enough.
    play.must(play.hold("mal", ("kim",)), play.hold("ann", ("kim",)))
    assert (play.height, play.latest.phase) == (last, "compute")
    assert play.latest.members == ("hal", "ivy", "joy")
    assert play.refusal("bob", tx.Hold(1, 1, ("kim",))) == "wrong-phase"


# Framing: nobody loses stake for what it did not sign itself


PARTS = ("commit", "seal", "hold", "attest", "reveal", "wait", "wait", "lie", "vote", "copy")


@given(
    st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(["mal", "ann", "bob", *SENDERS])), max_size=60),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_nothing_that_others_do_costs_a_seat_stake_that_signs_nothing(course, data):
    play = hostile(duty_misses=2, duty_window=2)
    play.to_commit()
    before = wealth(play, "cat")
    for part, name in course:
        live = play.latest
        named = data.draw(st.sampled_from([("cat",), SENDERS, ("hal", "ivy", "joy"), ()]))
        bodies = {
            "commit": tx.CommitUpdate(live.number, digest(name.encode())),
            "seal": tx.Seal(live.number, digest(name.encode())),
            "hold": tx.Hold(live.number, live.attempt, named),
            "attest": play.attestation(name, play.opening(name, TRUTH, scores=(0,) * len(live.members)))[1],
            "reveal": play.opening(name, TRUTH, scores=(0,) * len(live.members)),
            "lie": play.attestation(name, play.opening(name, LIE, scores=(0,) * len(live.members)))[1],
            "copy": tx.Attest(live.number, live.attempt, digest(b"copied")),
            "vote": tx.CastVote(1, "yes"),
        }
        if part == "wait":
            play.wait(data.draw(st.sampled_from([1, 18, 40])))
        else:
            play.block((name, bodies[part]))
    assert wealth(play, "cat") == before
    assert "cat" not in [one.offender for one in play.state.all(Fault)]
    assert not pool(play, "cat").jailed or pool(play, "cat").absent


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_seat_that_is_cut_off_in_any_phase_loses_its_pay_and_no_stake(phase):
    play = hostile()
    {"deliver": play.to_deliver, "compute": play.to_compute, "reveal": play.to_reveal}[phase]()
    course = {"absent": ["cat"]} if phase == "deliver" else {"silent": ["cat"]}
    if phase == "reveal":
        openings = {name: play.opening(name) for name in SEATS if name != "cat"}
        play.must(*openings.items())
        play.wait_while("reveal")
    else:
        play.round(**course)
    assert play.state.need(Round, 1).phase == "final"
    assert pool(play, "cat").tokens == 2_000
    assert "cat" not in paid(play, SuperNodePaid)
    assert [one.candidate for one in play.events(DutyMissed)] == ["cat"]


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_seat_that_was_restarted_without_its_journal_may_do_all_again_and_loses_no_stake(phase):
    play = hostile()
    {"deliver": play.to_deliver, "compute": play.to_compute, "reveal": play.to_reveal}[phase]()
    if phase == "deliver":
        play.must(play.hold("cat", ("hal",)), ("cat", tx.Seal(1, TRUTH)))
        # It says again what it holds, as it finds it now, and signs no second header.
        assert play.refusal("cat", tx.Seal(1, LIE)) == "already-done"
        play.must(play.hold("cat", SENDERS))
        play.round(absent=["cat"])
    elif phase == "compute":
        play.must(play.attestation("cat", play.opening("cat")))
        # It has lost its salt: it cannot commit again, nor open; nor is it made to answer for that.
        again = replace(play.opening("cat"), salt=digest(b"a new salt"))
        assert play.refusal(*play.attestation("cat", again)) == "already-done"
        play.must(*(play.attestation(name, play.opening(name)) for name in ("mal", "ann", "bob")))
        assert play.refusal("cat", again) == "bad-reveal"
        play.must(*((name, play.opening(name)) for name in ("mal", "ann", "bob")))
        play.wait_while("reveal")
    else:
        play.must(("cat", play.opening("cat")))
        assert play.refusal("cat", play.opening("cat")) == "already-done"
        play.must(*((name, play.opening(name)) for name in ("mal", "ann", "bob")))
    assert play.state.need(Round, 1).phase == "final"
    assert pool(play, "cat").tokens == 2_000
    assert not play.state.all(Fault)
    assert play.round().phase == "final"
    assert "cat" in paid(play, SuperNodePaid)


def test_a_seat_that_lost_its_machine_goes_on_with_another_key_in_the_same_round():
    play = hostile()
    play.to_compute()
    rotate(play, "cat", key("cat's new machine"))
    assert play.round().phase == "final"
    assert "cat" in paid(play, SuperNodePaid)


def test_the_one_part_of_a_round_that_can_cost_stake_is_one_s_own_reveal():
    play = hostile()
    play.round(results={"mal": LIE})
    (fault,) = play.events(FaultProven)
    assert (fault.offender, fault.fault_kind) == ("mal", "false-result")
    signed = play.state.need(Attestation, 1, "mal")
    mine = tx.commitment(play.genesis.digest, 1, 1, "mal", signed.result, signed.scores, signed.salt)
    assert (signed.result, mine) == (LIE, signed.commitment)


def test_a_contributor_cannot_be_made_to_lose_anything_but_its_place_by_who_denies_what_it_was_sent():
    play = hostile()
    before = everyone_s(play)
    play.round(holds=dict.fromkeys(("mal", "ann"), ("hal", "ivy", "joy")))
    assert "kim" not in play.state.need(Round, 1).members
    assert wealth(play, "kim") == before["kim"]
    play.must(("kim", tx.JoinRecipe(RECIPE)))


def test_contributors_that_give_nothing_to_honest_seats_do_not_make_them_absent():
    # All that are in the cohort are mal's friends, and give their updates to mal and ann alone, round after round.
    play = hostile(duty_misses=1, duty_window=1, stakes={**SEATS, "friend": 1_900}, standbys=1)
    play.to_deliver()
    play.must(*((name, tx.Seal(1, TRUTH)) for name in SEATS))
    while not play.state.need(Round, 1).settled:
        play.must(*(play.hold(name) for name in ("mal", "ann")))
        play.wait_while("deliver")
    assert play.events(DutyMissed) == []
    assert [one.candidate for one in play.state.need(Term, play.chain.term).seats] == list(SEATS)


# Shrinking


def test_one_of_four_that_is_jailed_in_the_middle_of_a_round_does_not_make_the_next_crash_stop_it():
    play = hostile(term_length=3, unbonding_blocks=2_000)
    play.to_deliver()
    play.by_hand(lambda now: candidates.jail(now, "cat", 10_000, absent=True))
    seats = play.latest.seats
    # Cat is back, and now bob crashes: mal, ann and cat have three quarters of the round's power.
    assert play.round(absent=["bob"]).phase == "final"
    assert play.state.need(Round, 1).seats == seats
    for _ in range(3):
        play.round(absent=["bob"])
        term = play.state.need(Term, play.chain.term)
        assert [one.candidate for one in term.seats] == list(SEATS)
        powers = {one.candidate: one.power for one in term.seats}
        for gone in powers:
            assert 3 * (sum(powers.values()) - powers[gone]) > 2 * sum(powers.values())


def test_who_stays_although_it_was_absent_is_not_paid_until_it_has_come_out():
    play = hostile(duty_misses=1, duty_window=1, jail_blocks=2)
    play.round(absent=["mal"])
    treasury = play.chain.treasury
    play.round()
    last = {one.candidate for one in play.log[-1] if one.kind == "super-node-paid"}
    assert last == {"ann", "bob", "cat"}
    # Its part stays in the treasury: nobody has an interest in its absence.
    assert treasury - play.chain.treasury == 3 * 100 + sum(
        one.amount for one in play.log[-1] if one.kind == "contributor-paid"
    )


# Many names


def test_an_organisation_that_stands_with_21_of_64_holds_one_seat_and_less_than_a_third_of_the_power():
    names = {f"big-{at:02}": 9_000 for at in range(21)} | {f"node{at:02}": 2_000 for at in range(63)}
    windows = {f"{phase}_blocks": 138 for phase in PHASES}
    made = federation(
        stakes=names,
        delegations=(),
        contributors=(),
        organisations={name: "big" for name in names if name.startswith("big")},
        super_nodes=64,
        unbonding_blocks=20_000,
        **windows,
    )
    seats = start(made).state.need(Term, 1).seats
    assert len(seats) == 64
    (big,) = [one for one in seats if one.organisation == "big"]
    assert big.power * 3 < sum(one.power for one in seats)


def test_an_organisation_of_ten_members_sends_one_update_and_is_paid_for_one():
    names = tuple(f"hal-{at}" for at in range(10))
    play = hostile(members=(*SENDERS, *names), organisations=dict.fromkeys(names, "org-hal"))
    assert {play.refusal(name, tx.JoinRecipe(RECIPE)) for name in names} == {"already-done"}
    play.to_commit()
    assert {play.refusal(name, tx.CommitUpdate(1, LIE)) for name in names} == {"not-allowed"}
    play.round()
    assert [one.organisation for one in play.state.where(Update, "round", 1)].count("org-hal") == 1
    assert paid(play) == paid(honest_round())


def test_an_organisation_does_not_wait_several_times_by_having_its_members_register_in_turn():
    play = hostile(members=(*SENDERS, "hal-2"), organisations={"hal-2": "org-hal"}, cohort_size=3)
    turns = 0
    for _ in range(8):
        play.to_commit()
        turns += "org-hal" in [one.organisation for one in play.latest.cohort]
        active = play.state.need(Registration, RECIPE, "org-hal").member
        other = "hal-2" if active == "hal" else "hal"
        play.must((active, tx.LeaveRecipe(RECIPE)))
        play.must((other, tx.JoinRecipe(RECIPE)))
        play.round()
    # Three of four places in each round: whoever stays has six in eight rounds, and who comes anew has no more.
    assert turns <= 6


# Committing and never delivering


def test_who_commits_and_never_delivers_makes_the_others_wait_one_window_and_not_in_the_next_round():
    play = hostile(contributors=CONTRIBUTORS[:2] + SENDERS)
    others = ("hal", "ivy", "joy")
    lengths = []
    for number in range(1, 7):
        play.to_commit()
        begun = play.height
        there = "kim" in [one.member for one in play.latest.cohort]
        play.round(
            holds=dict.fromkeys(SEATS, (*sorted({*others, "ann"} & {one.member for one in play.latest.cohort}),))
            if there
            else None
        )
        lengths.append(play.state.need(Round, number).settled - begun)
        if not play.state.need(Registration, RECIPE, "org-kim").active:
            play.must(("kim", tx.JoinRecipe(RECIPE)))
    assert max(lengths) == 4 + 17
    assert all(min(pair) == 4 for pair in pairwise(lengths))
    assert "kim" not in paid(play)


def test_several_that_never_deliver_take_turns_and_make_the_others_wait_one_window_a_round():
    friends = ("kim", "lou")
    play = hostile(members=(*SENDERS, "lou"), contributors=(*SENDERS, "lou"))
    lengths = []
    for number in range(1, 7):
        play.to_commit()
        begun = play.height
        there = tuple(one.member for one in play.latest.cohort if one.member not in friends)
        play.round(holds=dict.fromkeys(SEATS, there))
        assert play.state.need(Round, number).phase == "final"
        lengths.append(play.state.need(Round, number).settled - begun)
        ended = [one.member for one in play.state.all(Registration) if not one.active]
        play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ended[: 1 if number == 1 else 2]))
    assert max(lengths) <= 4 + 17
    assert not set(friends) & set(paid(play))


# A liar that withholds


def test_a_liar_that_sees_another_result_become_final_and_opens_nothing_loses_its_pay_and_in_time_its_seat():
    stakes = {**SEATS, "dan": 1_900}
    play = hostile(stakes=stakes, standbys=1, duty_misses=3, duty_window=6)
    before = pool(play, "mal").tokens
    for _ in range(3):
        assert "mal" in play.super_nodes()
        play.round(results={"mal": LIE}, withhold=["mal"])
    assert paid(play, SuperNodePaid).keys() == {"ann", "bob", "cat"}
    # It keeps its stake: silence is no proof of a lie.
    assert pool(play, "mal").tokens == before
    assert not play.state.all(Fault)
    assert play.state.need(Candidate, "mal").absent
    assert "mal" not in [one.candidate for one in play.state.need(Term, play.chain.term).seats]


def test_a_liar_that_opens_its_result_first_is_slashed_whatever_it_hoped_for():
    play = hostile()
    openings = play.to_reveal(results={"mal": LIE})
    play.must(("mal", openings["mal"]))
    play.must(*((name, one) for name, one in openings.items() if name != "mal"))
    assert pool(play, "mal").tokens == 3_000 - 150
    assert [one.result for one in play.events(RoundFinal)] == [openings["ann"].result]


# Too few


def test_no_round_is_made_of_one_or_two_updates_however_it_is_brought_about():
    assert TABLE["smallest"].low == TABLE["cohort_size"].low == 3
    with pytest.raises(Refused):
        check_parameters({"smallest": 2}, 10**9)
    # Too few that are registered, too few that commit, and too few that are in.
    play = hostile(contributors=SENDERS[:2])
    play.wait(5)
    assert play.chain.round == 0
    play = hostile()
    play.to_commit()
    play.must(play.update("hal"), play.update("ivy"))
    play.wait_while("commit")
    assert play.state.need(Round, 1).phase == "void"
    play = hostile()
    play.to_deliver()
    play.must(*(play.hold(name, ("hal", "ivy")) for name in SEATS))
    play.wait_while("deliver", attempt=1)
    assert play.latest.members == ()
    assert not play.state.where(Hold, "round", 1)
    assert play.events(RoundFinal) == []
