"""A data set as a folder of columns: it is opened without being read, and may be larger than memory.

`dataset.json` says what the columns are; the arrays are `.npy` files. Several inputs are several columns.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedmeta.data.columns import Column, LookedUp, Scaled, Stored, Windows, native_type, read
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.files import ArrayFile, map_array, new_folder
from fedmeta.data.plain import to_array
from fedmeta.data.splits import AtRandom, ByGroup, InTime, Split
from fedmeta.errors import DataError, UsageError

VERSION, SEVERAL, SPLIT = 1, 2, 3
"""The version of the format, and its versions for several inputs and for a split that is not at random, which an older
fedmeta cannot read."""
MANIFEST = "dataset.json"


class Block(NamedTuple):
    """Clients that are stored together.

    `ids` are their names; x (an array, or several in dicts and tuples) and y hold all of their examples, those of the
    first client first. `sizes`, shape [clients], says how many each has; without it there is one client.
    """

    ids: Sequence[str]
    x: Any
    y: Any
    sizes: np.ndarray | None = None

    def owner(self, row: int) -> str:
        """Return the name of the client of a row of x and y."""
        if self.sizes is None:
            return self.ids[0]
        return self.ids[int(np.searchsorted(np.cumsum(self.sizes), row, side="right"))]


def save(data: FederatedDataset, folder: str | os.PathLike[str]) -> None:
    """Store a data set as a new folder, with the examples of its own clients only.

    The folder appears whole or not at all.

    Raises:
        UsageError: the folder exists, the data set has no client, or its inputs lie in something else than dicts and
            tuples.
        DataError: a column holds something else than numbers.
    """
    if data.num_clients == 0:
        raise UsageError(f"{data!r} has no client to store")
    with new_folder(folder) as work:
        written: dict[tuple[int, int], str] = {}
        stored = [_store(column, file, data, work, written) for file, _, column in _inputs(data.x)]
        columns = {"x": _described(data.x, iter(stored)), "y": _store(data.y, "y", data, work, written)}
        split = _split(data, work, written)
        _finish(work, columns, np.asarray(data.sizes, np.int64), np.asarray(data.ids, str), data.info, split)


def write(
    folder: str | os.PathLike[str],
    clients: Iterable[tuple[Any, Any, Any]],
    info: Info | None = None,
    *,
    scale: float | None = None,
) -> FederatedDataset:
    """Store clients one after another as a new folder, holding one at a time, and open it.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        clients: for each client its name (text), x of shape [examples, ...] (or several such arrays in dicts and
            tuples) and y of shape [examples, ...]: integers 0, 1, ... for labels, floats for regression. All x have
            one type and shape beyond the first axis; so have all y.
        info: what the data set is; if it names no classes, they are numbered 0 to the largest label.
        scale: read x as float32, multiplied by this (1 / 255 for pixels that are bytes).

    Raises:
        UsageError: the folder exists, or `scale` is given for several inputs.
        DataError: no client, a name twice or that is no text, values that are not finite, or shapes, types or labels
            that do not fit.
    """
    return write_blocks(folder, (Block([name], x, y) for name, x, y in clients), info, scale=scale)


def write_blocks(
    folder: str | os.PathLike[str], blocks: Iterable[Block], info: Info | None = None, *, scale: float | None = None
) -> FederatedDataset:
    """Store clients as a new folder, a block of them at a time, and open it; else as `write`."""
    info = info or Info()
    with new_folder(folder) as work:
        ids, sizes, files, largest = dict[str, None](), [], dict[str, ArrayFile](), -1
        columns: dict[str, dict] = {}
        try:
            for block in blocks:
                block = block._replace(ids=_add_names(ids, block.ids))
                inputs = _inputs(block.x)
                arrays = {file: _compact(block, array, what) for file, what, array in inputs}
                arrays["y"] = _compact(block, block.y, "y")
                sizes.append(_lengths(block, arrays))
                said = {"x": _described(block.x, map(_in_file, arrays)), "y": _in_file("y")}
                if columns not in ({}, said):
                    shown = ", ".join(what for _, what, _ in inputs)
                    raise DataError(f"client {block.ids[0]!r} has the inputs {shown}, others than those before it")
                columns = said
                _append(work, files, arrays, block)
                if arrays["y"].dtype == np.int32 and arrays["y"].size:
                    largest = max(largest, _largest_label(block, arrays["y"], info.classes))
        finally:
            for file in files.values():
                file.__exit__()
        if not ids:
            raise DataError("there is no client to store")
        if files["y"].dtype == np.int32 and info.classes is None:
            info = replace(info, classes=tuple(str(label) for label in range(largest + 1)))
        if scale is not None and "inputs" in columns["x"]:
            raise UsageError(f"scale={scale} is for one array of inputs; scale several of them before they are written")
        if scale is not None:
            columns["x"] = {"kind": "scaled", "scale": float(scale), "base": columns["x"]}
        _finish(work, columns, np.concatenate(sizes), np.array(list(ids)), info)
    return open_dataset(folder)


def open_dataset(folder: str | os.PathLike[str]) -> FederatedDataset:
    """Open a stored data set; examples are read when a client is asked for.

    Raises:
        DataError: the folder holds no data set, or a file in it is missing, damaged or cut short; it is
            named.
    """
    path = Path(folder)
    manifest = path / MANIFEST
    try:
        content = json.loads(manifest.read_text("utf-8"))
        if content["version"] not in (VERSION, SEVERAL, SPLIT):
            raise DataError(f"{manifest} has version {content['version']!r}; this fedmeta reads {VERSION} to {SPLIT}")
        sizes, ids = map_array(path / "sizes.npy"), map_array(path / "ids.npy")
        if sizes.ndim != 1 or sizes.dtype != np.int64 or ids.dtype.kind != "U" or ids.shape != sizes.shape:
            raise DataError(f"{path}: sizes.npy and ids.npy do not hold one size and one name per client")
        if np.any(sizes < 0):
            raise DataError(f"{path / 'sizes.npy'} is damaged: it holds sizes below 0")
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        x, y = _opened(content["x"], path, offsets), _column(content["y"], path, offsets)
        said: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content["info"].items()
        }
        info = Info(**said)
        split = _opened_split(content.get("split"), path, offsets)
    except FileNotFoundError:
        raise DataError(f"{path} holds no {MANIFEST}, so it is not a stored data set") from None
    except NotADirectoryError:
        raise DataError(f"{path} is no folder") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{manifest} is damaged ({type(error).__name__}: {error})") from error
    grouped = [("groups", "groups", split.groups)] if isinstance(split, ByGroup) else []
    for _, what, column in (*_inputs(x), ("y", "y", y), *grouped):
        if column.shape[0] != offsets[-1]:
            raise DataError(f"{path}: {what} holds {column.shape[0]} examples, the clients' sizes add to {offsets[-1]}")
    return FederatedDataset(x, y, offsets[:-1], sizes, ids, info, split)


def _split(data: FederatedDataset, work: Path, written: dict[tuple[int, int], str]) -> dict | None:
    """Return the manifest's entry for how clients are split; None for what is usual."""
    if isinstance(data.split, InTime):
        counted = {} if data.split.count is None else {"count": data.split.count}
        return {"kind": "in time", "gap": data.split.gap, "support": data.split.support, **counted}
    if isinstance(data.split, ByGroup):
        return {"kind": "by group", "groups": _store(data.split.groups, "groups", data, work, written)}
    return None


