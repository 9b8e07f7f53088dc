"""What a model is set beside, against closed forms and training by hand."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta.study import baselines as module
from fedmeta.study.baselines import TITLES, baselines
from fedmeta.study.recipe import Recipe
from tests.cli.conftest import shop
from tests.examples import in_soak

__all__ = ["shop"]


@pytest.fixture
def classes(shop):
    return Recipe.default(str(shop), "maml", client="user", target="label", support=0.4, seed=3).prepare()


@pytest.fixture
def numbers(shop):
    return Recipe.default(str(shop), "maml", client="user", target="spent", support=0.4, seed=3).prepare()


def sides(experiment, group):
    """The targets of each client's support and query set."""
    procedure, clients = experiment.procedure, getattr(experiment, group)
    tasks = [clients.task(name, procedure.support, procedure.seed) for name in clients.client_ids]
    return [task.support.y for task in tasks], [task.query.y for task in tasks]


def everything(clients):
    return np.concatenate([clients[name].y for name in clients.client_ids])


def test_every_baseline_is_tested_on_what_the_model_is_tested_on(classes):
    model = classes.report(classes.procedure.algorithm.init(classes.procedure.network, jax.random.key(0)), classes.test)
    _, query = sides(classes, "test")
    found = baselines(classes)
    assert list(found) == list(TITLES)
    for report in found.values():
        assert report.clients == model.clients
        np.testing.assert_array_equal(report.support_examples, model.support_examples)
        np.testing.assert_array_equal(report.after.examples, model.after.examples)
        for kept, own in zip(report.predictions.y, query, strict=True):
            np.testing.assert_array_equal(kept, own)
        assert report.figures.over_points["accuracy"] == pytest.approx(report.after.pooled["accuracy"])
        assert report.figures.over_points["log_loss"] == pytest.approx(report.after.pooled["loss"], rel=1e-5)


def test_the_constant_is_the_training_clients_majority_or_mean(classes, numbers):
    _, query = sides(classes, "test")
    most = np.bincount(everything(classes.train)).argmax()
    right = np.concatenate(query) == most
    assert module.constant(classes).figures.over_points["accuracy"] == pytest.approx(right.mean())
    _, query = sides(numbers, "test")
    mean = everything(numbers.train).astype(np.float64).mean()
    error = np.concatenate(query) - mean
    assert module.constant(numbers).figures.over_points["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)


def test_the_own_support_gives_its_majority_or_mean_and_the_others_decide_a_tie(classes, numbers):
    supports, query = sides(classes, "test")
    prior = np.bincount(everything(classes.train)) / classes.train.num_examples
    hits = []
    for support, own in zip(supports, query, strict=True):
        counts = np.bincount(support, minlength=2)
        most = counts.argmax() if counts[0] != counts[1] else prior.argmax()
        hits.append((own == most).mean())
    np.testing.assert_allclose(module.own_support(classes).figures.each["accuracy"], hits)
    supports, query = sides(numbers, "test")
    errors = [np.sqrt(((own - support.mean()) ** 2).mean()) for support, own in zip(supports, query, strict=True)]
    np.testing.assert_allclose(module.own_support(numbers).figures.each["rmse"], errors, rtol=1e-5)


def test_a_client_alone_takes_steps_of_adam_on_its_support_from_a_new_network(classes, monkeypatch):
    monkeypatch.setattr(module, "ALONE_STEPS", 2)
    # So that the second step is better for the validation clients.
    monkeypatch.setattr(module, "_best", lambda looks: len(looks) - 1)
    report = module.alone(classes)
    procedure, model = classes.procedure, classes.procedure.network
    start = model.init(fm.random.as_key(fm.random.key_data(procedure.seed, "init")))
    for place, name in enumerate(classes.test.client_ids):
        task = classes.test.task(name, procedure.support, procedure.seed)
        params, optimiser = start, optax.adam(module.ALONE_RATE)
        state = optimiser.init(params)
        for _ in range(2):
            gradient = jax.grad(model.mean_loss)(params, task.support)
            updates, state = optimiser.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        expected = model.predict(params, task.query.x)
        np.testing.assert_allclose(report.predictions.after[place], expected, rtol=1e-3, atol=1e-4)


def test_pooled_training_sees_every_training_example_and_no_other(classes, monkeypatch):
    monkeypatch.setattr(module, "POOLED_BATCH", 10**6)
    monkeypatch.setattr(module, "POOLED_LOOKS", 2)
    monkeypatch.setattr(module, "POOLED_STEPS", 3)
    monkeypatch.setattr(module, "_best", lambda looks: len(looks) - 1)
    report = module.pooled(classes)
    procedure, model = classes.procedure, classes.procedure.network
    params = model.init(fm.random.as_key(fm.random.key_data(procedure.seed, "init")))
    optimiser = optax.adam(optax.cosine_decay_schedule(module.POOLED_RATE, 6))
    state = optimiser.init(params)
    train = classes.train
    whole = fm.Batch(np.concatenate([train[name].x for name in train.client_ids]), everything(train))
    for _ in range(6):
        updates, state = optimiser.update(jax.grad(model.mean_loss)(params, whole), state, params)
        params = optax.apply_updates(params, updates)
    for place, name in enumerate(classes.test.client_ids):
        query = classes.test.task(name, procedure.support, procedure.seed).query
        expected = model.predict(params, query.x)
        np.testing.assert_allclose(report.predictions.after[place], expected, rtol=1e-3, atol=1e-4)
    assert report.figures.over_points == report.figures_before.over_points


@in_soak
def test_pooled_training_learns_what_all_clients_share(numbers):
    """Where all clients follow one rule, the pooled model beats every answer that looks at no inputs."""
    train = numbers.train
    shared = replace(train, y=(train.x[:, 0] * 100 + 7).astype(np.float32))
    test = replace(numbers.test, y=(numbers.test.x[:, 0] * 100 + 7).astype(np.float32))
    validation = replace(numbers.validation, y=(numbers.validation.x[:, 0] * 100 + 7).astype(np.float32))
    inputs = type(numbers.procedure.inputs).of(shared)
    procedure = replace(numbers.procedure, inputs=inputs)
    one = replace(numbers, train=shared, validation=validation, test=test, procedure=procedure)
    found = baselines(one)
    rmse = {name: report.figures.over_points["rmse"] for name, report in found.items()}
    assert rmse["pooled"] < 0.1 * min(rmse["constant"], rmse["support"])


def test_answers_are_measured_together_whatever_the_clients_sizes(monkeypatch):
    """Each number of rows is compiled anew, so there is one."""
    draw = np.random.default_rng(0)
    sizes, lengths = np.array([3, 1, 7, 2, 11]), set()
    y, ones = draw.normal(size=24).astype(np.float32), draw.normal(size=5).astype(np.float32)

    def error(given, y):
        lengths.add(len(y))
        return (given - y) ** 2

    monkeypatch.setattr(module, "ANSWERED", 10)
    found = module._measured({"error": error}, ones, y, sizes)["error"]
    parts = np.split(y, np.cumsum(sizes)[:-1])
    expected = [np.mean((one - part) ** 2) for one, part in zip(ones, parts, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert lengths == {10}
