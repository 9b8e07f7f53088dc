"""The ready-made networks, against independent implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import models
from fedmeta.models.layers import convolution, max_pool
from tests.oracles import lstm, softmax

KEY = jax.random.key(0)


def inputs(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolve(x, weight, size):
    kernel = weight.reshape(size, size, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_a_convolution_is_that_of_xla(size):
    x, weight = inputs((2, 8, 6, 3)), inputs((size * size * 3, 4), 1)
    found = convolution({"weight": weight, "bias": np.arange(4.0, dtype=np.float32)}, jnp.asarray(x), size)
    np.testing.assert_allclose(found, convolve(x, weight, size) + np.arange(4), rtol=1e-4, atol=1e-4)


def test_pooling_takes_the_maximum_of_squares():
    x = inputs((2, 6, 4, 3))
    expected = x.reshape(2, 3, 2, 2, 2, 3).max(axis=(2, 4))
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), expected)


def test_the_cnn_is_what_the_paper_describes():
    """Convolution, ReLU, pooling, twice; dense, ReLU; classes: in that order, with XLA's convolutions."""
    model = fm.models.leaf_cnn(5, filters=(3, 4), hidden=6)
    params = model.init(KEY)
    x = jnp.asarray(inputs((2, 28, 28, 1)))
    hidden = x
    for layer in ("conv1", "conv2"):
        hidden = convolve(hidden, params[layer]["weight"], 5) + params[layer]["bias"]
        hidden = np.maximum(hidden, 0)
        hidden = hidden.reshape(2, hidden.shape[1] // 2, 2, hidden.shape[2] // 2, 2, -1).max(axis=(2, 4))
    hidden = np.maximum(hidden.reshape(2, -1) @ params["dense"]["weight"] + params["dense"]["bias"], 0)
    expected = hidden @ params["classes"]["weight"] + params["classes"]["bias"]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_lstm_is_numpys(layers):
    model = fm.models.char_lstm(7, 4, embedding=3, hidden=5, layers=layers)
    params = model.init(KEY)
    codes = np.random.default_rng(0).integers(7, size=(3, 6))
    by_hand = lstm.forward(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params), codes)
    np.testing.assert_allclose(model.apply(params, codes), by_hand, rtol=1e-4, atol=1e-5)


def test_the_lstm_starts_with_open_forget_gates():
    bias = fm.models.char_lstm(7, hidden=5).init(KEY)["lstm"][1]["bias"]
    np.testing.assert_array_equal(bias, np.repeat([0.0, 1.0, 0.0, 0.0], 5))


def test_softmax_regression_is_numpys_and_starts_at_even_odds():
    model = fm.models.softmax_regression(12, 4)
    x = inputs((3, 4, 3))
    np.testing.assert_array_equal(model.apply(model.init(KEY), x), np.zeros((3, 4)))
    params = {"weight": inputs((12, 4), 1), "bias": inputs((4,), 2)}
    np.testing.assert_allclose(
        jax.nn.softmax(model.apply(params, x)), softmax.probabilities(params, x), rtol=1e-5, atol=1e-7
    )


def test_a_perceptron_is_numpys():
    model = fm.models.mlp((6, 5, 4, 2))
    params = model.init(KEY)
    x = inputs((3, 2, 3))
    hidden = x.reshape(3, 6)
    for layer in params[:-1]:
        hidden = np.maximum(hidden @ layer["weight"] + layer["bias"], 0)
    expected = hidden @ params[-1]["weight"] + params[-1]["bias"]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(fm.errors.UsageError, match="at least an input and an output size"):
        fm.models.mlp((3,))


def shape(*example, classes=3, vocabulary=None):
    return models.Shape(example, classes, vocabulary)


@pytest.mark.parametrize(
    ("name", "fits", "dtype"),
    [
        ("softmax_regression", shape(4, 2), np.float32),
        ("softmax_regression", shape(4, classes=None), np.float32),
        ("mlp", shape(4, 2), np.float32),
        ("mlp", shape(4, classes=None), np.float32),
        ("leaf_cnn", shape(28, 28, 1), np.float32),
        ("char_lstm", shape(6, vocabulary=3), np.int32),
    ],
)
def test_every_network_by_name_gives_outputs_that_fit(name, fits, dtype):
    model = models.build(name, fits)
    x = jax.ShapeDtypeStruct((2, *fits.example), dtype)
    out = jax.eval_shape(lambda x: model.apply(model.init(KEY), x), x)
    assert out.shape == (2, fits.outputs)


def test_what_does_not_fit_is_named():
    with pytest.raises(fm.errors.UnknownName, match="did you mean 'mlp'"):
        models.build("mlpp", shape(3))
    with pytest.raises(fm.errors.UnknownName, match="did you mean 'hidden'"):
        models.build("mlp", shape(3), {"hiden": (3,)})
    with pytest.raises(fm.errors.UsageError, match=r"not inputs of shape \(8, 8, 1\)"):
        models.build("leaf_cnn", shape(8, 8, 1))
    with pytest.raises(fm.errors.UsageError, match="char_lstm reads text"):
        models.build("char_lstm", shape(8))
    assert set(models.MODELS) == {"softmax_regression", "mlp", "leaf_cnn", "char_lstm"}


def test_losses_and_metrics_are_their_formulas():
    logits, y = inputs((4, 3)), np.array([0, 2, 1, 1])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        fm.losses.softmax_cross_entropy(logits, y), -np.log(probabilities[np.arange(4), y]), rtol=1e-5
    )
    np.testing.assert_array_equal(fm.metrics.accuracy(logits, y), logits.argmax(axis=1) == y)
    predictions, targets = inputs((4, 1)), inputs((4,), 1)
    gaps = predictions[:, 0] - targets
    np.testing.assert_allclose(fm.losses.squared_error(predictions, targets), gaps**2 / 2, rtol=1e-5)
    np.testing.assert_allclose(fm.metrics.squared_error(predictions, targets), gaps**2, rtol=1e-5)
    line = 0.5 * np.abs(gaps) - 0.5**2 / 2
    expected = np.where(np.abs(gaps) <= 0.5, gaps**2 / 2, line)
    np.testing.assert_allclose(fm.losses.huber(predictions, targets, 0.5), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fm.metrics.absolute_error(predictions, targets), np.abs(gaps), rtol=1e-5)


def test_losses_average_over_the_axes_between():
    logits, y = inputs((2, 5, 3)), np.random.default_rng(1).integers(3, size=(2, 5))
    one_by_one = [fm.losses.softmax_cross_entropy(logits[k], y[k]).mean() for k in range(2)]
    np.testing.assert_allclose(fm.losses.softmax_cross_entropy(logits, y), one_by_one, rtol=1e-5)
    np.testing.assert_allclose(fm.metrics.accuracy(logits, y), (logits.argmax(axis=-1) == y).mean(axis=1))