def _opened_split(spec: dict | None, folder: Path, offsets: np.ndarray) -> Split:
    if spec is None:
        return AtRandom()
    if spec["kind"] == "in time":
        return InTime(spec["gap"], spec["support"], spec.get("count"))
    if spec["kind"] == "by group":
        return ByGroup(_column(spec["groups"], folder, offsets))
    raise DataError(f"{folder / MANIFEST} holds a split of the unknown kind {spec['kind']!r}")


def _finish(
    work: Path, columns: dict[str, dict], sizes: np.ndarray, ids: np.ndarray, info: Info, split: dict | None = None
) -> None:
    np.save(work / "sizes.npy", sizes, allow_pickle=False)
    np.save(work / "ids.npy", ids, allow_pickle=False)
    version = SEVERAL if "inputs" in columns["x"] else VERSION
    content = {"version": version, "info": asdict(info), **columns}
    if split is not None:
        content |= {"version": SPLIT, "split": split}
    (work / MANIFEST).write_text(json.dumps(content, indent=1), "utf-8")


def _inputs(x: Any) -> list[tuple[str, str, Any]]:
    """Return each input's file without its ending, its name in messages ("x['age']") and the column; in JAX's order."""
    leaves = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda node: not isinstance(node, dict | tuple))[0]
    if not leaves:
        raise DataError(f"x holds no array, but is {x!r}")
    several = isinstance(x, dict | tuple)
    return [
        (f"x_{number}" if several else "x", f"x{jax.tree_util.keystr(path)}", leaf)
        for number, (path, leaf) in enumerate(leaves)
    ]


