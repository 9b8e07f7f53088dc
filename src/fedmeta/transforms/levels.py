"""A few bits for each number: stochastic quantisation."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta._arrays import namespace, wide, wide_type
from fedmeta._options import keep, whole
from fedmeta.errors import DataError, UsageError
from fedmeta.transforms.transform import Body, Memory, Stateless, key_of, over_floats, shape_of


class Levels(NamedTuple):
    """What is sent of one array of floats.

    Args:
        packed: the levels in the array's order, the first in the lowest bits; uint8 [ceil(size * bits / 8)].
        step: half of what lies between two levels; float [], of the array's type, but float32 for half precision.
    """

    packed: Any
    step: Any


@dataclass(frozen=True)
class quantise(Stateless):
    """Sends one of 2**bits levels for each number, drawn so that its expectation is the number.

    Stochastic uniform quantisation (Suresh et al., arXiv 1611.00429, section 2.2), with levels evenly from -m to m, m
    being the largest magnitude of an array: level l stands for (2 l - (2**bits - 1)) * step, step = m / (2**bits - 1).
    A number's variance is at most step**2, its error at most 2 * step. No level is 0: a zero is sent as -step or step.
    QSGD (arXiv 1610.02132) differs in its scale, the Euclidean norm, and in its code.

    Args:
        bits: 1, 2, 4 or 8 for each number; an array takes ceil(size * bits / 8) bytes, and 4 (float64: 8) for its step.

    Raises:
        UsageError: another number of bits.
    """

    name = "quantise"

    bits: int = 8

    def __post_init__(self):
        keep(self, bits=whole("bits", self.bits, 1, 8))
        if self.bits not in (1, 2, 4, 8):
            raise UsageError(f"bits must be 1, 2, 4 or 8, not {self.bits}")

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return `Levels` for each array of floats. Of one that is not finite, the step is not."""
        most, each = self._most, 8 // self.bits

        def leaf(place: int, array: Any) -> Levels:
            numbers = wide(array).reshape(-1)
            step = jnp.max(jnp.abs(numbers), initial=0) / most
            # Below the normal numbers, processors differ in what a product is.
            step = jnp.where(step < jnp.finfo(step.dtype).tiny, 0, step)
            height = (numbers / jnp.where(step > 0, step, 1) + most) / 2
            height = jnp.where(jnp.isfinite(height), height, 0)
            below = jnp.floor(height)
            up = jax.random.uniform(key_of(key, place), numbers.shape, numbers.dtype) < height - below
            level = jnp.clip(below + up.astype(below.dtype), 0, most).astype(jnp.uint8)
            level = jnp.pad(level, (0, -level.size % each)).reshape(-1, each)
            return Levels(jnp.sum(level << self._shifts(jnp), axis=1, dtype=jnp.uint8), step)

        return over_floats(leaf, jax.tree.map(jnp.asarray, tree)), memory

    def decode(self, body: Body, like: Any) -> Any:
        """Return (2 * level - (2**bits - 1)) * step: one product, so rounded once."""

        def leaf(_: int, want: Any, levels: Levels) -> Any:
            xp = namespace(levels.packed)
            level = self._unpacked(levels, xp)[: math.prod(want.shape)].reshape(want.shape)
            return (2 * level.astype(np.int32) - self._most).astype(levels.step.dtype) * levels.step

        return over_floats(leaf, like, body)

    def body_like(self, like: Any) -> Any:
        """Return the shapes of `Levels` for each array of floats."""

        def leaf(_: int, want: Any) -> Levels:
            packed = jax.ShapeDtypeStruct((-(-math.prod(want.shape) * self.bits // 8),), np.uint8)
            return Levels(packed, jax.ShapeDtypeStruct((), wide_type(want)))

        return over_floats(leaf, jax.tree.map(shape_of, like))

    def check_values(self, body: Body, like: Any) -> None:
        """Refuse a negative step, and unused bits that are not 0."""

        def leaf(_: int, want: Any, levels: Levels) -> None:
            if levels.step < 0:
                raise DataError(f"not a message of {self}: a step must be at least 0, not {levels.step}")
            if self._unpacked(levels, np)[math.prod(want.shape) :].any():
                raise DataError(f"not a message of {self}: the bits after the last level must be 0")

        over_floats(leaf, like, body)

    @property
    def _most(self) -> int:
        return 2**self.bits - 1

    def _shifts(self, xp: Any) -> Any:
        return xp.asarray(np.arange(0, 8, self.bits, dtype=np.uint8))

    def _unpacked(self, levels: Levels, xp: Any) -> Any:
        return ((levels.packed[:, None] >> self._shifts(xp)) & xp.asarray(self._most, dtype=np.uint8)).reshape(-1)
