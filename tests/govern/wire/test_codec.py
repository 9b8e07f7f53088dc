"""Every value has one byte form; everything else is refused, by one error, in little time and memory."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from tests.examples import examples

# RFC 8949, appendix A, as far as the profile goes.
PUBLISHED = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (18446744073709551616, "c249010000000000000000"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-18446744073709551617, "c349010000000000000000"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]

# The other items of that appendix, and what else a decoder may stumble over.
REFUSED = {
    "half float": "f90000",
    "negative zero": "f98000",
    "single float": "fa47c35000",
    "double float": "fb3ff199999999999a",
    "infinity": "f97c00",
    "not a number": "f97e00",
    "not a number in 8 bytes": "fb7ff8000000000000",
    "undefined": "f7",
    "simple value 16": "f0",
    "simple value 255": "f8ff",
    "false in two bytes": "f814",
    "date as text": "c074323031332d30332d32315432303a30343a30305a",
    "date as a number": "c11a514b67b0",
    "base 16 text": "d74401020304",
    "CBOR in CBOR": "d818456449455446",
    "address": "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
    "self-described CBOR": "d9d9f700",
    "shared value": "d81c80",
    "reference to a shared value": "82d81c80d81d00",
    "string reference": "d90100826161d81900",
    "set": "d9010280",
    "decimal fraction": "c48221196ab3",
    "decimal fraction of a gigantic exponent": "c4821b7fffffffffffffff01",
    "decimal fraction of a large exponent": "c4821a7fffffff01",
    "bigfloat": "c5822003",
    "bigfloat of a gigantic exponent": "c5821b7fffffffffffffff01",
    "rational": "d81e820102",
    "regular expression": "d8236161",
    "bignum that an integer head holds": "c24101",
    "bignum at 64 bits": "c248ffffffffffffffff",
    "bignum with a leading zero": "c24a00010000000000000000",
    "empty bignum": "c240",
    "empty negative bignum": "c340",
    "bignum of an integer": "c201",
    "bignum of a list": "c28101",
    "bignum of a bignum": "c2c249010000000000000000",
    "bignum of an indefinite string": "c25f49010000000000000000ff",
    "bignum of too many bits": "c2590201" + "01" + "00" * 512,
    "integer 0 in two bytes": "1800",
    "integer 23 in two bytes": "1817",
    "integer 255 in three bytes": "1900ff",
    "integer 65535 in five bytes": "1a0000ffff",
    "integer 1 in nine bytes": "1b0000000000000001",
    "negative integer in two bytes": "3800",
    "length in two bytes": "580101",
    "text length in three bytes": "79000161",
    "list length in two bytes": "980100",
    "map length in two bytes": "b801616100",
    "indefinite bytes": "5f42010243030405ff",
    "indefinite text": "7f657374726561646d696e67ff",
    "indefinite list": "9fff",
    "indefinite map": "bfff",
    "break alone": "ff",
    "reserved head": "1c",
    "indefinite integer": "1f",
    "indefinite tag": "df00",
    "nothing": "",
    "head cut short": "19ff",
    "text cut short": "6261",
    "list cut short": "8201",
    "map cut short": "a16161",
    "trailing byte": "0000",
    "list of 2^64 - 1": "9bffffffffffffffff",
    "list of 2^32 - 1": "9affffffff",
    "map of 2^63 - 1": "bb7fffffffffffffff",
    "bytes of 2^64 - 1": "5bffffffffffffffff",
    "text of 2^63 - 1": "7b7fffffffffffffff",
    "invalid UTF-8": "62ff00",
    "overlong UTF-8": "62c080",
    "surrogate in UTF-8": "63eda080",
    "beyond Unicode": "64f4908080",
    "duplicate key": "a2616100616100",
    "keys out of order": "a2616200616100",
    "keys beyond ASCII out of order": "a262c3a900627a7a00",
    "longer key first": "a262616100616200",
    "integer key": "a10000",
    "bytes key": "a14000",
    "list key": "a18000",
    "map key": "a1a000",
    "null key": "a1f600",
}

integers = st.integers(-(1 << 70), 1 << 70) | st.integers(-(1 << 4096), (1 << 4096) - 1)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=40) | st.text(max_size=30)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=30), inner, max_size=5)
)


def head(major, number):
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << (8 * size):
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise AssertionError(number)


def reference(value):
    """The profile of the module's docstring, written down a second time."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        major, number = (0, value) if value >= 0 else (1, -1 - value)
        if number < 1 << 64:
            return head(major, number)
        payload = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return head(6, 2 + major) + head(2, len(payload)) + payload
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(reference, value))
    pairs = sorted((reference(key), reference(item)) for key, item in value.items())
    return head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


def nested(value, depth):
    for _ in range(depth):
        value = [value]
    return value


def decodes_or_is_malformed(data):
    try:
        value = codec.decode(data)
    except Malformed:
        return
    assert codec.encode(value) == data


@pytest.mark.parametrize(("value", "form"), PUBLISHED)
def test_the_published_examples_come_out(value, form):
    assert codec.encode(value).hex() == form
    decoded = codec.decode(bytes.fromhex(form))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("form", REFUSED.values(), ids=REFUSED)
def test_what_is_not_the_one_form_is_refused(form):
    data = bytes.fromhex(form)
    for wrapped in (data, b"\x81" + data, b"\xa1\x61a" + data, b"\x82\x00" + data, b"\x82" + data + b"\xa0"):
        with pytest.raises(Malformed):
            codec.decode(wrapped)


