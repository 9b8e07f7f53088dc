from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.rules import rewards, rounds, stake
from fedmeta.govern.state.records import Attestation, Round, Update
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play
from tests.govern.small import HOSPITALS, context

RESULT, OTHER = digest(b"result"), digest(b"other")
MILLION = 1_000_000
CONTRIBUTORS = ("ada", "evora", "fulda")


def settled(revealed, powers=(), members=CONTRIBUTORS, rates=(), unpaid=(), organisations=None, **options):
    """Return a context with round 1 ready to be paid: name -> (result, scores), and the powers of the seats."""
    organisations = organisations or {}
    now = context(members=("fulda",), contributors=members, organisations=organisations, **options)
    rounds.end_block(now)
    powers = dict(powers) or dict.fromkeys(HOSPITALS, 1)
    of = {name: now.member(name).organisation for name in (*HOSPITALS, *members)}
    seats = tuple(Seat(name, of[name], 1, power) for name, power in powers.items())
    for name, rate in {**dict.fromkeys(HOSPITALS, 50_000), **dict(rates)}.items():
        now.draft.put(replace(now.candidate(name), commission=rate))
    for name in members:
        now.draft.put(Update(1, name, of[name], digest(name.encode()), 1, 1, name in unpaid))
    for name, (result, scores) in revealed.items():
        now.draft.put(Attestation(1, name, 1, b"", 1 if result else 0, result, tuple(scores), b""))
    round = replace(now.draft.need(Round, 1), phase="reveal", seats=seats, members=tuple(members), result=RESULT)
    now.draft.put(round)
    now.events.clear()
    return now, round


def pay(*args, **options):
    now, round = settled(*args, **options)
    before = accounts(now)
    paid = rewards.pay(now, round)
    after = accounts(now)
    assert before["treasury"] - after["treasury"] == paid
    return now, {name: after[name] - before[name] for name in after}


def accounts(now):
    """What is owed to members, what lies with the delegators of candidates, and the treasury."""
    found = {"treasury": now.chain.treasury}
    for name in (*HOSPITALS, "evora", "fulda"):
        found[name] = now.member(name).owed
    for name in HOSPITALS:
        found[f"behind {name}"] = now.candidate(name).outstanding
    return found


def said(now, kind):
    return [event for event in now.events if event.kind == kind]


def everyone(*scores):
    return dict.fromkeys(HOSPITALS, (RESULT, scores))


FAIR = (200_000, 300_000, 500_000)
"""Scores that use all of the budget."""


# The parts


def test_a_pool_is_shared_by_score_and_among_all_seats_and_the_rest_stays():
    # 1,000: 500 by scores, 400 in four parts, 100 stay. The commission is 5 of a hundred.
    now, changed = pay(everyone(*FAIR))
    assert changed == {
        "treasury": -(100 + 150 + 250 + 4 * 100),
        "ada": 100 + 5,
        "bern": 5,
        "cork": 5,
        "delft": 5,
        "evora": 150,
        "fulda": 250,
        "behind ada": 95,
        "behind bern": 95,
        "behind cork": 95,
        "behind delft": 95,
    }
    (shared,) = said(now, "pool-shared")
    assert (shared.pool, shared.contributors, shared.super_nodes) == (1_000, 500, 400)
    assert (shared.total_score, shared.seats) == (MILLION, 4)
    assert [one.amount for one in said(now, "pool-returned")] == [100]


def test_scores_are_never_made_larger_so_that_what_is_not_earned_stays_in_the_treasury():
    _, changed = pay(everyone(100_000, 20_000, 0))
    assert (changed["ada"], changed["evora"], changed["fulda"]) == (50 + 5, 10, 0)
    assert changed["treasury"] == -(50 + 10 + 400)


def test_scores_that_add_up_to_more_than_all_are_made_smaller():
    now, changed = pay(everyone(400_000, 800_000, 800_000))
    assert said(now, "pool-shared")[0].total_score == 2_000_000
    assert (changed["evora"], changed["fulda"]) == (200, 200)


def test_rounding_is_down_and_the_rest_stays_in_the_treasury():
    now, changed = pay(everyone(333_333, 333_333, 333_333), round_pool=101)
    # 50 and 40 of 101; 50 * 0.333333 is 16.7; 40 in four parts; 101 - 48 - 40.
    assert changed["evora"] == 16
    assert changed["treasury"] == -(3 * 16 + 40)
    assert [one.amount for one in said(now, "pool-returned")] == [13]


def test_the_round_s_own_pool_is_paid_whatever_a_vote_has_made_of_it_since():
    now, round = settled(everyone(*FAIR))
    now.draft.put(replace(now.parameters, round_pool=10))
    assert rewards.pay(now, round) == 900


def test_the_treasury_pays_what_it_has_and_no_more():
    now, round = settled(everyone(*FAIR))
    now.treasury(-now.chain.treasury + 10)
    assert rewards.pay(now, round) == 1 + 1 + 2 + 4
    assert said(now, "pool-shared")[0].pool == 10
    assert now.chain.treasury == 2
    now, round = settled(everyone(*FAIR))
    now.treasury(-now.chain.treasury)
    assert rewards.pay(now, round) == now.chain.treasury == 0


