"""Metrics: (predictions, y) -> one value per example; evaluation takes their means.

Half-precision predictions are compared in float32.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class top:
    """The metric that is 1.0 where the class is among the `count` with the largest logits, else 0.0.

    Of classes with equal logits, that of the lower number counts as larger. `top(1)` is the accuracy. A logit that is
    NaN makes it 0.0.
    """

    count: int

    def __call__(self, predictions: Float[AnyArray, "n classes"], y: Integer[AnyArray, " n"]) -> Float[Array, " n"]:
        """Return one value for each example."""
        logits, y = jnp.asarray(predictions), jnp.asarray(y)
        own = jnp.take_along_axis(logits, y[:, None], axis=1)
        before = (logits > own) | ((logits == own) & (jnp.arange(logits.shape[1]) < y[:, None]))
        known = ~jnp.isnan(logits).any(axis=1)
        return (known & (before.sum(axis=1) < self.count)).astype(jnp.float32)


def absolute_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """The absolute error, the mean over all axes but the first."""
    return jnp.abs(differences(predictions, y)).mean(axis=1)


def squared_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """The squared error (not halved), the mean over all axes but the first."""
    return jnp.square(differences(predictions, y)).mean(axis=1)
