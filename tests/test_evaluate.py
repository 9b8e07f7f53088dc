"""Personalised evaluation, against NumPy."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import fedmeta as fm
from tests import toys
from tests.oracles import softmax

MODEL = fm.models.softmax_regression(toys.FEATURES, toys.CLASSES)
PHI = {
    "weight": np.random.default_rng(0).normal(size=(toys.FEATURES, toys.CLASSES)).astype(np.float32),
    "bias": np.zeros(toys.CLASSES, np.float32),
}
DATA = toys.classification((4, 30, 6, 12, 9, 25, 8, 14, 5, 17, 11, 20))
ADAPTING = fm.FedAvgMeta(inner_lr=0.3, inner_batch_size=None, adapt_steps=3)
SUPPORT, SEED = 0.4, 6


@pytest.fixture(scope="module")
def report():
    return fm.evaluate(ADAPTING, MODEL, PHI, DATA, support=SUPPORT, seed=SEED)


@pytest.fixture(scope="module")
def by_hand():
    """Each client's hits, query examples and loss after 0, 1, 2 and 3 steps, in NumPy; shape [clients, steps + 1]."""
    hits, examples, losses = [], [], []
    for name in DATA.client_ids:
        task = DATA.task(name, SUPPORT, SEED)
        params = {part: np.asarray(value, np.float64) for part, value in PHI.items()}
        right, lost = [], []
        for _ in range(4):
            right.append((softmax.predictions(params, task.query.x) == task.query.y).sum())
            lost.append(softmax.loss(params, task.query.x, task.query.y))
            params = softmax.descend(params, task.support.x, task.support.y, 0.3, [np.arange(len(task.support))])
        hits.append(right)
        losses.append(lost)
        examples.append(len(task.query))
    return np.array(hits), np.array(examples), np.array(losses)


def test_accuracy_is_over_all_data_points_and_client_accuracy_over_clients(report, by_hand):
    hits, examples, losses = by_hand
    assert report.accuracy == pytest.approx(hits[:, -1].sum() / examples.sum())
    assert report.client_accuracy == pytest.approx((hits[:, -1] / examples).mean())
    assert report.accuracy != pytest.approx(report.client_accuracy, abs=1e-3)
    assert report.before.accuracy == pytest.approx(hits[:, 0].sum() / examples.sum())
    assert report.after.pooled["loss"] == pytest.approx(np.average(losses[:, -1], weights=examples), rel=1e-5)
    assert report.before.by_client["loss"] == pytest.approx(losses[:, 0].mean(), rel=1e-5)


def test_fairness_figures_are_numpys(report, by_hand):
    hits, examples, _ = by_hand
    accuracies = hits[:, -1] / examples
    np.testing.assert_allclose(report.deciles, np.quantile(accuracies, np.linspace(0, 1, 11)), atol=1e-6)
    assert report.std == pytest.approx(np.sqrt(((accuracies - accuracies.mean()) ** 2).mean()), rel=1e-5)
    # A tenth of 12 clients, rounded up, is the two worst.
    assert report.bottom_10_percent == pytest.approx(np.sort(accuracies)[:2].mean(), abs=1e-6)


def test_the_curve_runs_from_before_to_after_through_every_step(report, by_hand):
    hits, examples, losses = by_hand
    assert report.curve["step"].to_pylist() == [0, 1, 2, 3]
    np.testing.assert_allclose(report.curve["accuracy"], hits.sum(axis=0) / examples.sum(), atol=1e-6)
    np.testing.assert_allclose(report.curve["client_loss"], losses.mean(axis=0), rtol=1e-5)
    for point, scores in ((0, report.before), (-1, report.after)):
        for name in ("loss", "accuracy"):
            np.testing.assert_array_equal(report.steps[point].values[name], scores.values[name])


def test_the_curve_is_for_looking_only(report):
    plain = fm.evaluate(ADAPTING, MODEL, PHI, DATA, support=SUPPORT, seed=SEED, curve=False)
    assert plain.steps == ()
    for point in ("before", "after"):
        for name in ("loss", "accuracy"):
            old, new = getattr(report, point).values[name], getattr(plain, point).values[name]
            np.testing.assert_allclose(old, new, rtol=1e-5)


def test_the_table_has_a_row_for_every_client(report, by_hand):
    hits, examples, losses = by_hand
    table = report.per_client
    assert table["client"].to_pylist() == DATA.client_ids
    assert table["query"].to_pylist() == examples.tolist()
    assert (np.array(table["support"]) + np.array(table["query"])).tolist() == DATA.sizes.tolist()
    np.testing.assert_allclose(table["accuracy"], hits[:, -1] / examples, atol=1e-6)
    np.testing.assert_allclose(table["accuracy_before"], hits[:, 0] / examples, atol=1e-6)
    np.testing.assert_allclose(table["loss"], losses[:, -1], rtol=1e-5)


