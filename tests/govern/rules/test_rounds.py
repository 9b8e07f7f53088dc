from dataclasses import replace

import pytest
from fedmeta.govern.rules.beacon import draw

from fedmeta.govern.rules import candidates, members, rounds
from fedmeta.govern.state.records import Manifest, Member, Recipe, Round, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.game import AGGREGATE, NEXT_MODEL, PHASES, Game
from tests.govern.playing import CHAIN, MODEL, RECIPE, key
from tests.govern.small import HOSPITALS, refuses

SIX = {f"node{at}": 1_000 for at in range(6)}


# Opening


def test_a_round_s_cohort_is_drawn_from_the_active_members_by_the_beacon():
    game = Game(members=("fulda", "gent"), cohort_size=3)
    names = [*HOSPITALS, "evora", "fulda", "gent"]
    assert game.round.cohort == draw(game.now.chain.beacon, 1, names, 3)
    game.now.draft.put(replace(game.now.member("gent"), active=False))
    rounds.schedule(game.now, 2)
    assert game.round.cohort == draw(game.now.chain.beacon, 2, names[:-1], 3)


def test_a_round_waits_without_a_deadline_until_a_recipe_is_active():
    game = Game()
    game.now.draft.put(Recipe(RECIPE, "digits", MODEL, False))
    game.end()
    assert game.round.deadline == 0
    game.end(10)
    assert game.said("leader-missed") == []
    game.now.draft.put(Recipe(RECIPE, "digits", MODEL, True))
    game.end()
    assert game.round.deadline == game.now.height - 1 + 3
    game.open()


def test_the_leader_opens_the_round_with_the_recipe_s_present_model():
    game = Game()
    leader = game.round.leader
    game.end()
    game.open()
    found = game.round
    assert (found.phase, found.opened, found.deadline) == ("updates", 2, 6)
    assert (found.recipe, found.model, found.leader, found.leaders) == (RECIPE, MODEL, leader, (leader,))
    assert [one.kind for one in game.now.events] == ["round-opened", "phase-began"]


def test_nobody_else_opens_it_and_with_nothing_else():
    game = Game()
    other = next(name for name in HOSPITALS if name != game.round.leader)
    with refuses("not-allowed", match=f"{other} does not lead round 1: {game.round.leader} does"):
        game.open(other)
    with refuses("not-found", match="no recipe"):
        game.open(recipe=digest(b"unknown"))
    with refuses("bad-value", match="the recipe's is"):
        game.open(model=NEXT_MODEL)
    game.now.draft.put(Recipe(digest(b"old"), "old", MODEL, False))
    with refuses("not-allowed", match="is not active"):
        game.open(recipe=digest(b"old"))
    with refuses("not-found", match="there is no round 2"):
        rounds.open_round(game.now, game.round.leader, tx.OpenRound(2, RECIPE, MODEL))


def test_a_leader_that_does_not_open_in_time_is_followed_by_the_next_without_end():
    game = Game(duty_misses=20)
    led = [game.round.leader]
    for miss in range(1, 9):
        game.end(2)
        assert len(game.said("leader-missed")) == miss - 1
        game.end()
        assert game.said("leader-missed")[-1].leader == led[-1]
        assert game.said("duty-missed")[-1].candidate == led[-1]
        led.append(game.round.leader)
    assert led[:4] != led[1:5]
    assert sorted(led[:4]) == sorted(HOSPITALS)
    assert (game.round.phase, game.round.attempt, game.round.leaders) == ("opening", 0, (led[-1],))
    game.open()
    assert game.round.phase == "updates"


@pytest.mark.parametrize("phase", PHASES)
def test_every_transaction_is_refused_outside_its_phase(phase):
    game = Game().to(phase)
    number, leader = game.number, game.round.leader
    bodies = {
        "opening": (rounds.open_round, tx.OpenRound(number, RECIPE, MODEL)),
        "updates": (rounds.commit_update, tx.CommitUpdate(number, MODEL, 1, ())),
        "manifest": (rounds.post_manifest, tx.PostManifest(number, 0, (), AGGREGATE, MODEL)),
        "commit": (rounds.attest, tx.Attest(number, MODEL)),
        "reveal": (rounds.reveal, tx.Reveal(number, MODEL, (), MODEL)),
    }
    for due, (rule, body) in bodies.items():
        if due != phase:
            with refuses("wrong-phase", match=f"is in phase {phase}: this belongs to phase {due}"):
                rule(game.now, leader, body)


