"""Results that are kept by the keys of the arguments."""

import gc
import weakref

import pytest

import fedmeta as fm
from fedmeta._keys import memoise
from tests.keys.made import Plain


def test_a_memoised_function_runs_once_for_what_was_made_alike():
    calls = 0

    @memoise(maxsize=2)
    def build(model, *, lr):
        """Say what it builds."""
        nonlocal calls
        calls += 1
        return object()

    first = build(fm.models.mlp((2, 3)), lr=0.1)
    assert build(fm.models.mlp((2, 3)), lr=0.1) is first
    assert build(fm.models.mlp((2, 3)), lr=1) is not first
    assert calls == 2
    assert build.__doc__ == "Say what it builds."


def test_a_memoised_function_keeps_no_more_than_it_may_and_drops_what_was_used_longest_ago():
    made = []

    @memoise(maxsize=2)
    def build(n):
        made.append(n)
        return Plain(n)

    dropped = weakref.ref(build(1))
    build(2)
    build(1)
    build(3)
    build(1)
    assert (made, len(build)) == ([1, 2, 3], 2)
    build(2)
    assert made == [1, 2, 3, 2]
    build.clear()
    gc.collect()
    assert len(build) == 0
    assert dropped() is None
    build(1)
    assert made == [1, 2, 3, 2, 1]


def test_an_error_is_not_kept_and_a_size_of_nothing_is_refused():
    calls = []

    @memoise(maxsize=1)
    def build(n):
        calls.append(n)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            build(1)
    assert calls == [1, 1]
    with pytest.raises(fm.errors.UsageError, match="maxsize is 0"):
        memoise(0)
