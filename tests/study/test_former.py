"""Run folders that an earlier version wrote: `former/` was, by the commit before procedures, on the table below.

fedmeta train --data shop.csv --client user --target label --algorithm meta-sgd --model softmax_regression
    --rounds 3 --server momentum --server-lr 0.1 --out former
"""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open

import fedmeta as fm
from fedmeta.errors import CheckpointError, UsageError
from fedmeta.runs.folder import read_history, read_settings
from fedmeta.runs.former import upgraded
from fedmeta.runs.inputs import Inputs
from fedmeta.study.recipe import Recipe
from tests import toys
from tests.cli.conftest import fedmeta, shop
from tests.examples import in_soak

__all__ = ["fedmeta", "shop"]

FORMER = Path(__file__).parent / "former"
COLUMNS = {"client": "user", "target": "label"}
# What was said then, and what was the default.
SAID = {"model": "softmax_regression", "rounds": 3, "server": "momentum", "server_lr": 0.1}
CHOSEN = {**SAID, "cohort_size": 4, "support": 0.2, "select": "last"}


@pytest.fixture
def former(tmp_path, shop):
    """A copy of the old folder, whose data lie where this test has them."""
    folder = tmp_path / "former"
    shutil.copytree(FORMER, folder)
    file = folder / "run.toml"
    file.write_text(file.read_text().replace("/visits/shop.csv", str(shop)))
    return folder


def recipe_of_today(shop):
    return Recipe.default(str(shop), "meta-sgd", **COLUMNS, **CHOSEN)


def experiment_of_today(shop, rounds=3):
    """In which, as then, a single example can do any amount."""
    experiment = replace(recipe_of_today(shop), rounds=rounds).prepare()
    inputs = replace(experiment.procedure.inputs, bounded=False)
    return replace(experiment, procedure=replace(experiment.procedure, inputs=inputs))


def test_the_folder_is_of_the_old_form(former):
    settings = read_settings(former)
    assert settings["recipe"]["server"] == "momentum"
    assert {"streams", "factored", "checkpoint"} <= settings["plan"].keys()


def test_its_result_and_its_procedure_are_loaded_without_the_data(former, shop):
    shop.unlink()
    saved = fm.load_run(former)
    with safe_open(FORMER / "model.safetensors", "numpy") as file:
        np.testing.assert_array_equal(saved.phi["params"]["weight"], file.get_tensor("params/weight"))
        np.testing.assert_array_equal(saved.phi["inner_lr"]["bias"], file.get_tensor("inner_lr/bias"))
    assert saved.algorithm == fm.MetaSGD(inner_lr=0.1, inner_steps=3)
    procedure = saved.procedure
    assert procedure.server == fm.optimisers.momentum(0.1, 0.9)
    assert (procedure.rounds, procedure.cohort_size, procedure.support, procedure.seed) == (3, 4, 0.2, 0)
    assert procedure.inputs.classes == ("no", "yes")
    assert saved.model.predict(saved.phi["params"], np.ones((2, 3), np.float32)).shape == (2, 2)


def test_its_procedure_is_the_one_of_today(former, shop):
    """But for the schema, which says of numbers that they are, and of truth values more than the old run knew."""

    def without_schema(procedure):
        return replace(procedure, inputs=replace(procedure.inputs, schema=None))

    old, new = fm.load_run(former).procedure, experiment_of_today(shop).procedure
    assert without_schema(old).digest == without_schema(new).digest
    assert old.inputs.schema.features == new.inputs.schema.features


def test_it_is_tested_adapts_and_predicts(fedmeta, former, shop, tmp_path):
    tested = fedmeta("evaluate", former, "--json")
    assert tested.code == 0, tested.err
    assert tested.json["after"]["over_examples"]["accuracy"] == pytest.approx(
        read_history(former)[-1]["accuracy"], abs=1
    )
    adapted = fedmeta("adapt", former, "--examples", shop, "--out", tmp_path / "m.safetensors", "--json")
    assert adapted.code == 0, adapted.err
    assert adapted.json["loss"]["after"] < adapted.json["loss"]["before"]
    assert len(fedmeta("predict", tmp_path / "m.safetensors", "--examples", shop, "--json").json) == 180