def test_the_summary_is_json_and_says_the_same(report):
    summary = json.loads(json.dumps(report.summary()))
    assert summary["clients"] == DATA.num_clients
    assert summary["query_examples"] == int(report.after.examples.sum())
    assert summary["after"]["over_examples"]["accuracy"] == report.accuracy
    assert summary["before"]["over_clients"]["accuracy"] == report.before.client_accuracy
    assert len(summary["curve"]) == 4


def test_fedavg_is_tested_as_it_is():
    report = fm.evaluate(fm.FedAvg(inner_lr=5.0), MODEL, PHI, DATA, support=SUPPORT, seed=SEED)
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(report.before.values[name], report.after.values[name])
    assert len(report.steps) == 1


def test_clients_that_cannot_be_split_are_warned_of_and_counted():
    data = toys.classification((6, 1, 9, 1, 8))
    with pytest.warns(UserWarning, match="2 of 5 clients"):
        report = fm.evaluate(fm.FedAvg(), MODEL, PHI, data)
    assert report.left_out == 2
    assert report.clients == ("c0", "c2", "c4")


def test_a_client_that_needs_fewer_steps_stays_at_its_last():
    """With epochs in minibatches small clients take fewer steps; their points after that repeat the last."""
    data = toys.classification((4, 40))
    algorithm = fm.MAML(inner_lr=0.3, inner_epochs=1, inner_batch_size=2)
    report = fm.evaluate(algorithm, MODEL, PHI, data, support=0.5)
    small = [scores.values["loss"][0] for scores in report.steps]
    assert len(small) == 1 + 10
    assert small[1:] == [small[1]] * 10
    assert small[0] != small[1] == report.after.values["loss"][0]


def test_the_same_seed_gives_the_same_report_and_another_another():
    first, second, other = (fm.evaluate(ADAPTING, MODEL, PHI, DATA, support=SUPPORT, seed=seed) for seed in (1, 1, 2))
    assert first.per_client.equals(second.per_client)
    assert not first.per_client.equals(other.per_client)


def test_max_examples_bounds_what_a_client_brings():
    report = fm.evaluate(ADAPTING, MODEL, PHI, DATA, support=0.5, max_examples=6)
    brought = report.support_examples + report.after.examples
    assert brought.tolist() == np.minimum(DATA.sizes, 6).tolist()


def test_a_model_without_accuracy_is_judged_by_its_loss():
    model = fm.models.mlp((toys.FEATURES, 1), loss=fm.losses.squared_error)
    data = toys.regression()
    report = fm.evaluate(fm.MAML(inner_lr=0.1, adapt_steps=2), model, model.init(jax.random.key(0)), data, support=0.5)
    losses = report.after.values["loss"]
    np.testing.assert_allclose(report.deciles, np.quantile(losses, np.linspace(0, 1, 11)))
    assert report.bottom_10_percent == losses.max()
    with pytest.raises(AttributeError, match="measures no accuracy; it has absolute_error, loss"):
        _ = report.accuracy


@pytest.mark.parametrize("support", [0.0, 1.0, -0.1, 20.0])
def test_a_support_fraction_out_of_range_is_named(support):
    with pytest.raises(fm.errors.UsageError, match=f"between 0 and 1 .exclusive., not {support}"):
        fm.evaluate(ADAPTING, MODEL, PHI, DATA, support=support)


def test_adapting_for_longer_needs_no_other_phi(report):
    longer = dataclasses.replace(ADAPTING, adapt_steps=5)
    again = fm.evaluate(longer, MODEL, PHI, DATA, support=SUPPORT, seed=SEED)
    assert len(again.steps) == 6
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(again.steps[3].values[name], report.after.values[name], rtol=1e-5)


def test_a_report_is_printed_as_a_few_lines(report):
    lines = str(report).splitlines()
    assert lines[0] == f"12 clients, {report.after.examples.sum()} query examples"
    assert lines[1].split()[:4] == ["accuracy", f"{report.before.accuracy:.4g}", "->", f"{report.accuracy:.4g}"]
    assert [line.split()[0] for line in lines[1:]] == ["accuracy", "loss"]
    one = fm.evaluate(ADAPTING, MODEL, PHI, DATA.select([1]), support=SUPPORT, seed=SEED)
    assert repr(one).startswith("1 client, ")
