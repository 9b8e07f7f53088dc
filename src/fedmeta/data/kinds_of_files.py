"""Which files are tables, by their names."""

import os
from pathlib import Path

PACKED = (".gz", ".bz2", ".xz", ".zst")


def unpacked_name(path: Path) -> str:
    """Return the file's name without the ending that says how it is packed."""
    return path.stem if path.suffix.lower() in PACKED else path.name


DELIMITED = (".csv", ".tsv", ".tab", ".txt")
PARQUET = (".parquet", ".pq")
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
KINDS = (
    f"{', '.join(DELIMITED)} (also with {', '.join(PACKED)} after it), {', '.join(PARQUET)} or a folder of them, and "
    f"{', '.join(WORKBOOKS)}"
)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names a table, judging by its ending, or by what lies in the folder."""
    path = Path(path)
    suffix = Path(unpacked_name(path)).suffix.lower()
    if path.is_dir():
        return suffix in PARQUET or bool(parts(path))
    return suffix in (*DELIMITED[:-1], *PARQUET, *WORKBOOKS) or (suffix == ".txt" and path.suffix.lower() in PACKED)


def parts(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and its partitions, in order; not those that writers hide."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in PARQUET and path.is_file()]
    return sorted(path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts))
