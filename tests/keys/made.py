"""Makers of values: with the same argument, what they make is alike."""

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fedmeta as fm

NEXT_TO_A_TENTH = float(np.nextafter(0.1, 1))


class Pair(NamedTuple):
    a: Any
    b: Any


class Triple(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Rate:
    of: Any = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Other:
    of: Any = 1.0


class Net(nnx.Module):
    def __init__(self, width, rngs):
        self.first = nnx.Linear(4, width, rngs=rngs)
        self.dropout, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.first(x))))


class Affine(eqx.Module):
    weight: Any
    scale: float = eqx.field(static=True)

    def __call__(self, x):
        return self.scale * (self.weight @ x)


class Schedule:
    """A value, as it says by == and hash; its own == is lax."""

    __slots__ = ("rate",)

    def __init__(self, rate):
        self.rate = rate

    def __eq__(self, other):
        return isinstance(other, Schedule) and self.rate == other.rate

    def __hash__(self):
        return hash(self.rate)


class Plain:
    def __init__(self, k):
        self.k = k

    def times(self, x):
        return self.k * x


def times(w):
    return lambda x: x * w


def nested(w):
    def outer(x):
        def inner(y):
            return y * w

        return jax.lax.scan(lambda c, _: (inner(c), None), x, None, length=2)[0]

    return outer


def by_default(w):
    def apply(x, scale=w):
        return x * scale

    return apply


def by_keyword(w):
    def apply(x, *, scale=w):
        return x * scale

    return apply


def with_attribute(w):
    def apply(x):
        return x * apply.scale

    apply.scale = w
    return apply


def recursive(w):
    def power(x, n):
        return x if n == 0 else w * power(x, n - 1)

    return power


def mutual(w):
    def even(n):
        return w if n == 0 else odd(n - 1)

    def odd(n):
        return 0.0 if n == 0 else even(n - 1)

    return even


def wrapped(w):
    def decorate(f):
        @functools.wraps(f)
        def wrapper(x):
            return w * f(x)

        return wrapper

    return decorate(times(3.0))


def with_custom_jvp(w):
    @jax.custom_jvp
    def f(x):
        return x

    f.defjvp(lambda primals, tangents: (f(primals[0]), w * tangents[0]))
    return f


def with_custom_vjp(w):
    @jax.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, None), lambda _, g: (w * g,))
    return f


def executed(text):
    space: dict[str, Any] = {}
    exec(text, space)
    return space["f"]


def model(width, activation=jax.nn.relu):
    weight = np.full((4, 3), width, "f")

    def init(key):
        return {"w": jnp.asarray(weight) + jax.random.normal(key, (4, 3))}

    def apply(params, x):
        return activation(x @ params["w"]) * width

    return fm.Model(init, apply)


def looped(numbers):
    head: list[Any] = [*numbers]
    head.append(head)
    return head


def cell_later(value):
    def f(x):
        return x * w

    w = value
    return f


def federation(lr=1e-3, sizes=(64, 128, 10)):
    return Pair((fm.MAML(inner_lr=0.1, inner_steps=1), fm.models.mlp(sizes)), optax.adam(lr))
