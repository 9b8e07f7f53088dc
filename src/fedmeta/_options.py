"""Options of named rules: checked, kept as Python numbers, and made into a rule by name."""

import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from fedmeta.errors import UnknownName, UsageError


def make(kind: str, table: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> Any:
    """Return the rule of that name in a table of dataclasses, with these fields.

    Raises:
        UsageError: no such name, no such field, a field without a default that is not given, or a value out of range.
    """
    if name not in table:
        raise UnknownName(kind, name, table)
    known = [field.name for field in fields(table[name])]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    missing = [
        field.name
        for field in fields(table[name])
        if field.default is MISSING and field.default_factory is MISSING and field.name not in options
    ]
    if missing:
        raise UsageError(f"{kind} {name} needs {' and '.join(missing)}")
    return table[name](**options)


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number of at least `least`, and at most `most` where that is given.

    Raises:
        UsageError: it is no whole number, or out of that range.
    """
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be {wanted}, not {value!r}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise UsageError(f"{name} must be {wanted}, not {value!r}")
    return number


def real(name: str, value: Any, wanted: str, *, above: float = -math.inf, least: float = -math.inf) -> float:
    """Return a finite number above `above` and of at least `least`; `wanted` says so in words.

    Raises:
        UsageError: it is no number, or not such a one.
    """
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > above and number >= least):
        raise UsageError(f"{name} must be {wanted}, not {value!r}")
    return number


def keep(rule: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass to their converted values."""
    for name, value in values.items():
        object.__setattr__(rule, name, value)
