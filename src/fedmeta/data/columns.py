"""Columns: what a data set is read from, one row per example, without holding it all in memory."""

from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Column(Protocol):
    """One value per example; NumPy arrays and memory maps are columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, examples first."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The type of what is read."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the rows (a slice or an array of indices)."""
        ...


class Scaled:
    """A column of small integers that reads as float32, multiplied by `scale` (pixels as 0 to 1)."""

    def __init__(self, base: Column, scale: float):
        self.base, self.scale = base, float(scale)
        self.shape = base.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.base[rows], np.float32) * np.float32(self.scale)


class Taken:
    """The rows `rows` of another column, in that order, read when they are asked for."""

    def __init__(self, base: Column, rows: np.ndarray):
        self.base, self.rows = base, rows
        self.shape = (len(rows), *base.shape[1:])
        self.dtype = base.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.base[self.rows[rows]])


class Windows:
    """Every run of `length` codes within a client's sequence, as a column of shape [windows, length].

    The clients' sequences lie end to end in `codes`, and a window never crosses from one into the next:
    a sequence of n codes gives the n - length windows that have a successor. With `successor` the column is
    the code that follows each window instead, of shape [windows].

    Args:
        codes: all sequences, shape [codes].
        offsets: where each client's windows begin, shape [clients + 1].
        length: codes in a window.
        successor: read what follows instead of the windows.
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
