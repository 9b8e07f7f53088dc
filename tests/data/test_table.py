import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import fedmeta as fm
from fedmeta.data.schema import Field, Schema
from fedmeta.errors import DataError, UnknownName, UsageError

CSV = "site,age,smokes,ill\nwest,50,true,yes\neast,61,false,no\nwest,38,false,no\n"


@pytest.fixture
def csv_file(tmp_path):
    def write(text=CSV, name="visits.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_all_other_columns_are_features(csv_file):
    data = fm.data.from_table(csv_file(), client="site", target="ill")
    assert data.info.features == ("age", "smokes")
    assert data.info.classes == ("no", "yes")
    assert data.info.name == "visits"
    assert data.client_ids == ["east", "west"]
    assert data["west"].x.tolist() == [[50, 1], [38, 0]]
    assert data["west"].y.tolist() == [1, 0]
    assert data["west"].x.dtype == np.float32


def test_csv_parquet_and_frames_give_the_same(csv_file, tmp_path):
    one = fm.data.from_table(csv_file(), client="site", target="ill", features=["age"])
    frame = pa.table({"site": ["west", "east", "west"], "age": [50, 61, 38], "ill": ["yes", "no", "no"]})
    pyarrow.parquet.write_table(frame, tmp_path / "visits.parquet")

    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return frame.__arrow_c_stream__(requested_schema)

    for table in (frame, Stream(), tmp_path / "visits.parquet", frame.to_pydict()):
        other = fm.data.from_table(table, client="site", target="ill")
        assert other.info.classes == one.info.classes
        for name in one.client_ids:
            np.testing.assert_array_equal(other[name].x, one[name].x)
            np.testing.assert_array_equal(other[name].y, one[name].y)


def test_categories_are_what_they_stand_for():
    frame = pa.table({"c": pa.array(["a", "b"]).dictionary_encode(), "x": [1, 2], "y": pa.array(["u", "v"])})
    frame = frame.set_column(2, "y", frame["y"].dictionary_encode())
    data = fm.data.from_table(frame, client="c", target="y")
    assert (data.client_ids, data.info.classes) == (["a", "b"], ("u", "v"))


def test_float_targets_are_regression_and_integers_are_classes(csv_file):
    path = csv_file("c,x,whole,real\na,1,3,3.0\na,2,4,4.5\n")
    assert fm.data.from_table(path, client="c", target="real").info.classes is None
    assert fm.data.from_table(path, client="c", target="whole").info.classes == ("3", "4")


def test_numbered_clients_are_in_the_order_of_their_numbers(csv_file):
    path = csv_file("c,x,y\n10,1,0\n9,2,1\n")
    assert fm.data.from_table(path, client="c", target="y").client_ids == ["9", "10"]


def test_spellings_of_a_number_are_different_clients_of_a_csv(csv_file):
    data = fm.data.from_table(csv_file("c,x,y\n007,1,0\n7,2,1\n10,3,1\n"), client="c", target="y")
    assert data.client_ids == ["007", "10", "7"]
    assert [data[name].x.tolist() for name in data.client_ids] == [[[1]], [[3]], [[2]]]
    data = fm.data.from_table(csv_file("c,x,y\n1.50,1,0\n1.5,2,1\ntrue,3,1\n"), client="c", target="y")
    assert data.client_ids == ["1.5", "1.50", "true"]
    assert fm.data.from_table(csv_file("c,x,y\nNA,1,0\nDE,2,1\n"), client="c", target="y").client_ids == ["DE", "NA"]


def test_the_clients_of_a_frame_keep_their_type():
    frame = pa.table({"c": [1.5, 2.0], "x": [1, 2], "y": [0, 1]})
    with pytest.raises(DataError, match="the client column 'c' holds numbers with decimals"):
        fm.data.from_table(frame, client="c", target="y")


@pytest.mark.parametrize("column", ["client", "target", "features"])
def test_a_missing_column_is_named_with_the_nearest(csv_file, column):
    arguments = {"client": "site", "target": "ill"} | {column: ["agge"] if column == "features" else "agge"}
    with pytest.raises(UnknownName, match=r"column of .*visits.csv 'agge': did you mean 'age'"):
        fm.data.from_table(csv_file(), **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("site,age,ill\nw,50,yes\n\nw,old,no\n", r"'age' holds numbers, but 'old' in line 4"),
        ('site,age,ill\n"w\nw",50,1\nw,x,2\n', r"'x' in line 4"),
        ("site,age,ill\nw,50,1\nw,60,maybe\n", r"'ill' holds numbers, but 'maybe' in line 3"),
        ("site,age,ill\nw,50,1\nw,inf,0\n", r"'age' holds numbers, but 'inf' in line 3"),
        ("site,age,ill\nw,50,1\nw,2,\n", r"'ill' is blank in 1 row \(line 3\)"),
        ("site,age,ill\nw,50,yes\nw,40,\ne,55,no\n", r"column 'ill' is blank in 1 row \(line 3\)"),
        ('site,age,ill\nw,50,yes\n\nw,40,""\ne,55,no\n', r"column 'ill' is blank in 1 row \(line 4\)"),
        ("site,age,ill\nw,50,yes\nw,40,no\ne,55,  \n", r"column 'ill' is blank in 1 row \(line 4\)"),
        ("site,age,ill\nw,50,yes\nw,40,NA\ne,55,no\n", r"'ill' is 'NA' in 1 row \(line 3\)"),
        ("site,age,ill\nw,50,yes\nw,40, n/a\ne,55,no\n", r"'ill' is 'n/a' in 1 row"),
        ("site,age,ill\nw,50,yes\nw,40,nan\ne,55,no\n", r"'ill' is 'nan' in 1 row"),
        ("site,age,ill\nw,50,true\nw,40,\ne,55,false\n", r"'ill' is blank in 1 row \(line 3\)"),
        ("site,age,ill\nw,50,1\n  ,2,1\n", r"'site' is empty in 1 row \(line 3\)"),
        ("site,age,ill\nw,50,1\n,2,1\n", r"'site' is empty in 1 row \(line 3\)"),
        ("site,age,ill\n1,50,1\n,2,1\n", r"'site' is empty in 1 row \(line 3\)"),
        ("site,age,ill\n1,50,1\nNA,2,1\n", r"'site' has no client, but 'NA', in line 3"),
        ("site,age,ill\nw,50,a\nw,60,a\n", "column 'ill' holds one class only, 'a'; a classifier needs two"),
        (
            "site,age,ill\nw,7,a\nw,7,b\n",
            "no column is left for the features: column 'age' is left out: it holds '7' only",
        ),
        ("site,age,ill\n", "has no rows"),
        ("", "is empty"),
        ("site,age,ill\nw,1\n", r"1 line has more or fewer cells: line 2 \(2\)"),
        ("site,age,age,ill\nw,1,1,1\n", "columns 2 and 3 are all called 'age'"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_place(csv_file, text, message):
    with pytest.raises(DataError, match=message):
        fm.data.from_table(csv_file(text), client="site", target="ill")


@pytest.mark.parametrize("kind", ["frame", "parquet"])
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("ill", ["yes", None, "no"], r"'ill' is blank in 1 row \(row 1 \(counted from 0\)\)"),
        ("ill", ["yes", "", "no"], r"'ill' is blank in 1 row"),
        ("ill", ["yes", " \t", "no"], r"'ill' is blank in 1 row"),
        ("ill", pa.array(["yes", "", "no"]).dictionary_encode(), r"'ill' is blank in 1 row"),
        ("ill", [b"yes", b"", b"no"], r"'ill' is blank in 1 row"),
        ("ill", [b"yes", None, b"no"], r"'ill' is blank in 1 row"),
        ("ill", [b"yes", b"\xe9", b"no"], r"'ill' holds b'\\xe9' in row 1 .*no text in UTF-8"),
        ("ill", [True, None, False], r"'ill' is blank in 1 row"),
        ("ill", [1, None, 0], r"'ill' is blank in 1 row"),
        ("ill", [0.5, float("nan"), 0.5], r"'ill' is blank in 1 row"),
        ("site", ["w", None, "e"], r"'site' is empty in 1 row"),
        ("site", ["w", "  ", "e"], r"'site' is empty in 1 row"),
        ("site", [b"w", b"", b"e"], r"'site' is empty in 1 row"),
        ("site", [b"w", b"\xff", b"e"], r"'site' holds b'\\xff' in row 1"),
        ("site", [True, False, True], r"'site' is of the type bool; it needs text or whole"),
        ("site", pa.array([0, 1, 2], pa.date32()), r"'site' is of the type date32"),
    ],
)
def test_what_is_missing_in_a_frame_is_said_with_its_row(tmp_path, kind, column, values, message):
    table = pa.table({"site": ["w", "w", "e"], "age": [1, 2, 3], "ill": ["yes", "no", "no"]} | {column: values})
    if kind == "parquet":
        pyarrow.parquet.write_table(table, tmp_path / "visits.parquet")
        table = tmp_path / "visits.parquet"
    with pytest.raises(DataError, match=message) as caught:
        fm.data.from_table(table, client="site", target="ill")
    assert str(caught.value).count("\n") in (0, 2)


def test_a_text_that_stands_for_missing_is_a_class_where_it_is_said_to_be_one(csv_file):
    path = csv_file("c,x,y\na,1,NA\na,2,DE\nb,3,NA\n")
    data = fm.data.from_table(path, client="c", target="y", classes=["DE", "NA"])
    assert data["a"].y.tolist() == [1, 0]
    assert fm.data.read_examples(path, data.info.schema)[1].tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"'y' holds 'NA' in line 2 and line 4, and the classes are 'DE' and 'FR'"):
        fm.data.read_examples(path, data.info.schema.changed("y", categories=("DE", "FR")))
    frame = pa.table({"c": ["a", "b"], "x": [1, 2], "y": ["NA", "DE"]})
    assert fm.data.from_table(frame, client="c", target="y", classes=["DE", "NA"]).info.classes == ("DE", "NA")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view()])
