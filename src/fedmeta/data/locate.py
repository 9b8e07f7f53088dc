"""Where fedmeta looks for the files of a source, and where it keeps fetched ones."""

import os
from collections.abc import Sequence
from pathlib import Path

from fedmeta._files import cache_folder
from fedmeta.errors import DataError


def cache() -> Path:
    """Return the folder for fetched files: `data` in `FEDMETA_CACHE`, or in the user's cache if that is unset.

    Raises:
        DataError: there is neither.
    """
    folder = cache_folder("data")
    if folder is None:
        raise DataError("there is no folder to keep data in: this user has no home folder; set FEDMETA_CACHE to one")
    return folder


def folders() -> list[Path]:
    """Return the folders that are searched for sources: those in `FEDMETA_DATA`, in order, then the cache if any."""
    listed = os.environ.get("FEDMETA_DATA", "").split(os.pathsep)
    kept = cache_folder("data")
    return [*(Path(folder) for folder in listed if folder), *([] if kept is None else [kept])]


def find(source: str, files: Sequence[str]) -> Path | None:
    """Return the first folder of a source that holds all these files, or None."""
    for folder in folders():
        if all((folder / source / file).is_file() for file in files):
            return folder / source
    return None


def need(source: str, files: Sequence[str]) -> Path:
    """Return the folder of a source.

    Raises:
        DataError: no folder holds all the files; the message names the folders that were searched.
    """
    found = find(source, files)
    if found is None:
        said = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        looked = ", ".join(str(folder / source) for folder in folders()) or "FEDMETA_DATA, which is not set"
        raise DataError(f"{source} needs {said}, not found in {looked}: run `fedmeta data get {source}`")
    return found
