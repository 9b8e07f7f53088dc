"""What the annotations of a dataclass say: how tuples, options and rules are nested in one."""

import types
from collections.abc import Callable
from dataclasses import fields
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def field_types(cls: Callable[..., Any], *, rules: bool = False) -> dict[str, Any]:
    """Return the fields of a dataclass in their order, with their types; with `rules` also what annotates these."""
    hints = get_type_hints(cls, include_extras=rules)
    return {field.name: hints[field.name] for field in fields(cls)}  # type: ignore[arg-type]


def taken_apart(hint: Any) -> tuple[Literal["rule", "optional", "each", "row", "leaf"], tuple[Any, ...]]:
    """Return the outermost layer of a type, and what is inside.

    A "rule" is (type, what annotates it ...), "optional" (type,) or None, "each" (type,) for a tuple of any length,
    "row" the types of a tuple of fixed length, and a "leaf" (type,) is all else.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return "rule", args
    if origin in (Union, types.UnionType) and len(args) == 2 and NoneType in args:
        return "optional", (args[0] if args[1] is NoneType else args[1],)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return "each", args[:1]
    if origin is tuple and Ellipsis not in args:
        return "row", args
    return "leaf", (hint,)
