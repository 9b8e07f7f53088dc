"""A program in another form gives what it gave: against JAX's own derivatives, operations and convolutions."""

from dataclasses import replace
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fedmeta as fm
from fedmeta._engine.rewrite.analysis import operations
from fedmeta._engine.rewrite.convolution import convolve
from fedmeta._engine.rewrite.interpreter import Options, rewrite, trace
from fedmeta._engine.rewrite.low_rank import SMALLEST, LowRank, worthwhile
from fedmeta.algorithms import ALGORITHMS, make
from fedmeta.models.layers import convolution, dense, dense_init, max_pool
from tests import toys
from tests.examples import cells, examples

KEY = jax.random.key(1)
LOW_RANK, DENSE = Options(), Options(low_rank=False)
PATCHES = Options(convolution="im2col")


def small_cnn():
    """Two convolutions with pooling, one of even size, and two dense layers large enough for factors."""

    def init(key):
        keys = jax.random.split(key, 4)
        sizes = [(25, 3), (16 * 3, 4), (16, 70), (70, 16)]
        return [dense_init(k, *size) for k, size in zip(keys, sizes, strict=True)]

    def apply(params, x):
        x = jnp.asarray(x, params[0]["weight"].dtype)
        x = jnp.tanh(max_pool(convolution(params[0], x, 5)))
        x = jnp.tanh(max_pool(convolution(params[1], x, 4)))
        x = jnp.tanh(dense(params[2], x.reshape(len(x), -1)))
        return dense(params[3], x)

    return fm.Model(init, apply)


def rectangles():
    """Convolutions in the order of PyTorch: nothing is square, and one has strides, which stays as it is."""

    def init(key):
        shapes = [(3, 2, 3, 2), (4, 3, 2, 5), (5, 4, 2, 2)]
        return [jax.random.normal(k, shape) / 3 for k, shape in zip(jax.random.split(key, 3), shapes, strict=True)]

    def apply(params, x):
        x = jnp.asarray(x, params[0].dtype)
        x = jnp.tanh(lax.conv_general_dilated(x, params[0], (1, 1), "VALID"))
        x = jnp.tanh(lax.conv_general_dilated(x, params[1], (1, 1), [(0, 2), (3, 1)]))
        return lax.conv_general_dilated(x, params[2], (2, 2), "VALID").mean((2, 3))

    return fm.Model(init, apply)


class FlaxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.convolution = nnx.Conv(2, 3, (3, 2), param_dtype=float, rngs=rngs)
        self.dense = nnx.Linear(60, 40, param_dtype=float, rngs=rngs)

    def __call__(self, x):
        return self.dense(jnp.tanh(self.convolution(x)).reshape(len(x), -1))


class EquinoxNetwork(eqx.Module):
    convolution: eqx.nn.Conv2d
    dense: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(2, 3, (2, 3), padding=1, key=keys[0])
        self.dense = eqx.nn.Linear(72, 40, key=keys[1])

    def __call__(self, x):
        return self.dense(jnp.tanh(self.convolution(x)).reshape(-1))


def tanh_mlp():
    return fm.models.mlp((40, 32, 36), activation=jnp.tanh)


# How it is built, the shape of an input, the characters where inputs are text, the classes.
NETWORKS = {
    "softmax": (lambda: fm.models.softmax_regression(40, 30), (40,), None, 30),
    "mlp": (tanh_mlp, (40,), None, 36),
    "cnn": (small_cnn, (8, 8, 1), None, 16),
    "rectangles": (rectangles, (2, 7, 9), None, 5),
    "lstm": (lambda: fm.models.char_lstm(11, 48, embedding=3, hidden=24), (6,), 11, 48),
    "flax": (lambda: fm.Model.from_nnx(FlaxNetwork), (4, 5, 2), None, 40),
    "equinox": (lambda: fm.Model.from_equinox(EquinoxNetwork), (2, 5, 4), None, 40),
}
CONVOLVES, ADAPTED = ("cnn", "rectangles"), ("flax", "equinox")
CASES = cells(
    [
        *(("mlp", name, LOW_RANK) for name in ("meta-sgd", "per-fedavg")),
        ("lstm", "maml", LOW_RANK),
        ("cnn", "maml", PATCHES),
        ("mlp", "fedavg", DENSE),
    ],
    [
        (network, name, options)
        for network in NETWORKS
        for name in list(ALGORITHMS)[: None if network == "mlp" else 6]
        for options in ([LOW_RANK] if network in ADAPTED else [LOW_RANK, PATCHES if network in CONVOLVES else DENSE])
    ],
)


