"""Files of the ledger are new ones: written whole and flushed, and never over another file."""

import os
from pathlib import Path


def write_new(path: str | os.PathLike, data: bytes, mode: int) -> None:
    """Write a new file of that mode, and flush it and its folder; what is not whole is taken away again.

    Raises:
        FileExistsError: there is something already, which is left as it is.
        OSError: the file system refuses.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        flush(Path(path).parent)
    except OSError:
        # Half a file must not stand in the way of the next attempt.
        os.unlink(path)
        raise


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
