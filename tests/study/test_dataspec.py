"""Which clients train, validate and are tested, as a user says it."""

import tomllib

import numpy as np
import pytest
import tomli_w

import fedmeta as fm
from fedmeta.errors import UsageError
from fedmeta.study.dataspec import DataSpec


def clients(*names, each=3):
    owners = np.repeat(names, each)
    return fm.data.from_arrays(np.arange(len(owners)), np.arange(len(owners)) % 2, owners, name="set")


TEN = clients(*"abcdefghij")


def groups(whole=TEN, seed=0, **told):
    return [part.client_ids for part in DataSpec(data="set", **told).split(whole, seed, None)]


def test_fractions_are_those_of_training_validation_and_test():
    parts = groups(fractions=(0.5, 0.2, 0.3))
    assert [len(part) for part in parts] == [5, 2, 3]
    assert sorted(name for part in parts for name in part) == list("abcdefghij")


def test_without_names_the_split_is_that_of_split_clients():
    assert groups() == [part.client_ids for part in TEN.split_clients((0.8, 0.1, 0.1), 0)]


@pytest.mark.parametrize("seed", range(3))
def test_clients_that_are_named_are_in_their_group_and_the_others_are_split_among_the_rest(seed):
    train, validation, test = groups(seed=seed, fractions=(0.5, 0.25, 0.25), test_clients=("j", "b"))
    assert test == ["b", "j"]
    # Eight clients are left, for two groups in the proportion of 2 to 1.
    assert (len(train), len(validation)) == (5, 3)
    assert sorted(train + validation) == list("acdefghi")
    train, validation, test = groups(seed=seed, test_clients=("j,b",), validation_clients=("a",))
    assert (train, validation, test) == (list("cdefghi"), ["a"], ["b", "j"])


def test_a_name_with_a_comma_is_one_client_where_there_is_such_a_client():
    whole = clients("Rome, North", "Rome", "Bonn", "Kiel", "Graz")
    assert groups(whole, test_clients=("Rome, North", "Bonn,Kiel"))[2] == ["Bonn", "Kiel", "Rome, North"]


def test_named_clients_are_all_evaluated():
    parts = groups(test_clients=("a,b,c",), fractions=(0.5, 0.4, 0.1), max_evaluated=2)
    assert (len(parts[1]), parts[2]) == (2, ["a", "b", "c"])


TINY = fm.data.from_arrays(np.arange(10), np.arange(10) % 2, [*("aaabbbccc"), "d"], name="set")


@pytest.mark.filterwarnings("ignore:1 of 4 clients")
@pytest.mark.parametrize(
    ("told", "whole", "says"),
    [
        ({"test_clients": ("aa,h,zz",)}, TEN, r"--test-clients of set: unknown client 'aa': .*'zz'"),
        ({"validation_clients": ("x",)}, clients("xa", "xb", "c"), r"--validation-clients.*did you mean 'xb' or 'xa'"),
        ({"test_clients": ("a",), "validation_clients": ("b,a",)}, TEN, "'a' is named for validation and for the test"),
        ({}, clients("a", "b"), "training, validation, test need a client each, and set has 2"),
        ({"test_clients": ("a,b",)}, clients("a", "b", "c"), "training, validation need .* set has 1 .* beside the 2"),
        ({"test_clients": ("d",)}, TINY, "names 'd', which has fewer than two examples"),
    ],
)
def test_names_that_cannot_be_meant_are_one_error(told, whole, says):
    with pytest.raises(UsageError, match=says):
        groups(whole, **told)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.9, 0.2, 0.1), (1.0, 0.0, 0.0), (1.5, -0.4, 0.1)])
def test_fractions_that_are_no_split_are_refused(fractions):
    with pytest.raises(UsageError, match="fractions"):
        DataSpec(data="set", fractions=fractions)


def test_what_is_told_travels_in_run_toml_and_older_files_say_nothing_of_it():
    spec = DataSpec(data="set", test_clients=("a", "b, c"), validation_clients=("d",), fractions=(0.6, 0.2, 0.2))
    assert DataSpec.from_dict(tomllib.loads(tomli_w.dumps(spec.to_dict()))) == spec
    plain = DataSpec(data="set").to_dict()
    assert not plain.keys() & {"test_clients", "validation_clients"}
    assert DataSpec.from_dict({"data": "set"}) == DataSpec.from_dict(plain) == DataSpec(data="set")
