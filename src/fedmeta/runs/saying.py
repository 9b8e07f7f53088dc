"""A run in a few lines that a person reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_BESIDE = ("round", "bytes_down", "bytes_up", "flops", "seconds", "clients")
_VALIDATION = "validation_"


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the history of a run shows: how many clients took part, and the last figures.

    Args:
        rows: the history, a row a round.
    """
    if not rows:
        return []
    clients = {name for row in rows for name in row.get("clients", ())}
    lines = [f"clients that took part: {len(clients)}", f"training, round {rows[-1]['round']}: {_figures(rows[-1])}"]
    looks = [row for row in rows if any(name.startswith(_VALIDATION) for name in row)]
    if looks:
        lines.append(f"validation, round {looks[-1]['round']}: {_figures(looks[-1], _VALIDATION)}")
    return lines


def counted(rounds: int) -> str:
    """Return a number of rounds in words."""
    return "1 round" if rounds == 1 else f"{rounds} rounds"


def _figures(row: Mapping[str, Any], prefix: str = "") -> str:
    """Return the figures whose names begin with the prefix, or those of training where there is none."""
    chosen = {
        name.removeprefix(prefix): value
        for name, value in row.items()
        if name not in _BESIDE and name.startswith(_VALIDATION) == bool(prefix)
    }
    said = (
        f"{name} {format(value, '.4g') if math.isfinite(value) else 'not finite'}" for name, value in chosen.items()
    )
    return ", ".join(said)
