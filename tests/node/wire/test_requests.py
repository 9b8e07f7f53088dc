from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.wire import codec
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.node.errors import RequestRefused
from fedmeta.node.wire.requests import (
    MAX_HEADER,
    Receiver,
    Request,
    check_body,
    check_request,
    sign_request,
)

KEY = Key.from_seed(bytes(32))
OTHER = Key.from_seed(bytes([1]) * 32)
RECEIVER = Receiver(digest(b"genesis"), "hub", 95, 105)
REQUEST = Request(RECEIVER.genesis, "alice", "hub", "PUT", "/updates/7/alice/0", digest(b"body"), 100, bytes(32))
KEYS = {"alice": KEY.public, "bob": OTHER.public}


def refused(value, receiver=RECEIVER, method="PUT", path=REQUEST.path, keys=KEYS):
    with pytest.raises(RequestRefused) as caught:
        check_request(value, receiver, method, path, keys)
    return caught.value.code


def test_a_signed_request_says_who_asks_and_what():
    request = check_request(sign_request(KEY, REQUEST), RECEIVER, "PUT", REQUEST.path, KEYS)
    assert request == REQUEST
    check_body(request, b"body")


def test_the_longest_header_fits():
    longest = replace(REQUEST, sender="a" * 32, height=2**53 - 1)
    assert len(sign_request(KEY, longest)) <= MAX_HEADER


def test_a_request_opens_nothing_elsewhere():
    value = sign_request(KEY, REQUEST)
    assert refused(value, replace(RECEIVER, name="rim")) == "bad-signature"
    assert refused(value, replace(RECEIVER, genesis=digest(b"another"))) == "bad-signature"
    assert refused(value, method="GET") == "bad-signature"
    assert refused(value, path="/updates/7/alice/1") == "bad-signature"
    assert refused(value, replace(RECEIVER, low=101, high=111)) == "bad-height"
    assert refused(value, replace(RECEIVER, low=89, high=99)) == "bad-height"


@pytest.mark.parametrize(("height", "taken"), [(94, False), (95, True), (105, True), (106, False)])
def test_the_window_has_both_its_ends(height, taken):
    value = sign_request(KEY, replace(REQUEST, height=height))
    if taken:
        assert check_request(value, RECEIVER, "PUT", REQUEST.path, KEYS).height == height
    else:
        assert refused(value) == "bad-height"


def test_another_body_is_refused():
    with pytest.raises(RequestRefused, match="not the one that 'alice' signed") as caught:
        check_body(REQUEST, b"Body")
    assert caught.value.code == "bad-body"


def test_nobody_signs_in_anothers_name():
    assert refused(sign_request(OTHER, REQUEST)) == "bad-signature"
    assert refused(sign_request(KEY, replace(REQUEST, sender="bob"))) == "bad-signature"
    assert refused(sign_request(KEY, REQUEST), keys={"bob": OTHER.public}) == "stranger"


FIELDS = ["alice", digest(b""), 100, b"", bytes(64)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "!",
        "é",
        "x" * (MAX_HEADER + 1),
        FIELDS[:4],
        [*FIELDS, b""],
        dict.fromkeys("abcde"),
        ["Alice", *FIELDS[1:]],
        [*FIELDS[:1], bytes(31), *FIELDS[2:]],
        [*FIELDS[:2], -1, *FIELDS[3:]],
        [*FIELDS[:2], 2**53, *FIELDS[3:]],
        [*FIELDS[:3], bytes(31), FIELDS[4]],
        [True, *FIELDS[1:]],
    ],
)
def test_a_header_that_cannot_be_read_is_unsigned(value):
    if isinstance(value, list | dict):
        from base64 import urlsafe_b64encode

        value = urlsafe_b64encode(codec.encode(value)).decode()
    assert refused(value) == "unsigned"


@given(st.integers(0, 239), st.sampled_from("ABCDEFGHabcdefgh0123456789-_"))
def test_a_changed_character_is_refused_or_changes_nothing(at, character):
    value = sign_request(KEY, REQUEST)
    changed = value[: at % len(value)] + character + value[at % len(value) + 1 :]
    try:
        assert check_request(changed, RECEIVER, "PUT", REQUEST.path, KEYS) == REQUEST
        assert changed[:-1] == value[:-1]  # only the bits beyond the last byte may differ
    except RequestRefused as error:
        assert error.code in ("unsigned", "bad-signature", "stranger", "bad-height")  # noqa: PT017


@pytest.mark.parametrize("field", ["genesis", "sender", "receiver", "method", "path", "body", "height", "reply"])
def test_every_field_is_signed(field):
    changed = {"height": 101}.get(field, getattr(REQUEST, field)[:-1] if field != "height" else None)
    assert replace(REQUEST, **{field: changed}).digest() != REQUEST.digest()
