"""Meta-SGD whose rates are shared by a filter or by a layer."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.optimisers import sgd
from tests import toys
from tests.examples import cells
from tests.oracles import quadratic

KEY = jax.random.key(4)
SHARED = pytest.mark.parametrize("rates", ["filter", "layer"])
WAYS = {
    "one step": {},
    "minibatches": {"inner_steps": 3, "inner_batch_size": 2},
    "some parameters": {"inner_steps": 2, "adaptable": ("0/*", "1/bias")},
    "Adam within": {"inner_steps": 2, "inner": fm.optimisers.adam(0.3, eps_root=1e-8)},
    "momentum within": {"inner_steps": 3, "inner": optax.trace(0.5)},
}


@pytest.fixture(autouse=True)
def _doubles(x64):
    return x64


@cache
def answers(algorithm):
    """The compiled update of a client, as a function of phi."""
    model, task = toys.network(), jax.tree.map(jnp.asarray, toys.task())
    return jax.jit(lambda phi: algorithm.update(model, phi, task, KEY)[0])


def drawn(algorithm, seed=0):
    """A phi of the algorithm with rates that differ."""
    phi, draw = algorithm.init(toys.network(), jax.random.key(1)), np.random.default_rng(seed)
    return phi | {"inner_lr": jax.tree.map(lambda rate: draw.uniform(0.1, 0.4, rate.shape), phi["inner_lr"])}


def summed(leaf, shape):
    """The sums of an array over the places that share a rate: the leading axes, or all."""
    return np.asarray(leaf).sum(axis=tuple(range(leaf.ndim - len(shape))))


@SHARED
@pytest.mark.parametrize("way", cells(["Adam within"], WAYS))
def test_a_shared_rates_gradient_is_the_sum_of_its_coordinates_gradients(rates, way):
    algorithm, apart = fm.MetaSGD(rates=rates, **WAYS[way]), fm.MetaSGD(**WAYS[way])
    phi, like = drawn(algorithm), apart.init(toys.network(), jax.random.key(1))
    spread = jax.tree.map(lambda rate, whole: jnp.broadcast_to(rate, whole.shape), phi["inner_lr"], like["inner_lr"])
    found, expected = answers(algorithm)(phi), answers(apart)(phi | {"inner_lr": spread})
    toys.assert_close(found.metrics, expected.metrics, rtol=1e-12)
    toys.assert_close(found.pseudo_gradient["params"], expected.pseudo_gradient["params"], rtol=1e-9, atol=1e-12)
    by_hand = jax.tree.map(
        lambda leaf, rate: summed(leaf, rate.shape), expected.pseudo_gradient["inner_lr"], phi["inner_lr"]
    )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(by_hand)) > 1e-4
    toys.assert_close(found.pseudo_gradient["inner_lr"], by_hand, rtol=1e-9, atol=1e-12)


@SHARED
def test_at_one_rate_everywhere_it_is_maml_and_the_sum_of_the_rates_gradients_is_the_slope_in_mamls_rate(rates):
    """The slope by central differences of MAML's own loss, which has no gradient in its rate."""
    algorithm = fm.MetaSGD(rates=rates, inner_lr=0.2, inner_steps=3)
    found = answers(algorithm)(algorithm.init(toys.network(), jax.random.key(1))).pseudo_gradient
    theta = toys.network().init(jax.random.key(1))
    expected = answers(fm.MAML(inner_lr=0.2, inner_steps=3))(theta).pseudo_gradient
    toys.assert_close(found["params"], expected, rtol=1e-9, atol=1e-12)
    ends = [answers(fm.MAML(inner_lr=0.2 + gap, inner_steps=3))(theta).metrics["loss"] for gap in (1e-5, -1e-5)]
    total = sum(float(leaf.sum()) for leaf in jax.tree.leaves(found["inner_lr"]))
    assert total == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("rates", cells(["layer"], [None, "layer"]))
@pytest.mark.parametrize("inner", [sgd, optax.adam], ids=lambda one: one.__name__)
def test_the_rates_multiply_an_optimisers_steps_which_lead_downhill(inner, rates):
    """At the rate 0.2 everywhere, an optimiser's steps are those at 0.2 times its own rate."""
    options = {} if inner is sgd else {"eps_root": 1e-8}
    algorithm = fm.MetaSGD(rates=rates, inner_lr=0.2, inner_steps=3, inner=inner(0.5, **options))
    maml = fm.MAML(inner_steps=3, inner=inner(0.1, **options))
    model, support, theta = toys.network(), toys.task().support, toys.network().init(jax.random.key(1))
    phi = algorithm.init(model, jax.random.key(1))
    found, expected = answers(algorithm)(phi), answers(maml)(theta)
    toys.assert_close(found.pseudo_gradient["params"], expected.pseudo_gradient, rtol=1e-9, atol=1e-12)
    adapted = algorithm.adapt(model, phi, support, KEY)
    toys.assert_close(adapted, maml.adapt(model, theta, support, KEY), rtol=1e-9, atol=1e-12)
    assert model.scores(adapted, support, None)[0] < model.scores(theta, support, None)[0]


