"""A data set from a table: a file, a folder, or a frame in memory."""

import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta._settings import not_one_text, said
from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.labels import encode
from fedmeta.data.schema import Field, Kind, Role, Schema, Task
from fedmeta.data.wanted import Reading, Wanted
from fedmeta.errors import DataError, UnknownName, UsageError

log = logging.getLogger("fedmeta.data")

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
    client: str | None = None,
    target: str | None = None,
    features: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    task: Task | None = None,
    drop_missing_target: bool = False,
    schema: Schema | str | os.PathLike[str] | None = None,
    reading: Reading | Mapping[str, Any] | None = None,
    name: str | None = None,
) -> FederatedDataset:
    """Return a data set from a table with a row per example.

    What each column is is decided over all of its rows, and what was guessed is logged as a warning of the logger
    `fedmeta.data`, with the option that decides otherwise. The data set's `info.schema` says what came out.

    Args:
        table: the path of delimited text (`.csv`, `.tsv`, also packed), of a Parquet file or a folder of them, or of a
            workbook; or a frame that speaks the Arrow C stream protocol (pyarrow, pandas, polars, DuckDB), or a dict of
            columns.
        client: the column that says whose example it is; text or whole numbers. In a CSV file 007 is text, so that
            007 and 7 are two clients.
        target: the column to predict. Text, booleans and few different whole numbers are classes; other numbers are
            regression.
        features: the input columns; all others than client and target by default.
        exclude: columns that are no inputs.
        classes: the names of the classes, in order, where the table need not show them all.
        kinds: by column, what it is: "number", "category", "identifier" and so on.
        task: "classification" or "regression"; by the target's values where it is not given.
        drop_missing_target: leave out rows without a target, in place of refusing them.
        schema: what the columns are, or the TOML file that says so; nothing is guessed then.
        reading: how the file is to be read, where that is told.
        name: the name of the data set; the file's name by default.

    Returns:
        x is float32 of shape [examples, inputs]: numbers as they are (a gap is 0, and 1 in a column beside it),
        booleans as 0 or 1, a column for each category, dates as days since 1970-01-01 with the parts that vary.

    Raises:
        DataError: the file cannot be read, or something in it is wrong or could be meant in two ways; every problem is
            named, with its lines, columns and what to do.
        UnknownName: there is no such column.
        UsageError: the file is of another kind, a column has two uses, or there are no features.
        MissingPackage: the extra `tables` is not installed, or `excel` for a workbook.
    """
    if kinds is not None and not isinstance(kinds, Mapping):
        raise UsageError(f"kinds must be a mapping, such as {{'age': 'number'}}, not {said(kinds)}")
    tables, how = _tables(table), _reading(reading)
    raw = tables.read_table(table, how)
    if schema is not None:
        known = schema if isinstance(schema, Schema) else Schema.read(schema)
        known = replace(known, columns=tuple(_told(entry, how) for entry in known.columns))
    else:
        if client is None or target is None:
            raise UsageError(f"{raw.name} is a table: say which columns hold the client and the target")
        names = _listed("features", features), _listed("exclude", exclude) or (), _listed("classes", classes)
        wanted = Wanted(client, target, names[0], names[1], kinds, task, names[2])
        known = tables.infer(raw, replace(wanted, drop_missing_target=drop_missing_target), how)
    uses: tuple[tuple[Role, str | None], ...] = (("client", client), ("target", target))
    for role, column in uses:
        held = known.role(role)
        if held is None or column not in (None, held.name):
            there = "no" if held is None else f"{held.name!r} as the"
            raise UsageError(f"the schema has {there} {role} column")
    prepared = tables.prepare(raw, known, drop_missing_target=drop_missing_target)
    _say(raw)
    y, names = _targets(prepared.y, known, raw.name), known.classes
    data = from_arrays(
        prepared.x,
        y,
        prepared.clients,
        classes=None if names is None else len(names),
        name=name or raw.stem,
        features=known.features,
    )
    return replace(data, info=replace(data.info, classes=names, schema=known))


