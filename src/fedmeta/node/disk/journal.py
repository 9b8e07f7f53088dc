"""A node's promises, in the order in which they were made: what `append` returned for is there after any crash.

The file has its full size from the beginning, so that a full disk cannot stop a promise, and two halves, of which one
is in use; `keep` writes the other one and then turns to it, by one write of one sector. A half is

- a header of one block: magic, generation, the size of a half, and their digest; zeros where the half is not in use;
- two blocks for marks, which are written in turn: generation, the number of entries that are flushed, and a digest;
- entries: length (4 bytes), number from 1 (8 bytes), a digest over generation, number and bytes, and the bytes, padded
  to a multiple of 8; then zeros up to the end.

A crash can tear one entry and one mark, for at most one of each waits for the disk at any time; so what follows the
last good entry is dropped if no good mark counts it. Fewer entries than a mark counts, or no good mark, is damage. Of
the last entry alone, damage may look like a crash, as long as its mark has not reached the disk.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from fedmeta.node.disk.files import LOCAL, File, Files
from fedmeta.node.errors import DiskError, FolderInUse, JournalDamaged, JournalFailed, JournalFull

LONGEST = 1 << 20
"""Bytes of the longest entry."""

SMALLEST = 1 << 16
"""The smallest size of a journal."""

_BLOCK = 4096
_FIRST = 3 * _BLOCK
_MAGIC = b"fedmeta journal 1\n"
_DIGEST = 32
_HEAD = 4 + 8 + _DIGEST


class _Half(NamedTuple):
    at: int
    size: int
    generation: int


class Journal:
    """An open journal. Only one process has it; it is not for several threads at once."""

    def __init__(self, path: Path, file: File, half: _Half, end: int, count: int):
        """Use `create` or `open`."""
        self._path = path
        self._file = file
        self._half = half
        self._end = end
        self._count = count
        self._failed = False

    @staticmethod
    def create(path: str | os.PathLike, size: int, files: Files = LOCAL) -> "Journal":
        """Make an empty journal and return it, open.

        Args:
            path: Where there is no file.
            size: Bytes for headers and entries, at least 65536; the disk gives twice as many, and keeps them.
            files: The disk.

        Raises:
            DiskError: there is a file already, the size is too small, or the disk is full or refuses; nothing is left.
            FolderInUse: another process has it.
        """
        path = Path(path)
        if size < SMALLEST:
            raise DiskError(f"the size of a journal must be at least {SMALLEST} bytes, not {size}")
        aside = path.with_name(f"{path.name}.new")
        with _guarded(path):
            names = files.names(path.parent)
            if path.name in names:
                raise DiskError(f"{path} exists: no journal is written over another file")
            if aside.name in names:
                files.unlink(aside)
            file = files.create(aside)
            half = _Half(0, -(-size // _BLOCK) * _BLOCK, 1)
            try:
                file.lock()
                file.reserve(2 * half.size)
                journal = Journal(path, file, half, _FIRST, 0)
                journal._write_mark()
                file.write(0, _header(half))
                file.flush()
                files.rename(aside, path)
                files.flush_folder(path.parent)
            except OSError:
                file.close()
                for name in (aside, path):
                    with contextlib.suppress(OSError):
                        files.unlink(name)
                raise
        return journal

    @staticmethod
    def open(path: str | os.PathLike, files: Files = LOCAL) -> "tuple[Journal, list[bytes]]":
        """Return the journal and its entries, from the first; they are on the disk, even if they were not before.

        Raises:
            DiskError: there is none, or the disk refuses.
            JournalDamaged: entries that were flushed are not as they were.
            FolderInUse: another process has it.
        """
        path = Path(path)
        with _guarded(path):
            file = files.open(path)
            try:
                file.lock()
                return _read(path, file)
            except BaseException:
                file.close()
                raise

    @property
    def free(self) -> int:
        """The bytes of the longest entry for which there is room; below 0 where there is none."""
        return min(LONGEST, self._half.size - self._end - _HEAD)

    def append(self, entry: bytes) -> None:
        """Add an entry, and return once it is on the disk.

        Raises:
            JournalFull: there is no room, or it is too long; nothing has changed.
            JournalFailed: it may or may not be on the disk. Every later call raises it too: the process must end.
        """
        self._check()
        if len(entry) > self.free:
            raise JournalFull(
                f"{self._path} has no room for an entry of {len(entry)} bytes, but for one of {max(0, self.free)}: "
                "keep fewer entries first, or make it larger"
            )
        packed = _packed(self._half.generation, self._count + 1, entry)
        with self._failing():
            self._file.write(self._half.at + self._end, packed)
            self._file.flush()
        self._end += len(packed)
        self._count += 1
        # The next flush, or the system, takes it to the disk. The entry is there already, so this is no failure of it.
        try:
            self._write_mark()
        except OSError:
            self._failed = True

    def keep(self, entries: Sequence[bytes]) -> None:
        """Replace all entries by these, at once: after a crash there are the old ones or the new ones.

        Raises:
            JournalFull: they do not fit; nothing has changed.
            JournalFailed: there are the old ones or the new ones. Every later call raises it too.
        """
        self._check()
        old = self._half
        new = _Half(old.size - old.at, old.size, old.generation + 1)
        packed = b"".join(_packed(new.generation, number, entry) for number, entry in enumerate(entries, 1))
        if len(packed) > new.size - _FIRST or any(len(entry) > LONGEST for entry in entries):
            raise JournalFull(
                f"{self._path} has no room for {len(entries)} entries, with {len(packed)} bytes in all, but for "
                f"{new.size - _FIRST} bytes, and at most {LONGEST} for an entry"
            )
        with self._failing():
            # A part of it may have been written before a crash.
            self._file.write(new.at, bytes(new.size))
            self._file.write(new.at + _FIRST, packed)
            self._half, self._end, self._count = new, _FIRST + len(packed), len(entries)
            self._write_mark()
            self._file.flush()
            self._file.write(new.at, _header(new))
            self._file.flush()
            # Damage of the new header must not bring the old entries back.
            self._file.write(old.at, bytes(_BLOCK))
            self._file.flush()

    def close(self) -> None:
        """Close the file, and let others open it."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._failed:
            raise JournalFailed(f"{self._path} failed before: nothing can be promised until it is opened again")

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise JournalFailed(f"cannot write {self._path}: {error.strerror or error}") from error

    def _write_mark(self) -> None:
        at = _FIRST - (1 + self._count % 2) * _BLOCK
        self._file.write(self._half.at + at, _mark(self._half.generation, self._count))


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DiskError(f"there is no journal, or no folder, at {path}") from error
    except BlockingIOError as error:
        raise FolderInUse(f"{path} is in use by another process: stop that one first") from error
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        raise DiskError(f"cannot use {path}: {error.strerror or error}{full}") from error


