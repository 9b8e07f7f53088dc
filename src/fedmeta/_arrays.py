"""For JAX and NumPy alike: sums in a fixed order and a type that is wide enough, and norms.

On NumPy every operation here is one that IEEE 754 rounds correctly, in an order that depends only on the shapes, so
the result does not depend on the library or the processor.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta.errors import UsageError

LANES = 1024
"""How many partial sums a sum over coordinates has on NumPy."""


def namespace(array: Any) -> Any:
    """Return the module of an array's functions: `jax.numpy`, for traced arrays too, or `numpy`."""
    return array.__array_namespace__()


def is_float(array: Any) -> bool:
    """Return whether an array (or anything with a dtype) holds real floats, those of half precision among them."""
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def wide_type(array: Any) -> Any:
    """Return the type in which an array of floats is summed: its own, and float32 for half precision."""
    return np.dtype(np.float32) if np.dtype(array.dtype).itemsize < 4 else np.dtype(array.dtype)


def wide(array: Any) -> Any:
    """Return an array of floats in the type in which it is summed.

    Raises:
        UsageError: it does not hold real floats.
    """
    if not is_float(array):
        raise UsageError(f"only floats can be aggregated, not an array of {array.dtype} and shape {array.shape}")
    return array.astype(wide_type(array))


def widest(arrays: list[Any]) -> Any:
    """Return the type that holds sums over all of these arrays of floats."""
    return np.result_type(*[wide_type(array) for array in arrays]) if arrays else np.dtype(np.float32)


def sum_over_clients(array: Any) -> Any:
    """Return the sum [n, ...] -> [...]; on NumPy in the order of the clients."""
    if namespace(array) is not np:
        return array.sum(axis=0)
    total = np.zeros(array.shape[1:], array.dtype)
    for row in array:
        total += row
    return total


def sum_over_coordinates(array: Any) -> Any:
    """Return the sum [n, d] -> [n].

    NumPy's own order depends on the processor. There, coordinate i goes to lane i % LANES, each lane in order, and
    then the lanes in order.
    """
    if namespace(array) is not np:
        return array.sum(axis=1)
    lanes = np.zeros((len(array), LANES), array.dtype)
    for first in range(0, array.shape[1], LANES):
        block = array[:, first : first + LANES]
        lanes[:, : block.shape[1]] += block
    return np.cumsum(lanes, axis=1)[:, -1]


def sum_of_squares(arrays: list[Any], dtype: Any) -> Any:
    """Return, for each client, the sum of squares over arrays [n, ...] of floats -> [n] of `dtype`."""
    sums = [
        sum_over_coordinates((array * array).reshape(array.shape[0], math.prod(array.shape[1:]))).astype(dtype)
        for array in arrays
    ]
    return sum(sums[1:], sums[0])


def clipped(tree: Any, norm: float) -> Any:
    """Return a tree, scaled down if its Euclidean norm over all floats is above `norm`; other arrays pass unchanged.

    Floats of half precision come as float32. A tree with a norm of at most `norm` is left as it is; one with values
    that are not finite stays one.
    """
    leaves, structure = jax.tree.flatten(tree)
    floats = {i: wide(leaf) for i, leaf in enumerate(leaves) if is_float(leaf) and math.prod(leaf.shape) > 0}
    if not floats:
        return tree
    dtype = widest(list(floats.values()))
    xp = namespace(next(iter(floats.values())))
    with np.errstate(over="ignore", invalid="ignore"):
        # Relative to the largest value, so that no square overflows: a very long tree is scaled down, not lost.
        largest = xp.max(xp.stack([xp.max(xp.abs(leaf)).astype(dtype) for leaf in floats.values()]))
        scale = xp.where(largest > 0, largest, 1.0)
        relative = {i: leaf / scale.astype(leaf.dtype) for i, leaf in floats.items()}
        root = xp.sqrt(sum_of_squares([leaf[None] for leaf in relative.values()], dtype)[0])
        longer = scale * root > norm
        factor = norm / xp.where(longer, root, 1.0)
        for i, leaf in floats.items():
            leaves[i] = xp.where(longer, relative[i] * factor.astype(leaf.dtype), leaf)
    return jax.tree.unflatten(structure, leaves)