def label(value):
    if not isinstance(value, Options):
        return str(value)
    return f"{'low-rank' if value.low_rank else 'dense'}, {value.convolution}"


def is_low_rank(value):
    return isinstance(value, LowRank)


def all_dense(tree):
    return jax.tree.map(lambda v: v.dense() if is_low_rank(v) else v, tree, is_leaf=is_low_rank)


def low_rank_leaves(tree):
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_low_rank) if is_low_rank(leaf)]


def dtypes(tree):
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def make_task(network, support=4, query=6, seed=0):
    _, shape, characters, classes = NETWORKS[network]
    draw = np.random.default_rng(seed)

    def batch(size):
        x = draw.integers(characters, size=(size, *shape)) if characters else draw.normal(size=(size, *shape))
        return fm.Batch(x, draw.integers(classes, size=size).astype(np.int32))

    return fm.Task(batch(support), batch(query))


class Case:
    """One client's update, traced; and what JAX makes of it as it is."""

    def __init__(self, network, algorithm, model=None, seed=0, remat=False, task=None):
        model = NETWORKS[network][0]() if model is None else model
        self.task = make_task(network, seed=seed) if task is None else task
        self.phi = algorithm.init(model, jax.random.key(0))

        def update(model):
            memory = algorithm.memory(model, jax.random.key(0))
            return lambda phi, task: algorithm.update(model, phi, task, KEY, memory)[0]

        self.plain = update(model)
        again = replace(model, apply=jax.checkpoint(model.apply)) if remat else model
        self.traced = trace(update(again), self.phi, self.task)

    def rewritten(self, options):
        return rewrite(self.traced, options)

    def program(self, options):
        return jax.make_jaxpr(self.rewritten(options))(self.phi, self.task).jaxpr

    def check(self, options, rtol=1e-9, atol=1e-12):
        expected = jax.jit(self.plain)(self.phi, self.task)
        found = jax.jit(self.rewritten(options))(self.phi, self.task)
        toys.assert_close(all_dense(found), expected, rtol=rtol, atol=atol)
        return found


@lru_cache
def expected_and_case(network, name):
    case = Case(network, make(name, inner_lr=0.2, inner_steps=2))
    return case, jax.jit(case.plain)(case.phi, case.task)


def equations(jaxpr, loops=0):
    """Yield all operations of a program, each with the number of loops around it."""
    for equation in jaxpr.eqns:
        yield equation, loops
        inside = loops + (equation.primitive.name in ("scan", "while"))
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner, inside)


def products(jaxpr, least_loops=0):
    """Return the shapes of the results of a program's matrix products."""
    found = equations(jaxpr)
    return [
        equation.outvars[0].aval.shape
        for equation, loops in found
        if equation.primitive.name == "dot_general" and loops >= least_loops
    ]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("network", "name", "options"), CASES, ids=label)
def test_every_algorithm_on_every_network_gives_what_jax_gives(network, name, options):
    case, expected = expected_and_case(network, name)
    found = jax.jit(case.rewritten(options))(case.phi, case.task)
    toys.assert_close(all_dense(found), expected, rtol=1e-9, atol=1e-12)
    assert dtypes(all_dense(found)) == dtypes(expected)


@pytest.mark.parametrize("name", ["maml", "fomaml"])
def test_no_product_of_examples_that_is_as_large_as_its_matrix_is_formed(name):
    case = Case("mlp", ALGORITHMS[name](inner_lr=0.2, inner_steps=2))
    large = [leaf.shape for leaf in jax.tree.leaves(case.phi) if leaf.ndim == 2]
    assert all({(a, b), (b, a)} & set(products(case.program(DENSE))) for a, b in large)
    assert not {size for a, b in large for size in ((a, b), (b, a))} & set(products(case.program(LOW_RANK)))
    direction = jax.jit(case.rewritten(LOW_RANK))(case.phi, case.task).pseudo_gradient
    assert [(leaf.aval.shape, leaf.base) for leaf in low_rank_leaves(direction)] == [(size, None) for size in large]


