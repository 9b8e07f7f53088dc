from dataclasses import replace
from itertools import pairwise

import pytest

from fedmeta.govern.rules import candidates, members
from fedmeta.govern.rules.proposal_actions import read_action
from fedmeta.govern.state.parameters import ATTEMPTS, LONGEST_STRETCH, MILLION, PHASES
from fedmeta.govern.state.records import Attestation, Hold, Recipe, Registration, Round, Seal, Term, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.parts import Place, Window
from fedmeta.govern.wire.round_events import (
    AttemptFailed,
    ContributorPaid,
    ModelAdvanced,
    PhaseBegan,
    RoundFinal,
    RoundScheduled,
    RoundSettled,
    UpdateCarried,
    UpdateCommitted,
    UpdatesHeld,
    UpdatesIncluded,
)
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import LIE, rotate
from tests.govern.playing import CONTRIBUTORS, MODEL, RECIPE, Play, federation, key

SIX = {f"node{at}": 1_000 for at in range(6)}
CLOCKS = {f"{phase}_seconds": 60 for phase in PHASES}
AFTER = dict(zip(PHASES, (*PHASES[1:], "final"), strict=True))


def six(**options):
    """Six seats of equal power: four have two thirds of it, and five have more."""
    return Play(stakes=SIX, delegations=(), super_nodes=6, members=CONTRIBUTORS, **small_windows(22), **options)


def small_windows(blocks):
    return {f"{phase}_blocks": blocks for phase in PHASES}


def reach(play, phase):
    """Go on to a phase of the live round."""
    steps = {"commit": play.to_commit, "deliver": play.to_deliver, "compute": play.to_compute, "reveal": play.to_reveal}
    steps[phase]()
    assert play.latest.phase == phase
    return play


def parts(play, phase):
    """Return what each does that has a part in a phase; all are at its beginning."""
    if phase == "commit":
        return [play.update(one.member) for one in play.latest.cohort]
    if phase == "deliver":
        return [play.hold(name) for name in play.super_nodes()]
    openings = [(name, play.opening(name)) for name in play.super_nodes()]
    return openings if phase == "reveal" else [play.attestation(*one) for one in openings]


# How a round is scheduled


def test_a_round_is_scheduled_by_itself_at_the_end_of_a_block_with_all_that_it_will_need():
    play = Play(**CLOCKS)
    assert play.chain.round == 0
    play.wait()
    found, term = play.latest, play.state.need(Term, 1)
    assert (found.number, found.recipe, found.model, found.term) == (1, RECIPE, MODEL, 1)
    assert found.cohort == tuple(Place(f"org-{name}", name) for name in CONTRIBUTORS)
    assert found.seats == term.seats
    assert found.windows == (Window(18, 60_000),) * 4
    assert (found.phase, found.attempt, found.stretch, found.scheduled, found.opened) == ("commit", 1, 0, 1, 1)
    assert (found.pool, found.smallest, found.opened_time) == (1_000, 3, play.state.time)
    assert (found.members, found.result, found.committed, found.settled) == ((), b"", 0, 0)
    assert play.events(RoundScheduled) == [
        RoundScheduled(1, RECIPE, MODEL, 1, 1_000, found.cohort, found.seats, found.windows)
    ]
    assert play.events(PhaseBegan) == [PhaseBegan(1, 1, "commit", 18, 60_000)]
    recipe = play.state.need(Recipe, RECIPE)
    assert (recipe.scheduled, recipe.round) == (1, 1)


def test_the_next_round_is_scheduled_with_the_block_that_ends_one_and_starts_from_its_result():
    play = Play()
    first = play.round()
    assert (play.latest.number, play.latest.scheduled) == (2, first.settled)
    assert play.latest.model == first.result != MODEL
    assert play.events(ModelAdvanced) == [ModelAdvanced(1, RECIPE, first.result)]


@pytest.mark.parametrize("count", [0, 2, 3])
def test_no_round_is_scheduled_with_fewer_organisations_than_it_needs(count):
    play = Play(contributors=CONTRIBUTORS[:count])
    play.wait(5)
    assert play.chain.round == (count >= 3)


@pytest.mark.parametrize("interval", [1, 2, 6, 40])
def test_the_rounds_of_a_recipe_are_its_interval_apart_at_least(interval):
    play = Play(interval=interval)
    for _ in range(3):
        play.round()
    play.to_commit()
    begun = [play.state.need(Round, number).scheduled for number in (1, 2, 3, 4)]
    # A round in which everyone does its part at once takes four blocks more.
    assert [after - before for before, after in pairwise(begun)] == [max(4, interval)] * 3


