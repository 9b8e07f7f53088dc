from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.rules import candidates, stake
from fedmeta.govern.state.parameters import MILLION, check_parameters
from fedmeta.govern.state.records import Candidate, Delegation, Member, Redelegation, Round, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import PoolClosed, RedelegationEnded, RewardsClaimed, RewardsSettled, UnbondingCompleted
from tests.govern.playing import PARAMETERS, Play
from tests.govern.small import HOSPITALS, context, later, settle_all


def give(name, amount):
    """A step that pays the voters of a candidate out of the treasury."""

    def step(context):
        context.treasury(-amount)
        stake.give_voters(context, name, amount)

    return step


def shrink(name, amount):
    """A step that takes units from a pool, as a slash does."""

    def step(context):
        candidate = context.candidate(name)
        context.draft.put(replace(candidate, tokens=candidate.tokens - amount))
        context.treasury(amount)

    return step


def pool(play, name):
    return play.state.need(Candidate, name)


def worth(play, member, candidate):
    found = play.state.get(Delegation, member, candidate)
    return stake.value_of(pool(play, candidate), found.shares) if found else 0


def free(play, name):
    return play.state.need(Member, name).free


def treasury(play):
    return play.chain.treasury


def test_a_unit_becomes_a_million_shares_in_a_pool_that_was_never_slashed():
    play = Play()
    play.must(("ann", tx.Bond(7)), ("hal", tx.Delegate("ann", 11)), ("gil", tx.Delegate("ann", 1)))
    assert play.state.need(Delegation, "ann", "ann").shares == 5_007 * MILLION
    assert play.state.need(Delegation, "hal", "ann").shares == 1_011 * MILLION
    assert play.state.need(Delegation, "gil", "ann").shares == MILLION
    assert (pool(play, "ann").tokens, pool(play, "ann").shares) == (6_019, 6_019 * MILLION)
    assert (free(play, "ann"), free(play, "hal"), free(play, "gil")) == (9_993, 9_989, 9_999)


def test_only_a_candidate_is_staked_on():
    play = Play()
    assert play.refusal("hal", tx.Bond(1)) == "not-found"
    assert play.refusal("hal", tx.Delegate("ivy", 1)) == "not-found"
    assert play.refusal("ann", tx.Redelegate("ann", "nobody", 1)) == "not-found"


def test_nobody_stakes_more_than_it_has():
    play = Play()
    assert play.refusal("hal", tx.Delegate("bob", 10_001)) == "insufficient-funds"
    assert play.refusal("ann", tx.Bond(10_001)) == "insufficient-funds"
    play.must(("hal", tx.Delegate("bob", 10_000)))
    assert free(play, "hal") == 0


def test_who_delegates_to_itself_must_bond():
    assert Play().refusal("ann", tx.Delegate("ann", 1)) == "not-allowed"


def test_a_member_stakes_on_so_many_candidates_and_no_more():
    play = Play(max_delegations=2)
    assert play.refusal("ivy", tx.Delegate("dan", 1)) == "limit-reached"
    play.must(("ivy", tx.Delegate("bob", 1)), ("ivy", tx.Undelegate("cat", 500)), ("ivy", tx.Delegate("dan", 1)))
    assert play.refusal("ivy", tx.Redelegate("bob", "cat", 1)) == "limit-reached"


def test_nobody_stakes_on_the_retired_or_barred():
    play = Play()
    play.must(("gil", tx.Retire()))
    play.by_hand(lambda context: context.draft.put(replace(context.candidate("fay"), tombstoned=True)))
    for name, code in (("gil", "not-allowed"), ("fay", "tombstoned")):
        assert play.refusal("hal", tx.Delegate(name, 1)) == code
        assert play.refusal(name, tx.Bond(1)) == code
        assert play.refusal("hal", tx.Redelegate("ann", name, 1)) == code


