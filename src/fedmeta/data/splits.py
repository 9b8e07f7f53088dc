"""How a client's examples become support and query: at random, in time, or by groups that stay together."""

from dataclasses import dataclass

import numpy as np

from fedmeta._settings import a_number, whole_number
from fedmeta.data.columns import Column, Taken, read
from fedmeta.errors import DataError, UsageError


@dataclass(frozen=True)
class AtRandom:
    """Examples are drawn at random, each class in proportion where that is possible."""

    @property
    def gap(self) -> int:
        """How many of a client's examples are neither support nor query."""
        return 0


@dataclass(frozen=True)
class InTime:
    """The first of a client's examples are support, the last ones query, with a gap between: rows are in time order.

    LEAF splits a role of Shakespeare so (arXiv:1812.01097), for windows of text that overlap share characters.

    Args:
        gap: how many examples between support and query are left out.
        support: the only fraction that is allowed, where the examples themselves were made from the support set of
            that fraction, as candidates are; any where it is not given.
        count: so many of a client's examples are support, whatever the fraction; at least one is query.

    Raises:
        UsageError: a value is out of range.
    """

    gap: int = 0
    support: float | None = None
    count: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "gap", whole_number("gap", self.gap))
        if self.gap < 0:
            raise UsageError(f"gap must be at least 0, not {self.gap}")
        if self.support is not None:
            object.__setattr__(self, "support", a_number("support", self.support))
            check_support(self.support)
        object.__setattr__(self, "count", whole_number("count", self.count))
        if self.count is not None and self.count < 1:
            raise UsageError(f"count must be at least 1, not {self.count}")

    def sides(self, start: int, size: int, support: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of support and of query of the client whose rows begin at `start`.

        Raises:
            UsageError: the examples were made for another fraction.
        """
        if self.support is not None and support != self.support:
            raise UsageError(
                f"the candidates were taken from the first {self.support:g} of each client's examples, so the support "
                f"fraction is {self.support:g}, not {support:g}; load the data set with support={support:g}"
            )
        count = support_size(size - self.gap, support, self)
        return np.arange(start, start + count), np.arange(start + count + self.gap, start + size)


@dataclass(frozen=True, eq=False)
class ByGroup:
    """Whole groups are support or query, such as all that one drawer drew; which ones is drawn at random.

    Args:
        groups: the group of each example, a column of integers of shape [examples]. A client's groups are of one size.
    """

    groups: Column

    @property
    def gap(self) -> int:
        """How many of a client's examples are neither support nor query."""
        return 0

    def sides(
        self, start: int, size: int, support: float, draw: np.random.Generator, client_id: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of support and of query of the client whose rows begin at `start`.

        Raises:
            DataError: the client has one group only.
            UsageError: the fraction is no whole number of its groups.
        """
        own = read(self.groups, slice(start, start + size))
        held = np.unique(own)
        if len(held) < 2:
            raise DataError(f"client {client_id!r} has {len(held)} group; support and query need one each")
        chosen = np.isin(own, draw.choice(held, support_size(len(held), support), replace=False))
        if chosen.sum() != support_size(size, support):
            raise UsageError(
                f"client {client_id!r} has {len(held)} groups of examples that stay together: the support fraction "
                f"{support:g} of them is {support * len(held):g}, or they are not of one size; take a multiple of "
                f"1/{len(held)}"
            )
        return start + np.flatnonzero(chosen), start + np.flatnonzero(~chosen)


Split = AtRandom | InTime | ByGroup
"""How a data set's clients are split."""


def of_rows(split: Split, rows: np.ndarray) -> Split:
    """Return the split of a data set that holds these rows of another one, each client's in their order."""
    return ByGroup(Taken(split.groups, rows)) if isinstance(split, ByGroup) else split


def check_support(support: float) -> None:
    """Raise a UsageError unless the support fraction lies in (0, 1)."""
    if not 0 < support < 1:
        raise UsageError(f"the support fraction must lie between 0 and 1 (exclusive), not {support}")


def support_size(examples: int, support: float, split: Split | None = None) -> int:
    """Return how many of a client's examples are support, with at least one on each side: the fraction, or the count.

    Args:
        examples: of the client, without a gap.
        support: the fraction.
        split: one in time may say a count.
    """
    count = split.count if isinstance(split, InTime) else None
    return int(min(max(round(support * examples) if count is None else count, 1), examples - 1))


def some(rows: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Return so many of the rows, drawn at random, in their order; all where there are no more."""
    if count >= len(rows):
        return rows
    return rows[np.sort(draw.choice(len(rows), count, replace=False))]
