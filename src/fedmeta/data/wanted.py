"""What is told of a table: how its file is to be read, and what its columns are for. What is not told is "
"recognised, or asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedmeta._settings import not_one_text
from fedmeta.data.schema import Kind, Task


@dataclass(frozen=True)
class Reading:
    """How a table is to be read, where that is told; what is not told is recognised, or asked.

    Args:
        separator: between the cells of a line.
        decimal: the sign before decimals, "." or ",".
        encoding: of the text, one that Python knows.
        comment: what a line that is no row begins with.
        skip_lines: the numbers of lines that are no rows, from 1.
        names: of the columns, where no line has them.
        missing: texts that mark a gap in every column.
        present: texts that look like marks of a gap and are values.
        date_format: how dates are written, as in `datetime.strptime`.
        sheet: of a workbook.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    comment: str | None = None
    skip_lines: tuple[int, ...] = ()
    names: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    date_format: str | None = None
    sheet: str | None = None

    def __post_init__(self):
        for name in ("names", "missing", "present"):
            not_one_text(name, getattr(self, name), "texts")


@dataclass(frozen=True)
class Wanted:
    """What is told of the columns.

    Args:
        client: the column that says whose row it is; None if all rows are one client's.
        target: the column to predict; None if there is none.
        features: the input columns; None for all others.
        exclude: columns that are no inputs.
        kinds: by column, what it is.
        task: what the target is for.
        classes: the names of the classes, in order.
        drop_missing_target: leave out rows without a target, in place of refusing them.
    """

    client: str | None = None
    target: str | None = None
    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    kinds: Mapping[str, Kind] | None = None
    task: Task | None = None
    classes: tuple[str, ...] | None = None
    drop_missing_target: bool = False