def test_bytes_of_a_frame_are_the_text_that_they_are(kind):
    frame = pa.table({"c": pa.array([b"f0", b"f1"], kind), "x": [1, 2], "y": pa.array([b"no", b"ye"], kind)})
    data = fm.data.from_table(frame, client="c", target="y")
    assert (data.client_ids, data.info.classes) == (["f0", "f1"], ("no", "ye"))


def test_a_column_has_one_use(csv_file):
    for arguments in (
        {"client": "ill", "target": "ill"},
        {"client": "site", "target": "ill", "features": ["ill"]},
        {"client": "site", "target": "ill", "features": []},
    ):
        with pytest.raises(UsageError):
            fm.data.from_table(csv_file(), **arguments)


def schema(*features, classes=None, target="y"):
    """A schema of numbers, and of classes or a number to predict."""
    held = Field(name=target, role="target", kind="category" if classes else "number", type="any", categories=classes)
    return Schema((*(Field(name=name) for name in features), held), "classification" if classes else "regression")


def test_examples_are_read_with_the_columns_of_training(csv_file):
    path = csv_file("ill,extra,smokes,age\nno,x,1,7\nyes,y,0,8\n")
    x, y = fm.data.read_examples(path, schema("age", "smokes", classes=("no", "yes"), target="ill"))
    assert x.tolist() == [[7, 1], [8, 0]]
    assert y is not None
    assert (x.dtype, y.dtype, y.tolist()) == (np.float32, np.int32, [0, 1])


