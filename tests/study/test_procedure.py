"""A procedure is written down, read back, and named by its digest."""

import hashlib
import json
import subprocess
import sys
import tomllib
from dataclasses import MISSING, fields, replace
from typing import Any, NamedTuple

import numpy as np
import optax
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.aggregators import AGGREGATORS
from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UsageError
from fedmeta.optimisers import OPTIMISERS
from fedmeta.runs.describing import TABLES, build, described, name_of
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.study.recipe import Recipe
from fedmeta.transforms import TRANSFORMS

INPUTS = Inputs((3,), ("no", "yes"), ("a", "b", "c"), "y", None, (0.1, 2.0, 1e22), (1.0, 1.0, 0.1))

rates = st.floats(1e-6, 10.0)
counts = st.integers(1, 9)
shares = st.floats(0.01, 0.99)
patterns = st.none() | st.lists(st.sampled_from(["head/*", "0/weight", "*/bias"]), min_size=1, max_size=2).map(tuple)


class Made(NamedTuple):
    """A value that is yet to be made: type checkers draw numbers of their own, which strategies must not."""

    kind: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __call__(self):
        return self.kind(
            *(value() if isinstance(value, Made) else value for value in self.arguments),
            **{name: value() if isinstance(value, Made) else value for name, value in self.options.items()},
        )


def values(kind, *arguments):
    return st.tuples(*arguments).map(lambda drawn: Made(kind, drawn, {}))


optimisers = st.one_of(
    values(fm.optimisers.sgd, rates),
    values(fm.optimisers.momentum, rates, shares, st.booleans()),
    values(fm.optimisers.adam, rates, shares, shares, rates, rates),
    values(fm.optimisers.yogi, rates, shares, shares, rates),
    values(fm.optimisers.adagrad, rates, rates, rates),
)


def plain_algorithm(name):
    """Return a strategy for an algorithm of that name, which is not made of another one."""
    own = {field.name for field in fields(ALGORITHMS[name])}
    optional = {
        "inner_batch_size": st.none() | counts,
        "inner_steps": st.none() | counts,
        "weighting": st.sampled_from(["clients"] if name == "scaffold" else ["clients", "examples"]),
        "adaptable": patterns,
        "personal": patterns,
        "mu": st.floats(0.0, 3.0) | st.just(-0.0),
        "participation": shares,
        "rates": st.sampled_from([None, "filter", "layer"]),
        "adapt_steps": st.none() | st.integers(0, 9) if ALGORITHMS[name].adapts else st.none(),
    }
    optional = {option: drawn for option, drawn in optional.items() if option in own}
    descents = [st.fixed_dictionaries({"inner_lr": rates}, optional=optional)]
    if name != "scaffold":
        descents.append(st.fixed_dictionaries({"inner": optimisers}, optional=optional))
    return st.one_of(descents).map(lambda drawn: Made(ALGORITHMS[name], (), drawn))


algorithm_values = st.recursive(
    st.one_of([plain_algorithm(name) for name in ALGORITHMS if name != "per-fedavg"]),
    lambda inner: st.fixed_dictionaries(
        {"of": inner, "local": optimisers, "local_steps": counts, "batch_size": st.none() | counts}
    ).map(lambda drawn: Made(fm.PerFedAvg, (), drawn)),
    max_leaves=3,
)
transform_values = st.recursive(
    st.one_of(
        values(fm.transforms.identity),
        values(fm.transforms.clip_by_norm, rates),
        values(fm.transforms.gaussian_noise, rates),
        values(fm.transforms.quantise, st.sampled_from([1, 2, 4, 8])),
        values(fm.transforms.top_k, shares),
        values(fm.transforms.fixed_point, st.integers(0, 64), st.integers(2, 24)),
    ),
    lambda inner: st.one_of(
        values(fm.transforms.error_feedback, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Made(fm.transforms.chain, tuple(parts), {})),
    ),
    max_leaves=4,
)
aggregator_values = st.one_of(
    values(fm.aggregators.weighted_mean),
    values(fm.aggregators.norm_clipped_mean, rates),
    values(fm.aggregators.coordinate_median),
    values(fm.aggregators.trimmed_mean, st.floats(0.0, 0.4)),
    values(fm.aggregators.krum, st.integers(0, 3)),
    values(fm.aggregators.multi_krum, st.integers(0, 3), counts),
    values(fm.aggregators.geometric_median, counts, rates),
)
EVERY = {
    "algorithm": algorithm_values,
    "transform": transform_values,
    "aggregator": aggregator_values,
    "optimiser": optimisers,
}


def procedure(**changed):
    usual = {
        "algorithm": fm.MAML(inner_lr=0.1),
        "server": fm.optimisers.adam(0.01),
        "model": "mlp",
        "inputs": INPUTS,
        "rounds": 3,
        "cohort_size": 4,
    }
    return Procedure(**{**usual, **changed})


