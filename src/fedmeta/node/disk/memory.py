"""A disk in memory that fails as real ones do, for tests and for a federation in one process.

What it promises is what POSIX does, and no more:

- Writes that were not flushed survive a crash of the machine by sectors of 512 bytes, each of them or not.
- Changes of names (make, rename, remove) survive or not, each of them, unless the folder was flushed.
- After a flush that failed, what it should have written is still read, but is not written by a later flush either.
- A file has blocks of 4096 bytes, and the disk so many in all; what was reserved is there to be written.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR = 512
"""Bytes that are on the disk together or not at all."""

_BLOCK = 4096


class Crash(Exception):
    """The machine stops, in the middle of an operation; raised by a test's `before`."""


@dataclass(eq=False)
class _Node:
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    locked_by: "MemoryFile | None" = None


@dataclass
class _Folder:
    names: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    pending: list[dict[str, _Node | None]] = field(default_factory=list)

    def change(self, changes: dict[str, _Node | None]) -> None:
        _apply(self.names, changes)
        self.pending.append(changes)


def _nothing(operation: str, path: Path, size: int) -> None:
    del operation, path, size


class MemoryDisk:
    """Files in memory, as `files.Files` has them.

    Args:
        capacity: Bytes.
        before: It is called before each operation, with its name ("open", "create", "rename", "unlink", "names",
            "make_folder", "flush_folder", "size", "read", "write", "reserve", "flush", "lock"), the path, and the bytes
            that are read or written. It may raise `OSError`, or `Crash`, or let a simulated clock go on.
    """

    def __init__(self, capacity: int = 1 << 40, before: Callable[[str, Path, int], None] = _nothing):
        self.capacity = capacity
        self.before = before
        self._folders: dict[Path, _Folder] = {}
        self._running = object()

    @property
    def used(self) -> int:
        """The bytes of the blocks of all files."""
        return sum(_blocks(len(node.content)) for folder in self._folders.values() for node in folder.names.values())

    def sizes(self, folder: Path) -> dict[str, int]:
        """Return the length of each file in a folder, by name; none where there is no such folder."""
        found = self._folders.get(folder)
        return {name: len(node.content) for name, node in found.names.items()} if found else {}

    def crash(self, random: Random) -> None:
        """Let the machine lose its power: of what was not flushed, only some is there afterwards."""
        for folder in self._folders.values():
            kept = random.choice((0.0, 0.5, 1.0))
            for changes in folder.pending:
                if random.random() < kept:
                    _apply(folder.durable, changes)
            folder.names, folder.pending = dict(folder.durable), []
            for node in {id(node): node for node in folder.names.values()}.values():
                _tear(node, random)
        self._running = object()

    def kill(self) -> None:
        """Let the process end: the system keeps what was written, and gives its locks away."""
        self._running = object()

    def lose(self) -> None:
        """Lose everything."""
        self._folders.clear()
        self._running = object()

    def snapshot(self) -> dict[Path, dict[str, bytes]]:
        """Return what is in each file now, by its folder and its name."""
        return {
            path: {name: bytes(node.content) for name, node in folder.names.items()}
            for path, folder in self._folders.items()
        }

    def restore(self, snapshot: dict[Path, dict[str, bytes]]) -> None:
        """Put everything back to a snapshot, as after a process has ended."""
        self.lose()
        for path, files in snapshot.items():
            nodes = {name: _Node(bytearray(content), bytearray(content)) for name, content in files.items()}
            self._folders[path] = _Folder(nodes, dict(nodes))

    def damage(self, path: Path, at: int, mask: int = 1) -> None:
        """Change bits of a byte, on the disk and in memory."""
        node = self._node(path)
        node.content[at] ^= mask
        node.durable[at] ^= mask

    def open(self, path: Path) -> "MemoryFile":
        """Open a file that exists."""
        self.before("open", path, 0)
        return MemoryFile(self, path, self._node(path), self._running)

    def create(self, path: Path) -> "MemoryFile":
        """Make a file."""
        self.before("create", path, 0)
        folder = self._folder(path)
        if path.name in folder.names:
            raise _error(errno.EEXIST, path)
        folder.change({path.name: _Node()})
        return MemoryFile(self, path, self._node(path), self._running)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file within its folder."""
        self.before("rename", target, 0)
        if source.parent != target.parent:
            raise _error(errno.EXDEV, target)
        self._folder(source).change({source.name: None, target.name: self._node(source)})

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self.before("unlink", path, 0)
        self._node(path)
        self._folder(path).change({path.name: None})

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        self.before("names", folder, 0)
        return sorted(self._folder(folder / "any").names)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, if there is none; it is on the disk at once."""
        self.before("make_folder", folder, 0)
        self._folders.setdefault(folder, _Folder())

    def flush_folder(self, folder: Path) -> None:
        """Bring the names in a folder to the disk."""
        self.before("flush_folder", folder, 0)
        found = self._folder(folder / "any")
        found.durable, found.pending = dict(found.names), []

    def _folder(self, path: Path) -> _Folder:
        if path.parent not in self._folders:
            raise _error(errno.ENOENT, path.parent)
        return self._folders[path.parent]

    def _node(self, path: Path) -> _Node:
        node = self._folder(path).names.get(path.name)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node


