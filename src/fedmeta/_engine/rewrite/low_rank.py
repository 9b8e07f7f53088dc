"""Matrices that are sums of thin products, kept as their factors: `base + left^T right`, never formed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

SMALLEST = 1024
"""Smaller matrices are formed, because their factors would save nothing."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank:
    """The matrix `base + sum_k lefts[k]^T rights[k]`, shape [rows, columns].

    A gradient step on a dense layer changes its matrix by a product whose inner dimension is the number of
    examples; for a client's few examples the two factors are far smaller than the matrix.

    Args:
        base: shape [rows, columns], or None for zeros.
        lefts: each of shape [rank, rows].
        rights: each of shape [rank, columns], the ranks those of `lefts`.
    """

    base: Any
    lefts: tuple[Any, ...]
    rights: tuple[Any, ...]

    @property
    def aval(self) -> jax.ShapeDtypeStruct:
        """The shape and type of the matrix."""
        return jax.ShapeDtypeStruct((self.lefts[0].shape[1], self.rights[0].shape[1]), self.lefts[0].dtype)

    @property
    def size(self) -> int:
        """How many numbers are stored."""
        return sum(part.size for part in (*self.lefts, *self.rights))

    def factors(self) -> tuple[jax.Array, jax.Array]:
        """Return all terms as one pair [rank, rows] and [rank, columns]."""
        return _joined(self.lefts), _joined(self.rights)

    def dense(self) -> jax.Array:
        """Return the matrix as an array."""
        left, right = self.factors()
        product = lax.dot_general(left, right, (((0,), (0,)), ((), ())))
        return product if self.base is None else self.base + product

    def transposed(self) -> "LowRank":
        """Return the transposed matrix."""
        return LowRank(None if self.base is None else self.base.T, self.rights, self.lefts)

    def scaled(self, factor: Any) -> "LowRank":
        """Return the matrix times a number."""
        base = None if self.base is None else self.base * factor
        return LowRank(base, self.lefts, tuple(right * factor for right in self.rights))

    def plus(self, other: Any) -> "LowRank":
        """Return the sum with an array or a factored matrix."""
        if not isinstance(other, LowRank):
            return LowRank(other if self.base is None else self.base + other, self.lefts, self.rights)
        bases = [base for base in (self.base, other.base) if base is not None]
        return LowRank(
            sum(bases[1:], bases[0]) if bases else None, self.lefts + other.lefts, self.rights + other.rights
        )

    def times(self, other: Any, axis: int, other_axis: int, product: Any) -> jax.Array:
        """Contract `axis` with an axis of an array; the matrix's other axis comes first in the result."""
        near, far = self.factors() if axis == 0 else self.factors()[::-1]
        inner = product(near, other, (((1,), (other_axis,)), ((), ())))
        outer = product(far, inner, (((0,), (0,)), ((), ())))
        if self.base is None:
            return outer
        return outer + product(self.base, other, (((axis,), (other_axis,)), ((), ())))

    def times_after(self, other: Any, axis: int, other_axis: int, product: Any) -> jax.Array:
        """Contract as `times` does; the matrix's other axis comes last in the result."""
        near, far = self.factors() if axis == 0 else self.factors()[::-1]
        inner = product(other, near, (((other_axis,), (1,)), ((), ())))
        outer = product(inner, far, (((inner.ndim - 1,), (0,)), ((), ())))
        if self.base is None:
            return outer
        return outer + product(other, self.base, (((other_axis,), (axis,)), ((), ())))


def worthwhile(rows: int, columns: int, rank: int) -> bool:
    """Return whether factors of that rank are smaller than the matrix itself."""
    return rows * columns >= SMALLEST and rank * (rows + columns) <= rows * columns


def is_low_rank(value: Any) -> bool:
    """Return whether a value is a `LowRank` matrix."""
    return isinstance(value, LowRank)


def dense(value: Any) -> Any:
    """Return the array behind a value that may be low-rank."""
    return value.dense() if isinstance(value, LowRank) else value


def stacked_rows(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return factors as matrices [rank, ...], all axes but the last merged: a sum over clients has a larger rank."""
    return tuple(part.reshape(-1, part.shape[-1]) for part in parts)


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
