"""A short digest of the contents of a data set, computed without reading its files."""

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from fedmeta.data.columns import Column, LookedUp, OneHots, Scaled, Stored, Taken, Windows
from fedmeta.errors import DataError

BLOCK = 1 << 22
NAMES = 1 << 14


@runtime_checkable
class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: Any, /) -> None:
        """Take more bytes."""
        ...


def fingerprint(
    x: Any, y: Column, starts: np.ndarray, sizes: np.ndarray, ids: np.ndarray, meaning: Any, *more: Column
) -> str:
    """Return 16 hexadecimal digits that change when a client, one of its inputs or one of its targets changes.

    Only the rows of these clients count. A column in a file counts by the file's name, size and modification
    time, and a column of an unknown class by its shape and type: neither is read.

    Args:
        x: column of inputs, shape [examples, ...], or several columns in dicts and tuples; their names count.
        y: column of targets, shape [examples, ...].
        starts: the first row of each client, shape [clients].
        sizes: the number of examples of each client, shape [clients].
        ids: the clients' names, shape [clients].
        meaning: what the numbers stand for, such as the names of the classes, as values for JSON.
        more: further columns that count, shape [examples, ...].

    Raises:
        DataError: a file is gone.
    """
    starts, sizes = np.asarray(starts, np.int64), np.asarray(sizes, np.int64)
    digest = hashlib.sha256()
    _names(digest, np.asarray(ids), meaning)
    _take(digest, sizes)
    inputs, structure = jax.tree_util.tree_flatten_with_path(x)
    if not jax.tree_util.treedef_is_leaf(structure):
        _say(digest, "inputs", [jax.tree_util.keystr(path) for path, _ in inputs])
    for column in (*(column for _, column in inputs), y, *more):
        _rows(digest, column, starts, sizes)
    return digest.hexdigest()[:16]


def _rows(digest: Digest, column: Column, starts: np.ndarray, sizes: np.ndarray) -> None:
    """Take the runs of rows that begin at `starts`."""
    if isinstance(column, Scaled):
        _say(digest, "scaled", column.scale)
        _rows(digest, column.base, starts, sizes)
    elif isinstance(column, Taken):
        runs = [column.rows[begin:end] for begin, end in _runs(starts, sizes)]
        _listed(digest, column.base, np.concatenate([np.zeros(0, np.int64), *runs]))
    elif isinstance(column, Windows):
        _say(digest, "windows", column.length, column.successor)
        starts, sizes = starts[sizes > 0], sizes[sizes > 0]
        first, last = (_code(column, rows) for rows in (starts, starts + sizes - 1))
        _take(digest, last - first)
        _rows(digest, column.codes, first, last - first + column.length + 1)
    elif isinstance(column, OneHots):
        _say(digest, "one-hots", column.size)
        for part in (column.codes, *([] if column.rest is None else [column.rest])):
            _rows(digest, part, starts, sizes)
    elif isinstance(column, LookedUp):
        _say(digest, "looked up", column.table.dtype.str, column.table.shape)
        _take(digest, column.table)
        _rows(digest, column.codes, starts, sizes)
    elif isinstance(column, np.ndarray) and _mapped(column) is None:
        _say(digest, "array", column.dtype.str, column.shape[1:])
        for begin, end in _runs(starts, sizes):
            _take(digest, column[begin:end])
    else:
        _unread(digest, column)
        _take(digest, starts)


def _listed(digest: Digest, column: Column, rows: np.ndarray) -> None:
    """Take the rows at these positions, shape [rows]."""
    if isinstance(column, Scaled):
        _say(digest, "scaled", column.scale)
        _listed(digest, column.base, rows)
    elif isinstance(column, Taken):
        _listed(digest, column.base, column.rows[rows])
    elif isinstance(column, OneHots):
        _say(digest, "one-hots", column.size)
        for part in (column.codes, *([] if column.rest is None else [column.rest])):
            _listed(digest, part, rows)
    elif isinstance(column, LookedUp):
        _say(digest, "looked up", column.table.dtype.str, column.table.shape)
        _take(digest, column.table)
        _listed(digest, column.codes, rows)
    elif isinstance(column, np.ndarray) and _mapped(column) is None:
        _say(digest, "array", column.dtype.str, column.shape[1:])
        step = max(1, BLOCK // max(1, column[:1].nbytes))
        for begin in range(0, len(rows), step):
            _take(digest, column[rows[begin : begin + step]])
    else:
        _take(digest, rows)
        _rows(digest, column, np.zeros(1, np.int64), np.array([column.shape[0]]))


def _runs(starts: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first row and the end of each run; runs that touch are joined."""
    ends = starts + sizes
    breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
    for first, after in pairwise([0, *breaks.tolist(), len(starts)]):
        if after > first:
            yield int(starts[first]), int(ends[after - 1])


def _code(column: Windows, rows: np.ndarray) -> np.ndarray:
    """Return the positions in the codes where these windows begin."""
    return rows + (np.searchsorted(column.offsets, rows, side="right") - 1) * column.length


def _mapped(array: np.ndarray) -> np.memmap | None:
    """Return the memory map of a file behind an array; None for an array in memory."""
    base: Any = array
    found = None
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.filename is not None:
            found = base
        base = base.base
    return found


def _unread(digest: Digest, column: Column) -> None:
    mapped = _mapped(column) if isinstance(column, np.ndarray) else None
    # A file gives the same digest whether it is mapped or read.
    kind = "memmap" if isinstance(column, Stored) else type(column).__name__
    _say(digest, kind, column.dtype.str, column.shape)
    if isinstance(column, Stored):
        _file(digest, column.path, column.offset, 0)
    elif mapped is not None and mapped.filename is not None:
        into = np.asarray(column).__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
        _file(digest, Path(os.fspath(mapped.filename)), mapped.offset, into)


def _file(digest: Digest, path: Path, *place: int) -> None:
    """Take a file's name, size and modification time, and the position in it."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} is gone, though its data are in use ({error.strerror})") from error
    _say(digest, path.name, state.st_size, state.st_mtime_ns, *place)


def _names(digest: Digest, ids: np.ndarray, meaning: Any) -> None:
    """Take the names and the meaning as one list, some names at a time: a million Python strings are large."""
    digest.update(b"[[")
    for begin in range(0, len(ids), NAMES):
        names = json.dumps(ids[begin : begin + NAMES].tolist())[1:-1]
        digest.update(f"{', ' if begin else ''}{names}".encode("ascii"))
    digest.update(f"], {json.dumps(meaning)}]\n".encode("ascii"))


def _say(digest: Digest, *said: Any) -> None:
    digest.update(json.dumps(said).encode("ascii") + b"\n")


def _take(digest: Digest, array: np.ndarray) -> None:
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
