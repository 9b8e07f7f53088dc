"""How slow and how large a peer may be."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fedmeta.node.wire.chunks import CHUNK

T = TypeVar("T")

MAX_BODY = CHUNK + 4096
"""The most bytes of a body, of a request or of an answer: a chunk, and what is around it."""

PIECE = 1 << 16
"""The bytes that are read or written at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a gate or a client bears from its peers."""

    connections: int = 256
    """Connections at once, after their handshake."""
    seats: int = 128
    """How many of them only seats may have."""
    strangers: int = 32
    """How many of the others may be without a member's certificate: anyone can make those."""
    handshakes: int = 64
    """Connections before the end of their handshake; where another one comes, the oldest of them is closed."""
    address_connections: int = 64
    """Connections at once from one address; an IPv6 network of 64 bits counts as one address."""
    member_connections: int = 16
    """Connections at once by one certificate."""
    header_bytes: int = 16_384
    """The bytes of a request's or an answer's head."""
    body_bytes: int = MAX_BODY
    """The bytes of a body."""
    handshake_seconds: float = 10.0
    """The time for TLS; for a client also that for a TCP connection, and that for a proxy's answer."""
    header_seconds: float = 10.0
    """The time for a head from its first byte on."""
    idle_seconds: float = 60.0
    """A connection on which nothing is asked is closed after so long."""
    answer_seconds: float = 60.0
    """The time in which an answer must begin."""
    slowest: int = 4096
    """The fewest bytes a second of a body, after `grace_seconds`."""
    grace_seconds: float = 10.0
    """How long a body may be slower than that."""


class TooSlow(TimeoutError):
    """A peer that is slower than the limits allow."""


class Pace:
    """Whether a body comes or goes fast enough.

    After t seconds it must have been `slowest` * (t - `grace_seconds`) bytes, and nothing may stand still for longer
    than `grace_seconds`, however much came before.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]):
        """Begin now; `clock` gives seconds."""
        self._limits, self._clock, self._begin, self._moved = limits, clock, clock(), 0

    def moved(self, size: int) -> None:
        """Count bytes that came or went."""
        self._moved += size

    def left(self) -> float:
        """Return for how many seconds the next bytes may be waited for; 0 or less: too slow."""
        ahead = self._begin + self._moved / self._limits.slowest - self._clock()
        return self._limits.grace_seconds + min(ahead, 0.0)

    async def wait(self, doing: Awaitable[T]) -> T:
        """Return what `doing` gives in time; raises `TooSlow`."""
        return await within(self.left(), doing, f"slower than {self._limits.slowest} bytes a second")


async def within(seconds: float, doing: Awaitable[T], what: str) -> T:
    """Return what `doing` gives; raises `TooSlow`, with `what`, after so many seconds."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return await doing
    except TimeoutError as error:
        raise TooSlow(what) from error
