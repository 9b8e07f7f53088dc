from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.rules import stake
from fedmeta.govern.rules.slashing import cut_stake, give_back
from fedmeta.govern.rules.stake import value_of
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Delegation, Fault, Member, Redelegation, Unbonding
from fedmeta.govern.state.state import Draft
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.parts import Cut
from tests.govern.playing import Play


def slash(play, name, snapshot, ppm, denominator=MILLION):
    """Slash in a block of its own, into the treasury; return the cuts."""
    done = []

    def step(context):
        cuts = cut_stake(context, name, snapshot, ppm, denominator)
        context.treasury(sum(one.amount for one in cuts))
        done.extend(cuts)

    before = play.chain.treasury
    play.by_hand(step)
    assert play.chain.treasury - before >= sum(one.amount for one in done)
    return done


def worth(play, member, candidate):
    found = play.state.get(Delegation, member, candidate)
    return value_of(play.state.need(Candidate, candidate), found.shares) if found else 0


def pool(play, name):
    return play.state.need(Candidate, name).tokens


def test_a_slash_falls_on_all_delegators_of_a_pool_alike():
    play = Play()
    assert slash(play, "bob", 0, 100_000) == [Cut("pool", "", "bob", 450)]
    assert (worth(play, "bob", "bob"), worth(play, "ivy", "bob")) == (3_600, 450)
    assert play.chain.treasury == 1_000_450


@given(st.integers(0, MILLION), st.integers(1, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_slash_takes_the_fraction_of_every_part_rounded_down(ppm, out):
    play = Play(delegations=(("hal", "ann", 10_000),))
    play.must(("hal", tx.Undelegate("ann", out)))
    cuts = {one.place: one.amount for one in slash(play, "ann", 0, ppm)}
    assert cuts.get("pool", 0) == (15_000 - out) * ppm // MILLION
    assert cuts.get("unbonding", 0) == out * ppm // MILLION


def test_what_was_undelegated_since_the_snapshot_is_slashed_and_what_was_by_then_is_not():
    play = Play()
    for _ in range(3):
        play.must(("hal", tx.Undelegate("ann", 200)))
    slash(play, "ann", 1, 100_000)
    assert {one.created: one.amount for one in play.state.all(Unbonding)} == {1: 200, 2: 180, 3: 180}


def test_what_was_redelegated_since_the_snapshot_is_slashed_and_what_was_by_then_is_not():
    play = Play()
    for name in ("bob", "cat", "dan"):
        play.must(("hal", tx.Redelegate("ann", name, 200)))
    cuts = slash(play, "ann", 1, 100_000)
    assert [worth(play, "hal", name) for name in ("ann", "bob", "cat", "dan")] == [360, 200, 180, 180]
    assert [one for one in cuts if one.place != "pool"] == [
        Cut("redelegation", "hal", "cat", 20),
        Cut("redelegation", "hal", "dan", 20),
    ]
    assert (pool(play, "cat"), worth(play, "cat", "cat"), worth(play, "ivy", "cat")) == (3_680, 3_000, 500)


def test_what_moved_and_was_then_undelegated_is_found_on_its_way_out():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 500)))
    play.must(("hal", tx.Undelegate("bob", 500)))
    assert slash(play, "ann", 0, 100_000)[1:] == [Cut("unbonding", "hal", "bob", 50)]
    assert play.state.need(Unbonding, "bob", "hal", 2).amount == 450


def test_what_moved_and_was_undelegated_in_part_is_taken_from_the_pool_first():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 500)))
    play.must(("hal", tx.Undelegate("bob", 480)))
    assert slash(play, "ann", 0, 100_000)[1:] == [
        Cut("redelegation", "hal", "bob", 20),
        Cut("unbonding", "hal", "bob", 30),
    ]


def test_stake_that_did_not_come_from_the_offender_is_spared_as_long_as_what_did_is_there():
    play = Play()
    play.must(("hal", tx.Delegate("bob", 1_000)), ("hal", tx.Redelegate("ann", "bob", 300)))
    slash(play, "ann", 0, 500_000)
    assert worth(play, "hal", "bob") == 1_150


