"""The schema of a table, decided over all of its rows; what cannot be decided is asked in one message."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from fedmeta.data.schema import LEFT_OUT, Field, Kind, Role, Schema, Task
from fedmeta.data.tables import cells, kinds
from fedmeta.data.tables.compute import pc
from fedmeta.data.tables.kinds import Signs
from fedmeta.data.tables.problems import counted, quoted
from fedmeta.data.tables.profile import LEVELS, Profile, profile
from fedmeta.data.tables.raw import RawTable
from fedmeta.data.tables.values import days, is_text, labels, numbers, spelled, type_of
from fedmeta.data.wanted import Reading, Wanted
from fedmeta.errors import UnknownName, UsageError

FAR = (-9, -99, -999, -9999, -99999, 99, 999, 9999, 99999)
"""Numbers by which people mark gaps; one that lies outside of all others by more than their range is asked about."""


def roles(raw: RawTable, wanted: Wanted) -> dict[str, Role]:
    """Return what each column is for.

    Raises:
        UsageError: a column has two uses, or there are no features.
        UnknownName: there is no such column.
    """
    if wanted.client is not None and wanted.client == wanted.target:
        raise UsageError(f"the column {wanted.client!r} cannot be both client and target")
    told = [name for name in (wanted.client, wanted.target) if name is not None]
    wanted = replace(wanted, features=_columns(raw, wanted.features), exclude=_columns(raw, wanted.exclude) or ())
    for name in (*told, *(wanted.features or ()), *wanted.exclude, *(wanted.kinds or {})):
        if name not in raw.columns:
            raise UnknownName(f"column of {raw.name}", name, raw.columns)
    if both := set(told) & set(wanted.features or ()):
        raise UsageError(f"the features must not hold the client or the target column, {min(both)!r}")
    chosen = raw.columns if wanted.features is None else wanted.features
    features = [name for name in chosen if name not in (*told, *wanted.exclude)]
    if not features:
        raise UsageError(f"{raw.name} has no column left for the features beside {quoted(told)}")
    return {
        name: "client"
        if name == wanted.client
        else "target"
        if name == wanted.target
        else "feature"
        if name in features
        else "none"
        for name in raw.columns
    }


def _columns(raw: RawTable, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names of columns; a text that is none is several with commas between them."""
    if names is None:
        return None
    split = ([name] if name in raw.columns else [part.strip() for part in name.split(",")] for name in names)
    return tuple(name for group in split for name in group)


def infer(raw: RawTable, wanted: Wanted, how: Reading | None = None) -> Schema:
    """Return what each column of a table is.

    What was guessed is added to the table's findings.

    Raises:
        DataError: something has to be decided first; each question is named with its rows and options.
        UsageError: what is wanted does not fit the table.
    """
    how = how or Reading()
    uses = roles(raw, wanted)
    told = None if how.date_format is None else _told_date(how.date_format)
    profiles = {name: profile_of(raw.columns[name], how, told) for name, role in uses.items() if role != "none"}
    text = [profiles[name] for name, role in uses.items() if role != "none" and is_text(raw.columns[name])]
    # Where a comma separates cells, a number with a decimal comma would stand in quotes.
    likely = "." if raw.separator == "," else kinds.settled_decimal(text)
    if how.decimal not in (None, ".", ","):
        raise UsageError(f"--decimal is . or a comma, not {how.decimal!r}")
    signs = Signs(how.decimal, likely, told, how.missing)
    fields, task = [], None
    for name, role in uses.items():
        if role == "client":
            fields.append(_client(raw, name, profiles[name]))
        elif role == "target":
            target, task = _target(raw, name, profiles[name], wanted, signs)
            fields.append(target)
        elif role == "none":
            fields.append(Field(name=name, kind="text", role="none", type=type_of(raw.columns[name])))
        else:
            asked = (wanted.kinds or {}).get(name)
            fields.append(_feature(raw, name, profiles[name], signs, asked, how.present))
    schema = Schema(tuple(fields), task)
    if not schema.features:
        out = "; ".join(note for note in raw.findings.notes if "left out" in note)
        raw.findings.problem(f"no column is left for the features: {out}")
    raw.findings.check()
    return schema


def _told_date(text: str) -> cells.Date:
    try:
        return cells.Date.of(text)
    except (KeyError, ValueError):
        raise UsageError(f"--date-format is made of %Y, %y, %m, %b and %d, such as %d.%m.%Y, not {text!r}") from None


