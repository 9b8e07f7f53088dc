"""What a model gives, with and without a key and a mask; modules of Flax NNX and Equinox as hand-written networks."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedmeta as fm
from fedmeta import _fit
from tests import toys
from tests.examples import cells

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

    def __call__(self, x, *, key=None):
        return self.second(self.dropout(self.activation(self.first(x)), key=key))


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
def test_dropout_is_off_where_a_model_is_evaluated_and_draws_from_the_key_where_it_trains(adapt, module, layers):
    with_dropout, without = adapt(lambda source: module(source, dropout=0.9)), adapt(module)
    assert with_dropout.needs == ("key",)
    params, batch = with_dropout.init(KEY), toys.task().query
    expected = without.predict(params, batch.x)
    np.testing.assert_array_equal(with_dropout.predict(params, batch.x), expected)
    assert toys.same_bits(with_dropout.scores(params, batch), without.scores(params, batch))
    drawn, again, other = (with_dropout.predict(params, batch.x, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(drawn, again)
    assert np.any(drawn != other)
    assert np.any(drawn != expected)
    assert float(with_dropout.mean_loss(params, batch, jax.random.key(1))) == pytest.approx(
        float(fm.losses.softmax_cross_entropy(drawn, batch.y).mean())
    )


@ADAPTERS
def test_dropout_keeps_the_mean_of_what_it_drops(adapt, module, layers):
    """Linear in what is dropped, so the mean over many draws is what an evaluation gives."""
    model = adapt(lambda source: module(source, dropout=0.5))
    params, x = model.init(KEY), toys.task().query.x[:2]
    drawn = jax.vmap(lambda key: model.predict(params, x, key=key))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(drawn.mean(0), model.predict(params, x), atol=5 * float(drawn.std(0).max()) / 4000**0.5)
    # Each example draws for itself.
    same = model.predict(params, np.repeat(x[:1], 50, axis=0), key=KEY)
    assert len(np.unique(np.asarray(same), axis=0)) > 5


@ADAPTERS
def test_what_padding_follows_changes_no_draw(adapt, module, layers):
    model = adapt(lambda source: module(source, dropout=0.5))
    params, x = model.init(KEY), toys.task().query.x
    padded = np.concatenate([x, x[:3]])
    drawn = model.predict(params, padded, key=KEY)[: len(x)]
    np.testing.assert_allclose(drawn, model.predict(params, x, key=KEY), rtol=1e-5, atol=1e-6)


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


def normalised(params, x, mask):
    """Statistics of the examples that count."""
    rows = mask[:, None]
    count = jnp.maximum(rows.sum(), 1.0)
    mean = (x * rows).sum(0) / count
    deviation = jnp.sqrt((rows * (x - mean) ** 2).sum(0) / count + 1e-5)
    return (x - mean) / deviation @ params


MASKED = fm.Model(lambda key: jax.random.normal(key, (toys.FEATURES, toys.CLASSES)), normalised, needs=["mask"])


def test_a_model_that_asks_for_the_mask_scores_a_padded_batch_as_the_batch():
    batch = toys.task().query
    x, y = np.concatenate([batch.x, 9 * batch.x[:4]]), np.append(batch.y, batch.y[:4])
    padded = fm.Batch(x, y, np.append(batch.mask, np.zeros(4, np.float32)))
    params = MASKED.init(KEY)
    step = jax.jit(jax.value_and_grad(MASKED.scores, has_aux=True))
    toys.assert_close(step(params, padded), step(params, batch))
    np.testing.assert_allclose(
        MASKED.predict(params, batch.x), normalised(params, batch.x, np.ones(len(batch), np.float32)), rtol=1e-6
    )


def test_a_model_that_asks_for_the_mask_trains_padded_as_unpadded():
    """A round against a loop over the same clients, each at its own size."""
    data = toys.classification((5, 8))
    algorithm = fm.MAML(inner_lr=0.3, inner_steps=2)
    run = fm.train(algorithm, MASKED, data, rounds=1, cohort_size=2, server=optax.sgd(1.0), support=0.4)
    key = jax.random.wrap_key_data(fm.random.key_data(0, "init"))
    phi = MASKED.init(key)
    names = run.history["clients"].to_pylist()[0]
    tasks = [data.task(name, 0.4, 0, round=1) for name in names]
    update = jax.jit(lambda task: algorithm.update(MASKED, phi, task, KEY)[0].pseudo_gradient)
    expected = phi - sum(map(update, tasks)) / 2
    assert float(jnp.abs(expected - phi).max()) > 0.1
    np.testing.assert_allclose(run.state.phi, expected, atol=1e-5)


def test_needs_are_keys_and_masks_in_any_order():
    def apply(params, x, *, key, mask):
        assert mask.shape == (len(x),)
        return x @ params + (0.0 if key is None else jax.random.normal(key, (len(x), 3)))

    model = fm.Model(MASKED.init, apply, needs=("mask", "key"))
    assert model.needs == ("key", "mask")
    batch, params = toys.task().query, model.init(KEY)
    assert np.any(model.predict(params, batch.x, key=KEY) != model.predict(params, batch.x))
    assert float(model.scores(params, batch, KEY)[0]) != float(model.scores(params, batch)[0])
    assert replace(model, apply=jax.checkpoint(apply)).needs == model.needs


@pytest.mark.parametrize("needs", ["mask", ("masks",), ("key", "round")])
def test_needs_that_there_are_not_are_refused(needs):
    with pytest.raises(fm.errors.UsageError, match="needs can be"):
        fm.Model(MASKED.init, normalised, needs=needs)


RESERVED = [
    "loss",
    "round",
    "client",
    "clients",
    "support",
    "query",
    "step",
    "seconds",
    "flops",
    "bytes_up",
    "bytes_down",
]


@pytest.mark.parametrize("name", [*RESERVED, "validation_loss", "client_accuracy", "loss_before"])
def test_metrics_with_the_names_of_columns_are_refused(name):
    with pytest.raises(fm.errors.UsageError, match=f"a metric cannot be called '{name}'"):
        fm.Model(BY_HAND.init, BY_HAND.apply, metrics={"hits": fm.metrics.accuracy, name: fm.metrics.accuracy})


def test_every_column_of_the_librarys_tables_is_a_name_that_no_metric_can_have():
    """Columns that appear with a metric of some name, without those made of the metric's own name."""
    model = fm.Model(BY_HAND.init, BY_HAND.apply, metrics={"hits": fm.metrics.accuracy})
    data = toys.classification((8, 8))
    run = fm.train(ALGORITHM, model, data, rounds=1, cohort_size=2, support=0.5, validate=lambda phi: {"figure": 1.0})
    report = fm.evaluate(ALGORITHM, model, run.state.phi, data, support=0.5)
    for name in {*run.history.column_names, *report.per_client.column_names, *report.curve.column_names} - {"hits"}:
        with pytest.raises(fm.errors.UsageError, match=f"a metric cannot be called '{name}'"):
            fm.Model(BY_HAND.init, BY_HAND.apply, metrics={name: fm.metrics.accuracy})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([fm.metrics.accuracy], "metrics must be a mapping from names to functions"),
        (fm.metrics.accuracy, "metrics must be a mapping from names to functions"),
        ({"accuracy": 1.0}, "metric 'accuracy' must be a function of predictions and targets, not 1.0"),
        ({3: fm.metrics.accuracy}, "a metric's name must be a text, not 3"),
    ],
    ids=["list", "function", "number", "name"],
)
def test_metrics_that_are_no_mapping_from_names_to_functions_are_refused(metrics, message):
    with pytest.raises(fm.errors.UsageError, match=message):
        fm.Model(BY_HAND.init, BY_HAND.apply, metrics=metrics)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_half_precision_losses_are_averaged_in_single_precision(kind):
    """65504 is the largest float16, and above 256 bfloat16 counts in twos: each of 1000 losses of 100 must count."""
    model = fm.Model(lambda key: jnp.ones(1, kind), lambda p, x: x.astype(kind) * p, loss=lambda p, y: p[:, 0])
    batch = fm.Batch(np.full((1000, 1), 100.0, np.float32), np.zeros(1000))
    value, slope = jax.value_and_grad(model.mean_loss)(model.init(KEY), batch)
    assert (value.dtype, float(value)) == (jnp.float32, 100.0)
    assert slope.dtype == kind


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_losses_and_metrics_of_half_precision_predictions_are_those_of_the_same_numbers(kind):
    y, targets = np.array([0, 2, 1, 1]), np.full(4, -300.0, np.float32)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)) * 300, kind)
    for function, right in ((fm.losses.softmax_cross_entropy, y), (fm.metrics.accuracy, y)):
        np.testing.assert_array_equal(function(logits, right), function(logits.astype(jnp.float32), right))
    for function in (fm.losses.squared_error, fm.metrics.squared_error, fm.metrics.absolute_error):
        found = function(logits[:, :1], targets)
        np.testing.assert_array_equal(found, function(logits[:, :1].astype(jnp.float32), targets))
        assert np.isfinite(found).all()


