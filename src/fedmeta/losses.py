"""Losses: (predictions, y) -> one value per example. Half-precision predictions are compared in float32."""

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from fedmeta._precision import differences, widened

AnyArray = Array | np.ndarray


def softmax_cross_entropy(
    predictions: Float[AnyArray, "n *k classes"], y: Integer[AnyArray, "n *k"]
) -> Float[Array, " n"]:
    """Cross-entropy in nats of logits against integer classes; the mean over any axes between."""
    values = optax.softmax_cross_entropy_with_integer_labels(widened(predictions), jnp.asarray(y))
    return values.reshape(values.shape[0], -1).mean(axis=1)


def candidate_cross_entropy(
    predictions: Float[AnyArray, "n classes"], y: Integer[AnyArray, " n"]
) -> Float[Array, " n"]:
    """Cross-entropy in nats among all classes but the last, which stands for what no answer can be; its loss is 0."""
    candidates = predictions.shape[-1] - 1
    known = jnp.asarray(y) < candidates
    values = softmax_cross_entropy(predictions[:, :-1], jnp.minimum(jnp.asarray(y), candidates - 1))
    return jnp.where(known, values, 0.0)


def huber(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."], delta: float = 1.0) -> Float[Array, " n"]:
    """Half the squared error up to `delta`, and beyond it the line that goes on from there (Huber, 1964).

    The mean over all axes but the first.
    """
    return optax.huber_loss(differences(predictions, y), delta=delta).mean(axis=1)


def squared_error(predictions: Float[AnyArray, "n ..."], y: Float[AnyArray, "n ..."]) -> Float[Array, " n"]:
    """Half the squared error, (prediction - y)^2 / 2, the mean over all axes but the first."""
    return (0.5 * jnp.square(differences(predictions, y))).mean(axis=1)
