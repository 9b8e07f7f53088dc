import hashlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed, ProofError
from fedmeta.govern.machine.header import (
    Header,
    SignedHeader,
    check_link,
    check_roots,
    decode_header,
    decode_signed,
    encode_header,
    encode_signed,
    event_leaves,
    sign_header,
)
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.events import BlockEnding, MemberLeft
from tests.govern.playing import key
from tests.oracles.merkle import tree_head

GENESIS, OTHER = b"\x07" * 32, b"\x08" * 32
SEQUENCER = key("sequencer")


def header(height=1, time=5, previous=GENESIS, transactions=(), events=(), app_hash=b"\x05" * 32):
    return Header(GENESIS, height, time, previous, tree_head(list(transactions)), tree_head(list(events)), app_hash)


def test_a_header_is_hashed_over_the_canonical_form_of_its_fields_in_order():
    one = header()
    values = [GENESIS, 1, 5, GENESIS, one.transactions_root, one.events_root, one.app_hash]
    encoded = cbor2.dumps(values, canonical=True)
    assert encode_header(one) == encoded
    assert one.hash == hashlib.sha256(encoded).digest()
    assert decode_header(encoded) == one


def test_a_signature_covers_every_field_and_serves_as_no_other_signature():
    signed = sign_header(SEQUENCER, header())
    signed.check(GENESIS, SEQUENCER.public)
    with pytest.raises(ProofError, match="is not by the sequencer"):
        SignedHeader(replace(signed.header, genesis=OTHER), signed.certificate).check(OTHER, SEQUENCER.public)
    others = {
        "height": 2,
        "time": 6,
        "previous": b"\0" * 32,
        "transactions_root": b"\0" * 32,
        "events_root": b"\0" * 32,
    }
    for name, value in {**others, "app_hash": b"\0" * 32}.items():
        with pytest.raises(ProofError, match="is not by the sequencer"):
            SignedHeader(replace(signed.header, **{name: value}), signed.certificate).check(GENESIS, SEQUENCER.public)
    with pytest.raises(ProofError, match=f"is of the ledger of genesis {GENESIS.hex()}: it must be {OTHER.hex()}"):
        signed.check(OTHER, SEQUENCER.public)
    with pytest.raises(ProofError, match="is not by the sequencer"):
        signed.check(GENESIS, key("other").public)
    bare = SignedHeader(signed.header, SEQUENCER.sign(encode_header(signed.header)))
    with pytest.raises(ProofError, match="is not by the sequencer"):
        bare.check(GENESIS, SEQUENCER.public)


@given(st.binary(max_size=80))
def test_bytes_that_are_no_header_are_malformed_and_nothing_else(data):
    for decode in (decode_header, decode_signed):
        with pytest.raises(Malformed):
            decode(data)


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("value", [None, -1, 2**64, "", "No Name", b"", b"\0" * 31, [], True])
def test_a_header_with_a_field_of_another_form_is_malformed(at, value):
    values = codec.decode(encode_header(header()))
    values[at] = value
    with pytest.raises(Malformed):
        decode_header(codec.encode(values))
    with pytest.raises(Malformed):
        decode_signed(codec.encode([values, b"\0" * 64]))


def test_a_signed_header_goes_out_and_back():
    signed = sign_header(SEQUENCER, header())
    assert decode_signed(encode_signed(signed)) == signed
    for signature in (b"\0" * 63, b"\0" * 65, "x" * 64):
        with pytest.raises(Malformed):
            decode_signed(codec.encode([codec.decode(encode_header(signed.header)), signature]))


def test_a_chain_is_bound_to_its_genesis_and_each_header_to_the_one_before():
    first = header()
    second = header(2, 5, first.hash)
    check_link(first, None, GENESIS)
    check_link(second, first, GENESIS)
    for one, before, match in (
        (header(previous=b"\0" * 32), None, "the genesis is"),
        (second, None, "1 is next"),
        (first, first, "2 is next"),
        (header(3, 5, first.hash), first, "2 is next"),
        (header(2, 5, GENESIS), first, "block 1 is"),
        (header(2, 4, first.hash), first, "must not be before 5"),
    ):
        with pytest.raises(ProofError, match=match):
            check_link(one, before, GENESIS)


def test_the_roots_are_over_the_transactions_and_the_encoded_events():
    transactions = [b"one", b"two", b"three"]
    events = event_leaves([MemberLeft("ann"), BlockEnding(1)])
    assert [cbor2.loads(leaf) for leaf in events] == [
        ["member-left", {"member": "ann"}],
        ["block-ending", {"height": 1}],
    ]
    one = header(transactions=transactions, events=events)
    check_roots(one, transactions, events)
    for left, right in ((transactions[::-1], events), (transactions[:2], events), (transactions, events[:1]), ([], [])):
        with pytest.raises(ProofError, match="its header says"):
            check_roots(one, left, right)
