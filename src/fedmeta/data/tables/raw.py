"""A table as it was read: its columns, not yet understood, and how to speak of its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fedmeta.data.tables.problems import LISTED, Findings, listed


@dataclass(frozen=True, eq=False)
class RawTable:
    """Columns of text, or of the types that the source gave them.

    Args:
        columns: by name, all of one length; what is missing is null, or blank text.
        stem: the name of the data set, unless another is given.
        findings: what was noted, and what is wrong.
        place: says where a row is ("line 7").
        separator: between the cells of a line, if the source has lines.
        typed: whether the source gave the columns their types.
    """

    columns: Mapping[str, pa.ChunkedArray]
    stem: str
    findings: Findings
    place: Callable[[int], str]
    separator: str | None = None
    typed: bool = False

    @property
    def name(self) -> str:
        """What the table is called in messages."""
        return self.findings.name

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()), ()))

    def where(self, rows: Any) -> str:
        """Say where rows are; of many, the first few and their number.

        Args:
            rows: their numbers from 0, or a mask of them.
        """
        rows = np.asarray(rows)
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        return listed([self.place(int(row)) for row in places[: LISTED + 1]], len(places))