def test_a_displacement_is_left_in_its_factors_without_what_it_started_from():
    wide = fm.models.mlp((40, 64, 36), activation=jnp.tanh)
    case = Case("mlp", fm.Reptile(inner_lr=0.2, inner_steps=2), wide)
    direction = case.check(LOW_RANK, rtol=1e-4, atol=1e-6).pseudo_gradient
    shapes = [(leaf.aval.shape, leaf.base is None) for leaf in low_rank_leaves(direction)]
    assert shapes == [((40, 64), True), ((64, 36), True)]
    assert products(case.program(LOW_RANK), least_loops=1) == []


def test_of_meta_sgd_the_initialisation_is_left_in_factors_and_the_rates_are_formed():
    case = Case("softmax", fm.MetaSGD(inner_lr=0.2))
    direction = jax.jit(case.rewritten(LOW_RANK))(case.phi, case.task).pseudo_gradient
    assert is_low_rank(direction["params"]["weight"])
    assert direction["inner_lr"]["weight"].shape == (40, 30)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rates", cells(["filter"], ["filter", "layer"]))
@pytest.mark.parametrize("network", cells(["mlp"], ["mlp", "cnn", "lstm"]))
def test_rates_that_are_shared_give_what_jax_gives(network, rates):
    algorithm = fm.MetaSGD(inner_lr=0.2, inner_steps=2, rates=rates)
    for made in (algorithm, fm.PerFedAvg(of=algorithm, local_steps=2, batch_size=3)):
        case = Case(network, made)
        case.phi["inner_lr"] = jax.tree.map(lambda rate: rate * (1 + rows(*rate.shape) / 9), case.phi["inner_lr"])
        case.check(LOW_RANK)


@pytest.mark.parametrize("name", ["fomaml", "maml"])
def test_a_recurrent_layers_gradient_is_taken_once_after_the_loop(name):
    case = Case("lstm", ALGORITHMS[name](inner_lr=0.2))
    assert {(24, 96), (96, 24)} & set(products(case.traced.program.jaxpr, least_loops=2))
    # The loop over inner steps is unrolled where products are left in their factors.
    for options, loops in ((LOW_RANK, 1), (DENSE, 2)):
        inside = products(case.program(options), loops)
        assert inside
        assert not {(24, 96), (96, 24)} & set(inside)


def numbers(equation):
    dimensions = equation.params["dimension_numbers"]
    return dimensions.lhs_spec, dimensions.rhs_spec, dimensions.out_spec


@pytest.mark.parametrize("network", ["cnn", "rectangles"])
def test_convolutions_slide_a_small_kernel_over_an_image_in_the_usual_order(network):
    case = Case(network, fm.MAML(inner_lr=0.2))
    usual = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    seen = 0
    for equation, _ in equations(case.program(LOW_RANK)):
        plain = equation.primitive.name == "conv_general_dilated" and equation.params["window_strides"] == (1, 1)
        if not plain or equation.params["lhs_dilation"] != (1, 1) or equation.params["rhs_dilation"] != (1, 1):
            continue
        seen += 1
        image, kernel = (variable.aval.shape for variable in equation.invars)
        assert numbers(equation) == usual
        assert all(k <= s for k, s in zip(kernel[:2], image[1:3], strict=True))
        assert all(max(pair) <= k + 1 for pair, k in zip(equation.params["padding"], kernel[:2], strict=True))
    assert seen >= 4


