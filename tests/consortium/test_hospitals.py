"""The four hospitals: their tables are read as a trainer reads them, and hold nobody else's patients."""

import json

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.consortium import hospitals, stand_in
from fedmeta.consortium.federation import Fault, FederationPart, Payment, Phase, Round, Sent
from fedmeta.consortium.hospitals import INPUTS
from fedmeta.errors import UsageError


@pytest.fixture(scope="module")
def drawn():
    return hospitals.drawn(3)


def test_a_trainer_reads_from_the_table_what_the_comparison_is_given(drawn, tmp_path):
    for one in drawn:
        x, y = INPUTS.read(str(hospitals.write(one, tmp_path)))
        np.testing.assert_array_equal(x, one.x)
        np.testing.assert_array_equal(y, one.y)


def test_the_real_tables_are_read_likewise(real_data, tmp_path):
    real_data("heart")
    found = hospitals.load()
    assert not found.stand_in
    assert found.warning == ""
    for one in found:
        x, y = INPUTS.read(str(hospitals.write(one, tmp_path)))
        np.testing.assert_array_equal(x, one.x)
        np.testing.assert_array_equal(y, one.y)
    assert np.isnan(found["zurich"].patients.values[:, 4]).all()


def test_a_hospitals_folder_holds_its_own_patients_and_no_others(drawn, tmp_path):
    for one in drawn:
        hospitals.write(one, tmp_path)
    for one in drawn:
        (file,) = (tmp_path / one.name).iterdir()
        rows = file.read_text().splitlines()[1:]
        assert rows == [",".join(cells) for cells in hospitals.heart.cells(one.patients)]
        for other in drawn:
            if other is not one:
                theirs = {",".join(cells) for cells in hospitals.heart.cells(other.patients)}
                own = {",".join(cells) for cells in hospitals.heart.cells(one.patients)}
                assert not theirs & (set(rows) - own)


def test_only_the_rows_that_are_asked_for_are_written(drawn, tmp_path):
    one = drawn["zurich"]
    rows = hospitals.splits(one, 1)[0].train
    x, _ = INPUTS.read(str(hospitals.write(one, tmp_path, rows)))
    np.testing.assert_array_equal(x, one.x[rows])


def test_inputs_are_scaled_by_the_public_ranges_alone(drawn):
    place = INPUTS.features.index("resting_pressure")
    assert (INPUTS.low[place], INPUTS.high[place]) == (80, 200)
    for one in drawn:
        scaled = np.asarray(INPUTS._standardise()(one.x))
        np.testing.assert_allclose(scaled[:, place], np.clip((one.x[:, place] - 140) / 60, -1, 1), atol=1e-6)
        assert np.abs(scaled).max() <= 1


def test_the_stand_in_has_the_published_shape_and_says_so(drawn):
    assert drawn.stand_in
    assert "NOT PATIENTS" in drawn.warning
    for one in drawn:
        groups = stand_in.PUBLISHED[one.name]
        assert [int((one.y == kind).sum()) for kind in (0, 1)] == [group.patients for group in groups]
        for kind, group in enumerate(groups):
            missing = np.isnan(one.patients.values[one.y == kind]).sum(axis=0)
            assert {place: count for place, count in enumerate(missing) if count} == group.gaps


def test_what_is_published_is_what_the_files_hold(real_data):
    real_data("heart")
    for one in hospitals.load():
        values, y = one.patients.values, one.y
        for kind, group in enumerate(stand_in.PUBLISHED[one.name]):
            some = values[y == kind]
            assert len(some) == group.patients
            missing = np.isnan(some).sum(axis=0)
            assert {place: count for place, count in enumerate(missing) if count} == group.gaps
            for (mean, std), place in zip(group.numbers, (0, 3, 4, 7, 9), strict=True):
                if group.gaps.get(place) != group.patients:
                    known = some[~np.isnan(some[:, place]), place]
                    assert abs(known.mean() - mean) <= (0.5 if place != 9 else 0.051)
                    assert abs(known.std() - std) <= (0.5 if place != 9 else 0.051)
            for share, place in zip(group.shares, (1, 5, 8), strict=True):
                known = some[~np.isnan(some[:, place]), place]
                assert abs(known.mean() - share) <= 0.0051
            assert tuple(int((some[:, 2] == code).sum()) for code in (1, 2, 3, 4)) == group.pain
            assert tuple(int((some[:, 6] == code).sum()) for code in (0, 1, 2)) == group.ecg