def test_what_left_the_new_candidate_before_the_move_is_not_taken_for_the_old_one():
    play = Play()
    play.must(("hal", tx.Delegate("bob", 1_000)))
    play.must(("hal", tx.Undelegate("bob", 1_000)))
    play.must(("hal", tx.Redelegate("ann", "bob", 300)))
    play.must(("hal", tx.Undelegate("bob", 300)))
    slash(play, "ann", 0, 1_000_000)
    assert {one.created: one.amount for one in play.state.all(Unbonding)} == {2: 1_000}


def test_a_second_slash_takes_its_fraction_of_what_is_left():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 1_000)))
    slash(play, "ann", 0, 500_000)
    slash(play, "ann", 0, 500_000)
    assert worth(play, "hal", "bob") == 250
    (moved,) = play.state.all(Redelegation)
    assert (moved.amount, moved.shares) == (250, 250 * MILLION)


def test_moved_stake_answers_for_both_candidates():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 1_000)))
    slash(play, "bob", 1, 500_000)
    assert worth(play, "hal", "bob") == 500
    slash(play, "ann", 0, 500_000)
    assert worth(play, "hal", "bob") == 250


@given(
    st.integers(1, 1_000),
    st.integers(0, 1_000),
    st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.integers(1, 900_000)), min_size=1, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_no_course_of_slashes_takes_more_of_moved_stake_than_its_fractions(moved, out, slashes):
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", moved)))
    if min(out, moved):
        play.must(("hal", tx.Undelegate("bob", min(out, moved))))
    stood = Fraction(moved)
    for name, ppm in slashes:
        had = worth(play, "hal", "bob") + sum(one.amount for one in play.state.all(Unbonding))
        slash(play, name, 0, ppm)
        has = worth(play, "hal", "bob") + sum(one.amount for one in play.state.all(Unbonding))
        # A whole unit more, where a part of one is rounded away in the pool.
        assert had - has <= (stood if name == "ann" else had + 1) * ppm / MILLION + 1
        stood -= stood * ppm / MILLION if name == "ann" else 0


@pytest.mark.parametrize("stays", [0, 1_000])
def test_a_pool_that_was_emptied_and_filled_anew_answers_for_no_more_and_no_less_than_what_moved(stays):
    play = Play(stakes={"ann": 5_000, "bob": 4_000, "cat": 3_000}, delegations=(("hal", "ann", 1_000),))
    slash(play, "bob", 0, 500_000)
    # At half the worth of a share, the 300 units become twice as many shares.
    play.must(("hal", tx.Redelegate("ann", "bob", 300)))
    play.must(("hal", tx.Undelegate("bob", 300)), ("bob", tx.Undelegate("bob", 2_000)))
    play.must(("bob", tx.Bond(1_000)), *[("hal", tx.Delegate("bob", stays))] * bool(stays))
    slash(play, "ann", 1, 100_000)
    assert worth(play, "hal", "bob") + play.state.need(Unbonding, "bob", "hal", 3).amount == stays + 300 - 30


def test_the_whole_stake_can_be_slashed():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 400)), ("hal", tx.Undelegate("ann", 300)))
    slash(play, "ann", 0, MILLION)
    assert pool(play, "ann") == 0
    assert not play.state.all(Unbonding)
    assert worth(play, "hal", "bob") == 0
    assert pool(play, "bob") == 4_500
    play.must(("hal", tx.Claim()))
    assert play.refusal("ann", tx.Bond(1)) == "not-allowed"


