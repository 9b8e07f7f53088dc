"""A table by its schema: the inputs as numbers, the targets, and whose each row is."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fedmeta.data.schema import Field, Schema
from fedmeta.data.tables.compute import pc
from fedmeta.data.tables.problems import counted, quoted
from fedmeta.data.tables.raw import RawTable
from fedmeta.data.tables.values import booleans, days, labels, numbers, owners, text_and_gaps, type_of

YEAR = 365.25


@dataclass(frozen=True)
class Prepared:
    """What a model takes of a table.

    Args:
        x: the inputs, float32 of shape [rows, features]. A gap is 0 where a column beside it says so, and else the mean
            of the training clients.
        y: targets of shape [rows]: int32 places among the classes, or float64 numbers; None if they were not read.
        clients: whose each row is, integers or text of shape [rows]; None if all are one client's.
    """

    x: np.ndarray
    y: np.ndarray | None
    clients: np.ndarray | None


def prepare(
    raw: RawTable, schema: Schema, *, target: bool = True, drop_missing_target: bool = False, strict: bool = False
) -> Prepared:
    """Return the rows of a table as its schema says.

    Args:
        raw: the table.
        schema: what its columns are.
        target: whether targets are read.
        drop_missing_target: leave out rows without a target.
        strict: refuse a column of whose values none is a known category, or none lies in its public range: they are
            coded otherwise.

    Raises:
        DataError: a value does not fit the schema; every problem is named with its rows.
    """
    findings = raw.findings
    wanted = [
        *schema.used,
        *(entry for entry in (schema.role("client"), schema.role("target") if target else None) if entry),
    ]
    for entry in wanted:
        if entry.name not in raw.columns:
            findings.problem(
                f"there is no column {entry.name!r}, which the model needs; the columns are {quoted(raw.columns)}"
            )
    findings.check()
    # As `Inputs.of`: where one number has a public range, no statistic of anybody's stands in the schema.
    public = any(entry.minimum is not None for entry in schema.used)
    parts = [_feature(raw, entry, strict, public) for entry in schema.used]
    x = np.concatenate(parts, axis=1) if parts else np.zeros((raw.num_rows, 0), np.float32)
    owner, label = schema.role("client"), schema.role("target")
    clients = None if owner is None else owners(raw, owner)
    y, kept = None, np.ones(raw.num_rows, bool)
    if target and label is not None:
        y, gaps = _target(raw, label, schema)
        if drop_missing_target:
            kept = ~gaps
        elif gaps.any():
            findings.problem(
                f"the target column {label.name!r} is missing in {counted(int(gaps.sum()), 'row')} "
                f"({raw.where(gaps)}): leave them "
                "out with --drop-missing-target"
            )
    findings.check()
    if not kept.any():
        findings.problem("no row has a target")
        findings.check()
    if kept.all():
        return Prepared(x, y, clients)
    return Prepared(x[kept], None if y is None else y[kept], None if clients is None else clients[kept])


def _feature(raw: RawTable, held: Field, strict: bool, public: bool) -> np.ndarray:
    """Return the columns of x that a column gives, shape [rows, columns]."""
    if held.kind == "category":
        return _categories(raw, held, strict)
    if held.kind == "boolean":
        values = booleans(raw, held)
    elif held.kind == "date":
        values = days(raw, held)
    else:
        values = numbers(raw, held)
        if strict:
            _check_range(raw, held, values)
    gaps = np.isnan(values)
    columns = [np.where(gaps, 0.0, values)]
    if held.kind == "date":
        columns += [np.where(gaps, 0.0, part) for part in _parts(values, held)]
    if held.gaps:
        columns.append(gaps)
    elif gaps.any():
        if held.mean is None:
            raw.findings.problem(
                f"column {held.name!r} has gaps in {raw.where(gaps)}, and the schema says that it has none"
            )
        else:
            raw.findings.note(
                f"column {held.name!r} has {counted(int(gaps.sum()), 'gap')}, filled with {_fill(held, public)}"
            )
            columns[0] = np.where(gaps, held.mean, values)
    with np.errstate(over="ignore"):
        x = np.stack(columns, axis=1).astype(np.float32)
    beyond = ~np.isfinite(x).all(axis=1)
    if beyond.any():
        raw.findings.problem(f"column {held.name!r} holds numbers beyond 32 bits in {raw.where(beyond)}")
    return x


def _fill(held: Field, public: bool) -> str:
    """Return what a gap is filled with, in words that never call a public number a statistic of somebody's."""
    if not public:
        return f"the training mean {held.mean:.4g}"
    if held.kind == "boolean":
        return f"{held.mean:.4g}, between its two values"
    if held.minimum is not None and held.maximum is not None and held.mean == held.minimum / 2 + held.maximum / 2:
        return f"the middle of its public range, {held.mean:.4g}"
    return f"the public mean {held.mean:.4g}"


