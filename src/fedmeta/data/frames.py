"""A table that pyarrow holds, from a CSV or Parquet file or a frame in memory, and its columns as NumPy arrays."""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fedmeta.errors import DataError, UnknownName, UsageError

MISSING = frozenset(pyarrow.csv.ConvertOptions().null_values)
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Source:
    """A table and how to speak of its rows."""

    table: pa.Table
    name: str
    stem: str
    csv: Path | None = None

    def check(self, column: str) -> None:
        """Raise an UnknownName unless there is such a column."""
        if column not in self.table.column_names:
            raise UnknownName(f"column of {self.name}", column, self.table.column_names)

    def others(self, *used: str) -> tuple[str, ...]:
        """Return the names of all other columns."""
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
        """Return a column of labels or numbers, shape [rows]; a text that stands for missing must be a class."""
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
        """Return whose each row is, integers or text, shape [rows]."""
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


def read(table: Any, text: str | None = None) -> Source:
    """Return the table of a path or a frame; it has rows, and no column's name comes twice.

    The column `text` of a CSV file is not taken for numbers.
    """
    if isinstance(table, str | os.PathLike):
        path = Path(table)
        source = Source(_read_file(path, text), str(path), path.stem, path if path.suffix.lower() == ".csv" else None)
    else:
        try:
            frame = pa.table(table)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"the table cannot be read: {_one_line(error)}") from error
        index = [column for column in frame.column_names if column.startswith("__index_level_")]
        source = Source(frame.drop_columns(index), "the table", "table")
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
