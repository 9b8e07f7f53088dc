import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmeta import optimisers, pytrees
from fedmeta.errors import UnknownName, UsageError
from tests import toys
from tests.examples import cells, in_soak

# Each named optimiser, plainly and with other settings, beside Optax's own.
PAIRS = {
    "sgd": (optimisers.sgd(0.1), optax.sgd(0.1)),
    "momentum": (optimisers.momentum(0.1), optax.sgd(0.1, 0.9)),
    "nesterov": (optimisers.momentum(0.1, 0.7, nesterov=True), optax.sgd(0.1, 0.7, nesterov=True)),
    "adam": (optimisers.adam(1e-3), optax.adam(1e-3)),
    "adam, other": (optimisers.adam(0.1, 0.0, 0.9, 1e-3, 1e-8), optax.adam(0.1, 0.0, 0.9, 1e-3, 1e-8)),
    "yogi": (optimisers.yogi(0.01), optax.yogi(0.01)),
    "yogi, other": (optimisers.yogi(0.1, 0.5, 0.9, 1e-2), optax.yogi(0.1, 0.5, 0.9, 1e-2)),
    "adagrad": (optimisers.adagrad(0.1), optax.adagrad(0.1)),
    "adagrad, other": (optimisers.adagrad(0.1, 0.0, 1e-3), optax.adagrad(0.1, 0.0, 1e-3)),
}
OURS = {name: ours for name, (ours, _) in PAIRS.items()}
STEPS = 40


def draws(steps=STEPS, seed=0):
    """Gradients of very different sizes, some of them exactly zero, one coordinate always."""
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        size = 10.0 ** draw.integers(-4, 3, size=(5, 3))
        w = draw.normal(size=(5, 3)) * size * (draw.random((5, 3)) > 0.3)
        w[0, 0] = 0.0
        yield {"w": w, "b": draw.normal(size=())}


def start(dtype):
    return {"w": jnp.ones((5, 3), dtype), "b": jnp.asarray(0.5, dtype)}


def steps(optimiser, state, params, gradients, update=None):
    update = update or jax.jit(optimiser.update)
    taken = []
    for gradient in gradients:
        updates, state = update(jax.tree.map(lambda g, p: jnp.asarray(g, p.dtype), gradient, params), state, params)
        taken.append(updates)
    return taken, state


