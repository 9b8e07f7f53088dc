from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.rules import rewards, stake
from fedmeta.govern.state.records import Attestation, Manifest, Round
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.signatures import digest
from tests.govern.game import Game
from tests.govern.small import HOSPITALS, context

RESULT, OTHER = digest(b"result"), digest(b"other")


def settled(revealed, powers=(), members=("ada", "evora"), leader="ada", rates=(), **options):
    """Return a context with round 1 ready to be paid: name -> (result, scores), and the powers of the seats."""
    now = context(**options)
    powers = dict(powers) or dict.fromkeys(HOSPITALS, 1)
    seats = tuple(Seat(name, f"org-{name}", 1, power, 0) for name, power in powers.items())
    now.draft.put(replace(now.term, seats=seats))
    for name, rate in {**dict.fromkeys(HOSPITALS, 50_000), **dict(rates)}.items():
        now.draft.put(replace(now.candidate(name), commission=rate))
    now.draft.put(Manifest(1, leader, 0, 1, tuple(members), b"", b""))
    for name, (result, scores) in revealed.items():
        now.draft.put(Attestation(1, name, 1, b"", 1 if result else 0, result, tuple(scores), b""))
    round = replace(now.draft.need(Round, 1), phase="reveal", opened=1, result=RESULT)
    now.draft.put(round)
    return now, round


def pay(*args, **options):
    now, round = settled(*args, **options)
    before = accounts(now)
    rewards.pay(now, round)
    after = accounts(now)
    return now, {name: after[name] - before[name] for name in after}


def accounts(now):
    """What is owed to members, what lies with the delegators of candidates, and the treasury."""
    found = {"treasury": now.chain.treasury}
    for name in (*HOSPITALS, "evora"):
        found[name] = now.member(name).owed
    for name in HOSPITALS:
        found[f"behind {name}"] = now.candidate(name).outstanding
    return found


def said(now, kind):
    return [event for event in now.events if event.kind == kind]


def everyone(scores):
    return dict.fromkeys(HOSPITALS, (RESULT, scores))


# The parts


def test_a_commission_above_a_lowered_cap_is_applied_at_the_cap():
    now, round = settled(everyone((1, 1)), rates={"ada": 100_000, "bern": 10_000})
    now.draft.put(replace(now.parameters, commission_cap=50_000))
    rewards.pay(now, round)
    assert now.candidate("ada").commission == 100_000
    rates = {one.candidate: (one.commission_rate, one.commission) for one in said(now, "super-node-paid")}
    assert rates == {"ada": (50_000, 8), "bern": (10_000, 0), "cork": (50_000, 4), "delft": (50_000, 4)}


def test_a_pool_is_shared_by_score_and_by_duty_and_the_rest_stays():
    # 1,000: 500 by scores 3 and 1; 400 by 2, 1, 1, 1 points; 100 stay. The commission is 5 of a hundred.
    now, changed = pay(everyone((300_000, 100_000)))
    assert changed == {
        "treasury": -(375 + 125 + 160 + 80 + 80 + 80),
        "ada": 375 + 8,
        "bern": 4,
        "cork": 4,
        "delft": 4,
        "evora": 125,
        "behind ada": 152,
        "behind bern": 76,
        "behind cork": 76,
        "behind delft": 76,
    }
    assert [(one.pool, one.contributors, one.super_nodes) for one in said(now, "pool-shared")] == [(1_000, 500, 400)]
    assert [(one.amount, one.dust) for one in said(now, "pool-returned")] == [(100, 0)]


def test_rounding_is_down_and_the_dust_stays_in_the_treasury():
    now, changed = pay(everyone((1, 1)), round_pool=101)
    # 50 and 40 of 101; 25 each; 40 * 2 // 5 and 40 // 5 without a rest; 101 * 0.1 is 10 and 1 is dust.
    assert changed["evora"] == 25
    assert changed["treasury"] == -(25 + 25 + 16 + 8 + 8 + 8)
    assert [(one.amount, one.dust) for one in said(now, "pool-returned")] == [(11, 1)]


def test_the_treasury_pays_what_it_has_and_no_more():
    now, changed = pay(everyone((1, 1)), treasury=10)
    assert said(now, "pool-shared")[0].pool == 10
    assert changed["evora"] == 2
    assert now.chain.treasury == 10 - 2 - 2 - 1
    empty, _ = pay(everyone((1, 1)), treasury=0)
    assert empty.chain.treasury == 0


def test_without_any_score_the_contributors_part_stays_in_the_treasury():
    now, changed = pay(everyone((0, 0)))
    assert changed["evora"] == 0
    assert changed["treasury"] == -400
    assert said(now, "contributor-paid") == []


