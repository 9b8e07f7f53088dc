"""What a column is is decided over all of its rows; what could be meant in two ways is asked."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from tests.small_tables import ILL, SITES, one, plain, table

import fedmeta as fm

USES = {"client": "site", "target": "ill"}


@pytest.fixture
def read(tmp_path, caplog):
    """Write a file, read it, and return the data set and what was said."""

    def do(content, **told):
        path = tmp_path / "t.csv"
        path.write_text(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fedmeta.data"):
            data = fm.data.from_table(path, **{**USES, **told})
        return data, [record.getMessage().partition(": ")[2] for record in caplog.records]

    return do


def field(data, name):
    return data.info.schema[name]


def in_order(data):
    """Return x in the order of the file, whose rows go from client to client."""
    starts = dict(zip(data.client_ids, data.starts.tolist(), strict=True))
    return np.asarray(data.x[:])[[starts[SITES[i % 3]] + i // 3 for i in range(len(data.x))]]


def days(text):
    return (np.datetime64(text) - np.datetime64("1970-01-01")).astype(int)


MONTHS = ["Jan", "Jun", "Nov", "Apr", "Sep", "Feb", "Jul", "Dec", "May", "Oct", "Mar", "Aug"]
DATES = {
    "day first, clear": (one("when", lambda i: f"{i + 1:02d}/{i * 5 % 12 + 1:02d}/2024"), "%d/%m/%Y"),
    "month first, clear": (one("when", lambda i: f"{i * 5 % 12 + 1:02d}/{i + 1:02d}/2024"), "%m/%d/%Y"),
    "dots": (one("when", lambda i: f"{i + 1}.{i * 5 % 12 + 1}.2024"), "%d.%m.%Y"),
    "the standard's": (one("when", lambda i: f"2024-{i * 5 % 12 + 1:02d}-{i + 1:02d}"), "%Y-%m-%d"),
    "a time of day": (one("when", lambda i: f"2024-{i * 5 % 12 + 1:02d}-{i + 1:02d}T00:00:00Z"), "%Y-%m-%d"),
    "names of months": (
        one(
            "when",
            lambda i: f"{i + 1}-{MONTHS[i % 12]}-2024",
        ),
        "%d-%b-%Y",
    ),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_are_days_whichever_way_they_are_written(kind, read):
    text, format = DATES[kind]
    data, notes = read(text)
    assert field(data, "when").format == format
    assert bool(notes) is (format != "%Y-%m-%d"), "a way that is not the standard's is said"
    expected = [days(f"2024-{i * 5 % 12 + 1:02d}-{i + 1:02d}") for i in range(24)]
    np.testing.assert_array_equal(in_order(data)[:, 0], np.float32(expected))


def test_one_date_late_in_the_file_decides_how_all_are_read(read):
    day = lambda i: i % 12 + 1 if i < 29000 else 13 + i % 10  # noqa: E731
    data, _ = read(one("when", lambda i: f"{day(i):02d}/{i * 5 % 12 + 1:02d}/2024", 30000))
    assert field(data, "when").format == "%d/%m/%Y"


def test_the_parts_of_dates_that_vary_are_features(read):
    data, _ = read(one("when", lambda i: f"2024-01-{i + 1:02d} {i % 24:02d}:30"))
    names = data.info.features
    x = dict(zip(names, in_order(data).T, strict=True))
    assert names[0] == "when"
    assert not any("season" in name for name in names), "24 days are of one season"
    np.testing.assert_allclose(x["when"] % 1, (np.arange(24) + 0.5) / 24, atol=2e-3)
    # 2024-01-01 was a Monday.
    np.testing.assert_array_equal(x["when: Monday"], [i % 7 == 0 for i in range(24)])
    turn = 2 * np.pi * (np.arange(24) + 0.5) / 24
    np.testing.assert_allclose(x["when: time of day (sine)"], np.sin(turn), atol=1e-6)
    season, _ = read(one("when", lambda i: f"2024-{i % 12 + 1:02d}-01"))
    assert "when: season (cosine)" in season.info.features


QUESTIONS = {
    "two readings of dates": (
        one("when", lambda i: f"{i % 12 + 1:02d}/{i * 5 % 12 + 1:02d}/2024"),
        r"%d/%m/%Y or %m/%d/%Y \('01/01/2024' in line 2\).*--date-format",
    ),
    "years of two digits": (one("when", lambda i: f"{i + 1:02d}.03.{68 + i % 3}"), r"years have two digits.*line 2"),
    "thousands or decimals": (one("n", lambda i: f"{i + 1}.{i:03d}", separator=";"), r"'1.000' in line 2.*--decimal"),
    "one word among numbers": (one("x", lambda i: i if i != 17 else "abc"), "'abc' in line 19.*--missing .*--kind x="),
    "one word among dates": (one("x", lambda i: f"2024-01-{i + 1:02d}" if i != 17 else "soon"), "'soon' in line 19"),
    "a number far outside": (one("age", lambda i: i + 20 if i % 5 else -999), r"-999 in 5 rows \(line 2, .*-999"),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_could_be_meant_in_two_ways_is_asked(question, read):
    text, match = QUESTIONS[question]
    with pytest.raises(fm.errors.DataError, match=match):
        read(text)


def test_every_answer_that_a_question_names_is_taken(read):
    dates, years, thousands, word, _, outside = (text for text, _ in QUESTIONS.values())
    told = {"date_format": "%m/%d/%Y"}
    assert in_order(read(dates, reading=told)[0])[4, 0] == days("2024-05-09")
    assert in_order(read(years, reading={"date_format": "%d.%m.%y"})[0])[:2, 0].tolist() == [
        days("2068-03-01"),
        days("1969-03-02"),
    ]
    assert in_order(read(thousands, reading={"decimal": "."})[0])[3, 0] == np.float32(4.003)
    assert in_order(read(thousands, reading={"decimal": ","})[0])[3, 0] == 4003
    gap, _ = read(word, reading={"missing": ("abc",)})
    assert gap.info.features == ("x", "x is missing")
    assert in_order(gap)[17].tolist() == [0, 1]
    words, _ = read(word, kinds={"x": "category"})
    assert field(words, "x").kind == "category"
    gaps, _ = read(outside, reading={"missing": ("-999",)})
    assert in_order(gaps)[5].tolist() == [0, 1]
    measured, _ = read(outside, reading={"present": ("-999",)})
    assert in_order(measured)[5].tolist() == [-999]


def test_all_questions_are_asked_at_once(read):
    text = table(
        ["site", "when", "x", "ill"],
        lambda i: (SITES[i % 3], f"{i % 12 + 1:02d}/01/2024", i if i != 17 else "abc", ILL[i % 2] if i != 3 else "NA"),
    )
    with pytest.raises(fm.errors.DataError) as caught:
        read(text)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("has 3 problems:")
    assert ["when" in lines[1], "'abc' in line 19" in lines[2], "'NA' in 1 row (line 5)" in lines[3]] == [True] * 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda i: f"{i + 1}.{i:03d},{i % 100:02d}", lambda i: (i + 1) * 1000 + i + i % 100 / 100),
        (lambda i: f"{i * 50},5", lambda i: i * 50 + 0.5),
        (lambda i: f"{i + 1} {i:03d},5", lambda i: (i + 1) * 1000 + i + 0.5),
        (lambda i: f"{i + 1}'{i:03d}.25", lambda i: (i + 1) * 1000 + i + 0.25),
        (lambda i: f"+{i}.5e-3", lambda i: float(f"{i}.5e-3")),
        (lambda i: f".{i}", lambda i: float(f".{i}")),
        (lambda i: f"{i + 1}.{i:03d}" if i else "1.000,5", lambda i: (i + 1) * 1000 + i + (0 if i else 0.5)),
    ],
)
def test_numbers_are_read_by_the_one_way_that_fits_all_rows(value, expected, read):
    data, _ = read(one("n", value, separator=";"))
    np.testing.assert_allclose(in_order(data)[:, 0], [expected(i) for i in range(24)], rtol=1e-6)


def test_a_fraction_late_in_the_file_is_a_fraction(read):
    data, _ = read(one("x", lambda i: i if i != 29000 else 12.5, 30000))
    assert in_order(data)[29000, 0] == 12.5


def test_a_column_shows_how_another_one_is_to_be_read(read):
    text = table(
        ["site", "a", "b", "ill"], lambda i: (SITES[i % 3], f"{i},5", f"{i + 1}.{i:03d}", ILL[i % 2]), separator=";"
    )
    data, notes = read(text)
    assert in_order(data)[3].tolist() == [3.5, 4003]
    assert "column 'b' has thousands set apart by '.'" in notes


LEFT_OUT = {
    "leading zeros": (lambda i: f"{i * 7919 % 100000:05d}", "identifier", "text that never repeats"),
    "long numbers": (lambda i: 9007199254740993 + 2 * i if i != 5 else "", "identifier", "16 digits and more"),
    "names": (lambda i: f"patient {i}", "identifier", "text that never repeats"),
    "one value": (lambda i: 7, "constant", "holds '7' only"),
    "nothing": (lambda i: "", "constant", "holds no values"),
    "marks of gaps alone": (lambda i: "NA", "constant", "holds no values"),
    "many words": (lambda i: f"word {i // 2 % 40}", "text", "40 different values"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_no_input_is_left_out_aloud(case, read):
    value, kind, said = LEFT_OUT[case]
    lines = 80 if kind == "text" else 24
    text = table(["site", "n", "x", "ill"], lambda i: (SITES[i % 3], i, value(i), ILL[i % 2]), lines)
    data, notes = read(text)
    assert data.info.features == ("n",)
    assert field(data, "x").kind == kind
    assert any(said in note for note in notes)


def test_numbers_of_an_identifiers_name_are_left_out_and_a_running_number_is_not(read):
    text = table(["site", "patient_id", "n", "ill"], lambda i: (SITES[i % 3], 1000 + i, i, ILL[i % 2]))
    data, notes = read(text)
    assert data.info.features == ("n",)
    assert "by its name" in notes[0]
    kept, notes = read(text, kinds={"patient_id": "number"})
    assert kept.info.features == ("patient_id", "n")
    assert notes == []


CODES = {"zip": lambda i: f"{i % 4:05d}", "code": lambda i: f"{i % 3 + 1}E{i % 2 + 1}"}


@pytest.mark.parametrize("name", CODES)
def test_codes_are_text(name, read):
    data, notes = read(one(name, CODES[name]))
    assert field(data, name).kind == "category"
    assert set(field(data, name).categories) == {str(CODES[name](i)) for i in range(24)}
    assert "which is text" in notes[0]


def test_markers_belong_to_columns(read):
    text = table(
        ["country", "dose", "word", "ill"],
        lambda i: (("NA", "DE", "FR", "ZA")[i % 4], i * 2.5 if i % 4 else "NA", ("NA", "DE", "FR")[i % 3], ILL[i % 2]),
    )
    data, notes = read(text, client="country")
    assert data.client_ids == ["DE", "FR", "NA", "ZA"]
    assert data.info.features == ("dose", "dose is missing", "word = DE", "word = FR", "word = NA")
    assert any("'NA' in the client column 'country' is a client's name" in note for note in notes)
    assert any("column 'word'" in note and "kept as a value" in note for note in notes)
    gaps, _ = read(text, client="country", reading={"missing": ("NA",)}, features=["word"])
    assert gaps.info.features == ("word = DE", "word = FR", "word is missing")


def test_booleans_are_features_with_gaps_and_a_target_keeps_its_names(read):
    data, _ = read(one("smoker", lambda i: ("yes", "no", "")[i // 3 % 3]))
    assert data.info.features == ("smoker", "smoker is missing")
    assert in_order(data)[::3].tolist()[:3] == [[1, 0], [0, 0], [0, 1]]
    assert data.info.classes == ("no", "yes")


def test_frequent_categories_have_a_column_each_and_rare_ones_share_one(read):
    data, _ = read(one("word", lambda i: "abc"[i % 3] if i < 40 else f"rare {i}", 43))
    assert data.info.features == ("word = a", "word = b", "word = c", "word = other")
    np.testing.assert_array_equal(np.asarray(data.x[:]).sum(axis=0), [14, 13, 13, 3])


def test_types_of_a_frame_are_kept():
    rows = range(24)
    frame = pa.table(
        {
            "site": [SITES[i % 3] for i in rows],
            "whole": pa.array([i if i % 5 else None for i in rows], pa.int8()),
            "real": pa.array([i / 2 if i % 7 else float("nan") for i in rows], pa.float32()),
            "flag": [i % 2 == 0 for i in rows],
            "when": pa.array(np.datetime64("2024-01-01") + np.arange(24)),
            "word": pa.array(["a", "b"] * 12).dictionary_encode(),
            "lists": [[i] for i in rows],
            "grade": ["1", "2", "A"] * 8,
        }
    )
    data = fm.data.from_table(frame, client="site", target="grade")
    kinds = {entry.name: entry.kind for entry in data.info.schema.columns}
    assert kinds == {
        "site": "identifier",
        "whole": "number",
        "real": "number",
        "flag": "boolean",
        "when": "date",
        "word": "category",
        "lists": "text",
        "grade": "category",
    }
    x = in_order(data)
    assert data.info.features[:5] == ("whole", "whole is missing", "real", "real is missing", "flag")
    assert x[5, :5].tolist() == [0, 1, 2.5, 0, 0]
    assert x[7, :5].tolist() == [7, 0, 0, 1, 0]
    assert data.info.classes == ("1", "2", "A")


TASKS = {
    "words": (lambda i: "xyz"[i % 3], ("x", "y", "z"), None),
    "few whole numbers": (lambda i: i % 3 + 1, ("1", "2", "3"), "one of 3 classes"),
    "few whole numbers with decimals": (lambda i: f"{i % 3 + 1}.0", ("1", "2", "3"), "one of 3 classes"),
    "many whole numbers": (lambda i: i * 7 % 40, None, "a number, for it holds 40 different whole numbers"),
    "decimals": (lambda i: i % 3 + 0.5, None, "a number, for it has decimals"),
    "yes and no": (lambda i: ("yes", "no")[i % 2], ("no", "yes"), None),
    "leading zeros": (lambda i: f"0{i % 3}", ("00", "01", "02"), None),
}


@pytest.mark.parametrize("case", TASKS)
def test_the_task_follows_from_the_target_and_the_reason_is_said(case, read):
    value, classes, said = TASKS[case]
    data, notes = read(table(["site", "n", "ill"], lambda i: (SITES[i % 3], i, value(i)), 60))
    assert data.info.classes == classes
    assert any(said in note for note in notes) if said else not notes


def test_the_task_can_be_told(read):
    text = table(["site", "n", "ill"], lambda i: (SITES[i % 3], i, i % 3 + 1), 60)
    assert read(text, task="regression")[0].info.classes is None
    many = table(["site", "n", "ill"], lambda i: (SITES[i % 3], i, i % 30), 60)
    assert len(read(many, task="classification")[0].info.classes) == 30
    mixed = table(["site", "n", "ill"], lambda i: (SITES[i % 3], i, "12A"[i % 3]), 60)
    with pytest.raises(fm.errors.DataError, match=r"holds numbers, but 'A'.*--task classification"):
        read(mixed)
    assert read(mixed, task="classification")[0].info.classes == ("1", "2", "A")
    with pytest.raises(fm.errors.DataError, match="no regression"):
        read(plain(), task="regression")


@pytest.mark.parametrize("blank", ["", "NA", "N/A", "?"])
def test_a_missing_target_is_an_error_with_lines_and_a_count(blank, read):
    text = table(["site", "n", "ill"], lambda i: (SITES[i % 3], i, ILL[i % 2] if i not in (4, 9) else blank))
    with pytest.raises(fm.errors.DataError, match=r"in 2 rows \(line 6 and line 11\).*--drop-missing-target"):
        read(text)
    data, notes = read(text, drop_missing_target=True)
    assert data.num_examples == 22
    assert data.info.classes == ("no", "yes")
    assert "2 rows without a target left out" in notes
    if blank:
        assert read(text, classes=["no", "yes", blank])[0].info.classes == ("no", "yes", blank)


def test_a_line_of_totals_is_seen(read):
    with pytest.raises(fm.errors.DataError, match=r"blank in 1 row \(line 26\)"):
        read(plain() + "Total,276,690,\n")
