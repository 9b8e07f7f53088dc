"""Convolutions in forms that a CPU computes fast, whatever form differentiation gave them."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Form = Literal["xla", "im2col"]


class _Plain(NamedTuple):
    """A two-dimensional convolution with stride 1 between arrays in the usual order.

    Args:
        x: shape [n, height, width, c].
        kernel: shape [kernel height, kernel width, c, d].
        padding: before and after, for height and width.
    """

    x: Any
    kernel: Any
    padding: tuple[tuple[int, int], ...]


class _How(NamedTuple):
    """How the products of a convolution are computed.

    Args:
        form: the library's convolution, or patches times a matrix.
        product: multiplies matrices, as `lax.dot_general` does.
        precision: of the library's convolution.
        kind: the type of its sums; None for that of its factors.
    """

    form: Form
    product: Any
    precision: Any
    kind: Any


def rewritable(params: dict[str, Any]) -> bool:
    """Return whether the convolution is a plain one: two-dimensional, stride 1, no dilation, no groups."""
    ones = (1, 1)
    return (
        tuple(params["window_strides"]) == ones
        and tuple(params["lhs_dilation"]) == ones
        and tuple(params["rhs_dilation"]) == ones
        and params["feature_group_count"] == params["batch_group_count"] == 1
    )


def convolve(lhs: Any, rhs: Any, params: dict[str, Any], form: Form, product: Any) -> jax.Array:
    """Return `lax.conv_general_dilated(lhs, rhs, **params)` for a rewritable convolution, computed in a fast form.

    A derivative in the kernel slides one image over another: it is computed as patches times a matrix. A
    derivative of such a derivative has a kernel that is larger than the image, so the two are exchanged.
    """
    numbers = params["dimension_numbers"]
    how = _How(form, product, params["precision"], params["preferred_element_type"])
    x = _ordered(lhs, numbers.lhs_spec, "nchw", "nhwc")
    kernel = _ordered(rhs, numbers.rhs_spec, "dchw", "hwcd")
    padding = tuple(tuple(pair) for pair in params["padding"])
    outputs = [s + sum(p) - k + 1 for s, p, k in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)]
    if min(k - s for k, s in zip(kernel.shape, x.shape[1:3], strict=False)) > 0:
        result = _exchanged(x, kernel, padding, outputs, how)
    elif min(k - o for k, o in zip(kernel.shape, outputs, strict=False)) > 0:
        result = _kernel_gradient(x, kernel, padding, outputs, how)
    else:
        result = _forward(_Plain(x, kernel, padding), how)
    return _back(result, numbers.out_spec)


def _forward(plain: _Plain, how: _How) -> jax.Array:
    x, kernel, padding = plain
    if how.form == "xla":
        return _library(x, kernel, padding, how)
    height, width, channels, filters = kernel.shape
    padded = _padded(x, padding)
    h, w = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    # One axis after the other: height + width slices to compile in place of height * width.
    rows = jnp.concatenate([padded[:, :, j : j + w] for j in range(width)], axis=-1)
    patches = jnp.concatenate([rows[:, i : i + h] for i in range(height)], axis=-1)
    return how.product(patches, kernel.reshape(height * width * channels, filters), (((3,), (0,)), ((), ())))


def _exchanged(x: Any, kernel: Any, padding: Any, outputs: list[int], how: _How) -> jax.Array:
    """Slide x over the kernel instead, and reverse the result."""
    before = [o - 1 - p[0] for o, p in zip(outputs, padding, strict=True)]
    after = [o - 1 - b + s - k for o, b, s, k in zip(outputs, before, x.shape[1:3], kernel.shape[:2], strict=True)]
    image, window = kernel.transpose(3, 0, 1, 2), x.transpose(1, 2, 3, 0)
    # Reversing the small window costs nothing; differentiation has reversed the image, and this undoes it.
    plain = _Plain(jnp.flip(image, (1, 2)), jnp.flip(window, (0, 1)), tuple(zip(after, before, strict=True)))
    return _forward(plain, how).transpose(3, 1, 2, 0)


def _kernel_gradient(x: Any, kernel: Any, padding: Any, outputs: list[int], how: _How) -> jax.Array:
    """Contract each shift of x with the kernel: [n, h, w, c] and [kh, kw, c, d] -> [n, *outputs, d]."""
    if how.form == "xla" and x.shape[0] > 8:
        x, kernel = lax.optimization_barrier((x, kernel))
        return lax.optimization_barrier(_library(x, kernel, padding, how))
    images, slid = x.transpose(3, 1, 2, 0), kernel.transpose(2, 0, 1, 3)
    if images.shape[-1] <= slid.shape[-1]:
        return _shifted(images, slid, padding, outputs, how.product).transpose(2, 0, 1, 3)
    # Shifting the other one back gives the same; with fewer channels the patches are smaller.
    back = [o - 1 - p[0] for o, p in zip(outputs, padding, strict=True)]
    sizes = zip(outputs, back, images.shape[1:3], slid.shape[1:3], strict=True)
    ahead = [o - 1 - b + i - s for o, b, i, s in sizes]
    found = _shifted(slid, images, tuple(zip(back, ahead, strict=True)), outputs, how.product)
    return jnp.flip(found, (0, 1)).transpose(3, 0, 1, 2)


def _shifted(moved: Any, fixed: Any, padding: Any, outputs: list[int], product: Any) -> jax.Array:
    """Return, for each shift, [m, h, w, a] contracted with [m, kh, kw, b]: [*outputs, a, b]."""
    padded = _padded(moved, padding)
    height, width = fixed.shape[1:3]
    rows = []
    for i in range(outputs[0]):
        shifts = [padded[:, i : i + height, j : j + width] for j in range(outputs[1])]
        patches = shifts[0] if len(shifts) == 1 else jnp.concatenate(shifts, axis=-1)
        # In this order the smaller of the two is transposed, and only once for all rows.
        contracted = product(fixed, patches, (((0, 1, 2), (0, 1, 2)), ((), ())))
        rows.append(contracted.reshape(-1, outputs[1], moved.shape[-1]))
    return jnp.stack(rows).transpose(0, 2, 3, 1)


def _library(x: Any, kernel: Any, padding: Any, how: _How) -> jax.Array:
    """Convolve by the library; a batch of clients with different kernels is computed one client after another."""

    @jax.custom_batching.custom_vmap
    def one(x: Any, kernel: Any) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=how.precision,
            preferred_element_type=how.kind,
        )

    @one.def_vmap
    def _several(size: int, batched: list[bool], x: Any, kernel: Any) -> tuple[Any, bool]:
        if jax.default_backend() != "cpu":
            # Such devices are fast on a batch of kernels.
            axes = tuple(0 if there else None for there in batched)
            return jax.vmap(one.fun, in_axes=axes)(x, kernel), True
        if not batched[1]:
            return one(x.reshape(-1, *x.shape[2:]), kernel).reshape(size, x.shape[1], *_shape(x, kernel, padding)), True
        pairs = [(x[i] if batched[0] else x, kernel[i]) for i in range(size)]
        return jnp.stack([one(*pair) for pair in pairs]), True

    return one(x, kernel)


def _padded(x: Any, padding: Any) -> jax.Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pair, 0) for pair in padding), (0, 0, 0)))


def _shape(x: Any, kernel: Any, padding: Any) -> tuple[int, ...]:
    sizes = zip(x.shape[-3:-1], padding, kernel.shape[:2], strict=True)
    return *(s + sum(p) - k + 1 for s, p, k in sizes), kernel.shape[3]


def _ordered(array: Any, spec: Any, names: str, order: str) -> Any:
    """Return the array with its axes in `order`; `spec` gives the place of each of `names`."""
    return array.transpose([spec[names.index(name)] for name in order])


def _back(result: Any, spec: Any) -> Any:
    """Return [n, h, w, d] in the order that `spec` gives: the places of n, d, h and w."""
    places = (spec[0], spec[2], spec[3], spec[1])
    return result.transpose([places.index(axis) for axis in range(4)])
