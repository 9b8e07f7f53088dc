"""Numbers and names from the user: Python's, NumPy's and JAX's are all accepted, and become Python's."""

import operator
from types import FunctionType
from typing import Any

import numpy as np

from fedmeta.errors import UsageError


def whole_number(name: str, value: Any) -> Any:
    """Return a whole number as an int; None stays None.

    Raises:
        UsageError: it is no whole number; the message names it.
    """
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise UsageError(f"{name} must be a whole number, not {value!r}")


def a_number(name: str, value: Any) -> Any:
    """Return a real number as a float; None stays None.

    Raises:
        UsageError: it is no number; the message names it.
    """
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_ | str | bytes) and np.ndim(value) == 0:
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise UsageError(f"{name} must be a number, not {value!r}")


def not_one_text(name: str, value: Any, of: str = "names") -> None:
    """Raise a UsageError if one text is given where a list of texts is meant: it would be a list of its letters."""
    if isinstance(value, str | bytes):
        raise UsageError(f"{name} takes a list of {of}: write {name}=[{value!r}], not {name}={value!r}")


def said(value: Any) -> str:
    """Return in words what was given in place of a value; a class or a function has perhaps not been called."""
    if isinstance(value, type):
        return f"the class {value.__name__}, which has to be called"
    if isinstance(value, FunctionType):
        return f"the function {value.__name__}"
    return " ".join(repr(value).split())[:80]


def a_function(name: str, value: Any, example: str) -> None:
    """Raise a UsageError unless the value can be called, and is no class."""
    if not callable(value) or isinstance(value, type):
        raise UsageError(f"{name} must be a function, such as {example}, not {said(value)}")