def test_the_rounds_of_a_term_are_paid_its_budget_at_most_and_the_next_term_has_one_of_its_own():
    play = Play(term_budget=2_500)
    while play.chain.term < 3:
        play.round()
        play.to_commit()
    paid = {number: play.state.need(Term, number).paid for number in (1, 2)}
    by_round = {}
    for one in play.events(RoundScheduled):
        by_round.setdefault(one.term, []).append(one.round)
    # A round pays nine tenths of its 1,000; after two, another 1,000 would be more than the budget.
    assert paid == {1: 1_800, 2: 1_800}
    assert [len(by_round[term]) for term in (1, 2)] == [2, 2]
    assert play.state.need(Round, by_round[2][0]).scheduled == play.state.need(Term, 1).ends + 1


def test_a_void_round_leaves_the_budget_as_it_was():
    play = Play(term_budget=1_000)
    play.to_commit()
    assert play.state.need(Term, 1).paid == 1_000
    play.wait_while("commit")
    assert play.events(RoundSettled) == [RoundSettled(1, "void", "too-few-commits")]
    assert play.state.need(Term, 1).paid == 0


def test_a_round_s_pool_is_what_the_treasury_has_at_most():
    play = Play(treasury=700, term_budget=1_000)
    play.to_commit()
    assert play.latest.pool == 700


OTHER = digest(b"another recipe")


def with_two(**options):
    """Two recipes with the same contributors; the second by digest is the first of the two by name."""
    plain = federation(**options)
    second = replace(plain.recipes[0], digest=OTHER, model=digest(b"another model"))
    more = tuple(replace(one, recipe=OTHER) for one in plain.registrations)
    return Play(replace(plain, recipes=(*plain.recipes, second), registrations=(*plain.registrations, *more)))


def test_several_recipes_take_turns_the_one_whose_round_is_the_longest_ago_first_and_then_by_digest():
    play = with_two()
    found = [play.round().recipe for _ in range(6)]
    assert found == sorted([RECIPE, OTHER]) * 3


def test_a_recipe_that_is_not_due_or_has_too_few_does_not_hold_up_another():
    play = with_two(interval=50)
    first, second = sorted([RECIPE, OTHER])
    assert [play.round().recipe for _ in range(2)] == [first, second]
    play.wait_until(50)
    assert play.chain.round == 2
    play.wait()
    assert (play.latest.number, play.latest.recipe) == (3, first)
    play = with_two()
    play.must(("hal", tx.LeaveRecipe(first)), ("ivy", tx.LeaveRecipe(first)), ("joy", tx.LeaveRecipe(first)))
    play.round()
    assert [play.round().recipe for _ in range(2)] == [second, second]


def test_a_recipe_that_is_out_of_use_has_no_rounds():
    play = Play()
    play.by_hand(lambda now: now.draft.put(replace(now.draft.need(Recipe, RECIPE), active=False)))
    play.wait(3)
    assert play.chain.round == 0


# Phases: they end with the block after which nothing can be added, or with the window


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_ends_with_the_last_part_that_anyone_has_in_it(phase):
    play = reach(Play(**CLOCKS), phase)
    *all_but_one, last = parts(play, phase)
    play.must(*all_but_one)
    assert play.latest.phase == phase
    play.must(last)
    assert play.state.need(Round, 1).phase == AFTER[phase]
    assert play.log[-1].count(PhaseBegan(1, 1, AFTER[phase], 18, 60_000)) == (phase != "reveal")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("blocks", "time", "over"),
    [(18, 60_000, True), (17, 60_000, False), (18, 59_999, False), (17, 10**9, False), (60, 59_999, False)],
)
def test_a_phase_ends_without_the_last_part_once_its_blocks_and_its_time_are_both_over(phase, blocks, time, over):
    play = reach(Play(**CLOCKS), phase)
    play.must(*parts(play, phase)[1:], time=0)
    play.wait(blocks - 2, time=0)
    assert play.latest.phase == phase
    play.wait(time=time)
    assert (play.state.need(Round, 1).phase == phase) != over


@pytest.mark.parametrize("phase", PHASES)
def test_what_comes_with_the_block_that_closes_a_window_counts(phase):
    play = reach(Play(), phase)
    *all_but_one, last = parts(play, phase)
    play.must(*all_but_one)
    play.wait(16)
    play.must(last)
    counted = {
        "commit": play.committed,
        "deliver": lambda: [one.candidate for one in play.state.where(Hold, "round", 1)],
        "compute": lambda: [one.candidate for one in play.attestations(1)],
        "reveal": lambda: [one.candidate for one in play.attestations(1) if one.revealed],
    }
    assert last[0] in counted[phase]() or phase == "commit"
    assert play.state.need(Round, 1).phase == AFTER[phase]
    assert phase != "commit" or play.state.get(Update, 1, last[0]) is not None


