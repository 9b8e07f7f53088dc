"""The list of mutants fits the tree; `python -m tests.node.mutants` tries them."""

import pytest

from tests.node.mutants import MUTANTS, ROOT, SOURCE, stale


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.breaks)
def test_a_mutant_stands_once_in_its_file_and_compiles(mutant):
    assert not stale(mutant)
    assert mutant.old != mutant.new
    text = (ROOT / SOURCE / mutant.file).read_text().replace(mutant.old, mutant.new)
    compile(text, mutant.file, "exec")
