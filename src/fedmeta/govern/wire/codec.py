"""The one byte form of every value of the ledger: canonical CBOR (RFC 8949).

The profile is the core deterministic encoding of RFC 8949, section 4.2.1, over few types:

| value           | form                                                                                      |
|-----------------|-------------------------------------------------------------------------------------------|
| None, bool      | the simple values 22, 21 and 20                                                           |
| int             | major types 0 and 1 in the shortest head; beyond 64 bits the bignums of tags 2 and 3,     |
|                 | without leading zeros; never beyond `MAX_BITS` bits                                       |
| bytes, str      | one definite length; text is valid UTF-8                                                  |
| list, tuple     | an array of definite length; it comes back as a list                                      |
| dict            | a map of definite length with text keys, none twice, in the bytewise order of their       |
|                 | encodings (for text this is also the length-first order of RFC 7049: the orders agree)    |

Nothing else exists: no floats, no undefined, no other simple values, no other tags. Containers nest `MAX_DEPTH` deep
at most. Decoding checks the form by encoding again.
"""

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

import cbor2

from fedmeta.govern.errors import Malformed

MAX_DEPTH = 16
"""How deep lists and dicts may nest."""

MAX_BITS = 4096
"""The most bits of an integer; every integer can still be printed in decimal."""

MAX_ITEMS = 1 << 26
"""How many values there may be in one, where nothing less is said."""

_SCALARS = frozenset({NoneType, bool, bytes, str})
_TOO_LARGE = 1 << MAX_BITS
_SMALL = 1 << 62


def encode(value: Any) -> bytes:
    """Return the canonical bytes of `value`; raises `Malformed` for a value that has none."""
    ordered = _check(value, MAX_DEPTH, [MAX_ITEMS])
    return _dump(value, ordered)


def decode(data: bytes, *, limit: int = 1 << 20, items: int = MAX_ITEMS) -> Any:
    """Return the value whose canonical bytes are `data`; raises `Malformed`, and nothing else.

    There may be `limit` bytes at most, and so many items in all lists and dicts together.
    """
    if len(data) > limit:
        raise Malformed(f"{len(data)} bytes are too many: at most {limit} are read")
    try:
        # A tag counts as a level for the library, so a bignum at the deepest level needs one more.
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_TAGS,
        )
    except (cbor2.CBORError, ValueError, OverflowError) as error:
        why = f"{error}: {error.__cause__}" if error.__cause__ else f"{error}"
        raise Malformed(f"not canonical CBOR: {why:.200}") from error
    ordered = _check(value, MAX_DEPTH, [items])
    if _dump(value, ordered) != data:
        raise Malformed("not canonical CBOR: the value encodes to other bytes")
    return value


def _dump(value: Any, ordered: bool) -> bytes:
    try:
        # All that the library does otherwise for this profile is to put keys in order, which takes it twice the time.
        return cbor2.dumps(value, canonical=not ordered)
    except UnicodeEncodeError as error:
        raise Malformed(f"text must be valid UTF-8 without surrogates: {error.object!a:.60}") from error


def _check(value: Any, depth: int, room: list[Any]) -> bool:
    """Raise unless the library will encode `value` as the profile says; return whether all keys are seen in order.

    `depth` is how deep it may still nest, and `room`, of one number, how many items it may still have.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is int:
        if not -_TOO_LARGE <= value < _TOO_LARGE:
            raise Malformed(f"an integer of {value.bit_length()} bits is too large: at most {MAX_BITS}")
        return True
    if kind is not list and kind is not tuple and kind is not dict:
        raise Malformed(f"a value of type {kind.__name__} cannot be encoded")
    if not depth:
        raise Malformed(f"lists and dicts nest too deep: at most {MAX_DEPTH} levels")
    room[0] -= len(value)
    if room[0] < 0:
        raise Malformed("there are too many items in its lists and dicts")
    ordered = True
    if kind is dict:
        ordered = _check_keys(value)
        value = value.values()
    for item in value:
        # Most of what there is: small integers, and what needs no look at all.
        if type(item) not in _SCALARS and not (type(item) is int and -_SMALL < item < _SMALL):
            ordered &= _check(item, depth - 1, room)
    return ordered


def _check_keys(keys: Iterable[Any]) -> bool:
    """Raise unless all keys are text; return whether they are seen to be in the order of their encodings."""
    ordered, last = True, ""
    for key in keys:
        if type(key) is not str:
            raise Malformed(f"a dict's keys must be of type str, not {type(key).__name__}")
        if not key.isascii() or len(key) < len(last) or (len(key) == len(last) and key < last):
            ordered = False
        last = key
    return ordered


def _magnitude(payload: Any) -> int:
    if type(payload) is not bytes:
        raise ValueError("a bignum must hold a byte string")
    if len(payload) * 8 > MAX_BITS:
        raise ValueError(f"a bignum of {len(payload)} bytes is too large: at most {MAX_BITS} bits")
    return int.from_bytes(payload, "big")


def _positive(payload: Any, immutable: bool) -> int:
    return _magnitude(payload)


def _negative(payload: Any, immutable: bool) -> int:
    return -1 - _magnitude(payload)


def _refuse(payload: Any, immutable: bool) -> Any:
    raise ValueError("no tags but bignums are allowed")


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """What the library does at a tag: for every number, also those that it would decode by itself, refuse."""

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        return _refuse


_TAGS = _Tags({2: _positive, 3: _negative})
