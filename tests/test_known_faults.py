"""Mistakes that a published reproduction of this method makes, each beside the check that rejects it here.

Every test holds the faulty variant too, and shows that the check would not pass it.
"""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta.cli import main
from fedmeta.study.saved import read_experiment
from tests import toys
from tests.oracles import rounds, softmax

LR = 0.4
KEY = jax.random.key(0)
SOFTMAX = fm.models.softmax_regression(toys.FEATURES, toys.CLASSES)


def adapted_query_loss(model, task, theta, rates):
    """The definition, for one step: the query loss at theta - rates * grad of the support loss."""
    slope = jax.grad(model.mean_loss)(theta, task.support)
    return model.mean_loss(jax.tree.map(lambda t, r, g: t - r * g, theta, rates, slope), task.query)


def distance(left, right):
    a, b = toys.flat(left), toys.flat(right)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def constant(theta, value=LR):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), theta)


def test_maml_that_cuts_the_graph_is_first_order(model):
    task = toys.task(8, 8)
    theta = model.init(KEY)
    truth = jax.jit(jax.grad(lambda t: adapted_query_loss(model, task, t, constant(t))))(theta)
    right = rounds.client_update(fm.MAML(inner_lr=LR), model)(theta, task, KEY).pseudo_gradient

    def cut(t):
        slope = jax.grad(model.mean_loss)(jax.lax.stop_gradient(t), task.support)
        return model.mean_loss(jax.tree.map(lambda p, g: p - LR * g, t, slope), task.query)

    faulty = jax.jit(jax.grad(cut))(theta)
    assert distance(right, truth) < 1e-5
    assert distance(faulty, truth) > 0.05
    # The cut is what FOMAML is, and what MAML must not be.
    first_order = rounds.client_update(fm.FOMAML(inner_lr=LR), model)(theta, task, KEY).pseudo_gradient
    assert distance(first_order, faulty) < 1e-5


def test_meta_sgd_that_gives_alpha_the_gradient_of_theta(model):
    task = toys.task(8, 8)
    phi = fm.MetaSGD(inner_lr=LR).init(model, KEY)
    of_theta, of_alpha = jax.jit(jax.grad(lambda t, a: adapted_query_loss(model, task, t, a), argnums=(0, 1)))(
        phi["params"], phi["inner_lr"]
    )
    right = rounds.client_update(fm.MetaSGD(inner_lr=LR), model)(phi, task, KEY).pseudo_gradient
    faulty = {"params": right["params"], "inner_lr": right["params"]}
    assert distance(right["params"], of_theta) < 1e-5
    assert distance(right["inner_lr"], of_alpha) < 1e-5
    assert distance(faulty["inner_lr"], of_alpha) > 0.5


@pytest.mark.parametrize("algorithm", [fm.MAML(inner_lr=LR), fm.FedAvg(inner_lr=LR, inner_steps=1)])
def test_a_server_whose_adam_forgets_its_moments(algorithm):
    data = toys.classification((8, 12, 8, 12, 8, 12))
    adam, seed, support = optax.adam(0.05), 3, 0.4
    run = fm.train(algorithm, SOFTMAX, data, rounds=4, cohort_size=3, server=adam, support=support, seed=seed)
    cohorts = run.history["clients"].to_pylist()
    truth = rounds.train(algorithm, SOFTMAX, data, cohorts, adam, support, seed)
    # Made anew, Adam's state is that of its first step whatever came before.
    forgetful = optax.GradientTransformation(
        adam.init, lambda slope, _, params: adam.update(slope, adam.init(params), params)
    )
    faulty = rounds.train(algorithm, SOFTMAX, data, cohorts, forgetful, support, seed)
    toys.assert_close(run.state.phi, truth[-1], rtol=1e-3, atol=1e-5)
    assert distance(faulty[0], truth[0]) < 1e-5
    assert distance(faulty[-1], truth[-1]) > 0.05


@pytest.mark.parametrize("kind", [fm.FedAvg, fm.FedAvgMeta])
def test_fedavg_that_trains_on_the_support_set_only(kind):
    task = toys.task(4, 9)
    algorithm = kind(inner_lr=LR, inner_steps=2, inner_batch_size=None)
    theta = SOFTMAX.init(KEY)
    start = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), theta)

    def trained(x, y):
        local = softmax.descend(start, x, y, LR, [np.arange(len(y))] * 2)
        return {name: start[name] - local[name] for name in start}

    x, y = np.concatenate([task.support.x, task.query.x]), np.concatenate([task.support.y, task.query.y])
    truth = trained(x, y)
    faulty = trained(task.support.x, task.support.y)
    update = rounds.client_update(algorithm, SOFTMAX)(theta, task, KEY)
    assert distance(update.pseudo_gradient, truth) < 1e-5
    assert distance(faulty, truth) > 0.05
    assert float(update.weight) == 13


