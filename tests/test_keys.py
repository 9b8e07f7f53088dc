"""Keys of values: what was made alike is equal, what computes differently never is."""

import collections
import dataclasses
import functools
import gc
import logging
import sys
import time
import types
import weakref
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedmeta as fm
from fedmeta._keys import memoise, value_key

SCALE = 1.0
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
        [lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}, lambda: {8, 16, 0}, lambda: {16, 8, 0}],
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
    # An array in an odd subclass or of objects is what it is by identity; the same one is equal to itself.
    assert keys == [value_key(make(argument)) for argument in arguments]
    assert [hash(key) for key in keys] == [hash(value_key(make(argument))) for argument in arguments]
    for i, key in enumerate(keys):
        for j in range(i):
            assert key != keys[j], f"{arguments[i]!r} and {arguments[j]!r} have one key"


# Each row: what is looked at, and what is done between two looks, after which it computes something else.
def _config_module(monkeypatch, text="SCALE = 2.0"):
    config = types.ModuleType("config_of_a_user")
    exec(text, vars(config))
    monkeypatch.setitem(sys.modules, config.__name__, config)
    return config


def _changes(monkeypatch):
    config = _config_module(monkeypatch, "SCALE = 2.0\ndef helper(x): return SCALE * x\nclass S: k = 1.0")
    space: dict[str, Any] = {"config": config, "S": 1.0, "T": [1.0], "D": {"a": 1.0}, "A": np.ones(3), "Plain": Plain}
    space |= {"o": Plain(2.0), "n": types.SimpleNamespace(k=2.0), "r": Rate(np.ones(2)), "__package__": "x.y"}

    def function(text):
        exec(f"def f(x): return {text}", space)
        return space["f"]

    def put(name, value):
        return lambda: space.__setitem__(name, value)

    exec("from functools import lru_cache, cached_property\n@lru_cache\ndef cached(n): return S * n", space)
    exec("class Holder:\n  k = 1.0\n  def scale(self): return S\nh = Holder()", space)
    late = types.CellType(1.0)
    captured = types.FunctionType(times(1.0).__code__, space, "f", None, (late,))
    inside = Plain(Plain([1.0]))
    changed = collections.UserDict(a=1.0)
    defaulted = by_default(1.0)
    held = [1.0]
    return {
        "a global": (function("S * x"), put("S", 2.0)),
        "a global's type": (function("S * x"), put("S", 1)),
        "a list among the globals": (function("T[0] * x"), lambda: space["T"].append(2.0)),
        "a dict among the globals": (function("D['a'] * x"), lambda: space["D"].update(a=2.0)),
        "an array among the globals": (function("A * x"), lambda: space["A"].__setitem__(0, 2.0)),
        "an array in a frozen dataclass": (function("r.of * x"), lambda: space["r"].of.__setitem__(0, 2.0)),
        "a module's attribute": (function("config.SCALE * x"), lambda: setattr(config, "SCALE", 3.0)),
        "a module's attribute that a helper reads": (function("helper(config)"), lambda: setattr(config, "SCALE", 3.0)),
        "a module's function": (function("config.helper(x)"), lambda: setattr(config, "helper", times(1.0))),
        "what a module's function reads": (function("config.helper(x)"), lambda: setattr(config, "SCALE", 3.0)),
        "a class in a module": (function("config.S.k * x"), lambda: setattr(config.S, "k", 2.0)),
        "an import inside": (
            executed("def f(x):\n  from config_of_a_user import SCALE\n  return SCALE * x"),
            lambda: setattr(config, "SCALE", 3.0),
        ),
        "a captured module": ((lambda c: lambda x: c.SCALE * x)(config), lambda: setattr(config, "SCALE", 3.0)),
        "a module as default": (by_default(config), lambda: setattr(config, "SCALE", 3.0)),
        "a name as a text": (function("globals()['S'] * x"), put("S", 2.0)),
        "an attribute as a text": (function("getattr(config, 'S').k"), lambda: setattr(config.S, "k", 2.0)),
        "a plain object": (function("o.k * x"), lambda: setattr(space["o"], "k", 3.0)),
        "an object in an object": (times(inside), lambda: inside.k.k.append(2.0)),
        "a namespace": (function("n.k * x"), lambda: setattr(space["n"], "k", 3.0)),
        "a user's dict": (times(changed), lambda: changed.update(a=2.0)),
        "a class attribute": (function("Plain.k"), lambda: monkeypatch.setattr(Plain, "k", 1.0, raising=False)),
        "a method": (space["h"], lambda: setattr(space["Holder"], "scale", times(2.0))),
        "what a method reads": (space["h"].scale, put("S", 2.0)),
        "a global that a cached function reads": (function("cached(3)"), put("S", 2.0)),
        "a cell": (captured, lambda: setattr(late, "cell_contents", 2.0)),
        "a captured list": (times(held), lambda: held.append(2.0)),
        "a default": (defaulted, lambda: setattr(defaulted, "__defaults__", (2.0,))),
        "a library's function": (function("config.jnp.tanh(x)"), lambda: setattr(config, "jnp", jax.nn)),
        "a name that a builtin had": (function("abs(x)"), put("abs", times(1.0))),
        "the code": (defaulted, lambda: setattr(defaulted, "__code__", (lambda x, scale=1.0: x + scale).__code__)),
    }


