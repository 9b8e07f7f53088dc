"""The multi-layer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from fedmeta import losses
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.models.layers import dense, dense_init


def mlp(
    sizes: Sequence[int],
    *,
    loss: Callable[[Any, Any], Any] = losses.softmax_cross_entropy,
    metrics: Any = None,
    activation: Callable[[Any], Any] = jax.nn.relu,
) -> Model:
    """Return a multi-layer perceptron on flattened inputs.

    Args:
        sizes: the inputs, each hidden layer's units, and the outputs: `(64, 32, 10)` has one hidden layer.
        loss: as in `Model`; `fm.losses.squared_error` makes a regression.
        metrics: as in `Model`.
        activation: after every layer but the last.

    Raises:
        UsageError: fewer than two sizes, or one that is not positive.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise UsageError(f"a perceptron needs at least an input and an output size, all positive, not {tuple(sizes)}")

    def init(key: Any) -> Any:
        layers = list(pairwise(sizes))
        gains = [2.0] * (len(layers) - 1) + [1.0]
        keys = jax.random.split(key, len(layers))
        return [dense_init(k, a, b, gain) for k, (a, b), gain in zip(keys, layers, gains, strict=True)]

    def apply(params: Any, x: Any) -> jax.Array:
        x = jnp.asarray(x, params[0]["weight"].dtype).reshape(len(x), -1)
        for layer in params[:-1]:
            x = activation(dense(layer, x))
        return dense(params[-1], x)

    return Model(init, apply, loss, metrics, head=(f"{len(sizes) - 2}/*",))