# Updates


def test_an_update_is_committed_once_by_each_member_of_the_cohort():
    game = Game(cohort_size=3).to("updates")
    first, second, _ = game.round.cohort
    game.commit(first)
    assert game.now.draft.get(Update, 1, first) == Update(1, first, digest(first.encode()), 10, 1)
    with refuses("already-done"):
        game.commit(first)
    outsider = next(name for name in (*HOSPITALS, "evora") if name not in game.round.cohort)
    with refuses("not-allowed", match="not in the cohort"):
        game.commit(outsider)
    with refuses("bad-value", match="1 example"):
        game.commit(second, examples=0)


def test_receipts_of_f_plus_one_super_nodes_are_needed_and_enough():
    game = Game(stakes={**SIX, "node6": 1_000}, super_nodes=7).to("updates")
    name = game.round.cohort[0]
    body = tx.CommitUpdate(1, digest(name.encode()), 10, ())
    signers = sorted(game.seats)
    with refuses("bad-receipts", match="there are 2 receipts: from 3 to 7"):
        rounds.commit_update(game.now, name, replace(body, receipts=game.receipts(name, signers[:2])))
    rounds.commit_update(game.now, name, replace(body, receipts=game.receipts(name, signers[:3])))


def test_receipts_that_do_not_count_are_refused():
    game = Game(members=("fulda",)).to("updates")
    name = game.round.cohort[0]
    good = game.receipts(name, HOSPITALS)
    bad = {
        "in the order": good[::-1],
        "one of each": (good[0], good[0]),
        "is no super node": game.receipts(name, ["ada", "fulda"]),
        "is not signed by its key": (good[0], (good[1][0], good[0][1])),
        "from 2 to 4": (*good, good[0]),
    }
    for match, receipts in bad.items():
        with refuses("bad-receipts", match=match):
            rounds.commit_update(game.now, name, tx.CommitUpdate(1, digest(name.encode()), 10, receipts))
    for other in (
        tx.CommitUpdate(1, digest(name.encode()), 11, good),
        tx.CommitUpdate(1, digest(b"other"), 10, good),
    ):
        with refuses("bad-receipts", match="is not signed by its key"):
            rounds.commit_update(game.now, name, other)
    with refuses("bad-receipts", match="is not signed by its key"):
        rounds.commit_update(game.now, game.round.cohort[1], tx.CommitUpdate(1, digest(name.encode()), 10, good))
    rounds.commit_update(game.now, name, tx.CommitUpdate(1, digest(name.encode()), 10, good))


def test_a_receipt_signed_before_the_super_node_changed_its_key_counts():
    game = Game(update_blocks=20).to("updates")
    new = key("ada's new key")
    proof = new.sign(tx.possession(CHAIN, "ada", new.public))
    members.rotate_key(game.now, "ada", tx.RotateKey(new.public, proof))
    game.end(2)
    first, second, third = game.round.cohort[:3]
    for name, signer in ((first, key("ada")), (second, new)):
        receipts = game.receipts(name, ["ada", "bern"], signer_keys={"ada": signer})
        rounds.commit_update(game.now, name, tx.CommitUpdate(1, digest(name.encode()), 10, receipts))
    receipts = game.receipts(third, ["ada", "bern"], signer_keys={"ada": key("somebody's")})
    with refuses("bad-receipts"):
        rounds.commit_update(game.now, third, tx.CommitUpdate(1, digest(third.encode()), 10, receipts))


def test_the_manifest_is_due_as_soon_as_the_whole_cohort_has_committed():
    game = Game().to("updates")
    game.commit(*game.round.cohort[:-1])
    game.end()
    assert game.round.phase == "updates"
    game.commit(game.round.cohort[-1])
    game.end()
    assert (game.round.phase, game.round.deadline) == ("manifest", 2 + 3)


