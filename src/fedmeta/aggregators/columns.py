"""Rules for each coordinate on its own: the median and the trimmed mean."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from fedmeta._arrays import namespace, sum_over_clients, wide
from fedmeta._options import keep, real
from fedmeta.aggregators.aggregator import Columns, Part, beside, present_in
from fedmeta.errors import UsageError


@dataclass(frozen=True)
class coordinate_median(Columns):
    """The median of each coordinate (Yin et al., arXiv 1803.01498, definition 1).

    Every client counts the same, whatever its weight. Of an even number it is the mean of the two in the middle. NaN
    counts as infinity, so that fewer than half of the clients cannot bring it about.
    """

    name = "coordinate_median"

    def finish(self, total: Part) -> Any:
        """Return the median of each coordinate, parts of leaves [n, ...] -> [...]."""
        return median(total.tree, present_in(total, self))


@dataclass(frozen=True)
class trimmed_mean(Columns):
    """The mean of each coordinate without its floor(fraction * n) smallest and as many largest values.

    Yin et al., arXiv 1803.01498, definition 2. Every client counts the same, whatever its weight. NaN counts as
    infinity.

    Args:
        fraction: the share that is cut at each end, as its decimal digits say; from 0 to below 0.5.

    Raises:
        UsageError: `fraction` is out of range.
    """

    name = "trimmed_mean"

    fraction: float = 0.1

    def __post_init__(self):
        fraction = real("fraction", self.fraction, "a number from 0 to below 0.5", least=0.0)
        if fraction >= 0.5:
            raise UsageError(f"fraction must be a number from 0 to below 0.5, not {self.fraction!r}")
        keep(self, fraction=fraction)

    def finish(self, total: Part) -> Any:
        """Return the mean of what is left of each coordinate, parts of leaves [n, ...] -> [...]."""
        present = present_in(total, self)
        xp = namespace(present)
        # In fractions: 0.29 * 100 is 28.999... in floats.
        share = Fraction(repr(self.fraction))
        cuts = xp.asarray(np.array([math.floor(share * n) for n in range(len(present) + 1)], np.int32))
        count, place = present.sum(), xp.arange(len(present))
        cut = cuts[count].astype(place.dtype)
        kept = (place >= cut) & (place < count - cut)

        def leaf(array: Any) -> Any:
            inside = sum_over_clients(xp.where(beside(kept, array), _in_order(array, present), 0.0))
            return inside / xp.maximum(kept.sum(), 1).astype(inside.dtype)

        with np.errstate(over="ignore", invalid="ignore"):
            return jax.tree.map(leaf, total.tree)


def _in_order(array: Any, present: Any) -> Any:
    """Return the values of each coordinate in ascending order, [n, ...]; then those of nobody."""
    xp, array = namespace(array), wide(array)
    # Zeros of both signs are equal, so how a sort leaves them depends on the processor: plus 0.0 makes them one.
    values = xp.where(xp.isnan(array), math.inf, array) + 0.0
    return xp.sort(xp.where(beside(present, array), values, math.inf), axis=0)


def median(tree: Any, present: Any) -> Any:
    """Return the median of each coordinate over the clients that are present (bool [n]); zeros where none is."""
    xp, count = namespace(present), present.sum()
    low, high = xp.maximum(count - 1, 0) // 2, count // 2

    def leaf(array: Any) -> Any:
        ordered = _in_order(array, present)
        below = xp.take(ordered, low, axis=0)
        above = xp.take(ordered, xp.minimum(high, len(present) - 1), axis=0)
        # Halves first, for a sum may overflow; but half of the smallest number is none.
        middle = xp.where(below == above, below, below / 2 + above / 2)
        return xp.where(count > 0, middle, 0.0)

    with np.errstate(invalid="ignore", under="ignore"):
        return jax.tree.map(leaf, tree)
