"""A local append-only file: lines of JSON, each bound to the one before by its hash, each flushed before it counts."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fedmeta.node.errors import DiskError

_START = "0" * 64


class Records:
    """An append-only file of small records; several processes of one user may append to it.

    A line that a crash has cut off was acknowledged to nobody, and is dropped by the next append. Lines that were
    changed or taken out are refused: the chain of hashes shows them, but for the last line, and for a file cut short.

    Args:
        path: the file; the first append makes it, readable by its owner only.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known = _Place(0, 0, _START, 0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record, which must not have the key `before`; returns once it is flushed.

        Raises:
            DiskError: the file cannot be written, or is damaged.
        """
        try:
            new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "r+b") as file:
                if new and os.geteuid() == 0:
                    # The core runs under the owner of the folder, and reads what root has approved.
                    owner = self.path.parent.stat()
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                fcntl.flock(file, fcntl.LOCK_EX)
                place = self._end_of(file)
                file.seek(place.end)
                file.truncate()
                line = json.dumps({"before": place.last, **record}, ensure_ascii=False, separators=(",", ":")).encode()
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
                self._known = _Place(
                    place.inode, place.end + len(line) + 1, hashlib.sha256(line).hexdigest(), place.lines + 1
                )
            if new:
                _flush_folder(self.path.parent)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from error

    def read(self) -> list[dict[str, Any]]:
        """Return the records, oldest first; none where there is no file.

        Raises:
            DiskError: the file cannot be read, or a line was changed or taken out; the message has its number.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DiskError(f"cannot read {self.path}: {error.strerror or error}") from error
        return self._checked(content, _Place(0, 0, _START, 0))[0]

    def _end_of(self, file: BinaryIO) -> "_Place":
        """Return where the last whole line ends; what this object has appended is not read again."""
        found = os.fstat(file.fileno())
        known = self._known
        if found.st_ino != known.inode or found.st_size < known.end:
            known = _Place(found.st_ino, 0, _START, 0)
        file.seek(known.end)
        return self._checked(file.read(), known)[1]

    def _checked(self, content: bytes, place: "_Place") -> tuple[list[dict[str, Any]], "_Place"]:
        """Return the records in the bytes from a place on, and where the last whole line ends."""
        found, last, end, lines = [], place.last, place.end, place.lines
        for line in content.split(b"\n")[:-1]:
            lines += 1
            record = _record(line)
            if record is None or record.pop("before", None) != last:
                raise DiskError(f"{self.path} is damaged: line {lines} does not follow from those before it")
            found.append(record)
            last, end = hashlib.sha256(line).hexdigest(), end + len(line) + 1
        return found, _Place(place.inode, end, last, lines)


class _Place(NamedTuple):
    """Where lines end in a file: its inode, the offset, the hash of the last line, and how many lines there are."""

    inode: int
    end: int
    last: str
    lines: int


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
