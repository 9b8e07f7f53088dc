"""Blobs under a quota: each has its room from the beginning, comes by chunks in any order, and is checked when read.

All is in one folder. A blob NAME, with "/" written as "+", is `NAME~data`, of its full length from the beginning, and
`NAME~head`, which is written last and removed first: without it there is no blob. What is attached to it is
`NAME~at~LABEL`. Which chunks are here is not written down but found by their hashes, when a blob is first asked for
after a start; so no note can say of a chunk what is not so, and a chunk that the disk damaged is fetched once more.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node.disk import names
from fedmeta.node.disk.files import LOCAL, File, Files, write_whole
from fedmeta.node.errors import BadChunk, BlobCorrupt, DiskError, FolderInUse, NotKept, OverQuota
from fedmeta.node.wire.chunks import CHUNK, Blob, check_chunk, check_leaves
from fedmeta.node.wire.chunks import leaves as leaves_of

LARGEST_ATTACHMENT = 1 << 20
"""Bytes of the largest attachment."""

_DIGEST = 32


@dataclass
class _Kept:
    blob: Blob
    leaves: bytes
    attached: dict[str, int] = field(default_factory=dict)
    """Bytes of each attachment's file, by label."""
    lacking: set[int] | None = None
    """The chunks that are not here; None as long as nobody has looked."""

    @property
    def size(self) -> int:
        return self.blob.length + len(_head(self.blob, self.leaves)) + sum(self.attached.values())


