"""From what a user types to a data set: a known name, a table, or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.leaf import from_leaf
from fedmeta.data.sources import load, names
from fedmeta.data.storage import open_dataset
from fedmeta.data.table import from_table
from fedmeta.errors import UnknownName, UsageError

TABLES = (".csv", ".parquet")


def is_table(data: str) -> bool:
    """Return whether the text names a CSV or Parquet file, by its ending."""
    return Path(data).suffix.lower() in TABLES


def resolve(
    data: str,
    *,
    client: str | None = None,
    target: str | None = None,
    features: Sequence[str] | None = None,
    **options: Any,
) -> FederatedDataset:
    """Return the data set that is meant.

    Args:
        data: a name that `names()` lists, a CSV or Parquet file, or a folder (stored by `save`, or LEAF's
            JSON files).
        client: the client column of a table.
        target: the target column of a table.
        features: the input columns of a table; all others where they are not given.
        options: for a named data set, its own options.

    Raises:
        UsageError: no such data set, or columns are given where there are none (or the reverse).
        DataError: the data are absent or damaged.
    """
    if is_table(data):
        if client is None or target is None:
            raise UsageError(f"{data} is a table: say which columns it has with --client and --target")
        return from_table(data, client=client, target=target, features=features)
    if client is not None or target is not None:
        raise UsageError(f"--client and --target are for CSV and Parquet files, not for {data}")
    if data in names():
        return load(data, **options)
    if Path(data).is_dir():
        return open_dataset(data) if (Path(data) / "dataset.json").exists() else from_leaf(data)
    if Path(data).exists():
        raise UsageError(f"{data} is neither a CSV nor a Parquet file nor a folder")
    raise UnknownName("data set", data, names())
