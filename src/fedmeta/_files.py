"""The files of a run and of the cache: written whole or not at all, and kept where the user keeps such things."""

import contextlib
import os
import secrets
from pathlib import Path

import platformdirs

from fedmeta.errors import RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to the disk, and rename it, so that `path` is the old or the new, never half.

    Raises:
        RunError: the file system refuses (full, read-only, over a quota); the old file is as it was.
    """
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
        # As `open` would, so that the user's umask holds: a client's own model may be private.
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
    """Return the folder for one kind of things: in `FEDMETA_CACHE`, or in the user's cache if that is unset.

    None for a user who has neither that, nor `XDG_CACHE_HOME`, nor a home folder (a container's nameless user): what
    is only there to save time is then not kept.
    """
    if chosen := os.environ.get("FEDMETA_CACHE"):
        return Path(chosen) / kind
    try:
        folder = platformdirs.user_cache_path("fedmeta")
    except (RuntimeError, KeyError):
        return None
    # Where there is no home, some versions leave the "~" in the path as it is.
    return folder / kind if folder.is_absolute() else None
