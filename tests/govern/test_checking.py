"""While tests run, the ledger's annotations are checked: `tests/conftest.py` says how."""

from dataclasses import replace

import pytest
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