class Recurrent(nnx.Module):
    def __init__(self, rngs, cell):
        self.rnn, self.out = nnx.RNN(cell(5, 4, rngs=rngs)), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.rnn(x)[:, -1])


@pytest.mark.parametrize("cell", cells([nnx.LSTMCell], [nnx.GRUCell, nnx.LSTMCell]))
def test_recurrent_cells_of_nnx_train(cell):
    model = fm.Model.from_nnx(lambda rngs: Recurrent(rngs, cell))
    assert model.needs == ()
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(16, 6, 5)).astype(np.float32), draw.integers(3, size=16)
    _fit.check_fit(model, fm.data.from_arrays(x, y, np.repeat(["a", "b"], 8), classes=3))
    params = model.init(KEY)
    slope = jax.jit(jax.grad(model.mean_loss))(params, fm.Batch(x, y))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))
    module = Recurrent(nnx.Rngs(KEY), cell)
    np.testing.assert_allclose(model.predict(params, x), module(x), rtol=1e-4, atol=1e-5)


class Noisy(nnx.Module):
    """A stream of random numbers of its own, and a variable that is not trained."""

    def __init__(self, rngs):
        self.rngs = nnx.Rngs(noise=rngs())
        self.linear, self.shift = nnx.Linear(5, 3, rngs=rngs), nnx.Variable(jnp.full(3, 2.0))

    def __call__(self, x):
        return self.linear(x) + self.shift + jax.random.normal(self.rngs.noise(), (len(x), 3))