# Beside Optax.


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", cells(["bfloat16"], ["float32", "bfloat16", "float64"]))
def test_on_jax_every_update_and_state_is_optax_own_to_the_bit(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, (ours, theirs) = start(dtype), PAIRS[name]
        begun = ours.init(params)
        assert toys.same_bits(begun, theirs.init(params))
        left, right = steps(ours, begun, params, draws(12)), steps(theirs, theirs.init(params), params, draws(12))
        assert toys.same_bits(left, right)
        assert jax.tree.map(lambda leaf: leaf.dtype, left) == jax.tree.map(lambda leaf: leaf.dtype, right)


@pytest.mark.parametrize("name", PAIRS)
def test_a_checkpoint_of_either_goes_on_with_the_other(name, tmp_path):
    params, (ours, theirs) = start("float32"), PAIRS[name]
    gradients = list(draws(12))
    whole = steps(theirs, theirs.init(params), params, gradients)[1]
    for first, second in ((ours, theirs), (theirs, ours)):
        pytrees.save(tmp_path / "state", steps(first, first.init(params), params, gradients[:7])[1])
        state = pytrees.load(tmp_path / "state", second.init(params))
        assert toys.same_bits(steps(second, state, params, gradients[7:])[1], whole)


@pytest.mark.parametrize("name", cells([*PAIRS][::3], [*PAIRS]))
def test_one_is_taken_wherever_an_optax_transformation_is(name):
    params, (ours, theirs) = start("float32"), PAIRS[name]
    assert isinstance(ours, optimisers.Optimiser)
    assert isinstance(theirs, optimisers.Optimiser)
    init, update = ours
    assert toys.same_bits(init(params), ours.init(params))
    wrapped = (
        [optax.chain(optax.clip_by_global_norm(1.0), tx, optax.scale(0.5)) for tx in (ours, theirs)],
        [optax.MultiSteps(tx, 2) for tx in (ours, theirs)],
    )
    for left, right in wrapped:
        assert toys.same_bits(
            steps(left, left.init(params), params, draws(4)), steps(right, right.init(params), params, draws(4))
        )
    assert update.__self__ == ours


# On NumPy.


def by_hand(optimiser, gradients):
    """One coordinate's updates by the papers' formulas, in Python's floats: IEEE doubles, one operation at a time."""
    lr, (m, v, s, t) = optimiser.learning_rate, (0.0, 0.0, 0.0, 0.0)
    if isinstance(optimiser, optimisers.yogi):
        m = v = 1e-6
    if isinstance(optimiser, optimisers.adagrad):
        s = optimiser.initial_accumulator_value
    found = []
    for n, g in enumerate(gradients, 1):
        if isinstance(optimiser, optimisers.sgd):
            step = g
        elif isinstance(optimiser, optimisers.momentum):
            t = g + optimiser.decay * t
            step = g + optimiser.decay * t if optimiser.nesterov else t
        elif isinstance(optimiser, optimisers.adagrad):
            s = g * g + s
            step = (1 / math.sqrt(s + optimiser.eps)) * g if s > 0 else 0.0 * g
        else:
            b1, b2 = optimiser.b1, optimiser.b2
            m = (1 - b1) * g + b1 * m
            if isinstance(optimiser, optimisers.yogi):
                v = v - (1 - b2) * ((v > g * g) - (v < g * g)) * (g * g)
                root = 0.0
            else:
                v = (1 - b2) * (g * g) + b2 * v
                root = optimiser.eps_root
            step = (m / (1 - power(b1, n))) / (math.sqrt(v / (1 - power(b2, n)) + root) + optimiser.eps)
        found.append(-lr * step)
    return found


def power(base, exponent):
    """b^n from b^1, b^2, b^4, ...: those that n is the sum of, the smallest first."""
    result, squares = 1.0, base
    for bit in reversed(f"{exponent:b}"):
        result = result * squares if bit == "1" else result
        squares = squares * squares
    return result


def on_numpy(optimiser, count=STEPS):
    params = {"w": np.ones((5, 3)), "b": np.array(0.5)}
    state, taken = optimiser.init(params), []
    for gradient in draws(count):
        updates, state = optimiser.update(gradient, state, params)
        taken.append(updates)
    return taken, state


@pytest.mark.parametrize("name", OURS)
def test_on_numpy_each_bit_is_that_of_a_loop_over_python_floats(name):
    taken, state = on_numpy(OURS[name])
    assert all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in jax.tree.leaves((taken, state)))
    gradients = list(draws())
    for place in np.ndindex(5, 3):
        expected = by_hand(OURS[name], [float(gradient["w"][place]) for gradient in gradients])
        assert [float(updates["w"][place]).hex() for updates in taken] == [value.hex() for value in expected]
    expected = by_hand(OURS[name], [float(gradient["b"]) for gradient in gradients])
    assert [float(updates["b"]).hex() for updates in taken] == [value.hex() for value in expected]


@pytest.mark.parametrize("name", OURS)
def test_on_numpy_the_state_is_the_same_tree_as_on_jax(name, x64):
    taken, state = on_numpy(OURS[name], 5)
    params = start("float64")
    there, moments = steps(OURS[name], OURS[name].init(params), params, draws(5))
    assert jax.tree.structure(state) == jax.tree.structure(moments)
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == [leaf.dtype for leaf in jax.tree.leaves(moments)]
    # XLA may contract a product and a sum into one operation, and its power is its own: a few last bits.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300), (taken, state), (there, moments)
    )