def test_a_pool_slashed_to_less_than_a_thousandth_takes_no_more_stake():
    play = Play(stakes={"ann": 1_000_000, "bob": 2_000}, delegations=())
    play.by_hand(shrink("ann", 999_000))
    play.must(("bob", tx.Delegate("ann", 1)))
    play.by_hand(shrink("ann", 2))
    assert play.refusal("bob", tx.Delegate("ann", 1)) == "not-allowed"
    # When ann has gone, the part of a unit that rounding denied her is bob's: together they had 999.
    play.must(("ann", tx.Undelegate("ann", 998)), ("bob", tx.Undelegate("ann", 1)))
    assert pool(play, "ann").shares == 0
    play.must(("bob", tx.Delegate("ann", 1)))
    assert pool(play, "ann").shares == MILLION


@given(
    st.integers(1, 10_000), st.integers(0, 6_000), st.lists(st.integers(1, 300), min_size=1, max_size=4), st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_coming_and_going_never_costs_the_others_and_costs_oneself_less_than_a_unit(first, taken, amounts, at_once):
    stakes, delegations = {"ann": 10_000 + first, "bob": 2_000}, (("hal", "ann", 777),)
    play = Play(stakes=stakes, delegations=delegations, max_unbonding=1_000)
    play.by_hand(shrink("ann", taken))
    price = Fraction(pool(play, "ann").tokens, pool(play, "ann").shares)
    for amount in amounts:
        before = worth(play, "bob", "ann")
        play.must(("bob", tx.Delegate("ann", amount)))
        assert before + amount - 1 <= worth(play, "bob", "ann") <= before + amount
        after = Fraction(pool(play, "ann").tokens, pool(play, "ann").shares)
        assert after >= price
        price = after
    while left := worth(play, "bob", "ann"):
        amount = left if at_once else min(left, max(amounts))
        play.must(("bob", tx.Undelegate("ann", amount)))
        after = Fraction(pool(play, "ann").tokens, pool(play, "ann").shares)
        assert after >= price
        price = after
        assert left - amount - 1 <= worth(play, "bob", "ann") <= left - amount + 1
    out = sum(one.amount for one in play.state.where(Unbonding, "member", "bob"))
    assert sum(amounts) - 2 * len(amounts) <= out <= sum(amounts)


OUT = 1_520
"""The shortest unbonding period that the periods of `Play` allow: two terms of 40 blocks, and a round's 1,440."""


def test_stake_comes_back_after_the_unbonding_period_and_not_a_block_before():
    now = context(unbonding_blocks=OUT, term_length=40, contributors=())
    stake.undelegate(now, "evora", tx.Undelegate("ada", 400))
    (entry,) = now.draft.all(Unbonding)
    assert (entry.created, entry.completes, entry.amount) == (1, 1 + OUT, 400)
    # The term that it had helped to elect is over.
    for number in (1, 2):
        now.draft.put(replace(now.draft.need(Term, number), snapshot=1))
    last = later(now, OUT - 1)
    stake.end_block(last)
    assert last.member("evora").free == 10_000
    assert not last.events
    due = later(last)
    stake.end_block(due)
    assert due.member("evora").free == 10_400
    assert due.events == [UnbondingCompleted("evora", "ada", 1, 400)]
    assert not due.draft.all(Unbonding)


def test_what_is_undelegated_in_one_block_is_one_entry():
    play = Play()
    play.must(("hal", tx.Undelegate("ann", 400)), ("hal", tx.Undelegate("ann", 100)), ("ann", tx.Undelegate("ann", 7)))
    found = {(one.member, one.created): one.amount for one in play.state.where(Unbonding, "candidate", "ann")}
    assert found == {("hal", 1): 500, ("ann", 1): 7}


def test_nobody_takes_back_more_than_its_stake_is_worth():
    play = Play()
    assert play.refusal("hal", tx.Undelegate("ann", 1_001)) == "insufficient-funds"
    assert play.refusal("hal", tx.Undelegate("bob", 1)) == "insufficient-funds"
    play.by_hand(shrink("ann", 600))
    assert play.refusal("hal", tx.Undelegate("ann", 901)) == "insufficient-funds"
    play.must(("hal", tx.Undelegate("ann", 900)))
    assert play.state.get(Delegation, "hal", "ann") is None


def test_unbonding_and_redelegation_entries_are_bounded_together():
    play = Play(max_unbonding=2)
    play.must(("hal", tx.Undelegate("ann", 1)), ("hal", tx.Redelegate("ann", "bob", 1)))
    assert play.refusal("hal", tx.Undelegate("ann", 1)) == "limit-reached"
    assert play.refusal("hal", tx.Redelegate("ann", "bob", 1)) == "limit-reached"
    play.must(("hal", tx.CancelUnbonding("ann", 1, 1)))
    play.must(("hal", tx.Undelegate("ann", 1)))


def test_what_rounding_leaves_in_a_pool_goes_to_the_treasury_with_its_last_share():
    play = Play(stakes={"ann": 10_000, "bob": 2_000}, delegations=(("hal", "ann", 3), ("ivy", "ann", 3)))
    play.by_hand(shrink("ann", 3_001), give("ann", 10))
    play.must(*((name, tx.Undelegate("ann", worth(play, name, "ann"))) for name in ("hal", "ivy")))
    before = treasury(play)
    left = pool(play, "ann")
    play.must(("ann", tx.Undelegate("ann", worth(play, "ann", "ann"))))
    (closed,) = play.events(PoolClosed)
    assert closed.stake == left.tokens - worth_of_all(left)
    # Of ten units on 10,006, ann's part is 9 and the others' none: each was rounded down.
    assert closed.rewards == 1
    assert treasury(play) == before + closed.stake + closed.rewards
    assert (pool(play, "ann").tokens, pool(play, "ann").shares, pool(play, "ann").outstanding) == (0, 0, 0)


def worth_of_all(candidate):
    return stake.value_of(candidate, candidate.shares)


def test_redelegated_stake_counts_for_the_new_candidate_at_once_and_is_tracked():
    now = context(unbonding_blocks=OUT, term_length=40, contributors=())
    stake.redelegate(now, "evora", tx.Redelegate("ada", "bern", 300))
    ada, bern = (stake.value_of(now.candidate(name), shares_of(now, "evora", name)) for name in ("ada", "bern"))
    assert (ada, bern) == (200, 300)
    (moved,) = now.draft.all(Redelegation)
    assert (moved.source, moved.destination, moved.amount, moved.shares) == ("ada", "bern", 300, 300 * MILLION)
    assert (moved.created, moved.completes) == (1, 1 + OUT)
    for number in (1, 2):
        now.draft.put(replace(now.draft.need(Term, number), snapshot=1))
    last = later(now, OUT - 1)
    stake.end_block(last)
    assert last.draft.all(Redelegation)
    assert not last.events
    due = later(last)
    stake.end_block(due)
    assert not due.draft.all(Redelegation)
    assert due.events == [RedelegationEnded("evora", "ada", "bern", 1)]


def shares_of(now, member, candidate):
    found = now.draft.get(Delegation, member, candidate)
    return found.shares if found else 0


def test_what_moved_lately_does_not_move_on_until_the_entry_completes():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 300)))
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1)) == "redelegation-hop"
    assert play.refusal("hal", tx.Redelegate("ann", "ann", 1)) == "not-allowed"
    play.must(("hal", tx.Redelegate("ann", "cat", 1)))
    ended = [one for one in play.state.all(Redelegation) if one.destination == "bob"]
    play.by_hand(*(lambda now, one=one: forget(now, one) for one in ended))
    play.must(("hal", tx.Redelegate("bob", "cat", 300)))


