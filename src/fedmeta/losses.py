"""Losses: (predictions, y) -> one value per example."""

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

AnyArray = Array | np.ndarray


def softmax_cross_entropy(predictions: Float[AnyArray, "n *k classes"], y: Int[AnyArray, "n *k"]) -> Float[Array, " n"]:
    """Cross-entropy in nats of logits against integer classes; the mean over any axes between."""
    values = optax.softmax_cross_entropy_with_integer_labels(predictions, y)
    return values.reshape(values.shape[0], -1).mean(axis=1)


def squared_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """Half the squared error, (prediction - y)^2 / 2, the mean over all axes but the first."""
    values = 0.5 * jnp.square(predictions.reshape(predictions.shape[0], -1) - y.reshape(y.shape[0], -1))
    return values.mean(axis=1)
