"""What a column is, decided from the counts of its cells; or a question, where they fit more than one reading."""

import re
from dataclasses import dataclass, replace

from fedmeta.data.schema import Field
from fedmeta.data.tables import cells
from fedmeta.data.tables.problems import counted, quoted
from fedmeta.data.tables.profile import Profile

MAX_CATEGORIES = 30
"""With more values than this, a column of text is left out."""
RARE = 5
"""Values of fewer rows share a column."""
MAX_CLASSES = 20
"""Whole numbers with more values than this are for regression."""
MOSTLY = 0.5
"""If this share of a column's values can be read as numbers or dates, the others are asked about."""
NAMED = re.compile(r"(^|[\W_])(id|ids|uid|uuid|guid|key|ident|identifier|index|nr|number)$|[a-z]I[dD]$", re.IGNORECASE)


@dataclass(frozen=True)
class Decision:
    """What a column is.

    Args:
        field: the column, without its role.
        notes: what was guessed, and the option that decides otherwise.
        question: what has to be decided by whoever knows, with the options; None if nothing has.
        misfits: the pattern of the cells that a question is about are all that it does not fit.
    """

    field: Field
    notes: tuple[str, ...] = ()
    question: str | None = None
    misfits: str | None = None


@dataclass(frozen=True)
class Signs:
    """What the file as a whole says about how numbers are written.

    Args:
        decimal: the sign before decimals, where it is told.
        likely: the sign that decides where a column could be read with either.
        date: how dates are written, where it is told.
        missing: texts that are told to mark gaps.
    """

    decimal: str | None = None
    likely: str | None = None
    date: cells.Date | None = None
    missing: tuple[str, ...] = ()


def settled_decimal(profiles: list[Profile]) -> str | None:
    """Return the sign before decimals that some column shows, if no other column shows the other one."""
    shown = set()
    for column in profiles:
        ways = [way for way in (*cells.PLAIN, *cells.GROUPED) if column.reads(way)]
        if column.shapes["fraction"] and len({way.decimal for way in ways}) == 1:
            shown.add(ways[0].decimal)
    return shown.pop() if len(shown) == 1 else None


def decide(name: str, column: Profile, signs: Signs) -> Decision:
    """Return what a column of text is, as a feature."""
    held = _held(name, column, signs)
    if column.values == 0:
        return Decision(
            replace(held, kind="constant", gaps=False), (f"column {name!r} holds no values and is left out",)
        )
    return (
        _boolean(held, column)
        or _date(held, column, signs)
        or _number(held, column, signs)
        or _text(held, column, signs)
    )


def as_text(name: str, column: Profile, signs: Signs) -> Decision:
    """Return what a column is that is known to be text."""
    return _text(_held(name, column, signs), column, signs)


def _held(name: str, column: Profile, signs: Signs) -> Field:
    gaps = column.blank + column.markers.total()
    return Field(name=name, gaps=gaps > 0, missing=(*signs.missing, *sorted(column.markers)))


def _boolean(held: Field, column: Profile) -> Decision | None:
    for yes, no in cells.TRUE_FALSE:
        if column.reads((yes, no)) and column.levels is not None and len({word.lower() for word in column.levels}) == 2:
            return Decision(replace(held, kind="boolean", true=yes, false=no))
    return None


def _date(held: Field, column: Profile, signs: Signs) -> Decision | None:
    name = held.name
    if signs.date is not None and column.reads(signs.date):
        return Decision(replace(held, kind="date", format=signs.date.format, missing=held.missing))
    ways = [way for way in cells.DATES if column.reads(way)]
    if not ways:
        best = min(cells.DATES, key=lambda way: column.failures[way])
        failing = column.failures[best]
        if 0 < failing <= (1 - MOSTLY) * column.values:
            return Decision(
                replace(held, kind="date", format=best.format),
                question=(
                    f"column {name!r} holds dates as {best.format}, but {{words}} in {{places}}: if that marks a "
                    "gap, "
                    f"say --missing; if the column is text, --kind {name}=category"
                ),
                misfits=best.pattern,
            )
        return None
    formats = [way.format for way in ways]
    if len(ways) > 1 or "%y" in ways[0].format:
        said = " or ".join(formats)
        why = "years have two digits" if len(ways) == 1 else f"the dates can be read as {said}"
        return Decision(
            replace(held, kind="date", format=formats[0]),
            question=f"column {name!r}: {why} ({{first}}); say which with --date-format, such as --date-format "
            f"'{formats[0]}'" + (" (years are 1969 to 2068)" if "%y" in formats[0] else ""),
        )
    note = f"column {name!r} holds dates as {formats[0]}; --date-format says otherwise"
    return Decision(replace(held, kind="date", format=formats[0]), (note,) if formats[0][:2] != "%Y" else ())


