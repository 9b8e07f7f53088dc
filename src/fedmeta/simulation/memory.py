"""What clients keep between their rounds: rows of bytes, and the position of each client's last row.

A client that never took part has no row. In a run folder the rows are in an append-only file. A checkpoint has its name
and length, and a resumed run cuts it to that length. When most of the file is outdated, a new file replaces it.
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from fedmeta import pytrees
from fedmeta.errors import CheckpointError, RunError

SLACK = 64 << 20
"""A file may have this many bytes of outdated rows, in addition to as many bytes as are in use."""

_SIZE = struct.Struct("<I")


class ClientMemory:
    """The clients' memories, by client name.

    Args:
        fresh: the memory of a client that has not taken part: a pytree of arrays.
        folder: the folder of the file; by default the rows are in this process's memory.
        mark: the `mark` of a checkpoint to continue from; without it all clients start fresh.

    Raises:
        CheckpointError: the file is shorter than the mark says, or damaged.
        RunError: the file system refuses.
    """

    def __init__(self, fresh: Any, folder: Path | None = None, mark: dict[str, Any] | None = None):
        self.fresh = jax.tree.map(np.asarray, jax.device_get(fresh))
        self._bytes = pytrees.payload(self.fresh)
        self._rows: dict[str, bytes] = {}
        self._places: dict[str, int] = {}
        # The round after which the file was last written to, and its length before and after that.
        self._round, self._before, self._length = 0, 0, 0
        self._file: BinaryIO | None = None
        self._folder, self._number = folder, 0
        if folder is not None and self:
            self._open(mark)

    def __bool__(self) -> bool:
        """Return whether clients keep anything at all."""
        return bool(jax.tree.leaves(self.fresh))

    def __len__(self) -> int:
        return len(self._places if self._file else self._rows)

    def read(self, names: Sequence[str | None]) -> Any:
        """Return the memories of these clients stacked, every array [clients, ...]; a fresh one for None."""
        rows = [self._read(name) for name in names]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows) if self else self.fresh

    def write(self, round: int, names: Sequence[str], stacked: Any) -> None:
        """Keep the memories of these clients, every array [clients or more, ...], after a round.

        Raises:
            RunError: the file system refuses.
        """
        if not self:
            return
        self._before = self._length
        for place, name in enumerate(names):
            self._write(name, pytrees.to_bytes(jax.tree.map(lambda leaf, at=place: np.asarray(leaf)[at], stacked)))
        if self._file:
            with _refusals(self._path):
                self._file.flush()
            self._round, self._length = round, self._file.seek(0, os.SEEK_END)

    def mark(self, round: int) -> dict[str, Any] | None:
        """Write everything up to a round to the disk; return the mark for a checkpoint.

        Raises:
            RunError: the file system refuses.
        """
        if self._file is None:
            return None
        with _refusals(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            length = self._length if round >= self._round else self._before
            in_use = sum(_SIZE.size + len(name.encode()) + self._bytes for name in self._places)
            if length == self._length > 2 * in_use + SLACK:
                self._renew()
                length = self._length
        return {"file": self._path.name, "length": length}

    def tidy(self) -> None:
        """Remove files that no checkpoint needs any longer; call it once the checkpoint is written."""
        if self._file is not None and self._folder is not None:
            for other in self._folder.glob("memory-*.rows"):
                if other != self._path:
                    other.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / f"memory-{self._number}.rows"

    def _open(self, mark: dict[str, Any] | None) -> None:
        assert self._folder is not None
        with _refusals(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if mark is None:
                self._file = open(self._path, "w+b")  # noqa: SIM115 (kept open)
                return
            self._number = int(mark["file"].removeprefix("memory-").removesuffix(".rows"))
            if not self._path.is_file() or self._path.stat().st_size < mark["length"]:
                raise CheckpointError(f"{self._path} is damaged: the checkpoint needs {mark['length']} bytes of it")
            self._file = open(self._path, "r+b")  # noqa: SIM115
            self._file.truncate(mark["length"])
            self._scan(mark["length"])
        self._before = self._length = mark["length"]

    def _scan(self, length: int) -> None:
        assert self._file is not None
        self._file.seek(0)
        end = 0
        while end < length:
            head = self._file.read(_SIZE.size)
            size = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else length
            end = self._file.tell() + size + self._bytes
            if end > length:
                self._file.close()
                raise CheckpointError(f"{self._path} is damaged, or belongs to another algorithm, model or transform")
            name = self._file.read(size).decode(errors="replace")
            self._places[name] = self._file.tell()
            self._file.seek(end)

    def _read(self, name: str | None) -> Any:
        if name is None or not self:
            return self.fresh
        if self._file is None:
            row = self._rows.get(name)
            return self.fresh if row is None else pytrees.from_bytes(row, self.fresh)
        if name not in self._places:
            return self.fresh
        return pytrees.from_bytes(self._row(name), self.fresh)

    def _row(self, name: str) -> bytes:
        assert self._file is not None
        self._file.seek(self._places[name])
        return self._file.read(self._bytes)

    def _write(self, name: str, row: bytes) -> None:
        if self._file is None:
            self._rows[name] = row
            return
        with _refusals(self._path):
            self._file.seek(0, os.SEEK_END)
            word = name.encode()
            self._file.write(_SIZE.pack(len(word)) + word)
            self._places[name] = self._file.tell()
            self._file.write(row)

    def _renew(self) -> None:
        """Write the rows in use to a new file, which replaces this one."""
        rows = ((name, self._row(name)) for name in sorted(self._places, key=self._places.__getitem__))
        assert self._folder is not None
        assert self._file is not None
        with open(self._folder / f"memory-{self._number + 1}.rows", "w+b") as file:
            places = {}
            for name, row in rows:
                word = name.encode()
                file.write(_SIZE.pack(len(word)) + word)
                places[name] = file.tell()
                file.write(row)
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        self._number += 1
        self._file = open(self._path, "r+b")  # noqa: SIM115
        self._places = places
        self._before = self._length = self._path.stat().st_size


class _refusals:
    """Turn errors of the file system into a `RunError`."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise RunError(f"cannot write {self._path}: {error.strerror or error}") from error
