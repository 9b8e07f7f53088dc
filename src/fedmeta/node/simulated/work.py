"""What the members of a simulated federation compute: a model of a few whole numbers, exactly."""

import hashlib
import random
import struct
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fedmeta.node.errors import MessageRefused

NUMBERS = 8
"""Numbers in the model."""

LARGEST = 1 << 20


@runtime_checkable
class Work(Protocol):
    """What is computed at a member's: the learning half, as bytes in and bytes out."""

    def initial(self) -> bytes:
        """Return the first model."""
        ...

    def train(self, member: str, round: int, model: bytes) -> bytes:
        """Return a member's update."""
        ...

    def check(self, message: bytes) -> None:
        """Raise `MessageRefused` if an update is not well formed."""
        ...

    def aggregate(self, model: bytes, messages: Sequence[bytes]) -> bytes:
        """Return the next model."""
        ...


class Numbers:
    """A model of whole numbers: each update draws it towards the member's own, and the mean's remainder stays."""

    def initial(self) -> bytes:
        """Return zeros."""
        return struct.pack(f"<{NUMBERS}q", *[0] * NUMBERS)

    def train(self, member: str, round: int, model: bytes) -> bytes:
        """Return half of the way to what the member wants, with a little noise of its own."""
        wanted = random.Random(f"wants {member}")
        noise = random.Random(f"noise {member} {round}")
        there = struct.unpack(f"<{NUMBERS}q", model)
        steps = [(wanted.randrange(-LARGEST // 4, LARGEST // 4) - one) // 2 + noise.randrange(-64, 64) for one in there]
        return struct.pack(f"<{NUMBERS}i", *(max(-LARGEST, min(LARGEST, one)) for one in steps))

    def check(self, message: bytes) -> None:
        """Refuse another length, and numbers that are too large."""
        if len(message) != 4 * NUMBERS:
            raise MessageRefused(f"an update has {4 * NUMBERS} bytes, not {len(message)}")
        for one in struct.unpack(f"<{NUMBERS}i", message):
            if abs(one) > LARGEST:
                raise MessageRefused(f"a number of an update is {one}: it must be from {-LARGEST} to {LARGEST}")

    def aggregate(self, model: bytes, messages: Sequence[bytes]) -> bytes:
        """Return the model plus the mean of the updates, rounded down."""
        rows = [
            struct.unpack(f"<{NUMBERS}i", one) for one in sorted(messages, key=lambda m: hashlib.sha256(m).digest())
        ]
        moved = [sum(column) // len(rows) for column in zip(*rows, strict=True)]
        there = struct.unpack(f"<{NUMBERS}q", model)
        return struct.pack(f"<{NUMBERS}q", *(a + b for a, b in zip(there, moved, strict=True)))
