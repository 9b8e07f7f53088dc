"""What every rule is, and what a client brings to it."""

import abc
from typing import Any, ClassVar, Literal, NamedTuple

import jax

from fedmeta._arrays import wide
from fedmeta.errors import UsageError


class Part(NamedTuple):
    """What one client brings to the aggregate, or several of them summed or stacked.

    `tree` is a pytree like phi: weight * tree for a rule that sums, else the tree. `weight` has shape []. Stacked,
    every array has a leading axis [n]. All zeros: nobody.
    """

    tree: Any
    weight: Any


class Aggregator(abc.ABC):
    """A rule that makes one pseudo-gradient of many. All of them are frozen dataclasses: equal by value."""

    name: ClassVar[str]
    """The name in tables, files and on the command line."""
    needs: ClassVar[Literal["sum", "columns", "updates"]]
    """What `finish` takes: the sum of all parts; parts stacked, any block of coordinates apart from the others; or
    whole parts stacked."""

    @property
    @abc.abstractmethod
    def smallest(self) -> int:
        """The fewest clients that the rule takes."""

    @abc.abstractmethod
    def lift(self, tree: Any, weight: Any) -> Part:
        """Return what a client brings.

        Args:
            tree: a pytree of floats, like phi.
            weight: a float of shape [].

        Returns:
            A part that can be summed, or stacked with others. Sums of half-precision arrays are in float32.

        Raises:
            UsageError: the tree holds something else than real floats.
        """

    @abc.abstractmethod
    def finish(self, total: Part) -> Any:
        """Return the pseudo-gradient: a pytree like phi, half precision as float32; zeros where all are nobody.

        Args:
            total: the sum of the parts, or the parts stacked, [n, ...]; see `needs`.

        Raises:
            UsageError: fewer parts than `smallest` are stacked, or the tree holds something else than real floats. Of
                enough parts, too few may be somebody's: each rule says what it does then.
        """


class Summed(Aggregator):
    """A rule that needs the sum of weight * tree only."""

    needs = "sum"

    @property
    def smallest(self) -> int:
        """One client is enough."""
        return 1


class _Stacked(Aggregator):
    """A rule that needs the parts themselves, whatever the weights are."""

    def lift(self, tree: Any, weight: Any) -> Part:
        jax.tree.map(wide, tree)
        return Part(tree, weight)


class Columns(_Stacked):
    """A rule for each coordinate on its own."""

    needs = "columns"

    @property
    def smallest(self) -> int:
        """One client is enough."""
        return 1


class Updates(_Stacked):
    """A rule that looks at whole updates."""

    needs = "updates"


def present_in(total: Part, rule: Aggregator) -> Any:
    """Return which parts of a stack are somebody's, bool [n]."""
    if len(total.weight) < rule.smallest:
        raise UsageError(f"{rule} needs at least {rule.smallest} clients, not {len(total.weight)}")
    return total.weight > 0


def beside(values: Any, array: Any) -> Any:
    """Return values [n] in a shape that goes with an array [n, ...]."""
    return values.reshape(-1, *[1] * (array.ndim - 1))