def _read(path: Path, file: File) -> tuple[Journal, list[bytes]]:
    length = file.size()
    if length % (2 * _BLOCK) or length < 2 * SMALLEST:
        raise JournalDamaged(f"{path} is damaged: no journal has a length of {length} bytes")
    size = length // 2
    both = [(at, file.read(at, size)) for at in (0, size)]
    found = [half for at, data in both for half in _halves(at, size, data)]
    if not found:
        raise JournalDamaged(f"{path} is damaged, or not a journal: neither half has a good header")
    half = max(found, key=lambda half: half.generation)
    data = dict(both)[half.at]
    entries, end = _entries(data, half.generation)
    counts = [
        count for block in (1, 2) for count in _counts(data[block * _BLOCK : (block + 1) * _BLOCK], half.generation)
    ]
    if not counts or len(entries) < max(counts):
        flushed = f"{max(counts)} entries were flushed" if counts else "both marks are gone"
        raise JournalDamaged(f"{path} is damaged: {len(entries)} entries are good, and {flushed}")
    journal = Journal(path, file, half, end, len(entries))
    # The last entry, or the header, may have been read from memory and not be on the disk; what a crash tore must go.
    last = end - len(_packed(half.generation, len(entries), entries[-1])) if entries else end
    torn = len(data.rstrip(b"\0"))
    file.write(half.at, data[:_BLOCK])
    file.write(half.at + last, data[last:end] + bytes(max(0, torn - end)))
    file.flush()
    if len(found) == 2:
        file.write(size - half.at, bytes(_BLOCK))
    journal._write_mark()
    file.flush()
    return journal, entries


def _digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _header(half: _Half) -> bytes:
    start = _MAGIC + _number(half.generation) + _number(half.size)
    return (start + _digest(start)).ljust(_BLOCK, b"\0")


def _halves(at: int, size: int, data: bytes) -> list[_Half]:
    """Return the half if its header is good."""
    half = _Half(at, size, int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 8], "big"))
    return [half] if data[:_BLOCK] == _header(half) else []


def _mark(generation: int, count: int) -> bytes:
    start = _number(generation) + _number(count)
    return start + _digest(b"mark", start)


def _counts(block: bytes, generation: int) -> list[int]:
    """Return the count of a mark if it is good."""
    count = int.from_bytes(block[8:16], "big")
    return [count] if block.rstrip(b"\0") == _mark(generation, count).rstrip(b"\0") else []


def _packed(generation: int, number: int, entry: bytes) -> bytes:
    start = len(entry).to_bytes(4, "big") + _number(number)
    packed = start + _digest(b"entry", _number(generation), start, entry) + entry
    return packed + bytes(-len(packed) % 8)


def _entries(data: bytes, generation: int) -> tuple[list[bytes], int]:
    """Return the good entries of a half, up to the first that is not, and where they end."""
    entries, at = [], _FIRST
    while at + _HEAD <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        entry = data[at + _HEAD : at + _HEAD + length]
        packed = _packed(generation, len(entries) + 1, entry)
        if length > LONGEST or data[at : at + len(packed)] != packed:
            break
        entries.append(entry)
        at += len(packed)
    return entries, at