def forget(now, moved):
    now.draft.delete(Redelegation, moved.member, moved.source, moved.destination, moved.created)


# How long stake that leaves answers: by blocks, by block time, and by the terms and the round that it had elected


def leaving(**options):
    """Return the context of block 10, in which 100 units leave ada, elected by height 4, and 50 move to bern."""
    now = context(height=10, contributors=(), **{"unbonding_blocks": 3_440, "unbonding_seconds": 500, **options})
    for number in (1, 2):
        now.draft.put(replace(now.draft.need(Term, number), snapshot=4))
    stake.undelegate(now, "evora", tx.Undelegate("ada", 100))
    stake.redelegate(now, "evora", tx.Redelegate("ada", "bern", 50))
    return now


def elect_no_more(now):
    """Let the terms be of an election that saw the stake leave."""
    for number in (now.chain.term, now.chain.term + 1):
        now.draft.put(replace(now.draft.need(Term, number), snapshot=now.height))
    return now


def is_out(now):
    stake.end_block(now)
    assert bool(now.draft.all(Unbonding)) == bool(now.draft.all(Redelegation))
    return not now.draft.all(Unbonding)


@pytest.mark.parametrize(
    ("blocks", "time", "out"),
    [(3_440, 500_000, True), (3_440, 499_999, False), (3_440, 10**9, True), (3_439, 10**9, False)],
)
def test_stake_is_let_go_once_both_its_blocks_and_its_time_are_over(blocks, time, out):
    now = later(elect_no_more(leaving()), blocks, time)
    assert is_out(now) == out


