"""MNIST by writer: MNIST's images, and who wrote them from QMNIST's labels.

Yadav and Bottou (2019), "Cold Case: The Lost MNIST Digits", arXiv:1905.10498.
"""

import gzip
import warnings
import zlib
from pathlib import Path

import numpy as np

from fedmeta.data import locate
from fedmeta.data.columns import Scaled
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, fetch, make_folder
from fedmeta.data.partition import keep_classes
from fedmeta.errors import DataError

MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master/"
# The digests are those of the unpacked files, because mirrors compress anew.
UPSTREAM = {
    "train-images-idx3-ubyte.gz": (MNIST, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "t10k-images-idx3-ubyte.gz": (MNIST, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "qmnist-train-labels-idx2-int.gz": (
        QMNIST,
        "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
    ),
    "qmnist-test-labels-idx2-int.gz": (
        QMNIST,
        "92d0ccb8c25f9c6534270fb4be7e1d24a1c6d315edfc8a638bfbd31c70f362dd",
    ),
}
FILES = tuple(UPSTREAM)
PARTS = (("train", 60_000), ("t10k", 10_000))
LABEL, WRITER = 0, 2
CLIENTS = 834


def load(min_examples: int = 10, classes_per_client: int | None = None, seed: int = 0) -> FederatedDataset:
    """Return MNIST with one client per writer.

    Args:
        min_examples: writers with fewer images are left out, with a warning that says how many.
        classes_per_client: keep this many of each writer's classes, drawn with `seed`; all by default. Only the
            images of those classes count towards `min_examples`.
        seed: the same seed gives the same classes.

    Returns:
        x is float32 in 0..1 of shape [examples, 28, 28, 1], stored as bytes.

    Raises:
        DataError: the files are absent or damaged.
        UsageError: `classes_per_client` is out of range.
    """
    folder = locate.need("mnist", FILES)
    images, labels = [], []
    for part, count in PARTS:
        images.append(_idx(folder / f"{part}-images-idx3-ubyte.gz", "u1", (count, 28, 28)))
        # QMNIST's test part has 50,000 more rows, whose images are not in MNIST.
        rows = _idx(folder / f"qmnist-{'train' if part == 'train' else 'test'}-labels-idx2-int.gz", ">i4", (60_000, 8))
        labels.append(rows[:count])
    x, rows = np.concatenate(images), np.concatenate(labels)
    order = np.argsort(rows[:, WRITER], kind="stable")
    writers, sizes = np.unique(rows[:, WRITER], return_counts=True)
    data = FederatedDataset(
        Scaled(x[order][..., None], 1 / 255),
        rows[order, LABEL].astype(np.int32),
        np.cumsum(sizes) - sizes,
        sizes,
        np.array([f"writer-{writer:04}" for writer in writers]),
        Info(
            name="mnist",
            description="handwritten digits, 28x28 pixels, by writer",
            source="MNIST (public) with QMNIST's labels (BSD)",
            classes=tuple("0123456789"),
        ),
    )
    if classes_per_client is not None:
        data = keep_classes(data, classes_per_client, seed)
    few = int(np.sum(data.sizes < min_examples))
    if few:
        warnings.warn(
            f"{few} of {data.num_clients} writers have fewer than {min_examples} images and are left out",
            stacklevel=4,
        )
    return data.at_least(min_examples)


def get(folder: Path, progress: Progress) -> None:
    """Fetch the four files into a folder.

    Raises:
        DownloadError: one of them cannot be fetched whole, or the folder cannot be made.
    """
    make_folder(folder)
    for name, (site, sha256) in UPSTREAM.items():
        if not (folder / name).exists():
            fetch(site + name, folder / name, sha256, gzipped=True, progress=progress)


def _idx(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read a gzipped IDX file of a known type and shape."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut short ({error})") from error
    dtype = np.dtype(kind)
    code = {"u1": 0x08, ">i4": 0x0C}[kind]
    head = np.array([code << 8 | len(shape), *shape], ">u4").tobytes()
    if content[: len(head)] != head or len(content) != len(head) + int(np.prod(shape)) * dtype.itemsize:
        raise DataError(f"{path} is not the IDX file of shape {list(shape)} that MNIST has")
    return np.frombuffer(content, dtype, offset=len(head)).reshape(shape)