def test_equal_duty_is_paid_equally_whatever_the_stake():
    powers = {"ada": 1, "bern": 900, "cork": 50, "delft": 7}
    now, _ = pay(everyone((1, 1)), powers=powers, leader="cork")
    paid = {one.candidate: (one.points, one.amount) for one in said(now, "super-node-paid")}
    assert paid == {"ada": (1, 80), "bern": (1, 80), "cork": (2, 160), "delft": (1, 80)}


def test_only_who_revealed_the_final_result_is_paid_for_it():
    revealed = {"ada": (RESULT, (1, 1)), "bern": (RESULT, (1, 1)), "cork": (OTHER, (9, 0)), "delft": (b"", ())}
    now, changed = pay(revealed, leader="bern")
    assert {one.candidate: one.points for one in said(now, "super-node-paid")} == {"ada": 1, "bern": 2}
    assert changed["cork"] == changed["behind cork"] == changed["delft"] == 0
    assert changed["evora"] == 250


def test_a_leader_without_a_seat_is_not_paid():
    powers = dict.fromkeys(("ada", "bern", "cork"), 1)
    now, changed = pay(everyone((1, 1)), powers=powers, leader="delft")
    assert changed["delft"] == changed["behind delft"] == 0
    assert said(now, "pool-shared")[0].total_points == 3


def test_a_leader_is_paid_for_leading_even_if_it_revealed_nothing():
    revealed = dict.fromkeys(("bern", "cork", "delft"), (RESULT, (1, 1)))
    now, _ = pay(revealed, leader="ada", leader_points=3)
    points = {one.candidate: one.points for one in said(now, "super-node-paid")}
    assert points == {"ada": 3, "bern": 1, "cork": 1, "delft": 1}


def test_voters_share_what_the_commission_leaves_by_their_stake():
    # ada's pool: 1,000 of her own and 500 of evora's.
    now, _ = pay(everyone((0, 0)), rates={"ada": 100_000})
    assert now.member("ada").owed == 16
    before = {name: now.member(name).free + now.member(name).owed for name in ("ada", "evora")}
    for name in ("ada", "evora"):
        stake.claim(now, name, tx.Claim())
    gained = {name: now.member(name).free - before[name] for name in before}
    # Never above 96 and 48, and at most a unit below: what a share earns is rounded down, and what a claim pays.
    assert all(due - 1 <= gained[name] <= due for name, due in {"ada": 96, "evora": 48}.items())
    assert now.candidate("ada").outstanding == 144 - sum(gained.values())


def test_a_super_node_without_any_stake_left_keeps_all():
    now, round = settled(everyone((1, 1)))
    now.draft.put(replace(now.candidate("delft"), tokens=0, shares=0))
    rewards.pay(now, round)
    assert now.member("delft").owed == 80
    assert now.candidate("delft").outstanding == 0
    event = next(one for one in said(now, "super-node-paid") if one.candidate == "delft")
    assert (event.commission, event.voters, event.shares, event.index_from) == (4, 76, 0, event.index_to)


# The median


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_median_is_the_middle_of_the_scores_each_repeated_by_its_weight(pairs):
    spread = sorted(value for value, weight in pairs for _ in range(weight))
    assert rewards.lower_median(pairs) == spread[(len(spread) - 1) // 2]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), max_size=8),
)
def test_less_than_half_the_power_cannot_move_a_score_beyond_what_the_others_say(honest, liars):
    if sum(weight for _, weight in liars) < sum(weight for _, weight in honest):
        said_ = [value for value, _ in honest]
        assert min(said_) <= rewards.lower_median([*honest, *liars]) <= max(said_)


def test_scores_are_weighted_by_power():
    revealed = {"ada": (RESULT, (10, 90)), "bern": (RESULT, (20, 10)), "cork": (RESULT, (30, 10))}
    now, _ = pay(revealed, powers={"ada": 5, "bern": 2, "cork": 2})
    assert [one.score for one in said(now, "contributor-paid")] == [10, 90]
    now, _ = pay(revealed, powers={"ada": 4, "bern": 2, "cork": 2})
    assert [one.score for one in said(now, "contributor-paid")] == [10, 10]
    now, _ = pay(revealed, powers={"ada": 3, "bern": 2, "cork": 2})
    assert [one.score for one in said(now, "contributor-paid")] == [20, 10]


# Everything together, against exact fractions


