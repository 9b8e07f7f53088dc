import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import zip_longest

import click
import numpy as np
import pytest
from safetensors import safe_open

import fedmeta as fm
from fedmeta._engine import autotune
from fedmeta.aggregators import AGGREGATORS
from fedmeta.algorithms import ALGORITHMS
from fedmeta.cli import COMMANDS, app
from fedmeta.runs.folder import read_history
from fedmeta.transforms import TRANSFORMS
from tests import toys
from tests.examples import cells, in_soak


def every_command(command=app, words=()):
    """Return the words of each command and of each group of them."""
    found = [words]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found += every_command(command.get_command(context, name), (*words, name))
    return found


EVERY = [words for words in every_command() if words]


def test_every_command_is_found():
    assert {words[0] for words in EVERY} == set(COMMANDS)
    assert {("data", "schema"), ("ledger", "init")} <= set(EVERY)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_command_explains_itself_shortly_asked_too_with_an_example(fedmeta, command):
    done = fedmeta(*command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert "Example" in done.out
    assert f"fedmeta {command[0]}" in done.out
    assert fedmeta(*command, "-h") == done


def test_a_table_nobody_here_wrote_trains_tests_adapts_and_predicts(fedmeta, drawn, train_shop, shop, tmp_path):
    done, run = train_shop("--json")
    assert done.code == 0, done.err
    test = done.json
    assert test["clients"] == 1
    assert 0 <= test["after"]["over_examples"]["accuracy"] <= 1
    written = ("run.toml", "metrics.jsonl", "model.safetensors", "report.html", "evaluation.json")
    assert all((run / name).is_file() for name in written)
    assert fedmeta("evaluate", run, "--json").json == test

    lines = shop.read_text().splitlines()
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join([lines[0], *lines[1:16]]) + "\n")
    model = tmp_path / "mine.safetensors"
    adapted = fedmeta("adapt", run, "--examples", mine, "--out", model, "--json")
    assert adapted.code == 0, adapted.err
    assert adapted.json["loss"]["after"] < adapted.json["loss"]["before"]

    new = tmp_path / "new.csv"
    new.write_text("member,visits,spent\ntrue,3,4100.5\nfalse,8,6000\n")
    predicted = fedmeta("predict", model, "--examples", new)
    assert predicted.code == 0, predicted.err
    rows = list(csv.DictReader(predicted.out.splitlines()))
    assert len(rows) == 2
    assert all(row["prediction"] in ("yes", "no") and 0.5 <= float(row["probability"]) <= 1 for row in rows)
    fedmeta("predict", model, "--examples", new, "--json", "--out", tmp_path / "out.json")
    assert [row["prediction"] for row in json.loads((tmp_path / "out.json").read_text())] == [
        row["prediction"] for row in rows
    ]


