"""Counts parameters, and FLOPs from the program of a client's update."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


class Uncountable(ValueError):
    """A program has a loop whose length is known only when it runs."""


def num_parameters(tree: Any) -> int:
    """Return how many numbers a pytree of arrays holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Return the floating-point operations of one call, counted from the traced program.

    Matrix products and convolutions count, two operations per multiply-add; elementwise work does not, as
    is usual in the field. A loop counts its body as often as it runs (a compiler's own figure may count it
    once).

    Args:
        function: traceable by JAX.
        args: arrays, or anything with a shape and a dtype in their place.

    Raises:
        Uncountable: the program has a loop whose length is known only when it runs.
    """
    return count_flops_of(jax.make_jaxpr(function)(*args))


def count_flops_of(program: core.ClosedJaxpr) -> int:
    """Return what `count_flops` does, for a program that has been traced."""
    return _count(program.jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (left, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in left)
    if name == "conv_general_dilated":
        return _count_convolution(equation)
    if name == "while":
        inner = _count(params["body_jaxpr"].jaxpr) + _count(params["cond_jaxpr"].jaxpr)
        if inner:
            raise Uncountable("cannot count the FLOPs of a loop whose length is known only when it runs")
        return 0
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    times = params["length"] if name == "scan" else 1
    return times * sum(_count(inner) for inner in _inner_programs(params))


def _count_convolution(equation: Any) -> int:
    """Count a convolution, without the products with zeros that padding or dilation puts between the numbers.

    Along an axis, each pair of the two shortest of input, kernel and output meets once. So a derivative, in which the
    three are exchanged, costs as much as the convolution.
    """
    numbers = equation.params["dimension_numbers"]
    left, kernel = (variable.aval.shape for variable in equation.invars)
    outputs = equation.outvars[0].aval.shape
    pairs = 1
    for places in zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True):
        sizes = [shape[place] for shape, place in zip((left, kernel, outputs), places, strict=True)]
        pairs *= math.prod(sorted(sizes)[:2])
    batch, channels = (outputs[place] for place in numbers.out_spec[:2])
    return 2 * pairs * batch * channels * kernel[numbers.rhs_spec[1]]


def _inner_programs(params: dict[str, Any]) -> list[core.Jaxpr]:
    """Return the programs that an equation calls (a jitted function, a scan's body, a custom derivative)."""
    found = []
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, core.Jaxpr):
            found.append(value)
    return found