def _in_file(file: str) -> dict:
    return {"kind": "array", "file": f"{file}.npy"}


def _described(x: Any, columns: Iterator[dict]) -> dict:
    """Return the manifest's entry for inputs, given the entry of each column, in the order of `_inputs`."""
    if isinstance(x, dict):
        if wrong := [key for key in x if not isinstance(key, str)]:
            raise UsageError(f"an input has the name {wrong[0]!r}; names that can be stored are text")
        return {"kind": "dict", "inputs": {key: _described(x[key], columns) for key in sorted(x)}}
    if isinstance(x, tuple):
        if type(x) is not tuple:
            raise UsageError(
                f"inputs in a {type(x).__name__} cannot be stored; give them as a dict or as a plain tuple"
            )
        return {"kind": "tuple", "inputs": [_described(part, columns) for part in x]}
    return next(columns)


def _store(column: Column, name: str, data: FederatedDataset, work: Path, written: dict[tuple[int, int], str]) -> dict:
    """Write the rows of the data set's clients, in their order, and return the manifest's entry for them."""
    if isinstance(column, Scaled):
        return {
            "kind": "scaled",
            "scale": column.scale,
            "base": _store(column.base, name, data, work, written),
        }
    if isinstance(column, LookedUp):
        table = f"{name}_table"
        with ArrayFile(work / f"{table}.npy", native_type(column.dtype), column.table.shape[1:]) as file:
            file.append(column.table)
        return {
            "kind": "looked up",
            "table": f"{table}.npy",
            "base": _store(column.codes, name, data, work, written),
        }
    if isinstance(column, Windows) and (sequences := _sequences(column, data)) is not None:
        key = (id(column.codes), column.length)
        if key not in written:
            written[key] = f"{name}_codes.npy"
            with ArrayFile(work / written[key], np.dtype(column.codes.dtype), ()) as file:
                for first, codes in sequences:
                    file.append(np.asarray(column.codes[first : first + codes]))
        return {
            "kind": "windows",
            "file": written[key],
            "length": column.length,
            "successor": column.successor,
        }
    if not isinstance(column, Column):
        raise UsageError(
            f"inputs in a {type(column).__name__} cannot be stored; give them as a dict or as a plain tuple"
        )
    with ArrayFile(work / f"{name}.npy", native_type(np.dtype(column.dtype)), tuple(column.shape[1:])) as file:
        for start, size in zip(data.starts.tolist(), data.sizes.tolist(), strict=True):
            file.append(read(column, slice(start, start + size)))
    return _in_file(name)


def _sequences(column: Windows, data: FederatedDataset) -> list[tuple[int, int]] | None:
    """Return the start and the number of each client's codes; None if a client spans two sequences."""
    if np.any(data.sizes < 1):
        return None
    place = np.searchsorted(column.offsets, data.starts, side="right") - 1
    if np.any(data.starts + data.sizes > np.asarray(column.offsets)[place + 1]):
        return None
    first = data.starts + place * column.length
    return list(zip(first.tolist(), (data.sizes + column.length).tolist(), strict=True))


def _opened(spec: dict, folder: Path, offsets: np.ndarray) -> Any:
    """Return the columns that the manifest describes; several are in dicts and tuples."""
    if spec["kind"] == "dict":
        return {name: _opened(part, folder, offsets) for name, part in spec["inputs"].items()}
    if spec["kind"] == "tuple":
        return tuple(_opened(part, folder, offsets) for part in spec["inputs"])
    return _column(spec, folder, offsets)


