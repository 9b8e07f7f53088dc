"""What a procedure does is said in numbers and words, and a policy refuses it for every reason that there is."""

import jax
import pytest

from fedmeta import aggregators, transforms
from fedmeta.algorithms import FedAvg, PerFedAvg
from fedmeta.node.errors import ConfigError
from fedmeta.node.member import policy
from fedmeta.node.member.describing import describe, read_procedure, words
from fedmeta.node.member.policy import Policy
from fedmeta.runs.inputs import Inputs
from tests.node.member.made import procedure


def test_a_procedure_is_described_by_what_is_in_it(tmp_path):
    made = procedure(tmp_path, max_examples=50)
    found = describe(made)
    assert found.digest.hex() == made.digest
    # Two inputs to eight units to two classes, each layer with its biases.
    assert found.parameters == (2 * 8 + 8) + (8 * 2 + 2)
    phi = made.algorithm.init(made.network, jax.random.key(0))
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(phi))
    assert found.transforms == ("clip_by_norm", "fixed_point")
    assert (found.algorithm, found.aggregator, found.server) == ("maml", "weighted_mean", "sgd")
    assert (found.rounds, found.cohort, found.most_examples) == (10, 4, 50)
    assert (found.inputs, found.target) == (("age", "smoker"), "ill")


def test_the_words_name_columns_size_and_treatment(tmp_path):
    said = "\n".join(words(describe(procedure(tmp_path))))
    for part in (
        "age, smoker",
        "predicts ill",
        "42 numbers",
        "10 rounds",
        "3 gradient steps",
        "clip_by_norm(norm=1.0)",
    ):
        assert part in said
    plain = procedure(tmp_path, transform=transforms.identity(), inputs=Inputs((3,), ("a", "b")))
    assert "neither clipped nor rounded" in "\n".join(words(describe(plain)))


@pytest.mark.parametrize(
    ("algorithm", "examples", "steps"),
    [
        (FedAvg(inner_steps=7), None, 7),
        (FedAvg(inner_epochs=3, inner_batch_size=10), None, None),
        (FedAvg(inner_epochs=3, inner_batch_size=10), 25, 9),
        (FedAvg(inner_epochs=3, inner_batch_size=None), None, 3),
        (PerFedAvg(of=FedAvg(inner_steps=7), local_steps=4), None, 32),
    ],
)
def test_steps_are_those_of_one_update(tmp_path, algorithm, examples, steps):
    assert describe(procedure(tmp_path, algorithm=algorithm)).steps(examples) == steps


def test_a_procedures_own_bound_on_examples_bounds_its_steps(tmp_path):
    made = procedure(tmp_path, algorithm=FedAvg(inner_epochs=1, inner_batch_size=10), max_examples=40)
    assert [describe(made).steps(count) for count in (None, 25, 1_000)] == [4, 3, 4]


@pytest.mark.parametrize(
    ("bounds", "changed", "examples", "says"),
    [
        ({"largest_model": 41}, {}, None, "it learns 42 parameters; largest_model is 41"),
        ({"algorithms": ("fedavg",)}, {}, None, "its algorithm is maml; algorithms are fedavg"),
        ({"aggregators": ("krum",)}, {}, None, "its aggregator is weighted_mean; aggregators are krum"),
        ({"most_steps": 2}, {}, None, "an update takes 3 gradient steps; most_steps is 2"),
        ({"most_rounds": 9}, {}, None, "it has 10 rounds; most_rounds is 9"),
        ({"smallest_cohort": 5}, {}, None, "its cohort is 4; smallest_cohort is 5"),
        ({}, {"transform": transforms.fixed_point()}, None, "treated by clip_by_norm: its transforms are fixed_point"),
        ({}, {"transform": transforms.identity()}, None, "by clip_by_norm, fixed_point: its transforms are none"),
        (
            {"smallest_examples": 51},
            {"max_examples": 50},
            99,
            "50 examples stand behind an update; smallest_examples is",
        ),
        ({"smallest_examples": 51}, {}, 50, "50 examples stand behind an update; smallest_examples is"),
        ({"smallest_examples": 1}, {}, 0, "0 examples stand behind an update; smallest_examples is 1"),
    ],
)
def test_each_bound_is_a_reason_of_its_own(tmp_path, bounds, changed, examples, says):
    found = describe(procedure(tmp_path, **changed))
    (reason,) = Policy(**bounds).reasons(found, examples)
    assert says in reason


def test_at_its_bounds_a_procedure_is_allowed(tmp_path):
    strict = Policy(42, ("maml",), ("weighted_mean",), 3, 10, 4, 50, ("fixed_point", "clip_by_norm"))
    assert strict.reasons(describe(procedure(tmp_path, max_examples=50)), 50) == []


def test_every_reason_is_given_at_once(tmp_path):
    strict = Policy(1, ("reptile",), ("krum",), 1, 1, 100, 100)
    assert len(strict.reasons(describe(procedure(tmp_path, transform=transforms.identity())), 5)) == 8


def test_a_transform_within_another_counts(tmp_path):
    inner = transforms.chain(transforms.clip_by_norm(1.0), transforms.quantise(8))
    made = procedure(tmp_path, transform=transforms.error_feedback(inner), aggregator=aggregators.weighted_mean())
    assert {"clip_by_norm", "quantise"} <= set(describe(made).transforms)


def test_the_template_is_the_default_policy(tmp_path):
    (tmp_path / "policy.toml").write_text(policy.template())
    assert policy.read(tmp_path) == Policy()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"algorithms": ["mamal"]}, ("algorithms has 'mamal'", "'maml'")),
        ({"transforms": ["clip"]}, ("transforms has 'clip'", "clip_by_norm")),
        ({"aggregators": ["krumm"]}, ("aggregators has 'krumm'", "'krum'")),
        ({"largest_modell": 5}, ("unknown key 'largest_modell'", "'largest_model'")),
        ({"most_steps": 0}, ("most_steps is 0", "at least 1")),
        ({"transforms": "clip_by_norm"}, ("transforms is 'clip_by_norm'", "a list")),
    ],
)
def test_a_wrong_policy_is_named(content, says):
    with pytest.raises(ConfigError) as error:
        policy.of(content)
    assert [part for part in says if part not in str(error.value)] == []


def test_a_procedure_is_read_from_its_bytes_only(tmp_path):
    made = procedure(tmp_path)
    file = tmp_path / "procedure.json"
    file.write_bytes(made.to_bytes())
    assert read_procedure(file) == made
    file.write_bytes(made.to_bytes() + b"\n")
    with pytest.raises(ConfigError, match=r"is no procedure: .* written in another way"):
        read_procedure(file)
    file.write_bytes(b"\x00")
    with pytest.raises(ConfigError, match="is no procedure"):
        read_procedure(file)
    with pytest.raises(ConfigError, match=r"cannot read .*absent"):
        read_procedure(tmp_path / "absent")
    with open(file, "wb") as whole:
        whole.truncate((1 << 24) + 1)
    with pytest.raises(ConfigError, match="16,777,217 bytes"):
        read_procedure(file)
