"""Who decides blocks by which key, and what it costs a super node not to sign them."""

from dataclasses import replace

import pytest

from fedmeta.govern.errors import InvalidBlock
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules import candidates
from fedmeta.govern.state.records import Candidate, ConsensusKey, Term
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play, consensus_key, federation, first_consensus_key, key
from tests.govern.small import context, refuses

EVERY = 10
"""Blocks of which one is looked at, the fewest that there can be."""


def play(**options):
    return Play(federation(validators=True, signing_blocks=EVERY, **options))


def copy(state):
    return Application(State.load(state.dump(), state.height, state.time))


def of(made):
    return copy(made.state)


def seats(made):
    return made.state.need(Term, made.chain.term).seats


def powers(state):
    return {one.public: (one.candidate, one.power) for one in copy(state).seats}


def test_the_validators_are_the_seats_by_their_consensus_keys():
    made = play()
    assert powers(made.state) == {
        first_consensus_key(seat.candidate).public: (seat.candidate, seat.power) for seat in seats(made)
    }


def test_a_sequencer_s_ledger_goes_by_machine_keys_whatever_consensus_keys_there_are():
    made = Play()
    before = powers(made.state)
    made.must(("ann", consensus_key("ann", made.genesis)))
    assert powers(made.state) == before


def test_nobody_is_elected_without_a_consensus_key_where_super_nodes_decide_blocks():
    made = play()
    richest = max(made.state.all(Candidate), key=lambda one: one.tokens).member
    genesis = federation(validators=True)
    without = tuple(replace(one, consensus=b"") if one.member == richest else one for one in genesis.candidates)
    poorer = Play(replace(genesis, candidates=without))
    assert richest in {one.candidate for one in seats(made)}
    assert richest not in {one.candidate for one in seats(poorer)}
    poorer.must((richest, consensus_key(richest, poorer.genesis)))
    while richest not in {one.candidate for one in seats(poorer)}:
        assert poorer.height < 3 * poorer.chain.term_length
        poorer.wait()


def test_a_new_key_takes_the_old_one_s_place_with_its_power_and_the_old_one_keeps_its_address():
    made = play()
    old, new = first_consensus_key("ann").public, consensus_key("ann", made.genesis)
    app = of(made)
    updates = app.finalize(Block(1, made.state.time, (made.sign("ann", new),))).seat_updates
    power = next(one.power for one in seats(made) if one.candidate == "ann")
    assert {(one.public, one.power) for one in updates} == {(old, 0), (new.public, power)}
    made.must(("ann", new))
    for public in (old, new.public):
        assert made.state.need(ConsensusKey, digest(public)[:20]).public == public


@pytest.mark.parametrize("number", [0, 1])
def test_a_consensus_key_is_used_once_for_ever_and_for_nothing_else(number):
    made = play()
    made.must(("ann", consensus_key("ann", made.genesis, 1)), ("ann", consensus_key("ann", made.genesis, 2)))
    again = consensus_key("ann", made.genesis, number)
    assert made.refusal("ann", again) == "already-done"
    taken = key(f"ann's consensus {number}")
    for name in ("ann", "hal"):
        proof = taken.sign(tx.possession(made.genesis.digest, name, taken.public))
        assert made.refusal(name, tx.RotateKey(taken.public, proof)) == "already-done"
        assert made.refusal(name, tx.SetMachineKey(taken.public, proof)) == "already-done"


def test_a_key_that_signs_for_a_member_is_no_consensus_key():
    made = play()
    own = key("ann")
    proof = own.sign(tx.possession(made.genesis.digest, "ann", own.public))
    assert made.refusal("ann", tx.SetConsensusKey(own.public, proof)) == "already-done"


def test_a_consensus_key_is_shown_to_be_held_and_is_a_candidate_s_that_is_not_barred():
    made = play()
    stranger = consensus_key("bob", made.genesis)
    assert made.refusal("ann", stranger) == "bad-signature"
    assert made.refusal("hal", consensus_key("hal", made.genesis)) == "not-found"
    now = context()
    candidates.tombstone(now, "ada")
    with refuses("tombstoned"):
        candidates.set_consensus_key(now, "ada", tx.SetConsensusKey(key("x").public, bytes(64)))


def absent(made, *names):
    """Play up to a height that is looked at, of which these have not signed the block before."""
    made.wait_until(made.height // EVERY * EVERY + EVERY - 1)
    keys = tuple(made.state.need(Candidate, name).consensus for name in names)
    return made.take(replace(made.next_block(), absent=keys))


def windows(made):
    return {one.candidate: made.state.need(Candidate, one.candidate).window for one in seats(made)}


def test_blocks_that_were_not_signed_are_duties_missed_and_cost_the_seat_and_no_stake():
    made = play(duty_window=4, duty_misses=2, members=("lou",), contributors=())
    stake = made.state.need(Candidate, "bob").tokens
    events = absent(made, "bob")
    assert [(one.candidate, one.round, one.misses) for one in events if one.kind == "duty-missed"] == [("bob", 0, 1)]
    assert windows(made) == {one.candidate: int(one.candidate == "bob") for one in seats(made)}
    absent(made)
    assert windows(made)["bob"] == 0b10
    events = absent(made, "bob")
    found = made.state.need(Candidate, "bob")
    assert (found.jailed, found.absent, found.tokens) == (True, True, stake)
    assert [one.candidate for one in events if one.kind == "candidate-jailed"] == ["bob"]


def test_only_seats_have_the_duty_and_only_every_so_many_blocks():
    made = play(contributors=())
    outside = next(one.member for one in made.state.all(Candidate) if one.member not in windows(made))
    assert not [one for one in absent(made, outside) if one.kind == "duty-missed"]
    public = made.state.need(Candidate, "bob").consensus
    root = made.state.root
    made.take(replace(made.next_block(), absent=(public,)))
    assert made.state.root == root


def test_where_a_sequencer_orders_blocks_nobody_is_absent():
    made = Play(federation(signing_blocks=EVERY, contributors=()))
    made.wait_until(EVERY - 1)
    events = made.take(replace(made.next_block(), absent=(key("bob").public,)))
    assert not [one for one in events if one.kind == "duty-missed"]


def test_a_double_signature_by_a_key_that_was_given_up_bars_its_owner():
    made = play()
    old = first_consensus_key("cat").public
    made.must(("cat", consensus_key("cat", made.genesis)))
    made.wait()
    made.take(replace(made.next_block(), double_signatures=(DoubleSignature(old, 1),)))
    assert made.state.need(Candidate, "cat").tombstoned


def test_where_nothing_happens_the_root_stands_still_and_the_block_can_be_left_out():
    made = play(contributors=())
    app = of(made)
    root = app.app_hash
    quiet = [Block(height, made.state.time + 1_000 * height) for height in range(1, EVERY + 3)]
    for block in quiet:
        done = app.finalize(block)
        app.commit()
        assert (done.app_hash, done.eventful) == (root, False)
    last = Block(EVERY + 3, quiet[-1].time, (made.sign("hal", tx.Delegate("ann", 1)),))
    found = app.finalize(last)
    assert found.eventful
    left_out = execute(start(made.genesis).state, last)
    assert (left_out.app_hash, left_out.events) == (found.app_hash, found.events)


def test_a_sequencer_leaves_no_block_out():
    made = Play()
    with pytest.raises(InvalidBlock, match="height is 3: it must be 1"):
        execute(made.state, Block(3, made.state.time))