@pytest.mark.parametrize("phase", PHASES)
def test_every_part_of_a_round_is_refused_outside_its_phase(phase):
    play = reach(Play(), phase)
    attempt = play.latest.attempt
    bodies = {
        "commit": [("hal", tx.CommitUpdate(1, MODEL))],
        "deliver": [("ann", tx.Seal(1, MODEL)), ("ann", tx.Hold(1, attempt, ("ann",)))],
        "compute": [("ann", tx.Attest(1, attempt, MODEL))],
        "reveal": [("ann", tx.Reveal(1, attempt, MODEL, (), MODEL))],
    }
    for due, pairs in bodies.items():
        for pair in pairs if due != phase else []:
            assert play.refusal(*pair) == "wrong-phase"


BODIES = {
    "commit-update": lambda number, attempt: tx.CommitUpdate(number, MODEL),
    "seal": lambda number, attempt: tx.Seal(number, MODEL),
    "hold": lambda number, attempt: tx.Hold(number, attempt, ("ann",)),
    "attest": lambda number, attempt: tx.Attest(number, attempt, MODEL),
    "reveal": lambda number, attempt: tx.Reveal(number, attempt, MODEL, (), MODEL),
}
PHASE_OF = dict(zip(BODIES, ("commit", "deliver", "deliver", "compute", "reveal"), strict=True))


@pytest.mark.parametrize("kind", BODIES)
def test_a_part_of_a_round_is_refused_for_another_round(kind):
    play = reach(Play(), PHASE_OF[kind])
    assert play.refusal("ann", BODIES[kind](2, 1)) == "not-found"
    finish(play) if kind == "reveal" else play.round()
    reach(play, PHASE_OF[kind])
    assert play.refusal("ann", BODIES[kind](1, 1)) == "wrong-phase"


@pytest.mark.parametrize("kind", ["hold", "attest", "reveal"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_part_of_an_attempt_is_refused_for_another_attempt(kind, off):
    play = reach(Play(), "deliver")
    play.wait(18)
    reach(play, PHASE_OF[kind])
    assert play.latest.attempt == 2
    assert play.refusal("ann", BODIES[kind](1, 2 + off)) == "wrong-attempt"


@pytest.mark.parametrize("kind", ["seal", "hold", "attest", "reveal"])
def test_only_the_seats_of_the_round_do_a_seat_s_part(kind):
    play = reach(Play(), PHASE_OF[kind])
    for name in ("eve", "hal"):
        assert play.refusal(name, BODIES[kind](1, 1)) == "not-allowed"


# Commit


def test_each_of_the_cohort_commits_once_and_nobody_else_does():
    play = reach(Play(), "commit")
    name, body = play.update("hal")
    play.must((name, body))
    made = play.state.need(Update, 1, "hal")
    assert made == Update(1, "hal", "org-hal", body.digest, 1, play.height, False)
    assert play.events(UpdateCommitted) == [UpdateCommitted(1, "hal", body.digest, False)]
    assert play.refusal("hal", tx.CommitUpdate(1, LIE)) == "already-done"
    assert play.refusal("cat", tx.CommitUpdate(1, LIE)) == "not-allowed"


def test_another_member_of_an_organisation_does_not_commit_for_it():
    play = reach(Play(members=("kim",), organisations={"kim": "org-hal"}), "commit")
    assert play.refusal("kim", tx.CommitUpdate(1, LIE)) == "not-allowed"


def test_the_commitments_close_at_a_height_that_is_written_down():
    play = Play()
    play.to_deliver()
    assert play.latest.committed == play.latest.opened == 2
    assert play.round().committed == 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_with_fewer_commitments_than_it_needs_a_round_is_void_at_once(count):
    play = reach(Play(), "commit")
    play.must(*parts(play, "commit")[:count])
    play.wait_while("commit")
    found = play.state.need(Round, 1)
    assert (found.phase, found.attempt, found.settled) == ("void", 1, 19)
    assert play.events(RoundSettled) == [RoundSettled(1, "void", "too-few-commits")]
    assert play.events(AttemptFailed) == []
    assert play.chain.stretch == 0
    # Nobody has seen anything.
    assert not play.state.need(Recipe, RECIPE).exposed


# Seal


def test_a_seat_signs_one_header_in_a_round_whatever_the_attempt():
    play = reach(Play(), "deliver")
    play.must(("ann", tx.Seal(1, MODEL)))
    assert play.state.need(Seal, 1, "ann") == Seal(1, "ann", MODEL, key("ann").public)
    assert play.refusal("ann", tx.Seal(1, LIE)) == "already-done"
    play.wait(18)
    assert (play.latest.phase, play.latest.attempt) == ("deliver", 2)
    for header in (LIE, MODEL):
        assert play.refusal("ann", tx.Seal(1, header)) == "already-done"
    play.must(("bob", tx.Seal(1, MODEL)))


def test_a_seat_whose_key_has_changed_may_sign_the_same_header_again_and_no_other():
    play = reach(Play(), "deliver")
    play.must(("ann", tx.Seal(1, MODEL)))
    rotate(play, "ann", key("another of ann"))
    assert play.refusal("ann", tx.Seal(1, LIE)) == "already-done"
    play.must(("ann", tx.Seal(1, MODEL)))
    assert play.state.need(Seal, 1, "ann").public == play.key("ann").public != key("ann").public
    assert play.refusal("ann", tx.Seal(1, MODEL)) == "already-done"


def test_windows_are_long_enough_for_the_seats_there_are_whatever_a_vote_has_made_of_them():
    play = Play()
    small = {f"{phase}_blocks": 12 for phase in PHASES}
    play.by_hand(lambda now: now.draft.put(replace(now.parameters, super_nodes=1, **small)))
    play.round()
    play.to_commit()
    assert len(play.latest.seats) == 4
    assert {one.blocks for one in play.latest.windows} == {2 * 4 + 10}


# Deliver


def test_what_a_seat_holds_is_said_once_and_may_be_added_to():
    play = reach(Play(), "deliver")
    play.must(play.hold("ann", ["ivy"]))
    play.must(play.hold("ann", ["ann", "hal", "ivy"]))
    assert play.state.need(Hold, 1, "ann").members == ("ann", "hal", "ivy")
    play.must(play.hold("ann", ["joy"]))
    assert play.state.need(Hold, 1, "ann").members == ("ann", "hal", "ivy", "joy")
    said = [one.members for one in play.events(UpdatesHeld)]
    assert said == [("ivy",), ("ann", "hal", "ivy"), ("joy",)]


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ((), "already-done"),
        (("ann",), "already-done"),
        (("ivy", "hal"), "bad-value"),
        (("hal", "hal"), "bad-value"),
        (("cat",), "not-found"),
        (("hal", "zoe"), "not-found"),
        (("bob",), "not-found"),
    ],
)
def test_nothing_else_is_held(names, code):
    play = Play()
    play.to_deliver(idle=["bob"])
    play.must(play.hold("ann", ["ann"]))
    assert play.refusal(*play.hold("ann", names)) == code


