import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import fedmeta as fm
from fedmeta.algorithms import ALGORITHMS
from fedmeta.cli.compare import compare
from fedmeta.errors import UnknownName, UsageError
from fedmeta.optimisers import OPTIMISERS
from fedmeta.runs.inputs import Inputs
from fedmeta.study import defaults
from fedmeta.study.recipe import Recipe
from tests.examples import cells


@pytest.mark.parametrize("data", [*fm.data.names(), "anything.csv"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_data_set_and_algorithm_has_a_recipe(data, algorithm):
    recipe = Recipe.default(data, algorithm)
    assert recipe.algorithm == algorithm
    assert recipe.data.data == (data if data in fm.data.names() else str(Path(data).absolute()))


def test_what_the_user_chose_stands_and_the_rest_are_defaults():
    recipe = Recipe.default("digits", "maml", rounds=7, algorithm_options={"inner_lr": 0.5}, seed=None)
    default = Recipe.default("digits", "maml")
    assert (recipe.rounds, recipe.seed) == (7, default.seed)
    assert recipe.algorithm_options == {**default.algorithm_options, "inner_lr": 0.5}


def test_steps_replace_default_epochs_and_the_reverse():
    assert "inner_epochs" in Recipe.default("digits", "fedavg").algorithm_options
    options = Recipe.default("digits", "fedavg", algorithm_options={"inner_steps": 3}).algorithm_options
    assert options["inner_steps"] == 3
    assert "inner_epochs" not in options
    options = Recipe.default("digits", "maml", algorithm_options={"inner_epochs": 3}).algorithm_options
    assert "inner_steps" not in options


def test_another_model_does_not_inherit_the_default_model_s_options():
    assert Recipe.default("mnist", "maml").model_options
    assert Recipe.default("mnist", "maml", model="mlp").model_options == {}
    assert Recipe.default("mnist", "maml", model_options={"hidden": 3}).model_options["filters"]


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="adam"):
        Recipe.default("digits", "maml", server="adma", server_lr=0.1)
    with pytest.raises(UnknownName, match="meta-sgd"):
        Recipe.default("digits", "metasgd")
    with pytest.raises(UsageError, match="positive"):
        Recipe.default("digits", "maml", server_lr=-1.0)


@pytest.mark.parametrize("name", cells(["yogi"], OPTIMISERS))
def test_every_server_optimiser_trains(name):
    recipe = Recipe.default("digits", "fedavg", server=name, server_lr=0.1, rounds=2, validate_every=2)
    assert recipe.prepare().run().state.round == 2


def table():
    draw = np.random.default_rng(0)
    clients = np.repeat([f"c{number}" for number in range(10)], 6)
    x = draw.normal(100, 20, size=(60, 3))
    return clients, x, np.arange(60) % 2


def test_standardisation_sees_training_clients_only():
    clients, x, y = table()

    def tabled(x):
        columns = dict(zip("abc", x.T, strict=True))
        return fm.data.from_table({"who": clients, **columns, "y": y}, client="who", target="y")

    whole = tabled(x)
    train, _, test = whole.split_clients((0.8, 0.1, 0.1), seed=0)
    strange = x * np.where(np.isin(clients, test.client_ids), 1000.0, 1.0)[:, None]
    other = tabled(strange).split_clients((0.8, 0.1, 0.1), seed=0)
    found = Inputs.of(train)
    assert found == Inputs.of(other[0])
    rows = np.isin(clients, train.client_ids)
    np.testing.assert_allclose(found.mean, x[rows].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.std, x[rows].std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("target", ["class", "number"])
def test_a_run_standardises_by_its_training_clients_only(target, tmp_path):
    clients, x, y = table()
    y = np.where(y, "yes", "no") if target == "class" else x @ [1.0, 2.0, 3.0]
    file = tmp_path / "table.csv"

    def prepare(changed=(), factor=1000.0):
        scale = np.where(np.isin(clients, changed), factor, 1.0)
        targets = y * scale if target == "number" else y
        rows = [",".join(map(str, row)) for row in zip(clients, *(x * scale[:, None]).T, targets, strict=True)]
        file.write_text("\n".join(["who,a,b,c,y", *rows]) + "\n")
        return Recipe.default(str(file), "maml", client="who", target="y").prepare()

    plain = prepare()
    for part in (plain.test, plain.validation):
        changed = prepare(part.client_ids)
        assert changed.test.client_ids == plain.test.client_ids
        assert changed.procedure.inputs == plain.procedure.inputs
    assert prepare(plain.train.client_ids[:1]).procedure.inputs != plain.procedure.inputs
    rows = np.isin(clients, plain.train.client_ids)
    np.testing.assert_allclose(plain.procedure.inputs.mean, x[rows].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(plain.procedure.inputs.std, x[rows].std(axis=0), rtol=1e-4)
    if target == "number":
        np.testing.assert_allclose(plain.procedure.inputs.target_scale, [y[rows].mean(), y[rows].std()], rtol=1e-4)


def test_inputs_survive_their_file():
    inputs = Inputs((3,), ("no", "yes"), ("a", "b", "c"), "y", None, (1.0, 2.0, 3.0), (1.0, 1.0, 0.1))
    assert Inputs.from_dict(tomllib.loads(tomli_w.dumps(inputs.to_dict()))) == inputs


def test_settings_were_chosen_for_every_algorithm_that_the_demo_compares():
    compared = next(option.default for option in compare.params if option.name == "algorithms").split(",")
    assert set(compared) <= defaults.TUNED["digits"].keys() <= ALGORITHMS.keys()
    assert defaults.GENERAL.keys() == ALGORITHMS.keys()
