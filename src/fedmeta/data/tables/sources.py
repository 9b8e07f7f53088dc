"""Tables from wherever they lie: delimited text, Parquet files and folders, workbooks, and frames in memory."""

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedmeta._extras import need
from fedmeta.data.kinds_of_files import DELIMITED, KINDS, PARQUET, WORKBOOKS, parts, unpacked_name
from fedmeta.data.tables.compute import pc
from fedmeta.data.tables.delimited import name_columns, read_delimited
from fedmeta.data.tables.problems import Findings, counted, listed, quoted
from fedmeta.data.tables.raw import RawTable
from fedmeta.data.wanted import Reading
from fedmeta.errors import DataError, UsageError


def read_table(table: Any, how: Reading | None = None) -> RawTable:
    """Return a table's columns, not yet understood.

    Args:
        table: a path, or a frame that speaks the Arrow C stream protocol (pyarrow, pandas, polars, DuckDB), or a dict
            of columns.
        how: what is told of the file.

    Raises:
        DataError: it cannot be read; every problem is named.
        UsageError: it is of a kind that is not read.
        MissingPackage: a workbook needs the extra `excel`.
    """
    how = how or Reading()
    if not isinstance(table, str | os.PathLike):
        return _frame(table)
    path = Path(table)
    findings = Findings(str(path))
    suffix = Path(unpacked_name(path)).suffix.lower()
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if path.is_dir():
        raw = _folder(path, findings)
    elif suffix in PARQUET:
        raw = _parquet(path, findings)
    elif suffix in WORKBOOKS:
        raw = _workbook(path, how, findings)
    elif suffix in DELIMITED:
        raw = read_delimited(path, how, findings)
    else:
        raise UsageError(f"{path} is of a kind that is not read; tables are {KINDS}")
    if how.sheet is not None and suffix not in WORKBOOKS:
        raise UsageError(f"--sheet is for workbooks, and {path} is none")
    return raw


def _of_table(table: pa.Table, stem: str, findings: Findings, place: Callable[[int], str]) -> RawTable:
    try:
        names = table.column_names
    except UnicodeDecodeError as error:
        raise DataError(
            f"{findings.name} cannot be read: the names of its columns are not UTF-8 ({error.reason})"
        ) from error
    if table.num_rows == 0:
        raise DataError(f"{findings.name} has no rows")
    columns = {number: _plain(name, table.column(number), findings, place) for number, name in enumerate(names)}
    named = name_columns(names, columns, findings)
    findings.check()
    return RawTable(named, stem, findings, place, typed=True)


