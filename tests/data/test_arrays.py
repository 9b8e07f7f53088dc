from dataclasses import replace
from datetime import date
from decimal import Decimal
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.errors import DataError, UsageError


def ragged(rows):
    held = np.empty(len(rows), object)
    held[:] = rows
    return held


@given(st.lists(st.integers(-3, 20), min_size=1, max_size=50))
def test_a_client_has_its_own_rows_in_their_order(clients):
    data = fm.data.from_arrays(np.arange(len(clients)), [0] * len(clients), clients, classes=1)
    assert data.client_ids == [str(client) for client in sorted(set(clients))]
    assert data.num_examples == len(clients)
    for client in set(clients):
        rows = [row for row, owner in enumerate(clients) if owner == client]
        assert data[str(client)].x.tolist() == rows


def test_the_order_of_rows_does_not_change_the_order_of_clients():
    one = fm.data.from_arrays([1.0, 2.0, 3.0], [0, 1, 0], ["z", "a", "m"])
    assert one.client_ids == ["a", "m", "z"]


@pytest.mark.parametrize(
    ("y", "names", "codes"),
    [
        ([0, 2, 1], ("0", "1", "2"), [0, 2, 1]),
        ([5, 2, 9], ("2", "5", "9"), [1, 0, 2]),
        ([-1, 1, 1], ("-1", "1"), [0, 1, 1]),
        (["cat", "ant", "cat"], ("ant", "cat"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (np.array(["b", "a", "b"], object), ("a", "b"), [1, 0, 1]),
        (np.array([3, 4, 3], np.uint8), ("3", "4"), [0, 1, 0]),
        (np.array([b"b", "\u00e9".encode(), b"b"]), ("b", "\u00e9"), [0, 1, 0]),
        ([b"b", b"a", b"b"], ("a", "b"), [1, 0, 1]),
        (np.array([4, np.int8(3), 4], object), ("3", "4"), [1, 0, 1]),
        (np.array(["b", "a", "b"], np.dtypes.StringDType()), ("a", "b"), [1, 0, 1]),
        (["b", " ", "b"], (" ", "b"), [1, 0, 1]),
    ],
)
def test_labels_are_numbered_and_keep_their_names(y, names, codes):
    data = fm.data.from_arrays(np.zeros((3, 1)), y, ["c"] * 3)
    assert data.info.classes == names
    assert data["c"].y.tolist() == codes
    assert data["c"].y.dtype == np.int32


def test_floats_are_regression_even_where_they_are_integral():
    data = fm.data.from_arrays(np.zeros((2, 1)), [1.0, 2.0], ["c", "c"])
    assert data.num_classes is None
    assert data["c"].y.dtype == np.float32


def test_classes_may_be_more_than_are_seen():
    x, who = np.zeros((2, 1)), ["c", "c"]
    assert fm.data.from_arrays(x, [0, 5], who, classes=62).num_classes == 62
    assert fm.data.from_arrays(x, [0, 5], who, classes=np.int64(62)).num_classes == 62
    assert fm.data.from_arrays(x, ["b", "a"], who, classes=np.array(["b", "a"]))["c"].y.tolist() == [0, 1]
    assert fm.data.from_arrays(x, ["yes", "no"], who, classes=("no", "yes"))["c"].y.tolist() == [1, 0]
    assert fm.data.from_arrays(x, [0, 0], who, classes=1).num_classes == 1
    assert fm.data.from_arrays(x, ["a", "a"], who, classes=["a"]).info.classes == ("a",)
    assert fm.data.from_arrays(x, [7, 3], who, classes=("3", "7"))["c"].y.tolist() == [1, 0]
    assert fm.data.from_arrays(x, ["", "a"], who, classes=("a", ""))["c"].y.tolist() == [1, 0]


@pytest.mark.parametrize("names", [("no", "yes"), ("0", "yes")])
@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_an_integer_is_never_a_place_in_a_list_of_names(names, kind):
    x, who, y = np.zeros((2, 1)), ["c", "c"], np.array([0, 1], kind)
    says = f"y holds the integer 0, and the classes are {names[0]}, yes: labels are found by their names"
    with pytest.raises(DataError, match=says):
        fm.data.from_arrays(x, y, who, classes=names)
    data = fm.data.from_arrays(x, np.array(names)[y], who, classes=names)
    assert (data["c"].y.tolist(), data.info.classes) == ([0, 1], names)


@pytest.mark.parametrize(
    ("clients", "names"),
    [
        (np.array([b"f1", b"f0", b"f1"]), ["f0", "f1"]),
        (np.array([b"f1", "f\u00e9".encode(), b"f1"], object), ["f1", "f\u00e9"]),
        ([b"f1", b"f0", b"f1"], ["f0", "f1"]),
        (("f1", "f0", "f1"), ["f0", "f1"]),
        (np.array(["f1", "f0", "f1"], np.dtypes.StringDType()), ["f0", "f1"]),
        (np.array(["f1", "f0", "f1"], ">U2"), ["f0", "f1"]),
        ([10, np.int16(9), 10], ["9", "10"]),
        (np.array([10, 9, 10], object), ["9", "10"]),
        (np.array([10, 9, 10], ">i2"), ["9", "10"]),
        (np.array([2**63, 9, 2**63], np.uint64), ["9", str(2**63)]),
        (np.ma.array([10, 9, 10], mask=False), ["9", "10"]),
        (pa.array(["f1", "f0", "f1"]), ["f0", "f1"]),
    ],
)
def test_clients_of_one_type_keep_their_names_however_they_are_held(clients, names):
    data = fm.data.from_arrays([1.0, 2.0, 3.0], [0, 1, 0], clients)
    assert data.client_ids == names
    assert sorted(len(data[name]) for name in names) == [1, 2]
    assert data[names[int(names[0] in ("f0", "9"))]].x.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("given_type", "read_type"),
    [("i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("i8", "i4"), ("f2", "f4"), ("f4", "f4"), ("f8", "f4")],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_either_byte_order_are_read_alike(order, given_type, read_type):
    x = np.arange(6).reshape(3, 2).astype(order + given_type)
    for y, y_type in ((np.array([0, 1, 0], order + "i2"), "i4"), (np.array([0, 1, 0], order + "f8"), "f4")):
        data = fm.data.from_arrays(x, y, np.ones(3, order + "i4"))
        assert (data["1"].x.dtype, data["1"].y.dtype) == (np.dtype(read_type), np.dtype(y_type))
        assert (data["1"].x.tolist(), data["1"].y.tolist()) == ([[0, 1], [2, 3], [4, 5]], [0, 1, 0])


def test_columns_of_either_byte_order_train_alike():
    linear = fm.Model(lambda key: jnp.zeros(2), lambda w, x: x.astype(jnp.float32) @ w, fm.losses.squared_error)
    x, y, owners = np.arange(40).reshape(20, 2), np.arange(20), np.repeat([1, 2], 10)
    phi = []
    for order in "<>":
        data = fm.data.from_arrays(x.astype(order + "i2"), y.astype(order + "f4"), owners)
        direct = replace(data, x=x.astype(order + "i2"), y=y.astype(order + "f4"))
        assert direct.y.dtype.isnative == (order == "<")
        algorithm = fm.Reptile(inner_lr=1e-4)
        phi += [fm.train(algorithm, linear, each, rounds=1, cohort_size=2).state.phi for each in (data, direct)]
    assert np.all(phi[0] > 0)
    for other in phi[1:]:
        np.testing.assert_array_equal(phi[0], other)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float8_e4m3fn])
def test_floats_that_only_jax_knows_become_float32(kind):
    data = fm.data.from_arrays(jnp.array([[0.5], [2.0]], kind), jnp.array([0.5, 1.0], kind), ["c", "c"])
    assert (data["c"].x.tolist(), data["c"].y.tolist()) == ([[0.5], [2.0]], [0.5, 1.0])
    assert data["c"].x.dtype == data["c"].y.dtype == np.float32


@pytest.mark.parametrize(
    ("given_type", "read_type"),
    [("f8", "f4"), ("f4", "f4"), ("f2", "f4"), ("?", "f4"), ("u1", "u1"), ("i4", "i4"), ("i8", "i4")],
)
def test_inputs_are_float32_and_codes_stay_integers(given_type, read_type):
    data = fm.data.from_arrays(np.ones((2, 3), given_type), [0, 1], ["c", "c"])
    assert data["c"].x.dtype == np.dtype(read_type)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.array([[1, np.nan], [np.inf, 2], [3, 4]])}, r"2 values .* client 'a', column 1, row 0"),
        ({"x": np.full((3, 2), 1e300)}, "6 values that are not finite"),
        ({"x": np.array([[1, "a"], [2, 3], [4, 5]], object)}, "type object"),
        ({"x": [[1, 2], [3], [4, 5]]}, "different shapes"),
        ({"x": np.zeros((4, 2))}, "x has 4, y has 3, clients has 3"),
        ({"x": np.full((3, 1), 2**40)}, "32 bits"),
        ({"y": [0, 1, -1], "classes": 2}, "label -1"),
        ({"y": [0, 1, 7], "classes": 3}, "label 7"),
        ({"y": ["a", "b", "z"], "classes": ("a", "b")}, "label 'z', which is none of the classes a, b"),
        ({"y": [0, 1, "two"]}, "mixes types"),
        ({"y": [0, 0, 0]}, "y holds one class only, '0'; a classifier needs two"),
        ({"y": [7, 7, 7]}, "y holds one class only, '7'"),
        ({"y": ["a", "a", "a"]}, "y holds one class only, 'a'"),
        ({"y": [True, True, True]}, "y holds one class only, 'True'"),
        ({"y": np.array(["a", 1, "b"], object)}, r"mixes types: text \(row 0: 'a'\) and an integer"),
        ({"y": ["a", None, "b"]}, "None in row 1"),
        ({"y": [0.5, np.nan, 1.0]}, "not finite"),
        ({"clients": ["a", "", "b"]}, "client in row 1"),
        ({"clients": [1.0, 2.0, np.nan]}, "text or an integer"),
        ({"features": ("one",)}, "1 names"),
        ({"x": 3.0}, "leading axis"),
        ({"x": np.array(3.0)}, "leading axis"),
        ({"x": None}, "leading axis"),
        ({"x": np.array([[1, 2], [3, None], [5, 6]], object)}, "holds None in row 1"),
        ({"x": ragged([[1], [1, 2], [3]])}, r"holds \[1\] in row 0"),
        ({"x": np.ones((3, 1), complex)}, "type complex128; inputs are real"),
        ({"x": np.zeros(3, [("age", "i4"), ("sex", "f4")])}, "a record of age, sex; give its fields as several inputs"),
        ({"x": np.zeros(3, "M8[s]")}, "type datetime64"),
        ({"x": np.ma.array(np.ones((3, 2)), mask=[[0, 0], [0, 1], [1, 1]])}, "x holds 3 masked values"),
        ({"x": [np.ma.array([1.0, 2.0], mask=[0, 1])] * 3}, "x holds 3 masked values"),
        ({"x": MappingProxyType({"a": np.ones(3)})}, "x is a mappingproxy; several inputs are given as a dict"),
        ({"x": [10**400, 0.5, 1]}, "type object"),
        ({"y": ["a", "", "b"]}, "y is empty in row 1"),
        ({"y": np.array([b"a", b"", b"b"])}, "y is empty in row 1"),
        ({"y": ["a", "", "b"], "classes": ["a", "b"]}, "y is empty in row 1"),
        ({"y": np.array([b"a", b"\xe9", b"b"])}, r"y holds the bytes b'\\xe9' in row 1 .* no text in UTF-8"),
        ({"y": [1, "1", 0]}, r"an integer \(row 0: 1\) and text \(row 1: '1'\)"),
        ({"y": [True, 2, 0]}, "a boolean .* and an integer"),
        ({"y": [b"a", "a", "b"]}, "bytes .* and text"),
        ({"y": [0, np.ma.masked, 1]}, "y holds 1 masked"),
        ({"y": np.ma.array([0, 1, 0], mask=[1, 0, 1])}, "y holds 2 masked"),
        ({"y": np.array([1j, 0, 1])}, "type complex128; targets are real"),
        ({"y": np.zeros(3, "M8[s]")}, "type datetime64"),
        ({"y": [date(2024, 1, 1)] * 3}, "datetime.date"),
        ({"y": [Decimal(1)] * 3}, "Decimal"),
        ({"y": np.zeros(3, [("a", "i4")])}, "targets are real"),
        ({"y": [2**63, -1, 0]}, "9223372036854775808, which is beyond 64 bits"),
        ({"y": [2**70, 1, 0]}, "beyond 64 bits"),
        ({"y": {"a": [0, 1, 0]}}, "y is a dict"),
        ({"y": np.array(["a", None, "b"], np.dtypes.StringDType(na_object=None))}, "None in row 1"),
        ({"clients": [1, 1, "1"]}, r"clients mixes types: an integer \(row 0: 1\) and text \(row 2: '1'\)"),
        ({"clients": np.array([1, 1, "1"], object)}, "clients mixes types"),
        ({"clients": [np.int64(1), np.str_("1"), 1]}, "clients mixes types"),
        ({"clients": ["a", b"a", "b"]}, r"text \(row 0: 'a'\) and bytes"),
        ({"clients": [True, 1, 2]}, "a boolean .* and an integer"),
        ({"clients": np.array([True, False, True])}, "row 0 .* is True; it must be text or an integer"),
        ({"clients": ["a", np.nan, "b"]}, "text .* and a float .*nan"),
        ({"clients": np.array(["a", None, "b"], object)}, "clients holds None in row 1"),
        ({"clients": pa.array(["a", None, "b"])}, "clients holds None in row 1"),
        ({"clients": np.array([b"a", b" ", b"b"])}, "client in row 1"),
        ({"clients": np.array([b"a", b"\xff", b"b"])}, r"clients holds the bytes b'\\xff' in row 1"),
        ({"clients": np.zeros(3, "M8[D]")}, r"row 0 .*1970, 1, 1\)"),
        ({"clients": [date(2024, 1, 1)] * 3}, "datetime.date"),
        ({"clients": [1j, 2j, 3j]}, "1j"),
        ({"clients": np.ma.array([1, 2, 3], mask=[0, 1, 0])}, "clients holds 1 masked"),
        ({"clients": [2**70, 1, 2]}, "beyond 64 bits"),
        ({"clients": ["a", "a\0", "b"]}, "ends in a null character"),
        ({"clients": [["a"], ["b"], ["c"]]}, r"shape \[examples\]"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    arguments = {"x": np.zeros((3, 2)), "y": [0, 1, 0], "clients": ["a", "b", "a"]} | change
    with pytest.raises(DataError, match=message):
        fm.data.from_arrays(**arguments)


def test_a_value_that_is_not_finite_is_named_by_its_feature():
    with pytest.raises(DataError, match="client 'north', column 'age'"):
        fm.data.from_arrays([[1.0, np.nan]], [0], ["north"], features=("sex", "age"))


def test_no_examples_are_refused():
    with pytest.raises(DataError, match="no examples"):
        fm.data.from_arrays(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int))


def test_classes_that_do_not_fit_the_targets_are_refused():
    with pytest.raises(UsageError, match="holds floats"):
        fm.data.from_arrays([[1.0]], [0.5], ["a"], classes=2)
    with pytest.raises(UsageError, match="give the names"):
        fm.data.from_arrays([[1.0]], ["x"], ["a"], classes=2)
    with pytest.raises(UsageError, match="class 'a' is named twice"):
        fm.data.from_arrays([[1.0]], ["a"], ["c"], classes=["a", "b", "a"])
