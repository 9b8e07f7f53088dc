"""The list of mutants fits the tree; `make mutants` tries them."""

import pytest

from tests.govern.mutants import ROOT, SOURCE, stale
from tests.govern.sabotages import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.breaks)
def test_a_mutant_stands_once_in_its_file_and_compiles(mutant):
    assert not stale(mutant)
    text = (ROOT / SOURCE / mutant.file).read_text().replace(mutant.old, mutant.new)
    compile(text, mutant.file, "exec")


def test_no_mutant_is_there_twice_and_none_changes_nothing():
    assert len({(one.file, one.old, one.new) for one in MUTANTS}) == len(MUTANTS) >= 30
    assert all(one.old != one.new and one.tests for one in MUTANTS)