def test_an_update_is_in_that_seats_with_more_than_two_thirds_of_the_power_hold():
    play = reach(six(), "deliver")
    names = play.super_nodes()
    holders = {"ann": 6, "bob": 5, "hal": 5, "ivy": 4, "joy": 0}
    for at, name in enumerate(names):
        play.must(play.hold(name, [one for one, count in holders.items() if at < count]))
    play.wait_while("deliver")
    assert play.latest.members == ("ann", "bob", "hal")
    assert play.events(UpdatesIncluded) == [UpdatesIncluded(1, 1, ("ann", "bob", "hal"))]


def test_power_counts_and_not_the_number_of_seats():
    # The powers are 5,516, 4,500, 3,500 and 3,200 of 16,716; more than 11,144 are needed.
    play = reach(Play(), "deliver")
    assert [one.power for one in play.latest.seats] == [5_516, 4_500, 3_500, 3_200]
    holds = {"ann": ["ann", "bob", "hal", "joy"], "bob": ["ann", "bob"], "cat": ["ann", "bob", "hal", "ivy"]}
    holds["dan"] = ["hal", "ivy", "joy"]
    play.to_compute(holds=holds)
    # By ann, bob and cat; by all but bob; by cat and dan alone; by ann and dan.
    assert play.latest.members == ("ann", "bob", "hal")


@pytest.mark.parametrize("count", [0, 2])
def test_with_fewer_updates_in_than_it_needs_an_attempt_fails(count):
    play = reach(Play(), "deliver")
    if count:
        play.must(*(play.hold(name, ["ann", "bob"]) for name in play.super_nodes()))
    play.wait_while("deliver", attempt=1)
    assert play.events(AttemptFailed) == [AttemptFailed(1, 1, "too-few-in")]
    assert (play.latest.phase, play.latest.attempt, play.latest.members) == ("deliver", 2, ())


def test_what_a_vote_makes_of_the_fewest_updates_holds_from_the_next_round_on():
    play = reach(Play(), "commit")
    play.by_hand(lambda now: now.draft.put(replace(now.parameters, smallest=5)))
    assert play.latest.smallest == 3
    assert play.round(idle=["joy"]).phase == "final"
    play.wait(40)
    assert play.chain.round == 1
    again(play)
    play.to_commit()
    assert play.latest.smallest == 5


# Compute and reveal


