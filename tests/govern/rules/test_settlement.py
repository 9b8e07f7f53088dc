from dataclasses import replace

import pytest
from fedmeta.govern.rules.beacon import advance, draw

from fedmeta.govern.machine.execute import execute
from fedmeta.govern.rules import candidates, members, rounds
from fedmeta.govern.rules.pruning import prune
from fedmeta.govern.state.records import (
    Attestation,
    Challenge,
    Fault,
    Manifest,
    Proposal,
    Recipe,
    Round,
    Term,
    Update,
    Verdict,
    Vote,
)
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import ModelAdvanced
from fedmeta.govern.wire.signatures import digest
from tests.govern.game import NEXT_MODEL, Game
from tests.govern.playing import MODEL, RECIPE, Play, key
from tests.govern.small import HOSPITALS, later

SIX = {f"node{at}": 1_000 for at in range(6)}
FIVE = {**dict.fromkeys(HOSPITALS, 1_000), "fulda": 900}


def faults(game):
    return {(one.offender, one.kind) for one in game.now.draft.all(Fault)}


def misses(game):
    return {(one.candidate, one.duty) for one in game.said("duty-missed")}


def settled(game, number=1):
    return game.now.draft.need(Round, number)


def test_a_final_round_moves_the_recipe_s_model_on_and_pays():
    game = Game()
    treasury = game.now.chain.treasury
    game.finish()
    assert settled(game).phase == "final"
    assert settled(game).settled == game.now.height - 1
    assert game.now.draft.need(Recipe, RECIPE) == Recipe(RECIPE, "digits", NEXT_MODEL, True)
    assert game.now.chain.treasury < treasury
    assert [one.outcome for one in game.said("round-settled")] == ["final"]
    assert game.said("model-advanced") == [ModelAdvanced(1, RECIPE, NEXT_MODEL)]
    assert game.number == 2
    game.open(model=NEXT_MODEL)


def test_the_beacon_moves_on_by_the_salts_revealed_and_the_next_cohort_is_drawn_from_it():
    game = Game(stakes=SIX, super_nodes=6, members=("x", "y", "z")).to("reveal")
    before = game.now.chain.beacon
    shown = game.seats[:5]
    game.reveal(*shown)
    game.end(3)
    expected = advance(before, 1, [(name, game.plans[1, name][2]) for name in shown])
    assert game.now.chain.beacon == expected
    assert game.said("round-settled")[0].beacon == expected
    assert game.round.cohort == draw(expected, 2, [*SIX, "evora", "x", "y", "z"], 4)


def test_a_failed_round_moves_the_beacon_on_too():
    game = Game().to("updates")
    before = game.now.chain.beacon
    game.end(5)
    assert game.now.chain.beacon == advance(before, 1, [])


def test_a_result_that_is_not_the_manifest_s_refutes_the_round_and_its_leader():
    game = Game().to("commit")
    leader, treasury, height = game.round.leader, game.now.chain.treasury, game.manifest().height
    game.attest(*game.seats, result=digest(b"what they found"))
    game.end()
    game.reveal(*game.seats)
    game.end()
    assert settled(game).phase == "refuted"
    assert faults(game) == {(leader, "false-result")}
    fault = game.now.draft.all(Fault)[0]
    assert (fault.infraction, fault.round) == (height, 1)
    assert leader not in game.seats
    assert game.said("pool-shared") == []
    assert game.now.chain.treasury == treasury + sum(cut.amount for cut in fault.cuts)
    assert game.now.draft.need(Recipe, RECIPE).model == MODEL
    game.open()


def test_a_round_without_a_quorum_fails_and_nobody_is_paid():
    game = Game(stakes=SIX, super_nodes=6).to("commit")
    game.attest(*game.seats[:4])
    game.attest(*game.seats[4:], result=digest(b"other"))
    game.end()
    game.reveal(*game.seats)
    game.end()
    assert settled(game).phase == "failed"
    assert game.said("round-settled")[0].reason == "no result was revealed by more than 2/3 of the power"
    assert game.said("pool-shared") == []
    assert faults(game) == set()
    assert misses(game) == set()


def test_a_round_that_nobody_attests_fails():
    game = Game().to("commit")
    game.end(5)
    assert settled(game).phase == "failed"
    assert misses(game) == {(name, "attest") for name in HOSPITALS}


def test_who_commits_and_does_not_reveal_is_at_fault_from_the_commitment_on():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    withheld = game.seats[5]
    committed = game.attestation(withheld).committed
    game.reveal(*game.seats[:5])
    game.end(3)
    assert settled(game).phase == "final"
    assert faults(game) == {(withheld, "withheld-reveal")}
    assert game.now.draft.all(Fault)[0].infraction == committed
    assert misses(game) == {(withheld, "reveal")}
    assert withheld not in game.seats