def everything_on_numpy():
    """The digest of long courses of all of them, on arrays of odd lengths, at any alignment."""
    digest = hashlib.sha256()
    draw = np.random.default_rng(5)
    for optimiser in OURS.values():
        params = {"w": np.ones(1031), "v": np.ones((3, 7))[:, 1:]}
        state = optimiser.init(params)
        for _ in range(50):
            gradient = {"w": draw.normal(size=1032)[1:], "v": draw.normal(size=(3, 7))[:, 1:]}
            updates, state = optimiser.update(gradient, state, params)
            params = {name: params[name] + updates[name] for name in params}
        digest.update(pytrees.digest((params, state)).encode())
    return digest.hexdigest()


@in_soak
def test_with_vector_instructions_and_without_the_bytes_are_the_same():
    features = np._core._multiarray_umath.__cpu_features__
    optional = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]]
    if not optional:
        pytest.skip("NumPy takes no optional vector instructions on this processor")
    code = "from tests.test_optimisers import everything_on_numpy; print(everything_on_numpy())"
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(optional), "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parent.parent
    plain = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    assert plain.stdout.split() == [everything_on_numpy()], plain.stderr
    assert everything_on_numpy() == everything_on_numpy()


def test_the_count_of_steps_stays_at_the_largest_as_optax_does():
    params = {"w": np.ones(2)}
    most = np.iinfo(np.int32).max
    for optimiser in (optimisers.adam(0.1), optimisers.yogi(0.1)):
        state = optimiser.init(params)
        state = (state[0]._replace(count=np.array(most, np.int32)), state[1])
        updates, after = optimiser.update(params, state, params)
        assert after[0].count == most
        assert np.isfinite(updates["w"]).all()


# As values.


def test_equal_settings_are_equal_whatever_numbers_they_came_as():
    for rate in (0.5, np.float32(0.5), np.float64(0.5), jnp.float32(0.5), np.array(0.5)):
        for other in (optimisers.sgd(rate), optimisers.make("sgd", learning_rate=rate)):
            assert other == optimisers.sgd(0.5)
            assert hash(other) == hash(optimisers.sgd(0.5))
            assert type(other.learning_rate) is float
    assert optimisers.adam(1) == optimisers.adam(1.0) != optimisers.adam(1.0, eps_root=1e-8)
    assert optimisers.momentum(1, nesterov=np.True_) == optimisers.momentum(1, nesterov=True)
    assert len({optimisers.adam(0.1), optimisers.yogi(0.1), optimisers.adam(0.1)}) == 2


def test_the_table_has_every_optimiser_and_says_what_is_unknown():
    assert {name: kind.name for name, kind in optimisers.OPTIMISERS.items()} == {
        name: name for name in optimisers.OPTIMISERS
    }
    assert {type(ours) for ours in OURS.values()} == set(optimisers.OPTIMISERS.values())
    assert optimisers.make("adam", learning_rate=1e-3, b1=0.5) == optimisers.adam(1e-3, 0.5)
    with pytest.raises(UnknownName, match=r"unknown optimiser 'adma': did you mean 'adam'"):
        optimisers.make("adma", learning_rate=0.1)
    with pytest.raises(UnknownName, match=r"unknown option of sgd 'learning_rat': did you mean 'learning_rate'"):
        optimisers.make("sgd", learning_rat=0.1)
    with pytest.raises(UsageError, match="sgd needs a learning_rate"):
        optimisers.make("sgd")


