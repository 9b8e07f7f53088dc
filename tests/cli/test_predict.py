"""Predictions: whose they are, what they say of every class, and the files that hold them."""

import csv
import gzip
import json
import tomllib

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

import fedmeta as fm
from fedmeta.errors import DataError
from fedmeta.runs.inputs import Inputs
from fedmeta.study.predictions import predicted
from tests.examples import cells

LINEAR = ("--model", "softmax_regression", "--json")
GIVEN = fm.Model(lambda key: np.zeros(1, np.float32), lambda params, x: x)
"""Predicts its inputs."""
CLASSES = ["probability of no", "probability of yes"]


@pytest.fixture
def receipts(shop):
    """The table of a shop with a receipt, which is an identifier."""
    lines = shop.read_text().splitlines()
    numbered = (f"r{number:06}xq,{line}" for number, line in enumerate(lines[1:]))
    shop.write_text("\n".join([f"receipt,{lines[0]}", *numbered]) + "\n")
    return shop


def table_of(text):
    return list(csv.DictReader(text.splitlines()))


def log_loss(rows, truth):
    return -np.mean(np.log([float(row[f"probability of {label}"]) for row, label in zip(rows, truth, strict=True)]))


def test_a_run_predicts_with_its_own_model_and_says_that_nobody_has_adapted_it(fedmeta, train_shop, receipts):
    done, run = train_shop(*LINEAR)
    assert done.code == 0, done.err
    predictions = fedmeta("predict", run, "--examples", receipts)
    assert predictions.code == 0, predictions.err
    assert f"before adaptation, and fedmeta adapt {run} --examples FILE gives a client its own" in predictions.err
    rows, given = table_of(predictions.out), table_of(receipts.read_text())
    assert list(rows[0]) == ["receipt", "user", "prediction", "probability", *CLASSES]
    assert [(row["receipt"], row["user"]) for row in rows] == [(row["receipt"], row["user"]) for row in given]
    inputs = tomllib.loads((run / "run.toml").read_text())["recipe"]["procedure"]["inputs"]
    with safe_open(run / "model.safetensors", "numpy") as file:
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    x = [[float(row["spent"]), float(row["visits"]), float(row["member"] == "True")] for row in given]
    logits = (np.array(x) - inputs["mean"]) / inputs["std"] @ weight + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([[float(row[name]) for name in CLASSES] for row in rows], shares, rtol=1e-4, atol=1e-6)
    assert [row["prediction"] for row in rows] == [["no", "yes"][place] for place in shares.argmax(axis=1)]
    assert all(row["probability"] == row[f"probability of {row['prediction']}"] for row in rows)


@pytest.mark.parametrize("algorithm", cells(["fedper"], ["meta-sgd", "fedper", "fedavg"]))
def test_the_model_before_adaptation_is_that_from_which_adapting_starts(fedmeta, train_shop, shop, tmp_path, algorithm):
    """FedPer shares no head, and Meta-SGD's phi holds rates beside the parameters."""
    done, run = train_shop("--algorithm", algorithm, "--rounds", 2)
    assert done.code == 0, done.err
    predictions = fedmeta("predict", run, "--examples", shop, "--json")
    truth = [row["label"] for row in table_of(shop.read_text())]
    adapted = fedmeta("adapt", run, "--examples", shop, "--out", tmp_path / "m.safetensors", "--json").json
    assert log_loss(predictions.json, truth) == pytest.approx(adapted["loss"]["before"], rel=1e-4)
    assert ("before adaptation" in predictions.err) == (algorithm != "fedavg")


def test_all_forms_of_file_hold_the_same_rows(fedmeta, train_shop, receipts, tmp_path):
    _, run = train_shop(*LINEAR)
    lines = receipts.read_text().splitlines()
    new = tmp_path / "new.csv"
    # Without targets, in another order of columns and of rows, with one column that training did not have.
    order = [lines[0].split(",").index(name) for name in ("visits", "user", "member", "receipt", "spent")]
    rows = [[line.split(",")[place] for place in order] + ["x"] for line in [lines[0], *lines[30:5:-5]]]
    new.write_text("\n".join(map(",".join, rows)) + "\n")
    shown = fedmeta("predict", run, "--examples", new).out
    assert [(row["user"], row["receipt"]) for row in table_of(shown)] == [(row[1], row[3]) for row in rows[1:]]
    for name in ("out.csv", "out.csv.gz", "out.parquet", "out.json"):
        words = ("--json",) if name.endswith(".json") else ()
        done = fedmeta("predict", run, "--examples", new, "--out", tmp_path / name, *words)
        assert (done.code, done.out) == (0, ""), done.err
    assert (tmp_path / "out.csv").read_text() == shown
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode() == shown
    held = json.loads((tmp_path / "out.json").read_text())
    assert [{name: str(value) for name, value in row.items()} for row in held] == table_of(shown)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == held