def test_a_slash_looks_at_what_has_moved_in_a_number_of_steps_that_grows_with_it_and_not_with_its_square(monkeypatch):
    def looked_at(count):
        names = [f"m{at:03}" for at in range(count)]
        play = Play(delegations=tuple((name, "ann", 200) for name in names), members=("hal",))
        play.must(*((name, tx.Redelegate("ann", "bob", 100)) for name in names))
        play.must(*((name, tx.Undelegate("bob", 10)) for name in names))
        seen = []
        plain = Draft.where

        def where(draft, *arguments):
            found = plain(draft, *arguments)
            seen.append(len(found))
            return found

        def step(context):
            with monkeypatch.context() as patch:
                patch.setattr(Draft, "where", where)
                cuts = cut_stake(context, "ann", 0, MILLION, MILLION)
            context.treasury(sum(one.amount for one in cuts))

        play.by_hand(step)
        assert not play.state.all(Unbonding)
        return sum(seen)

    few, many = looked_at(10), looked_at(40)
    assert 10 <= few <= 10 * 5
    assert many <= 5 * few


# What is given back


def faulty(play, ppm):
    """Slash ann as for a fault, in a block of its own; return the fault as it is kept."""
    shares = play.state.need(Candidate, "ann").shares
    cuts = tuple(slash(play, "ann", 0, ppm))
    return Fault(1, "ann", "false-result", 1, 1, 1, play.height, ppm, cuts, shares, False)


def restore(play, fault):
    """Give back in a block of its own, out of the treasury; return what was given."""
    given = []

    def step(context):
        given.extend(give_back(context, fault))
        context.treasury(-sum(one.amount for one in given))

    play.by_hand(step)
    return given


def free(play):
    return {one.name: one.free for one in play.state.all(Member)}


@pytest.mark.parametrize("ppm", [1_000, 333_333, MILLION])
def test_giving_back_frees_what_each_has_lost_from_the_pool_and_on_its_way(ppm):
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 400)), ("hal", tx.Undelegate("ann", 300)))
    before, treasury = free(play), play.chain.treasury
    fault = faulty(play, ppm)
    (lost,) = (one.amount for one in fault.cuts if one.place == "pool")
    others = sum(one.amount for one in fault.cuts if one.place != "pool")
    given = restore(play, fault)
    # Of the pool's 5,300 units ann had 5,000, and hal the 300 that had not moved or gone.
    due = {"ann": lost * 5_000 // 5_300, "hal": lost * 300 // 5_300 + others}
    assert free(play) == before | {name: before[name] + amount for name, amount in due.items()}
    assert {one.candidate for one in given} <= {one.candidate for one in fault.cuts}
    assert lost - 1 <= sum(one.amount for one in given) - others <= lost
    assert play.chain.treasury - treasury == sum(one.amount for one in fault.cuts) - sum(due.values())


def test_who_came_into_the_pool_after_the_slash_is_given_nothing_and_takes_nothing_from_the_others():
    play = Play(free=200_000)
    before = free(play)
    fault = faulty(play, 500_000)
    play.must(("bob", tx.Delegate("ann", 190_000)))
    given = restore(play, fault)
    assert {one.member: one.amount for one in given} == {"ann": 2_500, "hal": 500}
    assert free(play) == before | {"ann": 202_500, "hal": 200_500, "bob": 10_000}


def test_who_came_in_with_the_slash_or_has_added_to_its_stake_since_is_given_nothing():
    play = Play()
    shares = []

    def step(context):
        stake.delegate(context, "ivy", tx.Delegate("ann", 1_000))
        shares.append(context.candidate("ann").shares)
        cuts.extend(cut_stake(context, "ann", 0, 500_000, MILLION))
        context.treasury(sum(one.amount for one in cuts))

    cuts = []
    play.by_hand(step)
    fault = Fault(1, "ann", "false-result", 1, 1, 1, play.height, 0, tuple(cuts), shares[0], False)
    play.must(("hal", tx.Delegate("ann", 1)))
    assert restore(play, fault) == [Cut("pool", "ann", "ann", 2_500)]


def test_who_has_kept_a_part_of_its_shares_is_given_what_that_part_has_lost():
    play = Play()
    fault = faulty(play, 500_000)
    play.must(("ann", tx.Undelegate("ann", 2_500)), ("hal", tx.Undelegate("ann", 125)))
    # Of 3,000 cut hal's shares lost 500, of which three quarters are left; ann's have gone.
    assert restore(play, fault) == [Cut("pool", "hal", "ann", 375)]
