"""Attacks by who orders the blocks: two histories of one ledger, or two ledgers of one name; and by a stolen key."""

from dataclasses import replace
from itertools import product

import pytest

from fedmeta.govern.client.light import LightClient, is_sealed
from fedmeta.govern.errors import ProofError
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.machine.header import Header, event_leaves, sign_header
from fedmeta.govern.machine.trust import SequencerTrust
from fedmeta.govern.state.records import Round, Update
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import DISTRIBUTIONS, LIE, TRUTH, codes, dishonest, powers_of, wealth
from tests.govern.playing import RECIPE, Play, federation, key

SEATS = {"mal": 3_000, "ann": 2_500, "bob": 2_500, "cat": 2_000}
SENDERS = ("hal", "ivy", "joy", "kim")


def history(*names):
    """Play the commitments of a round in one block, by these alone; return the play and the header of that block."""
    play = Play(stakes=SEATS, delegations=(), standbys=0, members=SENDERS, contributors=SENDERS)
    play.to_commit()
    events = play.must(*(play.update(name) for name in names))
    if play.latest.phase == "commit":
        play.wait_while("commit")
        events = play.log[-1]
    return play, header(play, events)


def header(play, events):
    block = play.blocks[-1]
    roots = merkle.root(block.transactions), merkle.root(event_leaves(events))
    return Header(play.genesis.digest, block.height, block.time, digest(b"before"), *roots, play.state.root)


def seal(play, name, head, number=1):
    return tx.sign(key(name), play.genesis.digest, name, 0, tx.Seal(number, head.hash))


def powers(play):
    return {key(one.candidate).public: one.power for one in play.latest.seats}


# Two histories


def test_a_contributor_is_shown_a_history_that_closed_early_and_does_not_let_its_update_go():
    play, true = history(*SENDERS)
    other, early = history("hal", "ivy", "joy")
    assert play.genesis.digest == other.genesis.digest
    assert true.hash != early.hash
    # The sequencer has mal sign both; the honest signed the one that they saw.
    on_true = [seal(play, name, true) for name in ("mal", "ann", "bob", "cat")]
    on_early = [seal(play, "mal", early)]
    ask = play.genesis.digest, 1
    assert is_sealed(*ask, true.hash, powers(play), on_true)
    assert not is_sealed(*ask, early.hash, powers(play), on_early)
    # Nor do the seals of one history serve another.
    assert not is_sealed(*ask, early.hash, powers(play), on_true)


def test_the_commitment_of_an_accomplice_on_another_history_has_seen_nothing():
    # Hal lets its bytes go once two thirds have signed the history without kim's commitment. On the other one kim's is
    # there, made of these bytes: but the honest seats that hold anything there, and those that signed the first, would
    # have to be more than there are.
    play, true = history("hal", "ivy", "joy")
    other, late = history(*SENDERS)
    assert play.state.get(Update, 1, "kim") is None
    assert other.state.get(Update, 1, "kim") is not None
    signed_true = {"mal", "ann", "bob"}
    assert is_sealed(play.genesis.digest, 1, true.hash, powers(play), [seal(play, one, true) for one in signed_true])
    # Cat alone has not signed the first, and mal signs anything.
    left = {"mal", "cat"}
    assert not is_sealed(play.genesis.digest, 1, late.hash, powers(play), [seal(play, one, late) for one in left])
    other.must(*(other.hold(name) for name in sorted(left)))
    other.wait_while("deliver", attempt=1)
    assert other.latest.members == ()
    # What honest seats say on the first history can be repeated on the other: it does not name kim.
    repeated = [tx.sign(key(name), play.genesis.digest, name, 0, play.hold(name)[1]) for name in ("ann", "bob")]
    other, _ = history(*SENDERS)
    assert not codes(other.run(*repeated, *(other.sign(*other.hold(name)) for name in sorted(left))))
    other.wait_while("deliver", attempt=1)
    assert other.latest.members == ("hal", "ivy", "joy")


@pytest.mark.parametrize("name", [name for name, weights in DISTRIBUTIONS.items() if len(weights) <= 7])
def test_with_less_than_a_third_dishonest_no_two_headers_are_both_sealed_nor_one_sealed_and_another_s_update_in(name):
    held = powers_of(name)
    bad, total = dishonest(held), sum(held)
    honest = [at for at in range(len(held)) if at not in bad]
    both = 0
    for sides in product((0, 1), repeat=len(honest)):
        # Each honest seat is on one side and signs one header; dishonest ones sign and hold on both.
        on = [sum(held[at] for at in bad) for _ in (0, 1)]
        for at, side in zip(honest, sides, strict=True):
            on[side] += held[at]
        both += all(power * 3 > total * 2 for power in on)
    assert both == 0


