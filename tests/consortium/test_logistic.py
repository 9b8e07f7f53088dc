"""Regressions side by side are scikit-learn's, one by one."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fedmeta.consortium import logistic


@pytest.fixture
def some():
    draw = np.random.default_rng(3)
    x = draw.normal(size=(60, 4))
    return x, (x[:, 0] - 0.5 * x[:, 1] + draw.normal(size=60) > 0.4).astype(np.int32)


@pytest.mark.parametrize("c", [1e-3, 0.1, 1.0, 100.0])
def test_coefficients_are_those_of_scikit_learn(some, c):
    x, y = some
    weights = np.ones((2, len(y)))
    weights[1, ::3] = 0
    found = logistic.fit(x, y, weights, np.array([c, c]))
    for w, kept in zip(found, weights > 0, strict=True):
        other = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x[kept], y[kept])
        np.testing.assert_allclose(w[:-1], other.coef_[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(w[-1], other.intercept_[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logistic.predict(w, x), other.predict_proba(x)[:, 1], atol=1e-5)


def test_the_penalty_is_chosen_by_the_log_loss_of_the_folds(some):
    x, y = some
    folds = logistic._folds(y, logistic.FOLDS, 7)
    totals = []
    for c in logistic.STRENGTHS:
        total = 0.0
        for fold in range(logistic.FOLDS):
            model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x[folds != fold], y[folds != fold])
            total += log_loss(y[folds == fold], model.predict_proba(x[folds == fold]), normalize=False)
        totals.append(total)
    assert logistic.choose(x, y, 7) == logistic.STRENGTHS[int(np.argmin(totals))]


def test_folds_hold_both_classes(some):
    _, y = some
    folds = logistic._folds(y, 5, 1)
    for fold in range(5):
        assert set(y[folds == fold]) == {0, 1}


def test_patients_of_one_class_give_their_share(some):
    x, _ = some
    answered = logistic.alone(x[:4], np.ones(4, np.int32), x[:3])
    np.testing.assert_allclose(answered, 4.5 / 5)
    assert logistic.share(np.array([0, 0, 1])) == pytest.approx(1.5 / 4)


def test_with_one_patient_of_a_class_nothing_can_be_chosen(some):
    x, _ = some
    assert logistic.choose(x[:5], np.array([0, 0, 1, 0, 0])) == min(logistic.STRENGTHS)


def test_separable_patients_have_finite_coefficients():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    found = logistic.fit(x, np.array([0, 0, 1, 1]), np.ones((1, 4)), np.array([100.0]))
    other = LogisticRegression(C=100.0, tol=1e-10, max_iter=10_000).fit(x, [0, 0, 1, 1])
    np.testing.assert_allclose(found[0, 0], other.coef_[0, 0], rtol=1e-4)
