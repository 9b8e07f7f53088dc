"""Rules that look at whole updates: Krum, Multi-Krum and the geometric median."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fedmeta._arrays import namespace, sum_of_squares, sum_over_clients, wide, widest
from fedmeta._options import keep, real, whole
from fedmeta.aggregators.aggregator import Part, Updates, beside, present_in
from fedmeta.aggregators.columns import median


@dataclass(frozen=True)
class krum(Updates):
    """The update nearest to its n - byzantine - 2 nearest others (Blanchard et al., arXiv 1703.02757).

    Near is by the sum of squared Euclidean distances. Every client counts the same, whatever its weight. Of equal
    scores the first in the order of the parts is taken. An update that is not finite is infinitely far from all.

    It needs n >= 2 * byzantine + 3, and refuses a smaller stack. Where some of the stack are nobody's and fewer than
    that remain, it looks at one neighbour at least, and promises nothing.

    Args:
        byzantine: how many clients may send anything at all.

    Raises:
        UsageError: `byzantine` is no whole number of at least 0.
    """

    name = "krum"

    byzantine: int = 1

    def __post_init__(self):
        keep(self, byzantine=whole("byzantine", self.byzantine, 0))

    @property
    def smallest(self) -> int:
        """The fewest clients of which the paper's promise holds: 2 * byzantine + 3."""
        return 2 * self.byzantine + 3

    def finish(self, total: Part) -> Any:
        """Return the chosen update, [n, ...] -> [...]."""
        return _mean_of_nearest(total, present_in(total, self), self.byzantine, 1)


@dataclass(frozen=True)
class multi_krum(Updates):
    """The mean of the `select` updates with the best scores of Krum (Blanchard et al., arXiv 1703.02757).

    Weights, equal scores and updates that are not finite are as in `krum`. It needs also n >= select + byzantine: of
    more, some must be bad. Where fewer than `select` clients remain, it is the mean of those.

    Args:
        byzantine: how many clients may send anything at all.
        select: how many updates are averaged.

    Raises:
        UsageError: `byzantine` is no whole number of at least 0, or `select` none of at least 1.
    """

    name = "multi_krum"

    byzantine: int = 1
    select: int = 3

    def __post_init__(self):
        keep(self, byzantine=whole("byzantine", self.byzantine, 0), select=whole("select", self.select, 1))

    @property
    def smallest(self) -> int:
        """The larger of 2 * byzantine + 3 and select + byzantine."""
        return max(2 * self.byzantine + 3, self.select + self.byzantine)

    def finish(self, total: Part) -> Any:
        """Return the mean of the chosen updates, [n, ...] -> [...]."""
        return _mean_of_nearest(total, present_in(total, self), self.byzantine, self.select)


@dataclass(frozen=True)
class geometric_median(Updates):
    """The point with the least sum of weight * distance to the updates: RFA (Pillutla et al., arXiv 1912.13445).

    Smoothed Weiszfeld (algorithm 2 there): each step is a mean with the weights weight / max(smoothing, distance). It
    starts from the median of each coordinate, which bad updates cannot have moved far. A weight counts as so many
    clients at one place; who has more than half of the weight decides. An update that is not finite is left out; if all
    are, so is the result.

    Args:
        steps: how many steps; always as many.
        smoothing: the distance below which updates count as equally near, in units of phi.

    Raises:
        UsageError: `steps` is no whole number of at least 1, or `smoothing` is not positive and finite.
    """

    name = "geometric_median"

    steps: int = 8
    smoothing: float = 1e-6

    def __post_init__(self):
        smoothing = real("smoothing", self.smoothing, "a positive number", above=0.0)
        keep(self, steps=whole("steps", self.steps, 1), smoothing=smoothing)

    @property
    def smallest(self) -> int:
        """A single client is its own median."""
        return 1

    def finish(self, total: Part) -> Any:
        """Return the geometric median after these steps, [n, ...] -> [...]."""
        present = present_in(total, self)
        xp = namespace(present)
        leaves, structure = jax.tree.flatten(total.tree)
        leaves = [wide(leaf) for leaf in leaves]
        sound = present & _finite(leaves)
        leaves = [xp.where(beside(sound, leaf), leaf, 0.0) for leaf in leaves]
        dtype = widest(leaves)
        weight = xp.where(sound, total.weight, 0.0).astype(dtype)
        centre = median(leaves, sound)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(self.steps):
                away = sum_of_squares([leaf - at for leaf, at in zip(leaves, centre, strict=True)], dtype)
                share = weight / xp.maximum(xp.sqrt(away), self.smoothing)
                everything = sum_over_clients(share)
                share = share / xp.where(everything > 0, everything, 1.0)
                # Where all are too far apart for the type, the centre stays.
                centre = [
                    xp.where(everything > 0, sum_over_clients(leaf * beside(share, leaf).astype(leaf.dtype)), at)
                    for leaf, at in zip(leaves, centre, strict=True)
                ]
        lost = present.any() & ~sound.any()
        return jax.tree.unflatten(structure, [xp.where(lost, math.nan, at) for at in centre])


def _finite(leaves: list[Any]) -> Any:
    """Return which clients have only finite values, bool [n]."""
    xp = namespace(leaves[0])
    return xp.stack([xp.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves]).all(axis=0)


def _mean_of_nearest(total: Part, present: Any, byzantine: int, select: int) -> Any:
    xp, n, count = namespace(present), len(present), present.sum()
    leaves = [wide(leaf) for leaf in jax.tree.leaves(total.tree)]
    sound = present & _finite(leaves)
    clean = [xp.where(beside(sound, leaf), leaf, 0.0) for leaf in leaves]
    dtype = widest(leaves)
    with np.errstate(over="ignore", invalid="ignore"):
        distances = _for_each(
            lambda row: sum_of_squares([a - b for a, b in zip(clean, row, strict=True)], dtype), clean
        )
        pairs = sound[:, None] & sound[None, :] & ~xp.eye(n, dtype=bool)
        nearest = xp.sort(xp.where(pairs, distances, math.inf), axis=1)
        neighbours = xp.minimum(xp.maximum(count - byzantine - 2, 1), n - 1)
        scores = sum_over_clients(xp.where(xp.arange(n)[None, :] < neighbours, nearest, 0.0).T)
    # Nobody's comes after all that are somebody's, infinite scores among them; of equals the first comes first.
    earlier = xp.arange(n)[None, :] < xp.arange(n)[:, None]
    ahead = (scores[None, :] < scores[:, None]) | ((scores[None, :] == scores[:, None]) & earlier)
    ahead = xp.where(present[None, :] == present[:, None], ahead, present[None, :])
    chosen = (ahead.sum(axis=1) < select) & present

    def mean(leaf: Any) -> Any:
        kept = sum_over_clients(xp.where(beside(chosen, leaf), leaf, 0.0))
        return kept / xp.maximum(chosen.sum(), 1).astype(leaf.dtype)

    with np.errstate(over="ignore", invalid="ignore"):
        return jax.tree.unflatten(jax.tree.structure(total.tree), [mean(leaf) for leaf in leaves])


def _for_each(function: Callable[[list[Any]], Any], leaves: list[Any]) -> Any:
    """Return function([leaf[i] for each leaf]) for i = 0, 1, ..., stacked."""
    if namespace(leaves[0]) is not np:
        return jax.lax.map(function, leaves)
    return np.stack([function([leaf[i] for leaf in leaves]) for i in range(len(leaves[0]))])