def test_of_honest_signatures_none_can_be_made_into_one_of_another_header_round_ledger_or_kind():
    play, true = history(*SENDERS)
    names = ("ann", "bob", "cat")
    ask = play.genesis.digest, 1, true.hash, powers(play)
    good = [seal(play, name, true) for name in names]
    assert is_sealed(*ask, good)
    wrong = {
        "of another round": [seal(play, name, true, 2) for name in names],
        "of another header": [seal(play, name, replace(true, app_hash=LIE)) for name in names],
        "of another ledger": [tx.sign(key(name), LIE, name, 0, tx.Seal(1, true.hash)) for name in names],
        "of another kind": [
            tx.sign(key(name), play.genesis.digest, name, 0, tx.Attest(1, 1, true.hash)) for name in names
        ],
        "by others": [tx.sign(key("mal"), play.genesis.digest, name, 0, tx.Seal(1, true.hash)) for name in names],
        "one of them again and again": [good[0]] * 9,
        "damaged": [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in good],
        "none": [],
        "no transactions": [b"", b"\xff", codec.encode([1])],
    }
    for why, raws in wrong.items():
        assert not is_sealed(*ask, raws), why
        # What is wrong does not spoil what is right.
        assert is_sealed(*ask, [*raws, *good]), why


@pytest.mark.parametrize("count", [2, 3])
def test_two_thirds_of_the_power_are_not_enough_to_seal(count):
    play, true = history(*SENDERS)
    even = {key(name).public: 100 for name in ("ann", "bob", "cat")}
    raws = [seal(play, name, true) for name in ("ann", "bob", "cat")[:count]]
    assert is_sealed(play.genesis.digest, 1, true.hash, even, raws) == (count == 3)


def test_a_sequencer_that_signs_two_headers_of_a_height_is_found_out_by_who_sees_both():
    play, true = history(*SENDERS)
    _, other = history("hal", "ivy", "joy")
    sequencer = key("sequencer")
    client = LightClient.of(play.genesis)
    client.jump(sign_header(sequencer, true))
    with pytest.raises(ProofError):
        client.jump(sign_header(sequencer, replace(other, height=true.height)))


# Another ledger of the same name


def twin(**changes):
    """A ledger of the same name, members, keys and stakes, that differs in one unit, or in the time of its start."""
    plain = federation(stakes=SEATS, delegations=(), standbys=0, members=SENDERS, contributors=SENDERS)
    return plain, replace(plain, **(changes or {"treasury": plain.treasury + 1}))


@pytest.mark.parametrize(
    "change", [{"treasury": 1_000_001}, {"time": 1_700_000_000_001}, {"sequencer": key("x").public}]
)
def test_whatever_is_signed_for_one_ledger_is_worth_nothing_on_another_of_the_same_chain_id(change):
    first, second = twin(**change)
    assert first.chain_id == second.chain_id
    one, other = Play(first), Play(second)
    one.to_commit()
    other.to_commit()
    new = key("new")
    proof = new.sign(tx.possession(one.genesis.digest, "hal", new.public))
    bodies = [
        ("hal", tx.Claim()),
        ("ann", tx.Undelegate("ann", 2_500)),
        ("hal", tx.RotateKey(new.public, proof)),
        ("hal", tx.SetMachineKey(new.public, proof)),
        ("hal", tx.Propose("Spend", {"kind": "spend", "member": "mal", "amount": 1})),
        one.update("hal"),
        ("ann", tx.Seal(1, LIE)),
        ("ann", tx.Hold(1, 1, ("hal",))),
        ("ann", tx.Attest(1, 1, LIE)),
        ("ann", tx.Reveal(1, 1, LIE, (), TRUTH)),
    ]
    for name, body in bodies:
        assert other.refusal_of(one.sign(name, body)) == "wrong-chain"
    # A proof of possession, an update and a commitment are each bound to the ledger themselves.
    assert other.refusal("hal", tx.RotateKey(new.public, proof)) == "bad-signature"
    assert other.refusal("hal", tx.SetMachineKey(new.public, proof)) == "bad-signature"
    assert one.update("hal")[1].digest != other.update("hal")[1].digest
    foreign = one.to_reveal()["ann"]
    parts = 1, 1, "ann", foreign.result, foreign.scores, foreign.salt
    other.to_compute()
    other.must(("ann", tx.Attest(1, 1, tx.commitment(one.genesis.digest, *parts))))
    other.must(*(other.attestation(name, other.opening(name)) for name in ("mal", "bob", "cat")))
    assert other.refusal("ann", foreign) == "bad-reveal"


