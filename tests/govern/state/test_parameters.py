"""Parameters: every set that is accepted can be played by."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.state.parameters import TABLE, Parameters, check_parameters, round_blocks
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import SHORT, Play, key

NAMES = tuple(f"a-name-of-just-thirty-two-b-{at:04}" for at in range(TABLE["cohort_size"].high))
CHAIN = "c" * 32
"""The longest names."""


def sizes():
    """Return the size of every transaction that grows with a parameter, at its largest."""
    count, seats = TABLE["cohort_size"].high, TABLE["super_nodes"].high
    sequence, round = 2**53 - 1, 2**53 - 1
    signing = key("ann")

    def size(body):
        return len(tx.sign(signing, CHAIN, NAMES[0], sequence, body))

    manifest = tx.PostManifest(round, seats - 1, NAMES[:count], digest(b"a"), digest(b"m"))
    raw = tx.sign(signing, CHAIN, NAMES[0], sequence, manifest)
    return {
        "update": size(
            tx.CommitUpdate(round, digest(b"u"), 2**53 - 1, tuple((name, bytes(64)) for name in NAMES[:seats]))
        ),
        "manifest": len(raw),
        "reveal": size(tx.Reveal(round, digest(b"r"), (1_000_000,) * count, digest(b"s"))),
        "report": size(tx.ReportManifests(raw, raw)),
    }


def test_whatever_the_cohort_and_the_seats_everything_that_a_round_needs_fits_into_a_transaction():
    assert {len(name) for name in NAMES} == {32}
    for what, size in sizes().items():
        assert size <= TABLE["max_transaction_bytes"].low, what


def test_every_transaction_fits_into_a_block():
    assert TABLE["max_transaction_bytes"].high <= TABLE["max_block_bytes"].low


def test_a_change_of_the_sizes_in_the_middle_of_a_round_makes_nobody_fail():
    extra = tuple(f"extra-member-{at:03}" for at in range(40))
    play = Play(members=extra, cohort_size=40, max_transaction_bytes=65_536)
    play.to_commit()
    small = {"cohort_size": 1, "max_transaction_bytes": TABLE["max_transaction_bytes"].low}
    play.by_hand(lambda now: now.draft.put(check_parameters({**asdict(play.parameters), **small})))
    assert play.parameters.cohort_size == 1
    assert len(play.latest.cohort) == 40
    scores = dict.fromkeys(play.super_nodes(), (1_000,) * 40)
    assert play.round(scores=scores).phase == "final"


def test_a_round_that_goes_as_slowly_as_it_can_takes_as_many_blocks_as_is_said():
    play = Play(**SHORT)
    play.open()
    opened, due = play.height, round_blocks(play.parameters)
    # Every leader but the last has its manifest struck in the last block of the reveals.
    while play.chain.round == 1:
        play.to_manifest()
        play.wait(play.parameters.manifest_blocks - 1)
        play.must(play.manifest(left_out=[play.latest.cohort[0]]))
        play.wait(play.parameters.commit_blocks - 1)
        openings = {name: play.opening(name, digest(name.encode())) for name in play.super_nodes()}
        play.must(*(play.attestation(name, one) for name, one in openings.items()))
        play.wait(play.parameters.reveal_blocks - 1)
        if play.chain.round == 1:
            play.block(("hal", tx.ReportLeftOut(1, play.latest.cohort[0])))
    assert play.height - opened <= due


numbers = st.fixed_dictionaries(
    {
        "term_length": st.integers(2, 20),
        "super_nodes": st.integers(1, 9),
        "evidence_age": st.integers(1, 300),
        "unbonding_period": st.integers(1, 900),
        "challenge_blocks": st.integers(1, 20),
        "update_blocks": st.integers(1, 20),
        "manifest_blocks": st.integers(1, 9),
        "commit_blocks": st.integers(1, 9),
        "reveal_blocks": st.integers(1, 9),
    }
)


@given(numbers)
def test_stake_answers_until_the_last_round_that_it_elected_can_no_longer_be_challenged(values):
    p = Parameters(**values)
    longest = p.update_blocks + p.super_nodes * (p.manifest_blocks + p.commit_blocks + p.reveal_blocks)
    last = 2 * p.term_length + longest + p.evidence_age + p.challenge_blocks
    if p.evidence_age >= longest and p.unbonding_period >= last:
        assert check_parameters(values) == p
    else:
        with pytest.raises(Refused):
            check_parameters(values)
