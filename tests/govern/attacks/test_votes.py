"""Attacks by votes: on the time that stake answers, on voting itself, on the treasury, and by rounds for pay."""

from dataclasses import replace

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.proposals import Tally, verdict
from fedmeta.govern.state.parameters import MILLION, TABLE, Parameters, check_parameters, round_blocks
from fedmeta.govern.state.records import Proposal, Round, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import TreasurySpent, UnbondingCompleted
from fedmeta.govern.wire.round_events import RoundScheduled
from tests.examples import cells
from tests.govern.attacks.means import LIE, prove, wealth
from tests.govern.playing import SHORT, Play

VOTERS = ("ann", "bob", "cat", "dan")


def carried(play, *actions):
    """Propose, pass and carry out actions; return how each ended."""
    first = play.chain.proposals + 1
    numbers = range(first, first + len(actions))
    play.must(*(("hal", tx.Propose("Do it", action)) for action in actions))
    play.must(*((name, tx.CastVote(number, "yes")) for number in numbers for name in VOTERS))
    while any(play.state.need(Proposal, number).status in ("voting", "passed") for number in numbers):
        play.wait()
    return [play.state.need(Proposal, number).status for number in numbers]


def change(**values):
    return {"kind": "set-parameters", "values": values}


# Periods


def test_a_vote_that_shortens_term_and_unbonding_lets_no_stake_go_that_left_before():
    play = Play(unbonding_blocks=4_000, contributors=())
    assert carried(play, change(term_length=1_000)) == ["executed"]
    play.must(("dan", tx.Undelegate("dan", 2_500)))
    left = play.height
    entry = play.state.need(Unbonding, "dan", "dan", left)
    assert carried(play, change(term_length=40, unbonding_blocks=1_520)) == ["executed"]
    play.wait_until(left + 1_530)
    assert play.state.all(Unbonding) == [entry]
    assert not play.events(UnbondingCompleted)


WAYS = ["undelegate", "redelegate", "redelegate and undelegate"]


@pytest.mark.parametrize("way", cells(WAYS[2:], WAYS))
def test_stake_that_leaves_after_such_a_vote_still_pays_for_the_term_and_the_round_that_it_elected(way):
    # The present term has 2,000 blocks, and unbonding takes 1,450 after the second vote.
    play = Play(**SHORT, contributors=("ann", "bob", "hal"), interval=1_600)
    assert carried(play, change(term_length=2_000, unbonding_blocks=5_440)) == ["executed"]
    play.wait(4)
    present = play.state.need(Term, play.chain.term)
    assert present.ends - present.start == 2_000 - 1
    assert carried(play, change(**SHORT)) == ["executed"]
    assert play.parameters.term_length == 4
    left = play.height + 1
    if way == "undelegate":
        play.must(("joy", tx.Undelegate("dan", 700)))
    else:
        play.must(("joy", tx.Redelegate("dan", "gil", 700)))
    if way == "redelegate and undelegate":
        play.must(("joy", tx.Undelegate("gil", 700)))
    before = wealth(play, "joy")
    play.wait_until(left + 1_450 + 10)
    assert play.chain.term == present.number
    prove(play, "dan", infraction=play.height, term=present.number)
    assert before - wealth(play, "joy") == 70


def test_stake_answers_for_two_terms_and_the_longest_round_by_the_periods_of_any_vote():
    for values in ({"term_length": 2}, {"term_length": 1_000}, {"compute_blocks": 500}, {"reveal_blocks": 10**4}):
        p = Parameters(**values)
        least = 2 * p.term_length + round_blocks(p)
        # One commitment, and three attempts of all their windows, each doubled three times.
        windows = [p.commit_blocks, *3 * [p.deliver_blocks, p.compute_blocks, p.reveal_blocks]]
        assert round_blocks(p) == sum(8 * one for one in windows)
        check_parameters({**values, "unbonding_blocks": least}, 10**9)
        with pytest.raises(Refused, match="unbonding_blocks"):
            check_parameters({**values, "unbonding_blocks": least - 1}, 10**9)


