"""A data set whose inputs are several arrays is used as one of a single array is, end to end."""

import json
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests import toys

import fedmeta as fm
from fedmeta.cli import main
from fedmeta.data.columns import Scaled
from fedmeta.data.storage import Block, write_blocks
from fedmeta.errors import DataError, UsageError

SIZES = [6, 9, 5, 8]
CLIENTS = np.repeat(list("dbca"), SIZES)
DRAW = np.random.default_rng(0)
IMAGE, AGE = DRAW.random((28, 3, 3), np.float32), DRAW.integers(90, size=28)
Y = DRAW.integers(3, size=28)


def visits():
    return fm.data.from_arrays({"image": IMAGE, "rest": (AGE, AGE > 40)}, Y, CLIENTS, classes=3)


def joined():
    """The same inputs as one array."""
    x = np.concatenate([IMAGE.reshape(28, 9), AGE[:, None], AGE[:, None] > 40], axis=1)
    return fm.data.from_arrays(x.astype(np.float32), Y, CLIENTS, classes=3)


def flat(x):
    age, old = x["rest"]
    return jnp.concatenate([x["image"].reshape(len(age), 9), age[:, None].astype(jnp.float32), old[:, None]], axis=1)


ONE = fm.models.softmax_regression(11, 3)
SEVERAL = fm.Model(ONE.init, lambda params, x: ONE.apply(params, flat(x)))


def test_every_client_has_its_own_rows_of_every_input():
    data = visits()
    assert data.client_ids == list("abcd")
    for name in data.client_ids:
        rows = name == CLIENTS
        batch = data[name]
        np.testing.assert_array_equal(batch.x["image"], IMAGE[rows])
        np.testing.assert_array_equal(batch.x["rest"][0], AGE[rows])
        np.testing.assert_array_equal(batch.x["rest"][1], AGE[rows] > 40)
        assert [part.dtype for part in jax.tree.leaves(batch.x)] == [np.float32, np.int32, np.float32]
        task, other = data.task(name, 0.4, 3, max_examples=5), joined().task(name, 0.4, 3, max_examples=5)
        np.testing.assert_array_equal(flat(task.support.x), other.support.x)
        np.testing.assert_array_equal(flat(task.query.x), other.query.x)


def test_training_and_evaluation_give_what_the_same_numbers_in_one_array_give():
    algorithm = fm.MAML(inner_lr=0.001, inner_batch_size=2)
    runs = [
        fm.train(algorithm, model, data, rounds=3, cohort_size=3, support=0.4, seed=1)
        for model, data in ((SEVERAL, visits()), (ONE, joined()))
    ]
    toys.assert_close(runs[0].state.phi, runs[1].state.phi)
    reports = [
        fm.evaluate(algorithm, model, runs[0].state.phi, data, support=0.4, curve=False)
        for model, data in ((SEVERAL, visits()), (ONE, joined()))
    ]
    assert not toys.same_bits(runs[0].state.phi, algorithm.init(ONE, jax.random.key(1)))
    for metric in ("loss", "accuracy"):
        np.testing.assert_allclose(reports[0].after.values[metric], reports[1].after.values[metric], rtol=1e-4)


def test_a_run_on_what_was_stored_is_the_run_on_what_was_in_memory(tmp_path):
    fm.data.save(visits(), tmp_path / "set")
    opened = fm.data.open(tmp_path / "set")
    assert (opened.client_ids, opened.info) == (visits().client_ids, visits().info)
    for name in opened.client_ids:
        assert toys.same_bits(opened[name], visits()[name])
    states = [fm.train(fm.Reptile(), SEVERAL, data, rounds=2).state for data in (visits(), opened)]
    assert toys.same_bits(*states)


def test_a_single_array_is_stored_as_it_ever_was_and_several_under_a_version_of_their_own(tmp_path):
    for data, version, files in ((joined(), 1, ["x.npy"]), (visits(), 2, ["x_0.npy", "x_1.npy", "x_2.npy"])):
        fm.data.save(data, tmp_path / str(version))
        manifest = json.loads((tmp_path / str(version) / "dataset.json").read_text())
        assert manifest["version"] == version
        assert sorted(path.name for path in (tmp_path / str(version)).glob("x*")) == files
    assert json.loads((tmp_path / "1" / "dataset.json").read_text())["x"] == {"kind": "array", "file": "x.npy"}


