"""Features are clipped and scaled by public ranges in the schema: no client's data change how."""

from dataclasses import replace

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.data.schema import Field, Schema
from fedmeta.errors import UsageError
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.study.recipe import Recipe

TOML = """
task = "classification"
[[fields]]
name = "site"
kind = "identifier"
role = "client"
[[fields]]
name = "sodium"
kind = "number"
role = "feature"
type = "number"
gaps = true
minimum = 120
maximum = 160
[[fields]]
name = "age"
kind = "number"
role = "feature"
type = "integer"
minimum = 18
maximum = 100
mean = 50
std = 16
[[fields]]
name = "smoker"
kind = "boolean"
role = "feature"
trueValues = ["yes"]
falseValues = ["no"]
[[fields]]
name = "sex"
kind = "category"
role = "feature"
categories = ["f", "m"]
[[fields]]
name = "ill"
kind = "category"
role = "target"
categories = ["no", "yes"]
"""
CSV = """site,sodium,age,smoker,sex,ill
a,140,50,yes,f,no
a,120,18,no,m,yes
a,9999,66,yes,m,no
b,-5,300,no,f,yes
b,,2,no,f,no
b,130,100,yes,m,yes
"""
EXPECTED = [
    # sodium, whether it is missing, age, smoker, f, m
    [0, 0, 0, 1, 1, 0],
    [-1, 0, -2, -1, 0, 1],
    [1, 0, 1, 1, 0, 1],
    [-1, 0, 50 / 16, -1, 1, 0],
    [0, 1, -2, -1, 1, 0],
    [-0.5, 0, 50 / 16, 1, 0, 1],
]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "schema.toml").write_text(TOML)
    (tmp_path / "visits.csv").write_text(CSV)
    return tmp_path


def schema(files):
    return Schema.read(files / "schema.toml")


def test_values_are_clipped_and_then_scaled(files):
    data = fm.data.from_table(files / "visits.csv", schema=files / "schema.toml")
    found = np.asarray(Inputs.of(data)._standardise()(np.asarray(data.x[:])))
    np.testing.assert_allclose(found, EXPECTED, atol=1e-6)


def test_no_data_are_needed_and_none_are_looked_at(files):
    known = Inputs.by_ranges(schema(files))
    for rows in ([0], [1], [0, 1]):
        data = fm.data.from_table(files / "visits.csv", schema=files / "schema.toml").select(rows)
        assert Inputs.of(data) == known
    assert known.shape == (6,)
    assert known.classes == ("no", "yes")


def test_a_procedure_holds_them_and_is_read_back(files):
    recipe = Recipe.default(
        str(files / "visits.csv"),
        "fedavg",
        table={"schema": str(files / "schema.toml")},
        rounds=1,
        cohort_size=1,
        validation_clients=("a",),
        test_clients=("b",),
    )
    inputs = Inputs.by_ranges(schema(files))
    procedure = replace(recipe._procedure(inputs, 2))
    again = Procedure.from_bytes(procedure.to_bytes())
    assert again == procedure
    assert again.inputs == inputs
    assert again.inputs.low == (120.0, 0.0, 18.0, 0.0, 0.0, 0.0)
    assert again.inputs.high == (160.0, 1.0, 100.0, 1.0, 1.0, 1.0)
    wider = Inputs.by_ranges(schema(files).changed("age", maximum=101.0))
    assert replace(procedure, inputs=wider).digest != procedure.digest


def test_the_schema_that_comes_out_gives_the_same_again(files):
    once = Inputs.by_ranges(schema(files))
    assert once.schema is not None
    assert Inputs.by_ranges(once.schema) == once
    assert once.schema["sodium"].mean == 140
    assert once.schema["sodium"].std == 20


def test_a_far_value_does_no_more_than_one_at_the_end_of_the_range(files):
    known = Inputs.by_ranges(schema(files))
    model = known.model("softmax_regression", {})
    params = model.init(fm.random.default_key())
    params["weight"] = params["weight"].at[:, 0].set(1.0)
    x = np.array([[160, 0, 100, 1, 1, 0], [1e30, 0, 1e30, 1, 1, 0]], np.float32)
    one, other = np.asarray(model.apply(params, x))
    np.testing.assert_array_equal(one, other)


def test_a_regressions_target_is_scaled_by_its_range():
    columns = (
        Field(name="x", type="number", minimum=0.0, maximum=4.0),
        Field(name="y", type="number", role="target", minimum=10.0, maximum=30.0),
    )
    known = Inputs.by_ranges(Schema(columns, "regression"))
    assert known.target_scale == (20.0, 10.0)
    assert known.classes is None
    with pytest.raises(UsageError, match="column 'y' has no reference range"):
        Inputs.by_ranges(Schema((columns[0], Field(name="y", role="target")), "regression"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"minimum": 3, "maximum": 3}, "minimum 3.0 and maximum 3.0; the minimum must be below the maximum"),
        ({"minimum": 4, "maximum": 3}, "the minimum must be below the maximum"),
        ({"minimum": 4}, "minimum 4.0 and maximum None; give both, as finite numbers"),
        ({"maximum": "9", "minimum": 1}, "maximum of the column 'x' must be a number"),
        ({"minimum": float("-inf"), "maximum": 1}, "minimum -inf and maximum 1.0; give both, as finite numbers"),
        ({"kind": "category", "minimum": 0, "maximum": 1}, "only numbers have a range; it is a category"),
    ],
)
def test_a_range_that_is_none_is_refused(values, said):
    with pytest.raises(UsageError, match=said):
        Field.from_dict({"name": "x", **values})


def test_ranges_for_some_numbers_only_are_refused(files):
    with pytest.raises(UsageError, match="'age' has no reference range, and others have: give its minimum and maximum"):
        Inputs.by_ranges(schema(files).changed("age", minimum=None, maximum=None))


@pytest.mark.parametrize("values", [{"mean": 17.0}, {"mean": 101.0}, {"std": 0.0}])
def test_a_scale_that_does_not_fit_the_range_is_refused(values, files):
    with pytest.raises(UsageError, match=r"'age' has mean .* the mean must lie in the range from 18.0 to 100.0"):
        Inputs.by_ranges(schema(files).changed("age", **values))


def test_a_date_is_refused():
    held = Schema((Field(name="born", kind="date", type="date"), Field(name="x", minimum=0.0, maximum=1.0)))
    with pytest.raises(UsageError, match="'born' is a date, which has no reference range"):
        Inputs.by_ranges(held)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"low": (0.0,), "mean": (1.0,), "std": (1.0,)}, "clipped from low to high .* give both"),
        ({"low": (0.0,), "high": (1.0,)}, "clipped from low to high .* give both, with mean and std"),
        ({"low": (1.0,), "high": (1.0,), "mean": (1.0,), "std": (1.0,)}, "low must be below high"),
        ({"low": (0.0, 0.0), "high": (1.0, 1.0), "mean": (1.0,), "std": (1.0,)}, "low must be below high"),
    ],
)
def test_ranges_of_inputs_that_do_not_fit_are_refused(values, said):
    with pytest.raises(UsageError, match=said):
        Inputs((1,), **values)
