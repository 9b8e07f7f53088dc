"""Whole numbers on one grid, which add exactly."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta._arrays import namespace, wide, wide_type
from fedmeta._options import keep, whole
from fedmeta.errors import DataError
from fedmeta.transforms.transform import Body, Memory, Stateless, over_floats, shape_of


@dataclass(frozen=True)
class fixed_point(Stateless):
    """Sends each number as a whole number of steps of 2**-places, signed, of `bits` bits.

    Such numbers, times whole weights, add in float64 without rounding, in any order, while bits + log2(sum of weights)
    is at most 53: the mean is a fact, and leaving one out is a subtraction. At most 24 bits, so that float32 holds them
    too. A number is rounded to the nearest step, to the even one of two; beyond 2**(bits - 1) - 1 steps it is cut off.
    One that is not finite is sent as -2**(bits - 1), which no finite number gives: it decodes to NaN, and `check`
    refuses it.

    Args:
        places: binary digits after the point, 0 to 64.
        bits: 2 to 24, the sign among them. A number takes 1 byte up to 8 bits, 2 up to 16, else 4.

    Raises:
        UsageError: a number is out of range.
    """

    name = "fixed_point"

    places: int = 20
    bits: int = 24

    def __post_init__(self):
        keep(self, places=whole("places", self.places, 0, 64), bits=whole("bits", self.bits, 2, 24))

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return whole numbers for each array of floats."""

        def leaf(_: int, array: Any) -> Any:
            numbers = wide(array)
            steps = jnp.clip(jnp.round(numbers * 2.0**self.places), -self._most, self._most)
            return jnp.where(jnp.isfinite(numbers), steps, self._lost).astype(self._type)

        return over_floats(leaf, jax.tree.map(jnp.asarray, tree)), memory

    def decode(self, body: Body, like: Any) -> Any:
        """Return steps * 2**-places, without rounding; half precision as float32."""

        def leaf(_: int, want: Any, steps: Any) -> Any:
            return namespace(steps).where(
                steps == self._lost, math.nan, steps.astype(wide_type(want)) * 2.0**-self.places
            )

        return over_floats(leaf, like, body)

    def body_like(self, like: Any) -> Any:
        """Return the shapes of `like`, of whole numbers."""
        return over_floats(lambda _, want: jax.ShapeDtypeStruct(want.shape, self._type), jax.tree.map(shape_of, like))

    def check_values(self, body: Body, like: Any) -> None:
        """Refuse numbers outside the range."""

        def leaf(_: int, want: Any, steps: Any) -> None:
            beyond = (steps < -self._most) | (steps > self._most)
            if beyond.any():
                raise DataError(
                    f"not a message of {self}: a number must be from {-self._most} to {self._most} steps, "
                    f"not {int(steps[beyond].flat[0])}"
                )

        over_floats(leaf, like, body)

    @property
    def _most(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @property
    def _lost(self) -> int:
        return -(2 ** (self.bits - 1))

    @property
    def _type(self) -> Any:
        return np.dtype(np.int8 if self.bits <= 8 else np.int16 if self.bits <= 16 else np.int32)
