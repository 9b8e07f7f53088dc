"""A table is read right, or refused with its lines and what to do; what was guessed is said."""

import bz2
import gzip
import logging
import lzma
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from tests.small_tables import ILL, SITES, one, plain, table

import fedmeta as fm

USES = {"client": "site", "target": "ill"}


@pytest.fixture
def written(tmp_path):
    """Write a file and return its path."""

    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def read(written, caplog):
    """Write a file, read it, and return the data set and what was said."""

    def do(content, name="t.csv", **told):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fedmeta.data"):
            data = fm.data.from_table(written(content, name), **{**USES, **told})
        return data, [record.getMessage().partition(": ")[2] for record in caplog.records]

    return do


def refused(read, content, match, **told):
    with pytest.raises(fm.errors.DataError, match=match) as caught:
        read(content, **told)
    return str(caught.value)


def same(data, other):
    """Check that two data sets hold the same examples."""
    assert data.info.features == other.info.features
    assert data.info.classes == other.info.classes
    assert data.client_ids == other.client_ids
    np.testing.assert_array_equal(np.asarray(data.x[:]), np.asarray(other.x[:]))
    np.testing.assert_array_equal(np.asarray(data.y[:]), np.asarray(other.y[:]))


@pytest.fixture
def right():
    """What the plain table holds, from arrays."""
    rows = range(24)
    return fm.data.from_table(
        {
            "site": [SITES[i % 3] for i in rows],
            "n": list(rows),
            "dose": [2.5 * i for i in rows],
            "ill": [ILL[i % 2] for i in rows],
        },
        **USES,
    )