@pytest.mark.parametrize("kind", EVERY)
@given(data=st.data())
def test_every_named_value_survives_toml_and_json(kind, data):
    value = data.draw(EVERY[kind])()
    content = described(value, where=kind)
    assert build(tomllib.loads(tomli_w.dumps({"value": content}))["value"]) == value
    assert build(json.loads(json.dumps(content))) == value


def required(kind):
    """Return what a row of a table cannot be made without."""
    examples = {"learning_rate": 0.5, "parts": (fm.transforms.top_k(0.5),), "of": fm.transforms.quantise(4)}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return {name: examples[name] for name in needed}


@pytest.mark.parametrize("name", [name for table in TABLES.values() for name in table])
def test_every_row_of_every_table_survives_with_its_defaults(name):
    kind = next(table[name] for table in TABLES.values() if name in table)
    value = kind(**required(kind))
    content = described(value, where=name)
    assert content["name"] == name == name_of(value)
    assert build(_through_toml(content)) == value


def test_no_name_stands_in_two_tables():
    names = [name for table in (ALGORITHMS, AGGREGATORS, TRANSFORMS, OPTIMISERS) for name in table]
    assert len(names) == len(set(names))


def test_a_batch_of_everything_is_not_read_back_as_the_default_batch():
    everything = fm.FedAvg(inner_batch_size=None)
    assert everything != fm.FedAvg()
    assert build(described(everything)) == everything
    assert procedure(algorithm=everything).digest != procedure(algorithm=fm.FedAvg()).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithm": fm.FedAvgMeta(inner=optax.sgd(0.1))},
        {"algorithm": fm.PerFedAvg(of=fm.MAML(inner=optax.adam(0.1, eps_root=1e-8)))},
        {"algorithm": fm.PerFedAvg(local=optax.sgd(0.1))},
        {"server": optax.adam(0.1)},
    ],
)
def test_what_has_no_name_is_refused_and_the_cure_is_named(changed):
    with pytest.raises(UsageError, match=r"has no name: .*fm\.optimisers") as error:
        procedure(**changed)
    assert "\n" not in str(error.value)


def test_a_part_in_the_wrong_place_is_refused():
    content = procedure().to_dict()
    for name, other in (
        ("server", {"name": "maml"}),
        ("algorithm", {"name": "sgd", "learning_rate": 0.1}),
        ("transform", {"name": "krum"}),
        ("aggregator", {"name": "chain", "parts": []}),
        ("algorithm", {"name": "mamal"}),
        ("algorithm", {"name": "maml", "inner_rate": 1.0}),
        ("algorithm", {"name": ["maml"]}),
        ("server", {"name": "sgd"}),
        ("rounds", 0),
        ("rounds", "3"),
        ("cohort_size", None),
        ("support", 1.0),
        ("precision", "float8"),
        ("model", "perceptron"),
        ("model_options", {"hiden": 3}),
        ("model_options", 3),
        ("inputs", {"shape": [3], "mean": [0.0]}),
        ("inputs", {"shape": [3], "mean": [float("nan")], "std": [1.0]}),
        ("inputs", 3),
        ("path", "/home"),
    ):
        with pytest.raises(UsageError):
            raise AssertionError(f"taken: {name} {Procedure.from_dict({**content, name: other})}")


def test_scaffold_s_server_is_checked_by_the_procedure_already():
    with pytest.raises(UsageError, match="SCAFFOLD needs the server"):
        procedure(algorithm=fm.SCAFFOLD(inner_steps=2))
    assert procedure(algorithm=fm.SCAFFOLD(inner_steps=2), server=fm.optimisers.sgd(1.0)).digest


def test_the_digest_is_the_sha256_of_sorted_json():
    """Written out by hand: names, numbers, and nothing else."""
    found = Procedure(
        algorithm=fm.PerFedAvg(of=fm.FOMAML(inner_lr=0.5, inner_steps=2), local_steps=3, batch_size=None),
        server=fm.optimisers.sgd(1),
        transform=fm.transforms.chain(
            fm.transforms.clip_by_norm(1.0), fm.transforms.error_feedback(fm.transforms.top_k(0.25))
        ),
        aggregator=fm.aggregators.trimmed_mean(0.1),
        model="mlp",
        model_options={"hidden": [8, 4]},
        inputs=Inputs((2,), ("a", "é"), mean=(1.0, 1e-7), std=(1.0, 3e16)),
        rounds=7,
        cohort_size=5,
        support=0.2,
        seed=11,
    )
    by_hand = {
        "algorithm": {
            "name": "per-fedavg",
            "weighting": "clients",
            "local": {"name": "sgd", "learning_rate": 0.05},
            "local_steps": 3,
            "of": {"name": "fomaml", "weighting": "clients", "inner_lr": 0.5, "inner_steps": 2},
        },
        "server": {"name": "sgd", "learning_rate": 1.0},
        "transform": {
            "name": "chain",
            "parts": [
                {"name": "clip_by_norm", "norm": 1.0},
                {"name": "error_feedback", "of": {"name": "top_k", "fraction": 0.25}},
            ],
        },
        "aggregator": {"name": "trimmed_mean", "fraction": 0.1},
        "model": "mlp",
        "model_options": {"hidden": [8, 4]},
        "inputs": {"shape": [2], "classes": ["a", "é"], "mean": [1.0, 1e-07], "std": [1.0, 3e16]},
        "rounds": 7,
        "cohort_size": 5,
        "support": 0.2,
        "seed": 11,
        "precision": "float32",
    }
    text = json.dumps(by_hand, sort_keys=True, separators=(",", ":")).encode()
    assert found.to_bytes() == text
    assert b'"classes":["a","\\u00e9"]' in text
    assert found.digest == hashlib.sha256(text).hexdigest()


