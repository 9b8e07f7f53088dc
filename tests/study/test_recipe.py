import tomllib

import numpy as np
import pytest
import tomli_w

import fedmeta as fm
from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UnknownName, UsageError
from fedmeta.study import defaults
from fedmeta.study.inputs import Inputs
from fedmeta.study.recipe import SERVERS, Recipe


@pytest.mark.parametrize("data", [*fm.data.names(), "anything.csv"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_data_set_and_algorithm_has_a_recipe_that_survives_its_file(data, algorithm):
    recipe = Recipe.usual(data, algorithm)
    again = Recipe.from_dict(tomllib.loads(tomli_w.dumps(recipe.to_dict())))
    assert again == recipe


def test_what_the_user_chose_stands_and_the_rest_is_usual():
    recipe = Recipe.usual("digits", "maml", rounds=7, algorithm_options={"inner_lr": 0.5}, seed=None)
    usual = Recipe.usual("digits", "maml")
    assert (recipe.rounds, recipe.seed) == (7, usual.seed)
    assert recipe.algorithm_options == {**usual.algorithm_options, "inner_lr": 0.5}


def test_steps_replace_usual_epochs_and_the_reverse():
    assert "inner_epochs" in Recipe.usual("digits", "fedavg").algorithm_options
    options = Recipe.usual("digits", "fedavg", algorithm_options={"inner_steps": 3}).algorithm_options
    assert options["inner_steps"] == 3
    assert "inner_epochs" not in options
    options = Recipe.usual("digits", "maml", algorithm_options={"inner_epochs": 3}).algorithm_options
    assert "inner_steps" not in options


def test_another_model_does_not_inherit_the_usual_model_s_options():
    assert Recipe.usual("mnist", "maml").model_options
    assert Recipe.usual("mnist", "maml", model="mlp").model_options == {}
    assert Recipe.usual("mnist", "maml", model_options={"hidden": 3}).model_options["filters"]


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="adam"):
        Recipe.usual("digits", "maml", server="adma", server_lr=0.1)
    with pytest.raises(UnknownName, match="meta-sgd"):
        Recipe.usual("digits", "metasgd")
    with pytest.raises(UsageError, match="positive"):
        Recipe.usual("digits", "maml", server_lr=-1.0)


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_optimiser_trains(name):
    recipe = Recipe.usual("digits", "fedavg", server=name, server_lr=0.1, rounds=2, validate_every=2)
    assert recipe.prepare().run().state.round == 2


def table():
    draw = np.random.default_rng(0)
    clients = np.repeat([f"c{number}" for number in range(10)], 6)
    x = draw.normal(100, 20, size=(60, 3))
    return clients, x, np.arange(60) % 2


def test_standardisation_sees_training_clients_only():
    clients, x, y = table()
    whole = fm.data.from_arrays(x, y, clients, features=("a", "b", "c"))
    train, _, test = whole.split_clients((0.8, 0.1, 0.1), seed=0)
    strange = x * np.where(np.isin(clients, test.client_ids), 1000.0, 1.0)[:, None]
    other = fm.data.from_arrays(strange, y, clients, features=("a", "b", "c")).split_clients((0.8, 0.1, 0.1), seed=0)
    found = Inputs.of(train, "target")
    assert found == Inputs.of(other[0], "target")
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
        return Recipe.usual(str(file), "maml", client="who", target="y").prepare()

    plain = prepare()
    for part in (plain.test, plain.validation):
        changed = prepare(part.client_ids)
        assert changed.test.client_ids == plain.test.client_ids
        assert changed.inputs == plain.inputs
    assert prepare(plain.train.client_ids[:1]).inputs != plain.inputs
    rows = np.isin(clients, plain.train.client_ids)
    np.testing.assert_allclose(plain.inputs.mean, x[rows].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(plain.inputs.std, x[rows].std(axis=0), rtol=1e-4)
    if target == "number":
        np.testing.assert_allclose(plain.inputs.target_scale, [y[rows].mean(), y[rows].std()], rtol=1e-4)


def test_inputs_survive_their_file():
    inputs = Inputs((3,), ("no", "yes"), ("a", "b", "c"), "y", None, (1.0, 2.0, 3.0), (1.0, 1.0, 0.1))
    assert Inputs.from_dict(tomllib.loads(tomli_w.dumps(inputs.to_dict()))) == inputs


def test_settings_were_chosen_for_every_algorithm_that_the_demo_compares():
    assert defaults.TUNED["digits"].keys() == ALGORITHMS.keys()
