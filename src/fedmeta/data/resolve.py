"""Finds the data set that a user names: a known name, a table, or a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.kinds_of_files import KINDS, is_table
from fedmeta.data.leaf import from_leaf
from fedmeta.data.partition import keep_classes
from fedmeta.data.sources import load, names
from fedmeta.data.storage import open_dataset
from fedmeta.data.table import from_table
from fedmeta.errors import UnknownName, UsageError


def resolve(
    data: str,
    *,
    classes_per_client: int | None = None,
    **table: Any,
) -> FederatedDataset:
    """Return the data set of a name or a path.

    Args:
        data: a name that `names()` lists, a table, or a folder (of Parquet files, stored by `save`, or LEAF's JSON
            files).
        classes_per_client: let each client keep this many of its classes.
        table: what is told of a table, as for `from_table`; None and empty values say nothing.

    Raises:
        UsageError: no such data set, or columns are given for something that is no table, or not given for a table.
        DataError: the data are absent or damaged.
    """
    if data in names():
        _refuse_columns(data, table)
        source_options = {} if classes_per_client is None else {"classes_per_client": classes_per_client}
        return load(data, **source_options)
    opened = _open(data, table)
    return opened if classes_per_client is None else keep_classes(opened, classes_per_client)


def _open(data: str, table: Mapping[str, Any]) -> FederatedDataset:
    if (Path(data) / "dataset.json").exists():
        _refuse_columns(data, table)
        return open_dataset(data)
    if is_table(data):
        told = {name: value for name, value in table.items() if value not in (None, (), {}, False)}
        if "schema" not in told and not {"client", "target"} <= told.keys():
            raise UsageError(f"{data} is a table: say which columns it has with --client and --target")
        return from_table(data, **told)
    _refuse_columns(data, table)
    if Path(data).is_dir():
        return from_leaf(data)
    if Path(data).exists():
        raise UsageError(f"{data} is of a kind that is not read; tables are {KINDS}")
    raise UnknownName("data set", data, names())


def _refuse_columns(data: str, table: Mapping[str, Any]) -> None:
    for name, value in table.items():
        if value not in (None, (), {}, False):
            raise UsageError(f"--{name.replace('_', '-')} is for tables, not for {data}")
