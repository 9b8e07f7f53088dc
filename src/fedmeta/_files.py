"""Files that are written whole or not at all, and the folders of the cache."""

import contextlib
import os
import secrets
from pathlib import Path

import platformdirs

from fedmeta.errors import RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file, flush it to the disk, and rename it: `path` is the old file or the new one, never half.

    Raises:
        RunError: the file system refuses (full, read-only, over a quota); the old file is as it was.
    """
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
        # As `open` would do, so that the user's umask applies: a client's own model may be private.
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"cannot write {path}: {reason}; what was there before is kept") from error


def cache_folder(kind: str) -> Path | None:
    """Return the folder for one kind of file: in `FEDMETA_CACHE`, or in the user's cache if that is unset.

    None if there is neither `FEDMETA_CACHE`, nor `XDG_CACHE_HOME`, nor a home folder (as for a nameless user in a
    container). Then nothing is cached.
    """
    if chosen := os.environ.get("FEDMETA_CACHE"):
        return Path(chosen) / kind
    try:
        folder = platformdirs.user_cache_path("fedmeta")
    except (RuntimeError, KeyError):
        return None
    # Without a home folder, some versions leave the "~" in the path.
    return folder / kind if folder.is_absolute() else None