TAB, SEMICOLON = "the cells are separated by a tab", "the cells are separated by a semicolon"
QUOTED = table(["site", "n", "dose", "ill"], lambda i: (SITES[i % 3], i, f'"{i * 2.5}"'.replace(".", ","), ILL[i % 2]))
AT_THE_END = plain().replace("\n", ",\n")
FORMS = {
    "commas": (plain(), "t.csv", []),
    "tabs": (plain(separator="\t"), "t.tsv", []),
    "tabs in a csv": (plain(separator="\t"), "t.csv", [TAB]),
    "bars": (plain(separator="|"), "t.csv", ["the cells are separated by a bar"]),
    "semicolons": (plain(separator=";"), "t.csv", [SEMICOLON]),
    "semicolons and decimal commas": (plain(separator=";", decimal=","), "t.csv", [SEMICOLON]),
    "decimal commas in quotes": (QUOTED, "t.csv", []),
    "a spreadsheet's export": ("\ufeff" + plain(separator=";", decimal=","), "t.csv", [SEMICOLON]),
    "a spreadsheet's own word": ("sep=;\n" + plain(separator=";", decimal=","), "t.csv", []),
    "UTF-16": (plain().encode("utf-16"), "t.csv", []),
    "UTF-16, the other way round": (b"\xfe\xff" + plain().encode("utf-16-be"), "t.csv", []),
    "a comment": ("# exported in 2024\n" + plain(), "t.csv", ["line 1 begins with # and is left out as a comment"]),
    "returns": (plain().replace("\n", "\r\n"), "t.csv", []),
    "old returns": (plain().replace("\n", "\r"), "t.csv", []),
    "blanks": (plain().replace(",", ", "), "t.csv", ["blanks around cells", "blanks around the names"]),
    "blank lines": (plain().replace("\n", "\n\n"), "t.csv", []),
    "rows without a value": (plain() + ",,,\n,,,\n", "t.csv", ["2 rows without a value left out"]),
    "a separator at the end": (AT_THE_END, "t.csv", ["column 5 left out: it has neither"]),
    "a separator at the end of rows": (AT_THE_END.replace("ill,", "ill"), "t.csv", ["column 5 left out"]),
    "packed by gzip": (gzip.compress(plain().encode()), "t.csv.gz", []),
    "packed by bzip2": (bz2.compress(plain().encode()), "t.csv.bz2", []),
    "packed by xz": (lzma.compress(plain(separator="\t").encode()), "t.tsv.xz", []),
    "packed by zstandard": (pa.compress(plain().encode(), "zstd", asbytes=True), "t.csv.zst", []),
    "all in quotes": (plain().replace("\n", '"\n"').replace(",", '","').join(('"', '"'))[:-2], "t.csv", []),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_form_gives_the_same_examples(form, read, right):
    content, name, said = FORMS[form]
    data, notes = read(content, name)
    same(data, right)
    assert len(notes) == len(said), notes
    for note, part in zip(notes, said, strict=True):
        assert note.startswith(part)


def test_windows_1252_is_read_and_the_words_that_show_it_are_said(read):
    words = ("Zürich", "Genève", "“c” €")
    text = table(["site", "n", "ill"], lambda i: (words[i % 3], i, ILL[i % 2]))
    data, notes = read(text.encode("cp1252"))
    assert set(data.client_ids) == set(words)
    assert notes == [
        "read as Windows-1252, which gives 'Zürich', 'Genève' and '“c”'; --encoding says otherwise",
    ]
    told, notes = read(text.encode("latin-1", "replace"), reading={"encoding": "latin-1"})
    assert "Zürich" in told.client_ids
    assert notes == []


def test_bytes_of_no_encoding_are_refused_with_the_line(read):
    refused(read, plain().encode().replace(b"b,1,", b"\x81,1,"), r"neither UTF-8 nor Windows-1252 \(line 3\)")
    refused(read, plain().encode("utf-16-le"), "UTF-16 without a mark")
    refused(read, plain().encode().replace(b"b,1,", b"\xff,1,"), "is not utf-8.*line 3", reading={"encoding": "utf-8"})
    with pytest.raises(fm.errors.UsageError, match="no encoding 'utf-9'"):
        read(plain(), reading={"encoding": "utf-9"})


def test_a_name_with_a_comma_or_a_blank_can_be_told(read):
    text = plain().replace("site,n,dose,ill", 'site,"weight, kg",my dose,ill')
    assert read(text, features=["weight, kg"])[0].info.features == ("weight, kg",)
    assert read(text, features=["weight, kg", "my dose"])[0].info.features == ("weight, kg", "my dose")
    assert read(text, exclude=["weight, kg"])[0].info.features == ("my dose",)
    assert read(plain(), features=["n, dose"])[0].info.features == ("n", "dose")


LONGER = plain().replace("c,11,27.5,yes", "c,11,27.5,yes,9")
OPENED = one("n", lambda i: i).replace("\nb,7", '\n"b,7')


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (plain().replace("a,12,30.0,no", "a,12"), r"line 14 \(2\).*--skip-lines 14"),
        (LONGER, r"line 13 \(5\)"),
        (LONGER.replace("a,3,", "a,"), r"2 lines have .*line 5 \(3\) and line 13 \(5\)"),
        ("x,y\n" + plain().replace("b,", '"b\nb",'), r"has 2 cells, but most lines have 4"),
        (OPENED, "line 9 opens a quote that nothing closes"),
        (OPENED.replace("\na,15", '\na",15'), r"quotes in line 9 hold .* lines that look like rows"),
        (plain().replace("n,dose", "x,x"), "columns 2 and 3 are all called 'x'"),
        ("Report of trial 7\nCreated 2024-05-01\n\n" + plain(), "say --skip-lines 1-2"),
        (plain().split("\n", 1)[1], r"line 1 \('a,0,0.0,no'\) looks like a row.*--names"),
        (plain().replace("\n", "\n,count,mg,\n", 1), r"line 2 .*row of units, say --skip-lines 2"),
        (plain().replace("n,", ",", 1).replace(",7,", ",x,"), "column 2 has no name"),
        ("", "is empty"),
        ("site,n,ill\n", "has no rows"),
        ("site\na\nb\n", "no line has a comma"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named_with_its_lines(content, match, read):
    refused(read, content, match)


def test_what_the_messages_say_is_a_way_out(read, right):
    same(read("Report of trial 7\nCreated 2024-05-01\n\n" + plain(), reading={"skip_lines": (1, 2)})[0], right)
    same(read(plain().replace("\n", "\n,count,mg,\n", 1), reading={"skip_lines": (2,)})[0], right)
    same(read(plain().split("\n", 1)[1], reading={"names": ("site", "n", "dose", "ill")})[0], right)
    same(read("Report; 7\n" + plain(), reading={"comment": "Report"})[0], right)
    same(read(plain(separator="~"), reading={"separator": "~"})[0], right)
    same(read(plain(separator="\t"), reading={"separator": "tab"})[0], right)
    with pytest.raises(fm.errors.UsageError, match=r"names line 99, but .* has 26"):
        read(plain(), reading={"skip_lines": (99,)})
    with pytest.raises(fm.errors.UsageError, match=r"unknown way to read a table 'seperator'.*separator"):
        read(plain(), reading={"seperator": ";"})


def test_a_line_break_in_quotes_is_part_of_the_cell_and_lines_are_counted_on(read):
    text = plain().replace("\nb,", '\n"b\nb",').replace("a,12,30.0,no", "a,12,x,no")
    message = refused(read, text, "column 'dose' holds numbers, but 'x'")
    lines = text.split("\n")
    assert f"in line {lines.index('a,12,x,no') + 1}:" in message


LEFT = "a running number, as data frames write it"


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "...1", "rownames", "X"])
def test_a_running_number_that_a_frame_left_is_dropped_aloud(name, read, right):
    lines = plain().splitlines()
    text = "\n".join([f"{name},{lines[0]}", *(f"{row + 1},{line}" for row, line in enumerate(lines[1:]))])
    data, notes = read(text)
    same(data, right)
    assert len(notes) == 1
    assert notes[0].startswith("column 1")
    assert notes[0].endswith(LEFT)


