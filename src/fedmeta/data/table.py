"""A data set from a table: a CSV or Parquet file, or a frame in memory."""

import csv
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.labels import encode
from fedmeta.errors import DataError, UnknownName, UsageError

MISSING = frozenset(pyarrow.csv.ConvertOptions().null_values)
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
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


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


@dataclass(frozen=True)
class _Source:
    """A table and how to speak of its rows."""

    table: pa.Table
    name: str
    stem: str
    csv: Path | None = None

    def check(self, column: str) -> None:
        if column not in self.table.column_names:
            raise UnknownName(f"column of {self.name}", column, self.table.column_names)

    def others(self, *used: str) -> tuple[str, ...]:
        return tuple(column for column in self.table.column_names if column not in used)

    def row(self, row: int) -> str:
        """Say where a row is; its line in the file for CSV."""
        if self.csv is None:
            return f"row {row} (counted from 0)"
        with self.csv.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file)
            records = (reader.line_num for record in reader if record)
            return f"line {next(line for place, line in enumerate(records) if place == row + 1)}"

    def values(self, column: str) -> pa.ChunkedArray:
        """Return a column without missing values, categories as what they stand for."""
        values = self.table[column]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if self.csv is not None and pa.types.is_binary(values.type):
            raise DataError(f"column {column!r} of {self.name} holds text that is not UTF-8; save the file as UTF-8")
        if values.null_count:
            first = int(np.flatnonzero(values.is_null().to_numpy())[0])
            raise DataError(
                f"column {column!r} of {self.name} has {values.null_count} missing, the first in {self.row(first)}"
            )
        return self._decoded(column, values) if _is_bytes(values.type) else values

    def _decoded(self, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return bytes as the text that they are: some writers of Parquet do not say that a column is text."""
        texts = []
        for row, value in enumerate(values.to_pylist()):
            try:
                texts.append(value.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"column {column!r} of {self.name} holds {value!r:.60} in {self.row(row)}, "
                    "bytes that are no text in UTF-8"
                ) from error
        return pa.chunked_array([pa.array(texts, pa.large_string())])

    def numbers(self, columns: tuple[str, ...]) -> np.ndarray:
        """Return columns as float32, shape [rows, columns]."""
        x = np.empty((self.table.num_rows, len(columns)), np.float32)
        for place, column in enumerate(columns):
            values = self.values(column)
            if _is_text(values.type):
                self._refuse_text(column, values)
            if not (pa.types.is_boolean(values.type) or _is_number(values.type)):
                raise DataError(f"column {column!r} of {self.name} has type {values.type}; features are numbers")
            array = values.cast(pa.float64(), safe=False).to_numpy()
            with np.errstate(over="ignore"):
                x[:, place] = array
            bad = ~np.isfinite(x[:, place])
            if bad.any():
                first = int(np.flatnonzero(bad)[0])
                raise DataError(
                    f"column {column!r} of {self.name} holds {int(bad.sum())} "
                    "values that are not finite numbers, "
                    f"the first {array[first]} in {self.row(first)}"
                )
        return x

    def targets(self, column: str, classes: Sequence[str] | None) -> np.ndarray:
        values = self.values(column)
        if _is_text(values.type):
            self._refuse_missing(column, values, classes or ())
            if self.csv is not None:
                self._refuse_mixed(column, values)
            return np.array(values.to_pylist(), str)
        if not (pa.types.is_boolean(values.type) or _is_number(values.type)):
            raise DataError(f"column {column!r} of {self.name} has type {values.type}; targets are numbers or text")
        return values.cast(pa.float64()).to_numpy() if pa.types.is_decimal(values.type) else values.to_numpy()

    def owners(self, column: str) -> np.ndarray:
        values = self.values(column)
        if not (_is_text(values.type) or pa.types.is_integer(values.type)):
            raise DataError(
                f"the client column {column!r} of {self.name} has type {values.type}; it needs text or integers"
            )
        if pa.types.is_integer(values.type):
            return values.to_numpy()
        texts = values.to_pylist()
        if self.csv is not None and (numbers := self._numbered(column, texts)) is not None:
            return numbers
        names = np.array(texts, str)
        empty = np.flatnonzero(np.char.strip(names) == "")
        if len(empty):
            raise DataError(f"the client column {column!r} of {self.name} is empty in {self.row(int(empty[0]))}")
        return names

    def _numbered(self, column: str, texts: list[str]) -> np.ndarray | None:
        """Return the clients as integers, if that is what they are and no two spellings become one."""
        missing = [row for row, text in enumerate(texts) if text in MISSING]
        if not all(INTEGER.fullmatch(text) for text in texts if text not in MISSING):
            return None
        if missing:
            said = "is empty" if not texts[missing[0]].strip() else f"has no client, but {texts[missing[0]]!r},"
            raise DataError(f"the client column {column!r} of {self.name} {said} in {self.row(missing[0])}")
        return np.array(texts, np.int64)

    def _refuse_text(self, column: str, values: pa.ChunkedArray) -> None:
        self._refuse_mixed(column, values)
        raise DataError(
            f"column {column!r} of {self.name} holds text ({values[0].as_py()!r} "
            f"in {self.row(0)}), but features are "
            "numbers: encode it as numbers or leave it out of the features"
        )

    def _refuse_missing(self, column: str, values: pa.ChunkedArray, classes: Sequence[str]) -> None:
        """Refuse labels that stand for a missing value, unless they are said to be classes.

        A CSV file has no other way to say missing; elsewhere there are nulls, and NA is a text as any other.
        """
        missing = MISSING if self.csv is not None else ("",)
        for row, text in enumerate(values.to_pylist()):
            if text.strip() in missing and text not in classes:
                said = f"holds {text!r}, which stands for a missing value," if text.strip() else "is empty"
                raise DataError(
                    f"column {column!r} of {self.name} {said} in {self.row(row)}; "
                    "leave the row out, or name the text among the classes if it is one"
                )

    def _refuse_mixed(self, column: str, values: pa.ChunkedArray) -> None:
        texts = values.to_pylist()
        numeric = np.array([_is_numeric(text) for text in texts])
        if numeric.any() and not numeric.all():
            first = int(np.flatnonzero(~numeric)[0])
            raise DataError(
                f"column {column!r} of {self.name} mixes numbers and text: {texts[first]!r} in {self.row(first)}"
            )


def _read(table: Any, text: str | None = None) -> _Source:
    """Return the table of a path or a frame; it has rows, and no column's name comes twice.

    The column `text` of a CSV file is not taken for numbers.
    """
    if isinstance(table, str | os.PathLike):
        path = Path(table)
        source = _Source(_read_file(path, text), str(path), path.stem, path if path.suffix.lower() == ".csv" else None)
    else:
        try:
            frame = pa.table(table)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"the table cannot be read: {_one_line(error)}") from error
        index = [column for column in frame.column_names if column.startswith("__index_level_")]
        source = _Source(frame.drop_columns(index), "the table", "table")
    names = source.table.column_names
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise DataError(f"{source.name} has two columns named {twice[0]!r}")
    if source.table.num_rows == 0:
        raise DataError(f"{source.name} has no rows")
    return source


def _read_file(path: Path, text: str | None) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path} has none of the endings .csv and .parquet")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    conversion = pyarrow.csv.ConvertOptions(column_types={} if text is None else {text: pa.string()})
    try:
        if suffix == ".parquet":
            frame = pyarrow.parquet.read_table(path)
        else:
            frame = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=conversion)
        # The names are decoded when they are asked for, and not before.
        list(frame.column_names)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: the names of its columns are not UTF-8 ({error.reason})") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}") from error
    return frame


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
        raise DataError(f"{path} cannot be read: {_one_line(error)}") from error
    if x.ndim == 0 or x.dtype.kind not in "iufb":
        raise DataError(f"x of {path} is {x.dtype} of shape {x.shape}, not an array of numbers with examples first")
    if y is not None and y.shape[:1] != x.shape[:1]:
        raise DataError(f"{path} holds {len(x)} x, but y has the shape {y.shape}")
    data = from_arrays(x, np.zeros(len(x), np.float32), np.zeros(len(x), np.int64), name=str(path))
    return np.asarray(data.x[:]), y


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
            pa.types.is_binary_view,
        )
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