def _column(spec: dict, folder: Path, offsets: np.ndarray) -> Column:
    if spec["kind"] == "scaled":
        return Scaled(_column(spec["base"], folder, offsets), spec["scale"])
    if spec["kind"] == "looked up":
        table = map_array(_inside(folder, spec["table"]))
        codes = _column(spec["base"], folder, offsets)
        if table.ndim != 2 or codes.dtype.kind not in "iu":
            raise DataError(f"{folder / MANIFEST} is damaged: {spec['table']} is no table that could be looked up")
        return LookedUp(codes, np.asarray(table))
    array = Stored(_inside(folder, spec["file"]))
    if spec["kind"] == "array":
        return array
    if spec["kind"] == "windows":
        codes = array.shape[0]
        if codes != offsets[-1] + (len(offsets) - 1) * spec["length"]:
            raise DataError(f"{folder / spec['file']} holds {codes} codes, which do not fit the clients' sizes")
        return Windows(array, offsets, spec["length"], spec["successor"])
    raise DataError(f"{folder / MANIFEST} holds a column of the unknown kind {spec['kind']!r}")


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise DataError(f"{folder / MANIFEST} names the file {name!r}, which is not in its folder")
    return folder / name


def _add_names(ids: dict[str, None], given: Sequence[Any]) -> list[str]:
    """Add the names of a block's clients to those before it, and return them as text."""
    names = []
    for name in given:
        if isinstance(name, bytes):
            try:
                name = name.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"a client has the name {name!r}, which is no text in UTF-8") from error
        if not isinstance(name, str):
            raise DataError(f"a client has the name {name!r}; names are text, here {str(name)!r}")
        if not name.strip() or name.endswith("\0"):
            raise DataError(f"a client has no name, but {name!r}")
        if name in ids:
            raise DataError(f"client {name!r} comes twice")
        ids[name] = None
        names.append(str(name))
    return names


def _compact(block: Block, values: Any, what: str) -> np.ndarray:
    """Return x or y as it is stored: floats as float32, labels as int32, other integers unchanged."""
    client = block.ids[0]
    array = to_array(values, f"{what} of client {client!r}")
    if array.dtype.kind not in "iufb":
        raise DataError(f"{what} of client {client!r} is not an array of numbers, but {array.dtype} {array.shape}")
    if array.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        finite = np.isfinite(array)
        if not finite.all():
            owners = [block.owner(row) for row in np.nonzero(~finite)[0].tolist()]
            bad = owners.count(owners[0])
            raise DataError(f"{what} of client {owners[0]!r} holds {bad} values that are not finite numbers")
        return array
    if array.dtype == np.int32 or (what != "y" and array.dtype.itemsize <= 4):
        return array
    limits = np.iinfo(np.int32)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        client = block.owner(int(np.nonzero(outside)[0][0]))
        raise DataError(
            f"{what} of client {client!r} holds {array[outside].flat[0]}, which is beyond 32 bits; "
            + ("labels are 0, 1, ..." if what == "y" else "give such inputs as floats")
        )
    return array.astype(np.int32)


def _lengths(block: Block, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return how many examples each client of the block has."""
    y = len(arrays["y"])
    sizes = np.array([y]) if block.sizes is None else np.asarray(block.sizes, np.int64)
    for x in (len(array) for part, array in arrays.items() if part != "y"):
        if x != y or y != sizes.sum():
            who = (
                f"client {block.ids[0]!r} has" if block.sizes is None else f"clients of the sizes {sizes.tolist()} have"
            )
            raise DataError(f"{who} {x} x and {y} y")
    return sizes


def _append(work: Path, files: dict[str, ArrayFile], arrays: dict[str, np.ndarray], block: Block) -> None:
    for part, array in arrays.items():
        if part not in files:
            files[part] = ArrayFile(work / f"{part}.npy", array.dtype, array.shape[1:])
        file = files[part]
        if (array.dtype, array.shape[1:]) != (file.dtype, file.row):
            raise DataError(
                f"{part} of client {block.ids[0]!r} has rows of {array.dtype} {list(array.shape[1:])}, "
                f"those before it {file.dtype} {list(file.row)}"
            )
        file.append(array)


def _largest_label(block: Block, y: np.ndarray, classes: tuple[str, ...] | None) -> int:
    """Return the largest label; raise a DataError if a label is below 0 or beyond the classes."""
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= len(classes)):
        wrong = low if low < 0 else high
        client = block.owner(int(np.nonzero(y == wrong)[0][0]))
        raise DataError(
            f"client {client!r} has the label {wrong}; labels are 0 to {'n' if classes is None else len(classes)} - 1"
        )
    return high
