from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.rules import registrations
from fedmeta.govern.state.records import Recipe, Registration, Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import RecipeJoined, RecipeLeft
from fedmeta.govern.wire.signatures import digest
from tests.examples import in_soak
from tests.govern.playing import RECIPE, Play
from tests.govern.small import HOSPITALS, context, later, refuses

NINE = tuple(f"m{at}" for at in range(9))


def record(play, name):
    return play.state.need(Registration, RECIPE, f"org-{name}")


def cohorts(play):
    return [[one.member for one in play.state.need(Round, number).cohort] for number in range(1, play.chain.round + 1)]


# Who contributes


def test_a_member_registers_for_its_organisation_and_is_in_the_next_cohort():
    play = Play(contributors=("ann", "bob"))
    play.must(("hal", tx.JoinRecipe(RECIPE)))
    joined = play.height
    assert record(play, "hal") == Registration(RECIPE, "org-hal", "hal", True, joined, 0, 0, 0)
    assert play.events(RecipeJoined)[-1] == RecipeJoined(RECIPE, "org-hal", "hal")
    # Registered before the height at whose end a cohort is taken.
    assert play.chain.round == 0
    play.wait()
    assert [one.member for one in play.latest.cohort] == ["ann", "bob", "hal"]


def test_an_organisation_contributes_by_one_member():
    play = Play(members=("kim",), organisations={"kim": "org-hal"}, contributors=("hal",))
    assert play.refusal("kim", tx.JoinRecipe(RECIPE)) == "already-done"
    assert play.refusal("hal", tx.JoinRecipe(RECIPE)) == "already-done"
    assert play.refusal("kim", tx.LeaveRecipe(RECIPE)) == "not-found"
    play.must(("hal", tx.LeaveRecipe(RECIPE)))
    play.must(("kim", tx.JoinRecipe(RECIPE)))
    assert record(play, "hal").member == "kim"
    assert play.refusal("hal", tx.LeaveRecipe(RECIPE)) == "not-found"


def test_there_must_be_such_a_recipe_in_use():
    now = context()
    with refuses("not-found"):
        registrations.join(now, "ada", tx.JoinRecipe(digest(b"unknown")))
    now.draft.put(replace(now.draft.need(Recipe, RECIPE), active=False))
    with refuses("not-allowed", "not active"):
        registrations.join(now, "ada", tx.JoinRecipe(RECIPE))


def test_who_has_left_the_federation_does_not_register():
    now = context()
    now.draft.put(replace(now.member("evora"), active=False))
    with refuses("not-active"):
        registrations.join(now, "evora", tx.JoinRecipe(RECIPE))


def test_who_leaves_a_recipe_stays_in_the_round_that_has_begun_and_is_in_no_later_one():
    play = Play()
    play.to_commit()
    play.must(("hal", tx.LeaveRecipe(RECIPE)))
    assert play.events(RecipeLeft) == [RecipeLeft(RECIPE, "org-hal", "hal", "left")]
    assert play.refusal("hal", tx.LeaveRecipe(RECIPE)) == "not-found"
    assert "hal" in play.round().members
    play.to_commit()
    assert "hal" not in [one.member for one in play.latest.cohort]
    # It was in: its registration ended once, by its own wish.
    assert len(play.events(RecipeLeft)) == 1


def test_who_leaves_before_it_has_committed_has_left_once():
    play = Play()
    play.to_commit()
    play.must(("hal", tx.LeaveRecipe(RECIPE)))
    play.round(idle=["hal"])
    assert play.events(RecipeLeft) == [RecipeLeft(RECIPE, "org-hal", "hal", "left")]
    assert record(play, "hal").until == 2


# Whose update is not in


def test_whose_update_is_not_in_must_register_again_and_why_is_said():
    play = Play()
    play.to_deliver(idle=["joy"])
    play.round(holds=dict.fromkeys(play.super_nodes(), ("ann", "bob", "ivy")))
    assert play.events(RecipeLeft) == [
        RecipeLeft(RECIPE, "org-hal", "hal", "not-in"),
        RecipeLeft(RECIPE, "org-joy", "joy", "no-commit"),
    ]
    assert [(record(play, name).active, record(play, name).until) for name in ("hal", "joy", "ivy")] == [
        (False, 2),
        (False, 2),
        (True, 0),
    ]
    play.to_commit()
    assert [one.member for one in play.latest.cohort] == ["ann", "bob", "ivy"]


def test_who_committed_to_a_round_that_had_too_few_stays_and_who_did_not_must_register_again():
    play = Play()
    play.to_commit()
    play.must(play.update("ann"), play.update("hal"))
    play.wait_while("commit")
    gone = {one.member: one.reason for one in play.events(RecipeLeft)}
    assert gone == dict.fromkeys(["bob", "ivy", "joy"], "no-commit")
    assert [record(play, name).active for name in ("ann", "hal")] == [True, True]