def test_without_any_score_the_contributors_part_stays_in_the_treasury():
    now, changed = pay(everyone(0, 0, 0))
    assert changed["evora"] == 0
    assert changed["treasury"] == -400
    assert [one.amount for one in said(now, "contributor-paid")] == [0, 0, 0]


def test_seats_are_paid_equally_whatever_their_power():
    now, _ = pay(everyone(*FAIR), powers={"ada": 1, "bern": 900, "cork": 50, "delft": 7})
    assert {one.candidate: one.amount for one in said(now, "super-node-paid")} == dict.fromkeys(HOSPITALS, 100)


def test_a_seat_that_is_not_paid_leaves_its_part_to_the_treasury_and_not_to_the_others():
    revealed = {"ada": (RESULT, FAIR), "bern": (RESULT, FAIR), "cork": (OTHER, (9, 0, 0)), "delft": (b"", ())}
    now, changed = pay(revealed)
    assert {one.candidate: one.amount for one in said(now, "super-node-paid")} == {"ada": 100, "bern": 100}
    assert changed["cork"] == changed["behind cork"] == changed["delft"] == 0
    assert changed["treasury"] == -(500 + 200)


@pytest.mark.parametrize("absent", [False, True])
def test_who_is_in_jail_is_not_paid_for_its_seat_but_scores(absent):
    now, round = settled(everyone(*FAIR), powers={"ada": 1, "bern": 1, "cork": 1, "delft": 9})
    now.draft.put(replace(now.candidate("delft"), jailed=True, absent=absent))
    for name in ("ada", "bern", "cork"):
        now.draft.put(replace(now.draft.need(Attestation, 1, name), scores=(0, 0, 0)))
    rewards.pay(now, round)
    assert [one.candidate for one in said(now, "super-node-paid")] == ["ada", "bern", "cork"]
    assert [one.score for one in said(now, "contributor-paid")] == list(FAIR)


def test_who_may_have_seen_others_updates_is_not_paid_and_its_part_is_nobody_s():
    now, changed = pay(everyone(*FAIR), unpaid=["fulda"])
    assert [one.score for one in said(now, "contributor-paid")] == [200_000, 300_000, 0]
    assert said(now, "pool-shared")[0].total_score == MILLION
    assert (changed["ada"], changed["evora"], changed["fulda"]) == (100 + 5, 150, 0)


def test_a_commission_above_a_lowered_cap_is_applied_at_the_cap():
    now, round = settled(everyone(*FAIR), rates={"ada": 100_000, "bern": 10_000})
    now.draft.put(replace(now.parameters, commission_cap=50_000))
    rewards.pay(now, round)
    assert now.candidate("ada").commission == 100_000
    rates = {one.candidate: (one.commission_rate, one.commission) for one in said(now, "super-node-paid")}
    assert rates == {"ada": (50_000, 5), "bern": (10_000, 1), "cork": (50_000, 5), "delft": (50_000, 5)}


def test_voters_share_what_the_commission_leaves_by_their_stake():
    # ada's pool: 1,000 of her own and 500 of evora's; 90 of 100 are theirs.
    now, _ = pay(everyone(0, 0, 0), rates={"ada": 100_000})
    assert now.member("ada").owed == 10
    before = {name: now.member(name).free + now.member(name).owed for name in ("ada", "evora")}
    for name in ("ada", "evora"):
        stake.claim(now, name, tx.Claim())
    assert {name: now.member(name).free - before[name] for name in before} == {"ada": 60, "evora": 30}
    assert now.candidate("ada").outstanding == 0


def test_a_super_node_without_any_stake_left_keeps_all():
    now, round = settled(everyone(*FAIR))
    now.draft.put(replace(now.candidate("delft"), tokens=0, shares=0))
    rewards.pay(now, round)
    assert now.member("delft").owed == 100
    assert now.candidate("delft").outstanding == 0
    event = next(one for one in said(now, "super-node-paid") if one.candidate == "delft")
    assert (event.commission, event.voters, event.shares, event.index_from) == (5, 95, 0, event.index_to)


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
    revealed = {
        "ada": (RESULT, (0, 90_000, 0)),
        "bern": (RESULT, (0, 20_000, 0)),
        "cork": (RESULT, (0, 30_000, 0)),
    }
    for powers, score in (((5, 2, 2), 90_000), ((4, 2, 2), 30_000), ((3, 2, 2), 30_000), ((2, 5, 2), 20_000)):
        now, _ = pay(revealed, powers=zip(("ada", "bern", "cork"), powers, strict=True))
        assert said(now, "contributor-paid")[1].score == score


