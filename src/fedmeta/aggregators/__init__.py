"""Aggregators: what each client brings, and how all that they bring becomes one pseudo-gradient.

Each rule is a value, and is written once, in the arrays' own namespace. Under `jit` it is a program of static shapes.
On float64 NumPy arrays it gives the same bytes on every machine for parts in the same order.

A client with weight 0 is nobody. What nobody brings in a stack changes nothing, NaN included. In a sum it must be
finite, for NaN times 0 is NaN: add zeros instead. No weight is negative.
"""

from typing import Any

from fedmeta._options import make as _make
from fedmeta.aggregators.aggregator import Aggregator, Part
from fedmeta.aggregators.columns import coordinate_median, trimmed_mean
from fedmeta.aggregators.means import norm_clipped_mean, weighted_mean
from fedmeta.aggregators.updates import geometric_median, krum, multi_krum

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "Part",
    "coordinate_median",
    "geometric_median",
    "krum",
    "make",
    "multi_krum",
    "norm_clipped_mean",
    "trimmed_mean",
    "weighted_mean",
]


AGGREGATORS: dict[str, type[Aggregator]] = {
    rule.name: rule
    for rule in (
        weighted_mean,
        norm_clipped_mean,
        coordinate_median,
        trimmed_mean,
        krum,
        multi_krum,
        geometric_median,
    )
}
"""Every rule by name: tests read this table, and whatever takes a name."""


def make(name: str, **options: Any) -> Aggregator:
    """Return the rule of that name with these fields.

    Raises:
        UsageError: no such rule, no such field, or a value out of range.
    """
    return _make("aggregator", AGGREGATORS, name, options)
