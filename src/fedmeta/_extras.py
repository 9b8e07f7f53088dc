"""Packages that come with an extra: imported where they are used, and named in one line where they are missing."""

import importlib
import importlib.util
from typing import Any

from fedmeta.errors import MissingPackage

EXTRAS = {
    "pyarrow": "tables",
    "python_calamine": "excel",
    "PIL": "images",
    "matplotlib": "reports",
    "jinja2": "reports",
    "cryptography": "ledger",
    "cbor2": "ledger",
    "fastapi": "ledger",
    "uvicorn": "ledger",
    "h11": "ledger",
    "OpenSSL": "ledger",
    "httpx": "ledger",
    "google.protobuf": "cometbft",
    "flax": "flax",
    "equinox": "equinox",
    "tensorboardX": "tensorboard",
}
"""By package, the extra that brings it; `fedmeta[all]` brings every one of them."""


def need(module: str, what: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: such as "pyarrow.csv".
        what: what needs it, for the message: "the history as a table".

    Raises:
        MissingPackage: the package is not installed; the message names the extra that brings it.
    """
    package = next(one for one in EXTRAS if _within(module, one))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not (_within(error.name, package) or _within(package, error.name)):
            raise
        raise _missing(package, what) from None


def need_extra(extra: str, what: str) -> None:
    """Look for every package of an extra, and import none: for a part of fedmeta of which nothing works without them.

    Args:
        extra: such as "ledger".
        what: as in `need`.

    Raises:
        MissingPackage: one of them is not installed.
    """
    for package, bringer in EXTRAS.items():
        if bringer == extra and not _is_there(package):
            raise _missing(package, what)


def _within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _missing(package: str, what: str) -> MissingPackage:
    return MissingPackage(
        f"{what} needs the package {package}, which is not installed: pip install 'fedmeta[{EXTRAS[package]}]'"
    )


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        # What stands in for a package that is not to be had may say so at once.
        return False
