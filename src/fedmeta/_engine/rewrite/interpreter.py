"""Computes a traced program with some of its operations in another form, and the same result.

An algorithm is written for one client, as in its paper, and JAX differentiates it. The engine is given the traced
program of that client's update, derivatives included. This module walks through it, operation by operation, and
re-emits it, so that no algorithm and no model needs to know of any of this:

- a product of few examples, such as a dense layer's gradient, stays in its factors (`LowRank`) through scaling,
  sums and transposition, up to the products with it;
- a product that a loop adds up, such as a recurrent layer's gradient, is taken once, after the loop; a matrix that it
  needs transposed in each step is transposed once, before it;
- a convolution takes a form that the machine computes fast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from fedmeta import accounting
from fedmeta._engine.rewrite.analysis import (
    CHECKPOINTS,
    Sum,
    called,
    contracted_by_rows,
    find_sums,
    holds_thin,
    is_thin,
    operations,
)
from fedmeta._engine.rewrite.convolution import Form, convolve, rewritable
from fedmeta._engine.rewrite.low_rank import LowRank, dense

UNROLLED = (800, 4000)
"""Operations that a program's loops may become where their steps are written out: each costs time to compile.

The first for any program; one more for each million floating-point operations of the loop, up to the second.
"""


@dataclass(frozen=True)
class Options:
    """The forms that a program's operations are given.

    Args:
        low_rank: leave products of few examples in their factors.
        convolution: "xla" or "im2col" (patches times a matrix); None leaves convolutions as they are.
        sums: take a product that a loop adds up once, after the loop.
        products: the type to which the factors of a product are rounded; None leaves them as they are. Sums are
            taken in the type of the result.
    """

    low_rank: bool = True
    convolution: Form | None = "xla"
    sums: bool = True
    products: Any = None


@dataclass(frozen=True)
class _Uniform:
    """One number in place of an array that holds nothing else."""

    value: Any
    aval: jax.ShapeDtypeStruct

    def dense(self) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(self.value, self.aval.dtype), self.aval.shape)

    @property
    def is_zero(self) -> bool:
        return not isinstance(self.value, jax.Array) and bool(self.value == 0)


@dataclass(frozen=True)
class _Stack:
    """The results of the steps of an unrolled loop, not yet stacked."""

    parts: tuple[Any, ...]

    def dense(self) -> jax.Array:
        return jnp.stack([_dense(part) for part in self.parts])


@dataclass(frozen=True)
class _Turned:
    """A matrix whose rows a loop contracts in each step, with its transpose, which is made once before the loop."""

    matrix: Any
    transpose: Any

    def dense(self) -> jax.Array:
        return self.matrix


class Traced(NamedTuple):
    """The operations of a function, for arguments of certain shapes.

    Args:
        program: the operations, on the leaves of the arguments.
        results: the structure of what it returns.
    """

    program: core.ClosedJaxpr
    results: Any


def trace(function: Callable[..., Any], *args: Any) -> Traced:
    """Return the function traced for these arguments, which may be anything with a shape and a dtype."""
    program, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    return Traced(program, jax.tree.structure(shape))


def rewrite(traced: Traced, options: Options) -> Callable[..., Any]:
    """Return the traced function with its operations in the forms that the options name.

    Results that are `LowRank` matrices stay so. The function is not meant to be differentiated: it may contain
    derivatives already.
    """

    def run(*args: Any) -> Any:
        program = traced.program
        results = _Interpreter(options).run(program.jaxpr, program.consts, jax.tree.leaves(args))
        results = [result if isinstance(result, LowRank) else _dense(result) for result in results]
        return jax.tree.unflatten(traced.results, results)

    return run


def primitives(traced: Traced) -> set[str]:
    """Return the names of all operations of a traced function, including those in loops and in called functions."""
    found: set[str] = set()
    waiting = [traced.program.jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            found.add(equation.primitive.name)
            for value in equation.params.values():
                for inner in value if isinstance(value, tuple | list) else [value]:
                    if isinstance(inner, core.ClosedJaxpr):
                        waiting.append(inner.jaxpr)
                    elif isinstance(inner, core.Jaxpr):
                        waiting.append(inner)
    return found


class _Interpreter:
    """Walks a program; each rule returns the operation's results, or None to run it unchanged."""

    def __init__(self, options: Options):
        self.options = options
        self.copies, self.unrolled = 1, 0
        self.rules: dict[str, Callable[[Any, list[Any]], Any]] = {
            "dot_general": self._dot_general,
            "conv_general_dilated": self._convolution,
            "scan": self._scan,
            "broadcast_in_dim": self._broadcast,
            "transpose": self._transpose,
            "mul": self._multiply,
            "div": self._divide,
            "neg": self._negate,
            "add": self._add,
            "add_any": self._add,
            "sub": self._subtract,
            "copy": self._same,
            "convert_element_type": self._convert,
            **dict.fromkeys(CHECKPOINTS, self._checkpoint),
            "cond": self._cond,
            "while": self._while,
        }

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """Return the program's results; some of them may still be in factors."""
        values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, core.Literal) else values[variable]

        def result(variable: Any) -> Any:
            if not isinstance(variable, core.Literal):
                return values[variable]
            aval: Any = variable.aval
            return jnp.asarray(variable.val, aval.dtype)

        for equation in jaxpr.eqns:
            inputs = [read(variable) for variable in equation.invars]
            rule = self.rules.get(equation.primitive.name)
            results = rule(equation, inputs) if rule else None
            if results is None and (inner := called(equation)) is not None:
                results = self.run(inner.jaxpr, inner.consts, inputs)
            if results is None:
                results = self._as_it_is(jaxpr, equation, inputs)
            values.update(zip(equation.outvars, results, strict=True))
        return [result(variable) for variable in jaxpr.outvars]

    def _as_it_is(self, jaxpr: Any, equation: Any, inputs: list[Any]) -> list[Any]:
        given = {
            variable: _dense(value)
            for variable, value in zip(equation.invars, inputs, strict=True)
            if not isinstance(variable, core.Literal)
        }
        alone = jaxpr.replace(
            constvars=[], invars=[*given], outvars=[*equation.outvars], eqns=[equation], effects=equation.effects
        )
        return core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(*given.values())

    def _product(self, like: dict[str, Any]) -> Callable[..., jax.Array]:
        """Return `lax.dot_general` with the precision of an operation, and with the options' rounding."""

        def product(left: Any, right: Any, dimensions: Any) -> jax.Array:
            kind = like.get("preferred_element_type")
            if self._rounds(left):
                kind = left.dtype if kind is None else kind
                left, right = self._narrowed(left), self._narrowed(right)
            return lax.dot_general(
                left, right, dimensions, precision=like.get("precision"), preferred_element_type=kind
            )

        return product

    def _dot_general(self, equation: Any, inputs: list[Any]) -> list[Any]:
        left, right = inputs
        contracted, batch = equation.params["dimension_numbers"]
        product = self._product(equation.params)
        simple = len(contracted[0]) == 1 and not batch[0]
        if simple and isinstance(left, LowRank):
            return [left.times(_dense(right), contracted[0][0], contracted[1][0], product)]
        if simple and isinstance(right, LowRank):
            return [right.times_after(_dense(left), contracted[1][0], contracted[0][0], product)]
        if simple and isinstance(right, _Turned) and contracted[1][0] == 1:
            return [product(_dense(left), right.transpose, ((contracted[0], (0,)), ((), ())))]
        left, right = _dense(left), _dense(right)
        if self.options.low_rank and is_thin(equation):
            if self._rounds(left):
                left, right = self._rounded(left), self._rounded(right)
            return [
                LowRank(
                    None,
                    (left if contracted[0][0] == 0 else left.T,),
                    (right if contracted[1][0] == 0 else right.T,),
                )
            ]
        return [product(left, right, equation.params["dimension_numbers"])]

    def _rounds(self, factor: Any) -> bool:
        return self.options.products is not None and jnp.issubdtype(factor.dtype, jnp.floating)

    def _rounded(self, factor: Any) -> Any:
        """Return a product's factor as rounded for the product, in its own type."""
        kind = jnp.finfo(self.options.products)
        # The compiler may remove a change of type and back.
        return lax.reduce_precision(factor, kind.nexp, kind.nmant)

    def _narrowed(self, factor: Any) -> Any:
        """Return a product's factor in the type in which it is multiplied."""
        # For processors XLA compiles such products in the wider type anyway, and in some loops not at all.
        wide = jax.default_backend() == "cpu"
        return self._rounded(factor) if wide else factor.astype(self.options.products)

    def _convolution(self, equation: Any, inputs: list[Any]) -> list[Any]:
        params = dict(equation.params)
        left, right = _dense(inputs[0]), _dense(inputs[1])
        if self._rounds(left):
            params["preferred_element_type"] = params["preferred_element_type"] or left.dtype
            left, right = self._narrowed(left), self._narrowed(right)
        form = self.options.convolution
        if form is None or not rewritable(params) or 0 in equation.outvars[0].aval.shape:
            return [lax.conv_general_dilated_p.bind(left, right, **params)]
        return [convolve(left, right, params, form, self._product(params))]

    def _broadcast(self, equation: Any, inputs: list[Any]) -> list[Any] | None:
        aval = equation.outvars[0].aval
        if equation.invars[0].aval.shape != () or len(aval.shape) != 2 or not self.options.low_rank:
            return None
        return [_Uniform(inputs[0], jax.ShapeDtypeStruct(aval.shape, aval.dtype))]

    def _transpose(self, equation: Any, inputs: list[Any]) -> list[Any] | None:
        if isinstance(inputs[0], LowRank) and tuple(equation.params["permutation"]) == (1, 0):
            return [inputs[0].transposed()]
        return None

    def _multiply(self, _: Any, inputs: list[Any]) -> list[Any] | None:
        for matrix, other in (inputs, inputs[::-1]):
            if isinstance(matrix, LowRank) and _is_number(other):
                return [matrix.scaled(_number(other))]
        return None

    def _divide(self, _: Any, inputs: list[Any]) -> list[Any] | None:
        matrix, other = inputs
        if isinstance(matrix, LowRank) and _is_number(other):
            return [matrix.scaled(1.0 / _number(other))]
        return None

    def _negate(self, _: Any, inputs: list[Any]) -> list[Any] | None:
        return [inputs[0].scaled(-1.0)] if isinstance(inputs[0], LowRank) else None

    def _add(self, _: Any, inputs: list[Any]) -> list[Any] | None:
        for matrix, other in (inputs, inputs[::-1]):
            if isinstance(other, _Uniform) and other.is_zero and not isinstance(matrix, _Uniform):
                return [matrix]
            if isinstance(matrix, LowRank):
                return [matrix.plus(other if isinstance(other, LowRank) else _matrix(other, matrix))]
        return None

    def _subtract(self, equation: Any, inputs: list[Any]) -> list[Any] | None:
        if isinstance(inputs[1], LowRank):
            if inputs[1].base is inputs[0]:
                # The start of a client's descent, minus its end.
                return [replace(inputs[1], base=None).scaled(-1.0)]
            return self._add(equation, [inputs[0], inputs[1].scaled(-1.0)])
        if isinstance(inputs[0], LowRank):
            return [inputs[0].plus(-_matrix(inputs[1], inputs[0]))]
        return None

    def _same(self, _: Any, inputs: list[Any]) -> list[Any] | None:
        return inputs if isinstance(inputs[0], LowRank) else None

    def _convert(self, equation: Any, inputs: list[Any]) -> list[Any] | None:
        if isinstance(inputs[0], LowRank) and inputs[0].aval.dtype == equation.params["new_dtype"]:
            return inputs
        return None

    def _checkpoint(self, equation: Any, inputs: list[Any]) -> list[Any]:
        inputs = [_dense(value) for value in inputs]
        if equation.params["differentiated"]:
            # Otherwise the compiler would see that both passes are the same, and keep what should be computed again.
            inputs = lax.optimization_barrier(inputs)
        return self.run(equation.params["jaxpr"], (), inputs)

    def _cond(self, equation: Any, inputs: list[Any]) -> list[Any]:
        branches = [self._apart(branch) for branch in equation.params["branches"]]
        index, *operands = (_dense(value) for value in inputs)
        return lax.switch(index, branches, *operands)

    def _while(self, equation: Any, inputs: list[Any]) -> list[Any] | None:
        params = equation.params
        if params["cond_jaxpr"].out_avals[0].shape != ():
            # Several loops side by side that end at different times: no function of `lax` expresses that.
            return None
        inputs = [_dense(value) for value in inputs]
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        goes_on, body = self._apart(params["cond_jaxpr"]), self._apart(params["body_jaxpr"])
        return lax.while_loop(
            lambda state: goes_on(*inputs[:first], *state)[0],
            lambda state: body(*inputs[first:second], *state),
            inputs[second:],
        )

    def _apart(self, program: core.ClosedJaxpr) -> Callable[..., list[Any]]:
        """Return a program as a function from arrays to arrays."""
        return lambda *args: [_dense(value) for value in self.run(program.jaxpr, program.consts, args)]

    def _scan(self, equation: Any, inputs: list[Any]) -> list[Any]:
        params = equation.params
        body, length = params["jaxpr"], params["length"]
        consts = inputs[: params["num_consts"]]
        carry = inputs[params["num_consts"] : params["num_consts"] + params["num_carry"]]
        streams = inputs[params["num_consts"] + params["num_carry"] :]
        if not (self.options.low_rank and length > 0 and holds_thin(body.jaxpr, length)):
            return self._looped(equation, consts, carry, streams)
        times = self.copies * length
        grows_by = times * operations(body.jaxpr)
        if self.unrolled + grows_by > _most_operations(times, body):
            return self._looped(equation, consts, carry, streams)
        self.unrolled += grows_by
        self.copies *= length
        results = self._unrolled(equation, consts, carry, streams)
        self.copies //= length
        return results

    def _unrolled(self, equation: Any, consts: list[Any], carry: list[Any], streams: list[Any]) -> list[Any]:
        body, length = equation.params["jaxpr"], equation.params["length"]
        order = range(length)[::-1] if equation.params["reverse"] else range(length)
        given: list[Any] = [None] * length
        streams = [value if isinstance(value, _Stack) else _dense(value) for value in streams]
        for index in order:
            row = [value.parts[index] if isinstance(value, _Stack) else value[index] for value in streams]
            results = self.run(body.jaxpr, body.consts, [*consts, *carry, *row])
            carry, given[index] = results[: len(carry)], results[len(carry) :]
        return [*carry, *(_Stack(parts) for parts in zip(*given, strict=True))]

    def _looped(self, equation: Any, consts: list[Any], carry: list[Any], streams: list[Any]) -> list[Any]:
        params = equation.params
        body, count = params["jaxpr"], len(carry)
        consts, carry, streams = ([_dense(value) for value in part] for part in (consts, carry, streams))
        if self.options.sums:
            for place in contracted_by_rows(body.jaxpr, params["num_consts"]):
                consts[place] = _Turned(consts[place], consts[place].T)
        sums = find_sums(body.jaxpr, params["num_consts"], count) if self.options.sums else {}
        kept = [place for place in range(count) if place not in sums]

        def step(state: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
            full: list[Any] = [None] * count
            for place, value in zip(kept, state, strict=True):
                full[place] = value
            jaxpr = body.jaxpr
            values: dict[Any, Any] = {}
            results = self._body(jaxpr, body.consts, [*consts, *full, *row], sums, values)
            terms = [_dense(value) for place in sums for value in values[place]]
            return [results[place] for place in kept], [*results[count:], *terms]

        state, given = lax.scan(
            step,
            [carry[place] for place in kept],
            streams,
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        outputs = len(equation.outvars) - count
        totals = dict(zip(kept, state, strict=True))
        for number, (place, product) in enumerate(sums.items()):
            left, right = given[outputs + 2 * number : outputs + 2 * number + 2]
            totals[place] = carry[place] + self._sum_of_products(product, left, right)
        return [*(totals[place] for place in range(count)), *given[:outputs]]

    def _body(self, jaxpr: Any, consts: Any, args: list[Any], sums: dict[int, Sum], terms: dict[int, Any]) -> list[Any]:
        """Run a loop's body without the products in `sums`; put their factors into `terms`."""
        skipped = {id(equation) for sum_ in sums.values() for equation in sum_.equations}
        rest = jaxpr.replace(eqns=[equation for equation in jaxpr.eqns if id(equation) not in skipped])
        wanted = [variable for sum_ in sums.values() for variable in sum_.product.invars]
        dropped = {sum_.result for sum_ in sums.values()}

        def goes(variable: Any) -> bool:
            return not isinstance(variable, core.Literal) and variable in dropped

        outvars = [variable for variable in rest.outvars if not goes(variable)]
        rest = rest.replace(outvars=[*outvars, *wanted])
        results = [_dense(value) for value in self.run(rest, consts, args)]
        found = iter(results[len(outvars) :])
        for place in sums:
            terms[place] = (next(found), next(found))
        kept = iter(results[: len(outvars)])
        return [None if goes(variable) else next(kept) for variable in jaxpr.outvars]

    def _sum_of_products(self, sum_: Sum, lefts: Any, rights: Any) -> jax.Array:
        """Return the sum over the steps of a loop of products whose factors are [steps, ...]."""
        (left, right), _ = sum_.product.params["dimension_numbers"]
        dimensions = ((0, *(axis + 1 for axis in left)), (0, *(axis + 1 for axis in right)))
        total = self._product(sum_.product.params)(lefts, rights, (dimensions, ((), ())))
        return total.transpose(sum_.permutation) if sum_.permutation else total


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, _Uniform | _Stack | _Turned) else dense(value)


def _most_operations(times: int, body: core.ClosedJaxpr) -> int:
    """Return how many operations may be written out where a loop's body runs so many times."""
    try:
        flops = times * accounting.count_flops_of(body)
    except accounting.Uncountable:
        flops = 0
    return min(UNROLLED[0] + flops // 10**6, UNROLLED[1])


def _matrix(value: Any, like: LowRank) -> Any:
    """Return a value as an array of a matrix's shape; a program may have a number in its place."""
    value = _dense(value)
    return value if jnp.ndim(value) else jnp.full(like.aval.shape, value, like.aval.dtype)


def _is_number(value: Any) -> bool:
    return isinstance(value, _Uniform) or (not isinstance(value, LowRank | _Stack | _Turned) and jnp.ndim(value) == 0)


def _number(value: Any) -> Any:
    return value.value if isinstance(value, _Uniform) else value