@pytest.mark.parametrize("network", ["cnn", "flax"])
def test_patches_leave_no_convolution(network):
    case = Case(network, fm.MAML(inner_lr=0.2))
    names = [equation.primitive.name for equation, _ in equations(case.program(PATCHES))]
    assert "conv_general_dilated" not in names


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("network", "options"),
    cells(
        [("mlp", LOW_RANK), ("cnn", PATCHES)],
        [(network, options) for network in ("mlp", "cnn") for options in (LOW_RANK, PATCHES)],
    ),
    ids=label,
)
def test_clients_side_by_side_get_what_each_gets_alone(network, options):
    """Beside one another each has, after its first step, kernels of its own."""
    case = Case(network, fm.MAML(inner_lr=0.2, inner_steps=2))
    tasks = [make_task(network, seed=seed) for seed in range(3)]
    together = jax.tree.map(lambda *parts: np.stack(parts), *tasks)
    found = jax.jit(jax.vmap(case.rewritten(options), in_axes=(None, 0)))(case.phi, together)
    # A batch of factored matrices is a factored matrix whose arrays have the axis of clients.
    plain = jax.jit(case.plain)
    for place, task in enumerate(tasks):
        own = jax.tree.map(lambda leaf, place=place: leaf[place], found)
        toys.assert_close(all_dense(own), plain(case.phi, task), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("network", cells(["mlp"], ["mlp", "cnn", "lstm"]))
def test_activations_that_are_computed_again_change_nothing(network):
    case = Case(network, fm.MAML(inner_lr=0.2, inner_steps=2), remat=True)
    case.check(LOW_RANK)
    names = [equation.primitive.name for equation, _ in equations(case.program(LOW_RANK))]
    assert "optimization_barrier" in names


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "loop", "options"),
    cells(
        [("maml", "minibatches", DENSE), ("maml", "epochs", LOW_RANK)],
        [
            (name, loop, options)
            for name in ("maml", "fedavg", "meta-sgd")
            for loop in ("minibatches", "epochs")
            for options in (LOW_RANK, DENSE)
        ],
    ),
    ids=label,
)
def test_batches_and_steps_that_do_not_count_change_nothing(name, loop, options):
    """In epochs, a client with fewer examples than the padding has steps in which nothing happens."""
    case = Case("mlp", toys.algorithm(name, loop, inner_epochs=1 if loop == "epochs" else None))
    mask = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    case.task = fm.Task(fm.Batch(case.task.support.x, case.task.support.y, mask), case.task.query)
    case.check(options)


@jax.custom_vjp
def gated(x):
    return x * jax.nn.sigmoid(x)


gated.defvjp(lambda x: (gated(x), x), lambda x, g: (g * (1 + jnp.tanh(x)),))


@jax.custom_jvp
def bent(x):
    return jnp.sinh(x)


bent.defjvp(lambda x, t: (bent(*x), jnp.cos(x[0]) * t[0]))


def branching(x):
    return lax.cond(x[0, 0] > 0, jnp.tanh, lambda x: 0.5 * jnp.sin(x), x)


def unknown_length(x):
    """A loop with no end that is known before, on which nothing depends that is differentiated."""
    count = lax.while_loop(lambda n: n < jnp.round(3 * lax.stop_gradient(jnp.cos(x[0, 0]))), lambda n: n + 1.0, -2.0)
    return jnp.tanh(x) * count


OWN = [gated, bent, branching, unknown_length]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", cells(OWN[::2], [*OWN, jax.nn.relu, jax.checkpoint(jnp.tanh)]))
def test_a_network_may_have_derivatives_of_its_own_branches_and_loops(activation):
    case = Case("mlp", fm.MAML(inner_lr=0.2), fm.models.mlp((40, 32, 36), activation=activation))
    assert low_rank_leaves(case.check(LOW_RANK))


@pytest.mark.usefixtures("x64")
def test_a_network_may_loop_over_the_rows_of_what_it_adapts():
    def apply(params, x):
        x = jnp.asarray(x, params["w"].dtype)
        # Read row by row, broadcast, multiplied with itself and transposed: all of it is asked of a factored matrix.
        decay = lax.scan(lambda total, row: (total + jnp.tanh(row).sum(), None), 0.0, params["w"])[0]
        attention = jnp.broadcast_to(params["w"].T @ params["w"], (len(x), 30, 30))
        hidden = jnp.einsum("ni,nij->nj", x @ params["w"], attention) / 30
        return hidden * jax.nn.sigmoid(decay) + x @ (1.0 + params["w"] ** 2) / 40 + x @ (params["w"] - 2.0) / 40

    model = fm.Model(lambda key: {"w": jax.random.normal(key, (40, 30)) / 8}, apply)
    # The first step leaves the factored matrix; a second is differentiated through it.
    Case("softmax", fm.MAML(inner_lr=0.2, inner_steps=cells(1, 2)), model).check(LOW_RANK)


