"""Reads values of a study's file: names that are unknown and values of another type are refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmeta.errors import UnknownName, UsageError

NUMBER: tuple[type, ...] = (int, float)
LIST: tuple[type, ...] = (list,)

Known = Mapping[str, tuple[type, ...]]
"""By name, the types that a value may have."""

_WORDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table"}


def check(given: Any, known: Known, where: str) -> None:
    """Raise a UsageError for a name that is unknown, or a value of another type."""
    if not isinstance(given, dict):
        raise UsageError(f"{where} is a table of names and values, not {given!r:.60}")
    for name, value in given.items():
        if name not in known:
            raise UnknownName(f"name in {where}:", name, known)
        if type(value) not in known[name]:
            wanted = " or ".join(_WORDS[kind] for kind in known[name])
            raise UsageError(f"{where}: {name} must be {wanted}, not {value!r:.60}")


def check_names(given: Mapping[str, Any], where: str) -> None:
    """Raise a UsageError for a name that cannot be part of a file's name, or of a list of names."""
    for name in given:
        if not name or name.startswith(".") or not name.isprintable() or set(name) & set("/\\,"):
            raise UsageError(
                f"{where}: a name has no slash and no comma, and begins with no point, unlike {name!r:.60}"
            )


def numbers(given: Sequence[Any], where: str) -> list[float]:
    """Return a list of finite numbers."""
    for value in given:
        if type(value) not in NUMBER or not math.isfinite(value):
            raise UsageError(f"{where} holds numbers, not {value!r}")
    return [float(value) for value in given]


def counts(given: Sequence[Any], where: str) -> tuple[int, ...]:
    """Return a list of whole numbers above 0 that differ."""
    for value in given:
        if type(value) is not int or value < 1:
            raise UsageError(f"{where} holds whole numbers from 1 on, not {value!r}")
    if len(set(given)) < len(given):
        raise UsageError(f"{where} holds numbers that differ, not {list(given)}")
    return tuple(given)


def names(given: Sequence[Any], where: str, known: Sequence[str] | None = None) -> list[str]:
    """Return a list of names, each once; those that are known where that is given."""
    for value in given:
        if not isinstance(value, str):
            raise UsageError(f"{where} holds names, not {value!r}")
        if known is not None and value not in known:
            raise UnknownName(f"name in {where}:", value, known)
    return list(dict.fromkeys(given))


def spelled(read: Callable[[str], Any], text: str, where: str) -> Any:
    """Return what a text says that is written as on the command line."""
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
