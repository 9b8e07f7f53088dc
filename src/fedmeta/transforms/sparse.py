"""Only the largest numbers, and where they stand."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta._arrays import namespace
from fedmeta._options import keep, real
from fedmeta.errors import DataError, UsageError
from fedmeta.transforms.transform import Body, Memory, Stateless, over_floats, shape_of


class Sparse(NamedTuple):
    """What is sent of one array of floats.

    Args:
        indices: where the numbers stand in the array as a row; int32 [k], all different.
        values: the numbers, of the array's own type, [k].
    """

    indices: Any
    values: Any


@dataclass(frozen=True)
class top_k(Stateless):
    """Sends the largest magnitudes of each array, the rest is 0 (Aji and Heafield, arXiv 1704.05021).

    Of each array by itself, so that none is left out: k = ceil(fraction * size). It is biased; what is dropped is lost
    unless `error_feedback` keeps it (Stich et al., arXiv 1809.07599, algorithm 1). The squared error of an array is at
    most (1 - k / size) times its squared norm. Of equal magnitudes the first is taken.

    Args:
        fraction: the share that is sent, as its decimal digits say; above 0 and at most 1. A number takes 4 bytes for
            its place beside its own.

    Raises:
        UsageError: `fraction` is out of range.
    """

    name = "top_k"

    fraction: float = 0.1

    def __post_init__(self):
        fraction = real("fraction", self.fraction, "a number above 0 and at most 1", above=0.0)
        if fraction > 1:
            raise UsageError(f"fraction must be a number above 0 and at most 1, not {self.fraction!r}")
        keep(self, fraction=fraction)

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return `Sparse` for each array of floats."""

        def leaf(_: int, array: Any) -> Sparse:
            row = array.reshape(-1)
            indices = jax.lax.top_k(jnp.abs(row), self._count(array))[1].astype(jnp.int32)
            return Sparse(indices, row[indices])

        return over_floats(leaf, jax.tree.map(jnp.asarray, tree)), memory

    def decode(self, body: Body, like: Any) -> Any:
        """Return the values at their places, and 0 elsewhere."""

        def leaf(_: int, want: Any, sparse: Sparse) -> Any:
            xp = namespace(sparse.values)
            row = xp.zeros(math.prod(want.shape), sparse.values.dtype)
            if xp is np:
                row[sparse.indices] = sparse.values
            else:
                row = row.at[sparse.indices].set(sparse.values)
            return row.reshape(want.shape)

        return over_floats(leaf, like, body)

    def body_like(self, like: Any) -> Any:
        """Return the shapes of `Sparse` for each array of floats."""

        def leaf(_: int, want: Any) -> Sparse:
            shape = (self._count(want),)
            return Sparse(jax.ShapeDtypeStruct(shape, np.int32), jax.ShapeDtypeStruct(shape, want.dtype))

        return over_floats(leaf, jax.tree.map(shape_of, like))

    def check_values(self, body: Body, like: Any) -> None:
        """Refuse a place outside the array, and one that is given twice."""

        def leaf(_: int, want: Any, sparse: Sparse) -> None:
            size, places = math.prod(want.shape), sparse.indices
            if ((places < 0) | (places >= size)).any():
                wrong = int(places[(places < 0) | (places >= size)][0])
                raise DataError(f"not a message of {self}: an index must be from 0 to {size - 1}, not {wrong}")
            if len(np.unique(places)) < len(places):
                raise DataError(f"not a message of {self}: an index is given twice")

        over_floats(leaf, like, body)

    def _count(self, array: Any) -> int:
        # In fractions: 0.07 * 100 is 7.000... in floats, and the next whole number would be 8.
        return math.ceil(Fraction(repr(self.fraction)) * math.prod(array.shape))
