"""The one table of a study, in long form, in a Parquet file that is replaced whole as cells finish."""

import io
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.errors import CheckpointError, UsageError
from fedmeta.study.grid.cells import Cell, Key

NAME = "study.parquet"
MARK = b"fedmeta.study"

COLUMNS = ("cell", "data", "procedure", "algorithm", "support", "seed", "judged_by", "client", "round", "step")
"""What says which value it is, beside `measure` and `value`."""


@dataclass(eq=False)
class Table:
    """All that was measured, and what was declared before.

    Args:
        name: the study's name.
        declared: by data set, the targets and comparisons that were declared before the first cell was run.
        seeds: those of the file, when it was last run.
        identities: by digest, settings, data and code of each finished cell.
        keys: by digest, which cell it is.
        rows: a pyarrow table; `COLUMNS`, `measure` and `value`.
    """

    name: str
    declared: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    identities: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    rows: Any = None

    @classmethod
    def read(cls, folder: Path) -> "Table":
        """Read the table in a folder.

        Raises:
            UsageError: there is none.
            CheckpointError: it is damaged.
            MissingPackage: the extra `tables` is not installed.
        """
        path = folder / NAME
        if not path.is_file():
            raise UsageError(f"{folder} holds no study: there is no file {NAME} in it")
        parquet = need("pyarrow.parquet", "a study")
        try:
            rows = parquet.read_table(path)
            kept = json.loads(zlib.decompress((rows.schema.metadata or {})[MARK]))
            keys = {digest: Key(*key) for digest, key in kept["keys"].items()}
            return cls(kept["name"], kept["declared"], tuple(kept["seeds"]), kept["identities"], keys, rows)
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise CheckpointError(f"{path} is damaged: {str(error).splitlines()[0]}") from error

    def add(self, cell: Cell, judged_by: str, rows: Iterable[dict[str, Any]]) -> None:
        """Take the rows of a finished cell; those of another procedure or support say so."""
        pyarrow = need("pyarrow", "a study")
        key = cell.key
        same = {
            "cell": cell.digest,
            "data": key.data,
            "procedure": key.procedure,
            "algorithm": cell.algorithm,
            "support": key.support,
            "seed": key.seed,
            "judged_by": judged_by,
        }
        new = pyarrow.Table.from_pylist([same | row for row in rows], schema=_schema())
        self.rows = new if self.rows is None else pyarrow.concat_tables([self.rows.replace_schema_metadata(None), new])
        self.identities[cell.digest], self.keys[cell.digest] = cell.identity, key

    def write(self, folder: Path) -> None:
        """Replace the file.

        Raises:
            RunError: the file system refuses; the old table is kept.
        """
        kept = {
            "name": self.name,
            "declared": self.declared,
            "seeds": list(self.seeds),
            "identities": self.identities,
            "keys": self.keys,
        }
        rows = _schema().empty_table() if self.rows is None else self.rows
        rows = rows.replace_schema_metadata({MARK: zlib.compress(json.dumps(kept).encode(), 9)})
        buffer = io.BytesIO()
        need("pyarrow.parquet", "a study").write_table(rows, buffer, compression="zstd")
        write_atomically(folder / NAME, buffer.getvalue())

    def finished(self) -> dict[Key, str]:
        """Return the digest of each cell that is in the table."""
        return {key: digest for digest, key in self.keys.items()}

    def columns(self) -> dict[str, Any]:
        """Return the columns as lists, by name."""
        return {} if self.rows is None else self.rows.to_pydict()


def _schema() -> Any:
    pyarrow = need("pyarrow", "a study")
    text, number = pyarrow.string(), pyarrow.int64()
    kinds = {"support": pyarrow.float64(), "seed": number, "round": number, "step": number}
    fields = [(name, kinds.get(name, text)) for name in COLUMNS]
    return pyarrow.schema([*fields, ("measure", text), ("value", pyarrow.float64())])
