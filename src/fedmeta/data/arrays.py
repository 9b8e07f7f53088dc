"""A data set from arrays in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import jax
import numpy as np

from fedmeta._settings import not_one_text
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.labels import encode
from fedmeta.data.plain import to_array, to_plain
from fedmeta.errors import DataError, UsageError


def from_arrays(
    x: Any,
    y: Any,
    clients: Any,
    *,
    classes: SupportsIndex | Sequence[str] | None = None,
    name: str = "arrays",
    features: Sequence[str] | None = None,
) -> FederatedDataset:
    """Return a data set from inputs, targets, and each example's client.

    Clients are in the sorted order of their identifiers (integers by value); a client's examples keep the
    order they have in the arrays.

    Args:
        x: inputs, an array of shape [examples, ...]; or several of them as a dict with text keys or as a tuple,
            which may be nested; the model is given the same structure. A list is the rows of one array.
            Floats and booleans become float32, integers stay codes (int64 as int32).
        y: targets, shape [examples, ...]. Floats are regression. Integers 0, 1, ..., n - 1 are labels as they
            are; text, booleans, and integers with gaps or below 0 are numbered in sorted order.
        clients: the client of each example, integers or text, shape [examples]. Their names are text: the client 7
            is "7".
        classes: the number of classes or their names, if these labels may not include all of them. With names,
            labels are such names; an integer is never a place in their list.
        name: the name of the data set.
        features: the names of the columns of `x`, if it is one array of shape [examples, features].

    Text may be given as bytes in UTF-8.

    Raises:
        DataError: lengths differ, there are no examples, types are mixed, a value is missing or masked, an input is
            not finite, a client has no name, or a label is empty or not among the classes.
        UsageError: `classes` does not fit the kind of targets, or `features` names the columns of several inputs.
    """
    inputs, structure = _inputs(x)
    y, clients = to_plain(y, "y"), to_plain(clients, "the column of clients")
    lengths = {**{what: len(part) for what, part in inputs.items()}, "y": len(y), "clients": len(clients)}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{part} has {length}" for part, length in lengths.items())
        raise DataError(f"x, y and clients need one value per example each, but {said}")
    if len(y) == 0:
        raise DataError(f"{name} holds no examples")
    not_one_text("features", features)
    if features is not None and set(inputs) != {"x"}:
        raise UsageError(f"features names the columns of one array, but x holds {', '.join(inputs)}")
    if features is not None and inputs["x"].shape[1:] != (len(features),):
        raise DataError(f"{len(features)} names of features are given for x of shape {inputs['x'].shape}")
    ids, owner = _owners(clients)
    arrays = [_numbers(part, what, lambda row: str(ids[owner[row]]), features) for what, part in inputs.items()]
    targets, names = encode(y, classes)
    sizes = np.bincount(owner, minlength=len(ids)).astype(np.int64)
    if np.any(owner[1:] < owner[:-1]):
        order = np.argsort(owner, kind="stable")
        arrays, targets = [part[order] for part in arrays], targets[order]
    info = Info(name=name, classes=names, features=None if features is None else tuple(features))
    columns = jax.tree.unflatten(structure, arrays)
    return FederatedDataset(columns, targets, np.cumsum(sizes) - sizes, sizes, ids, info)


def _inputs(x: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays of x by their names in code ("x['age']"), and its structure."""
    _check_names(x, "x")
    leaves, structure = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda node: not isinstance(node, dict | tuple))
    named = {f"x{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    if not named:
        raise DataError(f"x holds no array, but is {x!r}")
    return {what: to_array(leaf, what) for what, leaf in named.items()}, structure


def _check_names(x: Any, what: str) -> None:
    if isinstance(x, dict):
        for key, part in x.items():
            if not isinstance(key, str):
                raise DataError(f"{what} has the key {key!r}; the names of inputs are text")
            _check_names(part, f"{what}[{key!r}]")
    elif isinstance(x, Mapping):
        raise DataError(
            f"{what} is a {type(x).__name__}; several inputs are given as a dict, which dict(...) makes of it"
        )
    elif isinstance(x, tuple):
        for place, part in enumerate(x):
            _check_names(part, f"{what}[{place}]")


def _owners(clients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clients' names, shape [clients], and for each example the position of its client."""
    if clients.ndim != 1:
        raise DataError(f"clients must have the shape [examples], not {clients.shape}")
    nameless = np.arange(len(clients))
    if clients.dtype.kind in "iu":
        nameless = nameless[:0]
    elif clients.dtype.kind == "U":
        nameless = np.flatnonzero(np.char.strip(clients) == "")
    if len(nameless):
        row = int(nameless[0])
        raise DataError(
            f"the client in row {row} (counted from 0) is {clients[row].item()!r}; it must be text or an integer"
        )
    names, owner = np.unique(clients, return_inverse=True)
    return names.astype(str), owner


def _numbers(x: np.ndarray, what: str, client_of: Callable[[int], str], features: Sequence[str] | None) -> np.ndarray:
    if x.dtype.kind == "b":
        return x.astype(np.float32)
    if x.dtype.kind in "iu":
        if x.dtype.itemsize < 4 or x.dtype == np.int32:
            return x
        if x.size and (x.min() < np.iinfo(np.int32).min or x.max() > np.iinfo(np.int32).max):
            raise DataError(f"{what} holds integers beyond 32 bits; give them as floats")
        return x.astype(np.int32)
    if x.dtype.kind != "f":
        raise DataError(f"{what} has type {x.dtype}{_offence(x)}; inputs are real numbers or booleans of one type")
    with np.errstate(over="ignore"):
        converted = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(converted)
    if bad.any():
        first = np.argwhere(bad)[0]
        column = ", ".join(str(place) for place in first[1:])
        if features is not None:
            column = repr(features[int(first[1])])
        raise DataError(
            f"{what} holds {int(bad.sum())} values that are not finite numbers; the first is {x[tuple(first)]} "
            f"of client {client_of(int(first[0]))!r}, column {column}, row {int(first[0])} (counted from 0)"
        )
    return converted


def _offence(x: np.ndarray) -> str:
    """Say which value or type keeps an array from being an array of numbers."""
    if x.dtype.names is not None:
        return f", a record of {', '.join(x.dtype.names)}; give its fields as several inputs, a dict of arrays"
    if x.dtype.kind != "O":
        return ""
    for place, value in enumerate(x.flat):
        if not isinstance(value, int | float | np.number | np.bool_):
            return f" and holds {value!r:.60} in row {place * len(x) // x.size} (counted from 0)"
    return ""