def profile_of(column: pa.ChunkedArray, how: Reading, told: cells.Date | None) -> Profile:
    """Return the counts of a column; numbers of a typed column are not spelled out cell by cell."""
    kind = type_of(column)
    if kind in ("integer", "number"):
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        values = values[~np.isnan(values)]
        distinct = pc.count_distinct(column.drop_null()).as_py()
        whole = bool((np.mod(values[np.isfinite(values)], 1) == 0).all())
        levels = profile(spelled(column), how.missing).levels if distinct <= LEVELS else None
        found = Profile(
            rows=len(column), blank=len(column) - len(values), levels=levels, repeats=len(values) - distinct
        )
        every = (*cells.PLAIN[1:], *cells.GROUPED, *cells.DATES, *cells.TRUE_FALSE)
        found.failures.update(dict.fromkeys(every, len(values)))
        found.shapes.update({"whole": len(values) if whole else 0, "fraction": 0 if whole else len(values)})
        if kind == "integer" and len(values) and np.abs(values).max() >= 1e15:
            found.shapes["long"] = int((np.abs(values) >= 1e15).sum())
        return found
    if kind == "any":
        return Profile(rows=len(column), blank=column.null_count, levels=None)
    return profile(spelled(column), how.missing, how.present, () if told is None else (told,))


def _feature(
    raw: RawTable, name: str, column: Profile, signs: Signs, asked: Kind | None, present: Sequence[str]
) -> Field:
    values, kind = raw.columns[name], type_of(raw.columns[name])
    if kind == "any":
        raw.findings.note(f"column {name!r} is left out: it is of the type {values.type}")
        return Field(name=name, kind="text", type="any")
    if kind == "boolean":
        held = Field(name=name, kind="boolean", type=kind, gaps=column.blank > 0)
        return (
            replace(held, kind="constant")
            if pc.count_distinct(values.drop_null()).as_py() < 2 and not held.gaps
            else held
        )
    if kind == "date":
        return _parted(raw, replace(Field(name=name, kind="date", type=kind, format="%Y-%m-%d"), gaps=column.blank > 0))
    decision = kinds.decide(name, column, signs)
    if raw.typed and kind == "string" and decision.misfits is not None:
        # Its type says that it is text.
        decision = kinds.as_text(name, column, signs)
    held = decision.field
    if asked is not None and asked != held.kind:
        held, decision = _as_told(held, column, asked), replace(decision, notes=(), question=None)
    for note in decision.notes:
        raw.findings.note(note)
    if decision.question is not None:
        _ask(raw, name, decision, signs)
        return held
    held = replace(held, type=kind)
    if held.kind == "number":
        _ask_about_outliers(raw, held, present)
    if held.kind == "date":
        held = _parted(raw, held)
    return held


def _as_told(held: Field, column: Profile, kind: Kind) -> Field:
    """Return a column as the kind that it is told to be."""
    if kind == "category":
        return kinds.categories(replace(held, kind="category", gaps=column.blank > 0, missing=()), column)
    if kind == "number":
        ways = [way for way in (*cells.PLAIN, *cells.GROUPED) if column.reads(way)]
        if not ways:
            raise UsageError(f"--kind {held.name}=number: not all of its values are numbers")
        return replace(held, kind=kind, decimal=ways[0].decimal, group=ways[0].group, categories=None)
    if kind in LEFT_OUT:
        return replace(held, kind=kind, categories=None, gaps=False)
    raise UsageError(f"--kind {held.name}={kind}: its values do not look like that; write a schema and edit it")


def _ask(raw: RawTable, name: str, decision: kinds.Decision, signs: Signs) -> None:
    text = spelled(raw.columns[name]).fill_null("")
    gaps = pc.is_in(text, value_set=pa.array(["", *signs.missing, *cells.MARKERS], pa.string()))
    wrong = pc.invert(gaps)
    if decision.misfits is not None:
        wrong = pc.and_not(wrong, pc.match_substring_regex(text, decision.misfits))
    rows = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    words = list(dict.fromkeys(text.take(pa.array(rows[:1000])).to_pylist()))
    first = f"{words[0]!r} in {raw.place(int(rows[0]))}" if decision.misfits is None else repr(words[0])
    question = decision.question or ""
    if raw.separator is not None and decision.misfits is not None and len(rows) and len(rows) == (rows == 0).sum():
        number = raw.place(0).split()[-1]
        cells_said = quoted([spelled(column)[0].as_py() or "" for column in raw.columns.values()])
        raw.findings.only(
            f"line {number} ({cells_said}) does not fit the rows below: if it is a row of units, say --skip-lines "
            f"{number}"
        )
        return
    for mark, said in (("{words}", quoted(words)), ("{places}", raw.where(rows)), ("{first}", first)):
        question = question.replace(mark, said)
    raw.findings.problem(question)