@in_soak
def test_it_goes_on_as_a_run_of_today_would(fedmeta, former, shop, tmp_path):
    done = fedmeta("resume", former, "--rounds", 6)
    assert done.code == 0, done.err
    assert "continues after round 3" in done.err
    whole = experiment_of_today(shop).run(tmp_path / "whole")
    rows = read_history(former)
    assert [row["round"] for row in rows] == list(range(1, 7))
    # The first rounds are the old program's own.
    for old, new in zip(rows, whole.rows, strict=False):
        assert old["clients"] == new["clients"]
        assert old["loss"] == pytest.approx(new["loss"], rel=1e-5)
    longer = experiment_of_today(shop, rounds=6).run()
    toys.assert_close(fm.load_run(former).phi, jax.tree.map(np.asarray, longer.phi), rtol=1e-4, atol=1e-6)
    assert upgraded(read_settings(former)) == read_settings(former)


def test_what_differs_is_named_by_its_place_of_today(former, shop):
    for changed, said in (
        ({"model": "mlp"}, r"recipe\.procedure\.model is 'softmax_regression' there and 'mlp' here"),
        ({"server_lr": 0.2}, r"recipe\.procedure\.server\.learning_rate is 0\.1 there and 0\.2 here"),
        ({"seed": 1}, r"run\.seed is 0 there and 1 here"),
        (
            {"transform": fm.transforms.quantise(8)},
            r"procedure\.transform\.name is .identity. there and .quantise. here",
        ),
        ({"validate_every": 5}, r"recipe\.validation\.every is 10 there and 5 here"),
        ({"max_evaluated": 5}, r"recipe\.data\.max_evaluated is 1000 there and 5 here"),
    ):
        experiment = Recipe.default(str(shop), "meta-sgd", **COLUMNS, **{**CHOSEN, **changed}).prepare()
        with pytest.raises(CheckpointError, match=said):
            experiment.run(former)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('algorithm = "meta-sgd"', 'algorithm = "metasgd"'),
        ('server = "momentum"', 'server = "newton"'),
        ("server_lr = 0.1", 'server_lr = "fast"'),
        ("[recipe.inputs]", "[recipe.input]"),
        ("    3,", '    "three",'),
        ("rounds = 3", "round = 3"),
    ],
)
def test_a_damaged_one_is_one_line(former, old, new):
    file = former / "run.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(CheckpointError, match=r"run\.toml is damaged") as error:
        fm.load_run(former)
    assert "\n" not in str(error.value)


def test_a_run_from_python_says_how_its_result_is_read(model, data, tmp_path):
    algorithm = fm.MAML(inner_lr=0.2)
    run = fm.train(algorithm, model, data, rounds=1, cohort_size=2, support=0.5, directory=tmp_path)
    with pytest.raises(UsageError, match=r"started from Python.*fm\.load\(.*like="):
        fm.load_run(tmp_path)
    # As it says.
    phi = fm.load(tmp_path / "model.safetensors", like=algorithm.init(model, jax.random.key(0)))
    assert toys.same_bits(phi, run.phi)


def test_a_run_from_python_notes_the_settings_of_its_server(model, data, tmp_path):
    options = {"rounds": 1, "cohort_size": 2, "support": 0.5, "directory": tmp_path}
    fm.train(fm.MAML(), model, data, server=fm.optimisers.adam(0.01), **options)
    with pytest.raises(CheckpointError, match=r"server\.learning_rate is 0\.01 there and 0\.02 here"):
        fm.train(fm.MAML(), model, data, server=fm.optimisers.adam(0.02), **options)
    # One of an earlier version did not.
    text = (tmp_path / "run.toml").read_text()
    start = text.index("[server]")
    end = text.index("[", start + 1)
    (tmp_path / "run.toml").write_text(text[:start] + text[end:])
    assert fm.train(fm.MAML(), model, data, server=fm.optimisers.adam(0.01), **options).state.round == 1


def test_inputs_of_an_earlier_version_are_read():
    content = {"shape": [3], "classes": ["no", "yes"], "mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]}
    assert Inputs.from_dict(content).to_dict() == content
