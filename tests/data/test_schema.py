"""A schema is kept with what is learned, can be edited, and is applied to whatever comes later."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tests.examples import examples
from tests.small_tables import ILL, SITES, table

import fedmeta as fm
from fedmeta.data.schema import Field, Schema
from fedmeta.data.tables import kinds
from fedmeta.data.tables.kinds import Signs
from fedmeta.data.tables.profile import profile
from fedmeta.runs.inputs import Inputs

USES = {"client": "site", "target": "ill"}


def patients(lines=60):
    return table(
        ["site", "age", "sex", "smoker", "seen", "ill"],
        lambda i: (
            SITES[i % 3],
            i + 20 if i % 7 else "",
            ("f", "m")[i % 5 % 2],
            ("yes", "no", "")[i // 2 % 3],
            f"{i % 28 + 1}.{i % 12 + 1}.2024",
            ILL[i % 2],
        ),
        lines,
    )


@pytest.fixture
def write(tmp_path):
    def do(text, name="t.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return do


def test_a_schema_survives_toml_and_gives_the_same_examples(write):
    path = write(patients())
    data = fm.data.from_table(path, **USES)
    toml = write(data.info.schema.to_toml(), "schema.toml")
    assert Schema.read(toml) == data.info.schema
    again = fm.data.from_table(path, schema=toml)
    assert again.fingerprint == data.fingerprint
    for word in ("missingValues", "trueValues", "falseValues", "format", "categories"):
        assert word in toml.read_text() or word == "missingValues"


def test_an_edited_schema_decides(write):
    path = write(patients())
    schema = fm.data.from_table(path, **USES).info.schema
    fewer = schema.changed("age", kind="text").changed("sex", categories=("f",), other=True)
    data = fm.data.from_table(path, schema=fewer)
    assert "age" not in data.info.features
    assert [name for name in data.info.features if name.startswith("sex")] == ["sex = f", "sex = other"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("x = 1", "unknown word of a schema 'x'"),
        ("[[fields]]\nkind = 'number'", "has no name"),
        ("[[fields]]\nname = 'a'\nsort = 'number'", "unknown word of a schema 'sort'"),
        ("[[fields]]\nname = 'a'\nkind = 'numeric'", "unknown kind of the column 'a' 'numeric'"),
        ("[[fields]]\nname = 'a'\nkind = 'boolean'", "give trueValues and falseValues"),
        ("[[fields]]\nname = 'a'\nkind = 'date'", "give its format"),
        ("[[fields]]\nname = 'a'\ndecimalChar = ';'", "decimalChar"),
        ("[[fields]]\nname = 'a'\n[[fields]]\nname = 'a'", "two fields named 'a'"),
        ("task = 'guess'", "unknown task 'guess'"),
        ("fields = 3", r"\[\[fields\]\]"),
    ],
)
def test_what_is_wrong_with_a_schema_is_named(content, match, write):
    with pytest.raises(fm.errors.UsageError, match=match):
        Schema.read(write(content, "s.toml"))


def test_a_schema_that_is_no_toml_is_refused(write, tmp_path):
    with pytest.raises(fm.errors.DataError, match="cannot be read"):
        Schema.read(write("a = = 1", "s.toml"))
    with pytest.raises(fm.errors.DataError, match="cannot be read"):
        Schema.read(tmp_path / "none.toml")


def test_preparation_is_that_of_scikit_learn(write):
    """Pooled, for the training side alone: means in the place of gaps, scaled, with indicators and categories."""
    data = fm.data.from_table(write(patients()), **USES)
    inputs = Inputs.of(data)
    order = np.argsort([i % 3 for i in range(60)], kind="stable")
    ages = np.array([i + 20 if i % 7 else np.nan for i in order])[:, None]
    smokers = np.array([(1, 0, np.nan)[i // 2 % 3] for i in order], float)[:, None]
    sexes = np.array([("f", "m")[i % 5 % 2] for i in order])[:, None]
    imputed = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    marked = Pipeline([("mark", MissingIndicator()), ("scale", StandardScaler())])
    coded = Pipeline([("code", OneHotEncoder(sparse_output=False)), ("scale", StandardScaler())])
    found = np.asarray(inputs._standardise()(np.asarray(data.x[:])))
    assert data.info.features[:6] == ("age", "age is missing", "sex = f", "sex = m", "smoker", "smoker is missing")
    np.testing.assert_allclose(found[:, 2:4], coded.fit_transform(sexes), atol=1e-5)
    for first, values in ((0, ages), (4, smokers)):
        # What is put in the place of a gap does not narrow how the others scatter.
        narrowed = np.sqrt(np.isfinite(values).mean())
        np.testing.assert_allclose(found[:, first], imputed.fit_transform(values)[:, 0] * narrowed, atol=1e-5)
        np.testing.assert_allclose(found[:, first + 1], marked.fit_transform(values)[:, 0], atol=1e-5)


def test_scales_come_from_the_training_clients_alone(write):
    text = table(["site", "x", "ill"], lambda i: (SITES[i % 3], i if i % 3 else 1000 + i, ILL[i % 2]))
    data = fm.data.from_table(write(text), **USES)
    inputs = Inputs.of(data.select([1, 2]))
    others = [i for i in range(24) if i % 3]
    assert inputs.schema["x"].mean == pytest.approx(np.mean(others))
    assert inputs.schema["x"].std == pytest.approx(np.std(others))


@examples(60)
@given(st.lists(st.sampled_from(["1", "2.5", "1.000", "NA", "", "yes", "no", "2024-01-02", "3/4/2024", "abc", "007"])))
def test_counts_of_clients_add_up_to_those_of_all(cells):
    """So that kinds can be agreed without showing anyone a row."""
    parts = [pa.chunked_array([pa.array(cells[first::3], pa.string())]) for first in range(3)]
    whole = profile(pa.chunked_array([pa.array(cells, pa.string())]))
    added = profile(parts[0]) + profile(parts[1]) + profile(parts[2])
    assert (added.rows, added.blank, added.markers, added.levels) == (
        whole.rows,
        whole.blank,
        whole.markers,
        whole.levels,
    )
    assert +added.failures == +whole.failures
    assert +added.shapes == +whole.shapes
    same = kinds.decide("x", added, Signs()), kinds.decide("x", whole, Signs())
    # That text never repeats is known of each client's own rows only.
    if "identifier" not in {decision.field.kind for decision in same}:
        assert same[0].field == same[1].field


@pytest.fixture
def learned(write):
    """The schema of the patients, with the scale of a training."""
    return Inputs.of(fm.data.from_table(write(patients()), **USES)).schema


def test_another_file_is_read_by_the_schema(learned, write):
    semicolons = patients(12).replace(",", ";")
    x, y = fm.data.read_examples(write(semicolons, "mine.csv"), learned)
    expected, right = fm.data.read_examples(write(patients(12), "same.csv"), learned)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, right)
    assert x.shape == (12, len(learned.features))


def test_a_file_without_the_client_or_the_target_can_be_predicted(learned, write):
    lines = [line.split(",")[1:-1] for line in patients(6).splitlines()]
    x, y = fm.data.read_examples(write("\n".join(map(",".join, lines)), "new.csv"), learned, need_target=False)
    assert x.shape == (6, len(learned.features))
    assert y is None


def test_what_training_did_not_have_is_said_or_refused(learned, write, caplog):
    odd = patients(12).replace("m,", "x,")
    with caplog.at_level(logging.WARNING, "fedmeta.data"):
        x, _ = fm.data.read_examples(write(odd, "odd.csv"), learned)
    assert "'sex' holds 'x'" in caplog.text
    assert x[np.char.find(odd.splitlines()[1:], "x,") >= 0][:, 2:4].sum() == 0
    with pytest.raises(
        fm.errors.DataError, match=r"3 problems(?s:.*)'age' holds 'old' in line 3(?s:.*)'smoker' holds 'often'"
    ):
        fm.data.read_examples(
            write(patients(12).replace("b,21,", "b,old,").replace("yes", "often"), "bad.csv"), learned
        )
    with pytest.raises(fm.errors.DataError, match="no column 'age', which the model needs"):
        fm.data.read_examples(write(patients(12).replace("age", "years"), "none.csv"), learned)


def test_a_gap_where_training_had_none_is_the_training_mean_aloud(write, caplog):
    text = table(["site", "x", "ill"], lambda i: (SITES[i % 3], i, ILL[i % 2]))
    learned = Inputs.of(fm.data.from_table(write(text), **USES)).schema
    with caplog.at_level(logging.WARNING, "fedmeta.data"):
        x, _ = fm.data.read_examples(write(text.replace("b,1,", "b,,"), "gap.csv"), learned)
    assert x[1, 0] == np.float32(11.5)
    assert "column 'x' has 1 gap, filled with the training mean 11.5" in caplog.text


def test_a_gap_in_a_column_with_a_public_range_is_its_middle_aloud(write, caplog):
    text = table(["site", "x", "ill"], lambda i: (SITES[i % 3], i, ILL[i % 2]))
    learned = Inputs.of(fm.data.from_table(write(text), **USES)).schema
    ranged = replace(
        learned,
        columns=tuple(
            replace(one, minimum=0.0, maximum=30.0, mean=15.0, std=15.0) if one.name == "x" else one
            for one in learned.columns
        ),
    )
    with caplog.at_level(logging.WARNING, "fedmeta.data"):
        fm.data.read_examples(write(text.replace("b,1,", "b,,"), "gap.csv"), ranged)
    assert "column 'x' has 1 gap, filled with the middle of its public range, 15" in caplog.text


def test_what_fills_a_gap_by_public_ranges_is_never_called_a_mean_of_training(write, caplog):
    columns = (
        Field(name="age", minimum=20.0, maximum=90.0, mean=60.0, std=15.0),
        Field(name="pressure", minimum=80.0, maximum=200.0),
        Field(name="male", kind="boolean", true="yes", false="no"),
        Field(name="ill", kind="category", role="target", categories=("no", "yes")),
    )
    learned = Inputs.by_ranges(Schema(columns, task="classification")).schema
    with caplog.at_level(logging.WARNING, "fedmeta.data"):
        x, _ = fm.data.read_examples(write("age,pressure,male,ill\n,,,no\n50,120,yes,yes\n", "gap.csv"), learned)
    assert x[0].tolist() == [60, 140, 0.5]
    assert "column 'age' has 1 gap, filled with the public mean 60" in caplog.text
    assert "column 'pressure' has 1 gap, filled with the middle of its public range, 140" in caplog.text
    assert "column 'male' has 1 gap, filled with 0.5, between its two values" in caplog.text
    assert "training" not in caplog.text


def grades(values, kind):
    rows = range(len(values))
    return pa.table({"site": [SITES[i % 3] for i in rows], "x": [i * 1.5 for i in rows], "ill": pa.array(values, kind)})


def test_labels_are_looked_up_by_name_with_the_type_that_the_table_had(write):
    learned = fm.data.from_table(grades(["1", "2", "A"] * 4, pa.string()), **USES).info.schema
    # A CSV file has no types: 1 is the name 1.
    _, y = fm.data.read_examples(write("x,ill\n1,2\n2,1\n3,A\n"), learned)
    assert y.tolist() == [1, 0, 2]
    with pytest.raises(fm.errors.DataError, match="holds integers, and the classes of the model are the texts"):
        fm.data.read_examples(grades([1, 2, 1], pa.int64()), learned)
    _, y = fm.data.read_examples(grades([1, 2, 1], pa.int64()), learned.changed("ill", type="any"))
    assert y.tolist() == [0, 1, 0]
    whole = fm.data.from_table(grades([1, 2, 3] * 4, pa.int64()), **USES).info.schema
    _, y = fm.data.read_examples(write("x,ill\n1,2.0\n2,1\n3,3\n"), whole)
    assert y.tolist() == [1, 0, 2]
    _, y = fm.data.read_examples(grades([3.0, 1.0], pa.float64()), whole)
    assert y.tolist() == [2, 0]


def test_codes_for_named_classes_are_refused(write):
    text = table(["site", "x", "ill"], lambda i: (SITES[i % 3], i, ("benign", "malignant")[i % 2]))
    learned = fm.data.from_table(write(text), **USES).info.schema
    with pytest.raises(fm.errors.DataError, match=r"'0' and '1' in line 2.*the classes are 'benign' and 'malignant'"):
        fm.data.read_examples(write("x,ill\n1,0\n2,1\n", "coded.csv"), learned)


def test_fields_say_what_they_give():
    assert Field(name="a", kind="category", categories=("x", "y"), other=True, gaps=True).features == (
        "a = x",
        "a = y",
        "a = other",
        "a is missing",
    )
    assert Field(name="a", role="none").features == ()
    assert Field(name="a", kind="identifier").features == ()
