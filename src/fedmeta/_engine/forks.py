"""A process that was forked after JAX had started would wait for threads that it does not have: an error says so."""

import os
import sys

from fedmeta.errors import UsageError

_forked = False


def check_not_forked() -> None:
    """Raise a UsageError in a process that was forked from one in which JAX had computed something."""
    if _forked:
        raise UsageError(
            "this process was forked from one in which JAX had started, and would hang: start processes by spawning, "
            "as with multiprocessing.get_context('spawn')"
        )


def _note() -> None:
    global _forked
    bridge = sys.modules.get("jax._src.xla_bridge")
    # If a later JAX keeps this elsewhere, every fork counts as a fork after the start of JAX.
    _forked = _forked or (bridge is not None and bool(getattr(bridge, "_backends", True)))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note)
