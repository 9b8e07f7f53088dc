"""On quadratic losses every algorithm's answer has a closed form."""

import dataclasses

import jax
import numpy as np
import pytest

import fedmeta as fm
from tests.oracles import quadratic

SIZES = pytest.mark.parametrize("size", [1, 2, 5])
STEPS = pytest.mark.parametrize("steps", [1, 2, 5])
CASES = pytest.mark.parametrize(("size", "steps"), [(1, 1), (2, 5), (5, 2)])
LR = 0.15


@pytest.fixture
def problem(size, x64):
    """A model, theta, a task, and the closed forms of its support and query losses."""
    draw = np.random.default_rng(size)
    task = fm.Task(quadratic.batch(draw, size, 3), quadratic.batch(draw, size, 2))
    return (
        quadratic.model(size),
        draw.normal(size=size),
        task,
        quadratic.Mean(task.support),
        quadratic.Mean(task.query),
    )


def direction(algorithm, model, phi, task):
    phi = jax.tree.map(jax.numpy.asarray, phi)
    update = jax.jit(lambda phi: algorithm.update(model, phi, task, jax.random.key(0))[0])(phi)
    return update.pseudo_gradient


def assert_exact(found, expected):
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@SIZES
@STEPS
def test_maml_goes_through_every_step(problem, size, steps):
    model, theta, task, support, query = problem
    rates = np.full(size, LR)
    adapted = support.after(theta, rates, steps)
    expected = np.linalg.matrix_power(support.contraction(rates), steps).T @ query.gradient(adapted)
    assert_exact(direction(fm.MAML(inner_lr=LR, inner_steps=steps), model, theta, task), expected)


@CASES
def test_fomaml_is_the_query_gradient_at_the_adapted_point(problem, size, steps):
    model, theta, task, support, query = problem
    expected = query.gradient(support.after(theta, np.full(size, LR), steps))
    assert_exact(direction(fm.FOMAML(inner_lr=LR, inner_steps=steps), model, theta, task), expected)


@SIZES
def test_meta_sgd_with_one_step_gives_the_rates_minus_the_product_of_both_gradients(problem, size):
    model, theta, task, support, query = problem
    alpha = np.random.default_rng(9).uniform(0.05, 0.3, size)
    answer = direction(fm.MetaSGD(inner_steps=1), model, {"params": theta, "inner_lr": alpha}, task)
    outer = query.gradient(theta - alpha * support.gradient(theta))
    assert_exact(answer["inner_lr"], -support.gradient(theta) * outer)
    assert_exact(answer["params"], (np.eye(size) - support.hessian @ np.diag(alpha)) @ outer)


@CASES
def test_meta_sgd_sums_what_the_rates_did_in_every_step(problem, size, steps):
    model, theta, task, support, query = problem
    alpha = np.random.default_rng(9).uniform(0.05, 0.3, size)
    answer = direction(fm.MetaSGD(inner_steps=steps), model, {"params": theta, "inner_lr": alpha}, task)
    back = support.contraction(alpha).T
    outer = query.gradient(support.after(theta, alpha, steps))
    rates = sum(
        -support.gradient(support.after(theta, alpha, step)) * (np.linalg.matrix_power(back, steps - 1 - step) @ outer)
        for step in range(steps)
    )
    assert_exact(answer["inner_lr"], rates)
    assert_exact(answer["params"], np.linalg.matrix_power(back, steps) @ outer)


@CASES
@pytest.mark.parametrize("kind", [fm.FedAvg, fm.FedAvgMeta, fm.Reptile])
def test_displacement_algorithms_descend_on_all_examples(problem, size, steps, kind):
    model, theta, task, _, _ = problem
    pooled = quadratic.Mean(task.support, task.query)
    algorithm = kind(inner_lr=LR, inner_steps=steps, inner_batch_size=None)
    expected = theta - pooled.after(theta, np.full(size, LR), steps)
    assert_exact(direction(algorithm, model, theta, task), expected)


@pytest.mark.parametrize(("size", "steps"), [(3, 4)])
@pytest.mark.parametrize("kind", [fm.MAML, fm.FOMAML, fm.FedAvgMeta, fm.Reptile])
def test_adaptation_descends_on_the_support_with_its_own_rate_and_steps(problem, size, steps, kind):
    model, theta, task, support, _ = problem
    algorithm = kind(inner_lr=LR, inner_batch_size=None, adapt_lr=LR / 2, adapt_steps=steps)
    adapted = algorithm.adapt(model, theta, task.support, jax.random.key(0))
    assert_exact(adapted, support.after(theta, np.full(size, LR / 2), steps))


@pytest.mark.parametrize("size", [3])
def test_meta_sgd_adapts_with_the_rates_it_learnt(problem, size):
    model, theta, task, support, _ = problem
    alpha = np.random.default_rng(9).uniform(0.05, 0.3, size)
    algorithm = fm.MetaSGD(inner_lr=10.0, adapt_steps=3)
    phi = {"params": theta, "inner_lr": alpha}
    adapted = algorithm.adapt(model, phi, task.support, jax.random.key(0))
    assert_exact(adapted, support.after(theta, alpha, 3))


@pytest.mark.parametrize("size", [2])
def test_fedavg_does_not_adapt(problem):
    model, theta, task, _, _ = problem
    adapted = fm.FedAvg(inner_lr=LR).adapt(model, theta, task.support, jax.random.key(0))
    np.testing.assert_array_equal(adapted, theta)


@pytest.mark.parametrize("size", [2])
def test_the_training_loss_of_a_meta_learner_is_that_of_the_adapted_model_on_the_query(problem, size):
    model, theta, task, support, _ = problem
    adapted = support.after(theta, np.full(size, LR), 1)
    gaps = adapted - task.query.x[:, :size]
    matrices = task.query.x[:, size:].reshape(-1, size, size)
    expected = np.mean([gap @ matrix @ gap / 2 for gap, matrix in zip(gaps, matrices, strict=True)])
    for kind in (fm.MAML, fm.FOMAML):
        update, _ = kind(inner_lr=LR).update(model, theta, task, jax.random.key(0))
        np.testing.assert_allclose(update.metrics["loss"], expected, rtol=1e-10)


def test_meta_sgd_starts_with_the_same_rate_everywhere():
    phi = fm.MetaSGD(inner_lr=0.25).init(fm.models.mlp((3, 2, 2)), jax.random.key(0))
    assert jax.tree.structure(phi["params"]) == jax.tree.structure(phi["inner_lr"])
    for theta, alpha in zip(jax.tree.leaves(phi["params"]), jax.tree.leaves(phi["inner_lr"]), strict=True):
        np.testing.assert_array_equal(alpha, np.full(theta.shape, 0.25, np.float32))


def test_adapt_steps_can_be_replaced_after_training():
    algorithm = dataclasses.replace(fm.MAML(inner_steps=1), adapt_steps=4)
    assert (algorithm.training_loop.steps, algorithm.adaptation_loop.steps) == (1, 4)