def test_an_update_is_scored_by_the_seats_of_other_organisations_alone():
    # fulda belongs to cork's organisation; ada scores her own with nothing, which does not count.
    revealed = {
        "ada": (RESULT, (0, 10, 10)),
        "bern": (RESULT, (30, 20, 20)),
        "cork": (RESULT, (40, 30, 0)),
        "delft": (RESULT, (50, 40, 40)),
    }
    now, _ = pay(revealed, organisations={"fulda": "org-cork"})
    # Lower medians of 30, 40, 50; of 10, 20, 30, 40; of 10, 20, 40.
    assert [one.score for one in said(now, "contributor-paid")] == [40, 20, 20]


def test_an_update_that_no_seat_of_another_organisation_has_scored_is_worth_nothing():
    now, _ = pay({"ada": (RESULT, (0, 1, 1))}, powers={"ada": 1})
    assert [one.score for one in said(now, "contributor-paid")] == [0, 1, 1]


# Everything together, against exact fractions


plays = st.fixed_dictionaries(
    {
        "powers": st.tuples(*[st.integers(1, 50)] * 4),
        "results": st.tuples(*[st.sampled_from([RESULT, RESULT, RESULT, OTHER, b""])] * 4),
        "scores": st.lists(st.tuples(*[st.integers(0, MILLION)] * 3), min_size=4, max_size=4),
        "rates": st.tuples(*[st.integers(0, 200_000)] * 4),
        "jailed": st.sets(st.sampled_from(HOSPITALS), max_size=2),
        "unpaid": st.sets(st.sampled_from(CONTRIBUTORS), max_size=2),
        "round_pool": st.integers(0, 5_000),
        "treasury": st.integers(0, 6_000),
        "shares": st.tuples(st.integers(0, MILLION), st.integers(0, MILLION)).filter(lambda one: sum(one) <= MILLION),
    }
)


@settings(max_examples=60, deadline=None)
@given(plays)
def test_every_payment_is_the_exact_one_rounded_down_and_no_unit_is_made_or_lost(play):
    contributors, super_nodes = play["shares"]
    revealed = {
        name: (result, scores) for name, result, scores in zip(HOSPITALS, play["results"], play["scores"], strict=True)
    }
    now, round = settled(
        revealed,
        powers=zip(HOSPITALS, play["powers"], strict=True),
        rates=zip(HOSPITALS, play["rates"], strict=True),
        unpaid=play["unpaid"],
        round_pool=play["round_pool"],
        contributor_share=contributors,
        super_node_share=super_nodes,
        treasury_share=MILLION - contributors - super_nodes,
    )
    for name in play["jailed"]:
        now.draft.put(replace(now.candidate(name), jailed=True))
    now.free("evora", now.chain.treasury - play["treasury"])
    now.treasury(play["treasury"] - now.chain.treasury)
    before = accounts(now)
    paid = rewards.pay(now, round)
    after = accounts(now)
    due = exact(play)
    for name, amount in due.items():
        assert after[name] - before[name] == amount
    assert sum(after.values()) == sum(before.values())
    assert before["treasury"] - after["treasury"] == paid == sum(due.values())
    assert paid <= min(play["round_pool"], play["treasury"])
    parts = supply_parts(now.draft.finish())
    assert sum(parts.values()) == now.chain.supply
    recompute_from_events(now, paid)


def exact(play):
    """Pay eagerly: what each account gains, each amount rounded down once where the rules round."""
    pool = min(play["round_pool"], play["treasury"])
    contributors, super_nodes = (int(Fraction(pool * share, MILLION)) for share in play["shares"])
    seats = dict(zip(HOSPITALS, zip(play["powers"], play["results"], play["scores"], strict=True), strict=True))
    gains = Counter()
    medians = {}
    for at, member in enumerate(CONTRIBUTORS):
        others = [one for name, one in seats.items() if name != member and one[1] == RESULT]
        spread = sorted(scores[at] for power, _, scores in others for _ in range(power))
        medians[member] = spread[(len(spread) - 1) // 2] if spread else 0
    for name, score in medians.items():
        share = Fraction(score, max(MILLION, sum(medians.values())))
        gains[name] += int(contributors * share) if name not in play["unpaid"] else 0
    for (name, one), rate in zip(seats.items(), play["rates"], strict=True):
        amount = int(Fraction(super_nodes, 4)) if one[1] == RESULT and name not in play["jailed"] else 0
        commission = int(Fraction(amount * rate, MILLION))
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
        assert (one.pool, one.seats) == (shared.super_nodes, shared.seats)
        assert one.amount == one.pool // one.seats == one.commission + one.voters
        assert one.commission == one.amount * one.commission_rate // MILLION
        assert one.index_to - one.index_from == ceil(
            Fraction(one.voters * stake.INDEX_SCALE, one.shares) if one.shares else 0
        )
        total += one.amount
    assert returned.amount == shared.pool - total
    assert spent == total


def test_a_round_with_nothing_to_share_is_final_all_the_same():
    for options in ({"round_pool": 0}, {"treasury": 0, "term_budget": 1_000}):
        play = Play(**options)
        assert play.round().phase == "final"
        assert {one.amount for one in play.log[-1] if one.kind == "super-node-paid"} == {0}