def test_labels_of_training_keep_their_numbers(csv_file):
    _, y = fm.data.read_examples(csv_file("x,y\n1,9\n2,4\n"), schema("x", classes=("2", "4", "9")))
    assert y is not None
    assert y.tolist() == [2, 1]


def test_a_label_that_is_no_class_is_named(csv_file):
    with pytest.raises(DataError, match=r"'perhaps' in line 2, and the classes are 'no' and 'yes'"):
        fm.data.read_examples(csv_file("x,y\n1,perhaps\n"), schema("x", classes=("no", "yes")))


def test_regression_targets_may_be_written_as_integers(csv_file):
    _, y = fm.data.read_examples(csv_file("x,y\n1,9\n2,4\n"), schema("x"))
    assert y is not None
    assert (y.dtype, y.tolist()) == (np.float32, [9, 4])


def test_targets_may_be_absent_where_they_are_not_needed(csv_file):
    path = csv_file("x,z\n1,1\n2,1\n")
    assert fm.data.read_examples(path, schema("x"), need_target=False)[1] is None
    with pytest.raises(DataError, match="no column 'y'"):
        fm.data.read_examples(path, schema("x"))


def test_examples_of_any_shape_come_as_npz(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, x=np.ones((3, 28, 28, 1)), y=[1, 0, 1])
    x, y = fm.data.read_examples(path, classes=("0", "1"))
    assert y is not None
    assert (x.shape, x.dtype, y.tolist()) == ((3, 28, 28, 1), np.float32, [1, 0, 1])
    np.savez(path, x=np.ones((3, 80), np.int64))
    x, y = fm.data.read_examples(path, need_target=False)
    assert (x.dtype, y) == (np.int32, None)


