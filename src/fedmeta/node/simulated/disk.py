"""The disk of a simulated member: what is flushed outlasts a crash, and it can fail in the ways of real ones."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from fedmeta.node.errors import BlobCorrupt, DiskError, JournalFailed
from fedmeta.node.reducer.promises import Promise, decode, encode
from fedmeta.node.wire.chunks import Blob


@dataclass
class SimulatedDisk:
    """A journal of promises, and files with the digest that each was written with."""

    journal: list[bytes] = field(default_factory=list)
    files: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """Name to the identity that it was written under, and the bytes that lie there now."""
    delay: int = 2
    """Milliseconds of a flush."""
    full: bool = False
    flush_fails: bool = False

    def append(self, promise: Promise) -> None:
        """Add to the journal; its place was taken when it was made, so that a full disk does not stop it."""
        if self.flush_fails:
            raise JournalFailed("the flush of the journal failed")
        self.journal.append(encode(promise))

    def keep(self, promises: Iterable[Promise]) -> None:
        """Hold these promises alone, in one step."""
        if self.flush_fails:
            raise JournalFailed("the flush of the journal failed")
        self.journal = [encode(one) for one in promises]

    def promises(self) -> tuple[Promise, ...]:
        """Return what has been promised."""
        return tuple(map(_decoded, self.journal))

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole."""
        if self.full:
            raise DiskError(f"no space for {name}")
        self.files[name] = Blob.of(data).id, data

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises `BlobCorrupt` where they are not what was written, and forgets them."""
        if name not in self.files:
            raise DiskError(f"there is no {name}")
        written, data = self.files[name]
        if Blob.of(data).id != written:
            del self.files[name]
            raise BlobCorrupt(f"{name} is not what was written")
        return data

    def damage(self, name: str) -> None:
        """Flip a bit of a file."""
        written, data = self.files[name]
        self.files[name] = written, bytes([data[0] ^ 1]) + data[1:]

    def snapshot(self) -> "SimulatedDisk":
        """Return a copy of what lies here now."""
        return SimulatedDisk(list(self.journal), dict(self.files))

    def restore(self, snapshot: "SimulatedDisk") -> None:
        """Put back what lay here when a snapshot was made."""
        self.journal, self.files = list(snapshot.journal), dict(snapshot.files)

    def lose(self) -> None:
        """Lose everything."""
        self.journal.clear()
        self.files.clear()


_decoded = lru_cache(maxsize=1 << 14)(decode)
