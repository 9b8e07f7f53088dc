"""Layers that the ready-made networks share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def dense_init(key: Any, inputs: int, outputs: int, gain: float = 1.0) -> dict[str, Float[Array, "..."]]:
    """Return weights drawn from a normal of deviation sqrt(gain / inputs), shape [inputs, outputs], and zero biases.

    A gain of 2 keeps the scale through a ReLU (He et al., arXiv 1502.01852), a gain of 1 without one.
    """
    weight = jax.random.normal(key, (inputs, outputs)) * math.sqrt(gain / inputs)
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def dense(params: Any, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
    """Return `x @ weight + bias`."""
    return _with_bias(x @ params["weight"], params["bias"])


def convolution(params: Any, x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h w d"]:
    """Convolve with `size` x `size` kernels, padded to the same height and width.

    The weights have shape [size * size * c, d], in the order height, width, channels.
    """
    kernel = params["weight"].reshape(size, size, x.shape[-1], -1)
    numbers = ("NHWC", "HWIO", "NHWC")
    outputs = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return _with_bias(outputs, params["bias"])


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Return the maxima of 2 x 2 squares; height and width must be even."""
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def _with_bias(x: Any, bias: Any) -> Float[Array, "... outputs"]:
    # Broadcast explicitly, because JAX can be set to refuse it otherwise (jax_numpy_rank_promotion).
    return x + jnp.broadcast_to(bias, x.shape)