def test_names_of_rows_are_dropped_and_a_column_of_that_name_which_is_none_is_kept(read, right):
    lines = plain().splitlines()
    # R writes a header that is shorter than the rows.
    text = "\n".join([lines[0], *(f"row {row},{line}" for row, line in enumerate(lines[1:]))])
    data, notes = read(text)
    same(data, right)
    assert "names of rows" in notes[0]
    kept, notes = read(plain().replace("site,n,", "site,X,").replace("a,3,", "a,1,"))
    assert kept.info.features == ("X", "dose")
    assert notes == []


def test_a_frames_index_is_dropped_and_a_named_one_kept(right, caplog):
    rows = range(24)
    columns = {"n": list(rows), "dose": [2.5 * i for i in rows], "ill": [ILL[i % 2] for i in rows]}
    sites = [SITES[i % 3] for i in rows]
    frame = pa.table({"site": sites, **columns, "__index_level_0__": [2 * i for i in rows]})
    same(fm.data.from_table(frame, **USES), right)
    assert LEFT in caplog.text
    same(fm.data.from_table(pa.table({**columns, "site": sites}), **USES), right)


def test_folders_of_parquet_files_are_one_table(tmp_path, right):
    rows = [{"site": SITES[i % 3], "n": i, "dose": 2.5 * i, "ill": ILL[i % 2]} for i in range(24)]
    spark = tmp_path / "spark.parquet"
    spark.mkdir()
    (spark / "_SUCCESS").touch()
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(rows[8 * part : 8 * part + 8]), spark / f"part-0000{part}.snappy.parquet")
    same(fm.data.from_table(spark, **USES), right)
    hive = tmp_path / "hive"
    for site in ("007", "008", "7"):
        (hive / f"site={site}").mkdir(parents=True)
        part = pa.table({"n": range(8), "ill": list(ILL) * 4})
        pq.write_table(part, hive / f"site={site}" / "part-0.parquet")
    assert fm.data.from_table(hive, **USES).client_ids == ["007", "008", "7"]


def test_parts_that_differ_are_refused(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, column in enumerate(("dose", "Dose")):
        part = pa.table({"site": list("abcabcab"), column: range(8), "ill": list(ILL) * 4})
        pq.write_table(part, folder / f"part-{number}.parquet")
    with pytest.raises(fm.errors.DataError, match=r"part-1.parquet lacks 'dose' and has 'Dose' more"):
        fm.data.from_table(folder, **USES)
    pq.write_table(
        pa.table({"site": list("abcabcab"), "dose": list("abcabcab"), "ill": list(ILL) * 4}), folder / "part-1.parquet"
    )
    with pytest.raises(fm.errors.DataError, match=r"in part-1.parquet, 'dose' is string, not int64"):
        fm.data.from_table(folder, **USES)


def test_what_is_no_table_gets_a_message_of_its_own(tmp_path, written):
    with pytest.raises(fm.errors.DataError, match=r"__arrow_c_stream__.*not list"):
        fm.data.from_table([1, 2], **USES)
    with pytest.raises(fm.errors.UsageError, match=r"of a kind that is not read; tables are .csv"):
        fm.data.from_table(written(plain(), "t.json"), **USES)
    with pytest.raises(fm.errors.DataError, match="there is no file"):
        fm.data.from_table(tmp_path / "none.csv", **USES)
    for name in ("t.parquet", "t.csv.gz", "t.csv.xz", "t.csv.bz2", "t.csv.zst"):
        with pytest.raises(fm.errors.DataError, match="cannot be read"):
            fm.data.from_table(written(plain(), name), **USES)


class TestWorkbooks:
    """What a spreadsheet holds is read as its CSV file would be."""

    @pytest.fixture
    def workbook(self, written):
        def make(sheets, name="t.xlsx"):
            path = written(b"", name)
            with xlsxwriter.Workbook(path, {"default_date_format": "dd.mm.yyyy"}) as book:
                for title, rows in sheets.items():
                    sheet = book.add_worksheet(title)
                    for place, row in enumerate(rows):
                        sheet.write_row(place, 0, row)
            return path

        return make

    def test_the_first_filled_sheet_is_read_aloud(self, workbook, right, caplog):
        rows = [["site", "n", "dose", "ill"], *([SITES[i % 3], i, 2.5 * i, ILL[i % 2]] for i in range(24))]
        path = workbook({"empty": [], "patients": rows, "notes": [["to do"]]})
        same(fm.data.from_table(path, **USES), right)
        assert "read from the sheet 'patients' of 'patients' and 'notes'; --sheet says otherwise" in caplog.text
        same(fm.data.from_table(path, **USES, reading={"sheet": "patients"}), right)
        with pytest.raises(fm.errors.UsageError, match="has no sheet 'Patients', but 'empty', 'patients' and 'notes'"):
            fm.data.from_table(path, **USES, reading={"sheet": "Patients"})


def test_a_workbook_without_its_package_names_the_extra(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(fm.errors.MissingPackage, match=r"fedmeta\[excel\]"):
        fm.data.from_table(written(b"", "t.xlsx"), **USES)