def _ask_about_outliers(raw: RawTable, held: Field, present: Sequence[str]) -> None:
    values = numbers(raw, held)
    known = np.unique(values[np.isfinite(values)])
    for mark in FAR:
        others = known[known != mark]
        if mark not in known or len(others) < 3 or str(mark) in present:
            continue
        span = others[-1] - others[0]
        if span > 0 and (mark < others[0] - span or mark > others[-1] + span):
            rows = np.flatnonzero(values == mark)
            raw.findings.problem(
                f"column {held.name!r} holds {mark} in {counted(len(rows), 'row')} ({raw.where(rows)}), far outside "
                "of the others "
                f"({others[0]:g} to {others[-1]:g}): say --missing {mark} if that marks a gap, and --present {mark} "
                "if it was measured"
            )


def _parted(raw: RawTable, held: Field) -> Field:
    """Return a date with the parts that vary enough to matter."""
    found = days(raw, held)
    found = found[np.isfinite(found)]
    parts = []
    if len(found) and np.ptp(found) > 60:
        parts.append("season")
    if len(found) and np.ptp(found) > 13 and len(np.unique(np.floor(found) % 7)) > 1:
        parts.append("weekday")
    if len(np.unique(found % 1)) > 1:
        parts.append("time")
    if len(np.unique(found)) < 2 and not held.gaps:
        raw.findings.note(f"column {held.name!r} is left out: it holds one date only")
        return replace(held, kind="constant")
    return replace(held, parts=tuple(parts))


def _client(raw: RawTable, name: str, column: Profile) -> Field:
    text = spelled(raw.columns[name]).fill_null("")
    blank = pc.equal(pc.utf8_trim_whitespace(text), "").to_numpy(zero_copy_only=False)
    if blank.any():
        raw.findings.problem(
            f"the client column {name!r} is empty in {counted(int(blank.sum()), 'row')} ({raw.where(blank)}): leave "
            "them out"
        )
    kind = type_of(raw.columns[name])
    if kind in ("any", "boolean", "date"):
        raw.findings.problem(
            f"the client column {name!r} is of the type {raw.columns[name].type}; it needs text or whole numbers"
        )
    if kind == "number" and not column.shapes["whole"]:
        raw.findings.problem(f"the client column {name!r} holds numbers with decimals; it needs text or whole numbers")
    if column.markers and is_text(raw.columns[name]):
        marked = pc.is_in(text, value_set=pa.array(list(column.markers))).to_numpy(zero_copy_only=False)
        if column.values and column.shapes["whole"] == column.values:
            raw.findings.problem(
                f"the client column {name!r} has no client, but {quoted(column.markers)}, in {raw.where(marked)}: "
                "leave the rows out"
            )
        else:
            raw.findings.note(f"{quoted(column.markers)} in the client column {name!r} is a client's name, not a gap")
    return Field(name=name, kind="identifier", role="client", type=kind)


