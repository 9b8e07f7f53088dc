"""Regression by default settings does not diverge, and is better than what costs nothing."""

import logging

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.runs.inputs import Inputs
from fedmeta.study.defaults import safe_inner_rate
from fedmeta.study.recipe import Recipe, prepare_all
from tests.examples import in_soak
from tests.small_tables import table

CLIENTS, EACH = 20, 40


def numbers(features=2, spread=3.0):
    """A table whose clients differ in their slopes, with targets far from zero."""
    draw = np.random.default_rng(0)
    slopes = draw.normal(spread, 0.3, size=(CLIENTS, features))
    x = draw.normal(50, 20, size=(CLIENTS * EACH, features))
    y = 1000 + ((x - 50) / 20 * np.repeat(slopes, EACH, axis=0)).sum(axis=1) + draw.normal(0, 0.1, len(x))
    names = [f"x{place}" for place in range(features)]
    return table(
        ["site", *names, "y"],
        lambda i: (f"s{i // EACH:02}", *(f"{value:.3f}" for value in x[i]), f"{y[i]:.4f}"),
        len(x),
    )


@pytest.fixture
def file(tmp_path):
    (tmp_path / "numbers.csv").write_text(numbers())
    return tmp_path / "numbers.csv"


def test_a_safe_rate_of_a_linear_model_is_half_the_inverse_of_the_mean_of_one_plus_the_squared_inputs(file):
    data = fm.data.from_table(file, client="site", target="y")
    inputs = Inputs.of(data)
    model = inputs.model("softmax_regression", {})
    # Standardised inputs have the mean square 1, whatever their units.
    assert safe_inner_rate(model, data, inputs.target_scale[1], 0) == pytest.approx(1 / (2 * (1 + 2)), rel=0.1)


@in_soak
@pytest.mark.parametrize("algorithm", ["maml", "meta-sgd"])
def test_by_default_regression_is_far_better_than_the_mean_and_adapting_helps(file, algorithm, caplog):
    with caplog.at_level(logging.WARNING, "fedmeta.study"):
        recipe = Recipe.default(str(file), algorithm, client="site", target="y")
        experiment = recipe.prepare()
    assert "the inner rate is" in caplog.text
    report = experiment.report(experiment.run().phi, experiment.test)
    y = np.concatenate([np.asarray(experiment.test[name].y) for name in experiment.test.client_ids])
    error = report.after.pooled["absolute_error"]
    assert error < 0.3 * np.abs(y - y.mean()).mean()
    assert error <= report.before.pooled["absolute_error"]


def test_a_rate_that_is_told_is_kept(file):
    chosen = {"client": "site", "target": "y", "algorithm_options": {"inner_lr": 0.03}}
    assert Recipe.default(str(file), "maml", **chosen).prepare().procedure.algorithm.inner_lr == 0.03
    inner = {"client": "site", "target": "y", "algorithm_options": {"inner": fm.optimisers.momentum(0.01)}}
    assert Recipe.default(str(file), "maml", **inner).prepare().procedure.algorithm.inner is not None


def test_what_a_single_example_can_do_is_bounded(file):
    data = fm.data.from_table(file, client="site", target="y")
    inputs = Inputs.of(data)
    model = inputs.model("softmax_regression", {})
    (layer,) = model.init(jax.random.key(0))
    params = [{"weight": np.array([[1.0], [0.0]], np.float32), "bias": np.zeros(1, np.float32)}]
    assert jax.tree.map(np.shape, layer) == jax.tree.map(np.shape, params[0])
    mean, std, (centre, spread) = inputs.mean[0], inputs.std[0], inputs.target_scale
    deviations = np.array([-1e6, -4, -3, 0.5, 3, 4, 1e6])
    x = np.stack([mean + std * deviations, np.full(7, inputs.mean[1])], axis=1).astype(np.float32)
    seen = (np.asarray(model.predict(params, x)) - centre) / spread
    kept = np.sign(deviations) * (np.minimum(abs(deviations), 3) + np.log1p(np.maximum(abs(deviations) - 3, 0)))
    np.testing.assert_allclose(seen, kept, rtol=1e-3, atol=1e-3)
    errors = np.array([-100.0, -1.0, 0.5, 2.0, 3.0])
    loss = model.loss(np.float32(centre + spread * errors), np.full(5, centre, np.float32))
    np.testing.assert_allclose(loss, np.where(abs(errors) <= 2, errors**2 / 2, 2 * abs(errors) - 2), rtol=1e-3)


def test_the_rmse_of_a_run_is_in_the_targets_units(file):
    experiment = Recipe.default(str(file), "maml", client="site", target="y", rounds=3).prepare()
    report = experiment.report(experiment.run().phi, experiment.test, predictions=True)
    error = np.concatenate(report.predictions.after) - np.concatenate(report.predictions.y)
    assert experiment.headline(report.after.pooled) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    # A run of an earlier version noted the loss alone, which was half the squared error of scaled targets.
    spread = experiment.procedure.inputs.target_scale[1]
    assert experiment.headline({"loss": 2.0}) == pytest.approx(2 * spread)


def test_the_rates_of_several_algorithms_are_said_in_one_line_with_the_option(file, caplog):
    """Another network has another rate."""
    told = {"client": "site", "target": "y"}
    maml, reptile = (Recipe.default(str(file), name, **told) for name in ("maml", "reptile"))
    anil = Recipe.default(str(file), "anil", **told, model_options={"hidden": 3})
    for recipes, says in (
        ([maml, reptile], "the inner rate is {0:g}"),
        ([maml, anil, reptile], "the inner rate is {0:g} for FedMeta(MAML), Reptile and {1:g} for ANIL"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fedmeta.study"):
            experiments = prepare_all(recipes)
        rates = dict.fromkeys(experiment.procedure.algorithm.inner_lr for experiment in experiments)
        assert [record.getMessage() for record in caplog.records if record.name == "fedmeta.study"] == [
            says.format(*rates) + ", at which squared errors do not diverge; --inner-lr says otherwise"
        ]
