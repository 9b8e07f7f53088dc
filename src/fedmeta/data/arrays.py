"""A data set from arrays in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.labels import encode
from fedmeta.errors import DataError


def from_arrays(
    x: Any,
    y: Any,
    clients: Any,
    *,
    classes: int | Sequence[str] | None = None,
    name: str = "arrays",
    features: Sequence[str] | None = None,
) -> FederatedDataset:
    """Return a data set from one array of inputs, one of targets, and each example's client.

    Clients are in the sorted order of their identifiers (integers by value); a client's examples keep the
    order they have in the arrays.

    Args:
        x: inputs, shape [examples, ...]; floats and booleans become float32, integers stay codes (int64 as
            int32).
        y: targets, shape [examples, ...]. Floats are regression. Integers 0, 1, ..., n - 1 are labels as they
            are; text, booleans, and integers with gaps or below 0 are numbered in sorted order.
        clients: the client of each example, integers or text, shape [examples].
        classes: the number of classes or their names, where the labels here need not show them all.
        name: the name of the data set.
        features: the names of the columns of `x`, where it has shape [examples, features].

    Raises:
        DataError: lengths differ, there are no examples, types are mixed, an input is not finite, a client
            has no name, or a label is not among the classes.
        UsageError: `classes` does not fit the kind of targets.
    """
    x, y, clients = _array(x, "x"), _array(y, "y"), _array(clients, "clients")
    lengths = {"x": len(x), "y": len(y), "clients": len(clients)}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{part} has {length}" for part, length in lengths.items())
        raise DataError(f"x, y and clients need one value per example each, but {said}")
    if len(x) == 0:
        raise DataError(f"{name} holds no examples")
    if features is not None and x.shape[1:] != (len(features),):
        raise DataError(f"{len(features)} names of features are given for x of shape {x.shape}")
    ids, owner = _owners(clients)
    x = _inputs(x, lambda row: str(ids[owner[row]]), features)
    targets, names = encode(y, classes)
    sizes = np.bincount(owner, minlength=len(ids)).astype(np.int64)
    if np.any(owner[1:] < owner[:-1]):
        order = np.argsort(owner, kind="stable")
        x, targets = x[order], targets[order]
    info = Info(name=name, classes=names, features=None if features is None else tuple(features))
    return FederatedDataset(x, targets, np.cumsum(sizes) - sizes, sizes, ids, info)


def _array(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} is not an array: its rows have different shapes") from error
    if array.ndim == 0:
        raise DataError(f"{what} needs a leading axis of examples, not the single value {values!r}")
    if array.dtype.kind == "U" and isinstance(values, list | tuple):
        # NumPy makes text of a list in which numbers and text are mixed; only the list still shows it.
        return np.array(values, object) if array.ndim == 1 else array
    return array


def _owners(clients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clients' names, shape [clients], and for each example the place of its client."""
    if clients.ndim != 1:
        raise DataError(f"clients must have the shape [examples], not {clients.shape}")
    if clients.dtype.kind not in "iu":
        for row, client in enumerate(clients.tolist()):
            if isinstance(client, float) or client is None or not str(client).strip():
                raise DataError(
                    f"the client in row {row} (counted from 0) is {client!r}; it must be text or an integer"
                )
        clients = np.array([str(client) for client in clients.tolist()])
    names, owner = np.unique(clients, return_inverse=True)
    return names.astype(str), owner


def _inputs(x: np.ndarray, client_of: Any, features: Sequence[str] | None) -> np.ndarray:
    if x.dtype.kind == "b":
        return x.astype(np.float32)
    if x.dtype.kind in "iu":
        if x.dtype.itemsize < 4 or x.dtype == np.int32:
            return x
        if x.size and (x.min() < np.iinfo(np.int32).min or x.max() > np.iinfo(np.int32).max):
            raise DataError("x holds integers beyond 32 bits; give them as floats")
        return x.astype(np.int32)
    if x.dtype.kind != "f":
        raise DataError(f"x has type {x.dtype}; inputs are numbers or booleans of one type")
    with np.errstate(over="ignore"):
        converted = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(converted)
    if bad.any():
        first = np.argwhere(bad)[0]
        column = ", ".join(str(place) for place in first[1:])
        if features is not None:
            column = repr(features[int(first[1])])
        raise DataError(
            f"x holds {int(bad.sum())} values that are not finite numbers; the first is {x[tuple(first)]} "
            f"of client {client_of(first[0])!r}, column {column}, row {int(first[0])} (counted from 0)"
        )
    return converted
