"""Finds what is worth rewriting in a traced program: thin products, sums of them, matrices used by their rows."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from fedmeta._engine.rewrite.low_rank import worthwhile

CHECKPOINTS = ("checkpoint", "remat2")
"""The operations whose inner program is computed again when it is differentiated."""


@dataclass(frozen=True)
class Sum:
    """A product that a loop adds to a sum that it carries.

    Args:
        product: the operation of the product.
        equations: what is removed when it is taken after the loop: the product, its transposition, the addition.
        permutation: of the product's axes before it is added, if any.
        result: the variable of the sum.
    """

    product: Any
    equations: tuple[Any, ...]
    permutation: tuple[int, ...] | None
    result: Any


def find_sums(jaxpr: Any, consts: int, count: int) -> dict[int, Sum]:
    """Return, by position among a loop's carries, the sums of products that may be taken after it."""
    makers = {variable: equation for equation in jaxpr.eqns for variable in equation.outvars}
    uses: dict[Any, int] = {}
    for variable in (*(v for equation in jaxpr.eqns for v in equation.invars), *jaxpr.outvars):
        if not isinstance(variable, core.Literal):
            uses[variable] = uses.get(variable, 0) + 1
    found = {}
    for place in range(count):
        before, after = jaxpr.invars[consts + place], jaxpr.outvars[place]
        addition = None if isinstance(after, core.Literal) else makers.get(after)
        if addition is None or addition.primitive.name not in ("add", "add_any") or uses[after] > 1:
            continue
        others = [variable for variable in addition.invars if variable is not before]
        if len(others) != 1 or uses[before] != 1 or isinstance(others[0], core.Literal):
            continue
        equation, chain, permutation = makers.get(others[0]), [addition], None
        if equation is not None and equation.primitive.name == "transpose" and uses[others[0]] == 1:
            chain.append(equation)
            permutation = tuple(equation.params["permutation"])
            others = equation.invars
            equation = makers.get(others[0])
        if equation is None or equation.primitive.name != "dot_general" or uses[others[0]] != 1:
            continue
        if is_thin(equation):
            found[place] = Sum(equation, (*chain, equation), permutation, after)
    return found


def contracted_by_rows(jaxpr: Any, count: int) -> set[int]:
    """Return which of a loop's first `count` inputs are matrices that a product contracts along their rows."""
    places = {variable: place for place, variable in enumerate(jaxpr.invars[:count])}
    found = set()
    for equation in jaxpr.eqns:
        right = equation.invars[1] if equation.primitive.name == "dot_general" else None
        if right is None or isinstance(right, core.Literal) or right not in places:
            continue
        (_, contracted), (batch, _) = equation.params["dimension_numbers"]
        if right.aval.ndim == 2 and contracted == (1,) and not batch:
            found.add(places[right])
    return found


def _rank(equation: Any) -> int | None:
    """Return the inner dimension of a product of two matrices, or None for any other product."""
    contracted, batch = equation.params["dimension_numbers"]
    left, right = (variable.aval for variable in equation.invars)
    if batch[0] or len(contracted[0]) != 1 or not left.ndim == right.ndim == 2:
        return None
    return left.shape[contracted[0][0]]


def is_thin(equation: Any, repeats: int = 1) -> bool:
    """Return whether a product is one of two thin matrices that is worth leaving in its factors."""
    rank, aval = _rank(equation), equation.outvars[0].aval
    floating = jnp.issubdtype(aval.dtype, jnp.floating)
    alike = all(variable.aval.dtype == aval.dtype for variable in equation.invars)
    return rank is not None and floating and alike and worthwhile(aval.shape[0], aval.shape[1], repeats * rank)


def holds_thin(jaxpr: Any, repeats: int) -> bool:
    """Return whether a loop's body has products that are worth leaving in their factors, over all steps."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general" and is_thin(equation, repeats):
            return True
        if equation.primitive.name == "scan":
            if holds_thin(equation.params["jaxpr"].jaxpr, repeats * equation.params["length"]):
                return True
        elif equation.primitive.name in CHECKPOINTS:
            if holds_thin(equation.params["jaxpr"], repeats):
                return True
        elif (inner := called(equation)) is not None and holds_thin(inner.jaxpr, repeats):
            return True
    return False


def operations(jaxpr: Any) -> int:
    """Return how many operations a program has, including those in loops and in called programs."""
    count = len(jaxpr.eqns)
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
                if isinstance(inner, core.Jaxpr):
                    count += operations(inner)
    return count


def called(equation: Any) -> Any:
    """Return the program that an operation calls once, or None."""
    if equation.primitive.name in ("jit", "pjit", "closed_call", "core_call"):
        return equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    if equation.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        return equation.params.get("call_jaxpr") or equation.params["fun_jaxpr"]
    return None
