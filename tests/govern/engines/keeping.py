"""Ledgers that need their blocks for a short while only: it takes no 1,450 of them until some can be pruned."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fedmeta.govern.machine import application
from fedmeta.govern.state.state import State

KEPT = 35
"""Blocks that are still needed here, in the place of those of the unbonding period."""


def retain(state: State) -> int:
    """Return the oldest block that is still needed."""
    return max(1, state.height - KEPT)


@contextmanager
def short_memory() -> Iterator[None]:
    """Let all ledgers in this process need their last blocks only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "_retain", retain)
        yield