@pytest.mark.parametrize(("given", "read"), [(">i2", "i2"), (">u2", "u2"), (">i8", "i4"), (">f2", "f4"), (">f8", "f4")])
def test_an_npz_of_another_byte_order_is_turned(tmp_path, given, read):
    np.savez(tmp_path / "big.npz", x=np.arange(6).reshape(3, 2).astype(given), y=np.array([1, 0, 1], ">i2"))
    x, y = fm.data.read_examples(tmp_path / "big.npz", classes=("0", "1"))
    assert (x.tolist(), x.dtype, y.tolist()) == ([[0, 1], [2, 3], [4, 5]], np.dtype(read), [1, 0, 1])
    assert fm.data.read_examples(tmp_path / "big.npz")[1].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.ones(3)}, "no array x, but z"),
        ({"x": np.array([1.0, np.nan])}, "not finite"),
        ({"x": np.ones(3), "y": np.ones(2, int)}, "y has the shape"),
        ({"x": np.ones(0), "y": np.ones(0, int)}, "no examples"),
        ({"x": np.ones(2), "y": np.array([0, 5])}, "label '5'"),
        ({"x": np.ones(2), "y": np.array([0.5, 1])}, "holds floats"),
        ({"x": np.ones(2), "y": np.array([[0], [1]])}, r"y of .* has the shape \(2, 1\); labels have .* \(2,\)"),
        ({"x": np.ones(2), "y": np.array(1)}, r"y has the shape \(\)"),
        ({"x": np.array(1.0), "y": np.array([1])}, r"x of .* of shape \(\)"),
        ({"x": np.array(["a"])}, "not an array of numbers"),
        ({"x": np.ones(2, complex)}, "complex128 of shape .*, not an array of numbers"),
        ({"x": np.ones(2), "y": np.array([b"0", b"\xff"])}, "no text in UTF-8"),
        ({"x": np.ones(2), "y": np.array(["0", ""])}, "y of .* is empty in row 1"),
        ({"x": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_what_is_wrong_in_an_npz_is_said(tmp_path, arrays, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        fm.data.read_examples(path, classes=("0", "1"))


def test_the_labels_of_an_npz_are_names_and_never_places_in_their_list(tmp_path):
    path = tmp_path / "labels.npz"
    np.savez(path, x=np.ones(2), y=np.array([0, 1]))
    with pytest.raises(DataError, match=r"y of .*labels\.npz holds the integer 0, and the classes are no, yes"):
        fm.data.read_examples(path, classes=("no", "yes"))
    np.savez(path, x=np.ones(2), y=np.array(["yes", "no"]))
    assert fm.data.read_examples(path, classes=("no", "yes"))[1].tolist() == [1, 0]


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK not a zip")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("broken.npz", "array.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            fm.data.read_examples(tmp_path / name)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_npz_is_refused_wherever_the_damage_lies(tmp_path, compressed):
    path = tmp_path / "damaged.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=np.arange(64.0).reshape(32, 2), y=np.arange(32) % 2)
    whole = path.read_bytes()
    places = range(0, len(whole), 7)
    damaged = [whole[:place] for place in places]
    damaged += [whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in places]
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            fm.data.read_examples(path, classes=("0", "1"))
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > len(damaged) / 2
    assert "\n" not in "".join(refused)


def test_targets_that_are_not_needed_are_not_read(csv_file, tmp_path):
    for labels in ("1,\n2,\n", "1,perhaps\n2,0\n", "1,2024-01-01\n2,2024-01-02\n"):
        path = csv_file("x,y\n" + labels)
        x, y = fm.data.read_examples(path, schema("x", classes=("no", "yes")), need_target=False)
        assert (x.tolist(), y) == ([[1], [2]], None)
    for target in (np.array([5, 6, 7]), np.array([{}], object)):
        np.savez(tmp_path / "some.npz", x=np.ones(2), y=target)
        assert fm.data.read_examples(tmp_path / "some.npz", classes=("0", "1"), need_target=False)[1] is None


def test_a_model_of_arrays_takes_no_table(csv_file):
    with pytest.raises(UsageError, match=r"\.npz"):
        fm.data.read_examples(csv_file(), classes=("no", "yes"))
