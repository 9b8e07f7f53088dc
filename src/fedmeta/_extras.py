"""Packages that come with an extra: imported where they are used, and named in one line where they are missing."""

import importlib
from typing import Any

from fedmeta.errors import UsageError

EXTRAS = {
    "pyarrow": "tables",
    "matplotlib": "reports",
    "jinja2": "reports",
    "cryptography": "ledger",
    "cbor2": "ledger",
    "fastapi": "ledger",
    "uvicorn": "ledger",
    "httpx": "ledger",
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
        UsageError: the package is not installed; the message names the extra that brings it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise UsageError(
            f"{what} needs the package {package}, which is not installed: pip install 'fedmeta[{EXTRAS[package]}]'"
        ) from None
