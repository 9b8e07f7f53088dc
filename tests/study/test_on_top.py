"""Masks, priors and neighbours on top of a trained model: against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.errors import UsageError
from fedmeta.models import among_candidates
from fedmeta.study import on_top
from fedmeta.study.answers import Sides

SIDES = Sides(support=0.4, seed=3)


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 90)
    return fm.data.from_arrays(draw.normal(size=(90, 4)), y, draw.integers(0, 3, 90), classes=4)


@pytest.fixture(scope="module")
def model():
    return fm.models.mlp((4, 5, 4))


@pytest.fixture(scope="module")
def params(model):
    return jax.tree.map(lambda leaf: leaf + 0.3, model.init(jax.random.key(1)))


def tasks(data):
    return [data.task(name, SIDES.support, SIDES.seed) for name in data.client_ids]


def softmax(logits):
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    return share / share.sum(axis=1, keepdims=True)


def test_a_mask_leaves_the_order_of_a_client_s_own_classes(data, model, params):
    held = fm.data.keep_classes(data, 2)
    report = on_top.masked(model, params, held, SIDES)
    for place, task in enumerate(tasks(held)):
        logits = np.asarray(model.predict(params, task.query.x))
        own = sorted(set(task.support.y.tolist()))
        expected = np.array(own)[logits[:, own].argmax(axis=1)]
        after = report.predictions.after[place]
        np.testing.assert_array_equal(after.argmax(axis=1), expected)
        np.testing.assert_allclose(report.predictions.before[place], logits, rtol=1e-5)
        assert report.after.values["accuracy"][place] == pytest.approx(np.mean(expected == task.query.y))
        assert report.before.values["accuracy"][place] == pytest.approx(np.mean(logits.argmax(axis=1) == task.query.y))
    assert np.isfinite(report.after.values["loss"]).all()


def test_a_prior_multiplies_the_shares_by_the_client_s_over_the_training_clients(data, model, params):
    train = data.select([0, 1])
    report = on_top.with_prior(model, params, data, train, SIDES, prior=2.0)
    counts = np.bincount(np.concatenate([train[name].y for name in train.client_ids]), minlength=4) + 0.25
    overall = counts / counts.sum()
    for place, task in enumerate(tasks(data)):
        own = np.bincount(task.support.y, minlength=4) + 2 * overall
        found = softmax(np.asarray(model.predict(params, task.query.x))) * (own / own.sum()) / overall
        found /= found.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(report.predictions.after[place]), found, rtol=1e-4, atol=1e-7)


def test_equal_shares_change_nothing(model, params):
    """Where a client's classes are as common as everybody's, the prior is no news."""
    x = np.random.default_rng(2).normal(size=(40, 4)).astype(np.float32)
    data = fm.data.from_arrays(x, np.arange(40) % 4, np.repeat(["a", "b"], 20))
    report = on_top.with_prior(model, params, data, data, Sides(support=0.4), prior=0.0)
    for before, after in zip(report.predictions.before, report.predictions.after, strict=True):
        np.testing.assert_allclose(softmax(before), softmax(after), rtol=1e-4)


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_neighbours_are_mixed_with_the_model(data, model, params, mix):
    report = on_top.knn_per(model, params, data, SIDES, neighbours=3, mix=mix, scale=0.5)

    def hidden(x):
        return np.maximum(np.asarray(x) @ params[0]["weight"] + params[0]["bias"], 0)

    for place, task in enumerate(tasks(data)):
        there = hidden(task.support.x)
        expected = (1 - mix) * softmax(np.asarray(model.predict(params, task.query.x)))
        for row, here in enumerate(hidden(task.query.x)):
            far = np.sqrt(((there - here) ** 2).sum(axis=1))
            near = np.argsort(far, kind="stable")[:3]
            weight = np.exp(-far[near] / 0.5)
            for neighbour, share in zip(near, weight / weight.sum(), strict=True):
                expected[row, task.support.y[neighbour]] += mix * share
        np.testing.assert_allclose(softmax(report.predictions.after[place]), expected, rtol=2e-3, atol=1e-5)


def test_what_goes_into_the_head_is_found_in_each_network():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    linear = fm.models.softmax_regression(4, 3)
    np.testing.assert_allclose(on_top.into_head(linear)(linear.init(jax.random.key(0)), x), x, rtol=1e-6)
    perceptron = fm.models.mlp((4, 6, 3))
    params = perceptron.init(jax.random.key(0))
    expected = jax.nn.relu(x @ params[0]["weight"] + params[0]["bias"])
    np.testing.assert_allclose(on_top.into_head(perceptron)(params, x), expected, rtol=1e-5)
    wrapped = among_candidates(perceptron)
    np.testing.assert_allclose(on_top.into_head(wrapped)(params, x), expected, rtol=1e-5)


def test_other_features_can_be_given_and_what_is_out_of_range_is_refused(data, model, params):
    given = on_top.knn_per(model, params, data, SIDES, mix=1.0, neighbours=1, features=lambda _, x: jnp.asarray(x))
    for place, task in enumerate(tasks(data)):
        far = ((task.query.x[:, None] - task.support.x[None]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(given.predictions.after[place].argmax(axis=1), task.support.y[far.argmin(axis=1)])
    for wrong in ({"neighbours": 0}, {"mix": 1.5}, {"scale": 0.0}):
        with pytest.raises(UsageError, match="neighbours must be"):
            on_top.knn_per(model, params, data, SIDES, **wrong)
    with pytest.raises(UsageError, match="prior"):
        on_top.with_prior(model, params, data, data, SIDES, prior=-1.0)
    headless = fm.Model(model.init, model.apply)
    with pytest.raises(UsageError, match="no dense layer"):
        on_top.knn_per(headless, params, data, SIDES)


def test_other_parameters_and_settings_compile_nothing_anew(data):
    traced, network = [], fm.models.mlp((4, 5, 4))

    def apply(params, x):
        traced.append(x.shape)
        return network.apply(params, x)

    counted = fm.Model(network.init, apply, head=network.head)
    first, second = (network.init(jax.random.key(seed)) for seed in (0, 1))
    before = on_top.knn_per(counted, first, data, SIDES, mix=1.0)
    times = len(traced)
    after = on_top.knn_per(counted, second, data, SIDES, mix=0.1, scale=10.0)
    assert len(traced) == times
    assert not np.allclose(before.predictions.before[0], after.predictions.before[0])
