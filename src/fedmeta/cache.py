"""Where the library keeps what it fetched, measured or compiled."""

import os
from pathlib import Path

import platformdirs


def folder(kind: str) -> Path:
    """Return the folder for one kind of things: in `FEDMETA_CACHE`, or in the user's cache if that is unset."""
    chosen = os.environ.get("FEDMETA_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("fedmeta")) / kind