@given(st.integers(0, 3_000), st.lists(st.integers(0, 3_000), max_size=20))
@settings(max_examples=30, deadline=None)
def test_however_the_pace_of_blocks_changes_stake_goes_when_its_time_is_over_and_not_before(first, paces):
    now = elect_no_more(leaving(unbonding_seconds=3_000))
    due = now.time + 3_000_000
    now = later(now, 3_440, 3_440 * first)
    for pace in [*paces, 3_000_000]:
        if is_out(now):
            break
        (entry,) = now.draft.all(Unbonding)
        assert now.time < due
        assert entry.completes > now.height
        blocks = entry.completes - now.height
        now = later(now, blocks, blocks * pace)
    assert is_out(now)
    assert now.time >= due


@given(st.integers(0, 3_000), st.integers(0, 60_000), st.integers(0, 700))
@settings(max_examples=15, deadline=None)
def test_after_fast_blocks_and_then_slow_ones_stake_goes_at_most_twenty_blocks_after_its_time(fast, slow, many):
    now = elect_no_more(leaving(unbonding_seconds=3_000))
    due = now.time + 3_000_000
    now = later(now, 3_440, 3_440 * fast // 10)
    for at in range(400):
        if is_out(now):
            break
        (entry,), (moved,) = now.draft.all(Unbonding), now.draft.all(Redelegation)
        assert now.time < due
        assert entry.completes == moved.completes == now.height + 20
        now = later(now, 20, 20 * (fast if 20 * at < many else max(slow, 1_000)))
    assert now.time >= due
    assert not now.draft.all(Unbonding)


def test_stake_whose_time_has_not_come_is_looked_at_again_twenty_blocks_later_whatever_the_pace_was():
    assert stake.LOOK_AGAIN == 20
    for time in (0, 1, 344_000, 499_999):
        now = later(elect_no_more(leaving()), 3_440, time)
        assert not is_out(now)
        (entry,), (moved,) = now.draft.all(Unbonding), now.draft.all(Redelegation)
        assert entry.completes == moved.completes == now.height + 20
        # All blocks were fast up to now, and one slow block is enough.
        early = later(now, 19, 10**9)
        assert not is_out(early)
        assert is_out(later(early))


@pytest.mark.parametrize("place", ["a seat", "a seat of the next term", "a standby's place"])
def test_stake_that_elected_a_candidate_answers_until_that_term_is_over_whatever_the_periods_have_become(place):
    now = leaving(unbonding_seconds=0, super_nodes=3, standbys=1, stakes=RANKED)
    number = 2 if "next" in place else 1
    if "standby" in place:
        seats, standbys = now.term.standbys, now.term.seats
        for one in (1, 2):
            now.draft.put(replace(now.draft.need(Term, one), seats=seats, standbys=standbys))
    now.draft.put(replace(now.draft.need(Term, 3 - number), snapshot=10))
    now.draft.put(replace(now.term, ends=5_000))
    now = later(now, 3_440)
    assert not is_out(now)
    (entry,) = now.draft.all(Unbonding)
    assert entry.completes == 5_001
    now = elect_no_more(later(now, 5_001 - now.height))
    assert is_out(now)


RANKED = {"ada": 1_300, "bern": 1_200, "cork": 1_100, "delft": 1_000}


def test_stake_that_elected_a_candidate_answers_until_its_live_round_is_over():
    now = leaving(unbonding_seconds=0)
    elect_no_more(now)
    now.draft.put(replace(now.term, number=9, snapshot=4))
    now.draft.put(live_round(now, settled=0))
    now.change_chain(round=1)
    for _ in range(3):
        now = later(now, 3_440 if now.height == 10 else 1)
        assert not is_out(now)
        (entry,) = now.draft.all(Unbonding)
        assert entry.completes == now.height + 1
    now.draft.put(live_round(now, settled=now.height))
    assert is_out(later(now))


@pytest.mark.parametrize("spared", ["elected without it", "of others", "settled"])
def test_stake_does_not_wait_for_what_it_does_not_answer_for(spared):
    now = leaving(unbonding_seconds=0)
    elect_no_more(now)
    now.draft.put(replace(now.term, number=9, snapshot=10 if spared == "elected without it" else 4))
    live = live_round(now, settled=50 if spared == "settled" else 0)
    if spared == "of others":
        live = replace(live, seats=tuple(one for one in live.seats if one.candidate != "ada"))
    now.draft.put(live)
    now.change_chain(round=1)
    assert is_out(later(now, 3_440))


def live_round(now, settled):
    return Round(
        number=1,
        recipe=b"",
        model=b"",
        term=9,
        pool=0,
        cohort=(),
        seats=now.term.seats,
        windows=(),
        stretch=0,
        attempt=1,
        phase="compute",
        scheduled=1,
        opened=1,
        opened_time=0,
        committed=1,
        smallest=3,
        exposed=False,
        seen=False,
        members=(),
        result=b"",
        settled=settled,
    )


def test_a_vote_that_shortens_term_and_unbonding_lets_nothing_go_that_left_before_or_that_answers():
    slow = {"term_length": 1_000, "unbonding_blocks": 4_000, "standbys": 0}
    play = Play(**slow, delegations=(("hal", "ann", 1_000), ("joy", "dan", 700)), contributors=("ann", "bob", "hal"))
    play.must(("hal", tx.Undelegate("ann", 300)))
    before = play.state.need(Unbonding, "ann", "hal", play.height)
    play.by_hand(lambda now: now.draft.put(check_parameters({**PARAMETERS, "unbonding_blocks": OUT}, now.chain.supply)))
    # What left before keeps the period that it left under, and what leaves now answers for its term of 1,000 blocks.
    assert play.state.all(Unbonding) == [before]
    assert before.completes == before.created + 4_000
    play.must(("joy", tx.Undelegate("dan", 300)))
    assert play.state.need(Unbonding, "dan", "joy", play.height).completes == play.height + OUT


def test_moved_stake_that_is_then_taken_back_answers_as_long_as_what_moved_does():
    now = context(height=10, contributors=(), members=("gil",), unbonding_blocks=4_000, unbonding_seconds=0)
    candidates.register(now, "gil", tx.Register(0))
    stake.redelegate(now, "evora", tx.Redelegate("ada", "gil", 300))
    (moved,) = now.draft.all(Redelegation)
    now.draft.put(replace(now.parameters, term_length=40, unbonding_blocks=OUT))
    stake.undelegate(now, "evora", tx.Undelegate("gil", 300))
    for height in (10 + OUT, moved.completes - 1):
        now = later(now, height - now.height)
        assert not is_out(now)
    now = later(elect_no_more(now))
    assert now.height == moved.completes
    assert is_out(now)


def test_what_had_left_a_candidate_before_does_not_wait_for_what_moved_there_later():
    now = context(height=10, contributors=(), unbonding_blocks=3_440, unbonding_seconds=0, delegations=BOTH)
    stake.undelegate(now, "evora", tx.Undelegate("bern", 100))
    now = later(now)
    stake.redelegate(now, "evora", tx.Redelegate("ada", "bern", 300))
    now = elect_no_more(later(now, 3_439))
    stake.end_block(now)
    assert not now.draft.all(Unbonding)
    assert now.draft.all(Redelegation)


BOTH = (("evora", "ada", 500), ("evora", "bern", 500))


def test_who_is_worth_no_share_of_a_pool_is_not_let_in():
    play = Play()

    def few_shares(context):
        held = context.draft.need(Delegation, "eve", "eve")
        context.draft.put(replace(held, shares=10))
        context.draft.put(replace(context.candidate("eve"), shares=10))

    play.by_hand(few_shares)
    # A share is worth 200 units.
    assert play.refusal("hal", tx.Delegate("eve", 199)) == "bad-amount"
    play.must(("hal", tx.Delegate("eve", 200)))
    assert worth(play, "hal", "eve") == 200


def test_redelegations_of_one_block_are_one_entry():
    play = Play()
    play.must(("hal", tx.Redelegate("ann", "bob", 300)), ("hal", tx.Redelegate("ann", "bob", 200)))
    (moved,) = play.state.all(Redelegation)
    assert (moved.amount, moved.shares) == (500, 500 * MILLION)


def test_unbonding_can_be_cancelled_in_parts():
    play = Play()
    play.must(("hal", tx.Undelegate("ann", 400)))
    assert play.refusal("hal", tx.CancelUnbonding("ann", 1, 401)) == "insufficient-funds"
    assert play.refusal("hal", tx.CancelUnbonding("ann", 2, 1)) == "not-found"
    assert play.refusal("ivy", tx.CancelUnbonding("ann", 1, 1)) == "not-found"
    play.must(("hal", tx.CancelUnbonding("ann", 1, 150)))
    assert worth(play, "hal", "ann") == 750
    assert play.state.need(Unbonding, "ann", "hal", 1).amount == 250
    play.must(("hal", tx.CancelUnbonding("ann", 1, 250)))
    assert worth(play, "hal", "ann") == 1_000
    assert not play.state.all(Unbonding)


def test_nothing_is_cancelled_into_a_pool_that_takes_no_stake():
    play = Play()
    play.must(("hal", tx.Undelegate("ann", 400)), ("ann", tx.Retire()))
    assert play.refusal("hal", tx.CancelUnbonding("ann", 1, 400)) == "not-allowed"


def test_rewards_are_for_the_stake_that_is_there_when_they_are_given():
    play = Play(stakes={"ann": 3_000, "bob": 2_000}, delegations=(("hal", "ann", 1_000),))
    play.by_hand(give("ann", 401))
    play.must(("bob", tx.Delegate("ann", 4_000)))
    play.by_hand(give("ann", 801))
    play.must(("hal", tx.Undelegate("ann", 1_000)), ("bob", tx.Claim()), ("ann", tx.Claim()))
    # 401 on 3,000 + 1,000, then 801 on 3,000 + 1,000 + 4,000: 100.25 + 100.125, 400.5, and 300.75 + 300.375.
    assert play.state.need(Member, "hal").owed == 200
    assert {one.member: one.amount for one in play.events(RewardsClaimed)} == {"bob": 400, "ann": 601}
    play.by_hand(give("ann", 700))
    play.must(("hal", tx.Claim()))
    assert free(play, "hal") == 10_200


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=4),
    st.lists(st.one_of(st.integers(1, 10), st.integers(1, 100_000)), min_size=1, max_size=4),
    st.integers(0, 900),
)
@settings(max_examples=25, deadline=None)
def test_a_reward_is_divided_by_stake_rounded_down_once(stakes, rewards, slashed):
    names = ("hal", "ivy", "joy", "kim")
    parts = {"ann": 1_000} | dict(zip(names, stakes, strict=False))
    play = Play(
        stakes={"ann": 1_000}, delegations=tuple((name, "ann", n) for name, n in parts.items() if name != "ann")
    )
    whole = sum(parts.values())
    play.by_hand(shrink("ann", whole * slashed // 1_000))
    play.by_hand(*(give("ann", amount) for amount in rewards))
    play.block(*((name, tx.Claim()) for name in parts))
    for name, part in parts.items():
        exact = Fraction(part * sum(rewards), whole)
        assert exact - 1 < free(play, name) - 10_000 <= exact


def test_who_is_due_a_whole_number_of_units_has_it_at_once():
    # Of 3 and of 7 units, 2**128 leaves a remainder: an index rounded down would be short.
    play = Play(stakes={"ann": 1_000, "bob": 1_000}, delegations=(("hal", "ann", 2_000), ("ivy", "bob", 6_000)))
    play.must(("bob", tx.Undelegate("bob", 1_000)))
    for amount in (3, 6):
        play.by_hand(give("ann", amount), give("bob", 7))
        play.must(("ivy", tx.Claim()), ("hal", tx.Claim()), ("ann", tx.Claim()))
    assert free(play, "ivy") == 10_014
    assert free(play, "hal") == 10_006
    assert free(play, "ann") == 10_003


@pytest.mark.parametrize("second", range(2, 26, 2))
def test_rewards_before_one_came_leave_it_no_unit_short(second):
    play = Play(stakes={"ann": 1_000}, delegations=(), members=("hal",))
    play.by_hand(give("ann", 1))
    play.must(("hal", tx.Delegate("ann", 1_000)))
    play.by_hand(give("ann", second))
    play.must(("hal", tx.Claim()))
    assert free(play, "hal") == 10_000 - 1_000 + second // 2


def test_settling_after_every_round_costs_nothing():
    parts = {"hal": 1_000, "ivy": 999, "joy": 1_001}

    def after(settling):
        play = Play(stakes={"ann": 1_000}, delegations=tuple((name, "ann", n) for name, n in parts.items()))
        before = {name: free(play, name) for name in parts}
        for _ in range(4):
            play.by_hand(give("ann", 101))
            # A block of nothing, or one in which all rewards are counted.
            play.by_hand(*((lambda now, name=name: settle_all(now, name)) for name in parts if settling))
        play.must(*((name, tx.Claim()) for name in parts))
        assert len(play.events(RewardsSettled)) == 3 if not settling else 12
        return {name: free(play, name) - before[name] for name in parts}

    assert after(True) == after(False) == {"hal": 101, "ivy": 100, "joy": 101}


def test_a_bond_after_every_round_costs_nothing():
    # The bonds of one unit change the parts: nothing else may differ from the exact sum.
    exact = Fraction(0)
    play, idle = (Play(stakes={"ann": 1_000}, delegations=(("hal", "ann", 1_000),)) for _ in range(2))
    for at in range(4):
        play.by_hand(give("ann", 101))
        idle.by_hand(give("ann", 101))
        exact += Fraction(101 * (1_000 + at), 2_000 + at)
        play.must(("ann", tx.Bond(1)))
    play.must(("ann", tx.Claim()))
    idle.must(("ann", tx.Claim()))
    assert free(play, "ann") + 4 == free(idle, "ann") == 10_000 + int(exact) == 10_202
    first, *later = play.events(RewardsSettled)
    assert first.rest == 0
    assert all(one.rest for one in later)


def test_a_fraction_is_lost_only_with_the_last_share():
    play = Play(stakes={"ann": 1_000}, delegations=(("hal", "ann", 1_000),))
    play.by_hand(give("ann", 1))
    play.must(("hal", tx.Undelegate("ann", 999)), ("hal", tx.Delegate("ann", 999)))
    play.by_hand(give("ann", 1))
    play.must(("hal", tx.Undelegate("ann", 1_000)))
    assert play.state.need(Member, "hal").owed == 1
    play.must(("hal", tx.Delegate("ann", 1_000)))
    play.by_hand(give("ann", 1))
    play.must(("hal", tx.Undelegate("ann", 1_000)), ("hal", tx.Delegate("ann", 1_000)))
    play.by_hand(give("ann", 1))
    play.must(("hal", tx.Undelegate("ann", 1_000)))
    assert play.state.need(Member, "hal").owed == 1


shares = st.one_of(st.integers(1, 9), st.integers(1, 2**78), st.integers(1, 5_000).map(lambda units: units * MILLION))
steps = st.one_of(
    st.tuples(st.just("hold"), st.sampled_from(["bern", "cork", "delft"]), shares),
    st.tuples(st.just("settle"), st.sampled_from(["bern", "cork", "delft"]), st.none()),
    st.tuples(st.just("pay"), st.none(), st.one_of(st.integers(1, 9), st.integers(1, 10**12))),
    st.tuples(st.just("pay"), st.none(), st.one_of(st.integers(1, 9), st.integers(1, 10**12))),
)


@given(shares, st.lists(steps, min_size=5, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_pool_never_pays_more_than_came_in_and_a_voter_is_never_a_unit_short(first, course):
    now = context(contributors=())
    now.draft.delete(Delegation, "ada", "ada")
    now.draft.delete(Delegation, "evora", "ada")
    now.draft.put(replace(now.candidate("ada"), shares=0))
    came, exact = 0, Counter()
    for kind, name, amount in [("hold", "bern", first), *course]:
        pool = now.candidate("ada")
        if kind == "pay":
            came += amount
            stake.give_voters(now, "ada", amount)
            for one in voters_of_ada(now):
                exact[one.member] += Fraction(amount * one.shares, pool.shares)
        elif kind == "settle":
            settle_all(now, name)
        else:
            settle_all(now, name)
            one = now.draft.get(Delegation, name, "ada") or Delegation(name, "ada", 0, pool.reward_index)
            pool = now.candidate("ada")
            now.draft.put(replace(pool, shares=pool.shares - one.shares + amount))
            now.draft.put(replace(one, shares=amount))
        pool = now.candidate("ada")
        had = Counter({name: now.member(name).owed for name in HOSPITALS})
        assert sum(had.values()) + pool.outstanding == came
        for one in voters_of_ada(now):
            had[one.member] += stake.accrued(one, pool)
            # Each of the pays gives less than 2**-48 units more than it should.
            assert exact[one.member] - 1 < had[one.member] <= exact[one.member] + Fraction(40, 2**48)
        assert sum(had.values()) <= came


def voters_of_ada(now):
    return [one for name in HOSPITALS if (one := now.draft.get(Delegation, name, "ada"))]


def test_rewards_are_claimed_once():
    play = Play()
    play.by_hand(give("ann", 605))
    play.must(("hal", tx.Claim()))
    # A sixth of 605.
    assert free(play, "hal") == 10_100
    assert play.refusal("hal", tx.Claim()) == "insufficient-funds"
    assert play.refusal("joy", tx.Claim()) == "insufficient-funds"
    assert [one.amount for one in play.events(RewardsSettled)] == [100]


def test_a_claim_drops_what_slashes_have_left_worthless():
    play = Play(stakes={"ann": 1_000_000, "bob": 2_000}, delegations=(("hal", "ann", 1),), max_delegations=1)
    play.by_hand(shrink("ann", 10))
    assert worth(play, "hal", "ann") == 0
    assert play.refusal("hal", tx.Delegate("bob", 1)) == "limit-reached"
    play.must(("hal", tx.Claim()))
    assert play.state.get(Delegation, "hal", "ann") is None
    play.must(("hal", tx.Delegate("bob", 1)))


def test_rewards_and_stakes_at_the_largest_amounts_keep_to_the_unit():
    most = 10**15 - 2_000_000
    play = Play(stakes={"ann": 1_000}, delegations=(("hal", "ann", most - 10**12 - 1_000),), treasury=10**12, free=0)
    play.by_hand(give("ann", 10**12))
    play.must(("hal", tx.Claim()), ("ann", tx.Claim()))
    whole = most - 10**12
    assert free(play, "hal") in range((whole - 1_000) * 10**12 // whole - 1, (whole - 1_000) * 10**12 // whole + 1)
    assert free(play, "ann") == 1_000 * 10**12 // whole


def test_a_small_pool_cannot_be_made_to_swallow_the_next_ones_stake():
    play = Play(stakes={"ann": 1_000, "bob": 1_000}, delegations=(("hal", "ann", 1),))
    play.must(("ann", tx.Undelegate("ann", 1_000)))
    # One unit is all the pool now holds; what comes next must not be rounded away.
    for _ in range(5):
        play.must(("bob", tx.Delegate("ann", 2)), ("bob", tx.Undelegate("ann", 1)))
        play.must(("bob", tx.Undelegate("ann", 1)))
    play.must(("bob", tx.Delegate("ann", 100)))
    assert worth(play, "bob", "ann") in (99, 100)


@pytest.mark.parametrize("amount", [1, 999, 5_000])
def test_cancelling_is_no_cheaper_way_in_than_delegating(amount):
    play, other = Play(), Play()
    play.by_hand(shrink("ann", 321))
    other.by_hand(shrink("ann", 321))
    play.must(("ann", tx.Undelegate("ann", min(amount, worth(play, "ann", "ann")))))
    other.must(("ann", tx.Undelegate("ann", min(amount, worth(other, "ann", "ann")))))
    taken = play.state.need(Unbonding, "ann", "ann", 2).amount
    play.must(("ann", tx.CancelUnbonding("ann", 2, taken)))
    other.must(("ann", tx.Bond(taken)))
    assert play.state.need(Delegation, "ann", "ann") == other.state.need(Delegation, "ann", "ann")
