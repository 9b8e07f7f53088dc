"""Omniglot: handwritten characters of many alphabets; a client is an alphabet, or some characters of one.

Lake, Salakhutdinov and Tenenbaum (2015), "Human-level concept learning through probabilistic program induction", doi
10.1126/science.aab3050. These are its two smaller parts. Each of 20 drawers drew each character once, so support and
query are characters by different drawers. What published few-shot figures are measured on is another split.
"""

import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from fedmeta.data import locate
from fedmeta.data.columns import Scaled
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, fetch, make_folder
from fedmeta.data.images import grey
from fedmeta.data.splits import ByGroup
from fedmeta.errors import DataError, UsageError

UPSTREAM = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
DIGESTS = {
    "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
}
FILES = tuple(DIGESTS)
CLIENTS = 8
SIZE, CELL = 105, 28
"""The pixels of a side of an image, and of what is made of it."""


def load(ways: int | None = None) -> FederatedDataset:
    """Return the characters of each alphabet, numbered in their order within it.

    Args:
        ways: cut each alphabet into clients of so many characters, in their order, and leave the rest out; an alphabet
            is one client where it is not given.

    Returns:
        x is float32 in 0..1 of shape [images, 28, 28, 1], 1 being ink: each pixel is the mean of those of the image
        that it covers. y is the place of the character among those of its client. A drawer's images are all support or
        all query.

    Raises:
        DataError: the files are absent or damaged.
        UsageError: `ways` is below 2, or no alphabet has so many characters.
    """
    if ways is not None and ways < 2:
        raise UsageError(f"ways must be at least 2, not {ways}")
    folder = locate.need("omniglot", FILES)
    images: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for file in FILES:
        _read(folder / file, images)
    clients = _clients(sorted(images), ways)
    if not clients:
        raise UsageError(f"no alphabet has {ways} characters; ways must be lower")
    pixels, labels, drawers, sizes = [], [], [], []
    for characters in clients.values():
        whole = set.intersection(*(set(images[character]) for character in characters))
        rows = [(drawer, place) for drawer in sorted(whole) for place in range(len(characters))]
        pixels += [images[characters[place]][drawer] for drawer, place in rows]
        drawers += [drawer for drawer, _ in rows]
        labels += [place for _, place in rows]
        sizes.append(len(rows))
    lost = sum(len(drawn) for character in clients.values() for drawn in (images[one] for one in character))
    if lost := lost - len(pixels):
        warnings.warn(f"{lost} images are left out, of drawers who did not draw every character", stacklevel=4)
    classes = max(map(len, clients.values()))
    return FederatedDataset(
        Scaled(np.stack(pixels)[..., None], 1 / 255),
        np.array(labels, np.int32),
        np.cumsum(sizes) - sizes,
        np.array(sizes, np.int64),
        np.array(list(clients)),
        Info(
            name="omniglot",
            description="handwritten characters, 28x28 pixels, by alphabet; the query is by other drawers",
            source="Omniglot of Lake, Salakhutdinov and Tenenbaum; MIT",
            classes=tuple(f"character {number}" for number in range(1, classes + 1)),
        ),
        ByGroup(np.array(drawers, np.int32)),
    )


def get(folder: Path, progress: Progress) -> None:
    """Fetch the two files into a folder.

    Raises:
        DownloadError: one of them cannot be fetched whole, or the folder cannot be made.
    """
    make_folder(folder)
    for name, sha256 in DIGESTS.items():
        if not (folder / name).exists():
            fetch(UPSTREAM + name, folder / name, sha256, progress=progress)


def _clients(characters: list[tuple[str, str]], ways: int | None) -> dict[str, list[tuple[str, str]]]:
    """Return each client's characters, in their order."""
    alphabets: dict[str, list[tuple[str, str]]] = {}
    for character in characters:
        alphabets.setdefault(character[0], []).append(character)
    if ways is None:
        return alphabets
    return {
        f"{name}/{first // ways + 1:02}": held[first : first + ways]
        for name, held in alphabets.items()
        for first in range(0, len(held) - ways + 1, ways)
    }


def _read(path: Path, images: dict[tuple[str, str], dict[int, np.ndarray]]) -> None:
    """Add the images of a file, by alphabet and character, and by drawer; one that is there already stays."""
    try:
        with zipfile.ZipFile(path) as held:
            for name in sorted(held.namelist()):
                parts = PurePosixPath(name).parts
                if not name.endswith(".png") or len(parts) < 3 or parts[0].startswith("__"):
                    continue
                drawer = int(PurePosixPath(name).stem.partition("_")[2])
                drawn = images.setdefault((parts[-3], parts[-2]), {})
                if drawer not in drawn:
                    drawn[drawer] = _smaller(grey(held.read(name)), name)
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError, DataError) as error:
        raise DataError(f"{path} is not the file of Omniglot ({error})") from error
    if not images:
        raise DataError(f"{path} holds no image ALPHABET/CHARACTER/NUMBER_DRAWER.png")


def _smaller(bright: np.ndarray, name: str) -> np.ndarray:
    """Return 28x28 bytes, 255 being ink, each the mean of the part of 105x105 pixels that it covers."""
    if bright.shape != (SIZE, SIZE):
        raise ValueError(f"{name} is of shape {bright.shape}")
    return np.rint(_WEIGHTS @ (255.0 - bright) @ _WEIGHTS.T).astype(np.uint8)


def _weights() -> np.ndarray:
    """Return how much of each of 105 pixels lies in each of 28 cells, as a share of the cell, shape [28, 105]."""
    edge = np.arange(CELL + 1) * SIZE / CELL
    low, high = edge[:-1, None], edge[1:, None]
    pixel = np.arange(SIZE)
    return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) * CELL / SIZE


_WEIGHTS = _weights()
