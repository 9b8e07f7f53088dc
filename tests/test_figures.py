"""Figures from predictions, against scikit-learn's own functions and closed forms."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import special, stats
from sklearn import metrics

import fedmeta as fm
from fedmeta.evaluation.figures import Difference, figures
from tests import toys


def clients_of(draw, sizes, classes):
    y = [draw.integers(classes, size=size) for size in sizes]
    # Ties are as likely as they are for whole numbers.
    return y, [draw.integers(-2, 3, size=(size, classes)).astype(np.float32) for size in sizes]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(2, 4), st.integers(0, 10_000))
@pytest.mark.filterwarnings("ignore")
def test_classification_is_what_scikit_learn_says(sizes, classes, seed):
    y, logits = clients_of(np.random.default_rng(seed), sizes, classes)
    found = figures(y, logits)
    labels = list(range(classes))
    for place, (targets, scores) in enumerate(
        [(np.concatenate(y), np.concatenate(logits)), *zip(y, logits, strict=True)]
    ):
        # What is equal but for the noise of float64 is equal.
        shares = np.round(special.softmax(scores.astype(np.float64), axis=1), 12)
        given_ = scores.argmax(axis=1)
        present = sorted(set(targets) | set(given_))
        some = [c for c in labels if 0 < (targets == c).sum() < len(targets)]
        expected = {
            "accuracy": metrics.accuracy_score(targets, given_),
            "balanced_accuracy": metrics.recall_score(targets, given_, labels=sorted(set(targets)), average="macro"),
            "macro_f1": metrics.f1_score(targets, given_, labels=present, average="macro"),
            "auroc": np.mean([metrics.roc_auc_score(targets == c, shares[:, c]) for c in some]) if some else math.nan,
            "log_loss": metrics.log_loss(targets, shares, labels=labels),
        }
        for name, value in expected.items():
            got = found.over_points[name] if place == 0 else found.each[name][place - 1]
            assert got == pytest.approx(value, rel=1e-9, nan_ok=True), name
    np.testing.assert_array_equal(
        found.confusion, metrics.confusion_matrix(np.concatenate(y), np.concatenate(logits).argmax(1), labels=labels)
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 10_000))
def test_regression_is_the_closed_form_in_the_targets_units(sizes, seed):
    draw = np.random.default_rng(seed)
    y = [draw.normal(100, 5, size).astype(np.float32) for size in sizes]
    answers = [one + draw.normal(size=len(one)).astype(np.float32) for one in y]
    found = figures(y, answers)
    error = np.concatenate(answers).astype(np.float64) - np.concatenate(y)
    assert found.over_points["mae"] == pytest.approx(np.abs(error).mean())
    assert found.over_points["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    spread = np.concatenate(y).astype(np.float64).var()
    if spread:
        assert found.over_points["r2"] == pytest.approx(1 - (error**2).mean() / spread)
    assert np.isnan(found.each["r2"]).tolist() == [size == 1 for size in sizes]
    assert found.over_clients["rmse"] == pytest.approx(
        np.mean([np.sqrt(((a.astype(np.float64) - b) ** 2).mean()) for a, b in zip(answers, y, strict=True)])
    )
    assert found.confusion is None


def test_the_calibration_error_is_zero_where_confidence_is_the_share_of_hits():
    shares = np.tile([[0.75, 0.25]], (8, 1))
    y = np.array([0, 0, 0, 1] * 2)
    assert figures([y], [np.log(shares)]).over_points["calibration_error"] == pytest.approx(0)
    assert figures([1 - y], [np.log(shares)]).over_points["calibration_error"] == pytest.approx(0.5)


def test_a_certain_and_wrong_answer_costs_what_float64_says():
    logits = np.array([[0.0, 18.0 * math.log(10)]], np.float32)
    assert figures([np.array([0])], [logits]).over_points["log_loss"] == pytest.approx(18 * math.log(10), rel=1e-6)


def test_what_is_not_finite_is_wrong():
    y = [np.array([0, 1]), np.array([1, 0])]
    logits = [np.array([[np.nan, 0.0], [0.0, 1.0]], np.float32), np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)]
    found = figures(y, logits)
    assert found.each["accuracy"].tolist() == [0.5, 1.0]
    assert found.over_points["log_loss"] == math.inf
    assert found.confusion.sum() == 3
    lost = figures([np.zeros(2, np.float32)], [np.array([np.inf, 0.0], np.float32)])
    assert lost.over_points["rmse"] == math.inf


def test_a_client_of_one_class_has_no_auroc_and_is_left_out_of_the_mean():
    y = [np.array([0, 0]), np.array([0, 1])]
    logits = [np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, 1.0]])]
    found = figures(y, logits)
    assert np.isnan(found.each["auroc"][0])
    assert found.over_clients["auroc"] == 1.0


def test_the_order_of_what_is_nearly_certain_counts():
    """In float64 all of these shares are 1."""
    y, gaps = np.array([0, 1, 0, 1]), np.array([45.0, 60.0, 50.0, 70.0])
    logits = np.stack([np.zeros(4), gaps], axis=1)
    assert figures([y], [logits]).over_points["auroc"] == 1.0
    assert figures([1 - y], [logits]).over_points["auroc"] == 0.0


def test_a_point_without_an_answer_is_the_last_of_its_class():
    y, logits = np.array([0, 0, 1, 1]), np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [np.nan, 0.0]])
    found = figures([y], [logits]).over_points["auroc"]
    assert found == pytest.approx(0.5), "half of the pairs have the lost point"


def test_a_model_that_is_sure_and_right_loses_nothing():
    found = figures([np.array([0, 1])], [np.array([[99.0, 0.0], [0.0, 99.0]])]).over_points["log_loss"]
    assert str(found) == "0.0"


def test_predictions_may_have_an_axis_of_one_more_than_the_targets():
    y, answers = np.arange(4.0), np.array([1.0, 1.0, 2.0, 5.0])
    assert figures([y], [answers[:, None]]).over_points == figures([y], [answers]).over_points


def test_answers_of_another_form_have_no_figures():
    with pytest.raises(fm.errors.UsageError, match="as many predictions as targets"):
        figures([np.zeros(3, np.float32)], [np.zeros((3, 2), np.float32)])
    with pytest.raises(fm.errors.UsageError, match="one array"):
        figures([np.zeros(3, np.float32)], [{"a": np.zeros(3)}])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_an_interval_is_students(values):
    found = Difference.of(np.array([*values, math.nan]))
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), max(stats.sem(values), 1e-300))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high), abs=1e-9)
    assert found.count == len(values)


def test_a_report_keeps_predictions_if_it_is_asked_to():
    data, model = toys.classification(), fm.models.softmax_regression(toys.FEATURES, toys.CLASSES)
    algorithm = fm.FedAvgMeta(inner_lr=0.3, inner_batch_size=None, adapt_steps=2)
    phi = algorithm.init(model, fm.random.as_key(fm.random.key_data(0, "init")))
    for curve in (True, False):
        report = fm.evaluate(algorithm, model, phi, data, support=0.4, predictions=True, curve=curve)
        for place, name in enumerate(data.client_ids):
            task = data.task(name, 0.4, 0)
            adapted = algorithm.adapt(model, phi, task.support, fm.random.as_key(fm.random.key_data(0, "x")))
            kept = report.predictions
            np.testing.assert_array_equal(kept.y[place], task.query.y)
            np.testing.assert_allclose(kept.before[place], model.predict(phi, task.query.x), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(kept.after[place], model.predict(adapted, task.query.x), rtol=1e-5, atol=1e-6)
        assert report.figures.over_points["accuracy"] == pytest.approx(report.after.pooled["accuracy"])
        assert report.figures_before.over_clients["accuracy"] == pytest.approx(report.before.by_client["accuracy"])
        change = report.figures.each["accuracy"] - report.figures_before.each["accuracy"]
        assert report.gain.mean == pytest.approx(change.mean())
    with pytest.raises(fm.errors.UsageError, match="predictions=True"):
        _ = fm.evaluate(algorithm, model, phi, data, support=0.4).figures
