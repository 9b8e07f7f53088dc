"""Reads arrays and tables out of a pickle as data: nothing in it is run or imported.

Some packages keep their data as pickles of NumPy arrays or of a frame of pandas. Python's own reader would run whatever
a pickle says. This one knows the few words that arrays and frames need, and refuses every other.
"""

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from fedmeta.errors import DataError


def loads(content: bytes) -> Any:
    """Return what a pickle holds: numbers, text, lists, tuples, dicts and arrays; a frame is a dict of its columns.

    Raises:
        DataError: it holds anything else, or is damaged.
    """
    try:
        return _Stack().run(content)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(f"it is no pickle of arrays ({error})") from error


class _Array:
    """An array that is not filled yet."""

    value: np.ndarray


class _Frame:
    """A frame of pandas that is not filled yet."""

    columns: dict[str, np.ndarray]


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _dtype(name: str, *_: Any) -> np.dtype:
    return np.dtype(name)


def _from_buffer(content: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


def _block(values: Any, places: Any, _: int) -> tuple[Any, Any]:
    return _filled(values), _filled(places)


def _index(_: Any, said: dict[str, Any]) -> list[str]:
    # A range of rows has no names.
    return [str(name) for name in _filled(said["data"])] if "data" in said else []


def _columns(blocks: tuple[tuple[np.ndarray, Any], ...], axes: list[list[str]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for values, places in blocks:
        for row, place in zip(values, np.arange(len(axes[0]))[places], strict=True):
            found[axes[0][place]] = row
    return {name: found[name] for name in axes[0]}


_NUMPY = {
    f"numpy.{core}.{module} {name}": known
    for core in ("core", "_core")
    for module, name, known in (("multiarray", "_reconstruct", _reconstruct), ("numeric", "_frombuffer", _from_buffer))
}
KNOWN: dict[str, Callable[..., Any] | None] = {
    **_NUMPY,
    "numpy dtype": _dtype,
    "numpy ndarray": None,
    "_codecs encode": _encode,
    "builtins slice": slice,
    "pandas.core.frame DataFrame": _Frame,
    "pandas DataFrame": _Frame,
    "pandas Index": None,
    "pandas RangeIndex": None,
    "pandas.core.internals.managers BlockManager": _columns,
    "pandas._libs.internals _unpickle_block": _block,
    "pandas.core.indexes.base _new_Index": _index,
    "pandas.core.indexes.base Index": None,
    "pandas.core.indexes.range RangeIndex": None,
}
"""By its name in a pickle, what is called in place of a function or a class; None stands where nothing has to be."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_PUT, _GET = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Stack:
    """The machine that a pickle is written for, with the words that arrays and frames need."""

    def __init__(self):
        self.held: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        argument: Any
        for opcode, argument, _ in pickletools.genops(content):
            name = opcode.name
            if name in _VALUES or name in _BYTES:
                self.held.append(argument)
            elif name in _GET:
                self.held.append(self.memo[argument])
            elif name in _PUT:
                self.memo[argument] = self.held[-1]
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.held[-1]
            elif name == "STOP":
                return _filled(self.held.pop())
            elif name not in ("PROTO", "FRAME"):
                self._do(name, argument)
        raise ValueError("it has no end")

    def _do(self, name: str, argument: Any) -> None:
        held = self.held
        if name in _CONSTANTS:
            held.append(_CONSTANTS[name])
        elif name in _EMPTY:
            held.append(_EMPTY[name]())
        elif name == "MARK":
            held.append(_MARK)
        elif name in _SIZES:
            held[-_SIZES[name] :] = [tuple(held[-_SIZES[name] :])]
        elif name == "TUPLE":
            held.append(tuple(self._marked()))
        elif name == "APPEND":
            last = held.pop()
            held[-1].append(last)
        elif name == "APPENDS":
            marked = self._marked()
            held[-1].extend(marked)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = self._marked() if name == "SETITEMS" else [held.pop(-2), held.pop()]
            held[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name == "GLOBAL":
            self._known(argument)
        elif name == "STACK_GLOBAL":
            last = held.pop()
            self._known(f"{held.pop()} {last}")
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = held.pop()
            held.append(held.pop()(*arguments))
        elif name == "BUILD":
            state = held.pop()
            held[-1] = self._built(held[-1], state)
        else:
            raise ValueError(f"it has the word {name}")

    def _known(self, name: str) -> None:
        if name not in KNOWN:
            raise ValueError(f"it names {name.replace(' ', '.')}")
        self.held.append(KNOWN[name])

    def _marked(self) -> list[Any]:
        place = len(self.held) - 1 - next(n for n, value in enumerate(reversed(self.held)) if value is _MARK)
        found = self.held[place + 1 :]
        del self.held[place:]
        return found

    def _built(self, made: Any, state: Any) -> Any:
        if isinstance(made, _Array):
            _, shape, dtype, fortran, content = state
            if dtype.kind == "O":
                made.value = np.empty(len(content), object)
                made.value[:] = content
            else:
                made.value = np.frombuffer(content, dtype)
            made.value = made.value.reshape(shape, order="F" if fortran else "C")
        elif isinstance(made, _Frame):
            made.columns = state["_mgr"]
        elif isinstance(made, np.dtype) and state[3] is None:
            # A type is memoised before its byte order is known; both orders of one machine read little-endian data.
            if state[1] == ">":
                raise ValueError("it holds big-endian numbers")
        else:
            raise ValueError(f"it fills a {type(made).__name__}")
        return made


def _filled(value: Any) -> Any:
    """Return a value with its arrays and frames in place."""
    if isinstance(value, _Array):
        return _filled(value.value)
    if isinstance(value, _Frame):
        return {name: _filled(column) for name, column in value.columns.items()}
    if isinstance(value, dict):
        return {key: _filled(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(part) for part in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        for place, part in enumerate(value.flat):
            if not isinstance(part, str):
                value.flat[place] = _filled(part)
    return value
