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
class LightClientAttack:
    """That a key signed a header that was not decided, to mislead light clients; the engine has checked it."""

    public: bytes
    height: int
    """The last one of which both chains have the same header, or the one of which there are two."""


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
    attacks: tuple[LightClientAttack, ...] = ()

    @property
    def items(self) -> tuple[bytes, ...]:
        """What is ordered, kept, hashed and sent: the engine's word in one item, if it has said any, and the rest."""
        if self.first == 0:
            return self.transactions
        twice, attacks = ([[one.public, one.height] for one in some] for some in (self.double_signatures, self.attacks))
        said = [twice, list(self.absent), *([attacks] if attacks else [])]
        return (_CONDUCT + codec.encode(said), *self.transactions)

    @property
    def first(self) -> int:
        """The position of the first transaction among the items."""
        return int(bool(self.double_signatures or self.absent or self.attacks))

    @staticmethod
    def of(height: int, time: int, items: Sequence[bytes]) -> "Block":
        """Return the block of these items; raises `Malformed` if the engine's word is not in its one encoding."""
        if not (items and items[0].startswith(_CONDUCT)):
            return Block(height, time, tuple(items))
        value = codec.decode(items[0][len(_CONDUCT) :])
        if type(value) is not list or [type(one) for one in value] not in ([list] * 2, [list] * 3):
            raise Malformed(
                "what an engine says of signers is a list of double signatures, one of absent keys and, where there "
                "are any, one of attacks on light clients"
            )
        twice, absent, *more = value
        attacks = more[0] if more else []
        if not all(map(_is_misconduct, [*twice, *attacks])):
            raise Malformed("a double signature or an attack is a list of a public key of 32 bytes and a height")
        if not all(map(_is_key, absent)) or not (attacks if more else twice or absent):
            raise Malformed("the absent are named by public keys of 32 bytes, and where nothing is said no list is")
        return Block(
            height,
            time,
            tuple(items[1:]),
            tuple(DoubleSignature(*one) for one in twice),
            tuple(absent),
            tuple(LightClientAttack(*one) for one in attacks),
        )


def _is_misconduct(value: object) -> bool:
    return type(value) is list and len(value) == 2 and _is_key(value[0]) and _is_height(value[1])


def _is_key(value: object) -> bool:
    return type(value) is bytes and len(value) == 32


def _is_height(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_COUNT