def test_no_course_of_a_round_is_longer_than_is_said_while_blocks_are_not_faster_than_its_windows():
    play = Play(term_length=2_000, unbonding_blocks=5_440)
    play.by_hand(lambda now: now.change_chain(stretch=3))
    play.to_commit()
    begun = play.height
    while not play.state.need(Round, 1).settled:
        live = play.latest
        play.wait((18 << live.stretch) - 1)
        if live.phase == "commit":
            play.must(*(play.update(name) for name in ("ann", "bob", "hal")))
        elif live.phase == "deliver":
            play.must(*(play.hold(name) for name in VOTERS[:3]))
        elif live.phase == "compute":
            play.must(
                *(play.attestation(name, play.opening(name, LIE if name == "cat" else None)) for name in VOTERS[:3])
            )
        else:
            play.wait()
    assert play.state.need(Round, 1).phase == "void"
    assert play.height - begun == round_blocks(play.parameters)


# Voting itself


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proposal_deposit", 10**12),
        ("proposal_deposit", 1_122),
        ("quorum", MILLION),
        ("quorum", 600_001),
        ("threshold", MILLION),
        ("veto", 0),
        ("min_self_stake", 10**15),
        ("voting_seconds", 0),
        ("delay_seconds", 0),
        ("term_length", 39),
        ("max_own_proposals", 51),
        ("max_proposals", 9),
        ("unbonding_seconds", 89),
        ("unbonding_blocks", 1_519),
    ],
)
def test_no_vote_ends_voting_for_good(name, value):
    play = Play(voting_seconds=60, delay_seconds=30, unbonding_seconds=90)
    assert play.refusal("hal", tx.Propose("The last one", change(**{name: value}))) == "bad-value"
    assert play.refusal("hal", tx.Propose("It", {"kind": "set-parameter", "name": name, "value": value})) == "bad-value"


def test_at_the_highest_bounds_half_of_a_half_and_more_still_decide():
    most = {name: TABLE[name].high for name in ("quorum", "threshold")} | {"veto": TABLE["veto"].low}
    p = replace(Parameters(), **most)
    # Three fifths take part, two thirds of them and a vote are for it.
    assert verdict(Tally(400_001, 199_999, 0, 0, MILLION), p)[0] == "passed"
    assert verdict(Tally(450_000, 0, 0, 150_000, MILLION), p)[0] == "passed"


def test_a_member_with_a_thousandth_of_the_supply_can_always_propose():
    play = Play()
    most = play.chain.supply * 1_000 // MILLION
    assert carried(play, change(proposal_deposit=most)) == ["executed"]
    assert play.parameters.proposal_deposit == most < 10_000
    assert carried(play, change(proposal_deposit=0)) == ["executed"]


# The treasury


