"""What is made alike has one key; what is made differently has another."""

import collections
import functools
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedmeta as fm
from fedmeta._keys import value_key
from tests.keys.made import (
    NEXT_TO_A_TENTH,
    Affine,
    Net,
    Other,
    Pair,
    Rate,
    Schedule,
    Triple,
    by_default,
    by_keyword,
    cell_later,
    executed,
    federation,
    looped,
    model,
    mutual,
    nested,
    recursive,
    times,
    with_attribute,
    with_custom_jvp,
    with_custom_vjp,
    wrapped,
)

# Each row: a maker, and arguments that all make different things. Made twice from the same argument, they are equal.
TABLE: dict[str, tuple[Any, list[Any]]] = {
    "numbers": (
        lambda v: v,
        [
            0,
            0.0,
            -0.0,
            False,
            None,
            1,
            1.0,
            True,
            1 + 0j,
            "1",
            b"1",
            np.float32(1),
            np.float64(1),
            np.int8(1),
            np.bool_(True),
        ],
    ),
    "close floats": (lambda v: (v,), [0.1, NEXT_TO_A_TENTH, float("inf"), float("nan"), complex(0.1, -0.0), 0.1 + 0j]),
    "containers": (
        lambda f: f(),
        [
            lambda: (1, 2),
            lambda: [1, 2],
            lambda: (1, (2,)),
            lambda: ((1, 2),),
            lambda: {1: 2},
            lambda: {1, 2},
            lambda: frozenset({1, 2}),
            lambda: Pair(1, 2),
            lambda: Triple(1, 2),
            lambda: collections.OrderedDict({1: 2}),
            lambda: collections.defaultdict(int, {1: 2}),
            lambda: collections.defaultdict(list, {1: 2}),
            lambda: collections.deque([1, 2]),
            lambda: collections.deque([1, 2], maxlen=2),
            lambda: range(1, 2),
            lambda: slice(1, 2),
            lambda: types.SimpleNamespace(a=1),
            lambda: types.SimpleNamespace(a=1.0),
            lambda: (),
            list,
            dict,
            lambda: bytearray(b"a"),
        ],
    ),
    "order": (
        lambda f: f(),
        [lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}, lambda: {8, 0}, lambda: {0, 8}],
    ),
    "dataclass": (lambda v: v[0](v[1]), [(Rate, 1), (Rate, 1.0), (Rate, 2.0), (Other, 1.0), (Rate, times)]),
    "value with slots": (Schedule, [1, True, 1.0, 2.0]),
    "cyclic list": (looped, [(1, 2), (1, 2, 3), (1.0, 2)]),
    "array": (
        np.asarray,
        [
            np.ones(3),
            np.ones((3, 1)),
            np.ones(3, "f"),
            np.ones(3, ">f4"),
            np.ones(3, int),
            np.array([0.0]),
            -np.zeros(1),
        ],
    ),
    "bytes alike": (lambda d: np.zeros(4, d), [np.float16, jnp.bfloat16, np.int16, np.uint16]),
    "nothing in an array": (
        lambda v: v,
        [np.str_(""), np.bytes_(b""), np.zeros(0), np.zeros((0, 2)), np.zeros(0, "f")],
    ),
    "objects in an array": (lambda v: (lambda a: lambda: a)(v), [np.array([Rate(1.0)]), np.array([Rate(2.0)])]),
    "masked array": (lambda v: v, [np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[1, 0])]),
    "JAX array": (jnp.asarray, [1.0, np.float32(1), np.ones(1, "f"), 2.0, np.array([1.0, np.nan], "f")]),
    "where an array is": (lambda v: v, [np.ones(3, "f"), jnp.ones(3)]),
    "PRNG key": (
        lambda v: v[0](v[1], impl=v[2]),
        [
            (jax.random.key, 0, "threefry2x32"),
            (jax.random.key, 1, "threefry2x32"),
            (jax.random.PRNGKey, 0, "threefry2x32"),
            (jax.random.key, 0, "rbg"),
        ],
    ),
    "big array in a closure": (
        lambda i: times(np.where(np.arange(50_000) == i, 7.0, np.arange(50_000))),
        [25_000, 25_001],
    ),
    "closure": (times, [2, 2.0, True, np.float32(2), (2,), jnp.tanh, jax.nn.relu, times(1.0), times(2.0), jnp]),
    "nested code": (nested, [1.0, 2.0]),
    "default": (by_default, [1, 1.0, 2.0]),
    "keyword default": (by_keyword, [1, 1.0, 2.0]),
    "attribute of a function": (with_attribute, [1, 1.0, 2.0]),
    "recursion": (recursive, [1.0, 2.0]),
    "mutual recursion": (mutual, [1.0, 2.0]),
    "cell that is filled later": (cell_later, [1.0, 2.0]),
    "wrapper": (wrapped, [1.0, 2.0]),
    "partial": (
        lambda v: functools.partial(v[0], v[1], b=v[2]),
        [(times(1), 1, 2), (times(2), 1, 2), (times(1), 1.0, 2), (times(1), 1, 3), (jnp.add, 1, 2)],
    ),
    "JAX's partial": (lambda v: jax.tree_util.Partial(times(v)), [1.0, 2.0]),
    "bound method of a dataclass": (lambda v: Rate(v).__init__, [1.0, 2.0]),
    "bound method of a list": (lambda v: [v].count, [1.0, 2.0]),
    "jit": (lambda w: jax.jit(times(w)), [1.0, 2.0]),
    "static arguments": (
        lambda n: jax.jit(lambda x, n: x * n, **n),
        [{}, {"static_argnums": 1}, {"static_argnums": 0}, {"inline": True}],
    ),
    "checkpoint": (lambda w: jax.checkpoint(times(w)), [1.0, 2.0]),
    "vmap": (lambda v: jax.vmap(times(1.0), in_axes=v), [0, 1]),
    "grad": (lambda w: jax.value_and_grad(nested(w)), [1.0, 2.0]),
    "custom_jvp": (with_custom_jvp, [1.0, 2.0]),
    "custom_vjp": (with_custom_vjp, [1.0, 2.0]),
    "functions of one text": (
        lambda c: executed(f"f = lambda x: x * {c}"),
        ["2", "2.0", "True", "(2,)", "0.0", "-0.0", "0.1", repr(NEXT_TO_A_TENTH), "1j"],
    ),
    "one name, another global": (lambda c: executed(f"S = {c}\ndef f(x): return S * x"), ["1", "1.0", "2", "[1]"]),
    "global in an inner function": (
        lambda c: executed(f"S = {c}\ndef f(x): return (lambda y: [S * z for z in y])(x)"),
        ["1", "2"],
    ),
    "global of a helper": (lambda c: executed(f"S = {c}\ndef g(x): return S * x\ndef f(x): return g(x)"), ["1", "2"]),
    "class made by exec": (
        lambda c: executed(f"class C:\n  def __eq__(s, o): return True\n  __hash__ = None\n  k = {c}\nf = C.k"),
        ["1", "2"],
    ),
    "inner constants": (lambda c: executed(f"def f(x): return (lambda y: y + {c})(x)"), ["1", "1.0", "{1}", "{2}"]),
    "shapes": (lambda v: jax.ShapeDtypeStruct(*v), [((2,), jnp.float32), ((2,), jnp.int32), ((3,), jnp.float32)]),
    "tree structure": (jax.tree.structure, [{"a": 1}, {"b": 1}, (1,), [1], Pair(1, 2), (1, (2,)), ((1,), 2)]),
    "sharding": (
        lambda axes: jax.sharding.NamedSharding(jax.make_mesh((1,), axes), jax.sharding.PartitionSpec(*axes)),
        [("a",), ("b",)],
    ),
    "adam": (
        lambda o: optax.adam(**o),
        [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}, {"learning_rate": 1e-3, "b1": 0.8}],
    ),
    "momentum": (lambda m: optax.sgd(0.1, m), [None, 0.0, 0.9]),
    "chain": (lambda c: optax.chain(optax.clip_by_global_norm(c), optax.adamw(1e-3)), [1.0, 2.0]),
    "order of a chain": (
        lambda up: optax.chain(*(optax.scale(2.0), optax.clip(1.0))[:: 1 if up else -1]),
        [True, False],
    ),
    "schedule": (lambda n: optax.adam(optax.cosine_decay_schedule(0.1, n)), [100, 200]),
    "user's schedule": (lambda w: optax.adam(times(w)), [0.1, 0.2]),
    "inject_hyperparams": (lambda r: optax.inject_hyperparams(optax.adam)(learning_rate=r), [0.1, 0.2]),
    "masked": (lambda b: optax.masked(optax.sgd(0.1), {"a": True, "b": b}), [True, False, 1]),
    "multi_transform": (
        lambda r: optax.multi_transform({"x": optax.sgd(r), "y": optax.adam(0.1)}, {"a": "x", "b": "y"}),
        [0.1, 0.2],
    ),
    "user's transformation": (
        lambda w: optax.GradientTransformation(lambda p: (), lambda u, s, p=None: (jax.tree.map(times(w), u), s)),
        [1.0, 2.0],
    ),
    "algorithm": (lambda o: fm.MAML(**o), [{"inner_steps": 1}, {"inner_steps": 2}, {"inner_lr": 0.2}]),
    "kind of algorithm": (lambda a: a(), [fm.MAML, fm.FOMAML, fm.Reptile]),
    "perceptron": (lambda s: fm.models.mlp(s), [(4, 8, 3), (4, 9, 3), [4, 8, 3]]),
    "activation": (lambda a: fm.models.mlp((4, 8, 3), activation=a), [jax.nn.relu, jnp.tanh, jnp.sin, abs]),
    "loss": (lambda a: fm.models.mlp((4, 1), loss=a), [fm.losses.squared_error, fm.losses.softmax_cross_entropy]),
    "user's model": (model, [1.0, 2.0, 1]),
    "user's activation": (lambda w: model(1.0, times(w)), [1.0, 2.0]),
    "NNX": (lambda w: fm.Model.from_nnx(functools.partial(Net, w)), [8, 9]),
    "NNX from a lambda": (lambda b: fm.Model.from_nnx(lambda r: nnx.Linear(4, 3, use_bias=b, rngs=r)), [True, False]),
    "Equinox": (
        lambda a: fm.Model.from_equinox(lambda k: eqx.nn.MLP(4, 3, 8, 1, activation=a, key=k)),
        [jax.nn.relu, jnp.tanh],
    ),
    "Equinox module": (lambda s: Affine(jnp.ones((2, 2)), s), [1, 1.0, 2.0]),
    "federation": (lambda o: federation(**o), [{}, {"lr": 1e-2}, {"sizes": (64, 128, 11)}]),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_made_alike_is_equal_and_what_is_made_differently_is_not(name):
    make, arguments = TABLE[name]
    keys = [value_key(make(argument)) for argument in arguments]
    assert keys == [value_key(make(argument)) for argument in arguments]
    assert [hash(key) for key in keys] == [hash(value_key(make(argument))) for argument in arguments]
    for i, key in enumerate(keys):
        for j in range(i):
            assert key != keys[j], f"{arguments[i]!r} and {arguments[j]!r} have one key"