class MemoryFile:
    """An open file of a `MemoryDisk`; after a crash it is of no use."""

    def __init__(self, disk: MemoryDisk, path: Path, node: _Node, running: object):
        self._disk = disk
        self._path = path
        self._node = node
        self._running = running

    def size(self) -> int:
        """Return its length."""
        self._before("size", 0)
        return len(self._node.content)

    def read(self, at: int, length: int) -> bytes:
        """Return the bytes from `at`."""
        self._before("read", length)
        return bytes(self._node.content[at : at + length])

    def write(self, at: int, data: bytes) -> None:
        """Write into memory: what is not flushed may be lost."""
        node = self._node
        self._before("write", len(data))
        self._grow(at + len(data))
        node.content[at : at + len(data)] = data
        node.pending.append((at, bytes(data)))

    def reserve(self, length: int) -> None:
        """Make it at least that long."""
        self._before("reserve", length)
        self._grow(length)

    def flush(self) -> None:
        """Bring it to the disk."""
        try:
            self._before("flush", 0)
        except OSError:
            self._node.pending.clear()
            raise
        for at, data in self._node.pending:
            _lay(self._node.durable, at, data)
        self._node.pending.clear()

    def lock(self) -> None:
        """Keep others from locking it."""
        self._before("lock", 0)
        other = self._node.locked_by
        if other not in (None, self) and other._running is self._running:
            raise _error(errno.EAGAIN, self._path)
        self._node.locked_by = self

    def close(self) -> None:
        """Close it."""
        if self._node.locked_by is self:
            self._node.locked_by = None

    def _before(self, operation: str, size: int) -> None:
        if self._running is not self._disk._running:
            raise _error(errno.EBADF, self._path)
        self._disk.before(operation, self._path, size)

    def _grow(self, length: int) -> None:
        content = self._node.content
        more = _blocks(length) - _blocks(len(content))
        if more > 0 and self._disk.used + more > self._disk.capacity:
            raise _error(errno.ENOSPC, self._path)
        if length > len(content):
            self._node.pending.append((len(content), bytes(length - len(content))))
            content.extend(bytes(length - len(content)))


def _apply(names: dict[str, _Node], changes: dict[str, _Node | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _blocks(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _lay(data: bytearray, at: int, piece: bytes) -> None:
    data.extend(bytes(max(0, at + len(piece) - len(data))))
    data[at : at + len(piece)] = piece


def _tear(node: _Node, random: Random) -> None:
    """Let some sectors of each write survive, in the order in which they were written."""
    for at, data in node.pending:
        kept = random.choice((0.0, 0.5, 1.0))
        start = at
        while start < at + len(data):
            end = min(start - start % SECTOR + SECTOR, at + len(data))
            if random.random() < kept:
                _lay(node.durable, start, data[start - at : end - at])
            start = end
    node.content = bytearray(node.durable)
    node.pending.clear()