def test_a_seat_commits_to_a_result_once():
    play = reach(Play(), "compute")
    name, body = play.attestation("ann", play.opening("ann"))
    play.must((name, body))
    made = play.state.need(Attestation, 1, "ann")
    assert (made.committed, made.commitment, made.revealed) == (play.height, body.commitment, 0)
    assert (made.result, made.scores, made.salt) == (b"", (), b"")
    assert play.refusal("ann", tx.Attest(1, 1, LIE)) == "already-done"


@pytest.mark.parametrize(("there", "phase"), [(4, "deliver"), (5, "reveal"), (6, "reveal")])
def test_results_are_opened_only_if_more_than_two_thirds_of_the_power_have_committed_to_one(there, phase):
    play = reach(six(), "compute")
    play.must(*parts(play, "compute")[:there])
    play.wait_while("compute")
    assert play.latest.phase == phase
    assert [one.reason for one in play.events(AttemptFailed)] == ["too-few-commitments"] * (phase == "deliver")


def test_a_reveal_must_open_the_commitment():
    play = Play()
    mine = play.to_reveal()["ann"]
    for wrong in (
        replace(mine, result=LIE),
        replace(mine, scores=(*mine.scores[:-1], mine.scores[-1] - 1)),
        replace(mine, salt=LIE),
        play.opening("bob"),
    ):
        assert play.refusal("ann", wrong) == "bad-reveal"
    play.must(("ann", mine))
    made = play.state.need(Attestation, 1, "ann")
    assert (made.revealed, made.result, made.scores, made.salt) == (play.height, mine.result, mine.scores, mine.salt)
    assert play.refusal("ann", mine) == "already-done"


def test_who_has_not_committed_to_a_result_opens_none():
    play = Play()
    play.to_reveal(silent=["dan"])
    assert play.refusal("dan", play.opening("dan")) == "not-allowed"


@pytest.mark.parametrize(
    ("scores", "code"),
    [
        ((0, 0, 0, 0), "bad-scores"),
        ((0, 0, 0, 0, 0, 0), "bad-scores"),
        ((1, 0, 0, 0, 0), "bad-scores"),
        ((0, 800_001, 0, 0, 0), "bad-scores"),
        ((0, 200_000, 200_000, 200_000, 200_001), "bad-scores"),
        ((0, 800_000, 0, 0, 0), ""),
        ((0, 0, 0, 0, 0), ""),
        ((0, 200_000, 200_000, 200_000, 200_000), ""),
    ],
)
def test_scores_are_one_for_each_update_none_for_an_own_one_and_within_the_budget_of_the_others(scores, code):
    # Of a cohort of five, ann scores four updates of others: with 4/5 of 1,000,000 in all.
    play = Play()
    mine = play.to_reveal(scores={"ann": scores})["ann"]
    if code:
        assert play.refusal("ann", mine) == code
    else:
        play.must(("ann", mine))


