"""Figures against independent implementations: pairs that are counted, scikit-learn, and patients that are repeated."""

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics

from fedmeta.consortium import scores
from fedmeta.consortium.scores import Replicates


@pytest.fixture
def answered():
    draw = np.random.default_rng(11)
    y = (draw.random(40) < 0.4).astype(np.int32)
    return np.round(np.clip(0.3 * y + draw.random(40) * 0.7, 0, 1), 1), y


def counted(p, y):
    """AUROC by counting the pairs of an ill and a healthy patient."""
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    return sum(pairs) / len(pairs)


def expected(p, y):
    """Each figure, by others' implementations or plain loops."""
    bins = [min(int(one * 10), 9) for one in p]
    gaps = [abs(sum(p[i] - y[i] for i in range(len(p)) if bins[i] == place)) for place in range(10)]
    return {
        "accuracy": metrics.accuracy_score(y, p > 0.5),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, p > 0.5),
        "auroc": counted(p, y),
        "brier": metrics.brier_score_loss(y, p),
        "calibration_error": sum(gaps) / len(p),
    }


def test_figures_are_those_of_others(answered):
    p, y = answered
    found = scores.figures(p, y, np.ones((1, len(y))))
    assert tuple(found) == scores.METRICS
    for name, value in expected(p, y).items():
        assert found[name][0] == pytest.approx(value), name
    assert found["auroc"][0] == pytest.approx(metrics.roc_auc_score(y, p))


def test_a_weight_counts_as_so_many_patients(answered):
    p, y = answered
    weights = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), size=6).astype(float)
    found = scores.figures(p, y, weights)
    for place, times in enumerate(weights.astype(int)):
        for name, value in expected(np.repeat(p, times), np.repeat(y, times)).items():
            assert found[name][place] == pytest.approx(value), name


def test_of_one_class_auroc_and_balanced_accuracy_are_not_defined(answered):
    p, _ = answered
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scores.figures(p, np.ones(40, np.int32), np.ones((2, 40)))
    assert np.isnan(found["auroc"]).all()
    assert np.isnan(found["balanced_accuracy"]).all()
    assert found["accuracy"][0] == pytest.approx(np.mean(p > 0.5))


def test_draws_are_of_as_many_patients_and_begin_with_all():
    found = scores.draws(5, 30, 1, "zurich")
    assert found.shape == (6, 30)
    assert (found[0] == 1).all()
    assert (found.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(found, scores.draws(5, 30, 1, "zurich"))
    assert not np.array_equal(found, scores.draws(5, 30, 1, "budapest"))


def test_splits_in_which_a_figure_is_not_defined_are_left_out():
    parts = np.array([[0.2, np.nan, 0.6], [0.2, np.nan, 0.6], [0.2, np.nan, 0.6]])
    times = np.array([[1, 1, 1], [2, 1, 1], [0, 3, 0]])
    found = Replicates.over(parts, times).values
    np.testing.assert_allclose(found[:2], [0.4, 1 / 3])
    assert np.isnan(found[2])


def test_an_interval_holds_its_share_of_the_draws():
    values = np.concatenate([[0.5], np.arange(1001) / 1000])
    assert Replicates(values).interval == pytest.approx((0.5, 0.025, 0.975))
    none = Replicates(np.full(4, np.nan)).interval
    assert all(math.isnan(one) for one in none)


def test_intervals_of_a_share_are_about_as_wide_as_theory_says():
    """Of a binomial share: 1.96 sqrt(p (1 - p) / n)."""
    y = np.repeat([1, 0], [120, 280]).astype(np.int32)
    weights = scores.draws(2000, 400, 5, "theory")
    found = Replicates(scores.figures(np.full(400, 0.9), y, weights)["accuracy"]).interval
    assert found.value == pytest.approx(0.3)
    width = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert (found.high - found.low) / 2 == pytest.approx(width, rel=0.08)


def test_draws_that_are_centred_have_the_estimate_in_their_middle(answered):
    p, y = answered
    found = Replicates(scores.figures(p, y, scores.draws(400, 40, 1, "centre"))["calibration_error"])
    assert found.values[1:].mean() > found.values[0] + 0.01
    assert found.centred.values[0] == found.values[0]
    assert found.centred.values[1:].mean() == pytest.approx(found.values[0])
    assert found.centred.values[1:].std() == pytest.approx(found.values[1:].std())


def test_differences_are_of_the_same_draws(answered):
    p, y = answered
    weights = scores.draws(50, 40, 1, "pairs")
    one = Replicates(scores.figures(p, y, weights)["accuracy"])
    assert (one - one).interval == (0.0, 0.0, 0.0)


def test_a_mean_leaves_out_what_is_not_defined_at_all():
    known, none = Replicates(np.array([0.4, 0.5])), Replicates(np.array([np.nan, np.nan]))
    np.testing.assert_array_equal(Replicates.mean([known, none]).values, known.values)
    assert np.isnan(Replicates.mean([none, none]).values).all()
