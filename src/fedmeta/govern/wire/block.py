"""A block as the state machine sees it; who orders and signs blocks is the engines' business."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import MAX_COUNT

_CONDUCT = b"fedmeta conduct\0"
"""How an item of a block begins that is no transaction: those are lists in CBOR, of six."""


@dataclass(frozen=True, slots=True)
class DoubleSignature:
    """That a key signed two blocks of one height, which an engine with several signers has found and checked."""

    public: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Block:
    """A height, a time and the transactions in their order; and what the engine says of those who sign blocks.

    `height` is more than the state's; `time`, in milliseconds since 1970, never goes back.
    """

    height: int
    time: int
    transactions: tuple[bytes, ...] = ()
    double_signatures: tuple[DoubleSignature, ...] = ()
    absent: tuple[bytes, ...] = ()
    """The keys that have not signed the block before, where that is looked at."""

    @property
    def items(self) -> tuple[bytes, ...]:
        """What is ordered, kept, hashed and sent: the engine's word in one item, if it has said any, and the rest."""
        if self.first == 0:
            return self.transactions
        twice = [[one.public, one.height] for one in self.double_signatures]
        return (_CONDUCT + codec.encode([twice, list(self.absent)]), *self.transactions)

    @property
    def first(self) -> int:
        """The position of the first transaction among the items."""
        return int(bool(self.double_signatures or self.absent))

    @staticmethod
    def of(height: int, time: int, items: Sequence[bytes]) -> "Block":
        """Return the block of these items; raises `Malformed` if the engine's word is not in its one encoding."""
        if not (items and items[0].startswith(_CONDUCT)):
            return Block(height, time, tuple(items))
        value = codec.decode(items[0][len(_CONDUCT) :])
        if type(value) is not list or [type(one) for one in value] != [list, list]:
            raise Malformed("what an engine says of signers is a list of double signatures and one of absent keys")
        twice, absent = value
        if not all(type(one) is list and len(one) == 2 and _is_key(one[0]) and _is_height(one[1]) for one in twice):
            raise Malformed("a double signature is a list of a public key of 32 bytes and a height")
        if not all(map(_is_key, absent)) or not (twice or absent):
            raise Malformed("the absent are named by public keys of 32 bytes, and where nothing is said no item is")
        found = tuple(DoubleSignature(public, height) for public, height in twice)
        return Block(height, time, tuple(items[1:]), found, tuple(absent))


def _is_key(value: object) -> bool:
    return type(value) is bytes and len(value) == 32


def _is_height(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_COUNT
