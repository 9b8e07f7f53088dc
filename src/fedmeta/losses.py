"""Losses: (predictions, y) -> one value per example."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def softmax_cross_entropy(
    predictions: Float[Array, "n *k classes"], y: Int[Array, "n *k"]
) -> Float[Array, " n"]:
    """Cross-entropy in nats of logits against integer classes; the mean over any axes between."""
    values = optax.softmax_cross_entropy_with_integer_labels(predictions, y)
    return values.reshape(values.shape[0], -1).mean(axis=1)


def squared_error(predictions: Float[Array, "n ..."], y: Float[Array, "n ..."]) -> Float[Array, " n"]:
    """Half the squared error, (prediction - y)^2 / 2, the mean over all axes but the first."""
    values = 0.5 * jnp.square(predictions.reshape(predictions.shape[0], -1) - y.reshape(y.shape[0], -1))
    return values.mean(axis=1)
