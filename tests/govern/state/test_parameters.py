"""Parameters: every set that is accepted can be played by."""

from dataclasses import asdict, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import round_phases
from fedmeta.govern.state import parameters
from fedmeta.govern.state.parameters import (
    ATTEMPTS,
    MILLION,
    OF_SUPPLY,
    PHASES,
    TABLE,
    Parameters,
    check_parameters,
    round_blocks,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play, key

NAMES = tuple(f"a-name-of-just-thirty-two-b-{at:04}" for at in range(TABLE["cohort_size"].high))
"""The longest names."""
SUPPLY = 10**9


def sizes():
    """Return the size of every transaction that grows with a parameter, at its largest."""
    count, last = TABLE["cohort_size"].high, 2**53 - 1
    signing = key("ann")

    def size(body):
        return len(tx.sign(signing, digest(b"genesis"), NAMES[0], last, body))

    return {
        "hold": size(tx.Hold(last, ATTEMPTS, NAMES[:count])),
        "reveal": size(tx.Reveal(last, ATTEMPTS, digest(b"r"), (1_000_000,) * count, digest(b"s"))),
    }


def test_whatever_the_cohort_and_the_seats_everything_that_a_round_needs_fits_into_a_transaction():
    assert {len(name) for name in NAMES} == {32}
    for what, size in sizes().items():
        assert size <= TABLE["max_transaction_bytes"].low, what


def test_every_transaction_fits_into_a_block():
    assert TABLE["max_transaction_bytes"].high <= TABLE["max_block_bytes"].low


def test_a_change_of_the_sizes_in_the_middle_of_a_round_makes_nobody_fail():
    extra = tuple(f"extra-member-{at:03}" for at in range(40))
    play = Play(members=extra, contributors=extra, cohort_size=40, max_transaction_bytes=65_536)
    play.to_deliver()
    small = {"cohort_size": 3, "super_nodes": 3, "max_transaction_bytes": TABLE["max_transaction_bytes"].low}
    changed = check_parameters({**asdict(play.parameters), **small}, play.chain.supply)
    play.by_hand(lambda now: now.draft.put(changed))
    assert play.parameters.cohort_size == 3
    assert len(play.latest.cohort) == len(play.committed()) == 40
    assert len(play.round().members) == 40


def test_a_round_that_goes_as_slowly_as_it_can_takes_as_many_blocks_as_is_said(monkeypatch):
    for module in (parameters, round_phases):
        monkeypatch.setattr(module, "LONGEST_STRETCH", 1)
    play = Play(interval=10**6)
    # Rounds have failed before, so that the windows are as long as they get: doubled once here, three times else.
    draft = play.state.draft()
    draft.put(replace(play.chain, stretch=1))
    play.state = draft.finish()
    play.to_commit()
    scheduled = play.height
    play.must(*(play.update(one.member) for one in play.latest.cohort[:3]))
    play.wait_while("commit")
    for attempt in range(1, ATTEMPTS + 1):
        assert (play.latest.attempt, play.latest.phase) == (attempt, "deliver")
        play.must(*(play.hold(name) for name in play.super_nodes()[:3]))
        play.wait_while("deliver")
        openings = {name: play.opening(name, digest(name.encode())) for name in play.super_nodes()[:3]}
        play.must(*(play.attestation(name, one) for name, one in openings.items()))
        play.wait_while("compute")
        play.must(*list(openings.items())[:2])
        play.wait_while("reveal")
    assert play.latest.phase == "void"
    assert play.latest.settled - scheduled == round_blocks(play.parameters)


windows = st.integers(12, 40)
numbers = st.fixed_dictionaries(
    {
        "term_length": st.integers(2, 20),
        "super_nodes": st.integers(1, 9),
        "unbonding_blocks": st.integers(900, 6_000),
        "commit_blocks": windows,
        "deliver_blocks": windows,
        "compute_blocks": windows,
        "reveal_blocks": windows,
    }
)


@given(numbers)
def test_stake_answers_until_the_last_round_that_it_elected_is_over_and_no_window_can_be_filled(values):
    p = Parameters(**values)
    longest = 8 * (p.commit_blocks + 3 * (p.deliver_blocks + p.compute_blocks + p.reveal_blocks))
    shortest = min(p.commit_blocks, p.deliver_blocks, p.compute_blocks, p.reveal_blocks)
    if p.unbonding_blocks >= 2 * p.term_length + longest and shortest >= 2 * p.super_nodes + 10:
        assert check_parameters(values, SUPPLY) == p
    else:
        with pytest.raises(Refused):
            check_parameters(values, SUPPLY)


@given(
    st.sampled_from([("blocks", 1_450, 2_000), ("seconds", 0, 2_000)]),
    st.integers(1, 1_500),
    st.integers(1, 1_500),
    st.integers(0, 3_000),
)
def test_unbonding_is_no_shorter_than_voting_and_its_delay_neither_in_blocks_nor_in_time(unit, voting, delay, more):
    name, low, high = unit
    unbonding = min(low + more, high + 1_000)
    values = {"term_length": 2, **{f"{one}_blocks": 12 for one in PHASES}, "super_nodes": 1}
    values |= {"unbonding_blocks": 5_000, "unbonding_seconds": 5_000, "voting_seconds": 0, "delay_seconds": 0}
    values |= {f"unbonding_{name}": unbonding, f"voting_{name}": voting, f"delay_{name}": delay}
    if unbonding >= voting + delay:
        assert check_parameters(values, SUPPLY) == Parameters(**values)
    else:
        with pytest.raises(Refused, match=f"unbonding_{name} is {unbonding}: it must be at least {voting + delay}"):
            check_parameters(values, SUPPLY)


@given(st.integers(8, 40), st.integers(1, 25))
def test_an_organisation_may_have_half_of_all_open_proposals_at_most_and_there_are_ten_or_more(most, own):
    values = {"max_proposals": most, "max_own_proposals": own}
    if most >= 10 and own <= Fraction(most, 2):
        assert check_parameters(values, SUPPLY) == Parameters(**values)
    else:
        with pytest.raises(Refused, match="max_proposals"):
            check_parameters(values, SUPPLY)


def test_no_term_is_longer_than_a_million_blocks():
    values = {"unbonding_blocks": 10**9}
    assert check_parameters({**values, "term_length": 10**6}, SUPPLY).term_length == 10**6
    with pytest.raises(Refused, match="term_length"):
        check_parameters({**values, "term_length": 10**6 + 1}, SUPPLY)


def test_the_defaults_are_a_set_that_is_accepted_and_a_slash_is_remembered_for_days_more_than_a_vote_takes():
    p = check_parameters({}, SUPPLY)
    assert p.unbonding_seconds >= 2 * (p.voting_seconds + p.delay_seconds)
    assert p.unbonding_blocks >= 2 * (p.voting_blocks + p.delay_blocks)


@pytest.mark.parametrize(("name", "share"), OF_SUPPLY.items())
def test_what_one_must_have_or_is_paid_is_a_small_part_of_the_supply(name, share):
    for supply in (1_000_000, 123_456_789):
        most = supply * share // MILLION
        values = {"round_pool": 0, "min_self_stake": 1, "proposal_deposit": 0, "term_budget": 10**15}
        assert getattr(check_parameters({**values, name: most}, supply), name) == most
        with pytest.raises(Refused, match=f"{name} is {most + 1}: it must be at most {most}"):
            check_parameters({**values, name: most + 1}, supply)
