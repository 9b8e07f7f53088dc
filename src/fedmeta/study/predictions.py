"""Predictions as a table with a row for each example, and the files that hold them."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.errors import DataError, UsageError
from fedmeta.model import Model

AT_ONCE = 1024
"""Examples in a batch."""

ENDINGS = (".csv", ".csv.gz", ".parquet")

Columns = Mapping[str, Sequence[Any]]
"""A table by the names of its columns, all of one length."""


def predicted(
    model: Model,
    params: Any,
    x: np.ndarray,
    classes: Sequence[str] | None,
    identifiers: Columns,
) -> Columns:
    """Return the predictions for examples, a row for each.

    Args:
        model: the network.
        params: the parameters.
        x: the examples, shape [examples, ...].
        classes: the names of the classes; None for regression.
        identifiers: columns that say which example a row is of; they come first.

    Returns:
        `prediction`: the most probable class, or the number in the target's units. Of classes also `probability`, that
        of the prediction, and `probability of NAME` for each class. An identifier with such a name has " (given)" after
        it.

    Raises:
        DataError: a prediction is not finite.
    """
    apply = jax.jit(model.predict)
    parts = [np.asarray(apply(params, x[first : first + AT_ONCE])) for first in range(0, len(x), AT_ONCE)]
    outputs = np.concatenate(parts)
    if classes is None:
        numbers = outputs.reshape(len(outputs), -1)[:, 0]
        columns = {"prediction": _plain(numbers)}
    else:
        numbers = np.asarray(jax.nn.softmax(outputs[:, : len(classes)], axis=-1))
        best = numbers.argmax(axis=-1)
        columns = {
            "prediction": [classes[place] for place in best],
            "probability": _plain(numbers[np.arange(len(best)), best]),
            **{f"probability of {name}": _plain(numbers[:, place]) for place, name in enumerate(classes)},
        }
    finite = np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    if not finite.all():
        raise DataError(f"the prediction for row {int(np.argmin(finite))} (counted from 0) is not a finite number")
    named: dict[str, Sequence[Any]] = {}
    for name, values in identifiers.items():
        while name in columns or name in named:
            name += " (given)"
        named[name] = values
    return {**named, **columns}


def check_ending(out: Path, as_json: bool) -> None:
    """Raise a UsageError unless the name of a file ends as what is written there."""
    name = out.name.lower()
    if as_json and not name.endswith(".json"):
        raise UsageError(f"--json writes JSON, whose name ends in .json: not --out {out}")
    if not as_json and name.endswith(".json"):
        raise UsageError(f"--out {out} is a name of JSON: add --json")
    if not as_json and not name.endswith(ENDINGS):
        raise UsageError(f"--out takes a name that ends in {', '.join(ENDINGS)}, or .json with --json: not {out}")


def write(columns: Columns, out: Path, as_json: bool) -> None:
    """Write a table to a file: JSON, or what its name ends in.

    Raises:
        MissingPackage: Parquet needs the extra `tables`.
    """
    name = out.name.lower()
    if as_json:
        content = to_json(columns).encode()
    elif name.endswith(".parquet"):
        content = _to_parquet(columns)
    else:
        content = to_csv(columns).encode()
    write_atomically(out, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def to_csv(columns: Columns) -> str:
    """Return a table as CSV; a gap is a blank cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()


def to_json(columns: Columns) -> str:
    """Return a table as a JSON list of an object for each row."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps(rows, indent=1) + "\n"


def _to_parquet(columns: Columns) -> bytes:
    pyarrow, parquet = need("pyarrow", "writing Parquet"), need("pyarrow.parquet", "writing Parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), file)
    return file.getvalue()


def _plain(numbers: np.ndarray) -> list[float]:
    """Return Python's floats with the digits that float32 has."""
    return numbers.astype(np.float32).astype(str).astype(np.float64).tolist()
