"""The mixed model, against the formulas with whole matrices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.errors import DataError, UsageError
from fedmeta.study.answers import Sides
from fedmeta.study.mixed_model import fit, mixed_model


def ratings(clients, seed, between=1.0, within=0.5):
    """Clients of several sizes with an intercept of their own."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(clients), draw.integers(2, 12, clients))
    x = draw.normal(size=(len(owner), 3)).astype(np.float32)
    own = draw.normal(0, np.sqrt(between), clients)
    y = 2 + x @ [1, -1, 0.5] + own[owner] + draw.normal(0, np.sqrt(within), len(owner))
    return fm.data.from_arrays(x, y.astype(np.float32), owner)


@given(st.integers(0, 30))
def test_the_fit_is_generalised_least_squares_and_the_intercept_the_best_prediction(seed):
    data = ratings(7, seed)
    model = fit(data)
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y, np.float64)
    owner = np.repeat(np.arange(7), data.sizes)
    design = np.column_stack([np.ones(len(x)), x])
    covariance = model.within * np.eye(len(x)) + model.between * (owner[:, None] == owner)
    inverse = np.linalg.inv(covariance)
    expected = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ y)
    np.testing.assert_allclose([model.intercept, *model.slopes], expected, rtol=1e-8)
    left = inverse @ (y - design @ expected)
    for client in range(7):
        mine = owner == client
        assert model.own(x[mine], y[mine]) == pytest.approx(model.between * left[mine].sum(), rel=1e-6, abs=1e-9)


def test_the_variances_are_found_again():
    found = [fit(ratings(400, seed, between=0.7, within=0.3)) for seed in range(3)]
    assert np.mean([model.between for model in found]) == pytest.approx(0.7, rel=0.1)
    assert np.mean([model.within for model in found]) == pytest.approx(0.3, rel=0.05)
    assert np.mean([model.slopes for model in found], axis=0) == pytest.approx([1, -1, 0.5], abs=0.05)


def test_alike_clients_share_one_intercept():
    """Clients whose means are equal leave nothing between them."""
    x = np.zeros((12, 1), np.float32)
    data = fm.data.from_arrays(x, np.tile(np.float32([1, 3, 2]), 4), np.repeat(np.arange(4), 3))
    model = fit(data)
    assert (model.between, model.own(np.zeros((2, 1)), np.array([9.0, 9.0]))) == (0, 0)
    assert model.intercept == pytest.approx(2)


def test_the_report_is_of_the_query_with_the_support_s_intercept():
    data = ratings(12, 1)
    train, test = data.select(range(8)), data.select(range(8, 12))
    model, report = fit(train), mixed_model(test, train, Sides(support=0.5, seed=2))
    for place, name in enumerate(test.client_ids):
        task = test.task(name, 0.5, 2)
        given = model.fixed(np.asarray(task.query.x, np.float64))
        np.testing.assert_allclose(report.predictions.before[place], given, rtol=1e-5)
        own = model.own(np.asarray(task.support.x, np.float64), np.asarray(task.support.y, np.float64))
        np.testing.assert_allclose(report.predictions.after[place], given + own, rtol=1e-5)
        error = np.mean((given + own - task.query.y) ** 2)
        assert report.after.values["squared_error"][place] == pytest.approx(error, rel=1e-5)
    assert report.figures.over_points["rmse"] < report.figures_before.over_points["rmse"]


def test_what_cannot_be_fitted_is_refused():
    labels = fm.data.from_arrays(np.zeros((4, 1)), [0, 1, 0, 1], [0, 0, 1, 1])
    with pytest.raises(UsageError, match="no numbers to predict"):
        fit(labels)
    data = ratings(3, 0)
    with pytest.raises(DataError, match="between its clients"):
        fit(data.select([0]))
    single = replace(data, sizes=np.ones(3, np.int64))
    with pytest.raises(DataError, match="between its clients"):
        fit(single)
    with pytest.raises(DataError, match="two examples"):
        mixed_model(single, data)
