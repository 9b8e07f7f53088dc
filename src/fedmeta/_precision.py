"""Half-precision numbers are widened before they are summed, squared or compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def widened(array: Any) -> Float[Array, "..."]:
    """Return the array as float32 where it is anything but float32 or float64."""
    array = jnp.asarray(array)
    wide = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize >= 4
    return array if wide else array.astype(jnp.float32)


def differences(left: Any, right: Any) -> Float[Array, "n numbers"]:
    """Return left - right, all axes but the first as one, in float32 or in the wider of the two types."""
    left, right = (part.reshape(part.shape[0], -1) for part in (widened(left), widened(right)))
    dtype = left.dtype if left.dtype.itemsize >= right.dtype.itemsize else right.dtype
    return left.astype(dtype) - right.astype(dtype)


def doubles() -> bool:
    """Return whether JAX has float64 here and now, on which the types of its programs depend."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64