@SHARED
def test_a_client_adapts_with_the_shared_rates(rates):
    algorithm = fm.MetaSGD(rates=rates, adapt_steps=1)
    phi, model, support = drawn(algorithm), toys.network(), toys.task().support
    adapted = algorithm.adapt(model, phi, support, KEY)

    def loss(params):
        return model.scores(params, support, None)[0]

    slopes = jax.jit(jax.grad(loss))(phi["params"])
    by_hand = jax.tree.map(
        lambda p, g, rate: np.asarray(p) - np.asarray(rate) * np.asarray(g), phi["params"], slopes, phi["inner_lr"]
    )
    toys.assert_close(adapted, by_hand, rtol=1e-9, atol=1e-12)


def test_rates_that_are_shared_are_sent_once():
    """A network of 5, 4 and 3: two arrays of weights and two of biases."""
    model = toys.network()
    numbers, expected = 6 * 4 + 5 * 3, {None: 6 * 4 + 5 * 3, "filter": 2 * (4 + 3), "layer": 4}
    for rates, count in expected.items():
        phi = fm.MetaSGD(rates=rates, inner_lr=0.25).init(model, KEY)
        assert pytrees.payload(phi) == 8 * (numbers + count)
        assert all((np.asarray(leaf) == 0.25).all() for leaf in jax.tree.leaves(phi["inner_lr"]))
        half = fm.MetaSGD(rates=rates, adaptable=("1/*",)).init(model, KEY)["inner_lr"]
        assert jax.tree.leaves(half[0]) == []
        assert half[1]["bias"].shape == (() if rates == "layer" else (3,))


@SHARED
def test_the_history_counts_the_bytes_that_are_sent(rates):
    data, algorithm = toys.classification((8, 8, 8)), fm.MetaSGD(rates=rates, inner_lr=0.2)
    run = fm.train(algorithm, toys.network(), data, rounds=1, cohort_size=3, support=0.5)
    sent = 8 * (39 + {"filter": 14, "layer": 4}[rates])
    assert run.history["bytes_down"].to_pylist() == [3 * sent]
    assert run.history["bytes_up"].to_pylist() == [3 * (sent + 8)]


def quadratic_gradients(theta, alpha, support, query):
    """The gradients in theta and in the rates, shape [size], after one step on the support set."""
    outer = query.gradient(theta - alpha * support.gradient(theta))
    return (np.eye(len(theta)) - support.hessian @ np.diag(alpha)) @ outer, -support.gradient(theta) * outer


@pytest.mark.parametrize("rates", [None, "layer"])
@pytest.mark.parametrize("local", [sgd(0.05), fm.optimisers.adam(0.02)], ids=lambda one: one.name)
def test_the_local_steps_of_per_fedavg_move_meta_sgds_rates_too(rates, local):
    """2002.07948, algorithm 1, in both parts of phi; the local optimiser's steps by Optax, outside of the algorithm."""
    size, draw = 3, np.random.default_rng(0)
    task = fm.Task(quadratic.batch(draw, size, 4), quadratic.batch(draw, size, 3))
    support, query = quadratic.Mean(task.support), quadratic.Mean(task.query)
    alpha = draw.uniform(0.1, 0.3, size if rates is None else ())
    phi = {"params": draw.normal(size=size), "inner_lr": alpha}
    here, state = phi, local.init(phi)
    for _ in range(4):
        spread = np.broadcast_to(here["inner_lr"], size)
        in_theta, in_rates = quadratic_gradients(here["params"], spread, support, query)
        slopes = {"params": in_theta, "inner_lr": in_rates if alpha.ndim else np.asarray(in_rates.sum())}
        updates, state = local.update(slopes, state, here)
        here = jax.tree.map(np.add, here, updates)
    algorithm = fm.PerFedAvg(of=fm.MetaSGD(rates=rates), local=local, local_steps=4, batch_size=None)
    model = quadratic.model(size)
    update = jax.jit(lambda phi: algorithm.update(model, phi, task, KEY)[0])(jax.tree.map(jnp.asarray, phi))
    toys.assert_close(update.pseudo_gradient, jax.tree.map(np.subtract, phi, here), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("rates", cells(["layer"], [None, "filter", "layer"]))
def test_one_local_step_on_all_examples_at_rate_one_is_meta_sgds_own_answer(rates):
    of = fm.MetaSGD(rates=rates, inner_steps=2)
    around = fm.PerFedAvg(of=of, local=sgd(1.0), local_steps=1, batch_size=None)
    phi = drawn(of)
    toys.assert_close(answers(around)(phi).pseudo_gradient, answers(of)(phi).pseudo_gradient, rtol=1e-9, atol=1e-12)