def rows(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def outer(x, y):
    return x.T @ y


def other(x, y):
    return -outer(x, y)


def descent(steps):
    """A loop that carries a factored matrix, reads rows of a constant, and returns a number that it names."""

    def run(x, y):
        def step(carry, row):
            matrix, number = carry
            return (matrix - 0.1 * outer(x * row[0], y + matrix[0, 0]), number), (row.sum(), 0.0)

        return lax.scan(step, (jnp.zeros((40, 50)), 1.0), jnp.ones((steps, 4)))

    return run


def adding_loop(x, y):
    """A loop that only adds products up, and whose other results are named numbers."""

    def step(carry, row):
        return (carry[0] + outer(x * row[0], y), 0.0), (carry[1], 2.0)

    return lax.scan(step, (jnp.ones((40, 50)), 3.0), rows(30, 4))


def both_ways(x, y):
    """Loops that read backwards, one within another, and a matrix that they contract along its rows."""
    matrix = outer(x, y)

    def step(state, row):
        inner, _ = lax.scan(lambda s, r: (jnp.tanh(s @ matrix.T @ matrix / 40 + r), s.sum()), state, row, reverse=True)
        return inner, inner @ y.T

    return lax.scan(step, jnp.zeros(50), rows(5, 4, 50), reverse=True)


FUNCTIONS = {
    "a number is added": lambda x, y: (outer(x, y) + 1.0) @ y.T,
    "a number less the matrix, transposed": lambda x, y: y @ (1.0 - outer(x, y)).T,
    "a constant matrix is added": lambda x, y: (outer(x, y) + jnp.full((40, 50), 2.0)) @ y.T,
    "zeros are added": lambda x, y: jnp.zeros((40, 50)) + outer(x, y),
    "a constant matrix less": lambda x, y: jnp.full((40, 50), 2.0) - outer(x, y) / 3.0,
    "scaled by a result": lambda x, y: x.sum() * outer(x, y) / y.sum(),
    "times itself": lambda x, y: outer(x, y) * outer(x, y),
    "a product with itself": lambda x, y: outer(x, y) @ outer(x, y).T,
    "vectors": lambda x, y: (outer(x, y) @ y[0], x[0] @ outer(x, y)),
    "several axes": lambda x, y: (jnp.ones((2, 6, 40)) @ outer(x, y), outer(x, y) @ jnp.ones((2, 50, 6))),
    "all axes": lambda x, y: jnp.vdot(outer(x, y), jnp.ones((40, 50))),
    "an axis each": lambda x, y: jnp.einsum("ij,ij->i", outer(x, y), jnp.ones((40, 50))),
    "minus where it began": lambda x, y: jnp.ones((40, 50)) - (jnp.ones((40, 50)) - 0.1 * outer(x, y)),
    "another type and back": lambda x, y: outer(x, y).astype(jnp.float32).astype(x.dtype),
    "whole numbers": lambda x, y: outer((3 * x).astype(int), (3 * y).astype(int)),
    "complex numbers": lambda x, y: jnp.abs(outer(x + 1j, y)),
    "rows of it in a loop": lambda x, y: lax.scan(lambda c, row: (c + row.sum(), 2 * row), 0.0, outer(x, y)),
    "no steps": descent(0),
    "few steps": descent(2),
    "many steps": descent(40),
    "few steps, then broadcast": lambda x, y: descent(2)(x, y)[1][0][None] * jnp.ones((3, 1)),
    "a loop that adds": adding_loop,
    "backwards": both_ways,
    "a branch": lambda x, y: lax.cond(x[0, 0] > 0, outer, lambda x, y: jnp.zeros((40, 50)), x, y),
    "a branch on the matrix": lambda x, y: lax.switch(1, [jnp.sin, jnp.cos, jnp.tanh], outer(x, y)),
    "named results": lambda x, y: (outer(x, y), 1.0, x, jnp.ones(())),
    "one client a branch": lambda x, y: jax.vmap(lambda n: lax.cond(n > 0, outer, other, x, y))(x[0]),
    "one client a loop": lambda x, y: jax.vmap(
        lambda n: lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + outer(x, y)), (0, outer(x, y)))
    )(jnp.arange(3)),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_whatever_is_done_with_a_factored_matrix_is_done(function):
    args = rows(3, 40), rows(3, 50, seed=1)
    expected = jax.tree.map(jnp.asarray, jax.jit(FUNCTIONS[function])(*args))
    found = all_dense(jax.jit(rewrite(trace(FUNCTIONS[function], *args), LOW_RANK))(*args))
    toys.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert dtypes(found) == dtypes(expected)


