"""Metrics: (predictions, y) -> one value per example; evaluation takes their means.

Half-precision predictions are compared in float32.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from fedmeta._precision import differences

AnyArray = Array | np.ndarray


def accuracy(predictions: Float[AnyArray, "n *k classes"], y: Integer[AnyArray, "n *k"]) -> Float[Array, " n"]:
    """1.0 where the largest logit is the class, else 0.0, also where a logit is NaN; the mean over any axes between."""
    known = ~jnp.isnan(predictions).any(axis=-1)
    predicted = jnp.argmax(predictions, axis=-1)
    hits = (known & (predicted == jnp.asarray(y).astype(predicted.dtype))).astype(jnp.float32)
    return hits.reshape(hits.shape[0], -1).mean(axis=1)


def absolute_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """The absolute error, the mean over all axes but the first."""
    return jnp.abs(differences(predictions, y)).mean(axis=1)


def squared_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """The squared error (not halved), the mean over all axes but the first."""
    return jnp.square(differences(predictions, y)).mean(axis=1)
