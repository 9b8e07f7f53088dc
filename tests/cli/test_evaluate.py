"""Whom a run is tested on: its own test clients, some of them, or the clients of other data."""

import csv

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.study.baselines import TITLES
from tests.examples import in_soak

SPLIT = ("--fractions", "0.5,0.25,0.25", "--test-clients", "u3,u7,u9", "--validation-clients", "u1", "--json")
SMALL = ("--model", "softmax_regression", *SPLIT)


def only(text, names, separator=",", decimal="."):
    """Return the rows of some clients, with the columns in another order."""
    rows = [[*row[1:], row[0]] for row in csv.reader(text.splitlines())]
    kept = [rows[0], *(row for row in rows if row[-1] in names)]
    return "\n".join(separator.join(cell.replace(".", decimal) for cell in row) for row in kept) + "\n"


def clients_in(path):
    return [row["client"] for row in csv.DictReader(path.read_text().splitlines())]


def without_baselines(done):
    return {name: value for name, value in done.json.items() if name != "baselines"}


def test_other_data_are_read_by_the_schema_of_the_run_without_the_training_data(fedmeta, train_shop, shop, tmp_path):
    """The test clients' rows in a file of their own give the test clients' figures."""
    done, run = train_shop(*SMALL)
    assert done.code == 0, done.err
    text = shop.read_text()
    shop.unlink()
    assert fedmeta("evaluate", run).code == 1
    (tmp_path / "next.csv").write_text(only(text, ("u3", "u7", "u9")))
    other = fedmeta("evaluate", run, "--data", tmp_path / "next.csv", "--json")
    assert other.code == 0, other.err
    assert without_baselines(other) == without_baselines(done)
    # The training clients' own targets are not there.
    assert list(other.json["baselines"]) == ["support"]
    assert "took part" not in other.err
    (tmp_path / "written.csv").write_text(only(text, ("u3", "u7", "u9"), ";", ","))
    told = ("--separator", ";", "--decimal", ",", "--json")
    written = fedmeta("evaluate", run, "--data", tmp_path / "written.csv", *told)
    assert without_baselines(written) == without_baselines(done)


def test_clients_of_other_data_that_have_trained_are_said_aloud(fedmeta, train_shop, shop):
    _, run = train_shop(*SMALL, "--cohort-size", 8)
    done = fedmeta("evaluate", run, "--data", shop, "--json")
    assert done.code == 0, done.err
    assert done.json["clients"] == 12
    assert f"8 of the 12 clients of {shop} took part in training, 'u0' among them" in done.err
    assert "took part" not in fedmeta("evaluate", run, "--data", shop, "--clients", "u3,u1").err


def test_only_the_clients_that_are_named_are_tested(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop(*SMALL)
    for words in (
        ("--clients", "u7,u3"),
        ("--clients", "u3", "--clients", "u7"),
        ("--clients", "u3,u7", "--data", shop),
    ):
        done = fedmeta("evaluate", run, *words, "--per-client", tmp_path / "clients.csv")
        assert done.code == 0, done.err
        assert clients_in(tmp_path / "clients.csv") == ["u3", "u7"]


def test_clients_beyond_the_sample_that_was_tested_can_be_named(fedmeta, train_shop, shop, tmp_path):
    fractions = (0.4, 0.3, 0.3)
    told = ("--fractions", ",".join(map(str, fractions)), "--max-evaluated", 1, "--model", "softmax_regression")
    done, run = train_shop(*told, "--json")
    assert done.json["clients"] == 1
    whole = fm.data.from_table(shop, client="user", target="label")
    names = whole.split_clients(fractions, 0)[2].client_ids
    done = fedmeta("evaluate", run, "--clients", ",".join(names), "--per-client", tmp_path / "clients.csv")
    assert done.code == 0, done.err
    assert clients_in(tmp_path / "clients.csv") == names
    assert len(names) > 1


CANNOT = [
    (("--clients", "u33"), "unknown client 'u33': did you mean 'u3'"),
    (("--clients", "u3,u0"), "'u0', a training client of this run"),
    (("--clients", "u1"), "'u1', a validation client of this run"),
    (("--clients", "u0"), "give new examples of this client with --data FILE"),
    (("--clients", "v5", "--data", "SHOP"), "--clients of shop: unknown client 'v5': did you mean 'u5'"),
    (("--decimal", ","), "--data"),
    (("--data", "digits"), "a table with the columns of its training, and digits is none"),
]


def test_clients_and_data_that_cannot_be_tested_are_one_line(fedmeta, train_shop, shop):
    _, run = train_shop(*SMALL, "--rounds", 1)
    for words, says in CANNOT:
        done = fedmeta("evaluate", run, *(str(shop) if word == "SHOP" else word for word in words))
        assert done.code == 2, words
        assert done.err.count("\n") == 1, words
        assert says in done.err


def test_rows_without_a_target_are_refused_or_left_out(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop(*SMALL)
    next_month = tmp_path / "next.csv"
    next_month.write_text(shop.read_text() + "u3,5000,2,True,\n")
    assert "--drop-missing-target" in fedmeta("evaluate", run, "--data", next_month).err
    assert fedmeta("evaluate", run, "--data", next_month, "--drop-missing-target").code == 0


@in_soak
def test_data_without_columns_must_be_of_the_kind_of_the_training(fedmeta, tmp_path):
    told = ("--data", "digits", "--algorithm", "fomaml", "--rounds", 1, "--out", tmp_path / "run")
    assert fedmeta("train", *told).code == 0
    done = fedmeta("evaluate", tmp_path / "run", "--data", "digits", "--json")
    assert (done.code, done.json["clients"]) == (0, len(fm.data.load("digits")))
    for name, classes, shape in (("classes", "ABCDEFGHIJ", 64), ("shape", "0123456789", 63)):
        info = fm.data.Info(classes=tuple(classes))
        fm.data.write(tmp_path / name, [("a", np.zeros((3, shape), np.float32), np.arange(3))], info)
        done = fedmeta("evaluate", tmp_path / "run", "--data", tmp_path / name)
        assert done.code == 1
        assert name in done.err
        assert "the run was trained on" in done.err


@pytest.mark.filterwarnings("ignore:1 of 3 clients have fewer than 2 examples")
def test_a_client_with_one_row_is_left_out_of_what_the_model_is_set_beside_too(fedmeta, train_shop, shop, tmp_path):
    _, run = train_shop(*SMALL)
    (tmp_path / "next.csv").write_text(only(shop.read_text(), ("u3", "u7")) + "5000.0,3,True,yes,single\n")
    done = fedmeta("evaluate", run, "--data", tmp_path / "next.csv", "--json")
    assert done.code == 0, done.err
    assert (done.json["clients"], done.json["left_out"]) == (2, 1)
    assert done.json["baselines"]["support"]["over_examples"]["accuracy"] > 0


def test_a_run_is_set_beside_what_is_asked_for(fedmeta, train_shop, shop):
    _, run = train_shop(*SMALL)
    for said, names in (("free", ["constant", "support"]), ("none", []), ("all", [*TITLES])):
        assert list(fedmeta("evaluate", run, "--baselines", said, "--json").json["baselines"]) == names
    other = ("evaluate", run, "--data", shop, "--json")
    assert fedmeta(*other, "--baselines", "none").json["baselines"] == {}
    refused = fedmeta(*other, "--baselines", "all")
    assert refused.code == 2
    assert "--baselines all trains on the training clients, which are not there beside --data" in refused.err
