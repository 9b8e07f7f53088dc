"""The ledger's own randomness: a beacon that the reveals of each round move on, and the cohorts drawn from it.

Whoever reveals last in a round can choose between two beacons, by revealing or not; not to reveal is a fault that costs
stake. Nobody else has a choice, and nobody knows the next cohort before the reveals are over.
"""

from collections.abc import Iterable, Iterator
from itertools import count

from fedmeta.govern.wire import codec
from fedmeta.govern.wire.signatures import tagged

_WORD = 8
"""Bytes of one random number."""


def advance(beacon: bytes, round: int, salts: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the beacon after a round: 32 bytes of the old one, the round's number and each candidate's revealed salt.

    The order of the salts does not matter, and there may be none.
    """
    return tagged("beacon", beacon, codec.encode([round, sorted(salts)]))


def draw(beacon: bytes, round: int, names: Iterable[str], size: int) -> tuple[str, ...]:
    """Return `size` of the names, or all if there are no more, sorted; every subset is as likely as any other.

    The names must be distinct; their order does not matter.
    """
    left = sorted(names)
    if size >= len(left):
        return tuple(left)
    words = _words(beacon, round)
    for at in range(size):
        chosen = at + _below(words, len(left) - at)
        left[at], left[chosen] = left[chosen], left[at]
    return tuple(sorted(left[:size]))


def _words(beacon: bytes, round: int) -> Iterator[int]:
    """Yield numbers of `_WORD` bytes, out of the digests of a counter."""
    for counter in count():
        block = tagged("cohort", beacon, codec.encode([round, counter]))
        for at in range(0, len(block), _WORD):
            yield int.from_bytes(block[at : at + _WORD], "big")


def _below(words: Iterator[int], bound: int) -> int:
    # What lies above the largest multiple of the bound would favour the small numbers.
    accepted = (1 << 8 * _WORD) // bound * bound
    return next(word for word in words if word < accepted) % bound