# An operation that runs alone is compiled for each shape: of two sizes there are few, and some differ.
SIZES = cells(st.sampled_from([1, 3]), st.integers(1, 5))


def plain_product(left, right, dimensions):
    return lax.dot_general(jnp.asarray(left), jnp.asarray(right), dimensions)


@st.composite
def factored_matrices(draw, shape):
    ranks = draw(st.lists(SIZES, min_size=1, max_size=3))
    source = np.random.default_rng(draw(st.integers(0, 99)))
    base = source.normal(size=shape) if draw(st.booleans()) else None
    lefts, rights = (tuple(jnp.asarray(source.normal(size=(rank, size))) for rank in ranks) for size in shape)
    matrix = LowRank(base, lefts, rights)
    terms = sum(left.T @ right for left, right in zip(lefts, rights, strict=True))
    return matrix, terms if base is None else base + terms


@st.composite
def pairs(draw):
    shape = draw(SIZES), draw(SIZES)
    return draw(factored_matrices(shape)), draw(factored_matrices(shape))


@pytest.mark.usefixtures("x64")
@settings(max_examples=15)
@given(pairs(), st.floats(-3, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 9))
def test_a_factored_matrix_obeys_the_algebra_of_matrices(both, number, axis, other_axis, seed):
    (matrix, value), (other, added) = both
    close = np.testing.assert_allclose
    assert matrix.aval.shape == value.shape
    assert matrix.size == sum(part.size for part in (*matrix.lefts, *matrix.rights))
    for found, expected in [
        (matrix, value),
        (matrix.transposed(), value.T),
        (matrix.scaled(number), value * number),
        (matrix.plus(other), value + added),
        (matrix.plus(added), value + added),
        (matrix.transposed().plus(other.scaled(number).transposed()), value.T + number * added.T),
    ]:
        assert found.aval.shape == expected.shape
        close(found.dense(), expected, rtol=1e-9, atol=1e-9)
    sizes = [2, 3, 4]
    sizes[other_axis] = value.shape[axis]
    array = np.random.default_rng(seed).normal(size=sizes)
    expected = np.tensordot(value, array, (axis, other_axis))
    close(matrix.times(array, axis, other_axis, plain_product), expected, rtol=1e-9, atol=1e-9)
    expected = np.tensordot(array, value, (other_axis, axis))
    close(matrix.times_after(array, axis, other_axis, plain_product), expected, rtol=1e-9, atol=1e-9)


def test_factors_are_worth_it_where_they_are_fewer_than_the_matrix():
    assert worthwhile(40, 40, 20)
    assert not worthwhile(40, 40, 21)
    assert not worthwhile(31, 33, 1)
    assert SMALLEST > 31 * 33


ORDERS = [
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("CHWN", "IHWO", "HWNC"),
    ("HNWC", "WOHI", "CNWH"),
]