plays = st.fixed_dictionaries(
    {
        "powers": st.tuples(*[st.integers(1, 50)] * 4),
        "results": st.tuples(*[st.sampled_from([RESULT, RESULT, RESULT, OTHER, b""])] * 4),
        "scores": st.lists(st.tuples(*[st.integers(0, 1_000_000)] * 3), min_size=4, max_size=4),
        "rates": st.tuples(*[st.integers(0, 200_000)] * 4),
        "leader": st.sampled_from(HOSPITALS),
        "leader_points": st.integers(0, 5),
        "round_pool": st.integers(0, 5_000),
        "treasury": st.integers(0, 6_000),
        "shares": st.tuples(st.integers(0, 1_000_000), st.integers(0, 1_000_000)).filter(lambda one: sum(one) <= 10**6),
    }
)


@settings(max_examples=60, deadline=None)
@given(plays)
def test_every_payment_is_the_exact_one_rounded_down_and_no_unit_is_made_or_lost(play):
    contributors, super_nodes = play["shares"]
    members = ("bern", "delft", "evora")
    revealed = {
        name: (result, scores) for name, result, scores in zip(HOSPITALS, play["results"], play["scores"], strict=True)
    }
    now, round = settled(
        revealed,
        powers=zip(HOSPITALS, play["powers"], strict=True),
        members=members,
        leader=play["leader"],
        rates=zip(HOSPITALS, play["rates"], strict=True),
        treasury=play["treasury"],
        round_pool=play["round_pool"],
        leader_points=play["leader_points"],
        contributor_share=contributors,
        super_node_share=super_nodes,
        treasury_share=1_000_000 - contributors - super_nodes,
    )
    before = accounts(now)
    rewards.pay(now, round)
    after = accounts(now)
    due = exact(play, members)
    for name, amount in due.items():
        assert after[name] - before[name] == amount
    assert sum(after.values()) == sum(before.values())
    assert after["treasury"] >= before["treasury"] - min(play["round_pool"], before["treasury"])
    parts = supply_parts(now.draft.finish())
    assert sum(parts.values()) == now.chain.supply
    recompute_from_events(now, before["treasury"] - after["treasury"])


def exact(play, members):
    """Pay eagerly: what each account gains, each amount rounded down once where the rules round."""
    pool = min(play["round_pool"], play["treasury"])
    contributors, super_nodes = (int(Fraction(pool * share, 10**6)) for share in play["shares"])
    seats = dict(zip(HOSPITALS, zip(play["powers"], play["results"], play["scores"], strict=True), strict=True))
    gains = Counter()
    medians = []
    for at, _ in enumerate(members):
        spread = sorted(s[at] for power, result, s in seats.values() if result == RESULT for _ in range(power))
        medians.append(spread[(len(spread) - 1) // 2] if spread else 0)
    for name, score in zip(members, medians, strict=True):
        gains[name] += int(Fraction(contributors * score, sum(medians))) if sum(medians) else 0
    points = {
        name: (one[1] == RESULT) + play["leader_points"] * (name == play["leader"]) for name, one in seats.items()
    }
    for (name, done), rate in zip(points.items(), play["rates"], strict=True):
        amount = int(Fraction(super_nodes * done, sum(points.values()))) if done else 0
        commission = int(Fraction(amount * rate, 10**6))
        gains[name] += commission
        gains[f"behind {name}"] += amount - commission
    return gains


def recompute_from_events(now, spent):
    """Follow what the events say, as an auditor does."""
    shared, returned = said(now, "pool-shared")[0], said(now, "pool-returned")[0]
    total = 0
    for one in said(now, "contributor-paid"):
        assert (one.pool, one.total_score) == (shared.contributors, shared.total_score)
        assert one.amount == one.pool * one.score // one.total_score
        total += one.amount
    for one in said(now, "super-node-paid"):
        assert (one.pool, one.total_points) == (shared.super_nodes, shared.total_points)
        assert one.amount == one.pool * one.points // one.total_points == one.commission + one.voters
        assert one.commission == one.amount * one.commission_rate // 1_000_000
        assert one.index_to - one.index_from == ceil(
            Fraction(one.voters * stake.INDEX_SCALE, one.shares) if one.shares else 0
        )
        total += one.amount
    assert returned.amount == shared.pool - total
    assert returned.dust == returned.amount - shared.pool * now.parameters.treasury_share // 1_000_000
    assert spent == total


@pytest.mark.parametrize("options", [{"round_pool": 0}, {"treasury": 0}])
def test_a_round_with_nothing_to_share_is_final_all_the_same(options):
    game = Game(**options)
    game.finish()
    assert game.now.draft.need(Round, 1).phase == "final"
    assert {one.amount for one in game.said("super-node-paid")} == {0}