def _plain(name: str, values: pa.ChunkedArray, findings: Findings, place: Callable[[int], str]) -> pa.ChunkedArray:
    """Return categories as what they stand for, bytes as the text that they are, and blank text as a gap."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (_is_text(values.type) or _is_bytes(values.type)):
        return values
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(values.to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                findings.problem(
                    f"column {name!r} holds {value!r:.60} in {place(row)}, bytes that are no text in UTF-8"
                )
                break
        return pa.chunked_array([pa.nulls(len(values), pa.string())])
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), None, text)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _row(row: int) -> str:
    return f"row {row} (counted from 0)"


def _parquet(path: Path, findings: Findings) -> RawTable:
    return _of_table(_read(path), path.stem, findings, _row)


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _folder(folder: Path, findings: Findings) -> RawTable:
    """Return the files of a folder as one table; a partition `site=007` is a column of text."""
    files = parts(folder)
    if not files:
        raise DataError(f"{folder} holds no Parquet files")
    tables, starts, keys = [], [0], None
    for path in files:
        table = _read(path)
        pairs = [part.partition("=") for part in path.relative_to(folder).parts[:-1] if "=" in part]
        for key, _, value in pairs:
            if key in table.column_names:
                findings.problem(f"{path} is in a folder {key}=..., and has a column {key!r} as well")
            else:
                table = table.append_column(key, pa.array([value] * table.num_rows, pa.string()))
        if keys is not None and keys != [key for key, _, _ in pairs]:
            findings.problem(f"{path} is in other partitions than {files[0]}")
        keys = [key for key, _, _ in pairs]
        tables.append(table)
        starts.append(starts[-1] + table.num_rows)
    first = tables[0].schema
    for path, table in zip(files[1:], tables[1:], strict=True):
        missing = [name for name in first.names if name not in table.schema.names]
        added = [name for name in table.schema.names if name not in first.names]
        if missing or added:
            said = [f"lacks {quoted(missing)}"] * bool(missing) + [f"has {quoted(added)} more"] * bool(added)
            findings.problem(
                f"{path.relative_to(folder)} {' and '.join(said)}, compared with {files[0].relative_to(folder)}"
            )
    findings.check()
    try:
        whole = pa.concat_tables([table.select(first.names) for table in tables], promote_options="permissive")
    except pa.ArrowException:
        for path, table in zip(files, tables, strict=True):
            differing = [name for name in first.names if table.schema.field(name).type != first.field(name).type]
            if differing:
                kinds = [
                    f"{name!r} is {table.schema.field(name).type}, not {first.field(name).type}" for name in differing
                ]
                findings.problem(f"in {path.relative_to(folder)}, {listed(kinds)} as in {files[0].relative_to(folder)}")
        findings.check()
        raise

    def place(row: int) -> str:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return f"row {row - starts[part]} of {files[part].relative_to(folder)}"

    return _of_table(whole, folder.stem, findings, place)


def _workbook(path: Path, how: Reading, findings: Findings) -> RawTable:
    """Return a sheet's cells as the text that a CSV file would have."""
    calamine = need("python_calamine", f"reading {path}")
    try:
        book = calamine.CalamineWorkbook.from_path(path)
        sheets = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    filled = {name: rows for name, rows in sheets.items() if any(any(cell != "" for cell in row) for row in rows)}
    if how.sheet is not None and how.sheet not in sheets:
        raise UsageError(f"{path} has no sheet {how.sheet!r}, but {quoted(sheets)}")
    if not filled:
        raise DataError(f"{path} is empty")
    chosen = how.sheet or next(iter(filled))
    if how.sheet is None and len(filled) > 1:
        findings.note(f"read from the sheet {chosen!r} of {quoted(filled)}; --sheet says otherwise")
    rows = [[_spelled(cell) for cell in row] for row in sheets[chosen]]
    kept = [number for number, row in enumerate(rows, 1) if any(row) and number not in set(how.skip_lines)]
    if not kept:
        raise DataError(f"the sheet {chosen!r} of {path} is empty")
    if how.names is None:
        names, kept = rows[kept[0] - 1], kept[1:]
    else:
        names = list(how.names)
    width = len(names)
    filled_in = sum(bool(name) for name in names)
    usual = max((sum(bool(cell) for cell in rows[number - 1]) for number in kept), default=0)
    if how.names is None and filled_in < usual / 2:
        findings.problem(
            f"row {kept[0] - 1} has {counted(filled_in, 'cell')}, but others have {usual}: if it is a title, say "
            f"--skip-lines {kept[0] - 1}"
        )
    findings.check()
    if not kept:
        raise DataError(f"{path} has no rows")
    columns = {
        number: pa.chunked_array([pa.array([rows[row - 1][number].strip() for row in kept], pa.string())])
        for number in range(width)
    }
    named = name_columns(names, columns, findings)
    findings.check()
    return RawTable(named, path.stem, findings, lambda row: f"row {kept[row]} of the sheet {chosen!r}")


def _spelled(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else str(cell)


def _frame(frame: Any) -> RawTable:
    findings = Findings("the table")
    if isinstance(frame, dict):
        if any(np.ndim(column) != 1 for column in frame.values()):
            raise DataError("the table cannot be read: each column of a dict has the shape [rows]")
    elif not hasattr(frame, "__arrow_c_stream__"):
        raise DataError(
            "a table is a path, a dict of columns, or a frame with __arrow_c_stream__ (pyarrow, pandas 2.2, polars, "
            "DuckDB), "
            f"not {type(frame).__name__}"
        )
    try:
        table = pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the table cannot be read: {' '.join(str(error).split())}") from error
    return _of_table(table, "table", findings, _row)