def test_the_budget_of_a_seat_counts_the_updates_of_others_that_are_in_and_the_whole_cohort():
    play = Play()
    play.to_compute(idle=["hal", "ivy"])
    # Of five in the cohort ann, bob and joy are in: ann scores two, dan all three.
    mine = play.to_reveal(scores={"ann": (0, 400_000, 1), "dan": (0, 0, 3 * MILLION // 5)})
    assert play.refusal("ann", mine["ann"]) == "bad-scores"
    play.must(("dan", mine["dan"]))


def test_scores_of_an_own_organisation_s_member_are_none_whoever_it_is():
    play = Play(organisations={"hal": "org-dan"})
    openings = play.to_reveal(scores={"dan": (0, 0, 1, 0, 0)})
    assert play.latest.members[2] == "hal"
    assert play.refusal("dan", openings["dan"]) == "bad-scores"


@pytest.mark.parametrize(("honest", "final"), [(6, True), (5, True), (4, False)])
def test_a_result_is_final_that_more_than_two_thirds_of_the_power_have_opened(honest, final):
    play = six()
    liars = play.super_nodes()[honest:]
    openings = play.to_reveal(results=dict.fromkeys(liars, LIE))
    right = play.result()
    play.must(*openings.items())
    play.wait_while("reveal")
    if final:
        assert play.state.need(Round, 1).result == right
        assert play.events(RoundFinal) == [RoundFinal(1, 1, right, honest * 1_000, 6_000)]
    else:
        assert play.events(AttemptFailed) == [AttemptFailed(1, 1, "no-agreement")]
        assert play.latest.attempt == 2


def test_a_result_is_final_with_the_last_reveal_and_not_before_others_had_their_time():
    play = Play()
    openings = list(play.to_reveal().items())
    play.must(*openings[:3])
    assert play.latest.phase == "reveal"
    play.must(openings[3])
    assert play.state.need(Round, 1).phase == "final"


def test_who_never_committed_to_a_result_is_not_waited_for():
    play = Play()
    openings = play.to_reveal(silent=["dan"])
    play.must(*openings.items())
    assert play.state.need(Round, 1).phase == "final"


# Attempts


def fail_to_deliver(play):
    play.to_deliver()
    play.wait_while("deliver")


def fail_to_compute(play):
    play.to_compute()
    play.wait_while("compute")


def fail_to_agree(play):
    names = play.super_nodes()
    openings = play.to_reveal(results={name: digest(name.encode()) for name in names})
    play.must(*openings.items())


FAILURES = {"too-few-in": fail_to_deliver, "too-few-commitments": fail_to_compute, "no-agreement": fail_to_agree}


@pytest.mark.parametrize("reason", FAILURES)
def test_after_an_attempt_that_fails_the_next_begins_with_the_same_commitments_and_doubled_windows(reason):
    play = Play(**CLOCKS)
    play.to_deliver()
    before, updates = play.latest, play.state.where(Update, "round", 1)
    treasury, recipe = play.chain.treasury, play.state.need(Recipe, RECIPE)
    fail(play, reason)
    now = play.latest
    assert play.events(AttemptFailed) == [AttemptFailed(1, 1, reason)]
    assert (now.attempt, now.phase, now.stretch, now.members) == (2, "deliver", 1, ())
    assert (now.opened, now.opened_time) == (play.height, play.state.time)
    assert play.events(PhaseBegan)[-1] == PhaseBegan(1, 2, "deliver", 36, 120_000)
    assert (now.cohort, now.seats, now.windows, now.committed) == (
        before.cohort,
        before.seats,
        before.windows,
        before.committed,
    )
    assert play.state.where(Update, "round", 1) == updates
    assert not play.state.where(Hold, "round", 1)
    assert not play.attestations(1)
    # It pays nothing and leaves the model.
    assert play.chain.treasury == treasury
    assert play.state.need(Recipe, RECIPE).model == recipe.model
    assert play.round().phase == "final"


def fail(play, reason):
    """Let an attempt fail; blocks take four seconds, so that blocks and time are over together or the blocks later."""
    plain, play.wait = play.wait, lambda blocks=1, time=4_000: type(play).wait(play, blocks, time)
    FAILURES[reason](play)
    play.wait = plain


@pytest.mark.parametrize("course", [["too-few-in"] * 3, ["no-agreement", "too-few-commitments", "too-few-in"]])
def test_after_three_attempts_a_round_is_void(course):
    play = Play()
    for reason in course:
        FAILURES[reason](play)
    assert [one.reason for one in play.events(AttemptFailed)] == course
    assert len(course) == ATTEMPTS
    found = play.state.need(Round, 1)
    assert (found.phase, found.attempt, found.result) == ("void", 3, b"")
    assert play.events(RoundSettled) == [RoundSettled(1, "void", course[-1])]
    assert play.state.need(Recipe, RECIPE).model == MODEL
    assert play.chain.treasury == 1_000_000


def void(play):
    """Let all attempts of the live round fail, or of the next."""
    play.to_commit()
    number = play.chain.round
    while not play.state.need(Round, number).settled:
        play.to_deliver()
        # A seat at least has seen something.
        play.must(play.hold(play.super_nodes()[0]))
        fail_to_deliver(play)


def test_windows_are_doubled_with_each_failure_three_times_at_most_and_stay_so_until_a_round_is_final():
    play = Play(term_length=2_000, unbonding_blocks=5_440)
    void(play)
    again(play)
    play.to_commit()
    assert (play.latest.number, play.latest.stretch) == (2, 3)
    void(play)
    again(play)
    play.to_commit()
    assert play.latest.stretch == 3
    begun = [(one.phase, one.blocks) for one in play.events(PhaseBegan)]
    assert begun[:4] == [("commit", 18), ("deliver", 18), ("deliver", 36), ("deliver", 72)]
    assert {blocks for _, blocks in begun[4:]} == {18 << LONGEST_STRETCH}
    play.round()
    assert play.chain.stretch == 0
    play.to_commit()
    assert play.latest.stretch == 0
    assert play.events(PhaseBegan)[-1].blocks == 18


def again(play):
    """Let everyone register anew whose registration has ended."""
    ended = [one.member for one in play.state.all(Registration) if not one.active]
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ended))


# Commitments that are carried over, and those that are not paid


def test_after_a_void_round_commitments_stand_and_who_commits_anew_is_not_paid():
    play = Play(contributors=("ann", "bob", "hal"))
    void(play)
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("ann", "bob", "hal", "ivy")))
    assert play.state.need(Recipe, RECIPE).exposed
    before = {one.member: one for one in play.state.where(Update, "round", 1)}
    play.to_commit()
    stand = ("ann", "bob", "hal")
    assert play.events(UpdateCarried) == [UpdateCarried(2, name, before[name].digest, 1) for name in stand]
    for name in stand:
        made = play.state.need(Update, 2, name)
        assert made == replace(before[name], round=2, height=play.latest.scheduled)
        assert play.refusal(name, tx.CommitUpdate(2, LIE)) == "already-done"
    # It has no seat, but a seat may have told it.
    play.must(play.update("ivy"))
    assert play.latest.phase == "deliver"
    unpaid = {one.member for one in play.state.where(Update, "round", 2) if one.unpaid}
    assert unpaid == {"ivy"}