@pytest.mark.parametrize(
    ("kind", "setting", "right"),
    [
        *((kind, "learning_rate", "positive and finite") for kind in optimisers.OPTIMISERS.values()),
        (optimisers.momentum, "decay", "at least 0 and below 1"),
        (optimisers.adam, "b1", "at least 0 and below 1"),
        (optimisers.yogi, "b2", "at least 0 and below 1"),
        (optimisers.adam, "eps", "finite and not negative"),
        (optimisers.adam, "eps_root", "finite and not negative"),
        (optimisers.adagrad, "initial_accumulator_value", "finite and not negative"),
    ],
)
def test_a_setting_that_is_out_of_range_is_named_with_its_value(kind, setting, right):
    wrong = [-0.1, math.inf, math.nan, True, "0.1", None, np.ones(2), lambda count: 0.1]
    wrong += [0.0] if right.startswith("positive") else [1.0] if "below 1" in right else []
    for value in wrong:
        with pytest.raises(UsageError, match=f"{setting} of {kind.name} must be a number, {right}, not "):
            kind(**{"learning_rate": 0.1, setting: value})


def test_nesterov_is_true_or_false():
    with pytest.raises(UsageError, match="nesterov must be True or False, not 2"):
        optimisers.momentum(0.1, nesterov=2)


# Derivatives at zero.


LIKE = {"w": jax.ShapeDtypeStruct((60, 30), np.float32), "b": jax.ShapeDtypeStruct((30,), np.float32)}
SAFE = {
    "optax.sgd": optax.sgd(0.1),
    "optax.sgd with momentum": optax.sgd(0.1, 0.9),
    "optax.adam with eps_root": optax.adam(0.1, eps_root=1e-8),
    "optax.rmsprop": optax.rmsprop(0.1),
    "optax.adagrad": optax.adagrad(0.1),
    "optax.yogi": optax.yogi(0.1),
    "optax.lars": optax.lars(0.1),
    "optax.sm3": optax.sm3(0.1),
    "optax.adabelief": optax.adabelief(0.1),
    "optax.lion": optax.lion(0.1),
    "optax.adamax": optax.adamax(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "adam on nothing": optax.masked(optax.adam(0.1), {"w": False, "b": False}),
    "with a key in its state": optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)),
    **{f"fm {name}": ours for name, ours in OURS.items() if name not in ("adam", "yogi, other")},
}
UNSAFE = {
    "optax.adam": optax.adam(0.1),
    "optax.adamw": optax.adamw(0.1),
    "optax.nadam": optax.nadam(0.1),
    "optax.amsgrad": optax.amsgrad(0.1),
    "optax.radam": optax.radam(0.1),
    "optax.lamb": optax.lamb(0.1),
    "optax.rmsprop, eps outside": optax.rmsprop(0.1, eps_in_sqrt=False),
    "adam on one leaf": optax.masked(optax.adam(0.1), {"w": True, "b": False}),
    "adam every second step": optax.MultiSteps(optax.adam(0.1), 2),
    "adam with a schedule": optax.adam(optax.linear_schedule(0.1, 0.0, 5)),
    "fm adam": optimisers.adam(0.1),
}


@pytest.mark.parametrize("name", cells([*[*SAFE][::6], *[*UNSAFE][::6]], [*SAFE, *UNSAFE]))
def test_optimisers_without_a_derivative_at_zero_are_found(name):
    optimiser = (SAFE | UNSAFE)[name]
    assert optimisers.differentiable_at_zero(optimiser, LIKE) is (name in SAFE)
    # The same as what happens: the meta-gradient of a network through two steps, on inputs of which one is zero.
    assert meta_gradient_is_finite(optimiser) is (name in SAFE)


def meta_gradient_is_finite(optimiser):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(8, 4)).astype(np.float32), draw.normal(size=8).astype(np.float32)
    x[:, 2] = 0
    params = {"w": jnp.asarray(draw.normal(size=(4, 1)), jnp.float32), "b": jnp.ones(1)}

    def loss(params):
        return jnp.mean((x @ params["w"][:, 0] + params["b"] - y) ** 2)

    def after(params):
        state = optimiser.init(params)
        for _ in range(2):
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return loss(params)

    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(jax.jit(jax.grad(after))(params)))
