"""The four hospitals: their patients, the tables that their trainers read, and how patients are split for tests."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedmeta import random
from fedmeta._files import write_atomically
from fedmeta.consortium import stand_in
from fedmeta.data import FederatedDataset, from_arrays, locate
from fedmeta.data.schema import Schema
from fedmeta.data.sources import heart
from fedmeta.data.sources.heart import Patients
from fedmeta.errors import UsageError
from fedmeta.runs.inputs import Inputs

TITLES = {
    "cleveland": "Cleveland",
    "budapest": "Budapest",
    "zurich": "Zurich/Basel",
    "long-beach": "Long Beach",
}
"""The hospitals' names for people, by the names that tables, files and a ledger have."""

SCHEMA: Schema = heart.SCHEMA
"""What the columns of a hospital's table are, with public reference ranges."""

INPUTS: Inputs = Inputs.by_ranges(SCHEMA)
"""What a procedure takes and gives: clipped to the ranges, then scaled by them; no statistic of a hospital is in it."""


def scaled(x: np.ndarray) -> np.ndarray:
    """Return inputs as a network sees them, float64 of the same shape: clipped to the public ranges, then scaled."""
    low, high, mean, std = (np.array(getattr(INPUTS, name)) for name in ("low", "high", "mean", "std"))
    return (np.clip(x.astype(np.float64), low, high) - mean) / std


TABLE = "patients.csv"
"""The name of a hospital's table in the hospital's folder."""

REAL = "UCI Heart Disease (Janosi, Steinbrunn, Pfisterer and Detrano, 1989), CC BY 4.0, doi 10.24432/C52P4X"
DRAWN = "drawn patients, by the counts, means and gaps that are published of the UCI Heart Disease data"
WARNING = (
    "THESE ARE NOT PATIENTS. The real data are not on this machine, so a stand-in of the same shape was drawn. No "
    "figure here says anything about a hospital. `fedmeta data get heart` fetches the real data; or name the folder "
    "that holds heart/processed.cleveland.data and the others in FEDMETA_DATA."
)
"""What demonstration and report must say, loudly, of a stand-in."""


class Split(NamedTuple):
    """Rows of a hospital's patients, each in ascending order: to train on, and to test on."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Hospital:
    """A hospital and its patients.

    Args:
        name: in tables, files and on a ledger, such as "long-beach".
        patients: the ten columns and the diagnosis, as UCI's files number them; NaN in gaps.
    """

    name: str
    patients: Patients

    @property
    def title(self) -> str:
        """The name for people."""
        return TITLES.get(self.name, self.name)

    @property
    def x(self) -> np.ndarray:
        """What a model is given, float32 of shape [patients, 15]: as a trainer reads it from the table."""
        return heart.encoded(self.patients.values)

    @property
    def y(self) -> np.ndarray:
        """Whether each patient is ill, int32 of shape [patients]."""
        return self.patients.ill

    @property
    def ill_share(self) -> float:
        """The share of the patients that is ill."""
        return float(self.y.mean())

    @property
    def gaps(self) -> dict[str, int]:
        """How many patients have no value, for each column in which some have none."""
        missing = np.isnan(self.patients.values).sum(axis=0)
        return {entry.name: int(count) for entry, count in zip(SCHEMA.used, missing, strict=True) if count}

    def __len__(self) -> int:
        return len(self.y)

    def table(self, rows: np.ndarray | None = None) -> str:
        """Return the patients as CSV, with a line of names first, in the schema's words; a gap is blank.

        Args:
            rows: which patients; all by default.
        """
        chosen = np.arange(len(self)) if rows is None else rows
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*(entry.name for entry in SCHEMA.used), "ill"])
        writer.writerows(heart.cells(self.patients.of(chosen)))
        return text.getvalue()


@dataclass(frozen=True, eq=False)
class Hospitals:
    """The hospitals of a consortium.

    Args:
        members: the hospitals.
        stand_in: whether the patients are drawn: then everything that is shown must say `warning`.
        source: where the patients come from.
    """

    members: tuple[Hospital, ...]
    stand_in: bool
    source: str

    @property
    def complete(self) -> "Hospitals":
        """The hospitals with those patients alone that have a value in each of the ten columns in the files."""
        members = tuple(Hospital(one.name, one.patients.of(one.patients.complete)) for one in self.members)
        return Hospitals(members, self.stand_in, self.source)

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals' names."""
        return tuple(one.name for one in self.members)

    @property
    def warning(self) -> str:
        """What must be said loudly; empty for the real patients."""
        return WARNING if self.stand_in else ""

    def __iter__(self) -> Iterator[Hospital]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, name: str) -> Hospital:
        for one in self.members:
            if one.name == name:
                return one
        raise UsageError(f"no hospital {name!r}; there are {', '.join(self.names)}")


