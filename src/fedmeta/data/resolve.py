"""Finds the data set that a user names: a known name, a table, or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.leaf import from_leaf
from fedmeta.data.partition import keep_classes
from fedmeta.data.sources import load, names
from fedmeta.data.storage import open_dataset
from fedmeta.data.table import from_table
from fedmeta.errors import UnknownName, UsageError

TABLES = (".csv", ".parquet")


def is_table(data: str) -> bool:
    """Return whether the text names a CSV or Parquet file, judging by its ending."""
    return Path(data).suffix.lower() in TABLES


def resolve(
    data: str,
    *,
    client: str | None = None,
    target: str | None = None,
    features: Sequence[str] | None = None,
    classes_per_client: int | None = None,
) -> FederatedDataset:
    """Return the data set of a name or a path.

    Args:
        data: a name that `names()` lists, a CSV or Parquet file, or a folder (stored by `save`, or LEAF's
            JSON files).
        client: the client column of a table.
        target: the target column of a table.
        features: the input columns of a table; all others by default.
        classes_per_client: let each client keep this many of its classes.

    Raises:
        UsageError: no such data set, or columns are given for something that is no table, or not given for a table.
        DataError: the data are absent or damaged.
    """
    if data in names():
        _refuse_columns(data, client, target, features)
        source_options = {} if classes_per_client is None else {"classes_per_client": classes_per_client}
        return load(data, **source_options)
    opened = _open(data, client, target, features)
    return opened if classes_per_client is None else keep_classes(opened, classes_per_client)


def _open(data: str, client: str | None, target: str | None, features: Sequence[str] | None) -> FederatedDataset:
    if is_table(data):
        if client is None or target is None:
            raise UsageError(f"{data} is a table: say which columns it has with --client and --target")
        return from_table(data, client=client, target=target, features=features)
    _refuse_columns(data, client, target, features)
    if Path(data).is_dir():
        return open_dataset(data) if (Path(data) / "dataset.json").exists() else from_leaf(data)
    if Path(data).exists():
        raise UsageError(f"{data} is neither a CSV nor a Parquet file nor a folder")
    raise UnknownName("data set", data, names())


def _refuse_columns(data: str, *columns: Any) -> None:
    if any(column is not None for column in columns):
        raise UsageError(f"--client, --target and --features are for CSV and Parquet files, not for {data}")