def test_columns_that_are_read_scaled_are_stored_so(tmp_path):
    pixels = DRAW.integers(0, 256, (28, 2), dtype=np.uint8)
    data = replace(visits(), x=(Scaled(pixels, 1 / 255), {"a/b": AGE, "": IMAGE}))
    fm.data.save(data.select([2, 0]), tmp_path / "set")
    opened = fm.data.open(tmp_path / "set")
    assert isinstance(opened.x[0], Scaled)
    for name in "ac":
        assert toys.same_bits(opened[name], data[name])


def test_clients_with_several_inputs_are_written_one_by_one_or_in_blocks(tmp_path):
    data = visits()
    written = fm.data.write(tmp_path / "one", ((name, data[name].x, data[name].y) for name in data.client_ids))
    x = jax.tree.map(lambda column: column[:], data.x)
    write_blocks(tmp_path / "all", [Block(data.client_ids, x, data.y[:], np.asarray(data.sizes))])
    for name in data.client_ids:
        assert toys.same_bits(written[name], data[name])
    contents = [{path.name: path.read_bytes() for path in (tmp_path / kind).iterdir()} for kind in ("one", "all")]
    assert contents[0] == contents[1]


A = ("a", {"u": np.ones((2, 1)), "v": np.ones(2)}, [0, 1])


@pytest.mark.parametrize(
    ("clients", "options", "error", "message"),
    [
        ([A, ("b", {"u": np.ones((2, 1))}, [0, 1])], {}, DataError, r"'b' has the inputs x\['u'\], others than"),
        ([A, ("b", np.ones((2, 1)), [0, 1])], {}, DataError, "'b' has the inputs x, others than"),
        ([A, ("b", {"u": np.ones((2, 2)), "v": np.ones(2)}, [0, 1])], {}, DataError, r"'b' has rows of float32 \[2\]"),
        ([("a", {"u": np.ones((2, 1)), "v": np.ones(3)}, [0, 1])], {}, DataError, "'a' has 3 x and 2 y"),
        ([("a", {"u": np.ones(2), "v": [0.5, np.nan]}, [0, 1])], {}, DataError, r"x\['v'\] of client 'a' holds 1 val"),
        ([("a", {"v": [2**40, 1]}, [0, 1])], {}, DataError, r"x\['v'\] of client 'a' .* give such inputs as floats"),
        ([("a", {}, [0, 1])], {}, DataError, "x holds no array"),
        ([("a", {1: np.ones(2)}, [0, 1])], {}, UsageError, "an input has the name 1"),
        ([A], {"scale": 0.5}, UsageError, "scale=0.5 is for one array"),
    ],
)
def test_several_inputs_that_cannot_be_written_are_named(tmp_path, clients, options, error, message):
    with pytest.raises(error, match=message):
        fm.data.write(tmp_path / "set", clients, **options)
    assert list(tmp_path.iterdir()) == []


class Visit(NamedTuple):
    image: object
    age: object


