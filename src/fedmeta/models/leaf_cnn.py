"""The convolutional network for images of 28 x 28 (LEAF's for FEMNIST, arXiv 1812.01097; 1802.07876, section 4)."""

from typing import Any

import jax
import jax.numpy as jnp

from fedmeta.model import Model
from fedmeta.models.layers import convolution, dense, dense_init, max_pool


def leaf_cnn(num_classes: int = 62, *, filters: tuple[int, int] = (32, 64), hidden: int = 2048) -> Model:
    """Return the paper's network for images [28, 28, 1].

    Two 5 x 5 convolutions, each with ReLU and 2 x 2 max pooling, a dense layer with ReLU, and the classes:
    6,603,710 parameters for 62 classes.

    Args:
        num_classes: the number of classes.
        filters: the filters of the two convolutions.
        hidden: the units of the dense layer.
    """

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 4)
        return {
            "conv1": dense_init(keys[0], 25, filters[0], 2.0),
            "conv2": dense_init(keys[1], 25 * filters[0], filters[1], 2.0),
            "dense": dense_init(keys[2], 49 * filters[1], hidden, 2.0),
            "classes": dense_init(keys[3], hidden, num_classes),
        }

    def apply(params: Any, x: Any) -> jax.Array:
        x = jnp.asarray(x, params["dense"]["weight"].dtype)
        # The maximum and ReLU commute, and after pooling there are four times fewer values to rectify.
        x = jax.nn.relu(max_pool(convolution(params["conv1"], x, 5)))
        x = jax.nn.relu(max_pool(convolution(params["conv2"], x, 5)))
        x = jax.nn.relu(dense(params["dense"], x.reshape(x.shape[0], -1)))
        return dense(params["classes"], x)

    return Model(init, apply, head=("classes/*",))