def load(seed: int = 0) -> Hospitals:
    """Return the four hospitals: the real patients where their files are on this machine, else a stand-in.

    Args:
        seed: of the stand-in.

    Raises:
        DataError: the files are damaged.
    """
    folder = locate.find("heart", heart.FILES)
    if folder is None:
        return drawn(seed)
    return Hospitals(tuple(Hospital(*one) for one in heart.read(folder).items()), False, REAL)


def drawn(seed: int = 0) -> Hospitals:
    """Return the stand-in: as many patients, ill ones and gaps as each hospital has, drawn by a seed."""
    return Hospitals(tuple(Hospital(*one) for one in stand_in.draw(seed).items()), True, DRAWN)


def write(hospital: Hospital, folder: Path, rows: np.ndarray | None = None) -> Path:
    """Write one hospital's table into a folder of its own, and return the file: `folder/NAME/patients.csv`.

    A node reads it by the procedure's inputs: `paths = ["patients.csv"]` under `[data]`.

    Args:
        hospital: whose patients.
        folder: where the hospitals' folders are.
        rows: which patients, such as those that are not kept for a test; all by default.
    """
    own = folder / hospital.name
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(own / TABLE, hospital.table(rows).encode())
    return own / TABLE


def dataset(hospitals: Hospitals, rows: dict[str, np.ndarray] | None = None) -> FederatedDataset:
    """Return hospitals as the clients of a data set, for `fm.train` and `fm.evaluate`.

    Args:
        hospitals: the clients.
        rows: which patients of each hospital, by name; a hospital that is not named is left out. All by default.
    """
    chosen = {one.name: np.arange(len(one)) for one in hospitals} if rows is None else rows
    parts = [(hospitals[name], places) for name, places in chosen.items()]
    return from_arrays(
        np.concatenate([one.x[places] for one, places in parts]),
        np.concatenate([one.y[places] for one, places in parts]),
        np.repeat([one.name for one, _ in parts], [len(places) for _, places in parts]),
        classes=len(INPUTS.classes or ()),
        name="consortium",
        features=INPUTS.features,
    )


def splits(hospital: Hospital, count: int, seed: int = 0, test: float = 1 / 3) -> tuple[Split, ...]:
    """Return repeated splits of a hospital's patients, each stratified by the diagnosis.

    Args:
        hospital: whose patients.
        count: how many splits.
        seed: the same seed gives the same splits of a hospital, whatever the other hospitals are.
        test: the share of the healthy, and of the ill, that is tested on, at least one of each; of all together where
            a hospital has fewer than three of either.

    Raises:
        UsageError: the share is not in (0, 1), or the count below 1.
    """
    if not 0 < test < 1:
        raise UsageError(f"the share of patients to test on must lie between 0 and 1 (exclusive), not {test}")
    if count < 1:
        raise UsageError(f"there must be at least 1 split, not {count}")
    return tuple(_split(hospital, number, seed, test) for number in range(count))


def _split(hospital: Hospital, number: int, seed: int, test: float) -> Split:
    draw = random.generator(seed, "test patients", number, hospital.name)
    held = np.zeros(len(hospital), bool)
    kinds = [np.flatnonzero(hospital.y == kind) for kind in (0, 1)]
    for rows in kinds if min(map(len, kinds)) > 2 else [np.arange(len(hospital))]:
        held[draw.permutation(rows)[: min(max(round(test * len(rows)), 1), len(rows) - 1)]] = True
    return Split(np.flatnonzero(~held), np.flatnonzero(held))
