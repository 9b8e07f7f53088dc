"""A column's values, read as its field in the schema says; what does not fit is a problem."""

from typing import Any

import numpy as np
import pyarrow as pa

from fedmeta.data.schema import Field
from fedmeta.data.tables import cells
from fedmeta.data.tables.compute import pc
from fedmeta.data.tables.problems import quoted
from fedmeta.data.tables.raw import RawTable


def is_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds text."""
    return pa.types.is_string(column.type)


def type_of(column: pa.ChunkedArray) -> str:
    """Return the standard's word for the type of a column."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "date"
    return "string" if pa.types.is_string(kind) or pa.types.is_null(kind) else "any"


def spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of any type as text; a number that is whole without decimals."""
    kind = type_of(column)
    if kind == "number":
        numbers = column.cast(pa.float64())
        values = numbers.to_numpy(zero_copy_only=False)
        gaps = np.isnan(values)
        if (np.mod(values[~gaps], 1) == 0).all() and (np.abs(values[~gaps]) < 2**53).all():
            whole = np.where(gaps, 0, values).astype(np.int64)
            return pa.chunked_array([pa.array(whole, mask=gaps).cast(pa.string())])
        return pa.chunked_array([pa.array(values, mask=gaps).cast(pa.string())])
    if kind == "date":
        return pc.strftime(column.cast(pa.timestamp("ms")), format="%Y-%m-%dT%H:%M:%S")
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    return column.cast(pa.string()) if kind != "string" else column


def row_names(column: pa.ChunkedArray) -> list[Any]:
    """Return a column of identifiers as whole numbers where the source has such, else as text; None in gaps."""
    return (column if type_of(column) == "integer" else spelled(column)).to_pylist()


def text_and_gaps(raw: RawTable, held: Field) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return a column's cells as text, and which of them are gaps, shape [rows]."""
    text = spelled(raw.columns[held.name]).fill_null("")
    gaps = pc.is_in(text, value_set=pa.array(["", *held.missing], pa.string()))
    return text, gaps.to_numpy(zero_copy_only=False)


def numbers(raw: RawTable, held: Field) -> np.ndarray:
    """Return a column of numbers, float64 of shape [rows], NaN in gaps; what is no number is a problem."""
    column = raw.columns[held.name]
    if pa.types.is_boolean(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        if infinite.any():
            raw.findings.problem(f"column {held.name!r} holds numbers that are not finite in {raw.where(infinite)}")
        marked = [float(mark) for mark in held.missing if _is_number(mark)]
        return np.where(np.isin(values, marked), np.nan, values) if marked else values
    text, gaps = text_and_gaps(raw, held)
    if held.type == "any":
        # The numbers of runs of an earlier version may be truth values.
        text = pc.replace_substring_regex(text, "(?i)^true$", "1")
        text = pc.replace_substring_regex(text, "(?i)^false$", "0")
    way = cells.Number(held.decimal, held.group)
    fits = pc.match_substring_regex(text, way.pattern)
    if held.group is not None:
        fits = pc.or_(fits, pc.match_substring_regex(text, cells.Number(held.decimal).pattern))
    wrong = ~fits.to_numpy(zero_copy_only=False) & ~gaps
    _refuse(raw, held, text, wrong, f"numbers ({way})")
    return way.parse(pc.if_else(pa.array(gaps | wrong), None, _one(text)))


def _one(text: pa.ChunkedArray) -> pa.Array:
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _refuse(raw: RawTable, held: Field, text: pa.ChunkedArray, wrong: np.ndarray, expected: str) -> None:
    """Say which cells do not fit, if there are any."""
    if wrong.any():
        rows = np.flatnonzero(wrong)
        words = dict.fromkeys(text.take(pa.array(rows[:1000])).to_pylist())
        raw.findings.problem(
            f"column {held.name!r} holds {quoted(words)} in {raw.where(rows)}, where the schema has {expected}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def days(raw: RawTable, held: Field) -> np.ndarray:
    """Return a column of dates as days since 1970-01-01, float64 of shape [rows], NaN in gaps."""
    column = raw.columns[held.name]
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        stamps = column.cast(pa.timestamp("ms")).to_numpy(zero_copy_only=False)
        return np.where(np.isnat(stamps), np.nan, stamps.astype("int64") / 86_400_000)
    text, gaps = text_and_gaps(raw, held)
    found = cells.Date.of(held.format or "%Y-%m-%d").parse(_one(text))
    wrong = ~np.isfinite(found) & ~gaps
    _refuse(raw, held, text, wrong, f"dates as {held.format}")
    return np.where(gaps, np.nan, found)


def booleans(raw: RawTable, held: Field) -> np.ndarray:
    """Return a column of truth values, float64 of shape [rows], NaN in gaps."""
    column = raw.columns[held.name]
    if pa.types.is_boolean(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    text, gaps = text_and_gaps(raw, held)
    lower = pc.utf8_lower(text)
    yes = pc.equal(lower, (held.true or "true").lower()).to_numpy(zero_copy_only=False)
    no = pc.equal(lower, (held.false or "false").lower()).to_numpy(zero_copy_only=False)
    wrong = ~(yes | no | gaps)
    _refuse(raw, held, text, wrong, f"{held.true!r} and {held.false!r}")
    return np.where(gaps, np.nan, yes.astype(float))


def labels(raw: RawTable, held: Field) -> list[str]:
    """Return the labels of a target column as text; whole numbers without decimals, gaps as they are."""
    column = raw.columns[held.name]
    if not pa.types.is_string(column.type):
        return spelled(column).fill_null("").to_pylist()
    text, gaps = text_and_gaps(raw, held)
    way = cells.Number(held.decimal, held.group)
    listed = text.to_pylist()
    pattern = pc.match_substring_regex(
        text, way.pattern if held.group is None else f"{way.pattern}|{cells.Number(held.decimal).pattern}"
    )
    zero = pc.match_substring_regex(text, r"^0\d")
    if not (np.asarray(pattern) | gaps).all() or pc.any(zero).as_py():
        return listed
    values = way.parse(pc.if_else(pa.array(gaps), None, _one(text)))
    return [
        word if gap or not value.is_integer() else str(int(value))
        for word, gap, value in zip(listed, gaps, values.tolist(), strict=True)
    ]


def owners(raw: RawTable, held: Field) -> np.ndarray:
    """Return whose each row is: integers where all are whole numbers in their one spelling, else text, shape [rows]."""
    column = raw.columns[held.name]
    if pa.types.is_integer(column.type) and not column.null_count:
        return column.to_numpy()
    text = spelled(column).fill_null("")
    if pc.all(pc.match_substring_regex(text, r"^(0|-?[1-9]\d{0,17})$")).as_py():
        return text.cast(pa.int64()).to_numpy()
    return np.array(text.to_pylist(), str)