def _names(of):
    with pytest.MonkeyPatch.context() as patch:
        return list(of(patch))


@pytest.mark.parametrize("name", _names(_changes))
def test_a_key_is_that_of_the_value_at_the_moment_of_asking(name, monkeypatch):
    value, change = _changes(monkeypatch)[name]
    before = value_key(value)
    assert value_key(value) == before
    change()
    assert value_key(value) != before


def test_objects_that_were_made_alike_are_two_and_an_id_is_not_used_again():
    key = value_key(times(Plain(2.0)))
    ids = set()
    for _ in range(200):
        other = times(Plain(2.0))
        assert value_key(other) != key
        ids.add(id(other.__closure__[0].cell_contents))
        del other
    assert id(key._held[0]) not in ids


def test_classes_that_were_made_alike_are_two_since_libraries_register_them():
    def local():
        @dataclasses.dataclass(frozen=True)
        class Local:
            k: float = 1.0

        return Local

    one, other = local(), local()
    assert value_key(one()) == value_key(one())
    assert value_key(one()) != value_key(other())


def test_primitives_of_one_name_are_two():
    from jax.extend.core import Primitive

    assert value_key(Primitive("mine")) != value_key(Primitive("mine"))


def test_a_user_s_file_with_the_name_of_a_library_s_module_is_the_user_s(monkeypatch, tmp_path):
    (tmp_path / "wave.py").write_text("SCALE = 1.0\ndef f(x): return SCALE * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    import wave

    before = value_key(wave.f)
    monkeypatch.setattr(wave, "SCALE", 2.0)
    assert value_key(wave.f) != before


def test_a_wrapper_that_borrows_the_name_of_a_library_s_function_is_looked_into():
    def borrow(w):
        @functools.wraps(fm.losses.squared_error)
        def loss(predictions, y):
            return w * fm.losses.squared_error(predictions, y)

        return loss

    assert value_key(borrow(1.0)) == value_key(borrow(1.0))
    assert len({value_key(borrow(1.0)), value_key(borrow(2.0)), value_key(fm.losses.squared_error)}) == 3


def test_it_does_not_matter_whether_a_part_that_occurs_twice_is_one_object_or_two():
    once = optax.adam(1e-3)
    assert value_key((once, once)) == value_key((optax.adam(1e-3), optax.adam(1e-3)))
    power = recursive(2.0)
    assert value_key((power, power, 1)) == value_key((recursive(2.0), recursive(2.0), 1))
    assert value_key((power, power)) != value_key((recursive(2.0), recursive(3.0)))


def test_a_cycle_is_told_from_its_unrolling_that_ends_elsewhere():
    def ring(first, back):
        chain: list[Any] = [1]
        inner: list[Any] = [2, chain]
        chain.append(inner)
        inner.append(back(chain, inner))
        return first(chain, inner)

    keys = {
        value_key(ring(first, back))
        for first in (lambda c, i: c, lambda c, i: i)
        for back in (lambda c, i: c, lambda c, i: i)
    }
    assert len(keys) == 4


def test_functions_that_all_name_one_another_are_looked_at_in_linear_time():
    count = 60
    text = "\n".join(f"def f{i}(x): return {' + '.join(f'f{j}(x)' for j in range(count))}" for i in range(count))
    space: dict[str, Any] = {}
    exec(text, space)
    value_key(space["f0"])
    nest: Any = 1.0
    for _ in range(60):
        nest = (nest, nest)
    began = time.process_time()
    assert value_key(space["f0"]) == value_key(space["f0"])
    assert value_key(nest) == value_key(nest)
    assert time.process_time() - began < 5.0


def test_what_is_too_deep_to_be_looked_at_is_equal_to_nothing_else():
    def deep(end):
        nest = [end]
        for _ in range(10_000):
            nest = [nest]
        return nest

    value = deep(1.0)
    key = value_key(value)
    assert key == key
    assert key != value_key(value)
    assert hash(key) == hash(key)


def test_loggers_and_streams_do_not_make_a_key_change():
    log = logging.getLogger("of a user")
    f = (lambda log: lambda x: log.debug(x) or x)(log)
    before = value_key(f)
    f(1.0)
    logging.getLogger("another")
    assert value_key(f) == before


def test_keys_can_be_made_while_a_program_is_traced():
    captured, key = jnp.arange(3.0), jax.random.key(3)
    outside = value_key((times(captured), key))

    @jax.jit
    def program(x):
        assert value_key((times(captured), key)) == outside
        assert value_key(times(x)) == value_key(times(x))
        assert value_key(times(x)) != value_key(times(x + 1))
        return x

    program(jnp.ones(3))


def test_a_key_holds_no_array_and_no_function_of_the_value():
    array = np.arange(1000.0)
    array = array.view()  # so that it can be referred to weakly
    f = times(array)
    gone = weakref.ref(array), weakref.ref(f)
    key = value_key((f, array))
    del f, array
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert hash(key) == hash(key)


def test_equal_keys_of_a_typical_federation_are_made_in_less_than_a_millisecond():
    value = federation()
    times_taken = []
    for _ in range(50):
        began = time.perf_counter()
        value_key(value)
        times_taken.append(time.perf_counter() - began)
    assert min(times_taken) < 1e-3


def test_a_memoised_function_runs_once_for_what_was_made_alike():
    calls = 0

    @memoise(maxsize=2)
    def build(model, *, lr):
        """Say what it builds."""
        nonlocal calls
        calls += 1
        return object()

    first = build(fm.models.mlp((2, 3)), lr=0.1)
    assert build(fm.models.mlp((2, 3)), lr=0.1) is first
    assert build(fm.models.mlp((2, 3)), lr=1) is not first
    assert calls == 2
    assert build.__doc__ == "Say what it builds."


def test_a_memoised_function_keeps_no_more_than_it_may_and_drops_what_was_used_longest_ago():
    made = []

    @memoise(maxsize=2)
    def build(n):
        made.append(n)
        return types.SimpleNamespace(n=n)

    dropped = weakref.ref(build(1))
    build(2)
    build(1)
    build(3)
    build(1)
    assert (made, len(build)) == ([1, 2, 3], 2)
    build(2)
    assert made == [1, 2, 3, 2]
    build.clear()
    gc.collect()
    assert len(build) == 0
    assert dropped() is None
    build(1)
    assert made == [1, 2, 3, 2, 1]


def test_an_error_is_not_kept_and_a_size_of_nothing_is_refused():
    calls = []

    @memoise(maxsize=1)
    def build(n):
        calls.append(n)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            build(1)
    assert calls == [1, 1]
    with pytest.raises(fm.UsageError, match="maxsize is 0"):
        memoise(0)