def test_who_does_not_commit_misses_a_duty_and_the_others_do_theirs():
    game = Game(stakes=SIX, super_nodes=6).to("commit")
    for name in game.seats:
        game.now.draft.put(replace(game.candidate(name), window=1))
    leader = game.round.leader
    lazy = next(name for name in game.seats if name != leader)
    game.attest(*(name for name in game.seats if name != lazy))
    game.end(4)
    game.reveal(*(name for name in game.seats if name != lazy))
    game.end()
    assert misses(game) == {(lazy, "attest")}
    assert faults(game) == set()
    # One duty each, done or missed, and one more for the leader.
    expected = dict.fromkeys(game.seats, 0b10) | {lazy: 0b11, leader: 0b100}
    assert {name: game.candidate(name).window for name in game.seats} == expected


def test_the_leader_s_duty_counts_as_done_only_in_a_final_round():
    game = Game().to("commit")
    leader = game.round.leader
    game.now.draft.put(replace(game.candidate(leader), window=1))
    game.attest(*game.seats[:2])
    game.end(4)
    game.reveal(*game.seats[:2])
    game.end()
    assert settled(game).phase == "failed"
    assert game.candidate(leader).window in (0b10, 0b11)


def test_the_punishments_of_a_settlement_do_not_change_its_outcome_or_its_payments():
    def play(shown):
        game = Game(stakes=SIX, super_nodes=6).to("reveal")
        leader = game.round.leader
        names = [leader, *(name for name in game.seats if name != leader)]
        game.reveal(*names[:shown])
        game.end(3)
        return game, names

    game, names = play(5)
    assert game.round.number == 2
    paid = {one.candidate: one.amount for one in game.said("super-node-paid")}
    # 400 units for 7 points: 5 for revealing, 1 for leading.
    assert paid == {name: 400 * (2 if name == names[0] else 1) // 6 for name in names[:5]}
    order = [one.kind for one in game.said("super-node-paid") + game.said("fault-proven")]
    assert order == ["super-node-paid"] * 5 + ["fault-proven"]


def test_who_comes_in_after_the_manifest_misses_no_duty_and_may_do_it():
    game = Game(stakes=FIVE, standbys=1).to("commit")
    game.end()
    lost = next(name for name in game.seats if name != game.round.leader)
    candidates.jail(game.now, lost, 100)
    assert "fulda" in game.seats
    game.attest(*(name for name in game.seats if name != "fulda"))
    game.end(3)
    game.reveal(*(name for name in game.seats if name != "fulda"))
    game.end()
    assert settled(game).phase == "final"
    assert misses(game) == set()

    other = Game(stakes=FIVE, standbys=1).to("commit")
    other.end()
    candidates.jail(other.now, lost, 100)
    other.attest(*other.seats)
    other.end()
    other.reveal(*other.seats)
    other.end()
    assert "fulda" in {one.candidate for one in other.said("super-node-paid")}


def test_a_removed_member_is_not_at_fault_for_a_reveal_that_it_could_not_send():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    gone = game.seats[5]
    members.remove(game.now, gone, 1)
    game.reveal(*game.seats)
    game.end(3)
    assert settled(game).phase == "final"
    assert faults(game) == set()


def test_a_leader_that_lost_its_seat_is_not_paid_for_leading():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    leader = game.round.leader
    candidates.jail(game.now, leader, 100)
    game.reveal(*game.seats)
    game.end(3)
    assert settled(game).phase == "final"
    assert {one.candidate for one in game.said("super-node-paid")} == set(SIX) - {leader}
    assert game.said("pool-shared")[0].total_points == 5


@pytest.mark.parametrize("shown", range(5))
def test_the_supply_is_conserved_however_a_round_ends(shown):
    game = Game().to("reveal")
    supply = game.now.chain.supply
    game.reveal(*game.seats[:shown])
    game.end(4)
    state = game.now.draft.finish()
    assert sum(supply_parts(state).values()) == supply
    game.now = later(game.now)


def test_misses_add_up_over_rounds_until_they_are_a_fault():
    game = Game(stakes=SIX, super_nodes=6, duty_misses=3)
    lazy = "node5"
    for number in (1, 2, 3):
        assert faults(game) == set()
        game.to("commit")
        busy = [name for name in game.seats if name != lazy]
        game.attest(*busy)
        game.end(4)
        game.reveal(*busy)
        game.end()
        assert game.number == number + 1
    assert faults(game) == {(lazy, "missed-duties")}


def test_a_round_is_played_by_signed_transactions_in_five_blocks():
    play = Play(stakes=SIX, delegations=(), super_nodes=6, standbys=0, evidence_age=76, unbonding_period=240)
    assert play.round().phase == "final"
    assert play.height == 5
    assert play.state.need(Recipe, RECIPE).model == play.state.need(Manifest, 1).model


def test_a_punishment_in_a_term_s_last_block_comes_before_the_snapshot():
    # The reveals are due up to height 4 + 5, which is the term's last.
    options = {"reveal_blocks": 5, "term_length": 9, "evidence_age": 82}
    play = Play(stakes=SIX, delegations=(), super_nodes=6, standbys=0, **options)
    withheld = play.super_nodes()[3]
    assert play.round(withhold=(withheld,)).settled == play.state.need(Term, 3).snapshot == 9
    assert withheld not in {seat.candidate for seat in play.state.need(Term, 3).seats}


def test_who_is_punished_in_a_term_s_last_block_is_not_elected_at_all_rather_than_replaced_at_once():
    play = Play(reveal_blocks=5, term_length=9)
    assert play.round(withhold=("dan",)).settled == play.state.need(Term, 3).snapshot == 9
    term = play.state.need(Term, 3)
    # A replacement would have the height of its coming.
    assert [(seat.candidate, seat.since) for seat in term.seats] == [(name, 0) for name in ("ann", "bob", "cat", "eve")]
    assert [seat.candidate for seat in term.standbys] == ["fay", "gil"]


def test_a_recipe_that_was_set_back_while_a_round_ran_stays_as_it_was_set():
    play = Play()
    play.round()
    good = digest(b"a model from before")
    back = {"kind": "recipe", "digest": RECIPE, "title": "digits", "model": good, "active": True}
    play.must(("ann", tx.Propose("back", back)))
    play.must(*((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat", "dan")))
    executes = play.state.need(Proposal, 1).closes + play.parameters.execution_delay
    play.wait_until(executes - play.parameters.update_blocks)
    play.open()
    running = play.latest
    while play.state.need(Proposal, 1).status != "executed":
        play.wait()
    assert (play.latest.number, play.latest.phase) == (running.number, "updates")
    assert play.round().phase == "final"
    assert play.state.need(Recipe, RECIPE).model == good
    assert [one.round for one in play.events(ModelAdvanced)] == [1]
    play.round()
    assert play.state.need(Round, running.number + 1).model == good
    assert [one.round for one in play.events(ModelAdvanced)] == [1, running.number + 1]


def test_nobody_changes_the_next_cohort_by_leaving_once_salts_can_be_known():
    idle = tuple(f"idle{at}" for at in range(4))
    play = Play(members=idle)
    openings = play.to_reveal()
    *early, last = openings
    play.must(*((name, openings[name]) for name in early))
    raw = play.sign(last, openings[last])
    drawn = set()
    for chosen in range(2 ** len(idle)):
        leaving = [play.sign(name, tx.Leave()) for at, name in enumerate(idle) if chosen >> at & 1]
        done = execute(play.state, play.next_block([raw, *leaving]))
        assert not [one for one in done.events if one.kind == "transaction-refused"]
        drawn.add(done.state.need(Round, 2).cohort)
    assert len(drawn) == 1


def test_a_cohort_is_drawn_from_the_members_of_the_manifest_s_height():
    game = Game(stakes=SIX, super_nodes=6, members=("early", "late", "x", "y")).to("updates")
    members.leave(game.now, "early", tx.Leave())
    game.end()
    members.admit(game.now, "seen", "org-s", key("seen").public)
    game.to("commit")
    game.end()
    members.leave(game.now, "late", tx.Leave())
    members.admit(game.now, "unseen", "org-u", key("unseen").public)
    game.attest(*game.seats)
    game.end()
    game.reveal(*game.seats)
    game.end()
    everyone = [*SIX, "evora", "seen", "late", "x", "y"]
    assert game.round.cohort == draw(game.now.chain.beacon, 2, everyone, 4)


def test_a_cohort_after_a_round_without_a_manifest_is_drawn_from_the_members_of_its_opening():
    game = Game(members=("x", "late")).to("updates")
    game.end()
    members.leave(game.now, "late", tx.Leave())
    members.admit(game.now, "unseen", "org-u", key("unseen").public)
    game.end(5)
    assert game.number == 2
    assert game.round.cohort == draw(game.now.chain.beacon, 2, [*HOSPITALS, "evora", "x", "late"], 4)


# What is forgotten


def test_settled_rounds_are_forgotten_with_all_that_belongs_to_them_after_the_unbonding_period():
    game = Game(term_length=10, evidence_age=40, unbonding_period=105)
    game.finish()
    game.finish()
    gone = settled(game, 1).settled
    game.now.draft.put(Recipe(RECIPE, "digits", MODEL, False))
    while game.now.height - 1 <= gone + 105:
        assert game.now.draft.get(Round, 1) is not None
        game.end()
    game.end(21)
    draft = game.now.draft
    assert [one.number for one in draft.all(Round)] == [3]
    assert [draft.count(cls) for cls in (Manifest, Update, Attestation)] == [0, 0, 0]
    # At the end of term 13, at height 130, term 2 had ended 110 blocks ago.
    assert game.now.chain.term == 14
    assert [one.number for one in draft.all(Term)] == list(range(3, 16))
    forgotten = game.said("records-forgotten")
    assert [sum(getattr(one, name) for one in forgotten) for name in ("rounds", "terms", "faults")] == [2, 2, 0]
    assert all(one.rounds or one.terms for one in forgotten)


def old_game(height=2_360):
    """A ledger at the height, with nothing settled, whose rules forget what ended before height 160."""
    game = Game()
    game.now = later(game.now, height - game.now.height)
    return game


def round_of(number, settled, term=1):
    return Round(number, term, "final" if settled else "updates", 0, "ada", 0, (), b"", b"", 1, settled, b"", ("ada",))


def test_a_term_stays_as_long_as_a_round_names_it():
    game = old_game()
    draft = game.now.draft
    game.now.change_chain(term=4, round=2)
    for number in (2, 3, 4, 5):
        draft.put(Term(number, 0, 1, 20 * number, (), ()))
    draft.put(replace(draft.need(Term, 1), ends=20))
    draft.put(round_of(1, settled=50, term=1))
    draft.put(round_of(2, settled=0, term=2))
    prune(game.now)
    assert [one.number for one in draft.all(Term)] == [2, 4, 5]
    assert [one.number for one in draft.all(Round)] == [2]


def test_a_round_with_an_open_challenge_stays():
    game = old_game()
    draft = game.now.draft
    game.now.change_chain(round=3)
    for number, ended in ((1, 50), (2, 60), (3, 0)):
        draft.put(round_of(number, ended))
    draft.put(Challenge(1, 1, "ada", "bern", b"", 0, 1, 2, (), "open"))
    prune(game.now)
    assert [one.number for one in draft.all(Round)] == [1, 3]
    assert draft.count(Challenge) == 1


@pytest.mark.parametrize(
    ("status", "executes", "stays"),
    [
        ("voting", 0, True),
        ("passed", 300, True),
        ("rejected", 0, False),
        ("vetoed", 0, False),
        ("executed", 159, False),
        ("executed", 160, True),
        ("failed", 170, True),
    ],
)
def test_closed_proposals_are_forgotten_with_their_votes(status, executes, stays):
    game = old_game()
    draft = game.now.draft
    draft.put(Proposal(1, "ada", "", b"", 0, 1, 100, executes, status, 0, 0, 0, 0, 0))
    draft.put(Vote(1, "bern", "yes"))
    prune(game.now)
    assert (draft.count(Proposal), draft.count(Vote)) == (int(stays), int(stays))


@pytest.mark.parametrize(("closes", "stays"), [(159, False), (160, True)])
def test_decided_challenges_are_forgotten_with_their_verdicts(closes, stays):
    game = old_game()
    draft = game.now.draft
    draft.put(Challenge(1, 1, "ada", "bern", b"", 0, 1, closes, (), "upheld"))
    draft.put(Verdict(1, "cork", b""))
    prune(game.now)
    assert (draft.count(Challenge), draft.count(Verdict)) == (int(stays), int(stays))


@pytest.mark.parametrize(("height", "stays"), [(159, False), (160, True)])
def test_old_faults_are_forgotten(height, stays):
    game = old_game()
    game.now.draft.put(Fault(1, "ada", "left-out", 1, 1, 1, height, 0, (), 0, "", 0, False))
    prune(game.now)
    assert game.now.draft.count(Fault) == int(stays)


def test_nothing_is_forgotten_before_the_first_unbonding_period_is_over():
    game = Game(unbonding_period=10_000, term_length=5)
    game.finish()
    rounds.schedule(game.now, 3)
    game.end(30)
    assert settled(game, 1).phase == "final"
    assert game.now.draft.get(Term, 1) is not None