def test_the_rows_of_parquet_are_called_what_they_are_called_there(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop(*LINEAR)
    import pyarrow as pa

    frame = pa.table({"user": [7, 7, 3], "spent": [4000.0, 5000.0, 6000.0], "visits": [1, 2, 3], "member": [True] * 3})
    pq.write_table(frame, tmp_path / "new.parquet")
    done = fedmeta("predict", run, "--examples", tmp_path / "new.parquet", "--json")
    assert done.code == 0, done.err
    assert [row["user"] for row in done.json] == [7, 7, 3]


def test_a_column_of_the_file_does_not_pass_for_a_prediction():
    given = {"prediction": ["p", "q"], "probability of a": ["r", "s"], "id": [1, 2]}
    columns = predicted(GIVEN, {}, np.zeros((2, 2), np.float32), ("a", "b"), given)
    assert columns["prediction (given)"] == ["p", "q"]
    assert columns["probability of a (given)"] == ["r", "s"]
    assert (columns["id"], columns["prediction"], columns["probability of a"]) == ([1, 2], ["a", "a"], [0.5, 0.5])


def test_a_prediction_that_is_no_number_is_an_error():
    with pytest.raises(DataError, match=r"the prediction for row 0 .* is not a finite number"):
        predicted(GIVEN, {}, np.full((2, 2), np.nan, np.float32), ("a", "b"), {})


def test_numbers_come_in_the_units_of_the_target_and_without_probabilities(fedmeta, tmp_path):
    table = tmp_path / "prices.csv"
    draw = np.random.default_rng(0)
    lines = [f"c{number % 6},{a:.3f},{1000 + 50 * a:.3f}" for number, a in enumerate(draw.normal(size=60))]
    table.write_text("\n".join(["who,a,price", *lines]) + "\n")
    told = ("--data", table, "--client", "who", "--target", "price", "--algorithm", "fedavg", "--rounds", 2)
    done = fedmeta("train", *told, "--model", "softmax_regression", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    done = fedmeta("predict", tmp_path / "run", "--examples", table, "--json")
    assert list(done.json[0]) == ["who", "prediction"]
    inputs = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["recipe"]["procedure"]["inputs"]
    with safe_open(tmp_path / "run" / "model.safetensors", "numpy") as file:
        weight, bias = file.get_tensor("0/weight"), file.get_tensor("0/bias")
    a = np.array([[float(line.split(",")[1])] for line in lines])
    centre, spread = inputs["target_scale"]
    prices = ((a - inputs["mean"]) / inputs["std"] @ weight + bias)[:, 0] * spread + centre
    assert 900 < centre < 1100
    np.testing.assert_allclose([row["prediction"] for row in done.json], prices, rtol=1e-5)


def test_arrays_and_text_need_no_targets_either(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)))
    x, identifiers = Inputs((2,), ("no", "yes")).read_rows(str(tmp_path / "x.npz"))
    assert (x.shape, identifiers) == ((3, 2), {})
    (tmp_path / "x.txt").write_text("abba")
    x, identifiers = Inputs((3,), ("a", "b"), characters="ab").read_rows(str(tmp_path / "x.txt"))
    assert (x.tolist(), identifiers) == ([[0, 1, 1], [1, 1, 0]], {})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "p.xlsx"), ".csv, .csv.gz, .parquet"),
        (("--out", "p"), ".csv, .csv.gz, .parquet"),
        (("--out", "p.json"), "add --json"),
        (("--out", "p.csv", "--json"), "ends in .json"),
    ],
)
def test_a_name_that_does_not_say_what_is_written_is_refused(fedmeta, shop, tmp_path, words, says):
    out = tmp_path / words[1]
    done = fedmeta("predict", tmp_path, "--examples", shop, "--out", out, *words[2:])
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert says in done.err
    assert not out.exists()


def test_predictions_do_not_replace_what_a_run_holds(fedmeta, train_shop, shop):
    _, run = train_shop(*LINEAR)
    before = (run / "evaluation.json").read_bytes()
    done = fedmeta("predict", run, "--examples", shop, "--json", "--out", run / "evaluation.json")
    assert done.code == 2
    assert "would overwrite" in done.err
    assert (run / "evaluation.json").read_bytes() == before