def test_at_the_deadline_the_updates_that_are_there_are_taken():
    game = Game().to("updates")
    game.commit(game.round.cohort[0])
    game.end(4)
    assert (game.round.phase, game.now.height) == ("updates", 5)
    game.end()
    assert game.round.phase == "manifest"


def test_a_round_without_updates_fails_and_the_next_is_scheduled():
    game = Game().to("updates")
    game.end(5)
    assert game.number == 2
    failed = game.now.draft.need(Round, 1)
    assert (failed.phase, failed.settled) == ("failed", 5)
    assert game.said("round-settled")[0].reason == "no updates were committed"
    assert game.said("fault-proven") == []
    game.finish()
    assert game.now.draft.need(Round, 2).phase == "final"


# Manifest


def test_a_manifest_names_members_that_committed_each_once_and_in_order():
    game = Game().to("updates")
    cohort = game.round.cohort
    game.commit(*cohort[:3])
    game.end(5)
    bad = {
        "is empty": (),
        "in the order": (cohort[1], cohort[0]),
        "none twice": (cohort[0], cohort[0]),
        "has committed no update": cohort,
    }
    for match, names in bad.items():
        with refuses("bad-value", match=match):
            game.post(members=names)
    with refuses("bad-value", match="attempt is 1: round 1 is at attempt 0"):
        game.post(members=cohort[:3], attempt=1)
    other = next(name for name in HOSPITALS if name != game.round.leader)
    with refuses("not-allowed", match="does not lead"):
        game.post(other, members=cohort[:3])
    game.post(members=cohort[:3])
    assert game.manifest() == Manifest(1, game.round.leader, 0, 6, cohort[:3], AGGREGATE, NEXT_MODEL)
    assert (game.round.phase, game.round.deadline) == ("commit", 6 + 3)


def test_a_manifest_that_leaves_an_update_out_is_taken_so_that_it_can_be_proven():
    game = Game().to("manifest")
    game.post(members=game.round.cohort[1:])
    assert game.manifest().members == game.round.cohort[1:]


def test_a_leader_that_posts_no_manifest_in_time_is_followed_by_the_next():
    game = Game().to("manifest")
    first = game.round.leader
    game.end(3)
    assert game.round.leader != first
    assert (game.round.attempt, game.round.leaders) == (1, (first, game.round.leader))
    assert game.round.deadline == game.now.height - 1 + 3
    assert [(one.leader, one.phase) for one in game.said("leader-missed")] == [(first, "manifest")]
    assert game.candidate(first).window == 1
    with refuses("not-allowed"):
        game.post(first, attempt=0)
    game.post()
    assert game.manifest().attempt == 1


def test_the_round_fails_when_as_many_leaders_have_missed_as_there_are_seats():
    game = Game().to("manifest")
    game.end(3 * 3)
    assert (game.number, game.round.attempt) == (1, 3)
    game.end(3)
    assert game.number == 2
    assert game.now.draft.need(Round, 1).phase == "failed"
    assert sorted(one.leader for one in game.said("leader-missed")) == sorted(HOSPITALS)
    assert game.said("round-settled")[0].reason == "no leader posted a manifest in time"


# A leader that loses its seat


@pytest.mark.parametrize("phase", ["opening", "updates", "manifest"])
def test_a_leader_that_loses_its_seat_is_followed_by_the_next_without_a_miss(phase):
    game = Game(members=("fulda",), stakes={**dict.fromkeys(HOSPITALS, 1_000), "fulda": 900}, standbys=1).to(phase)
    first, deadline = game.round.leader, game.round.deadline
    candidates.jail(game.now, first, 100)
    assert "fulda" in game.seats
    if phase != "updates":
        with refuses("not-allowed", match="has lost its seat"):
            game.open() if phase == "opening" else game.post()
    game.end()
    assert game.round.leader in game.seats
    assert game.said("leader-missed") == []
    assert game.candidate(first).window == 0
    assert game.round.phase == phase
    assert game.round.attempt == (phase != "opening")
    assert game.round.leaders[-1] == game.round.leader
    assert game.round.deadline == (deadline if phase == "updates" else game.now.height - 1 + 3)
    assert game.said("leader-chosen")[-1].leader == game.round.leader
    number = game.finish()
    assert game.now.draft.need(Round, number).phase == "final"


