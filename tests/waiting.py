"""Waiting for a condition, never for a moment."""

import time

PATIENCE = 120
"""Seconds in which what is waited for must have come: far more than it takes on a machine that is busy."""


def until(done, seconds=PATIENCE):
    """Wait until a condition holds, and return what it gave."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"{seconds} s have passed in vain"
        time.sleep(0.01)
    return found
