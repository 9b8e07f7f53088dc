"""Values by their names and fields: what a procedure is written in, and read from."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fedmeta.aggregators import AGGREGATORS
from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UsageError
from fedmeta.optimisers import OPTIMISERS
from fedmeta.transforms import TRANSFORMS

TABLES: tuple[Mapping[str, type], ...] = (ALGORITHMS, AGGREGATORS, TRANSFORMS, OPTIMISERS)
"""What has a name; no name stands in two of them."""


def described(value: Any) -> Any:
    """Return a value as plain ones: a record as its name and its fields, without those that are None.

    What has no name, such as a bare Optax transformation, is described as "unnamed"; `check_named` refuses it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        if hasattr(value, "_fields"):
            return "unnamed"
        return [described(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): described(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and _name(value):
        content = {field.name: described(getattr(value, field.name)) for field in fields(value)}
        return {"name": _name(value), **{name: one for name, one in content.items() if one is not None}}
    return "unnamed"


def build(content: Any) -> Any:
    """Return the value that `described` gave plain ones for.

    Raises:
        UsageError: a name that is in no table, or a field that is out of range.
    """
    if isinstance(content, list | tuple):
        return tuple(build(one) for one in content)
    if not isinstance(content, Mapping):
        return content
    if "name" not in content:
        return {name: build(one) for name, one in content.items()}
    for table in TABLES:
        if content["name"] in table:
            options = {name: build(one) for name, one in content.items() if name != "name"}
            return table[content["name"]](**options)
    raise UsageError(f"{content['name']!r} names no algorithm, aggregator, transform or optimiser")


def check_named(content: Any, where: str = "a procedure") -> None:
    """Raise a UsageError where a description holds something without a name."""
    if content == "unnamed":
        raise UsageError(
            f"{where} must name all that it uses: take an optimiser of fm.optimisers in place of a bare Optax one"
        )
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    for part in parts:
        check_named(part, where)


def _name(value: Any) -> str:
    name = next((name for table in TABLES for name, kind in table.items() if kind is type(value)), "")
    return name