def test_the_same_seed_draws_the_same_patients(drawn):
    again, other = hospitals.drawn(3), hospitals.drawn(4)
    np.testing.assert_array_equal(again["budapest"].patients.values, drawn["budapest"].patients.values)
    assert not np.array_equal(other["budapest"].y, drawn["budapest"].y)


def test_without_files_the_stand_in_takes_their_place(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDMETA_DATA", raising=False)
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path))
    assert hospitals.load().stand_in


def test_splits_are_stratified_and_leave_nobody_on_both_sides(drawn):
    for one in drawn:
        parts = hospitals.splits(one, 5, seed=1)
        assert len({part.test.tobytes() for part in parts}) == 5
        for part in parts:
            assert not set(part.train) & set(part.test)
            assert sorted([*part.train, *part.test]) == list(range(len(one)))
            for kind in (0, 1):
                many = int((one.y == kind).sum())
                assert int((one.y[part.test] == kind).sum()) == round(many / 3)
    again = hospitals.splits(drawn["zurich"], 2, seed=1)
    np.testing.assert_array_equal(again[1].test, hospitals.splits(drawn["zurich"], 5, seed=1)[1].test)


def test_a_class_of_two_is_not_kept_on_both_sides(drawn):
    one = drawn["zurich"]
    few = np.concatenate([np.flatnonzero(one.y == 1)[:30], np.flatnonzero(one.y == 0)[:2]])
    small = hospitals.Hospital("small", one.patients.of(few))
    parts = hospitals.splits(small, 40)
    assert {len(part.test) for part in parts} == {round(32 / 3)}
    assert {int((small.y[part.test] == 0).sum()) for part in parts} == {0, 1, 2}


def test_patients_with_all_values_are_found(drawn):
    for one, whole in zip(drawn.complete, drawn, strict=True):
        assert len(one) == int((~np.isnan(whole.patients.values).any(axis=1)).sum())


def test_of_the_real_ones_as_many_are_complete_as_flamby_has(real_data):
    real_data("heart")
    assert [len(one) for one in hospitals.load().complete] == [303, 261, 46, 130]


@pytest.mark.parametrize(("count", "test", "said"), [(0, 0.5, "at least 1 split"), (1, 0.0, "between 0 and 1")])
def test_a_split_that_is_none_is_refused(drawn, count, test, said):
    with pytest.raises(UsageError, match=said):
        hospitals.splits(drawn["zurich"], count, test=test)


def test_hospitals_are_the_clients_of_a_data_set(drawn):
    data = hospitals.dataset(drawn, {"zurich": np.array([3, 5]), "budapest": np.array([7])})
    assert data.client_ids == ["budapest", "zurich"]
    np.testing.assert_array_equal(data["zurich"].x, drawn["zurich"].x[[3, 5]])
    report = fm.evaluate(
        fm.FedAvgMeta(inner_lr=0.1),
        model := INPUTS.model("softmax_regression", {}),
        model.init(fm.random.default_key()),
        hospitals.dataset(drawn),
    )
    assert report.left_out == 0


def test_an_unknown_hospital_is_named(drawn):
    with pytest.raises(UsageError, match="no hospital 'basel'; there are cleveland, budapest, zurich, long-beach"):
        drawn["basel"]


def test_what_a_demonstration_adds_comes_back_through_json():
    part = FederationPart(
        "MAML",
        (Round(1, "final", (Phase("commit", 1.5, 3),), ("zurich",), ("budapest",), (), ("zurich",), 2, "ab", "n"),),
        (Payment("zurich", 10, 20, 3),),
        "a\nb",
        "round 1",
        (Sent("zurich", 3, 100, {"update": 100}, 120, True, "n"),),
        (Fault(1, "zurich", "killed", "came back"),),
        12.5,
    )
    assert FederationPart.from_dict(json.loads(json.dumps(part.to_dict()))) == part
