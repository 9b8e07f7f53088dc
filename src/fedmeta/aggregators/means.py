"""Rules that need a sum only: the weighted mean, as it is and of clipped updates."""

from dataclasses import dataclass
from typing import Any

import jax

from fedmeta._arrays import clipped, namespace, wide
from fedmeta._options import keep, real
from fedmeta.aggregators.aggregator import Part, Summed


@dataclass(frozen=True)
class weighted_mean(Summed):
    """The mean: sum of weight * tree over the sum of the weights (McMahan et al., arXiv 1602.05629, algorithm 1).

    In float64, whole numbers on one grid are summed without rounding, so the order does not matter; see
    `fedmeta.transforms.fixed_point`.
    """

    name = "weighted_mean"

    def lift(self, tree: Any, weight: Any) -> Part:
        """Return weight * tree and the weight."""
        return _weighted(tree, weight)

    def finish(self, total: Part) -> Any:
        """Return the mean; zeros where the weights sum to 0."""
        return _mean(total)


@dataclass(frozen=True)
class norm_clipped_mean(Summed):
    """The weighted mean of updates that whoever aggregates scales down to a norm first (Sun et al., arXiv 1911.07963).

    No client moves the mean by more than its share of `norm`. Values that are not finite stay so; a node refuses
    them before (`Transform.check`).

    Args:
        norm: the largest Euclidean norm of a whole update.

    Raises:
        UsageError: `norm` is not positive and finite.
    """

    name = "norm_clipped_mean"

    norm: float = 1.0

    def __post_init__(self):
        keep(self, norm=real("norm", self.norm, "a positive number", above=0.0))

    def lift(self, tree: Any, weight: Any) -> Part:
        """Return weight * clipped tree and the weight."""
        return _weighted(clipped(jax.tree.map(wide, tree), self.norm), weight)

    def finish(self, total: Part) -> Any:
        """Return the mean; zeros where the weights sum to 0."""
        return _mean(total)


def _weighted(tree: Any, weight: Any) -> Part:
    # No selection by the weight: a product with a number leaves a factored matrix factored.
    return Part(jax.tree.map(lambda leaf: wide(leaf) * weight.astype(wide(leaf).dtype), tree), weight)


def _mean(total: Part) -> Any:
    weight = namespace(total.weight).where(total.weight > 0, total.weight, 1.0)
    return jax.tree.map(lambda leaf: wide(leaf) / weight.astype(wide(leaf).dtype), total.tree)
