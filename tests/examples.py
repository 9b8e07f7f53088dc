"""How many examples a property has, and how many cells of a table a test goes through."""

import os

import pytest
from hypothesis import settings

TIMES = int(os.environ.get("FEDMETA_SOAK", "0"))

in_soak = pytest.mark.skipif(not TIMES, reason="takes its time: in `make soak`")
"""Marks a test for `make soak` only."""


def cells(some, every):
    """Return some cells of a table of cases; in `make soak` every one."""
    return every if TIMES else some


def examples(count, **options):
    """Return settings: half as many examples, the same each time; in `make soak` many times as many, and others."""
    return settings(max_examples=count * TIMES or (count + 1) // 2, derandomize=not TIMES, **options)
