"""A data set from a table: a CSV or Parquet file, or a frame in memory."""

import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.labels import encode
from fedmeta.errors import DataError, UsageError

# What a damaged, encrypted or foreign .npz file makes NumPy and zipfile raise.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RuntimeError,
    SyntaxError,
    MemoryError,
)


def from_table(
    table: Any,
    *,
    client: str,
    target: str,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> FederatedDataset:
    """Return a data set from a table with a row per example.

    Args:
        table: the path of a `.csv` (first line: names of columns) or `.parquet` file; or a frame: whatever
            `pyarrow.table` takes or that speaks the Arrow C stream protocol (pyarrow, pandas, polars).
        client: the column that says whose example it is; text or integers. In a CSV file it is text, so that
            007 and 7 are two clients.
        target: the column to predict. Text, booleans and integers are classes; floats are regression, also
            when all are integral (write 3 rather than 3.0 for a label).
        features: the input columns, numbers or booleans; all others than client and target by default.
        classes: the names of the classes, where the table need not show them all.
        name: the name of the data set; the file's name by default.

    Returns:
        x is float32 of shape [examples, features].

    Raises:
        DataError: the file cannot be read, there are no rows, or a column has a value that is missing, not
            finite, or of another type than the rest; the message names column, row (line for CSV) and value.
        UnknownName: there is no such column.
        UsageError: the file is of another kind, a column has two uses, or there are no features.
        MissingPackage: the extra `tables` is not installed.
    """
    source = _read(table, text=client)
    if client == target:
        raise UsageError(f"the column {client!r} cannot be both client and target")
    for column in (client, target, *(features or ())):
        source.check(column)
    chosen = tuple(features) if features is not None else source.others(client, target)
    if not chosen:
        raise UsageError(f"{source.name} has no column left for the features beside {client!r} and {target!r}")
    if {client, target} & set(chosen):
        raise UsageError(f"the features {', '.join(chosen)} must not hold the client or the target column")
    owners = source.owners(client)
    x = source.numbers(chosen)
    y, names = encode(source.targets(target, classes), classes, f"column {target!r} of {source.name}")
    count = None if names is None else len(names)
    data = from_arrays(x, y, owners, classes=count, name=name or source.stem, features=chosen)
    return changed(data, info=changed(data.info, classes=names))


def read_examples(
    path: str | os.PathLike[str],
    features: Sequence[str] | None,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    need_target: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the examples of one client from a file with the columns that training had.

    Args:
        path: a `.csv` or `.parquet` file with the columns, or `.npz` with the arrays `x` (any shape) and `y`.
        features: the names of the input columns in the order of training; unused for `.npz`.
        target: the name of the target column, or None to read none; unused for `.npz`.
        classes: the names of the classes; None for regression.
        need_target: whether targets are read; a file without them is refused then.

    Returns:
        x, float32 of shape [examples, features] (integers in `.npz` stay integers), and y, int32 places in
        `classes` of shape [examples] or float32 of shape [examples, ...]; None without `need_target`.

    Raises:
        DataError: the file cannot be read, or holds something else than training had; a label that is none of
            the classes is named.
        UnknownName: a column is missing.
        UsageError: the kind of file does not fit.
        MissingPackage: the extra `tables` is not installed, which `.npz` files do without.
    """
    if Path(path).suffix.lower() == ".npz":
        x, y = _read_npz(Path(path), need_target)
        where = f"y of {path}"
    elif features is None:
        raise UsageError(f"the model takes arrays without named columns: give {path} as .npz with an array x")
    else:
        source = _read(path)
        for column in features:
            source.check(column)
        x, y, where = source.numbers(tuple(features)), None, f"column {target!r} of {path}"
        if target is not None and need_target:
            source.check(target)
            y = source.targets(target, classes)
    if len(x) == 0:
        raise DataError(f"{path} holds no examples")
    if not need_target:
        return x, None
    if y is None:
        raise DataError(f"{path} holds no targets; they are needed to adapt a model")
    if classes is None:
        if y.dtype.kind not in "iuf":
            raise DataError(f"{where} holds {y.dtype}, but the model predicts numbers")
        return x, encode(y.astype(np.float64), None, where)[0]
    if y.ndim != 1:
        raise DataError(f"{where} has the shape {y.shape}; labels have the shape [examples], here ({len(x)},)")
    if y.dtype.kind == "f":
        raise DataError(f"{where} holds floats, but the model predicts the classes {', '.join(classes)}")
    return x, encode(y, tuple(classes), where)[0]


def _read(table: Any, text: str | None = None) -> Any:
    """Return the table of a path or a frame, as a `fedmeta.data.frames.Source`."""
    need("pyarrow", f"reading {table}" if isinstance(table, str | os.PathLike) else "reading a table")
    from fedmeta.data.frames import read

    return read(table, text)


def _read_npz(path: Path, need_target: bool) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        # NumPy leaves a file open that it opened itself and could not read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if "x" not in arrays:
                raise DataError(f"{path} holds no array x, but {', '.join(arrays) or 'nothing'}")
            x, y = arrays["x"], arrays.get("y") if need_target else None
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if x.ndim == 0 or x.dtype.kind not in "iufb":
        raise DataError(f"x of {path} is {x.dtype} of shape {x.shape}, not an array of numbers with examples first")
    if y is not None and y.shape[:1] != x.shape[:1]:
        raise DataError(f"{path} holds {len(x)} x, but y has the shape {y.shape}")
    data = from_arrays(x, np.zeros(len(x), np.float32), np.zeros(len(x), np.int64), name=str(path))
    return np.asarray(data.x[:]), y
