"""A card is believed only from the member that it is of, on this ledger, in this version."""

import pytest

from fedmeta.govern.wire import codec
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.node.errors import RequestRefused
from fedmeta.node.wire.cards import VERSION, Card

KEY, GENESIS = Key.from_seed(digest(b"machine")), digest(b"genesis")
CARD = Card(GENESIS, "north", b"x" * 32).signed(KEY)


def test_a_card_is_read_as_it_was_written():
    assert Card.read(CARD.to_bytes(), GENESIS, "north", KEY.public) == CARD


@pytest.mark.parametrize(
    ("genesis", "member", "key"),
    [(digest(b"other"), "north", KEY.public), (GENESIS, "south", KEY.public), (GENESIS, "north", bytes(32))],
)
def test_a_card_of_another_ledger_member_or_key_is_refused(genesis, member, key):
    with pytest.raises(RequestRefused) as refused:
        Card.read(CARD.to_bytes(), genesis, member, key)
    assert refused.value.code == "bad-card"


def test_another_version_is_refused_by_its_number():
    newer = Card(GENESIS, "north", b"x" * 32, version=VERSION + 1).signed(KEY)
    with pytest.raises(RequestRefused, match=f"speaks version {VERSION + 1}: this node speaks version {VERSION}"):
        Card.read(newer.to_bytes(), GENESIS, "north", KEY.public)


@pytest.mark.parametrize("at", range(0, len(CARD.to_bytes()), 7))
def test_a_changed_card_is_refused(at):
    data = bytearray(CARD.to_bytes())
    data[at] ^= 1
    with pytest.raises(RequestRefused):
        Card.read(bytes(data), GENESIS, "north", KEY.public)


@pytest.mark.parametrize("value", [5, [], [GENESIS, "north", b"x", 1, bytes(64)], [GENESIS, "No!", b"x" * 32, 1, b""]])
def test_what_is_no_card_is_refused(value):
    with pytest.raises(RequestRefused):
        Card.read(codec.encode(value), GENESIS, "north", KEY.public)
