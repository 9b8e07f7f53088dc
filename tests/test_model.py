"""Modules of Flax NNX and Equinox train as the hand-written network with the same weights does."""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx

import fedmeta as fm
from tests import toys

KEY = jax.random.key(0)
SIZES = (toys.FEATURES, 4, toys.CLASSES)
BY_HAND = fm.models.mlp(SIZES, activation=jax.nn.tanh)
ALGORITHM = fm.MAML(inner_lr=0.2)


class FlaxNetwork(nnx.Module):
    def __init__(self, rngs, dropout=0.0):
        self.first = nnx.Linear(SIZES[0], SIZES[1], rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.second = nnx.Linear(SIZES[1], SIZES[2], rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(jax.nn.tanh(self.first(x))))


class EquinoxNetwork(eqx.Module):
    first: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear
    activation: object

    def __init__(self, key, dropout=0.0):
        keys = jax.random.split(key)
        self.first = eqx.nn.Linear(SIZES[0], SIZES[1], key=keys[0])
        self.dropout = eqx.nn.Dropout(dropout)
        self.second = eqx.nn.Linear(SIZES[1], SIZES[2], key=keys[1])
        self.activation = jax.nn.tanh

    def __call__(self, x):
        return self.second(self.dropout(self.activation(self.first(x))))


def flax_layers(params):
    """The parameters as the hand-written network names them."""
    return [{"weight": params[name]["kernel"], "bias": params[name]["bias"]} for name in ("first", "second")]


def equinox_layers(params):
    return [{"weight": layer.weight.T, "bias": layer.bias} for layer in (params.first, params.second)]


ADAPTERS = pytest.mark.parametrize(
    ("adapt", "module", "layers"),
    [(fm.Model.from_nnx, FlaxNetwork, flax_layers), (fm.Model.from_equinox, EquinoxNetwork, equinox_layers)],
    ids=["flax", "equinox"],
)


@ADAPTERS
def test_a_module_trains_as_the_network_with_the_same_weights(adapt, module, layers):
    model = adapt(module)
    params = model.init(KEY)
    task = toys.task()
    np.testing.assert_allclose(
        model.apply(params, task.query.x), BY_HAND.apply(layers(params), task.query.x), rtol=1e-5, atol=1e-6
    )
    update, expected = (
        jax.jit(lambda phi, model=model: ALGORITHM.update(model, phi, task, KEY)[0])(phi)
        for model, phi in ((model, params), (BY_HAND, layers(params)))
    )
    toys.assert_close(layers(update.pseudo_gradient), expected.pseudo_gradient)
    toys.assert_close(update.metrics, expected.metrics)


@ADAPTERS
def test_init_draws_from_the_key(adapt, module, layers):
    init = jax.jit(adapt(module).init)
    assert toys.same_bits(init(KEY), init(KEY))
    assert not toys.same_bits(init(KEY), init(jax.random.key(1)))


@ADAPTERS
def test_dropout_is_off(adapt, module, layers):
    with_dropout = adapt(lambda source: module(source, dropout=0.9))
    params = with_dropout.init(KEY)
    x = toys.task().query.x
    np.testing.assert_array_equal(with_dropout.apply(params, x), adapt(module).apply(params, x))


@ADAPTERS
def test_a_module_is_trained_saved_and_taken_up_again(adapt, module, layers, tmp_path):
    model, data = adapt(module), toys.classification((8, 8))
    options = {"cohort_size": 2, "support": 0.5, "directory": tmp_path}
    fm.train(ALGORITHM, model, data, rounds=1, **options)
    run = fm.train(ALGORITHM, model, data, rounds=2, **options)
    assert run.history.num_rows == 2
    assert jax.tree.structure(run.state.phi) == jax.tree.structure(model.init(KEY))
    again = fm.train(ALGORITHM, model, data, rounds=2, cohort_size=2, support=0.5)
    assert toys.same_bits(run.state, again.state)


def test_running_statistics_are_refused():
    class Normalised(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, rngs=rngs)

        def __call__(self, x):
            return self.norm(x)

    with pytest.raises(fm.errors.UsageError, match=r"running statistics \(BatchNorm\): use LayerNorm or GroupNorm"):
        fm.Model.from_nnx(Normalised)


def test_layer_norm_is_welcome():
    class Normalised(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(3, rngs=rngs)

        def __call__(self, x):
            return self.norm(x)

    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    model = fm.Model.from_nnx(Normalised)
    expected = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(model.apply(model.init(KEY), x), expected, rtol=1e-4, atol=1e-5)


def test_scores_are_means_over_what_counts():
    task = toys.task()
    mask = np.array([1, 0, 1, 1, 0], np.float32)
    params = BY_HAND.init(KEY)
    loss, measured = BY_HAND.scores(params, fm.Batch(task.support.x, task.support.y, mask))
    kept = fm.Batch(task.support.x[mask == 1], task.support.y[mask == 1])
    assert float(loss) == pytest.approx(float(BY_HAND.mean_loss(params, kept)), rel=1e-6)
    hits = np.argmax(BY_HAND.apply(params, kept.x), axis=1) == kept.y
    assert float(measured["accuracy"]) == pytest.approx(hits.mean())
    assert set(measured) == {"loss", "accuracy"}


def test_metrics_follow_the_loss_and_an_unknown_loss_has_none():
    model = toys.network()
    assert list(model.metrics) == ["accuracy"]
    assert list(fm.Model(model.init, model.apply, fm.losses.squared_error).metrics) == ["absolute_error"]
    assert fm.Model(model.init, model.apply, lambda p, y: abs(p - y)).metrics == {}