def test_predictions_are_those_of_gradient_descent_from_the_trained_start(fedmeta, train_shop, shop, tmp_path):
    """A linear model, standardised by the training clients, adapted in NumPy."""
    done, run = train_shop("--model", "softmax_regression", "--inner-lr", 0.5, "--inner-steps", 4)
    assert done.code == 0, done.err
    fedmeta("adapt", run, "--examples", shop, "--out", tmp_path / "all.safetensors")
    import tomllib

    inputs = tomllib.loads((run / "run.toml").read_text())["recipe"]["procedure"]["inputs"]
    with safe_open(run / "model.safetensors", "numpy") as file:
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    rows = list(csv.DictReader(shop.read_text().splitlines()))
    features = [[float(r["spent"]), float(r["visits"]), float(r["member"] == "True")] for r in rows]
    x = (np.array(features) - inputs["mean"]) / inputs["std"]
    y = np.eye(2)[[inputs["classes"].index(r["label"]) for r in rows]]
    for _ in range(4):
        logits = x @ weight + bias
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        weight = weight - 0.5 * x.T @ (share - y) / len(x)
        bias = bias - 0.5 * (share - y).mean(axis=0)
    with safe_open(tmp_path / "all.safetensors", "numpy") as file:
        np.testing.assert_allclose(file.get_tensor("weight"), weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(file.get_tensor("bias"), bias, rtol=1e-4, atol=1e-5)


@in_soak
def test_numbers_can_be_predicted_too(fedmeta, drawn, tmp_path):
    draw = np.random.default_rng(1)
    lines = ["who,a,b,price"]
    for who in range(8):
        slope = draw.normal(300, 50)
        for a, b in draw.normal(size=(12, 2)):
            lines.append(f"{who},{a:.3f},{b:.3f},{slope * a + 20 * b + 1000:.3f}")
    table = tmp_path / "prices.csv"
    table.write_text("\n".join(lines) + "\n")
    columns = ("--data", table, "--client", "who", "--target", "price")
    chosen = ("--algorithm", "meta-sgd", "--rounds", 30, "--server-lr", 0.03, "--model", "softmax_regression")
    done = fedmeta("train", *columns, *chosen, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert done.json["after"]["over_examples"]["loss"] < 0.2
    assert fedmeta("evaluate", tmp_path / "run").code == 0
    fedmeta("adapt", tmp_path / "run", "--examples", table, "--out", tmp_path / "m.safetensors")
    predicted = fedmeta("predict", tmp_path / "m.safetensors", "--examples", table, "--json").json
    truth = [float(line.split(",")[-1]) for line in lines[1:]]
    assert np.corrcoef([row["prediction"] for row in predicted], truth)[0, 1] > 0.9


# One that does not adapt, and one with parameters of its clients' own; most others are trained by other tests here.
@pytest.mark.parametrize("algorithm", cells(["fedper"], list(ALGORITHMS)))
def test_every_algorithm_runs_from_the_command_line(fedmeta, train_shop, algorithm, shop, tmp_path):
    done, run = train_shop("--algorithm", algorithm, "--rounds", 2)
    assert done.code == 0, done.err
    assert ALGORITHMS[algorithm].title in done.out
    adapted = fedmeta("adapt", run, "--examples", shop, "--out", tmp_path / "m.safetensors")
    assert ("does not adapt" in adapted.out) == (not ALGORITHMS[algorithm].adapts)


RULES = (
    ("--algorithm", "per-fedavg", "--algorithm-option", "of=fomaml", "--algorithm-option", "local_steps=2"),
    ("--inner-lr", 0.5, "--algorithm-option", "local=momentum:learning_rate=0.1"),
    ("--transform", "clip_by_norm:norm=2+error_feedback(top_k:fraction=0.5+quantise:bits=8)"),
    ("--aggregator", "trimmed_mean:fraction=0.25", "--server", "adam:b1=0.5", "--server-lr", 0.02),
)


def test_what_the_command_line_says_is_the_procedure_that_the_run_has(train_shop):
    done, run = train_shop(*(word for words in RULES for word in words), "--seed", 3, "--support", 0.3)
    assert done.code == 0, done.err
    procedure = fm.load_run(run).procedure
    assert procedure.algorithm == fm.PerFedAvg(
        of=fm.FOMAML(inner_lr=0.5, inner_steps=1), local_steps=2, local=fm.optimisers.momentum(0.1)
    )
    lossy = fm.transforms.chain(fm.transforms.top_k(0.5), fm.transforms.quantise(8))
    assert procedure.transform == fm.transforms.chain(
        fm.transforms.clip_by_norm(2.0), fm.transforms.error_feedback(lossy)
    )
    assert procedure.aggregator == fm.aggregators.trimmed_mean(0.25)
    assert procedure.server == fm.optimisers.adam(0.02, b1=0.5)
    assert (procedure.seed, procedure.support, procedure.rounds) == (3, 0.3, 3)
    assert procedure.digest in (run / "report.html").read_text()


def test_every_transform_and_aggregator_runs_from_the_command_line(train_shop):
    """Each once; what a rule does is tested where it lives."""
    names = [*zip_longest(sorted(TRANSFORMS.keys() - {"chain", "error_feedback"}), AGGREGATORS)]
    for number, (transform, aggregator) in enumerate(cells(names[1:3], names)):
        words = ("--transform", transform) if transform else ()
        words += ("--aggregator", aggregator) if aggregator else ()
        # Krum with one Byzantine client needs five.
        small = ("--model", "softmax_regression", "--rounds", 1, "--cohort-size", 6, "--json")
        done, _ = train_shop(*words, *small, out=f"run{number}")
        assert done.code == 0, (words, done.err)


def test_the_clients_that_are_named_are_tested_and_the_run_keeps_who_they_are(fedmeta, train_shop):
    told = ("--fractions", "0.5,0.25,0.25", "--test-clients", "u3,u7", "--validation-clients", "u1", "--json")
    done, run = train_shop(*told, "--model", "softmax_regression")
    assert done.code == 0, done.err
    assert done.json["clients"] == 2
    assert fedmeta("evaluate", run, "--json").json == done.json
    assert not {"u1", "u3", "u7"} & {name for row in read_history(run) for name in row["clients"]}


def test_scaffold_is_told_which_share_of_the_clients_a_cohort_is(train_shop):
    words = ("--algorithm", "scaffold", "--model", "softmax_regression")
    _, run = train_shop(*words, "--cohort-size", 5)
    assert fm.load_run(run).algorithm.participation == 5 / 10
    done, run = train_shop(*words, "--algorithm-option", "participation=0.25", out="other")
    assert done.code == 0
    assert fm.load_run(run).algorithm.participation == 0.25


def test_a_run_out_of_patience_is_done_and_its_best_state_is_the_result(fedmeta, train_shop, shop, tmp_path):
    words = ("--rounds", 40, "--validate-every", 1, "--patience", 2, "--monitor", "loss", "--server-lr", 0.5)
    done, run = train_shop(*words)
    assert done.code == 0, done.err
    rows = read_history(run)
    losses = [row["validation_loss"] for row in rows]
    best = int(np.argmin(losses))
    assert len(rows) == best + 1 + 2 < 40
    assert f"stopped after round {len(rows)}: no better validation loss than that of round {best + 1}" in done.err
    # Its result is that of a run that ended with the best round.
    short, other = train_shop("--rounds", best + 1, "--server-lr", 0.5, "--select", "last", out="short")
    assert short.code == 0
    assert toys.same_bits(fm.load_run(run).phi, fm.load_run(other).phi)
    tested = fedmeta("evaluate", run, "--json").json
    assert tested["best_round"] == best + 1
    assert {**tested, "best_round": None} == fedmeta("evaluate", other, "--json").json
    assert fedmeta("adapt", run, "--examples", shop, "--out", tmp_path / "m.safetensors").code == 0
    again = fedmeta("resume", run)
    assert again.code == 0
    assert len(read_history(run)) == len(rows)


def test_evaluation_takes_other_steps_of_whatever_adapts(fedmeta, train_shop):
    """Per-FedAvg adapts as the algorithm that it is made of."""
    _, run = train_shop("--algorithm", "per-fedavg", "--model", "softmax_regression")
    still = fedmeta("evaluate", run, "--adapt-steps", 0, "--json").json
    assert still["before"] == still["after"]
    assert fedmeta("evaluate", run, "--adapt-steps", 3, "--json").json["after"] != still["after"]
    _, plain = train_shop("--algorithm", "fedavg", "--model", "softmax_regression", out="plain")
    assert "does not adapt" in fedmeta("evaluate", plain, "--adapt-steps", 3).err


def test_a_plan_is_explained_by_its_buckets(fedmeta, train_shop, monkeypatch):
    monkeypatch.setattr(autotune, "ENOUGH", 1e-9)
    done, run = train_shop("--explain-plan", "--json")
    assert done.code == 0, done.err
    assert done.json["buckets"] == [{"support": 8, "query": 7}]
    assert done.json["flops_per_client"] > 0
    assert not run.exists()
    assert "8 + 7 support and query examples" in train_shop("--explain-plan")[0].out


def test_a_run_goes_on_to_more_rounds_as_if_it_had_been_asked_for_them(fedmeta, train_shop):
    _, short = train_shop("--select", "last", out="short")
    assert fedmeta("resume", short, "--rounds", 5).code == 0
    _, long = train_shop("--select", "last", "--rounds", 5, out="long")
    assert (short / "model.safetensors").read_bytes() == (long / "model.safetensors").read_bytes()


def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_bits(fedmeta, train_shop, shop, tmp_path):
    folder = tmp_path / "cut"
    table = ["--data", str(shop), "--client", "user", "--target", "label", "--algorithm", "maml"]
    # So many rounds that none is the last, and not so many that plans are measured first.
    command = [sys.executable, "-m", "fedmeta", "train", *table, "--validate-every", "2", "--rounds", "50000"]
    process = subprocess.Popen([*command, "--out", str(folder)], stderr=subprocess.PIPE, text=True)
    while not (folder / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"fedmeta: interrupted; go on with: fedmeta resume {folder}"
    assert not (folder / "model.safetensors").exists()
    assert fedmeta("adapt", folder, "--examples", shop, "--out", tmp_path / "m").code == 2
    rounds = len(read_history(folder)) + 5
    assert fedmeta("resume", folder, "--rounds", rounds).code == 0
    _, whole = train_shop("--validate-every", 2, "--rounds", rounds, out="whole")
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_tensorboard_files_appear_where_they_are_wanted(train_shop, tmp_path):
    done, _ = train_shop("--tensorboard", tmp_path / "board")
    assert done.code == 0, done.err
    assert list((tmp_path / "board").glob("events.out.tfevents.*"))


def test_a_client_table_has_a_row_per_unseen_client(fedmeta, train_shop, tmp_path):
    _, run = train_shop()
    done = fedmeta("evaluate", run, "--per-client", tmp_path / "clients.csv", "--support", 0.5, "--adapt-steps", 2)
    assert done.code == 0, done.err
    (row,) = csv.DictReader((tmp_path / "clients.csv").read_text().splitlines())
    assert int(row["support"]) + int(row["query"]) == 15


def test_a_model_of_text_adapts_to_a_text_file(fedmeta, real_data, tmp_path):
    real_data("shakespeare")
    small = ("--model-option", "hidden=8", "--max-examples", 6, "--cohort-size", 2)
    data = ("--data", "shakespeare", "--algorithm", "fomaml", "--rounds", 1, "--baselines", "none")
    assert fedmeta("train", *data, *small, "--out", tmp_path / "run").code == 0
    mine = tmp_path / "mine.txt"
    mine.write_text("Shall I compare thee to a summer's day?\nThou art more lovely and more temperate. " * 3)
    adapted = fedmeta("adapt", tmp_path / "run", "--examples", mine, "--out", tmp_path / "m.safetensors", "--json")
    assert adapted.code == 0, adapted.err
    assert adapted.json["examples"] > 100
    rows = fedmeta("predict", tmp_path / "m.safetensors", "--examples", mine, "--json").json
    assert len(rows) == adapted.json["examples"] + 1, "the last window has no successor to adapt on, but one to predict"
    assert all(len(row["prediction"]) == 1 for row in rows)
    (tmp_path / "short.txt").write_text("too short")
    refused = fedmeta("predict", tmp_path / "m.safetensors", "--examples", tmp_path / "short.txt")
    assert refused.code == 1
    assert "80" in refused.err