def test_the_treasury_is_not_emptied_before_the_others_have_had_days_to_object():
    defaults = {
        name: TABLE[name].default for name in ("voting_blocks", "voting_seconds", "delay_blocks", "delay_seconds")
    }
    play = Play(
        stakes={"ann": 41_000, "bob": 20_000, "cat": 20_000, "dan": 19_000},
        delegations=(),
        unbonding_seconds=345_600,
        **defaults,
    )
    began = play.state.time
    spend = {"kind": "spend", "member": "ann", "amount": play.chain.supply // 100}
    play.must(("ann", tx.Propose("Mine", spend)), ("ann", tx.Propose("Mine too", spend)))
    play.must(("ann", tx.CastVote(1, "yes")), ("ann", tx.CastVote(2, "yes")))
    # 41 % of the stake is a quorum, and nobody else looks. Blocks of ten minutes, so that 600 of them take days.
    while not play.events(TreasurySpent):
        play.wait(time=600_000)
    assert play.state.time - began >= (3 + 1) * 24 * 3_600_000
    assert [one.amount for one in play.events(TreasurySpent)] == [play.chain.supply // 100]
    assert [play.state.need(Proposal, number).status for number in (1, 2)] == ["executed", "failed"]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_however_many_proposals_pass_a_term_spends_no_more_than_its_limit(count):
    play = Play()
    limit = play.chain.supply * play.parameters.spending // MILLION
    before = play.chain.treasury
    carried(play, *[{"kind": "spend", "member": "hal", "amount": limit // 2}] * count)
    spent = sum(one.amount for one in play.events(TreasurySpent))
    assert spent == min(count, 2) * (limit // 2) <= limit
    assert before - play.chain.treasury >= spent
    assert (
        play.refusal("hal", tx.Propose("More", {"kind": "spend", "member": "hal", "amount": limit + 1}))
        == "limit-reached"
    )


def test_no_vote_makes_terms_shorter_so_that_twenty_spends_in_a_row_take_one_term_s_limit_at_most():
    play = Play(max_own_proposals=50, contributors=())
    limit = play.chain.supply * play.parameters.spending // MILLION
    spend = {"kind": "spend", "member": "hal", "amount": limit}
    # Terms of two blocks would let each of them have a limit of its own.
    for length in (2, 39):
        for body in (change(term_length=length), {"kind": "set-parameter", "name": "term_length", "value": length}):
            assert play.refusal("hal", tx.Propose("Short terms", body)) == "bad-value"
    before = play.chain.treasury
    for number in range(1, 21):
        voting = [(name, tx.CastVote(number, "yes")) for name in VOTERS]
        play.must(("hal", tx.Propose("Mine", spend)), *voting)
    while play.state.where(Proposal, "status", "voting") or play.state.where(Proposal, "status", "passed"):
        play.wait()
    assert [one.status for one in play.state.all(Proposal)] == ["executed", *["failed"] * 19]
    assert play.chain.term == 1
    assert before - play.chain.treasury == limit


@pytest.mark.parametrize("length", [40, 60])
def test_a_vote_may_take_back_what_one_had_made_longer_and_no_more(length):
    play = Play(contributors=())
    assert carried(play, change(term_length=length + 1)) == ["executed"]
    assert play.refusal("hal", tx.Propose("Shorter", change(term_length=39))) == "bad-value"
    assert carried(play, change(term_length=length)) == ["executed"]
    assert play.parameters.term_length == length


def test_no_limit_is_higher_than_a_tenth_of_the_supply():
    assert TABLE["spending"].high == MILLION // 10


# Rounds for pay


def test_rounds_are_not_had_faster_than_the_interval_however_quickly_all_do_their_part():
    play = Play(interval=12)
    for _ in range(4):
        play.round()
    begun = [play.state.need(Round, number).scheduled for number in (1, 2, 3, 4)]
    assert [one - begun[0] for one in begun] == [0, 12, 24, 36]


def test_a_term_pays_its_budget_at_most_however_many_rounds_there_are():
    play = Play(term_budget=3_000)
    treasury = play.chain.treasury
    while play.chain.term == 1:
        play.round()
        play.to_commit()
    assert treasury - play.chain.treasury <= 3_000
    assert [one.term for one in play.events(RoundScheduled)].count(1) == 3


def test_a_round_that_comes_to_nothing_pays_nobody_so_that_there_is_nothing_in_having_many():
    play = Play()
    treasury = play.chain.treasury
    play.to_deliver()
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert play.chain.treasury == treasury
    assert all(wealth(play, name) >= 10_000 for name in ("hal", "ivy", "joy"))


def test_a_vote_that_raises_the_pool_changes_no_round_that_has_begun():
    play = Play(voting_blocks=1, delay_blocks=1, interval=30)
    play.to_commit()
    carried(play, change(round_pool=2_000))
    assert play.parameters.round_pool == 2_000
    assert play.latest.pool == 1_000
    play.to_deliver()
    play.round()
    assert sum(one.amount for one in play.log[-1] if one.kind == "super-node-paid") == 400