class BlobStore:
    """The blobs in a folder. Only one process has it; it is not for several threads at once."""

    def __init__(self, folder: str | os.PathLike, quota: int, files: Files = LOCAL):
        """Open the folder, or make it; what a crash left half made is removed.

        Args:
            folder: Its parent exists.
            quota: Bytes of all files together, of which none is exceeded at any time.
            files: The disk.

        Raises:
            FolderInUse: another process has it.
            DiskError: the disk refuses.
        """
        self._folder = Path(folder)
        self._quota = quota
        self._files = files
        self.damaged: list[str] = []
        """The names of blobs that were removed at the start, because the disk had damaged what is known of them."""
        with self._guarded():
            files.make_folder(self._folder)
            self._lock = self._locked()
            try:
                self._kept = self._scan()
            except BaseException:
                self._lock.close()
                raise

    def close(self) -> None:
        """Let others open the folder."""
        self._lock.close()

    def __enter__(self) -> "BlobStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def used(self) -> int:
        """The bytes of all blobs, with what is not here yet, and of all that belongs to them."""
        return sum(kept.size for kept in self._kept.values())

    @property
    def free(self) -> int:
        """The bytes that the quota leaves."""
        return max(0, self._quota - self.used)

    def names(self) -> list[str]:
        """Return the names of all blobs that were begun, sorted."""
        return sorted(self._kept)

    def begin(self, name: str, blob: Blob, leaves: bytes) -> None:
        """Reserve the room for a blob. It does nothing where this blob was begun under this name before.

        Args:
            name: At most 150 characters of a-z, 0-9, ".", "_", "-", and "/" between its parts, none of which is "..".
            blob: What is to come.
            leaves: The hashes of its chunks, 32 bytes each.

        Raises:
            BadChunk: the leaves are not the blob's.
            OverQuota: the quota or the disk has no room for it; nothing has changed.
            NotKept: the name is of another form, or belongs to another blob.
            DiskError: the disk refuses.
        """
        check_leaves(blob, leaves)
        if not self._is_new(name, blob):
            return
        self._make(name, _Kept(blob, leaves, lacking=set(range(blob.chunks))), None)

    def write(self, name: str, data: bytes) -> Blob:
        """Keep a whole blob and return it, once it is on the disk: after a crash, all of it is here or none.

        Raises:
            As `begin`, whose limits on names hold; BadChunk where there are no data.
        """
        leaves = leaves_of(data)
        blob = Blob.of(data)
        if self._is_new(name, blob):
            self._make(name, _Kept(blob, leaves, lacking=set()), data)
        else:
            for number in self.missing(name):
                self.put(name, number, data[number * CHUNK : (number + 1) * CHUNK])
        return blob

    def put(self, name: str, number: int, data: bytes) -> None:
        """Keep a chunk, and return once it is on the disk.

        Args:
            name: A blob that was begun.
            number: From 0.
            data: 1 MiB, or what is left for the last chunk.

        Raises:
            BadChunk: it is not this chunk of the blob; nothing has changed.
            NotKept: the blob was not begun.
            DiskError: it may not be on the disk, and is missing still.
        """
        kept = self._get(name)
        check_chunk(kept.blob, kept.leaves, number, data)
        lacking = self._lacking(name, kept)
        if number not in lacking:
            return
        with self._guarded(), contextlib.closing(self._files.open(self._data(name))) as file:
            file.write(number * CHUNK, data)
            file.flush()
        lacking.discard(number)

    def missing(self, name: str) -> list[int]:
        """Return the numbers of the chunks that are not here, in order; raises `NotKept` and `DiskError`."""
        return sorted(self._lacking(name, self._get(name)))

    def complete(self, name: str) -> bool:
        """Return whether there is such a blob with all of its chunks; raises `DiskError`."""
        return name in self._kept and not self._lacking(name, self._kept[name])

    def blob(self, name: str) -> Blob | None:
        """Return what was begun under a name, if anything."""
        return self._kept[name].blob if name in self._kept else None

    def leaves(self, name: str) -> bytes:
        """Return the hashes of a blob's chunks, 32 bytes each; raises `NotKept`."""
        return self._get(name).leaves

    def chunk(self, name: str, number: int) -> bytes:
        """Return a chunk.

        Raises:
            NotKept: it is not here, or there is no such blob. BadChunk: the blob has no such chunk.
            BlobCorrupt: the disk damaged it; it is missing from now on.
            DiskError: the disk refuses.
        """
        kept = self._get(name)
        kept.blob.size(number)
        lacking = self._lacking(name, kept)
        if number in lacking:
            raise NotKept(f"chunk {number} of {name} is not here yet")
        with self._guarded(), contextlib.closing(self._files.open(self._data(name))) as file:
            data = _good(kept, file, number)
        if data is None:
            lacking.add(number)
            raise BlobCorrupt(f"the disk damaged chunk {number} of {name}: fetch it once more")
        return data

    def read(self, name: str) -> bytes:
        """Return a whole blob; raises as `chunk` does."""
        return b"".join(self.chunk(name, number) for number in range(self._get(name).blob.chunks))

    def attach(self, name: str, label: str, data: bytes) -> None:
        """Keep a small file beside a blob, in the place of an older one if there is one; return once it is on the disk.

        Args:
            name: A blob that was begun.
            label: At most 80 characters, as in names.
            data: At most 1 MiB.

        Raises:
            OverQuota: it is too large, or there is no room for it beside the older one; nothing has changed.
            NotKept: the blob was not begun, or the label is of another form.
            DiskError: the disk refuses; the older one or this one is there.
        """
        kept = self._get(name)
        if len(data) > LARGEST_ATTACHMENT:
            raise OverQuota(f"{label} of {name} must be at most {LARGEST_ATTACHMENT} bytes, not {len(data)}")
        path = self._attachment(name, label)
        content = sha256(data).digest() + data
        self._check_room(f"{label} of {name}", len(content))
        with self._guarded(f"{label} of {name}"):
            try:
                write_whole(self._files, path, content, names.aside(path))
            except OSError:
                # It was the last flush, or something before the new file came into the place of the old one.
                if path.name in self._files.names(self._folder):
                    kept.attached[label] = self._size(path)
                raise
        kept.attached[label] = len(content)

    def attachment(self, name: str, label: str) -> bytes | None:
        """Return what is attached under a label, if anything; raises `NotKept`, `BlobCorrupt` and `DiskError`."""
        if label not in self._get(name).attached:
            return None
        with self._guarded(), contextlib.closing(self._files.open(self._attachment(name, label))) as file:
            content = file.read(0, file.size())
        data = content[_DIGEST:]
        if sha256(data).digest() != content[:_DIGEST]:
            raise BlobCorrupt(f"the disk damaged {label} of {name}")
        return data

    def delete(self, name: str) -> None:
        """Remove a blob with what is attached to it, and return once it is gone for good; raises `DiskError`.

        It does nothing where there is no such blob.
        """
        if name not in self._kept:
            return
        with self._guarded():
            _unlink(self._files, self._head(name))
            # Only when nothing can bring its head back may the rest go.
            self._files.flush_folder(self._folder)
            for label in self._kept[name].attached:
                _unlink(self._files, self._attachment(name, label))
            _unlink(self._files, self._data(name))
            self._files.flush_folder(self._folder)
        del self._kept[name]

    def _is_new(self, name: str, blob: Blob) -> bool:
        names.check(name, names.LONGEST_NAME)
        if name in self._kept and self._kept[name].blob != blob:
            raise NotKept(f"{name} is kept as another blob, {self._kept[name].blob.id.hex()}: delete that one first")
        return name not in self._kept

    def _make(self, name: str, kept: _Kept, data: bytes | None) -> None:
        self._check_room(name, kept.size)
        path, head = self._data(name), self._head(name)
        with self._guarded(name):
            # What an earlier attempt could not remove.
            _unlink(self._files, path)
            try:
                with contextlib.closing(self._files.create(path)) as file:
                    file.reserve(kept.blob.length)
                    if data is not None:
                        file.write(0, data)
                    file.flush()
                write_whole(self._files, head, _head(kept.blob, kept.leaves), names.aside(head))
            except OSError:
                for rest in (head, path):
                    with contextlib.suppress(OSError):
                        _unlink(self._files, rest)
                raise
        self._kept[name] = kept

    def _lacking(self, name: str, kept: _Kept) -> set[int]:
        if kept.lacking is None:
            with self._guarded(), contextlib.closing(self._files.open(self._data(name))) as file:
                lacking = {number for number in range(kept.blob.chunks) if _good(kept, file, number) is None}
                # A chunk may have been read from memory, from before a crash of the process.
                file.flush()
            kept.lacking = lacking
        return kept.lacking

    def _get(self, name: str) -> _Kept:
        if name not in self._kept:
            raise NotKept(f"there is no blob {name}")
        return self._kept[name]

    def _check_room(self, what: str, size: int) -> None:
        if size > self.free:
            raise OverQuota(
                f"there is no room for {what}: it has {size} bytes, and of the quota of {self._quota} bytes "
                f"{self.free} are left"
            )

    def _locked(self) -> File:
        path = self._folder / "lock"
        try:
            file = self._files.open(path)
        except FileNotFoundError:
            file = self._files.create(path)
        try:
            file.lock()
        except BlockingIOError as error:
            file.close()
            raise FolderInUse(f"{self._folder} is in use by another process: stop that one first") from error
        return file

    def _scan(self) -> dict[str, _Kept]:
        """Read the heads, and remove what belongs to none."""
        here = [(file, names.parse(file)) for file in self._files.names(self._folder)]
        found = {}
        for _, (name, kind, _) in here:
            if kind == "head":
                kept = self._read_head(name)
                if kept:
                    found[name] = kept
                else:
                    self.damaged.append(name)
        for name in self.damaged:
            self._files.unlink(self._head(name))
        if self.damaged:
            self._files.flush_folder(self._folder)
        for file, (name, kind, label) in here:
            if name in found and kind == "at":
                found[name].attached[label] = self._size(self._folder / file)
            elif (kind and name not in found) or kind == "aside":
                _unlink(self._files, self._folder / file)
        self._files.flush_folder(self._folder)
        return found

    def _read_head(self, name: str) -> _Kept | None:
        try:
            with contextlib.closing(self._files.open(self._head(name))) as file:
                content = file.read(0, file.size())
            with contextlib.closing(self._files.open(self._data(name))) as file:
                length = file.size()
            root, size, leaves = codec.decode(content, limit=len(content))
            blob = Blob.from_value([root, size])
            check_leaves(blob, leaves)
        except (Malformed, BadChunk, ValueError, TypeError, FileNotFoundError):
            return None
        return _Kept(blob, leaves) if length == blob.length else None

    def _size(self, path: Path) -> int:
        with contextlib.closing(self._files.open(path)) as file:
            return file.size()

    def _head(self, name: str) -> Path:
        return self._folder / names.head(name)

    def _data(self, name: str) -> Path:
        return self._folder / names.data(name)

    def _attachment(self, name: str, label: str) -> Path:
        names.check(label, names.LONGEST_LABEL)
        return self._folder / names.attachment(name, label)

    @contextlib.contextmanager
    def _guarded(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if what and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OverQuota(f"there is no room for {what}: the disk of {self._folder} is full") from error
            raise DiskError(f"cannot use {self._folder}: {error.strerror or error}") from error


def _head(blob: Blob, leaves: bytes) -> bytes:
    return codec.encode([*blob.to_value(), leaves])


def _good(kept: _Kept, file: File, number: int) -> bytes | None:
    """Return a chunk if the disk has it as it should be."""
    try:
        data = file.read(number * CHUNK, kept.blob.size(number))
        check_chunk(kept.blob, kept.leaves, number, data)
    except BadChunk:
        return None
    except OSError as error:
        # A sector that cannot be read is a chunk that is lost, and not the whole store.
        if error.errno != errno.EIO:
            raise
        return None
    return data


def _unlink(files: Files, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        files.unlink(path)