def read_examples(
    path: Any,
    schema: Schema | None = None,
    *,
    classes: Sequence[str] | None = None,
    need_target: bool = True,
    drop_missing_target: bool = False,
    reading: Reading | Mapping[str, Any] | None = None,
    strict: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the examples of one client: a table with the columns that training had, or an `.npz` file.

    Args:
        path: a table, as in `from_table`, or the path of an `.npz` file with the arrays `x` (any shape) and `y`.
        schema: of the training, which a table needs; a client column is not read.
        classes: the names of the classes of an `.npz` file; None for regression.
        need_target: whether targets are read; examples without them are refused then.
        drop_missing_target: leave out rows of a table without a target, in place of refusing them.
        reading: how a file is to be read, where that is told.
        strict: refuse a column of whose values none is a category or in the range of the schema, in place of a note.

    Returns:
        x, float32 of shape [examples, ...] (integers in `.npz` stay integers), and y, int32 places among the classes of
        shape [examples] or float32 of shape [examples, ...]; None without `need_target`.

    Raises:
        DataError: the file cannot be read, or holds something else than training had; every problem is named.
        UsageError: a table is given without a schema.
        MissingPackage: the extra `tables` is not installed, which `.npz` files do without.
    """
    not_one_text("classes", classes)
    if _is_npz(path):
        return _examples_of_arrays(Path(path), classes, need_target)
    told = {"target": need_target, "drop_missing_target": drop_missing_target, "strict": strict}
    raw, prepared = _one_clients(path, schema, reading, **told)
    return prepared.x, _targets(prepared.y, schema, raw.name) if schema is not None and need_target else None


def read_rows(
    path: Any, schema: Schema | None = None, *, reading: Reading | Mapping[str, Any] | None = None
) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Read examples that shall be predicted, whose targets are not read, and what their file calls them.

    Args:
        path: as in `read_examples`.
        schema: likewise.
        reading: likewise.

    Returns:
        x as in `read_examples`, a row for each of the file's, in its order; and by name, in the file's order, those of
        its columns that are the schema's client or identifiers: for each row a text or a whole number, None for a gap.
        An `.npz` file has none.

    Raises:
        DataError: the file cannot be read, or holds something else than training had; every problem is named.
        UsageError: a table is given without a schema.
        MissingPackage: the extra `tables` is not installed, which `.npz` files do without.
    """
    if _is_npz(path):
        return _examples_of_arrays(Path(path), None, False)[0], {}
    raw, prepared = _one_clients(path, schema, reading, target=False)
    known = () if schema is None else schema.identifiers
    return prepared.x, {name: _tables(path).row_names(raw.columns[name]) for name in raw.columns if name in known}


def _is_npz(path: Any) -> bool:
    return isinstance(path, str | os.PathLike) and Path(path).suffix.lower() == ".npz"


def _one_clients(
    path: Any, schema: Schema | None, reading: Reading | Mapping[str, Any] | None, **prepared_as: bool
) -> tuple[Any, Any]:
    """Return a table and its rows as the schema says, all of one client, whoever the table says it is."""
    if schema is None:
        raise UsageError(f"the model takes arrays without named columns: give {path} as .npz with an array x")
    tables, how = _tables(path), _reading(reading)
    raw = tables.read_table(path, how)
    own = Schema(tuple(_told(entry, how) for entry in schema.columns if entry.role != "client"), schema.task)
    prepared = tables.prepare(raw, own, **prepared_as)
    _say(raw)
    return raw, prepared


def _examples_of_arrays(
    path: Path, classes: Sequence[str] | None, need_target: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    x, y = _read_npz(path, need_target)
    where = f"y of {path}"
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


def _told(held: Field, how: Reading) -> Field:
    """Return a column as this file writes it."""
    if how.decimal is not None and held.kind == "number":
        return replace(held, decimal=how.decimal, group=None)
    if how.date_format is not None and held.kind == "date":
        return replace(held, format=how.date_format)
    more = tuple(mark for mark in how.missing if mark not in held.missing)
    return replace(held, missing=(*held.missing, *more)) if more else held


def _targets(y: np.ndarray | None, schema: Schema, name: str) -> Any:
    return encode(np.asarray(y, np.float64), None, f"the target of {name}")[0] if schema.task == "regression" else y


def _listed(name: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    not_one_text(name, names)
    return None if names is None else tuple(names)


def _reading(given: Reading | Mapping[str, Any] | None) -> Reading:
    if isinstance(given, Reading):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"reading must be such as fm.data.Reading(decimal=','), or a mapping, not {said(given)}")
    known = [entry.name for entry in fields(Reading)]
    for word in given or {}:
        if word not in known:
            raise UnknownName("way to read a table", word, known)
    values: dict[str, Any] = {word: tuple(v) if isinstance(v, list) else v for word, v in (given or {}).items()}
    return Reading(**values)


def _tables(table: Any) -> Any:
    """Return `fedmeta.data.tables`, which needs pyarrow."""
    need("pyarrow", f"reading {table}" if isinstance(table, str | os.PathLike) else "reading a table")
    from fedmeta.data import tables

    return tables


def _say(raw: Any) -> None:
    """Say aloud what was guessed."""
    for note in raw.findings.notes:
        log.warning("%s: %s", raw.name, note)


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