@given(
    algorithm=algorithm_values.filter(lambda value: "SCAFFOLD" not in str(value)),
    server=optimisers,
    transform=transform_values,
    aggregator=aggregator_values,
    support=shares,
    seed=st.integers(0, 2**40),
)
def test_a_procedure_survives_bytes_and_toml_with_its_digest(**parts):
    first = procedure(**{name: part() if isinstance(part, Made) else part for name, part in parts.items()})
    for again in (Procedure.from_bytes(first.to_bytes()), Procedure.from_dict(_through_toml(first.to_dict()))):
        assert again == first
        assert again.digest == first.digest
        assert again.to_bytes() == first.to_bytes()
        assert again.algorithm == first.algorithm


def _through_toml(content):
    return tomllib.loads(tomli_w.dumps(content))


OTHER = {
    "algorithm": fm.MAML(inner_lr=0.1, adapt_steps=2),
    "server": fm.optimisers.adam(0.01, eps=1e-7),
    "transform": fm.transforms.quantise(8),
    "aggregator": fm.aggregators.coordinate_median(),
    "model": "softmax_regression",
    "model_options": {"hidden": 65},
    "inputs": replace(INPUTS, mean=(0.1, 2.0, 1e22 + 2**22)),
    "rounds": 4,
    "cohort_size": 5,
    "support": np.nextafter(0.2, 1),
    "seed": 1,
    "max_examples": 10,
    "precision": "bfloat16",
}


def test_whatever_is_learned_changes_the_digest():
    assert OTHER.keys() == {field.name for field in fields(Procedure)}
    digests = {procedure(**{name: value}).digest for name, value in OTHER.items()}
    assert len(digests | {procedure().digest}) == len(OTHER) + 1


def test_the_same_procedure_is_written_in_one_way():
    same = [
        procedure(support=np.float64(0.2)),
        procedure(model_options={"hidden": (64,)}),
        procedure(model_options={"hidden": np.int64(64)}),
        procedure(algorithm=fm.MAML(inner_lr=np.float64(0.1)), server=fm.optimisers.adam(np.float64(0.01))),
        procedure(inputs=replace(INPUTS, mean=tuple(np.array(INPUTS.mean)))),
    ]
    assert {one.to_bytes() for one in same} == {procedure().to_bytes()}
    assert len({procedure(), *same}) == 1
    prox = [procedure(algorithm=fm.FedProx(mu=zero)) for zero in (0.0, -0.0)]
    assert prox[0].digest == prox[1].digest


def test_other_bytes_of_the_same_content_are_refused():
    first = procedure()
    for other in (
        first.to_bytes() + b" ",
        json.dumps(first.to_dict()).encode(),
        first.to_bytes().replace(b'"rounds":3', b'"rounds":3.0'),
        first.to_bytes().replace(b'"rounds":3', b'"rounds":3,"rounds":3'),
        first.to_bytes().replace(b'"support":0.2', b'"support":0.20'),
        first.to_bytes()[:-1],
        b"\xff",
        b"[]",
    ):
        with pytest.raises(UsageError, match="procedure"):
            Procedure.from_bytes(other)


def test_paths_plans_and_looks_do_not_change_the_digest(tmp_path):
    table = "who,a,b,y\n" + "".join(f"c{n % 10},{n},{n % 7},{n % 2}\n" for n in range(60))
    digests = set()
    for place, looks in (("one.csv", {}), ("two.csv", {"validate_every": 3, "patience": 2, "monitor": "loss"})):
        (tmp_path / place).write_text(table)
        recipe = Recipe.default(str(tmp_path / place), "maml", client="who", target="y", max_evaluated=5, **looks)
        digests.add(recipe.prepare().procedure.digest)
    assert len(digests) == 1


def test_another_process_gives_the_same_digest():
    """Neither the hash seed nor the order of anything that is made at run time matters."""
    code = (
        "import sys; from fedmeta.runs.procedure import Procedure;"
        "print(Procedure.from_bytes(sys.stdin.buffer.read()).digest)"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=procedure().to_bytes(),
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
        )
        assert done.stdout.decode().strip() == procedure().digest


def test_values_without_a_row_have_no_name():
    assert name_of(fm.MAML()) == "maml"
    assert name_of(fm.MAML) == ""
    assert name_of(INPUTS) == ""
    assert described(optax.sgd(0.1)) == "unnamed"
