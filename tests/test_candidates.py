"""Data whose last class no answer can be: the loss, the metrics and the network say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.models import among_candidates
from fedmeta.runs.inputs import Inputs


@given(st.integers(0, 1000))
def test_the_loss_is_the_cross_entropy_among_candidates_and_zero_for_a_miss(seed):
    draw = np.random.default_rng(seed)
    logits, y = draw.normal(size=(6, 4)).astype(np.float32), draw.integers(0, 4, 6).astype(np.int32)
    found = fm.losses.candidate_cross_entropy(logits, y)
    shares = np.exp(logits[:, :3]) / np.exp(logits[:, :3]).sum(axis=1, keepdims=True)
    expected = [0.0 if label == 3 else -np.log(shares[row, label]) for row, label in enumerate(y)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_top_counts_the_classes_with_larger_logits(seed, count):
    draw = np.random.default_rng(seed)
    # Few different values, so that ties are common.
    logits, y = draw.integers(0, 3, (8, 5)).astype(np.float32), draw.integers(0, 5, 8).astype(np.int32)
    found = fm.metrics.top(count)(logits, y)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert found.tolist() == [float(label in row) for row, label in zip(best, y, strict=True)]
    np.testing.assert_array_equal(fm.metrics.top(1)(logits, y), fm.metrics.accuracy(logits, y))


def test_a_logit_that_is_nan_is_no_hit():
    assert fm.metrics.top(2)(np.float32([[0, np.nan]]), np.int32([0])).tolist() == [0]


def test_the_network_never_answers_the_last_class_and_learns_nothing_from_it():
    model = among_candidates(fm.models.softmax_regression(3, 6))
    params = {"weight": np.float32(np.random.default_rng(1).normal(size=(3, 6))), "bias": np.zeros(6, np.float32)}
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * 10
    logits = model.predict(params, x)
    assert logits.shape == (40, 6)
    assert (logits.argmax(axis=1) < 5).all()
    assert (logits[:, 5] < logits[:, :5].min(axis=1)).all()
    misses = fm.Batch(x, np.full(40, 5, np.int32))
    for leaf in jax.tree.leaves(jax.grad(model.mean_loss)(params, misses)):
        assert not np.asarray(leaf).any()
    loss, measured = model.scores(params, misses)
    assert (float(loss), float(measured["accuracy"]), float(measured["top_4"])) == (0, 0, 0)


def test_a_run_on_candidates_has_that_network_and_says_so_in_its_inputs():
    info = fm.data.Info(name="log", classes=("a", "b", "c"))
    draw = np.random.default_rng(0)
    data = fm.data.next_items(draw.integers(0, 3, 60), np.array([30, 30]), ["u", "v"], info)
    inputs = Inputs.of(fm.data.candidates(data, 2, 0.5))
    assert inputs.misses
    assert Inputs.from_dict(inputs.to_dict()) == inputs
    assert "misses" not in Inputs.of(data).to_dict()
    model = inputs.model("softmax_regression", {})
    params = jax.tree.map(jnp.ones_like, model.init(jax.random.key(0)))
    assert model.predict(params, np.ones((1, 3), np.float32)).argmax() < 2
    assert set(model.metrics) == {"accuracy", "top_4"}


def test_clients_adapt_to_candidates_and_their_figures_count_misses():
    draw = np.random.default_rng(1)
    info = fm.data.Info(name="log", classes=tuple("abcde"))
    # Each client repeats two items of its own in turn, and at the end one it never had.
    clients = [[a, b] * 10 + [4] * 5 for a, b in (draw.permutation(4)[:2].tolist() for _ in range(6))]
    data = fm.data.next_items(np.ravel(clients), np.full(6, 25), [f"u{n}" for n in range(6)], info)
    data = fm.data.candidates(data, 3, 0.4)
    model = Inputs.of(data).model("softmax_regression", {})
    algorithm = fm.FOMAML(inner_lr=1.0, inner_steps=5)
    phi = algorithm.init(model, jax.random.key(0))
    report = fm.evaluate(algorithm, model, phi, data, 0.4, predictions=True, curve=False)
    assert report.accuracy == pytest.approx(10 / 15)
    assert report.figures.over_points["accuracy"] == pytest.approx(10 / 15)