def test_named_tuples_are_used_as_they_are_but_not_stored(tmp_path):
    data = fm.data.from_arrays(Visit(IMAGE, AGE), Y, CLIENTS)
    np.testing.assert_array_equal(data["a"].x.image, IMAGE[CLIENTS == "a"])
    with pytest.raises(UsageError, match="inputs in a Visit cannot be stored"):
        fm.data.save(data, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": {"kind": "dict", "inputs": {}}}, "x holds no array"),
        ({"x": {"kind": "dict", "inputs": []}}, "damaged"),
        ({"x": {"kind": "dict"}}, "damaged"),
        ({"x": {"kind": "tuple", "inputs": [{"kind": "array", "file": "../x_0.npy"}]}}, "not in its folder"),
        ({"y": {"kind": "tuple", "inputs": []}}, "damaged|unknown kind"),
        ({"x": {"kind": "tuple", "inputs": [{"kind": "array", "file": "sizes.npy"}]}}, r"x\[0\] holds 4 examples"),
    ],
)
def test_a_damaged_manifest_of_several_inputs_is_refused(tmp_path, change, message):
    fm.data.save(visits(), tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        fm.data.open(tmp_path / "set")


def test_kept_classes_keep_all_inputs_of_their_examples():
    kept = fm.data.keep_classes(visits(), 1, seed=2)
    alone = fm.data.keep_classes(joined(), 1, seed=2)
    for name in kept.client_ids:
        np.testing.assert_array_equal(flat(kept[name].x), alone[name].x)
        assert len(set(kept[name].y.tolist())) == 1


def test_every_input_and_its_name_count_in_the_fingerprint():
    data, x = visits(), visits().x
    changed = [
        data,
        replace(data, x={**x, "image": x["image"] + 1}),
        replace(data, x={**x, "rest": (x["rest"][0], x["rest"][1] + 1)}),
        replace(data, x={"picture": x["image"], "rest": x["rest"]}),
        replace(data, x={**x, "rest": {"0": x["rest"][0], "1": x["rest"][1]}}),
        replace(data, x=x["image"]),
        replace(data, x=(x["image"],)),
        replace(data, x={"0": x["image"]}),
    ]
    prints = [one.fingerprint for one in changed]
    assert prints[0] == visits().fingerprint
    assert len(set(prints)) == len(prints)


def test_a_model_of_other_inputs_is_refused_before_the_first_round():
    with pytest.raises(UsageError, match=r"cannot take inputs \{'image': 'of shape \(3, 3\) and type float32', 'rest'"):
        fm.train(fm.MAML(), ONE, visits(), rounds=1)
    other = fm.Model(ONE.init, lambda params, x: ONE.apply(params, x["picture"]))
    with pytest.raises(UsageError, match="'picture'"):
        fm.train(fm.MAML(), other, visits(), rounds=1)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ({"a": np.ones(28), "b": np.ones(27)}, DataError, r"x\['a'\] has 28, x\['b'\] has 27, y has 28"),
        ({"a": np.ones(28), "b": 1.0}, DataError, r"x\['b'\] needs a leading axis"),
        ({"a": np.ones(28), "b": None}, DataError, r"x\['b'\] needs a leading axis"),
        ({"a": np.ones(28), "b": ["x"] * 28}, DataError, r"x\['b'\] has type <U1"),
        (
            {"a": np.ones(28), "b": np.full((28, 2), np.nan)},
            DataError,
            r"x\['b'\] holds 56 values .* client 'd', column 0",
        ),
        ({"a": np.full(28, 2**40)}, DataError, r"x\['a'\] holds integers beyond 32 bits"),
        ({1: np.ones(28), "1": np.ones(28)}, DataError, "x has the key 1"),
        ((np.ones(28), {2: np.ones(28)}), DataError, r"x\[1\] has the key 2"),
        ({}, DataError, "x holds no array"),
        ((1.0, 2.0), DataError, r"x\[0\] needs a leading axis"),
    ],
)
def test_what_is_wrong_with_one_of_several_inputs_is_said(x, error, message):
    with pytest.raises(error, match=message):
        fm.data.from_arrays(x, Y, CLIENTS)


def test_names_of_features_are_for_one_array():
    with pytest.raises(UsageError, match=r"one array, but x holds x\['a'\]"):
        fm.data.from_arrays({"a": np.ones((28, 1))}, Y, CLIENTS, features=["a"])


def test_the_command_line_shows_several_inputs_and_does_not_train_on_them(tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return ended.value.code, capsys.readouterr()

    fm.data.save(visits(), tmp_path / "set")
    assert "image: 3 x 3; rest/0: a number; rest/1: a number" in run("data", "info", tmp_path / "set")[1].out
    shown = json.loads(run("data", "info", tmp_path / "set", "--json")[1].out)
    assert shown["shape"] == {"image": [3, 3], "rest": [[], []]}
    code, said = run("train", "--data", tmp_path / "set", "--algorithm", "maml", "--out", tmp_path / "run")
    assert (code, "has several inputs" in said.err, said.err.count("\n")) == (2, True, 1)
