"""While tests run, the ledger's annotations are checked: `tests/conftest.py` says how."""

import warnings
from dataclasses import replace

import pytest
from beartype import beartype
from beartype.door import die_if_unbearable
from beartype.roar import BeartypeCallHintViolation

from fedmeta.govern.machine.header import Header
from fedmeta.govern.wire.signatures import digest


def test_a_function_does_not_take_what_its_annotations_exclude():
    with pytest.raises(BeartypeCallHintViolation):
        digest("text")


def test_a_record_does_not_hold_what_its_annotations_exclude():
    header = Header(bytes(32), 1, 2, *(bytes(32) for _ in range(4)))
    with pytest.raises(BeartypeCallHintViolation):
        replace(header, height="1")


def test_reading_annotations_holds_back_no_warning_of_another_thread(monkeypatch):
    def refuse(_):
        raise AssertionError("warnings are held back")

    def twice(some: dict[str, frozenset[int]]) -> tuple[frozenset[int], ...]:
        return (*some.values(), *some.values())

    with monkeypatch.context() as held:
        held.setattr(warnings.catch_warnings, "__enter__", refuse)
        assert beartype(twice)({"a": frozenset({1})}) == (frozenset({1}),) * 2
        die_if_unbearable([{"a": (1, 2)}], list[dict[str, tuple[int, ...]]])