def test_accuracy_that_is_smoothed_or_over_a_few_clients():
    data = toys.classification((4, 30, 6, 12, 9, 25))
    algorithm = fm.FedAvgMeta(inner_lr=LR, adapt_steps=1, inner_batch_size=None)
    phi = jax.tree.map(lambda leaf: leaf + 0.1, SOFTMAX.init(KEY))
    report = fm.evaluate(algorithm, SOFTMAX, phi, data, support=0.5, seed=2)
    start = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), phi)
    right, asked = [], []
    for name in data.client_ids:
        task = data.task(name, 0.5, 2)
        local = softmax.descend(start, task.support.x, task.support.y, LR, [np.arange(len(task.support))])
        right.append(int((softmax.predictions(local, task.query.x) == task.query.y).sum()))
        asked.append(len(task.query))
    count = sum(right) / sum(asked)
    smoothed = 0.0
    for hits, examples in zip(right, asked, strict=True):
        smoothed = 0.9 * smoothed + 0.1 * hits / examples
    assert report.accuracy == pytest.approx(count, abs=1e-7)
    assert smoothed != pytest.approx(count, abs=0.01)
    assert sum(right[:4]) / sum(asked[:4]) != pytest.approx(count, abs=0.001)


def test_test_clients_that_are_never_used():
    data = toys.classification((6,) * 20)
    parts = data.split_clients((0.8, 0.1, 0.1), seed=1)
    assert [part.num_clients for part in parts] == [16, 2, 2]
    names = [set(part.client_ids) for part in parts]
    assert set.union(*names) == set(data.client_ids)
    assert sum(len(part) for part in names) == data.num_clients
    train, validation, test = parts
    report = fm.evaluate(fm.FedAvg(), SOFTMAX, SOFTMAX.init(KEY), test)
    assert set(report.clients) == names[2]
    assert int(report.after.examples.sum() + report.support_examples.sum()) == test.num_examples
    run = fm.train(fm.FedAvg(), SOFTMAX, train, rounds=6, cohort_size=8)
    seen = {name for cohort in run.history["clients"].to_pylist() for name in cohort}
    assert seen <= names[0]
    # What the faulty reproduction reports on: clients that are not the test clients.
    other = fm.evaluate(fm.FedAvg(), SOFTMAX, SOFTMAX.init(KEY), validation)
    assert not set(other.clients) & names[2]


def test_a_job_that_reports_on_clients_that_took_part(tmp_path):
    file, run = tmp_path / "table.csv", tmp_path / "run"
    draw = np.random.default_rng(0)
    lines = [
        f"w{owner:02},{a:.3f},{b:.3f},{'yes' if a > b else 'no'}"
        for owner in range(20)
        for a, b in draw.normal(size=(8, 2))
    ]
    file.write_text("\n".join(["writer,a,b,label", *lines]) + "\n")
    table = ["--data", file, "--client", "writer", "--target", "label"]
    # The checks of the job, from what it leaves on the disk.
    command(
        [
            "train",
            *table,
            "--algorithm",
            "fedavg-meta",
            "--rounds",
            12,
            "--validate-every",
            4,
            "--baselines",
            "free",
            "--out",
            run,
        ]
    )
    command(["evaluate", run, "--per-client", tmp_path / "clients.csv"])
    tested = [row["client"] for row in csv.DictReader((tmp_path / "clients.csv").read_text().splitlines())]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = {name for row in rows for name in row["clients"]}
    written = json.loads((run / "evaluation.json").read_text())

    experiment, phi = read_experiment(run), fm.load_run(run).phi
    whole = fm.data.from_table(file, client="writer", target="label")
    train, validation, test = (part.client_ids for part in whole.split_clients((0.8, 0.1, 0.1), seed=0))
    assert (len(train), len(validation), len(test)) == (16, 2, 2)
    assert sorted(tested) == sorted(test)
    assert trained <= set(train)
    assert not set(tested) & (trained | set(validation))
    best = max((row for row in rows if "validation_loss" in row), key=lambda row: row["validation_accuracy"])
    report = experiment.report(phi, experiment.test, predictions=True)
    assert report.per_client["client"].to_pylist() == tested
    assert written == {**report.summary(), "baselines": written["baselines"], "best_round": best["round"]}
    # The best validation figures are those of the result on the validation clients.
    looked = experiment.report(phi, experiment.validation)
    assert set(looked.clients) == set(validation)
    assert best["validation_loss"] == pytest.approx(looked.after.pooled["loss"], rel=1e-6)
    # The faulty job, which reports on clients that it has met.
    for met in (experiment.train, experiment.validation):
        faulty = experiment.report(phi, met)
        assert set(faulty.clients) & (trained | set(validation))
        assert faulty.summary() != written


def command(words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0
