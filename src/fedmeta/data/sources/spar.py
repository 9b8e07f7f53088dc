"""SPAR: which of seven shoulder exercises a smartwatch is moved by; a client is a person.

Burns et al. (2018), "Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a
smartwatch", arXiv:1802.01489. 10 people did each exercise with each arm, sampled at 50 Hz.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta.data import locate
from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, package, put
from fedmeta.data.pickled import loads
from fedmeta.data.schema import Field, Schema
from fedmeta.data.splits import InTime
from fedmeta.errors import DataError, DownloadError, UsageError

FILES = ("watch_dataset.npy",)
CLIENTS = 10
REQUIREMENT = "seglearn==1.2.5 --hash=sha256:ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd"
INSIDE = "seglearn/data/watch_dataset.npy"
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
FIGURES = ("mean", "std", "min", "max", "change")
_HEAD = b"\x93NUMPY"


def load(window: int = 200, raw: bool = False) -> FederatedDataset:
    """Return each person's windows, none of which overlap, and the exercise in each.

    They are in the order of the place in their recording, so that support is the beginning of every recording and the
    query the rest.

    Args:
        window: samples in a window, 50 a second.
        raw: give the samples themselves, and not figures of each window.

    Returns:
        x is float32 of shape [windows, 30]: each of the six channels' mean, standard deviation, smallest and largest
        value, and mean absolute change from sample to sample. Raw, it is of shape [windows, window, 6].

    Raises:
        DataError: the files are absent or damaged.
        UsageError: `window` is below 2, or longer than a recording.
    """
    if window < 2:
        raise UsageError(f"window must be at least 2 samples, not {window}")
    path = locate.need("spar", FILES) / FILES[0]
    series, exercise, person, names = _recordings(path)
    shortest = min(len(one) for one in series)
    if window > shortest:
        raise UsageError(f"window must be at most {shortest}, the samples of the shortest recording, not {window}")
    x, recording, place = [], [], []
    for number, samples in enumerate(series):
        count = len(samples) // window
        x.append(samples[: count * window].reshape(count, window, len(CHANNELS)))
        recording += [number] * count
        place += ((np.arange(count) + 0.5) / count).tolist()
    owner = person[recording]
    order = np.lexsort((recording, place, owner))
    windows = np.concatenate(x)[order].astype(np.float32)
    who = np.array([f"person-{number:02}" for number in owner[order]])
    data = from_arrays(
        windows if raw else _figures(windows), exercise[recording][order], who, classes=len(names), name="spar"
    )
    schema = _schema(names)
    info = Info(
        name="spar",
        description="the shoulder exercise of a person, from a smartwatch's sensors",
        source="SPAR, with the package seglearn; BSD",
        classes=names,
        features=None if raw else schema.features,
        schema=None if raw else schema,
    )
    return FederatedDataset(data.x, data.y, data.starts, data.sizes, data.ids, info, InTime())


def get(folder: Path, progress: Progress) -> None:
    """Fetch the file into a folder, from the package `seglearn` 1.2.5, using pip.

    Nothing of the package is installed, imported or run.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the file, or it cannot be written.
    """
    make_folder(folder)
    with package(REQUIREMENT, ["--only-binary", ":all:"]) as archive:
        try:
            with zipfile.ZipFile(archive) as held:
                content = held.read(INSIDE)
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError) as error:
            raise DownloadError(f"the package seglearn is damaged: {error}") from error
    put(folder / FILES[0], content)
    progress("recordings", 1, 1)


def _recordings(path: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the samples, exercise and person of each recording, and the exercises' names."""
    try:
        content = path.read_bytes()
        if not content.startswith(_HEAD):
            raise ValueError("it is no file of NumPy")
        found: Any = loads(content[10 + int.from_bytes(content[8:10], "little") :])[()]
        series = [np.asarray(one, np.float64) for one in found["X"]]
        exercise, person = (np.asarray(found[name]).astype(np.int64) for name in ("y", "subject"))
        names = tuple(str(name) for name in found["y_labels"])
        if any(one.ndim != 2 or one.shape[1] != len(CHANNELS) for one in series):
            raise ValueError("a recording has other channels")
        if not len(series) == len(exercise) == len(person) > 0:
            raise ValueError("recordings, exercises and people differ in number")
    except (OSError, ValueError, KeyError, TypeError, IndexError, DataError) as error:
        raise DataError(f"{path} does not hold the recordings of SPAR ({error})") from error
    return series, exercise, person, names


def _figures(windows: np.ndarray) -> np.ndarray:
    """Return the figures of each window, shape [windows, channels * figures], channel by channel."""
    change = np.abs(np.diff(windows, axis=1)).mean(axis=1)
    parts = [windows.mean(axis=1), windows.std(axis=1), windows.min(axis=1), windows.max(axis=1), change]
    return np.stack(parts, axis=2).reshape(len(windows), -1)


def _schema(names: tuple[str, ...]) -> Schema:
    columns = [Field(name=f"{channel} {figure}", type="number") for channel in CHANNELS for figure in FIGURES]
    target = Field(name="exercise", kind="category", role="target", categories=names)
    return Schema((*columns, target), task="classification")