def test_the_genesis_that_a_signature_names_is_signed():
    first, second = twin()
    one, other = Play(first), Play(second)
    content = codec.decode(one.sign("hal", tx.LeaveRecipe(RECIPE)))
    assert other.refusal_of(codec.encode([second.digest, *content[1:]])) == "bad-signature"


def test_a_header_of_one_ledger_is_none_of_another():
    first, second = twin()
    play = Play(first)
    play.wait()
    signed = sign_header(key("sequencer"), header(play, play.log[-1]))
    with pytest.raises(ProofError, match="genesis"):
        LightClient(SequencerTrust(second.digest, first.sequencer)).jump(signed)


# A machine's key


def with_machine(name="ann"):
    play = Play()
    machine = key(f"machine of {name}")
    play.must(
        (name, tx.SetMachineKey(machine.public, machine.sign(tx.possession(play.genesis.digest, name, machine.public))))
    )
    return play, machine


def test_whoever_steals_a_machine_s_key_does_a_seat_s_part_in_rounds_and_cannot_touch_its_units():
    play, machine = with_machine()
    play.to_commit()
    before = wealth(play, "ann")
    free = play.member("ann").free
    theft = [
        tx.Undelegate("ann", 5_000),
        tx.Redelegate("ann", "bob", 5_000),
        tx.Delegate("bob", free),
        tx.Claim(),
        tx.SetCommission(0),
        tx.Retire(),
        tx.Leave(),
        tx.Unjail(),
        tx.Propose("Spend", {"kind": "spend", "member": "bob", "amount": 1}),
        tx.CastVote(1, "yes"),
        tx.LeaveRecipe(RECIPE),
        tx.SetProfile("", "", b""),
        tx.RotateKey(
            key("thief").public, key("thief").sign(tx.possession(play.genesis.digest, "ann", key("thief").public))
        ),
        tx.SetMachineKey(b"", b""),
    ]
    assert {tx.kind_of(body) for body in theft}.isdisjoint(tx.OF_ROUNDS)
    for body in theft:
        raw = tx.sign(machine, play.genesis.digest, "ann", play.member("ann").sequence, body)
        assert play.refusal_of(raw) == "bad-signature", body
    assert wealth(play, "ann") == before
    name, body = play.update("ann")
    assert not codes(play.run(tx.sign(machine, play.genesis.digest, name, 0, body)))


def test_the_account_s_key_takes_a_stolen_machine_s_out_of_use_from_the_next_height_on():
    play, machine = with_machine()
    play.to_deliver(idle=["ann"])
    play.must(("ann", tx.SetMachineKey(b"", b"")))
    hold = tx.Hold(1, 1, ("bob",))
    assert play.refusal_of(tx.sign(machine, play.genesis.digest, "ann", 0, hold)) == "bad-signature"
    play.must(("ann", hold))


def test_the_account_s_key_does_no_machine_s_part_so_that_it_need_not_be_there():
    play, machine = with_machine("bob")
    play.to_commit()
    name, body = play.update("bob")
    assert play.refusal_of(tx.sign(key("bob"), play.genesis.digest, name, 0, body)) == "bad-signature"
    assert not codes(play.run(tx.sign(machine, play.genesis.digest, name, 0, body)))


def test_parts_of_a_round_cannot_be_repeated_although_they_carry_no_sequence_number():
    play = Play()
    raws = []
    number = 1
    play.to_commit()
    steps = {
        "commit": lambda: [play.update(one.member) for one in play.latest.cohort],
        "deliver": lambda: [play.hold(name) for name in play.super_nodes()],
        "compute": lambda: [play.attestation(name, play.opening(name)) for name in play.super_nodes()],
        "reveal": lambda: [(name, play.opening(name)) for name in play.super_nodes()],
    }
    for made in steps.values():
        signed = [play.sign(name, body) for name, body in made()]
        assert {tx.decode(raw).sequence for raw in signed} == {0}
        for raw in signed:
            # In its block, and right after it.
            done = codes(execute(play.state, Block(play.height + 1, play.state.time, (raw, raw))).events)
            assert done in (["already-done"], ["wrong-phase"])
        assert not codes(play.run(*signed))
        raws += signed
    assert play.state.need(Round, number).phase == "final"
    for _ in range(2):
        assert {play.refusal_of(raw) for raw in raws} == {"wrong-phase"}
        play.round()


def test_a_genesis_starts_the_same_ledger_everywhere_and_another_starts_another():
    first, second = twin()
    assert start(first).app_hash == start(first).app_hash != start(second).app_hash