def _target(raw: RawTable, name: str, column: Profile, wanted: Wanted, signs: Signs) -> tuple[Field, Task | None]:
    kind = type_of(raw.columns[name])
    if kind in ("any", "date"):
        raw.findings.problem(
            f"the target column {name!r} is of the type {raw.columns[name].type}; targets are numbers, text or booleans"
        )
        return Field(name=name, kind="text", role="target", type=kind), None
    _missing_target(raw, name, column, wanted, signs)
    held = Field(
        name=name,
        role="target",
        type=kind,
        missing=(*signs.missing, *sorted(set(column.markers) - set(wanted.classes or ()))),
    )
    if kind == "boolean":
        return replace(held, kind="category", categories=wanted.classes or ("false", "true")), "classification"
    ways = [
        way
        for way in (*cells.PLAIN, *cells.GROUPED)
        if column.reads(way)
        and (signs.decimal is None or way.decimal == signs.decimal or column.shapes["whole"] == column.values)
    ]
    numeric = (
        bool(ways)
        and not (raw.typed and kind == "string")
        and not column.shapes["leading zero"]
        and not column.shapes["long"]
    )
    if wanted.task == "regression" and not numeric:
        raw.findings.problem(f"the target column {name!r} holds text, which is no regression")
        return held, "regression"
    if numeric and wanted.task is None and wanted.classes is None:
        return _by_values(raw, replace(held, decimal=ways[0].decimal, group=ways[0].group), column)
    if numeric and wanted.task != "classification" and wanted.classes is None:
        return replace(held, kind="number", decimal=ways[0].decimal, group=ways[0].group), "regression"
    if not numeric and not raw.typed and wanted.task is None and wanted.classes is None:
        best = min(cells.PLAIN, key=lambda way: column.failures[way])
        if (
            column.values
            and column.failures[best] <= (1 - kinds.MOSTLY) * column.values
            and not column.shapes["leading zero"]
        ):
            question = kinds.Decision(
                held,
                question=(
                    f"the target column {name!r} holds numbers, but {{words}} in {{places}}: if that marks a gap, say "
                    "--missing {first} --drop-missing-target, or --task classification if these are classes"
                ),
                misfits=best.pattern,
            )
            _ask(raw, name, question, signs)
            return held, None
    return _classes(raw, held, column, wanted), "classification"


def _missing_target(raw: RawTable, name: str, column: Profile, wanted: Wanted, signs: Signs) -> None:
    gone = {mark for mark in column.markers if mark not in (wanted.classes or ())}
    if (not column.blank and not gone) or wanted.drop_missing_target:
        if column.blank or gone:
            raw.findings.note(
                f"{counted(column.blank + sum(column.markers[mark] for mark in gone), 'row')} without a target left out"
            )
        return
    text = spelled(raw.columns[name]).fill_null("")
    rows = pc.is_in(text, value_set=pa.array(["", *signs.missing, *gone], pa.string())).to_numpy(zero_copy_only=False)
    what = (
        "is blank"
        if not gone
        else f"is blank or {quoted(sorted(gone))}"
        if column.blank
        else f"is {quoted(sorted(gone))}"
    )
    hint = f", or name {quoted(sorted(gone))} among the classes" if gone else ""
    raw.findings.problem(
        f"the target column {name!r} {what} in {counted(int(rows.sum()), 'row')} ({raw.where(rows)}): leave them out "
        f"with --drop-missing-target{hint}"
    )


def _by_values(raw: RawTable, held: Field, column: Profile) -> tuple[Field, Task]:
    """Decide between classes and numbers by how many different whole numbers there are."""
    name = held.name
    whole = column.shapes["fraction"] == 0
    distinct = None if column.levels is None else len(column.levels)
    if not whole:
        raw.findings.note(f"the target {name!r} is predicted as a number, for it has decimals")
        return replace(held, kind="number"), "regression"
    few = distinct is not None and distinct <= kinds.MAX_CLASSES and (distinct <= 2 or column.values >= 2 * distinct)
    said = "more than 1,000" if distinct is None else str(distinct)
    if few:
        hint = "; that is many for classes" if distinct is not None and distinct > kinds.MAX_CLASSES // 2 else ""
        raw.findings.note(
            f"the target {name!r} is predicted as one of {said} classes, for it holds {said} whole numbers{hint}; "
            "--task regression says otherwise"
        )
        return _classes(raw, held, column, Wanted()), "classification"
    raw.findings.note(
        f"the target {name!r} is predicted as a number, for it holds {said} different whole numbers; --task "
        "classification says otherwise"
    )
    return replace(held, kind="number"), "regression"


def _classes(raw: RawTable, held: Field, column: Profile, wanted: Wanted) -> Field:
    if column.levels is None:
        raw.findings.problem(
            f"the target column {held.name!r} has more than 1,000 different values, too many for classes"
        )
        return held
    names = wanted.classes
    if names is None:
        found = {name for name in labels(raw, held) if name not in ("", *held.missing)}
        names = tuple(sorted(found, key=_in_order))
        if len(names) == 1:
            raw.findings.problem(
                f"the target column {held.name!r} holds one class only, {names[0]!r}; a classifier needs two"
            )
        if column.repeats == 0 and column.values > 2:
            raw.findings.problem(f"the target column {held.name!r} holds text that never repeats: it is no target")
    return replace(held, kind="category", categories=names)


def _in_order(name: str) -> tuple[int, Any]:
    digits = name.removeprefix("-")
    return (0, int(name)) if digits.isdecimal() and (digits == "0" or digits[0] != "0") else (1, name)
