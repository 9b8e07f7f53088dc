"""Finds the data set that a user names: a known name, a table, or a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.image_table import from_images, image_column
from fedmeta.data.kinds_of_files import KINDS, is_table
from fedmeta.data.leaf import from_leaf
from fedmeta.data.partition import keep_classes
from fedmeta.data.partitioners import make, partition
from fedmeta.data.sources import load, names
from fedmeta.data.storage import open_dataset
from fedmeta.data.table import from_table
from fedmeta.errors import UnknownName, UsageError

LEAF_OPTIONS = ("vectors", "words")
"""Those of `from_leaf` that can be told of a folder."""


def resolve(
    data: str,
    *,
    options: Mapping[str, Any] | None = None,
    **table: Any,
) -> FederatedDataset:
    """Return the data set of a name or a path.

    Args:
        data: a name that `names()` lists, a table, or a folder (of Parquet files, stored by `save`, or LEAF's JSON
            files).
        options: those of the data set that `fm.data.load` takes. And of any: `classes_per_client`, to let each client
            keep this many of its classes; and `partition`, how its examples are spread over clients anew: for each
            step its name and its fields, as {"name": "dirichlet", "clients": 50, "alpha": 0.3}.
        table: what is told of a table, as for `from_table`; None and empty values say nothing.

    Raises:
        UsageError: no such data set, or columns are given for something that is no table, or not given for a table.
        DataError: the data are absent or damaged.
    """
    given = dict(options or {})
    steps = [make(**step) for step in given.pop("partition", ())]
    if data in names():
        _refuse_columns(data, table)
        opened = load(data, **given)
    else:
        kept = given.pop("classes_per_client", None)
        opened = _open(data, table, given)
        opened = opened if kept is None else keep_classes(opened, kept)
    for step in steps:
        opened = partition(opened, step)
    return opened


def _open(data: str, table: Mapping[str, Any], options: Mapping[str, Any]) -> FederatedDataset:
    stored, tabular = (Path(data) / "dataset.json").exists(), is_table(data)
    leaf = Path(data).is_dir() and not stored and not tabular
    for option in options:
        if not leaf or option not in LEAF_OPTIONS:
            raise UsageError(
                f"{data} has no option {option!r}: data sets with a name have, and for LEAF's folders there are "
                f"{' and '.join(LEAF_OPTIONS)}"
            )
    if stored:
        _refuse_columns(data, table)
        return open_dataset(data)
    if tabular:
        told = {name: value for name, value in table.items() if value not in (None, (), {}, False)}
        if "schema" not in told and not {"client", "target"} <= told.keys():
            raise UsageError(f"{data} is a table: say which columns it has with --client and --target")
        if "schema" not in told and image_column(data) is not None:
            _refuse_columns(data, {name: value for name, value in told.items() if name not in ("client", "target")})
            return from_images(data, client=told["client"], target=told["target"])
        return from_table(data, **told)
    _refuse_columns(data, table)
    if leaf:
        return from_leaf(data, **options)
    if Path(data).exists():
        raise UsageError(f"{data} is of a kind that is not read; tables are {KINDS}")
    # A name that nobody knows was taken for a file here.
    path = Path(data)
    raise UnknownName("data set", path.name if path.parent == Path.cwd() else data, names())


def _refuse_columns(data: str, table: Mapping[str, Any]) -> None:
    for name, value in table.items():
        if value not in (None, (), {}, False):
            raise UsageError(f"--{name.replace('_', '-')} is for tables, not for {data}")
