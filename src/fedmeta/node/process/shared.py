"""Journal and blobs for a process with several threads: one of them at a time uses the disk."""

import threading
from collections.abc import Sequence

from fedmeta.node.disk.journal import Journal
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.wire.chunks import Blob


class SharedStore:
    """A `BlobStore` for several threads; every method is the store's of that name."""

    def __init__(self, store: BlobStore):
        self._store, self._lock = store, threading.Lock()

    def close(self) -> None:
        """Do what `close` does, alone."""
        with self._lock:
            self._store.close()

    @property
    def free(self) -> int:
        """The bytes that are left of the quota."""
        with self._lock:
            return self._store.free

    def names(self) -> list[str]:
        """Do what `names` does, alone."""
        with self._lock:
            return self._store.names()

    def begin(self, name: str, blob: Blob, leaves: bytes) -> None:
        """Do what `begin` does, alone."""
        with self._lock:
            self._store.begin(name, blob, leaves)

    def put(self, name: str, number: int, data: bytes) -> None:
        """Do what `put` does, alone."""
        with self._lock:
            self._store.put(name, number, data)

    def missing(self, name: str) -> list[int]:
        """Do what `missing` does, alone."""
        with self._lock:
            return self._store.missing(name)

    def complete(self, name: str) -> bool:
        """Do what `complete` does, alone."""
        with self._lock:
            return self._store.complete(name)

    def blob(self, name: str) -> Blob | None:
        """Do what `blob` does, alone."""
        with self._lock:
            return self._store.blob(name)

    def leaves(self, name: str) -> bytes:
        """Do what `leaves` does, alone."""
        with self._lock:
            return self._store.leaves(name)

    def chunk(self, name: str, number: int) -> bytes:
        """Do what `chunk` does, alone."""
        with self._lock:
            return self._store.chunk(name, number)

    def read(self, name: str) -> bytes:
        """Do what `read` does, alone."""
        with self._lock:
            return self._store.read(name)

    def write(self, name: str, data: bytes) -> Blob:
        """Do what `write` does, alone."""
        with self._lock:
            return self._store.write(name, data)

    def replace(self, name: str, data: bytes) -> Blob:
        """Write a blob whole, in the place of what has its name."""
        with self._lock:
            if self._store.blob(name) is not None:
                self._store.delete(name)
            return self._store.write(name, data)

    def attach(self, name: str, label: str, data: bytes) -> None:
        """Do what `attach` does, alone."""
        with self._lock:
            self._store.attach(name, label, data)

    def attachment(self, name: str, label: str) -> bytes | None:
        """Do what `attachment` does, alone."""
        with self._lock:
            return self._store.attachment(name, label)

    def delete(self, name: str) -> None:
        """Do what `delete` does, alone."""
        with self._lock:
            self._store.delete(name)


class SharedJournal:
    """A `Journal` for several threads."""

    def __init__(self, journal: Journal):
        self._journal, self._lock = journal, threading.Lock()

    def append(self, entry: bytes) -> None:
        """Do what `append` does, alone."""
        with self._lock:
            self._journal.append(entry)

    @property
    def free(self) -> int:
        """The bytes of the longest entry for which there is room."""
        with self._lock:
            return self._journal.free

    def keep(self, entries: Sequence[bytes]) -> None:
        """Do what `keep` does, alone."""
        with self._lock:
            self._journal.keep(entries)

    def close(self) -> None:
        """Do what `close` does, alone."""
        with self._lock:
            self._journal.close()
