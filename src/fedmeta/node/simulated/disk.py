"""The disk of a simulated member: the real journal and store of blobs, on a disk that fails as real ones do."""

import errno
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from random import Random

from fedmeta.node.disk.journal import SMALLEST, Journal
from fedmeta.node.disk.memory import MemoryDisk
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import DiskError
from fedmeta.node.reducer.promises import Promise, decode, encode

Snapshot = dict[Path, dict[str, bytes]]

_FOLDER = Path("/node")
_JOURNAL, _BLOBS = _FOLDER / "journal", _FOLDER / "blobs"


class SimulatedDisk:
    """A journal of promises, and blobs; they are open while the member's process runs."""

    def __init__(self) -> None:
        self.device = MemoryDisk(before=self._before)
        self.delay = 2
        """Milliseconds of a flush."""
        self.full = False
        self.flush_fails = False
        self._entries: list[bytes] = []
        self._journal: Journal | None = None
        self._store: BlobStore | None = None

    def _before(self, operation: str, path: Path, size: int) -> None:
        if self.flush_fails and operation == "flush" and path == _JOURNAL:
            raise OSError(errno.EIO, "the flush failed", str(path))
        # The journal's place was taken when it was made: a full disk stops no promise.
        if self.full and operation in ("create", "reserve") and path.is_relative_to(_BLOBS):
            raise OSError(errno.ENOSPC, "no space is left", str(path))

    def open(self) -> None:
        """Open journal and store, and make them where there are none."""
        self.device.make_folder(_FOLDER)
        if _JOURNAL.name in self.device.names(_FOLDER):
            self._journal, self._entries = Journal.open(_JOURNAL, self.device)
        else:
            self._journal, self._entries = Journal.create(_JOURNAL, SMALLEST, self.device), []
        self._store = BlobStore(_BLOBS, 1 << 30, self.device)

    def end(self, random: Random | None) -> None:
        """Let the process end; with chance, the machine loses its power too, and what was not flushed perhaps."""
        self._journal = self._store = None
        if random is None:
            self.device.kill()
        else:
            self.device.crash(random)

    def begin_anew(self, promise: Promise) -> None:
        """Take away the journal that is here, and make a new one with one promise; raises `DiskError`."""
        self.end(None)
        self.device.make_folder(_FOLDER)
        if _JOURNAL.name in self.device.names(_FOLDER):
            self.device.unlink(_JOURNAL)
            self.device.flush_folder(_FOLDER)
        self.open()
        self.append(promise)
        self.end(None)

    def restore(self, snapshot: Snapshot) -> None:
        """Put back what lay here when a snapshot of the device was made."""
        self._journal = self._store = None
        self.device.restore(snapshot)

    def lose(self) -> None:
        """Lose everything."""
        self._journal = self._store = None
        self.device.lose()

    @property
    def entries(self) -> int:
        """How many entries the journal has."""
        return len(self._entries)

    def append(self, promise: Promise) -> None:
        """Add a promise to the journal; raises `JournalFailed`."""
        self._open_journal.append(encode(promise))
        self._entries.append(encode(promise))

    def keep(self, promises: Iterable[Promise]) -> None:
        """Hold these promises alone, in one step."""
        entries = [encode(one) for one in promises]
        self._open_journal.keep(entries)
        self._entries = entries

    def promises(self) -> tuple[Promise, ...]:
        """Return what has been promised."""
        return tuple(map(_decoded, self._entries))

    def names(self) -> list[str]:
        """Return the names of the blobs that are whole."""
        store = self._open_store
        return [name for name in store.names() if store.complete(name)]

    def write(self, name: str, data: bytes) -> None:
        """Write a blob whole; raises `DiskError`."""
        store = self._open_store
        if store.blob(name) is not None:
            store.delete(name)
        store.write(name, data)

    def read(self, name: str) -> bytes:
        """Return a blob's bytes; raises `DiskError`, and `BlobCorrupt` where they are not what was written."""
        return self._open_store.read(name)

    def peek(self, name: str) -> bytes:
        """Return a blob's bytes also while no process runs."""
        if self._store is not None:
            return self._store.read(name)
        with BlobStore(_BLOBS, 1 << 30, self.device) as store:
            return store.read(name)

    def delete(self, name: str) -> None:
        """Take a blob away."""
        self._open_store.delete(name)

    def damage(self, random: Random) -> int:
        """Change a bit of each file of the blobs, and return how many there are."""
        files = [(name, size) for name, size in self.device.sizes(_BLOBS).items() if size]
        for name, size in files:
            self.device.damage(_BLOBS / name, random.randrange(size), 1 << random.randrange(8))
        return len(files)

    @property
    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise DiskError("the journal is not open")
        return self._journal

    @property
    def _open_store(self) -> BlobStore:
        if self._store is None:
            raise DiskError("the store is not open")
        return self._store


_decoded = lru_cache(maxsize=1 << 14)(decode)
