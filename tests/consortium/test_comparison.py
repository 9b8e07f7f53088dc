"""Who is tested on what: nobody on patients that anything was fitted on, and all methods on the same."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedmeta.consortium import comparison, hospitals, methods
from fedmeta.consortium.comparison import Patients
from fedmeta.consortium.methods import Setting
from fedmeta.consortium.results import Comparison
from fedmeta.errors import UsageError
from tests.examples import in_soak

FEW = ("majority", "alone", "alone-plain", "others", "fedavg", "meta-sgd")
OF_MEMBERS = ("majority", "alone", "alone-network", "pooled", "pooled-marked", "fedavg", "meta-sgd")


def silent(text):
    """Tell nobody."""


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One setting for all hospitals, few rounds and few steps: programs are compiled once."""
    patch = pytest.MonkeyPatch()
    for table in ("NEWCOMER", "MEMBER"):
        settings = {
            "fedavg": Setting("fedavg", 0.3, 1),
            "meta-sgd": Setting("meta-sgd", 0.3, 1, 0.01, few=True, adapt=2),
        }
        patch.setattr(comparison, table, {name: dict.fromkeys(hospitals.TITLES, s) for name, s in settings.items()})
    patch.setattr(methods, "MOST_STEPS", 3)
    patch.setattr(Trained := methods.Trained, "__init__", _with_few_rounds(Trained.__init__))
    yield
    patch.undo()


def _with_few_rounds(whole):
    return lambda self, x, y, runs, rounds=4: whole(self, x, y, runs, rounds)


@pytest.fixture(scope="module")
def drawn():
    return hospitals.drawn(2)


@pytest.fixture(scope="module")
def patients(drawn):
    return Patients.of(drawn)


def answered(patients, seed=1):
    return comparison.newcomer_answers(patients, 2, seed, FEW, silent)


@pytest.fixture(scope="module")
def joined(patients):
    return answered(patients)


def test_a_newcomers_test_patients_change_nothing_that_it_is_answered(patients, joined):
    """The diagnoses of all that Zurich is tested on are turned round: all its answers stay."""
    cases = [one for one in joined[40].cases if one.hospital == "zurich"]
    for number in (0, 1):
        turned = patients.y.copy()
        turned[cases[number].test] = 1 - turned[cases[number].test]
        again = answered(replace(patients, y=turned))
        for size, tested in joined.items():
            place = [(one.hospital, one.number) for one in tested.cases].index(("zurich", number))
            for name in FEW:
                np.testing.assert_array_equal(tested.predicted[name][place], again[size].predicted[name][place])


def test_a_newcomer_is_tested_on_patients_that_it_does_not_adapt_on(patients, joined):
    for size, tested in joined.items():
        for one in tested.cases:
            assert len(one.own) == size
            assert not set(one.own) & set(one.test)
            assert {*one.own, *one.test} <= set(patients.rows[one.hospital])
    for few, many in zip(joined[5].cases, joined[40].cases, strict=True):
        np.testing.assert_array_equal(few.test, many.test)
        np.testing.assert_array_equal(few.own, many.own[:5])


def test_what_does_not_adapt_is_the_same_for_any_number_of_patients(joined):
    for name in ("others", "fedavg"):
        for few, many in zip(joined[5].predicted[name], joined[40].predicted[name], strict=True):
            np.testing.assert_allclose(few, many, atol=1e-7)
    assert any(
        not np.allclose(few, many)
        for few, many in zip(joined[5].predicted["meta-sgd"], joined[40].predicted["meta-sgd"], strict=True)
    )


def test_a_members_test_patients_change_nothing_that_it_is_answered(drawn, patients):
    parts = {one.name: hospitals.splits(one, 1, 4) for one in drawn}
    first = comparison.member_answers(patients, parts, 4, OF_MEMBERS, silent)
    turned = patients.y.copy()
    for one in first.cases:
        turned[one.test] = 1 - turned[one.test]
        assert not set(one.own) & set(one.test)
    again = comparison.member_answers(replace(patients, y=turned), parts, 4, OF_MEMBERS, silent)
    for name in OF_MEMBERS:
        for one, other in zip(first.predicted[name], again.predicted[name], strict=True):
            np.testing.assert_array_equal(one, other)


@in_soak
def test_the_whole_comparison_comes_back_through_json(drawn):
    said = []
    found = comparison.compare(drawn, 2, 1, 30, said.append, OF_MEMBERS, FEW, planted_seeds=0)
    assert {"members: Meta-SGD", "newcomer: FedAvg"} <= set(said)
    assert found.flamby is None
    assert found.planted is None
    assert "NOT PATIENTS" in found.warning
    table = found.members
    for row in table.rows:
        for figures in (row.mean, *row.hospitals.values()):
            for one in figures.values():
                assert not one.low > one.high
        assert row.ahead["alone"]["mean"]["accuracy"].value == pytest.approx(
            row.mean["accuracy"].value - table["alone"].mean["accuracy"].value
        )
    best = max(("majority", "alone", "alone-plain"), key=lambda name: found.newcomer[10][name].mean["accuracy"].value)
    assert found.newcomer[10].reference == best
    assert len(found.goals) == 3
    again = Comparison.from_dict(json.loads(json.dumps(found.to_dict())))
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())


def test_a_hospital_that_is_too_small_is_named(drawn):
    small = hospitals.Hospital("zurich", drawn["zurich"].patients.of(np.arange(41)))
    with pytest.raises(UsageError, match="Zurich/Basel has 41 patients; a newcomer needs more than 41"):
        comparison.newcomers(replace(drawn, members=(drawn["budapest"], small)), 2, 0, 20)