def test_a_modules_own_streams_draw_from_the_key():
    model = fm.Model.from_nnx(Noisy)
    assert model.needs == ("key",)
    params, x = model.init(KEY), toys.task().query.x
    assert set(params) == {"linear"}
    drawn, again, other = (jax.jit(model.predict)(params, x, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(drawn, again)
    assert np.any(drawn != other)
    np.testing.assert_array_equal(model.predict(params, x), model.predict(params, x))
    layer = params["linear"]
    noise = np.stack([model.predict(params, x, key=k) for k in jax.random.split(KEY, 200)])
    noise -= np.asarray(x @ layer["kernel"] + layer["bias"] + 2.0)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1


def test_what_a_module_writes_when_it_is_called_would_be_lost_and_is_refused():
    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.mean = nnx.Linear(5, 3, rngs=rngs), nnx.Variable(jnp.zeros(3))

        def __call__(self, x):
            x = self.linear(x)
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * x.mean(0)
            return x

    with pytest.raises(fm.errors.UsageError, match="the module changes its Variable mean when it is called"):
        _fit.check_fit(fm.Model.from_nnx(Counting), toys.classification())


def test_a_dropout_of_nnx_without_random_numbers_is_refused():
    class Dropping(nnx.Module):
        def __init__(self, rngs):
            self.parts = nnx.List([nnx.Linear(5, 3, rngs=rngs), nnx.Dropout(0.5)])

        def __call__(self, x):
            return self.parts[1](self.parts[0](x))

    with pytest.raises(fm.errors.UsageError, match=r"dropout parts.1 has no random numbers: build it as nnx.Dropout"):
        fm.Model.from_nnx(Dropping)


def test_what_is_no_module_is_refused():
    with pytest.raises(fm.errors.UsageError, match="build must return a Flax NNX module, not function"):
        fm.Model.from_nnx(lambda rngs: lambda x: x)
    with pytest.raises(fm.errors.UsageError, match="build must return an Equinox module that can be called, not tuple"):
        fm.Model.from_equinox(lambda key: (1, 2))


class Static(eqx.Module):
    """A function made with the module, as a static field: two modules have different structures."""

    layer: eqx.nn.Linear
    activation: Callable = eqx.field(static=True)

    def __init__(self, key):
        self.layer = eqx.nn.Linear(toys.FEATURES, toys.CLASSES, key=key)
        self.activation = lambda v: jnp.where(v > 0, v, 0.1 * v)

    def __call__(self, x):
        return self.activation(self.layer(x))


def test_an_equinox_module_with_a_function_made_in_init_trains():
    model, data = fm.Model.from_equinox(Static), toys.classification((8, 8))
    run = fm.train(ALGORITHM, model, data, rounds=1, cohort_size=2, support=0.5)
    report = fm.evaluate(ALGORITHM, model, run.state.phi, data, support=0.5)
    assert np.isfinite(report.after.pooled["loss"])
    params, x = model.init(KEY), toys.task().query.x
    values = np.asarray(x @ params.layer.weight.T + params.layer.bias)
    np.testing.assert_allclose(model.predict(params, x), np.where(values > 0, values, 0.1 * values), rtol=1e-5)


def test_equinox_modules_with_state_are_refused():
    class Normalised(eqx.Module):
        norm: eqx.nn.BatchNorm

        def __init__(self, key):
            self.norm = eqx.nn.BatchNorm(5, "batch", mode="batch")

        def __call__(self, x, state):
            return self.norm(x, state)

    for build in (Normalised, lambda key: eqx.nn.make_with_state(Normalised)(key)):
        with pytest.raises(fm.errors.UsageError, match=r"holds state \(eqx.nn.BatchNorm.*use eqx.nn.LayerNorm"):
            fm.Model.from_equinox(build)


def test_an_equinox_module_with_a_dropout_must_take_a_key():
    class Keyless(eqx.Module):
        dropout: eqx.nn.Dropout

        def __call__(self, x):
            return self.dropout(x)

    with pytest.raises(fm.errors.UsageError, match=r"holds eqx.nn.Dropout and takes no key: define __call__"):
        fm.Model.from_equinox(lambda key: Keyless(eqx.nn.Dropout(0.5)))
    assert fm.Model.from_equinox(lambda key: eqx.nn.MLP(5, 3, 4, 1, key=key)).needs == ()
    assert fm.Model.from_equinox(lambda key: Keyless(eqx.nn.Dropout(0.5, inference=True))).needs == ()


def test_several_inputs_are_one_argument_of_a_module():
    class Two(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return self.layer(x["a"]) + x["b"].sum()

    model = fm.Model.from_equinox(lambda key: Two(eqx.nn.Linear(2, 3, key=key)))
    params = model.init(KEY)
    x = {"a": np.ones((4, 2), np.float32), "b": np.arange(8, dtype=np.float32).reshape(4, 2)}
    alone = [model.predict(params, jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], x))[0] for k in range(4)]
    np.testing.assert_allclose(model.predict(params, x), alone, rtol=1e-6)


MODELS = {
    "mlp": lambda: (fm.models.mlp((5, 4, 3)), (5,), np.float32),
    "leaf_cnn": lambda: (fm.models.leaf_cnn(3, filters=(2, 3), hidden=4), (28, 28, 1), np.uint8),
    "char_lstm": lambda: (fm.models.char_lstm(4, 3, hidden=4), (6,), np.uint8),
    "flax": lambda: (fm.Model.from_nnx(lambda rngs: FlaxNetwork(rngs, 0.5)), (5,), np.float32),
    "equinox": lambda: (fm.Model.from_equinox(lambda key: EquinoxNetwork(key, 0.5)), (5,), np.float32),
    "recurrent": lambda: (fm.Model.from_nnx(lambda rngs: Recurrent(rngs, nnx.GRUCell)), (6, 5), np.float32),
    "regression": lambda: (fm.models.mlp((5, 1), loss=fm.losses.squared_error), (5,), np.float32),
}


def first_step(name):
    """A function from the words of a key to parameters, predictions and a gradient."""
    model, shape, kind = MODELS[name]()
    draw = np.random.default_rng(0)
    x, y = draw.integers(4, size=(9, *shape)).astype(kind), draw.integers(3, size=9).astype(np.uint8)
    batch = fm.Batch(x, y / np.float32(2) if name == "regression" else y)

    def step(words):
        key = fm.random.as_key(words)
        params = model.init(key)
        return params, model.predict(params, x), jax.value_and_grad(model.scores, has_aux=True)(params, batch, key)

    return step


WORDS = fm.random.key_data(0, "init")
# Promotion is a matter of tracing.
PROMOTIONS = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "of no rank": lambda: jax.numpy_rank_promotion("raise"),
}