@st.composite
def convolutions(draw):
    """Any plain convolution: images, kernels smaller or larger than them, padding that adds or cuts away."""
    one = st.integers(1, 3)
    image, kernel = ([draw(st.integers(1, 6)) for _ in range(2)] for _ in range(2))
    padding = {}
    for axis, size, window in zip("HW", image, kernel, strict=True):
        before = draw(st.integers(-2, 6))
        # At least one place for the kernel, and at least one number left of the image.
        least = max(window - size - before, 1 - size - before)
        padding[axis] = before, draw(st.integers(least, least + 4))
    order = draw(st.sampled_from(ORDERS))
    many = draw(st.sampled_from([1, 2, 9]))
    shapes = []
    for letters, values in (
        (order[0], {"N": many, "C": draw(one), "H": image[0], "W": image[1]}),
        (order[1], {"O": draw(one), "H": kernel[0], "W": kernel[1]}),
    ):
        shapes.append((letters, values))
    shapes[1][1]["I"] = shapes[0][1]["C"]
    lhs, rhs = (tuple(values[letter] for letter in letters) for letters, values in shapes)
    # XLA takes the axes in the order in which they are among the kernel's.
    return lhs, rhs, tuple(padding[letter] for letter in order[1] if letter in padding), order


def params(lhs, rhs, padding, order):
    return {
        "window_strides": (1, 1),
        "padding": padding,
        "lhs_dilation": (1, 1),
        "rhs_dilation": (1, 1),
        "dimension_numbers": lax.conv_dimension_numbers(lhs, rhs, order),
        "feature_group_count": 1,
        "batch_group_count": 1,
        "precision": None,
        "preferred_element_type": None,
    }


def check_convolution(lhs, rhs, padding, order, form):
    left, right = rows(*lhs), rows(*rhs, seed=1)
    # In one program, for each operation that runs alone is compiled alone.
    expected, found = jax.jit(
        lambda left, right: (
            lax.conv_general_dilated(left, right, (1, 1), padding, dimension_numbers=order),
            convolve(left, right, params(lhs, rhs, padding, order), form, plain_product),
        )
    )(left, right)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", ["xla", "im2col"])
@examples(25)
@given(convolutions())
def test_a_convolution_in_any_form_is_that_of_xla(form, convolution):
    check_convolution(*convolution, form)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", ["xla", "im2col"])
@pytest.mark.parametrize(
    ("image", "kernel", "padding"),
    [
        ((4, 5), (7, 8), ((3, 4), (5, 3))),  # the kernel is larger than the image
        ((6, 7), (5, 6), ((1, 1), (0, 2))),  # a derivative in the kernel: few places for a large window
        ((6, 7), (5, 6), ((-1, 1), (2, -2))),
        ((6, 7), (3, 2), ((-2, -1), (-1, 0))),
        ((5, 5), (5, 5), ((0, 0), (0, 0))),
        ((3, 8), (5, 2), ((2, 2), (0, 1))),  # larger along one axis, smaller along the other
    ],
)
@pytest.mark.parametrize("many", cells([9], [2, 9]))
@pytest.mark.parametrize("channels", [(1, 3), (3, 1)])
def test_the_forms_that_differentiation_gives_are_those_of_xla(form, image, kernel, padding, many, channels):
    lhs, rhs = (many, *image, channels[0]), (*kernel, channels[0], channels[1])
    check_convolution(lhs, rhs, padding, ORDERS[0], form)


def test_a_convolution_that_fits_nowhere_is_empty():
    x, kernel = rows(2, 3, 5, 5), rows(4, 3, 7, 6, seed=1)
    for options in (LOW_RANK, PATCHES):
        for padding in ("VALID", ((0, 1), (3, 3))):
            found = rewrite(
                trace(lambda x, k, p=padding: lax.conv_general_dilated(x, k, (1, 1), p), x, kernel), options
            )
            assert found(x, kernel).shape == lax.conv_general_dilated(x, kernel, (1, 1), padding).shape


