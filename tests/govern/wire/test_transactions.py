"""A transaction has one form, and what is signed or committed to counts in one place only: one ledger, one round."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.schema import MAX_COUNT
from fedmeta.govern.wire.signatures import digest, verify
from tests.govern.playing import key

GENESIS = digest(b"genesis")
HASH = digest(b"some bytes")
BODIES = (
    tx.RotateKey(key("new").public, bytes(64)),
    tx.SetMachineKey(key("new").public, bytes(64)),
    tx.SetMachineKey(b"", b""),
    tx.SetConsensusKey(key("new").public, bytes(64)),
    tx.SetProfile("Hal", "https://hal.example", b""),
    tx.Leave(),
    tx.Register(1),
    tx.SetCommission(2),
    tx.Retire(),
    tx.Unjail(),
    tx.Bond(3),
    tx.Delegate("ann", 4),
    tx.Redelegate("ann", "bob", 5),
    tx.Undelegate("ann", 6),
    tx.CancelUnbonding("ann", 7, 8),
    tx.Claim(),
    tx.JoinRecipe(HASH),
    tx.LeaveRecipe(HASH),
    tx.CommitUpdate(9, HASH),
    tx.Seal(9, HASH),
    tx.Hold(9, 1, ("ann", "bob")),
    tx.Attest(9, 2, HASH),
    tx.Reveal(9, 2, HASH, (1, 0, 3), HASH),
    tx.Propose("spend", {"kind": "spend", "member": "ann", "amount": 5}),
    tx.CastVote(10, "yes"),
)
PARTS = [one for one in BODIES if tx.kind_of(one) in tx.OF_ROUNDS]

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, MAX_COUNT)
names = st.text("abc-", min_size=1, max_size=6)
scores = st.lists(st.integers(0, 10**6), max_size=5).map(tuple)


def test_every_kind_is_here():
    assert {tx.kind_of(one) for one in BODIES} == set(tx.TRANSACTIONS)
    assert {"commit-update", "seal", "hold", "attest", "reveal"} == tx.OF_ROUNDS


@pytest.mark.parametrize("body", BODIES, ids=tx.kind_of)
def test_a_transaction_comes_back_as_it_was_signed(body):
    raw = tx.sign(key("hal"), GENESIS, "hal", 5, body)
    found = tx.decode(raw)
    due = 0 if tx.kind_of(body) in tx.OF_ROUNDS else 5
    assert (found.genesis, found.member, found.sequence, found.kind, found.body) == (
        GENESIS,
        "hal",
        due,
        tx.kind_of(body),
        body,
    )
    assert found.digest == digest(raw)
    assert verify(key("hal").public, found.message, found.signature)


@pytest.mark.parametrize("body", PARTS, ids=tx.kind_of)
@pytest.mark.parametrize("sequence", [1, 2**53 - 1])
def test_a_part_of_a_round_with_a_sequence_number_is_malformed(body, sequence):
    content = codec.decode(tx.sign(key("hal"), GENESIS, "hal", 7, body))
    assert content[2] == 0
    content[2] = sequence
    with pytest.raises(Refused, match=f"malformed: the sequence of a {tx.kind_of(body)} is {sequence}"):
        tx.decode(codec.encode(content))


@pytest.mark.parametrize("genesis", [b"", bytes(31), bytes(33), "play", 0, None])
def test_a_transaction_names_the_genesis_by_32_bytes(genesis):
    content = codec.decode(tx.sign(key("hal"), GENESIS, "hal", 0, tx.Claim()))
    content[0] = genesis
    with pytest.raises(Refused, match="malformed"):
        tx.decode(codec.encode(content))


@given(hashes, names, numbers)
def test_a_signature_counts_for_one_ledger_one_member_and_one_number(genesis, member, sequence):
    raw = tx.sign(key("hal"), GENESIS, "hal", 1, tx.Bond(5))
    content = codec.decode(raw)
    other = tx.decode(codec.encode([genesis, member, sequence, *content[3:]]))
    same = (genesis, member, sequence) == (GENESIS, "hal", 1)
    assert verify(key("hal").public, other.message, other.signature) == same


def different(one, other):
    """Return arguments of which each is another in turn, by the names of what differs."""
    return {name: {**one, name: other[name]} for name in one if one[name] != other[name]}


updates = st.fixed_dictionaries(
    {"genesis": hashes, "round": numbers, "member": names, "salt": hashes, "content": hashes}
)


@given(updates, updates)
def test_an_update_opens_under_one_name_in_one_round_of_one_ledger(one, other):
    made = tx.update_digest(**one)
    assert made == tx.update_digest(**one)
    for what, changed in different(one, other).items():
        assert tx.update_digest(**changed) != made, what
    assert (tx.update_digest(**other) == made) == (one == other)


commitments = st.fixed_dictionaries(
    {
        "genesis": hashes,
        "round": numbers,
        "attempt": st.integers(1, 3),
        "candidate": names,
        "result": hashes,
        "scores": scores,
        "salt": hashes,
    }
)


@given(commitments, commitments)
def test_a_commitment_opens_under_one_name_in_one_attempt_at_one_round_of_one_ledger(one, other):
    made = tx.commitment(**one)
    assert made == tx.commitment(**one)
    for what, changed in different(one, other).items():
        assert tx.commitment(**changed) != made, what
    assert (tx.commitment(**other) == made) == (one == other)


possessions = st.fixed_dictionaries({"genesis": hashes, "member": names, "public": hashes})


@given(possessions, possessions)
def test_a_proof_of_possession_is_for_one_member_of_one_ledger(one, other):
    made = tx.possession(**one)
    for what, changed in different(one, other).items():
        assert tx.possession(**changed) != made, what
    assert (tx.possession(**other) == made) == (one == other)


@given(updates, commitments, possessions)
def test_what_is_committed_to_is_never_a_thing_of_another_kind(one, other, third):
    made = [tx.update_digest(**one), tx.commitment(**other), tx.possession(**third)]
    assert len(set(made)) == 3


def test_the_neighbours_of_a_commitment_differ():
    """Numbers that stand beside one another are not run together: round 1, attempt 11 is not round 11, attempt 1."""
    base = {"candidate": "ann", "result": HASH, "scores": (1, 2), "salt": HASH, "genesis": GENESIS}
    pairs = [(1, 11), (11, 1), (1, 1), (11, 11)]
    found = {tx.commitment(round=round, attempt=attempt, **base) for round, attempt in pairs}
    found |= {tx.commitment(round=1, attempt=1, **{**base, "scores": one}) for one in ((12,), (1, 2, 0), ())}
    assert len(found) == 7


@pytest.mark.parametrize("body", PARTS, ids=tx.kind_of)
def test_parts_of_rounds_name_their_round_and_what_comes_in_attempts_the_attempt(body):
    assert body.round == 9
    assert hasattr(body, "attempt") == (tx.kind_of(body) in ("hold", "attest", "reveal"))
    raw = tx.sign(key("hal"), GENESIS, "hal", 0, body)
    assert tx.sign(key("hal"), GENESIS, "hal", 0, replace(body, round=10)) != raw
