"""Counts of a column from which its kind is decided: sums, so that those of several clients are added."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from fedmeta.data.tables import cells
from fedmeta.data.tables.compute import pc

LEVELS = 1000
"""Above so many different values, they are counted no longer one by one."""


@dataclass(frozen=True)
class Profile:
    """Counts of one column's cells; `a + b` is the profile of both clients' cells together.

    Args:
        rows: all cells.
        blank: those that are blank or null.
        markers: by text, those that may mark a gap.
        failures: by way of reading (a `cells.Number`, a `cells.Date`, or a pair of words), the other cells that it does
            not read.
        shapes: by name ("whole", "leading zero", "long", "exponent", "fraction"), cells of a form that matters.
        levels: by text, how often it occurs among the other cells; None if there are too many.
        repeats: cells whose text the same client has already.
    """

    rows: int = 0
    blank: int = 0
    markers: Counter[str] = field(default_factory=Counter)
    failures: Counter[object] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] | None = field(default_factory=Counter)
    repeats: int = 0

    @property
    def values(self) -> int:
        """The cells that hold a value and no mark."""
        return self.rows - self.blank - self.markers.total()

    def reads(self, way: object) -> bool:
        """Whether a way reads every value."""
        return self.values > 0 and self.failures[way] == 0

    def __add__(self, other: "Profile") -> "Profile":
        levels = None if self.levels is None or other.levels is None else self.levels + other.levels
        return Profile(
            self.rows + other.rows,
            self.blank + other.blank,
            self.markers + other.markers,
            self.failures + other.failures,
            self.shapes + other.shapes,
            None if levels is not None and len(levels) > LEVELS else levels,
            self.repeats + other.repeats,
        )


SHAPES = {
    "whole": r"^[+-]?\d+$",
    "leading zero": r"^0\d+$",
    "long": r"^[+-]?\d{16,}$",
    "exponent": r"^\d+E\d+$",
    "fraction": r"[.,]\d*[1-9]",
}


def profile(
    text: pa.ChunkedArray, missing: Iterable[str] = (), present: Iterable[str] = (), extra: Iterable[cells.Date] = ()
) -> Profile:
    """Count what the cells of a column can be read as.

    Args:
        text: the cells, without blanks around them.
        missing: texts that mark a gap here.
        present: texts that do not, though they look like it.
        extra: more ways to write dates.
    """
    text = text.fill_null("")
    told = pa.array(["", *missing], pa.string())
    blank = pc.is_in(text, value_set=told)
    marks = pa.array([mark for mark in cells.MARKERS if mark not in set(present)], pa.string())
    marked = pc.and_not(pc.is_in(text, value_set=marks), blank)
    values = text.filter(pc.invert(pc.or_(blank, marked)))
    seen = Counter({row["values"]: row["counts"] for row in pc.value_counts(text.filter(marked)).to_pylist()})
    held = pc.value_counts(values)
    levels = Counter({row["values"]: row["counts"] for row in held.to_pylist()}) if len(held) <= LEVELS else None
    distinct, weights = held.field("values"), held.field("counts")

    def failing(pattern: str) -> int:
        fits = pc.match_substring_regex(distinct, pattern)
        return len(values) - int(pc.sum(weights.filter(fits)).as_py() or 0)

    failures: Counter[object] = Counter()
    for way in (*cells.PLAIN, *cells.DATES, *extra):
        failures[way] = failing(way.pattern)
    for way in cells.GROUPED:
        failures[way] = failing(f"{way.pattern}|{cells.Number(way.decimal).pattern}")
    for yes, no in cells.TRUE_FALSE:
        failures[yes, no] = failing(f"(?i)^({yes}|{no})$")
    shapes = Counter({name: len(values) - failing(pattern) for name, pattern in SHAPES.items()})
    return Profile(len(text), int(pc.sum(blank).as_py() or 0), seen, failures, shapes, levels, len(values) - len(held))
