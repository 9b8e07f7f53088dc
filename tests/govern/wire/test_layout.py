"""A record has one byte form, comes back from it alone, and a declaration that cannot hold is refused."""

import dataclasses
from dataclasses import astuple, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.errors import UsageError
from fedmeta.govern.errors import Malformed, StateError
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.layout import LAYOUTS, decode_record, encode_record, key_of, layout, part, record, replace


@part
@dataclass(frozen=True, slots=True)
class Span:
    start: int
    label: str | None


@record("toy-plain", key=("name", "place"), index=("place",))
@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    place: int
    open: bool
    data: bytes


@record("toy-rich", key=("mark",))
@dataclass(frozen=True, slots=True)
class Rich:
    mark: bytes
    spans: tuple[Span, ...]
    pair: tuple[str, tuple[int, ...]]
    maybe: Span | None
    other: tuple[bool, int] | None


@record("toy-single", key=())
@dataclass(frozen=True, slots=True)
class Single:
    amount: int


OURS = {kind: LAYOUTS.pop(kind) for kind in ("toy-plain", "toy-rich", "toy-single")}

integers = st.integers(-(1 << 100), 1 << 100)
spans = st.builds(Span, integers, st.none() | st.text(max_size=5))
plains = st.builds(Plain, st.text(max_size=8), integers, st.booleans(), st.binary(max_size=8))
riches = st.builds(
    Rich,
    st.binary(max_size=8),
    st.lists(spans, max_size=3).map(tuple),
    st.tuples(st.text(max_size=3), st.lists(integers, max_size=3).map(tuple)),
    st.none() | spans,
    st.none() | st.tuples(st.booleans(), integers),
)
singles = st.builds(Single, integers)


@pytest.fixture(autouse=True, scope="module")
def declared():
    LAYOUTS.update(OURS)
    yield
    for kind in OURS:
        del LAYOUTS[kind]


@given(plains | riches | singles)
def test_a_record_comes_back_equal_and_of_the_same_types(value):
    data = encode_record(value)
    back = decode_record(data)
    assert back == value
    assert repr(back) == repr(value)
    assert hash(back) == hash(value)
    assert encode_record(back) == data


@given(plains | riches | singles)
def test_the_bytes_are_the_kind_and_the_fields_in_their_order(value):
    assert encode_record(value) == codec.encode([layout(type(value)).kind, *astuple(value)])


def test_the_key_is_always_a_tuple():
    assert key_of(Plain("a", 1, True, b"")) == ("a", 1)
    assert key_of(Rich(b"m", (), ("", ()), None, None)) == (b"m",)
    assert key_of(Single(3)) == ()


@pytest.mark.parametrize(
    "value",
    [
        Plain("a", True, True, b""),
        Plain("a", 1, 1, b""),
        Plain("a", None, True, b""),
        Plain(b"a", 1, True, b""),
        Plain("a", 1, True, bytearray()),
        Plain("\ud800", 1, True, b""),
        Plain("a", 1 << 5000, True, b""),
        Single(1.0),
        Rich(b"", [], ("", ()), None, None),
        Rich(b"", (1,), ("", ()), None, None),
        Rich(b"", (), ("", (), 1), None, None),
        Rich(b"", (), ("", [1]), None, None),
        Rich(b"", (), ("", ()), Single(1), None),
        Rich(b"", (), ("", ()), Span("1", None), None),
        Rich(b"", (), ("", ()), None, (1, 1)),
    ],
)
def test_a_field_of_another_type_than_declared_is_malformed(value):
    with pytest.raises(Malformed):
        encode_record(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "toy-single",
        [1],
        ["unknown", 1],
        ["toy-single"],
        ["toy-single", 1, 2],
        ["toy-single", "1"],
        ["toy-single", True],
        ["toy-single", None],
        ["toy-single", [1]],
        ["toy-rich", b"", [], ["", []], None],
        ["toy-rich", b"", [[1]], ["", []], None, None],
        ["toy-rich", b"", [[1, None, 2]], ["", []], None, None],
        ["toy-rich", b"", [], ["", [], 0], None, None],
        ["toy-rich", b"", [], ["", ["x"]], None, None],
        ["toy-rich", b"", [], None, None, None],
        ["toy-rich", b"", {}, ["", []], None, None],
        ["toy-rich", b"", [], ["", []], [1, 2], None],
    ],
)
def test_a_value_that_is_no_record_is_malformed(value):
    with pytest.raises(Malformed):
        decode_record(codec.encode(value))


def test_bytes_that_are_not_canonical_are_malformed():
    good = encode_record(Single(3))
    with pytest.raises(Malformed):
        decode_record(good[:-1] + b"\x18\x03")
    with pytest.raises(Malformed):
        decode_record(good + b"\0")


def test_what_is_not_declared_is_no_record():
    @dataclass(frozen=True)
    class Stray:
        a: int

    with pytest.raises(StateError, match="Stray is not declared as a record"):
        encode_record(Stray(1))
    with pytest.raises(StateError, match="int is not declared as a record"):
        key_of(3)


def test_two_records_cannot_be_of_one_kind():
    with pytest.raises(UsageError, match="two records of kind 'toy-single': Single and Twin"):

        @record("toy-single", key=())
        @dataclass(frozen=True)
        class Twin:
            a: int


@pytest.mark.parametrize(("key", "index"), [(("b",), ()), (("a",), ("b",))])
def test_key_and_index_must_be_fields(key, index):
    with pytest.raises(UsageError, match="record 'toy-bad' has no field 'b': its fields are a"):

        @record("toy-bad", key=key, index=index)
        @dataclass(frozen=True)
        class Bad:
            a: int


def test_a_key_field_must_have_an_order():
    with pytest.raises(UsageError, match="key field 'a' of record 'toy-bad' must be a str, an int or bytes"):

        @record("toy-bad", key=("a",))
        @dataclass(frozen=True)
        class Bad:
            a: int | None


@pytest.mark.parametrize("hint", [float, list[int], dict[str, int], Single, int | str, object, tuple, set[int]])
def test_a_field_of_a_type_without_a_form_is_refused(hint):
    class Bad:
        __annotations__ = {"a": hint}

    with pytest.raises(UsageError, match="cannot hold a field of type"):
        record("toy-bad", key=())(dataclass(frozen=True)(Bad))
    assert "toy-bad" not in LAYOUTS


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (Plain("a", 1, True, b""), {}),
        (Plain("a", 1, True, b""), {"place": 2, "open": False}),
        (Rich(b"", (Span(1, "x"),), ("", ()), Span(2, None), None), {"maybe": None, "other": (True, 3)}),
        (Single(1), {"amount": 0}),
        (Span(1, "x"), {"label": None}),
    ],
)
def test_to_replace_fields_gives_what_the_standard_library_gives(value, changes):
    before = astuple(value)
    assert replace(value, **changes) == dataclasses.replace(value, **changes)
    assert type(replace(value, **changes)) is type(value)
    assert astuple(value) == before
    with pytest.raises(TypeError, match="no field 'nothing'"):
        replace(value, **changes, nothing=1)
