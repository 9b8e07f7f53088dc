"""Turns the labels of a file or an array into numbers 0, 1, ... and the names of the classes."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from fedmeta._settings import not_one_text
from fedmeta.data.plain import to_plain
from fedmeta.errors import DataError, UsageError


def encode(
    y: np.ndarray, classes: SupportsIndex | Sequence[str] | None = None, where: str = "y"
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return targets as numbers, and the names of the classes (None for regression).

    Args:
        y: shape [examples, ...]; floats are regression, whether integral or not. Integers 0, 1, ..., n - 1
            stay as they are; text, booleans, and integers with gaps or below 0 become positions in their sorted
            order.
        classes: how many classes there are, or their names. With names, labels are looked up among them by name:
            integers among names that are all integers, such as "3"; never by a place in the list.
        where: what to call `y` in an error.

    Returns:
        float32 of y's shape and None, or int32 of y's shape and the names.

    Raises:
        DataError: a value is missing, empty or not finite, the types are mixed, a label is not among the classes,
            labels are integers and the classes have other names, or there is only one class and `classes` is not given.
        UsageError: classes are given for floats, or only their number for text; or a name comes twice or is no text.
    """
    known = _known(classes)
    y = to_plain(y, where)
    if y.dtype.kind not in "iufbU":
        raise DataError(f"{where} has type {y.dtype}; targets are real numbers, text or booleans")
    if y.dtype.kind == "U":
        _refuse_empty(y, known if isinstance(known, tuple) else (), where)
    if y.dtype.kind == "f":
        if known is not None:
            raise UsageError(f"classes are given, but {where} holds floats; labels are integers, text or booleans")
        return finite(y, where), None
    if known is None:
        targets, names = _integers(y, None, where) if y.dtype.kind in "iu" else _sorted(y.astype(str))
        need_two(names, where)
        return targets, names
    if y.dtype.kind in "iu":
        return _integers(y, known, where)
    if isinstance(known, int):
        raise UsageError(f"{where} holds text or booleans: give the names of the {known} classes, not their number")
    return _look_up(y.astype(str), known, where), known


def _known(classes: Any) -> int | tuple[str, ...] | None:
    """Return the number of classes or their names; raise a UsageError if a name comes twice or is not text."""
    if classes is None:
        return None
    if hasattr(classes, "__index__") and np.ndim(classes) == 0:
        return operator.index(classes)
    not_one_text("classes", classes)
    names = tuple(classes)
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise UsageError(f"the names of classes are text, not {name!r}")
        if name in names[:place]:
            raise UsageError(f"the class {name!r} is named twice")
    return tuple(str(name) for name in names)


def need_two(names: tuple[str, ...], where: str) -> None:
    """Raise a DataError if there is only one class, because then any classifier is right."""
    if len(names) == 1:
        raise DataError(f"{where} holds one class only, {names[0]!r}; a classifier needs two")


def finite(values: np.ndarray, where: str) -> np.ndarray:
    """Return the values as float32.

    Raises:
        DataError: a value is NaN, infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    bad = ~np.isfinite(converted)
    if bad.any():
        first = np.argwhere(bad)[0]
        raise DataError(
            f"{where} holds {int(bad.sum())} values that are not finite numbers; "
            f"the first is {values[tuple(first)]} in row {int(first[0])} (counted from 0)"
        )
    return converted


def _refuse_empty(y: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise a DataError if a label is the empty text, unless that is one of the classes."""
    empty = np.argwhere(y == "")
    if len(empty) and "" not in names:
        raise DataError(
            f"{where} is empty in row {int(empty[0][0])} (counted from 0); a label that is missing is no class"
        )


def _integers(y: np.ndarray, classes: int | tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(classes, tuple):
        if not all(_is_integer(name) for name in classes) and y.size:
            raise DataError(
                f"{where} holds the integer {y.flat[0]}, and the classes are {_listed(classes)}: labels are found by "
                f"their names, such as {classes[0]!r}, and never by their places in the list"
            )
        return _look_up(y.astype(str), classes, where), classes
    if classes is None:
        held = np.unique(y)
        if len(held) and not np.array_equal(held, np.arange(len(held))):
            return np.searchsorted(held, y).astype(np.int32), tuple(str(label) for label in held)
        classes = len(held)
    outside = (y < 0) | (y >= classes)
    if outside.any():
        raise DataError(f"{where} holds the label {y[outside].flat[0]}, but there are classes 0 to {classes - 1}")
    return y.astype(np.int32), tuple(str(label) for label in range(classes))


def _look_up(text: np.ndarray, names: tuple[str, ...], where: str) -> np.ndarray:
    places = {name: place for place, name in enumerate(names)}
    held, inverse = np.unique(text, return_inverse=True)
    for label in held:
        if str(label) not in places:
            raise DataError(f"{where} holds the label {str(label)!r}, which is none of the classes {_listed(names)}")
    return np.array([places[str(label)] for label in held], np.int32)[inverse].reshape(text.shape)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _sorted(text: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    held, inverse = np.unique(text, return_inverse=True)
    return inverse.reshape(text.shape).astype(np.int32), tuple(str(label) for label in held)


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
