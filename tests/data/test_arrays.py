import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.errors import DataError, UsageError


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
    assert fm.data.from_arrays(x, [0, 1], who, classes=("no", "yes"))["c"].y.tolist() == [0, 1]
    assert fm.data.from_arrays(x, ["yes", "no"], who, classes=("no", "yes"))["c"].y.tolist() == [1, 0]
    assert fm.data.from_arrays(x, [0, 0], who, classes=1).num_classes == 1
    assert fm.data.from_arrays(x, ["a", "a"], who, classes=["a"]).info.classes == ("a",)
    assert fm.data.from_arrays(x, [7, 3], who, classes=("3", "7"))["c"].y.tolist() == [1, 0]


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