# Commit and reveal


def test_super_nodes_commit_once_each_and_nobody_else_does():
    game = Game(members=("fulda",)).to("commit")
    game.attest("ada")
    found = game.attestation("ada")
    assert (found.committed, found.revealed, found.result) == (game.now.height, 0, b"")
    with refuses("already-done"):
        game.attest("ada")
    with refuses("not-allowed", match="fulda holds no seat in term 1"):
        game.attest("fulda")


def test_the_reveals_begin_once_all_seats_have_committed_or_at_the_deadline():
    game = Game().to("commit")
    game.attest(*game.seats[:3])
    game.end(3)
    assert game.round.phase == "commit"
    game.end()
    assert (game.round.phase, game.round.deadline) == ("reveal", game.now.height - 1 + 3)
    other = Game().to("commit")
    other.attest(*other.seats)
    other.end()
    assert other.round.phase == "reveal"


def test_a_reveal_must_open_the_commitment():
    game = Game(members=("fulda",)).to("reveal")
    wanted, scores, salt = game.plans[1, "ada"]
    for changed in (
        tx.Reveal(1, MODEL, scores, salt),
        tx.Reveal(1, wanted, (1, *scores[1:]), salt),
        tx.Reveal(1, wanted, scores, MODEL),
        tx.Reveal(1, *game.plans[1, "bern"]),
    ):
        with refuses("bad-reveal"):
            rounds.reveal(game.now, "ada", changed)
    with refuses("not-allowed", match="has not committed"):
        rounds.reveal(game.now, "fulda", tx.Reveal(1, wanted, scores, salt))
    game.reveal("ada")
    found = game.attestation("ada")
    assert (found.revealed, found.result, found.scores, found.salt) == (game.now.height, wanted, scores, salt)
    with refuses("already-done"):
        game.reveal("ada")


def test_a_copied_commitment_cannot_be_opened_by_the_copier():
    game = Game().to("commit")
    game.attest("ada")
    rounds.attest(game.now, "bern", tx.Attest(1, game.attestation("ada").commitment))
    game.attest("cork", "delft")
    game.end()
    game.reveal("ada")
    with refuses("bad-reveal"):
        rounds.reveal(game.now, "bern", tx.Reveal(1, *game.plans[1, "ada"]))


def test_a_reveal_has_one_score_for_each_member_of_the_manifest():
    game = Game().to("commit")
    game.attest(*game.seats, scores=(1, 2))
    game.end()
    with refuses("bad-value", match="there are 2 scores: the manifest has 4 members"):
        game.reveal("ada")


def test_two_thirds_of_the_power_are_not_enough_and_more_is():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    names = game.seats
    game.reveal(*names[:4])
    assert game.round.result == b""
    assert game.said("round-final") == []
    game.reveal(names[4])
    assert game.round.result == game.right()
    assert [(one.power, one.total) for one in game.said("round-final")] == [(5_000, 6_000)]
    game.reveal(names[5])
    assert len(game.said("round-final")) == 1


def test_power_counts_and_not_the_number_of_super_nodes():
    stakes = {"big": 3_000, "bigger": 3_100, "mid": 2_000, "small": 1_000, "least": 500}
    game = Game(stakes=stakes, super_nodes=5, organisation_cap=333_332).to("reveal")
    # The powers: 3,000, 3,100, 2,000, 1,000 and 500 of 9,600; more than 6,400 are needed.
    game.reveal("big", "mid", "small")
    assert game.round.result == b""
    game.reveal("least")
    assert game.said("round-final")[0].power == 6_500


def test_only_one_and_the_same_result_counts():
    game = Game(stakes=SIX, super_nodes=6).to("commit")
    names = game.seats
    game.attest(*names[:4])
    game.attest(*names[4:], result=digest(b"other"))
    game.end()
    game.reveal(*names)
    assert game.round.result == b""