def test_who_was_left_out_sits_the_next_round_out_and_is_in_the_one_after_it():
    play = Play()
    play.round(idle=["joy"])
    play.must(("joy", tx.JoinRecipe(RECIPE)))
    assert (record(play, "joy").misses, record(play, "joy").until) == (1, 2)
    for _ in range(2):
        play.round()
    play.to_commit()
    assert ["joy" in one for one in cohorts(play)] == [True, False, True, True]


def test_the_next_round_waits_for_nobody_so_that_one_that_began_with_its_block_is_sat_out_too():
    play = Play()
    # The second round begins with the block that ends the first: joy can only register after that.
    play.round(idle=["joy"])
    assert play.latest.number == 2
    play.must(("joy", tx.JoinRecipe(RECIPE)))
    play.round()
    assert (play.latest.number, "joy" in [one.member for one in play.latest.cohort]) == (3, True)


def test_whoever_registers_for_the_organisation_then_sits_it_out_for_it():
    play = Play(members=("kim",), organisations={"kim": "org-joy"}, interval=30)
    play.round(idle=["joy"])
    play.must(("kim", tx.JoinRecipe(RECIPE)))
    play.to_commit()
    assert (play.latest.number, [one.organisation for one in play.latest.cohort].count("org-joy")) == (2, 0)


@pytest.mark.parametrize(("others", "in_it"), [(2, True), (3, False), (4, False)])
def test_who_was_left_out_is_taken_at_once_where_there_would_be_too_few_without(others, in_it):
    names = ("ann", "bob", "hal", "ivy")[:others]
    play = Play(contributors=(*names, "joy", "cat", "dan")[: others + 1], interval=30)
    if others == 2:
        play.to_commit()
        play.must(*(play.update(name) for name in names))
        play.wait_while("commit")
    else:
        play.round(idle=["joy"])
    play.must(("joy", tx.JoinRecipe(RECIPE)))
    play.to_commit()
    assert play.latest.number == 2
    assert ("joy" in [one.member for one in play.latest.cohort]) == in_it


def test_an_organisation_that_never_delivers_makes_the_others_wait_in_fewer_and_fewer_rounds():
    play = Play(term_length=2_000, unbonding_blocks=5_440)
    waited = []
    for number in range(1, 13):
        play.to_commit()
        idle = [one.member for one in play.latest.cohort if one.member == "joy"]
        begun = play.height
        play.round(idle=idle)
        assert play.state.need(Round, number).phase == "final"
        if play.state.need(Round, number).settled - begun > 10:
            waited.append(number)
        if not record(play, "joy").active:
            play.must(("joy", tx.JoinRecipe(RECIPE)))
    # It sits out 1, 2, 4, ... rounds.
    assert waited == [1, 3, 6, 11]


@in_soak
def test_however_many_never_deliver_those_that_do_are_soon_in_a_round_of_their_own():
    """Fourteen of eighteen do not, and register again at once; a cohort has six places."""
    names = tuple(f"o{at:02}" for at in range(18))
    good = names[5::4]
    play = Play(members=names, contributors=names, interval=300, term_length=2_000, unbonding_blocks=5_440)
    for _ in range(4):
        while not play.chain.round or play.latest.settled:
            play.wait()
        play.to_deliver()
        number = play.chain.round
        inside = [one for one in play.committed() if one in good]
        while not play.state.need(Round, number).settled:
            if play.latest.phase == "deliver" and inside:
                play.block(*(play.hold(name, inside) for name in play.super_nodes()))
            if play.latest.phase == "compute":
                play.round()
                break
            play.wait()
        play.block(*((name, tx.JoinRecipe(RECIPE)) for name in names if not record(play, name).active))
        if play.state.need(Round, number).phase == "final":
            break
    assert play.state.need(Round, number).phase == "final"
    assert set(play.state.need(Round, number).members) == set(good)


def test_one_update_that_is_in_makes_up_for_all_that_were_not():
    play = Play(term_length=2_000, unbonding_blocks=5_440)
    play.round(idle=["joy"])
    play.must(("joy", tx.JoinRecipe(RECIPE)))
    play.round()
    assert record(play, "joy").misses == 1
    play.round()
    assert (record(play, "joy").misses, record(play, "joy").until) == (0, 2)
    play.round(idle=["joy"])
    assert (record(play, "joy").misses, record(play, "joy").until) == (1, 5)


def test_who_was_not_in_a_round_once_is_in_one_again_however_many_others_wait():
    play = Play(members=NINE, contributors=NINE, cohort_size=4, term_length=2_000, unbonding_blocks=5_440)
    play.round(idle=["m0"])
    play.must(("m0", tx.JoinRecipe(RECIPE)))
    for _ in range(2):
        play.round()
    assert ["m0" in one for one in cohorts(play)][:3] == [True, False, True]
    assert record(play, "m0").misses == 0