def test_a_commitment_stands_although_its_owner_sat_a_void_round_out():
    play = Play(term_length=2_000, unbonding_blocks=5_440, contributors=("ann", "bob", "hal", "ivy"))
    void(play)
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("bob", "hal", "ivy")))
    void(play)
    again(play)
    play.to_commit()
    assert (play.latest.number, play.latest.phase) == (3, "commit")
    assert {one.member: one.origin for one in play.state.where(Update, "round", 3)}["ann"] == 1


def test_a_commitment_is_carried_on_over_several_void_rounds_and_keeps_its_origin():
    play = Play(term_length=2_000, unbonding_blocks=5_440, contributors=("ann", "bob", "hal"))
    for _ in range(2):
        void(play)
        again(play)
    play.to_commit()
    assert (play.latest.number, play.latest.phase) == (3, "commit")
    origins = {one.member: (one.round, one.origin) for one in play.state.where(Update, "round", 3)}
    assert origins == {"ann": (3, 1), "bob": (3, 1), "hal": (3, 1)}


def test_a_void_round_of_a_model_that_was_replaced_meanwhile_exposes_nobody_to_the_new_one():
    play = reach(Play(), "deliver")
    play.must(play.hold("ann"))
    play.by_hand(lambda now: now.draft.put(replace(now.draft.need(Recipe, RECIPE), model=LIE)))
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert not play.state.need(Recipe, RECIPE).exposed


@pytest.mark.parametrize(("model", "exposed"), [(MODEL, True), (LIE, False)])
def test_a_recipe_that_is_set_to_a_model_whose_updates_were_delivered_once_pays_nobody_who_commits_anew(model, exposed):
    play = Play()
    play.round()
    decide(play, {**SET, "model": model})
    play.round()
    play.to_deliver()
    assert play.latest.model == model
    assert {one.unpaid for one in play.state.where(Update, "round", play.chain.round)} == {exposed}
    play.round()
    assert not play.state.need(Recipe, RECIPE).exposed


def test_nothing_is_carried_over_after_a_final_round():
    play = Play()
    play.round()
    play.to_commit()
    assert play.committed() == ()


def test_nothing_is_carried_over_from_a_final_round_to_whose_model_the_recipe_is_set_back():
    play = reach(Play(interval=30), "commit")
    decide(play, {**SET, "interval": 30})
    assert play.round().phase == "final"
    decide(play, {**SET, "model": MODEL, "interval": 30})
    play.to_commit()
    assert (play.latest.number, play.latest.model) == (2, MODEL)
    assert play.committed() == ()


def test_of_several_models_only_the_commitments_of_the_present_one_stand():
    play = Play(term_length=2_000, unbonding_blocks=5_440, contributors=("ann", "bob", "hal", "ivy"))
    void(play)
    decide(play, SET)
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("ann", "bob", "hal")))
    void(play)
    again(play)
    play.to_commit()
    assert (play.latest.number, play.latest.model, play.latest.exposed) == (3, LIE, True)
    assert "ivy" in [one.member for one in play.latest.cohort]
    origins = {one.member: one.origin for one in play.state.where(Update, "round", 3)}
    assert origins == {"ann": 2, "bob": 2, "hal": 2}


def test_nothing_is_carried_over_to_another_model():
    play = Play()
    void(play)
    again(play)
    decide(play, SET)
    assert (play.latest.number, play.latest.model) == (2, LIE)
    assert play.committed() == ()


def test_who_commits_anew_is_paid_again_once_a_round_is_final():
    play = Play(term_length=2_000, unbonding_blocks=5_440, contributors=("ann", "bob", "hal", "ivy"))
    play.to_deliver(idle=["bob"])
    void(play)
    # Without bob there would be too few.
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in ("ann", "bob", "hal")))
    play.round()
    assert {one.member: one.unpaid for one in play.state.where(Update, "round", 2)} == {
        "ann": False,
        "bob": True,
        "hal": False,
    }
    paid = {one.member: one.amount for one in play.events(ContributorPaid)}
    assert paid["bob"] == 0
    assert paid["ann"] == paid["hal"] > 0
    assert not play.state.need(Recipe, RECIPE).exposed
    play.round()
    assert [one.amount > 0 for one in play.events(ContributorPaid) if one.member == "bob"] == [False, True]


