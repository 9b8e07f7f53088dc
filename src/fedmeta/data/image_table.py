"""A data set from Parquet files with an image in each row, such as FEMNIST with the identifiers of its writers.

The layout is the usual one of image data sets in Parquet: a column of structures with the file's `bytes`, or of bytes.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta.data.arrays import from_arrays
from fedmeta.data.columns import Scaled
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.images import grey
from fedmeta.data.kinds_of_files import PARQUET, parts
from fedmeta.errors import DataError, UnknownName

ROWS = 4096
"""Rows that are held at once, beside the images themselves."""


def image_column(path: str | os.PathLike[str]) -> str | None:
    """Return the first column of images in a Parquet file or a folder of them; None where there is none.

    Raises:
        DataError: a file is damaged.
        MissingPackage: the extra `tables` is not installed.
    """
    files = _files(Path(path))
    if not files:
        return None
    kinds = need("pyarrow", "reading Parquet files").types
    for entry in _opened(files[0]).schema_arrow:
        kind = entry.type
        if kinds.is_struct(kind):
            inside = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
            kind = inside.get("bytes", kind)
        if kinds.is_binary(kind) or kinds.is_large_binary(kind):
            return str(entry.name)
    return None


def from_images(
    path: str | os.PathLike[str],
    *,
    client: str = "writer_id",
    target: str = "character",
    image: str | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> FederatedDataset:
    """Return a data set of greyscale images from a Parquet file, or a folder of them.

    Args:
        path: the file or the folder.
        client: the column that says whose image it is.
        target: the column of labels.
        image: the column of images, PNG files as bytes; the first one of such a kind where it is not given.
        classes: the classes' names in order; those in the file's metadata, or those that occur, where not given.
        name: the name of the data set; the file's name by default.

    Returns:
        x is float32 in 0..1 of shape [images, height, width, 1], 1 being white, stored as bytes.

    Raises:
        DataError: a file is damaged, or an image is, or they are of several sizes.
        UnknownName: there is no such column.
        MissingPackage: the extra `tables` or `images` is not installed.
    """
    path = Path(path)
    files = _files(path)
    image = image or image_column(path)
    if image is None:
        raise DataError(f"{path} holds no column of images")
    owners: list[Any] = []
    labels: list[Any] = []
    pixels: list[np.ndarray] = []
    for file in files:
        for batch in _batches(file, (client, target, image)):
            owners += batch[client].to_pylist()
            labels += batch[target].to_pylist()
            pixels.append(_pixels(batch[image].to_pylist(), file, sum(map(len, pixels)), pixels))
    if not owners:
        raise DataError(f"{path} holds no rows")
    known = classes if classes is not None else _class_names(files[0], target)
    if known is not None and all(isinstance(label, int) for label in labels):
        outside = [label for label in labels if not 0 <= label < len(known)]
        if outside:
            raise DataError(f"{path}: {target} holds {outside[0]}, but there are {len(known)} classes")
        labels = [known[label] for label in labels]
    data = from_arrays(np.concatenate(pixels)[..., None], labels, owners, classes=known, name=name or path.stem)
    info = replace(data.info, source="Parquet")
    return replace(data, x=Scaled(data.x, 1 / 255), info=info)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return parts(path)
    return [path] if path.suffix.lower() in PARQUET else []


def _opened(file: Path) -> Any:
    arrow = need("pyarrow", "reading Parquet files")
    try:
        return need("pyarrow.parquet", "reading Parquet files").ParquetFile(file)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{file} is no whole Parquet file ({error})") from error


def _batches(file: Path, columns: tuple[str, ...]) -> Iterator[Any]:
    opened = _opened(file)
    held = opened.schema_arrow.names
    for column in columns:
        if column not in held:
            raise UnknownName(f"column of {file.name}", column, held)
    try:
        yield from opened.iter_batches(ROWS, columns=list(columns))
    except (OSError, need("pyarrow", "reading Parquet files").ArrowException) as error:
        raise DataError(f"{file} is damaged ({error})") from error


def _pixels(images: list[Any], file: Path, before: int, others: list[np.ndarray]) -> np.ndarray:
    """Return the images of one batch, uint8 of shape [images, height, width]."""
    found = []
    for row, given in enumerate(images, before):
        content = given.get("bytes") if isinstance(given, dict) else given
        if not isinstance(content, bytes):
            raise DataError(f"{file}, row {row} (counted from 0): the image is missing")
        try:
            found.append(grey(content))
        except DataError as error:
            raise DataError(f"{file}, row {row} (counted from 0): {error}") from error
        first = others[0][0] if others else found[0]
        if found[-1].shape != first.shape:
            raise DataError(
                f"{file}, row {row} (counted from 0): an image of {found[-1].shape} pixels, where others have "
                f"{first.shape}"
            )
    return np.stack(found)


def _class_names(file: Path, target: str) -> tuple[str, ...] | None:
    """Return the classes' names as the metadata of some data sets have them; None where there are none."""
    try:
        said = json.loads((_opened(file).schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        names = said["info"]["features"][target]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and len(names) > 1 else None