def test_the_window_stays_open_after_the_round_is_final_until_all_have_revealed():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    game.reveal(*game.seats[:5])
    game.end(2)
    assert game.round.phase == "reveal"
    game.reveal(game.seats[5])
    game.end()
    assert game.number == 2
    assert game.said("fault-proven") == []


def test_one_that_lost_its_seat_after_committing_may_clear_itself_but_does_not_count():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    lost = game.seats[0]
    candidates.jail(game.now, lost, 100)
    game.reveal(lost, *game.seats[:3])
    assert game.round.result == b""
    game.reveal(game.seats[3])
    assert [(one.power, one.total) for one in game.said("round-final")] == [(4_000, 5_000)]


def test_a_seat_that_is_lost_can_leave_the_others_with_enough():
    game = Game(stakes=SIX, super_nodes=6).to("reveal")
    game.reveal(*game.seats[:4])
    assert game.round.result == b""
    candidates.jail(game.now, game.seats[5], 100)
    game.end()
    assert [(one.power, one.total) for one in game.said("round-final")] == [(4_000, 5_000)]


# A manifest that is struck


@pytest.mark.parametrize("phase", ["commit", "reveal"])
def test_a_struck_manifest_frees_its_attesters_and_the_next_leader_posts_another(phase):
    game = Game().to(phase)
    first = game.round.leader
    rounds.strike(game.now, 1, "left-out")
    assert (game.round.phase, game.round.attempt, game.round.deadline) == ("manifest", 1, game.now.height + 3)
    assert game.round.leader != first
    assert game.manifest() is None
    assert all(game.attestation(name) is None for name in HOSPITALS)
    assert [(one.leader, one.reason) for one in game.said("manifest-struck")] == [(first, "left-out")]
    assert game.candidate(first).window == 0
    game.finish()
    assert game.now.draft.need(Round, 1).phase == "final"
    assert game.said("fault-proven") == []


@pytest.mark.parametrize("phase", ["opening", "updates", "manifest"])
def test_there_is_nothing_to_strike_before_a_manifest(phase):
    game = Game().to(phase)
    before = game.round
    rounds.strike(game.now, 1, "two-manifests")
    assert game.round == before


def test_a_manifest_is_not_struck_for_another_leader_s_fault():
    game = Game().to("manifest")
    first = game.round.leader
    game.end(3)
    game.post()
    rounds.strike(game.now, 1, "two-manifests", first)
    assert game.manifest() is not None
    rounds.strike(game.now, 1, "two-manifests", game.round.leader)
    assert game.manifest() is None


def test_a_final_or_settled_round_is_not_struck():
    game = Game().to("reveal")
    game.reveal(*game.seats[:3])
    assert game.round.result
    rounds.strike(game.now, 1, "two-manifests")
    assert game.manifest() is not None
    game.reveal(game.seats[3])
    game.end()
    before = game.now.draft.need(Round, 1)
    rounds.strike(game.now, 1, "two-manifests")
    assert game.now.draft.need(Round, 1) == before
    assert game.now.draft.get(Manifest, 1) is not None


def test_a_round_whose_manifests_are_struck_again_and_again_fails():
    game = Game().to("manifest")
    for _ in HOSPITALS:
        assert game.number == 1
        game.post()
        rounds.strike(game.now, 1, "left-out")
    assert game.number == 2
    assert game.now.draft.need(Round, 1).phase == "failed"
    assert game.said("round-settled")[0].reason == "left-out"
    game.end()
    assert game.round.phase == "opening"


def test_rounds_go_on_across_the_end_of_a_term():
    game = Game(term_length=2, update_blocks=9, manifest_blocks=9)
    settled = [game.finish() for _ in range(5)]
    assert [game.now.draft.need(Round, number).phase for number in settled] == ["final"] * 5
    assert game.now.chain.term > 3


def test_members_that_are_removed_are_drawn_no_more():
    game = Game()
    members.remove(game.now, "evora", 1)
    game.finish()
    assert "evora" not in game.round.cohort
    assert game.now.draft.need(Member, "evora").active is False
