"""A data set as a folder of columns: opened without being read, larger than memory if need be.

`dataset.json` says what the columns are; the arrays are `.npy` files.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta.data.columns import Column, Scaled, Stored, Windows
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.files import ArrayFile, map_array, new_folder
from fedmeta.errors import DataError, UsageError

VERSION = 1
MANIFEST = "dataset.json"


class Block(NamedTuple):
    """Clients that are stored together.

    `ids` are their names; x and y hold all of their examples, those of the first client first. `sizes`, shape
    [clients], says how many each has; without it there is one client.
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
        UsageError: the folder exists, or the data set has no client.
        DataError: a column holds something else than numbers.
    """
    if data.num_clients == 0:
        raise UsageError(f"{data!r} has no client to store")
    with new_folder(folder) as work:
        written: dict[tuple[int, int], str] = {}
        columns = {name: _store(column, name, data, work, written) for name, column in (("x", data.x), ("y", data.y))}
        _finish(work, columns, np.asarray(data.sizes, np.int64), np.asarray(data.ids, str), data.info)


def write(
    folder: str | os.PathLike[str],
    clients: Iterable[tuple[str, Any, Any]],
    info: Info | None = None,
    *,
    scale: float | None = None,
) -> FederatedDataset:
    """Store clients one after the other as a new folder, holding one at a time, and open it.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        clients: for each client its name, x of shape [examples, ...] and y of shape [examples, ...]: integers
            0, 1, ... for labels, floats for regression. All x have one type and shape beyond the first axis;
            so have all y.
        info: what the data set is; classes are numbered 0 to the largest label where it names none.
        scale: read x as float32, multiplied by this (1 / 255 for pixels that are bytes).

    Raises:
        UsageError: the folder exists.
        DataError: no client, a name twice, values that are not finite, or shapes, types or labels that do not
            fit.
    """
    return write_blocks(folder, (Block([name], x, y) for name, x, y in clients), info, scale=scale)


def write_blocks(
    folder: str | os.PathLike[str], blocks: Iterable[Block], info: Info | None = None, *, scale: float | None = None
) -> FederatedDataset:
    """Store clients as a new folder, a block of them at a time, and open it; else as `write`."""
    info = info or Info()
    with new_folder(folder) as work:
        ids, sizes, files, largest = dict[str, None](), [], dict[str, ArrayFile](), -1
        try:
            for block in blocks:
                _add_names(ids, block.ids)
                arrays = {"x": _compact(block, "x"), "y": _compact(block, "y")}
                sizes.append(_lengths(block, arrays))
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
        columns: dict[str, dict] = {part: {"kind": "array", "file": f"{part}.npy"} for part in "xy"}
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
        if content["version"] != VERSION:
            raise DataError(f"{manifest} has version {content['version']!r}; this fedmeta reads version {VERSION}")
        sizes, ids = map_array(path / "sizes.npy"), map_array(path / "ids.npy")
        if sizes.ndim != 1 or sizes.dtype != np.int64 or ids.dtype.kind != "U" or ids.shape != sizes.shape:
            raise DataError(f"{path}: sizes.npy and ids.npy do not hold one size and one name per client")
        if np.any(sizes < 0):
            raise DataError(f"{path / 'sizes.npy'} is damaged: it holds sizes below 0")
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        x, y = (_column(content[part], path, offsets) for part in "xy")
        said: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content["info"].items()
        }
        info = Info(**said)
    except FileNotFoundError:
        raise DataError(f"{path} holds no {MANIFEST}, so it is no stored data set") from None
    except NotADirectoryError:
        raise DataError(f"{path} is no folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is damaged ({type(error).__name__}: {error})") from error
    for part, column in (("x", x), ("y", y)):
        if column.shape[0] != offsets[-1]:
            raise DataError(f"{path}: {part} holds {column.shape[0]} examples, the clients' sizes add to {offsets[-1]}")
    return FederatedDataset(x, y, offsets[:-1], sizes, ids, info)


def _finish(work: Path, columns: dict[str, dict], sizes: np.ndarray, ids: np.ndarray, info: Info) -> None:
    np.save(work / "sizes.npy", sizes, allow_pickle=False)
    np.save(work / "ids.npy", ids, allow_pickle=False)
    content = {"version": VERSION, "info": asdict(info), **columns}
    (work / MANIFEST).write_text(json.dumps(content, indent=1), "utf-8")


def _store(column: Column, name: str, data: FederatedDataset, work: Path, written: dict[tuple[int, int], str]) -> dict:
    """Write the rows of the data set's clients, in their order, and return what the manifest says of them."""
    if isinstance(column, Scaled):
        return {
            "kind": "scaled",
            "scale": column.scale,
            "base": _store(column.base, name, data, work, written),
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
    with ArrayFile(work / f"{name}.npy", np.dtype(column.dtype), tuple(column.shape[1:])) as file:
        for start, size in zip(data.starts.tolist(), data.sizes.tolist(), strict=True):
            file.append(np.asarray(column[start : start + size]))
    return {"kind": "array", "file": f"{name}.npy"}


def _sequences(column: Windows, data: FederatedDataset) -> list[tuple[int, int]] | None:
    """Return where each client's codes begin and how many there are; None if a client spans two sequences."""
    if np.any(data.sizes < 1):
        return None
    place = np.searchsorted(column.offsets, data.starts, side="right") - 1
    if np.any(data.starts + data.sizes > np.asarray(column.offsets)[place + 1]):
        return None
    first = data.starts + place * column.length
    return list(zip(first.tolist(), (data.sizes + column.length).tolist(), strict=True))


def _column(spec: dict, folder: Path, offsets: np.ndarray) -> Column:
    if spec["kind"] == "scaled":
        return Scaled(_column(spec["base"], folder, offsets), spec["scale"])
    if Path(spec["file"]).name != spec["file"]:
        raise DataError(f"{folder / MANIFEST} names the file {spec['file']!r}, which is not in its folder")
    array = Stored(folder / spec["file"])
    if spec["kind"] == "array":
        return array
    if spec["kind"] == "windows":
        codes = array.shape[0]
        if codes != offsets[-1] + (len(offsets) - 1) * spec["length"]:
            raise DataError(f"{folder / spec['file']} holds {codes} codes, which do not fit the clients' sizes")
        return Windows(array, offsets, spec["length"], spec["successor"])
    raise DataError(f"{folder / MANIFEST} holds a column of the unknown kind {spec['kind']!r}")


def _add_names(ids: dict[str, None], names: Sequence[str]) -> None:
    for name in names:
        if not name or name in ids:
            raise DataError(f"client {name!r} comes twice" if name else "a client has no name")
        ids[name] = None


def _compact(block: Block, part: str) -> np.ndarray:
    """Return x or y as it is stored: floats as float32, labels as int32, other integers as they are."""
    array = np.asarray(getattr(block, part))
    if array.ndim == 0 or array.dtype.kind not in "iufb":
        client = block.ids[0]
        raise DataError(f"{part} of client {client!r} is not an array of numbers, but {array.dtype} {array.shape}")
    if array.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        finite = np.isfinite(array)
        if not finite.all():
            owners = [block.owner(row) for row in np.nonzero(~finite)[0].tolist()]
            bad = owners.count(owners[0])
            raise DataError(f"{part} of client {owners[0]!r} holds {bad} values that are not finite numbers")
        return array
    if array.dtype == np.int32 or (part == "x" and array.dtype.itemsize <= 4):
        return array
    limits = np.iinfo(np.int32)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        client = block.owner(int(np.nonzero(outside)[0][0]))
        raise DataError(
            f"{part} of client {client!r} holds {array[outside].flat[0]}, which is beyond 32 bits; "
            + ("give such inputs as floats" if part == "x" else "labels are 0, 1, ...")
        )
    return array.astype(np.int32)


def _lengths(block: Block, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return how many examples each client of the block has."""
    x, y = len(arrays["x"]), len(arrays["y"])
    sizes = np.array([y]) if block.sizes is None else np.asarray(block.sizes, np.int64)
    if x != y or y != sizes.sum():
        who = f"client {block.ids[0]!r} has" if block.sizes is None else f"clients of the sizes {sizes.tolist()} have"
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
