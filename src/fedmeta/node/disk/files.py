"""What journal and store ask of a disk: few operations, behind which tests put a disk that fails.

Every operation raises `OSError` where the file system refuses: `ENOSPC` if it is full, `EIO` if it is broken.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from fedmeta.govern.engines import disk


@runtime_checkable
class File(Protocol):
    """An open file."""

    def size(self) -> int:
        """Return its length in bytes."""
        ...

    def read(self, at: int, length: int) -> bytes:
        """Return the bytes from `at`: as many as asked for, or fewer where the file ends."""
        ...

    def write(self, at: int, data: bytes) -> None:
        """Write all of the data from `at`; they may not be on the disk before `flush`."""
        ...

    def reserve(self, length: int) -> None:
        """Make the file at least that long, with zeros, so that no write within it can find the disk full."""
        ...

    def flush(self) -> None:
        """Return once all that was written is on the disk. After an error nobody knows what is."""
        ...

    def lock(self) -> None:
        """Keep others from locking it until it is closed; raises `BlockingIOError` where another one has it."""
        ...

    def close(self) -> None:
        """Close it; what was not flushed may be lost."""
        ...


@runtime_checkable
class Files(Protocol):
    """A file system. A name that was made or changed may not be on the disk before its folder is flushed."""

    def open(self, path: Path) -> File:
        """Open a file that exists, to read and to write; raises `FileNotFoundError`."""
        ...

    def create(self, path: Path) -> File:
        """Make a file that only its owner can read; raises `FileExistsError`."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file within a folder, in the place of another one if there is one."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file; raises `FileNotFoundError`."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted; raises `FileNotFoundError`."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make a folder that only its owner can enter, if there is none, and flush its name."""
        ...

    def flush_folder(self, folder: Path) -> None:
        """Return once the names in a folder are on the disk."""
        ...


class LocalFile:
    """A file of the operating system."""

    def __init__(self, handle: int):
        self._handle = handle

    def size(self) -> int:
        """Return its length in bytes."""
        return os.fstat(self._handle).st_size

    def read(self, at: int, length: int) -> bytes:
        """Return the bytes from `at`, fewer only where the file ends."""
        pieces = []
        while length and (piece := os.pread(self._handle, length, at)):
            pieces.append(piece)
            at, length = at + len(piece), length - len(piece)
        return b"".join(pieces)

    def write(self, at: int, data: bytes) -> None:
        """Write all of the data from `at`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, at)
            at, view = at + written, view[written:]

    def reserve(self, length: int) -> None:
        """Make the file at least that long, with blocks of its own."""
        os.posix_fallocate(self._handle, 0, length)

    def flush(self) -> None:
        """Return once all that was written is on the disk."""
        os.fsync(self._handle)

    def lock(self) -> None:
        """Keep other processes from locking it."""
        fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)


class LocalFiles:
    """The file system of the operating system."""

    def open(self, path: Path) -> LocalFile:
        """Open a file that exists; no link is followed."""
        return LocalFile(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))

    def create(self, path: Path) -> LocalFile:
        """Make a file, of mode 600."""
        return LocalFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(os.listdir(folder))

    def make_folder(self, folder: Path) -> None:
        """Make a folder, of mode 700, if there is none."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            disk.flush(folder.parent)

    def flush_folder(self, folder: Path) -> None:
        """Return once the names in a folder are on the disk."""
        disk.flush(folder)


LOCAL = LocalFiles()
"""The disk that is used where no other one is given."""


def write_whole(files: Files, path: Path, data: bytes, aside: Path) -> None:
    """Write a file that is the old one or the new one, whole and on the disk, through another name in its folder.

    Raises:
        OSError: the file system refuses; `path` is then the old file, unless it was the last flush that failed.
    """
    with contextlib.suppress(FileNotFoundError):
        files.unlink(aside)
    try:
        with contextlib.closing(files.create(aside)) as file:
            file.write(0, data)
            file.flush()
        files.rename(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(aside)
        raise
    files.flush_folder(path.parent)