@pytest.mark.parametrize("precision", ["default", "highest"])
def test_a_convolution_keeps_the_precision_and_the_type_that_the_network_asks_for(precision):
    x, kernel = jnp.ones((2, 6, 6, 3), jnp.bfloat16), jnp.ones((3, 3, 3, 4), jnp.bfloat16)

    def convolve_(x, kernel):
        order = ORDERS[0]
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=order,
            precision=precision,
            preferred_element_type=jnp.float32,
        )

    asked = (lax.Precision(getattr(lax.Precision, precision.upper())),) * 2
    for options, name in ((LOW_RANK, "conv_general_dilated"), (PATCHES, "dot_general")):
        program = jax.make_jaxpr(rewrite(trace(convolve_, x, kernel), options))(x, kernel)
        (equation,) = [equation for equation, _ in equations(program.jaxpr) if equation.primitive.name == name]
        assert equation.params["precision"] == asked
        assert equation.outvars[0].aval.dtype == jnp.float32


HALVES = [replace(options, products=jnp.bfloat16) for options in (LOW_RANK, DENSE, PATCHES)]


ROUNDED = [("mlp", HALVES[0]), ("mlp", HALVES[1]), ("rectangles", HALVES[2])]


@pytest.mark.parametrize(
    ("network", "options"), cells(ROUNDED[1:], [*ROUNDED, ("cnn", HALVES[0]), ("lstm", HALVES[0])]), ids=label
)
def test_factors_rounded_to_bfloat16_give_nearly_what_float32_gives(network, options):
    case = Case(network, fm.FOMAML(inner_lr=0.2) if network == "lstm" else fm.MAML(inner_lr=0.2))
    exact = jax.jit(case.plain)(case.phi, case.task).pseudo_gradient
    found = all_dense(jax.jit(case.rewritten(options))(case.phi, case.task).pseudo_gradient)
    assert dtypes(found) == dtypes(exact)
    distance = np.linalg.norm(toys.flat(found) - toys.flat(exact)) / np.linalg.norm(toys.flat(exact))
    assert 1e-4 < distance < 3e-2


@pytest.mark.parametrize("options", HALVES, ids=label)
def test_every_product_rounds_its_factors(options):
    """Of numbers that bfloat16 does not hold; sums are not rounded."""
    fine = 1 + 2.0**-10
    coarse = {
        "matrices": lambda v: jnp.full((64, 40), v).T @ jnp.full((64, 40), v),
        "thin matrices": lambda v: jnp.full((3, 40), v).T @ jnp.full((3, 40), v),
        "convolutions": lambda v: lax.conv(jnp.full((1, 1, 9, 9), v), jnp.full((1, 1, 3, 3), v), (1, 1), "VALID"),
        "strides": lambda v: lax.conv(jnp.full((1, 1, 9, 9), v), jnp.full((1, 1, 3, 3), v), (2, 2), "VALID"),
        "branches": lambda v: lax.cond(v > 0, lambda w: w.T @ w, lambda w: w.T @ w, jnp.full((64, 40), v)),
    }
    for name, function in coarse.items():
        found = all_dense(rewrite(trace(function, jnp.float32(fine)), options)(jnp.float32(fine)))
        count = {"matrices": 64, "branches": 64, "thin matrices": 3}.get(name, 9)
        assert np.unique(found).tolist() == [count], name
        plain = np.asarray(function(jnp.float32(fine)))
        assert abs(plain - count).min() > 1e-3, name
    total = rewrite(trace(lambda v: v + 1.0, jnp.float32(fine)), options)(jnp.float32(fine))
    assert float(total) == fine + 1


@pytest.mark.parametrize("kind", cells([fm.MAML], [fm.FedAvg, fm.MAML]))
def test_many_steps_are_a_loop_so_that_compilation_stays_short(kind):
    """A program's length is what its compilation takes; written out, 160 steps of this network took minutes."""
    model = fm.models.mlp((784, 300, 10))
    draw = np.random.default_rng(0)

    def batch(size):
        return fm.Batch(draw.normal(size=(size, 784)).astype(np.float32), draw.integers(10, size=size))

    task = fm.Task(batch(8), batch(8))
    lengths = []
    for steps in (1, 3, 40, 160):
        case = Case("mlp", kind(inner_lr=0.01, inner_steps=steps, inner_batch_size=1), model, task=task)
        lengths.append(operations(case.program(LOW_RANK)))
    assert lengths[1] > 1.3 * lengths[0], "a few steps are written out"
    assert lengths[3] == lengths[2] < 2 * lengths[0]