def test_no_more_than_64_rounds_are_sat_out():
    play = Play()
    play.to_commit()
    found = play.state.need(Registration, RECIPE, "org-joy")
    play.by_hand(lambda now: now.draft.put(replace(found, misses=60)))
    play.round(idle=["joy"])
    assert record(play, "joy").until == 1 + 64


def test_who_committed_in_a_round_that_is_void_registers_again_and_sits_none_out():
    play = Play()
    play.to_deliver(idle=["joy"])
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert play.state.need(Round, 1).phase == "void"
    assert {name: (record(play, name).active, record(play, name).until) for name in ("hal", "joy")} == {
        "hal": (False, 0),
        "joy": (False, 2),
    }


# In which order


def test_those_that_have_waited_longest_come_first_and_then_by_organisation():
    play = Play(members=NINE, contributors=NINE, cohort_size=4)
    # These two leave before the first cohort is taken, and come back one after the other.
    play.must(*((name, tx.LeaveRecipe(RECIPE)) for name in ("m2", "m0")))
    play.must(("m2", tx.JoinRecipe(RECIPE)))
    play.must(("m0", tx.JoinRecipe(RECIPE)))
    for _ in range(4):
        play.round()
    assert cohorts(play)[:4] == [
        ["m1", "m3", "m4", "m5"],
        ["m1", "m6", "m7", "m8"],
        ["m2", "m3", "m4", "m5"],
        ["m0", "m6", "m7", "m8"],
    ]


def test_a_cohort_is_written_by_organisation_whoever_came_first():
    now = context(contributors=("delft", "bern", "ada"))
    chosen = registrations.cohort(now, now.draft.need(Recipe, RECIPE))
    assert [one.organisation for one in chosen] == ["org-ada", "org-bern", "org-delft"]
    play = Play(contributors=("joy", "ann"))
    play.must(("hal", tx.JoinRecipe(RECIPE)))
    play.wait()
    assert [one.organisation for one in play.latest.cohort] == ["org-ann", "org-hal", "org-joy"]


@given(st.integers(3, 9), st.integers(3, 6), st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_everyone_has_its_turn_as_often_as_everyone_else_whatever_its_name(count, size, rounds_):
    now = context(members=NINE, contributors=NINE[:count], cohort_size=size)
    recipe = now.draft.need(Recipe, RECIPE)
    times = Counter()
    for _ in range(rounds_):
        chosen = registrations.cohort(now, recipe)
        assert len(chosen) == min(count, size)
        registrations.wait_again(now, chosen)
        times.update(one.member for one in chosen)
        now = later(now)
    had = [times[name] for name in NINE[:count]]
    assert sum(had) == rounds_ * min(count, size)
    assert max(had) - min(had) <= 1


def by_hand(registered, size, smallest, height, latest):
    """Take a cohort as the rules say it, one place after another."""
    able = sorted((one for one in registered if one.active and one.waiting < height), key=lambda one: one.organisation)
    able.sort(key=lambda one: one.turn)
    able.sort(key=lambda one: one.waiting)
    ready = [one for one in able if one.until < latest + 1]
    good = [one for one in ready if one.misses == 0]
    others = [one for one in ready if one.misses]
    found = []
    while len(found) < size and (good or others):
        kept = others and not any(one.misses for one in found) and len(found) >= max(smallest, size - 1)
        found.append((others if kept or not good else good).pop(0))
    late = sorted((one for one in able if one.until >= latest + 1), key=lambda one: one.misses > 0)
    while late and len(found) < smallest:
        found.append(late.pop(0))
    return found


one_of = st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 4), st.integers(0, 3))


@given(st.lists(one_of, max_size=9), st.integers(3, 6), st.integers(3, 6), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_a_cohort_is_the_one_that_the_rules_describe(entries, size, smallest, latest):
    now = context(height=5, members=NINE, contributors=(), cohort_size=max(size, smallest), smallest=smallest)
    for name, (active, waiting, until, turn) in zip(NINE, entries, strict=False):
        now.draft.put(Registration(RECIPE, f"org-{name}", name, active, waiting, min(until, 1), until, turn))
    now.change_chain(round=latest)
    recipe = now.draft.need(Recipe, RECIPE)
    wanted = by_hand(now.draft.all(Registration), max(size, smallest), smallest, 5, latest)
    assert registrations.cohort(now, recipe) == wanted


def test_the_cohorts_of_two_recipes_do_not_know_of_one_another():
    now = context(contributors=HOSPITALS)
    now.draft.put(replace(now.draft.need(Recipe, RECIPE), digest=digest(b"other")))
    other = now.draft.need(Recipe, digest(b"other"))
    assert registrations.cohort(now, other) == []
    registrations.join(now, "evora", tx.JoinRecipe(other.digest))
    now = later(now)
    assert [one.member for one in registrations.cohort(now, other)] == ["evora"]
    assert len(registrations.cohort(now, now.draft.need(Recipe, RECIPE))) == 4
