"""The block time of a sequencer: it follows the wall clock, but only as fast as time passes.

A wall clock can be set: by a year, forward or back. Block time could not go back, so it would stand still until the
world had caught up with it, or it would run through every period at once.
"""

from dataclasses import dataclass

MILLISECOND = 10**6
"""Nanoseconds: blocks count milliseconds, and what is less must not be lost between two of them."""


@dataclass(frozen=True, slots=True)
class BlockClock:
    """Block time in nanoseconds since 1970, and what a monotonic clock, also in nanoseconds, said then."""

    time: int
    monotonic: int

    @staticmethod
    def started(last: int, wall: int, monotonic: int) -> "BlockClock":
        """Return the clock for the first block of a run: the wall clock, but not before `last`, in milliseconds."""
        return BlockClock(max(wall, last * MILLISECOND), monotonic)

    def moved(self, wall: int, monotonic: int) -> "BlockClock":
        """Return the clock later: as near to the wall clock as the time that passed, a tenth more or less, allows."""
        passed = max(monotonic - self.monotonic, 0)
        least, most = self.time + passed - passed // 10, self.time + passed + passed // 10
        return BlockClock(min(max(wall, least), most), monotonic)

    @property
    def milliseconds(self) -> int:
        """The time for a block, in whole milliseconds since 1970."""
        return self.time // MILLISECOND