@given(values)
def test_a_value_has_the_bytes_of_the_reference_and_comes_back(value):
    data = codec.encode(value)
    assert data == reference(value)
    assert codec.decode(data) == value


@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=2), st.randoms())
def test_the_order_of_insertion_leaves_no_trace(value, rng):
    shuffled = list(value.items())
    rng.shuffle(shuffled)
    assert codec.encode(dict(shuffled)) == codec.encode(value)


@given(st.lists(scalars, max_size=4))
def test_a_tuple_is_a_list(items):
    assert codec.encode(tuple(items)) == codec.encode(items)
    assert codec.encode({"a": (tuple(items),)}) == codec.encode({"a": [items]})


@given(st.binary(max_size=80))
@examples(400)
def test_random_bytes_raise_nothing_but_malformed(data):
    decodes_or_is_malformed(data)


@given(values, st.data())
@examples(300)
def test_damaged_bytes_raise_nothing_but_malformed(value, data):
    good = codec.encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    damage = data.draw(st.binary(max_size=10))
    decodes_or_is_malformed(good[:at] + damage + good[at:])
    decodes_or_is_malformed(good[:at] + damage + good[at + len(damage) :])
    with pytest.raises(Malformed):
        codec.decode(good[:at])
    with pytest.raises(Malformed):
        codec.decode(good + b"\x00" + damage)


@pytest.mark.parametrize(
    "payload", ["00", "1864", "20", "4101", "49010000000000000000", "6161", "6a323031332d30332d3231"]
)
def test_a_tag_is_refused_unless_it_makes_a_bignum(payload):
    for tag in [*range(300), 1004, 43000, 55799, 1 << 16, 1 << 32, (1 << 64) - 1]:
        data = head(6, tag) + bytes.fromhex(payload)
        if tag in (2, 3) and payload.startswith("49"):
            assert abs(codec.decode(data)) >= 1 << 64
        else:
            with pytest.raises(Malformed, match="no tags but bignums are allowed" if tag not in (2, 3) else None):
                codec.decode(data)


@given(st.integers(0, (1 << 64) - 1), values)
def test_a_tag_around_any_value_raises_nothing_but_malformed(tag, value):
    decodes_or_is_malformed(head(6, tag) + codec.encode(value))


@pytest.mark.parametrize(
    "data",
    [
        b"\x81" * 1_000_000,
        b"\xa1\x61a" * 300_000,
        b"\xc2" * 1_000_000,
        b"\xd8\x1c" * 500_000,
        b"\x9a\x00\x0f\xff\xff" * 200_000,
        b"\xba\x00\x0f\xff\xff\x61a" * 100_000,
        b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff" + b"\x00" * 1_000_000,
        b"\x5a\x7f\xff\xff\xff" + b"\x00" * 1_000_000,
        b"\x7a\x7f\xff\xff\xff" + b"a" * 1_000_000,
        b"\xc2\x5a\x00\x0f\x00\x00" + b"\xff" * 0xF0000,
        b"\x9a\x00\x0f\x00\x00" + b"\xf9\x00\x00" * 300_000,
    ],
    ids=lambda data: data[:8].hex(),
)
def test_large_hostile_bytes_are_refused_in_little_memory(data):
    tracemalloc.start()
    with pytest.raises(Malformed):
        codec.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def test_bytes_over_the_limit_are_refused_before_they_are_read():
    data = codec.encode(bytes(1 << 20))
    with pytest.raises(Malformed, match="at most 1048576"):
        codec.decode(data)
    assert codec.decode(data, limit=len(data)) == bytes(1 << 20)
    with pytest.raises(Malformed, match="4 bytes are too many: at most 3"):
        codec.decode(codec.encode("abc"), limit=3)


@pytest.mark.parametrize("leaf", [0, 1 << 70, "a", [], {}])
def test_containers_nest_sixteen_deep_and_no_deeper(leaf):
    depth = codec.MAX_DEPTH - isinstance(leaf, list | dict)
    deepest = nested(leaf, depth)
    assert codec.decode(codec.encode(deepest)) == deepest
    with pytest.raises(Malformed, match="at most 16 levels"):
        codec.encode([deepest])
    with pytest.raises(Malformed):
        codec.decode(b"\x81" + codec.encode(deepest))


def test_what_nests_in_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(Malformed, match="at most 16 levels"):
        codec.encode(loop)
    with pytest.raises(Malformed, match="at most 16 levels"):
        codec.encode(nested(0, 100_000))


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {1, 2},
        frozenset(),
        bytearray(b"a"),
        memoryview(b"a"),
        object(),
        Ellipsis,
        1j,
        {1: 2},
        {b"a": 1},
        {None: 1},
        {10**5000: 1},
        struct,
        int,
        type("Sub", (int,), {})(3),
        type("Sub", (str,), {})("a"),
        type("Sub", (dict,), {})(),
        1 << 4096,
        -(1 << 4096) - 1,
        10**6000,
        "\ud800",
        "a\udfff" * 100,
        {"\ud800": 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_outside_of_the_profile_is_refused(value):
    for wrapped in (value, [value], {"a": [1, value]}):
        with pytest.raises(Malformed):
            codec.encode(wrapped)


@pytest.mark.parametrize("value", [(1 << 4096) - 1, -(1 << 4096)])
def test_the_largest_integers_pass_and_can_be_printed(value):
    decoded = codec.decode(codec.encode(value))
    assert decoded == value
    assert int(str(decoded)) == value
