"""Values by their names and fields: what a procedure is written in, and read from."""

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from fedmeta.aggregators import AGGREGATORS
from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UnknownName, UsageError
from fedmeta.optimisers import OPTIMISERS
from fedmeta.transforms import TRANSFORMS

TABLES: dict[str, Mapping[str, type]] = {
    "algorithm": ALGORITHMS,
    "aggregator": AGGREGATORS,
    "transform": TRANSFORMS,
    "optimiser": OPTIMISERS,
}
"""The values that have names, by their kind; no name stands in two of the tables."""

UNNAMED = "unnamed"
"""Stands in a description for what has no name."""


def described(value: Any, *, where: str = "") -> Any:
    """Return a value as plain ones: numbers, texts, lists, and a value of `TABLES` as its name and its fields.

    A field that is None is left out; `build` knows that.

    Args:
        value: a number, a text, None, a value of one of the tables, or a list or mapping of such.
        where: what the value is, for the message; where it is not given, what has no name becomes `UNNAMED`.

    Raises:
        UsageError: something in it has no name, such as a bare Optax transformation; only where `where` is given.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        # Two zeros that are equal shall be written alike.
        return value + 0.0
    if value is None or isinstance(value, bool | int | str):
        return value
    if type(value) in (tuple, list):
        return [described(part, where=where) for part in value]
    if isinstance(value, Mapping):
        return {str(name): described(part, where=where and f"{where}.{name}") for name, part in value.items()}
    name = name_of(value)
    if name:
        content: dict[str, Any] = {"name": name}
        for field in fields(value):
            part = described(getattr(value, field.name), where=where and f"{where}.{field.name}")
            if part is not None:
                content[field.name] = part
        return content
    if where:
        raise UsageError(
            f"a procedure is written down, and {where} has no name: {value!r:.80}. Take an optimiser of fm.optimisers "
            "in place of a bare Optax one, and algorithms, transforms and aggregators of fedmeta"
        )
    return UNNAMED


def build(content: Any) -> Any:
    """Return the value that `described` gave plain ones for; lists come as tuples.

    Raises:
        UsageError: a name that is in no table, a field that there is not, or one that is out of range.
    """
    if isinstance(content, list | tuple):
        return tuple(build(part) for part in content)
    if not isinstance(content, Mapping):
        return content
    if "name" not in content:
        return {name: build(part) for name, part in content.items()}
    name = content["name"]
    kind = next((table[name] for table in TABLES.values() if isinstance(name, str) and name in table), None)
    if kind is None:
        raise UnknownName(
            "algorithm, aggregator, transform or optimiser", name, [n for t in TABLES.values() for n in t]
        )
    options = {field: build(part) for field, part in content.items() if field != "name"}
    known = _optional(kind)
    for field in options:
        if field not in known:
            raise UnknownName(f"option of {name}", field, known)
    # A field that may be None is left out where it is, whatever its default.
    nothing = {field: None for field, optional in known.items() if optional}
    try:
        return kind(**{**nothing, **options})
    except TypeError as error:
        raise UsageError(f"{name} cannot be made of {options}: {str(error).splitlines()[0]}") from error


def name_of(value: Any) -> str:
    """Return the name of a value of one of the tables, or ""."""
    if isinstance(value, type) or not is_dataclass(value):
        return ""
    return next((name for table in TABLES.values() for name, kind in table.items() if kind is type(value)), "")


@cache
def _optional(kind: Any) -> dict[str, bool]:
    """Return the fields of a dataclass, and of each whether it may be None."""
    hints = typing.get_type_hints(kind)
    return {field.name: _allows_none(hints[field.name]) for field in fields(kind)}


def _allows_none(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)