def _number(held: Field, column: Profile, signs: Signs) -> Decision | None:
    name = held.name
    ways = [way for way in cells.PLAIN if column.reads(way)]
    ways += [way for way in cells.GROUPED if column.reads(way) and way not in ways]
    if signs.decimal is not None and column.shapes["whole"] < column.values:
        ways = [way for way in ways if way.decimal == signs.decimal]
    if not ways:
        return _mostly_numbers(held, column, signs)
    for shape, what in (
        ("leading zero", "numbers with leading zeros"),
        ("long", "numbers of 16 digits and more, which a computer's number cannot tell apart"),
    ):
        if column.shapes[shape]:
            return _codes(held, column, what, identifier=shape == "long")
    if column.shapes["exponent"] == column.values:
        return _codes(held, column, "codes with an E", identifier=False)
    if column.shapes["whole"] == column.values:
        found = replace(held, kind="number")
        if NAMED.search(name) and column.repeats == 0 and column.values > 1:
            note = (
                f"column {name!r} is left out as an identifier, by its name and since no value comes twice; --kind "
                f"{name}=number keeps it"
            )
            return Decision(replace(found, kind="identifier"), (note,))
        return Decision(_constant(found, column), _constant_notes(found, column))
    if len({way.decimal for way in ways}) > 1:
        ways = [way for way in ways if way.decimal == signs.likely]
    if not ways:
        return Decision(
            replace(held, kind="number"),
            question=(
                f"column {name!r}: {{first}} can be a number with thousands or with decimals; say --decimal . or "
                "--decimal ,"
            ),
        )
    way = ways[0]
    found = replace(held, kind="number", decimal=way.decimal, group=way.group)
    notes = []
    if way.group is not None:
        notes.append(f"column {name!r} has thousands set apart by {way.group!r}")
    return Decision(_constant(found, column), (*notes, *_constant_notes(found, column)))


def _mostly_numbers(held: Field, column: Profile, signs: Signs) -> Decision | None:
    name = held.name
    allowed = [way for way in cells.PLAIN if signs.decimal in (None, way.decimal)]
    best = min(allowed, key=lambda way: column.failures[way])
    if column.failures[best] <= (1 - MOSTLY) * column.values and not column.shapes["leading zero"]:
        return Decision(
            replace(held, kind="number", decimal=best.decimal),
            question=(
                f"column {name!r} holds numbers, but {{words}} in {{places}}: if that marks a gap, say --missing "
                f"{{first}}; "
                f"if the column is text, --kind {name}=category"
            ),
            misfits=best.pattern,
        )
    return None


def _codes(held: Field, column: Profile, what: str, identifier: bool) -> Decision:
    if identifier and column.repeats == 0:
        note = f"column {held.name!r} is left out as an identifier: it holds {what}; --kind {held.name}=number keeps it"
        return Decision(replace(held, kind="identifier"), (note,))
    found = _text(held, column, Signs())
    return replace(
        found,
        notes=(
            f"column {held.name!r} holds {what}, which is text; --kind {held.name}=number says otherwise",
            *found.notes,
        ),
    )


def _constant(found: Field, column: Profile) -> Field:
    same = column.levels is not None and len(column.levels) == 1 and not found.gaps
    return replace(found, kind="constant") if same else found


def _constant_notes(found: Field, column: Profile) -> tuple[str, ...]:
    if _constant(found, column) is found:
        return ()
    return (f"column {found.name!r} is left out: it holds {quoted(column.levels or ())} only",)


def _text(held: Field, column: Profile, signs: Signs) -> Decision:
    name, levels = held.name, column.levels
    # In a column of words, NA may be a word as well; as a category of its own it is neither lost nor guessed.
    words = replace(held, kind="category", missing=signs.missing, gaps=column.blank > 0)
    if column.repeats == 0 and column.values > 2 and not column.markers:
        note = (
            f"column {name!r} is left out as an identifier: it holds text that never repeats; --kind {name}=category "
            "keeps it"
        )
        return Decision(replace(words, kind="identifier"), (note,))
    every = None if levels is None else levels + column.markers
    if every is None or len(every) > MAX_CATEGORIES:
        said = "more than 1,000" if every is None else str(len(every))
        note = (
            f"column {name!r} is left out: text with {said} different values; --kind {name}=category keeps the most "
            f"frequent {MAX_CATEGORIES}"
        )
        return Decision(replace(words, kind="text"), (note,))
    if len(every) == 1 and not words.gaps:
        return Decision(
            replace(words, kind="constant"),
            _constant_notes(replace(words, kind="category"), replace(column, levels=every)),
        )
    notes = (
        (
            f"column {name!r} has {counted(column.markers.total(), 'row')} with {quoted(sorted(column.markers))}, "
            "kept as a value; --missing says that it marks a gap",
        )
        if column.markers
        else ()
    )
    return Decision(categories(words, column), notes)


def categories(held: Field, column: Profile) -> Field:
    """Return a category with the values that have a column of their own; the rarer ones share one."""
    every = (column.levels or {}) if column.levels is None else column.levels + column.markers
    frequent = sorted(every, key=lambda value: (-every[value], value))[:MAX_CATEGORIES]
    enough = [value for value in frequent if every[value] >= RARE] or frequent
    chosen = frequent if len(every) - len(enough) <= 1 and len(every) <= MAX_CATEGORIES else enough
    return replace(
        held, kind="category", categories=tuple(sorted(chosen)), other=len(chosen) < len(every), missing=held.missing
    )
