"""Turns the user's values into an array of one plain type; errors name what is missing or of another type."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedmeta.data.columns import native
from fedmeta.errors import DataError

KINDS: dict[str, Any] = {
    "text": str,
    "bytes": bytes,
    "a boolean": (bool, np.bool_),
    "an integer": (int, np.integer),
    "a float": (float, np.floating),
}


def to_array(values: Any, what: str) -> np.ndarray:
    """Return values as an array with a leading axis of examples, in the machine's byte order.

    Types that only JAX has (bfloat16, int4) become float32 and int8.

    Raises:
        DataError: rows have different shapes, there is no leading axis, or a value is masked.
    """
    if isinstance(values, Mapping):
        raise DataError(f"{what} is a {type(values).__name__}, not an array")
    masked = sum(_masked(part) for part in (values if isinstance(values, list | tuple) else [values]))
    if masked:
        raise DataError(f"{what} holds {masked} masked values, which are missing; leave their rows out or fill them in")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} is not an array: its rows have different shapes") from error
    except OverflowError as error:
        raise DataError(f"{what} holds a number that is too large for an array ({error})") from error
    if array.ndim == 0:
        raise DataError(f"{what} needs a leading axis of examples, not the single value {values!r:.60}")
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, np.integer):
        return array.astype(np.int8)
    return native(array)


def to_plain(values: Any, what: str) -> np.ndarray:
    """Return values as an array of integers, floats, booleans or text, as `to_array` does.

    Objects become their common type, and bytes are decoded as UTF-8. Other types (dates, complex numbers, records)
    stay as they are.

    Raises:
        DataError: types are mixed, a value is missing, bytes are no UTF-8, or as for `to_array`.
    """
    array = to_array(values, what)
    if array.dtype.kind in "ST":
        array = array.astype(object)
    if array.ndim == 1 and isinstance(values, list | tuple):
        # NumPy converts a list of mixed types to one type; only the list still shows them.
        held = np.empty(len(array), object)
        held[:] = values
        if array.dtype.kind in "OSU" or None not in (_kind(kind) for kind in set(map(type, values))):
            array = held
    return _of_objects(array, what) if array.dtype.kind == "O" else array


def _of_objects(array: np.ndarray, what: str) -> np.ndarray:
    """Return an array of objects as one of their single type; integers among floats are floats."""
    first: dict[type, int] = {}
    for place, value in enumerate(array.flat):
        first.setdefault(type(value), place)

    def row(place: int) -> int:
        return place * len(array) // array.size

    kinds: dict[str, int] = {}
    for kind, place in first.items():
        name = _kind(kind)
        if name is None:
            value = array.flat[place]
            raise DataError(
                f"{what} holds {value!r:.60} in row {row(place)} (counted from 0): neither a number nor text"
            )
        kinds.setdefault(name, place)
    if len(kinds) > 1 and set(kinds) != {"an integer", "a float"}:
        said = " and ".join(f"{kind} (row {row(place)}: {array.flat[place]!r})" for kind, place in kinds.items())
        raise DataError(f"{what} mixes types: {said}; it needs one type")
    values = array.ravel().tolist()
    if set(kinds) == {"bytes"}:
        values = [_decoded(value, what, row(place)) for place, value in enumerate(values)]
    if set(kinds) <= {"text", "bytes"}:
        for place, value in enumerate(values):
            if value.endswith("\0"):
                # NumPy drops it, so two texts might become equal.
                raise DataError(
                    f"{what} holds {value!r} in row {row(place)} (counted from 0), which ends in a null character"
                )
        return np.array(values, str).reshape(array.shape)
    try:
        plain = np.array(values)
    except OverflowError:
        plain = np.array(values, object)
    if plain.dtype.kind == "O" or (set(kinds) == {"an integer"} and plain.dtype.kind == "f"):
        large = next(value for value in values if isinstance(value, int) and not -(2**63) <= value < 2**63)
        raise DataError(f"{what} holds {str(large)[:30]}, which is beyond 64 bits; give such numbers as text")
    return plain.reshape(array.shape)


def _kind(given: type) -> str | None:
    return next((name for name, types in KINDS.items() if issubclass(given, types)), None)


def _decoded(value: bytes, what: str, row: int) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{what} holds the bytes {value!r:.60} in row {row} (counted from 0), which are no text in UTF-8"
        ) from error


def _masked(values: Any) -> int:
    return int(np.ma.getmaskarray(values).sum()) if np.ma.isMaskedArray(values) else 0
