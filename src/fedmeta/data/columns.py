"""Columns: the storage of a data set, one row per example, without holding it all in memory."""

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from weakref import finalize

import jax
import numpy as np

from fedmeta.data.files import map_array
from fedmeta.errors import DataError

GAP = 1 << 14
"""Rows with no more bytes than this between them are read at once: another read would take as long."""


@runtime_checkable
class Column(Protocol):
    """One value per example; NumPy arrays and memory maps are columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, examples first."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The type of the values."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the rows (a slice or an array of indices)."""
        ...


class Stored:
    """A column in a `.npy` file: reads the requested rows and keeps nothing.

    A memory map would do the same, but every page ever touched would count as memory of the process.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, cut short, or does not hold an array of numbers in C order.
    """

    def __init__(self, path: Path):
        mapped: Any = map_array(path)
        if mapped.ndim == 0 or not mapped.flags.c_contiguous:
            raise DataError(f"{path} is damaged: it does not hold rows one after the other")
        self.path, self.shape, self.dtype = path, mapped.shape, mapped.dtype
        self.offset = mapped.offset
        self._row = mapped[:1].nbytes
        self._file = path.open("rb", buffering=0)
        finalize(self, self._file.close)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            begin, end, step = rows.indices(self.shape[0])
            if step == 1:
                return self._span(begin, max(begin, end))
            rows = np.arange(begin, end, step)
        rows = np.asarray(rows)
        if rows.size == 0:
            return np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        first, last = int(rows.min()), int(rows.max())
        if first < 0 or last >= self.shape[0]:
            raise IndexError(f"rows {first} to {last} are not all among the {self.shape[0]} of {self.path}")
        # A cohort's rows belong to a few clients, each with adjacent rows; padding requests some of them again.
        distinct, places = np.unique(rows, return_inverse=True)
        begins = np.flatnonzero(np.diff(distinct) * self._row > GAP) + 1
        spans = np.split(distinct, begins)
        found = [self._span(int(span[0]), int(span[-1]) + 1)[span - span[0]] for span in spans]
        return np.concatenate(found)[places.reshape(rows.shape)]

    def _span(self, begin: int, end: int) -> np.ndarray:
        """Read the rows from `first` to `last`."""
        found = np.empty((end - begin, *self.shape[1:]), self.dtype)
        missing = found.reshape(-1).view(np.uint8).data
        place = self.offset + begin * self._row
        while missing.nbytes:
            count = os.preadv(self._file.fileno(), [missing], place)
            if not count:
                raise DataError(f"{self.path} was cut short while it was in use")
            missing, place = missing[count:], place + count
        return found


class Scaled:
    """A column of small integers that reads as float32, multiplied by `scale` (pixels as 0 to 1)."""

    def __init__(self, base: Column, scale: float):
        self.base, self.scale = base, float(scale)
        self.shape = base.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.base[rows], np.float32) * np.float32(self.scale)


class Taken:
    """The rows `rows` of another column, in that order, read only when they are used."""

    def __init__(self, base: Column, rows: np.ndarray):
        self.base, self.rows = base, rows
        self.shape = (len(rows), *base.shape[1:])
        self.dtype = base.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.base[self.rows[rows]])


class Windows:
    """Every run of `length` codes within a client's sequence, as a column of shape [windows, length].

    The clients' sequences are end to end in `codes`, and a window never crosses from one into the next:
    a sequence of n codes gives the n - length windows that have a successor. With `successor` the column is
    the code that follows each window instead, of shape [windows].

    Args:
        codes: all sequences, shape [codes].
        offsets: the first window of each client, shape [clients + 1].
        length: codes in a window.
        successor: read the code that follows each window, instead of the windows.
    """

    def __init__(self, codes: Any, offsets: np.ndarray, length: int, successor: bool = False):
        self.codes, self.offsets, self.length, self.successor = codes, offsets, length, successor
        windows = int(offsets[-1])
        self.shape = (windows,) if successor else (windows, length)
        self.dtype = np.dtype(np.int32)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        rows = np.asarray(rows)
        clients = np.searchsorted(self.offsets, rows, side="right") - 1
        first = rows + clients * self.length
        if self.successor:
            return np.asarray(self.codes[first + self.length], np.int32)
        return np.asarray(self.codes[first[..., None] + np.arange(self.length)], np.int32)


class OneHots:
    """A column of numbers of items, each read as a 1 at its number, with further columns after them.

    Args:
        codes: shape [examples, items]; below 0 where there is no item, which reads as zeros.
        size: how many items there are to be told apart.
        rest: further columns, float32 of shape [examples, numbers], or None.
    """

    def __init__(self, codes: np.ndarray, size: int, rest: np.ndarray | None = None):
        self.codes, self.size, self.rest = codes, size, rest
        self.shape = (len(codes), codes.shape[1] * size + (0 if rest is None else rest.shape[1]))
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> np.ndarray:
        codes = self.codes[rows]
        ones = (codes[..., None] == np.arange(self.size)).astype(np.float32)
        ones = ones.reshape(*codes.shape[:-1], codes.shape[-1] * self.size)
        return ones if self.rest is None else np.concatenate([ones, self.rest[rows]], axis=-1)


class LookedUp:
    """A column of numbers of rows, each read as that row of a table: words as their vectors.

    Args:
        codes: shape [examples, ...], places in the table.
        table: shape [rows, numbers].
    """

    def __init__(self, codes: Column, table: np.ndarray):
        self.codes, self.table = codes, table
        self.shape = (*codes.shape, table.shape[1])
        self.dtype = np.dtype(table.dtype)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.table[np.asarray(self.codes[rows])]


def read(columns: Any, rows: Any) -> Any:
    """Read rows of a column, or of each column of a pytree of them, as arrays in the machine's byte order.

    Args:
        columns: columns of shape [examples, ...].
        rows: which rows, a slice or an array of indices.
    """
    return jax.tree.map(lambda column: native(np.asarray(column[rows])), columns)


def native(array: np.ndarray) -> np.ndarray:
    """Return the array in the machine's byte order, the only one that JAX takes."""
    return array.astype(native_type(array.dtype), copy=False)


def native_type(dtype: np.dtype) -> np.dtype:
    """Return the type in the machine's byte order."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")