@pytest.mark.parametrize("setting", PROMOTIONS)
@pytest.mark.parametrize("name", cells(["leaf_cnn", "char_lstm", "flax", "equinox", "regression"], [*MODELS]))
def test_models_losses_metrics_and_adapters_promote_nothing_unasked(setting, name):
    expected = jax.make_jaxpr(first_step(name))(WORDS)
    with PROMOTIONS[setting]():
        found = jax.make_jaxpr(first_step(name))(WORDS)
    assert found.out_avals == expected.out_avals


@pytest.mark.parametrize("setting", PROMOTIONS)
def test_a_model_is_looked_at_where_nothing_is_promoted_unasked(setting):
    with PROMOTIONS[setting]():
        _fit.check_fit(fm.models.mlp((5, 4, 3)), toys.classification())


@pytest.mark.parametrize("name", cells(["flax", "equinox"], ["mlp", "flax", "equinox", "recurrent"]))
def test_keys_are_threefry_whatever_jaxs_default_is(name):
    expected = jax.jit(first_step(name))(WORDS)
    with jax.default_prng_impl("rbg"):
        found = jax.jit(first_step(name))(WORDS)
        assert jax.random.key_impl(fm.random.as_key(WORDS)) == "threefry2x32"
    assert toys.same_bits(found, expected)