def test_a_void_round_of_which_nothing_was_delivered_exposes_nothing():
    play = Play()
    play.to_deliver()
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert (play.state.need(Round, 1).phase, play.state.need(Round, 1).seen) == ("void", False)
    assert not play.state.need(Recipe, RECIPE).exposed


def test_what_was_seen_in_one_attempt_is_seen_whatever_the_others_were():
    play = Play()
    play.to_deliver()
    play.must(play.hold("ann", ["bob"]))
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert play.state.need(Recipe, RECIPE).exposed


# Proposals in the middle of a round


SET = {"kind": "recipe", "digest": RECIPE, "title": "digits", "model": LIE, "active": True, "interval": 1}


def decide(play, action):
    """Let a proposal be carried out in the block after this one, at the end of which a round may go on."""
    play.by_hand(lambda now: read_action(action).carry_out(now, 1))


@pytest.mark.parametrize("phase", PHASES)
def test_a_recipe_that_is_set_to_another_model_in_the_middle_of_a_round_stays_as_it_was_set(phase):
    play = reach(Play(), phase)
    decide(play, SET)
    assert play.latest.model == MODEL
    found = play.round() if phase != "reveal" else finish(play)
    assert found.phase == "final"
    assert play.state.need(Recipe, RECIPE).model == LIE
    assert play.events(ModelAdvanced) == []
    play.to_commit()
    assert play.latest.model == LIE


def finish(play):
    number = play.chain.round
    play.must(*((name, play.opening(name)) for name in play.super_nodes()))
    return play.state.need(Round, number)


@pytest.mark.parametrize("phase", PHASES)
def test_a_recipe_that_is_taken_out_of_use_in_the_middle_of_a_round_has_its_last_one(phase):
    play = reach(Play(), phase)
    decide(play, {**SET, "active": False})
    found = play.round() if phase != "reveal" else finish(play)
    recipe = play.state.need(Recipe, RECIPE)
    assert (found.phase, recipe.model, recipe.active) == ("final", found.result, False)
    play.wait(20)
    assert play.chain.round == 1


def test_who_commits_in_a_round_that_had_begun_before_the_recipe_was_set_anew_is_paid():
    play = reach(Play(), "commit")
    decide(play, SET)
    play.round()
    assert not any(one.unpaid for one in play.events(UpdateCommitted))
    play.to_deliver()
    assert play.latest.model == LIE
    assert not any(one.unpaid for one in play.events(UpdateCommitted))


# Seats stand still


CHANGES = {
    "jailed for absence": lambda now: candidates.jail(now, "dan", 5, absent=True),
    "jailed for a fault": lambda now: candidates.jail(now, "dan", 5, absent=False),
    "barred": lambda now: candidates.tombstone(now, "dan"),
    "retired": lambda now: candidates.retire(now, "dan", tx.Retire()),
    "elected anew": lambda now: now.draft.put(replace(now.term, seats=now.term.standbys)),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_round_keeps_its_seats_and_their_powers_whatever_becomes_of_the_candidates(change, phase):
    play = reach(Play(), phase)
    seats = play.latest.seats
    play.by_hand(CHANGES[change])
    assert play.latest.seats == seats
    # Without dan and one more there would be no two thirds.
    found = play.round(absent=["cat"]) if phase != "reveal" else finish(play)
    assert (found.phase, found.seats) == ("final", seats)
    assert play.state.need(Attestation, 1, "dan").revealed


def test_the_power_of_a_removed_seat_stays_in_the_round_and_is_nobody_s():
    play = reach(Play(), "deliver")
    play.by_hand(lambda now: members.remove(now, "dan", 1))
    assert play.refusal(*play.hold("dan")) == "not-active"
    assert play.round(absent=["dan"]).phase == "final"
    assert [(one.power, one.total) for one in play.events(RoundFinal)] == [(13_516, 16_716)]


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_seat_that_changes_its_key_goes_on_with_the_new_one(phase):
    play = reach(Play(), phase)
    rotate(play, "dan", key("dan, later"))
    found = play.round() if phase != "reveal" else finish(play)
    assert found.phase == "final"
    assert play.state.need(Attestation, 1, "dan").revealed


def test_rounds_go_on_across_the_end_of_a_term():
    play = Play(term_length=2, unbonding_blocks=1_444)
    found = [play.round() for _ in range(5)]
    assert [one.phase for one in found] == ["final"] * 5
    assert len({one.term for one in found}) == 5
    assert all(one.settled > play.state.get(Term, one.term).ends for one in found if play.state.get(Term, one.term))
