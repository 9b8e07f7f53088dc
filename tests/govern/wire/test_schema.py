"""Text: which characters it may have is written down, and does not depend on what an interpreter knows of Unicode."""

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import EVENTS
from fedmeta.govern.wire.schema import checker

REFUSED = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x200B,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xD800, 0xE000),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
}
"""Controls, line separators, marks that turn the direction or are not seen, surrogates."""


CHECK = checker(tx.SetProfile)


def allowed(text):
    try:
        CHECK({"title": text, "address": "", "tls": b"", "next_tls": b""})
    except Refused as refusal:
        return refusal.code != "bad-value"
    return True


@pytest.mark.parametrize("code", [0x1F6DC, 0x2FFC, 0x31350])
def test_characters_that_some_python_does_not_know_yet_are_allowed_in_text(code):
    assert allowed(chr(code))


def test_the_refused_characters_are_a_list_that_is_fixed():
    for start in range(0, 0x110000, 40):
        codes = range(start, start + 40)
        if not REFUSED.intersection(codes):
            assert allowed("".join(chr(code) for code in codes if code < 0x110000)), hex(start)
        else:
            for code in codes:
                assert allowed(chr(code)) == (code not in REFUSED), hex(code)


def test_text_has_200_bytes_at_most_in_utf_8():
    assert allowed("a" * 200)
    assert allowed("\u00e9" * 100)
    assert not allowed("\u00e9" * 100 + "a")
    assert not allowed("a" * 201)


def test_no_words_that_an_interpreter_chooses_are_hashed_with_a_refused_transaction():
    assert list(EVENTS["transaction-refused"].__dataclass_fields__) == ["index", "digest", "code"]