def _check_range(raw: RawTable, held: Field, values: np.ndarray) -> None:
    """Note as a problem that no number lies in its public range: then they are in another unit, or coded otherwise."""
    known = values[~np.isnan(values)]
    if held.minimum is None or held.maximum is None or not len(known):
        return
    if not ((known >= held.minimum) & (known <= held.maximum)).any():
        raw.findings.problem(
            f"column {held.name!r} holds numbers from {known.min():g} to {known.max():g}, and none in the range from "
            f"{held.minimum:g} to {held.maximum:g} that the model knows: in another unit, perhaps"
        )


def _parts(found: np.ndarray, held: Field) -> list[np.ndarray]:
    columns = []
    for part in held.parts:
        if part == "weekday":
            # 1970-01-01 was a Thursday.
            weekday = (np.floor(found) + 3) % 7
            columns += [np.where(weekday == number, 1.0, 0.0) for number in range(7)]
        else:
            turn = 2 * np.pi * (found / YEAR if part == "season" else found % 1)
            columns += [np.sin(turn), np.cos(turn)]
    return columns


def _categories(raw: RawTable, held: Field, strict: bool) -> np.ndarray:
    text, gaps = text_and_gaps(raw, held)
    place = pc.index_in(text, value_set=pa.array(held.categories or (), pa.string()))
    place = place.fill_null(-1).to_numpy(zero_copy_only=False)
    names = held.categories or ()
    unknown = (place < 0) & ~gaps
    columns = [place == number for number in range(len(names))]
    if held.other:
        columns.append(unknown)
    elif unknown.any():
        words = dict.fromkeys(text.take(pa.array(np.flatnonzero(unknown)[:1000])).to_pylist())
        if strict and not (place >= 0).any():
            raw.findings.problem(
                f"column {held.name!r} holds {quoted(words)}, and none of the values that the model knows, "
                f"{quoted(names)}"
            )
        raw.findings.note(
            f"column {held.name!r} holds {quoted(words)} in {counted(int(unknown.sum()), 'row')}, which training did "
            "not have: they count "
            "as none of its values"
        )
    if held.gaps:
        columns.append(gaps)
    return np.stack(columns, axis=1).astype(np.float32)


def _target(raw: RawTable, held: Field, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    if schema.task == "regression":
        values = numbers(raw, held)
        return values, np.isnan(values)
    kind = type_of(raw.columns[held.name])
    names = schema.classes or ()
    numeric = ("integer", "number")
    if kind != "string" and held.type not in ("any", kind) and not (kind in numeric and held.type in numeric):
        raw.findings.problem(
            f"the target column {held.name!r} holds {kind}s, and the classes of the model are the texts "
            f"{quoted(names)}: write their names, "
            f'or type = "any" in the schema if {kind}s and texts that are spelled alike are the same'
        )
        return np.zeros(raw.num_rows, np.int32), np.zeros(raw.num_rows, bool)
    text = labels(raw, held)
    places = {name: place for place, name in enumerate(names)}
    gone = {"", *held.missing} - set(names)
    gaps = np.array([word in gone for word in text])
    y = np.array([places.get(word, -1) for word in text], np.int32)
    wrong = (y < 0) & ~gaps
    if wrong.any():
        rows = np.flatnonzero(wrong)
        words = dict.fromkeys(text[row] for row in rows)
        raw.findings.problem(
            f"the target column {held.name!r} holds {quoted(words)} in {raw.where(rows)}, and the classes are "
            f"{quoted(names)}"
        )
    return y, gaps
