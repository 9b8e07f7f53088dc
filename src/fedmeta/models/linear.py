"""Softmax regression."""

from typing import Any

import jax
import jax.numpy as jnp

from fedmeta.model import Model
from fedmeta.models.layers import dense


def softmax_regression(num_features: int, num_classes: int) -> Model:
    """Return softmax (multinomial logistic) regression on flattened inputs, started at zero.

    Args:
        num_features: the numbers in one input, after flattening.
        num_classes: the number of classes.
    """

    def init(key: Any) -> Any:
        return {"weight": jnp.zeros((num_features, num_classes)), "bias": jnp.zeros(num_classes)}

    def apply(params: Any, x: Any) -> jax.Array:
        x = jnp.asarray(x, params["weight"].dtype)
        return dense(params, x.reshape(x.shape[0], -1))

    return Model(init, apply)
