"""Files of the ledger: only regular ones are read; new ones are written whole, and never over another file."""

import errno
import os
import secrets
import stat
from io import BufferedReader
from pathlib import Path


def open_file(path: str | os.PathLike) -> BufferedReader:
    """Return a regular file, open to be read.

    Raises:
        OSError: the file system refuses, or it is something else: nobody waits for the writer of a named pipe.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def read_file(path: str | os.PathLike) -> bytes:
    """Return what is in a regular file; raises as `open_file` does."""
    with open_file(path) as file:
        return file.read()


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


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Put a whole file of that mode in the place of another one, or of none; raises `OSError`."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_new(aside, data, mode)
        os.replace(aside, path)
        flush(path.parent)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
