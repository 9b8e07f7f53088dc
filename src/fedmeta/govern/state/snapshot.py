"""Snapshots: a state in chunks, each with its hash, that nobody needs to trust before the root has been checked.

The chunks are pieces of one stream. For each slot, one after the other, it holds the slot in 8 bytes, the length of
its data in 4 bytes, both most significant first, and the data: the record, or none where the slot is vacant. Vacant
slots are in it since few records may be left of many: nobody could tell an honest number of slots from a lie.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fedmeta.govern.errors import Malformed, StateError
from fedmeta.govern.state.records import Chain
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import MAX_COUNT
from fedmeta.govern.wire.signatures import digest

CHUNK_BYTES = 1 << 20
"""The size of every chunk but the last."""

MAX_CHUNKS = 1 << 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds: the state after block `height`, and each chunk's hash."""

    chain_id: str
    height: int
    app_hash: bytes
    chunks: tuple[bytes, ...]


@runtime_checkable
class SnapshotStore(Protocol):
    """Where snapshots are kept."""

    def keep(self, manifest: Manifest, chunks: Iterable[bytes]) -> None:
        """Keep a snapshot."""
        ...

    def manifests(self) -> list[Manifest]:
        """Return what there is, by height."""
        ...

    def chunk(self, height: int, number: int) -> bytes | None:
        """Return a chunk of the snapshot of a height, or None."""
        ...


class MemorySnapshotStore:
    """A shelf that lasts as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Manifest, tuple[bytes, ...]]] = {}

    def keep(self, manifest: Manifest, chunks: Iterable[bytes]) -> None:
        """Keep a snapshot."""
        self._kept[manifest.height] = manifest, tuple(chunks)

    def manifests(self) -> list[Manifest]:
        """Return what there is, by height."""
        return [self._kept[height][0] for height in sorted(self._kept)]

    def chunk(self, height: int, number: int) -> bytes | None:
        """Return a chunk of the snapshot of a height, or None."""
        manifest, chunks = self._kept.get(height, (None, ()))
        return chunks[number] if manifest and 0 <= number < len(chunks) else None


def take(state: State) -> tuple[Manifest, list[bytes]]:
    """Return the snapshot of a state: its manifest and its chunks."""
    chain, chunks = state.need(Chain), list(cut(state.dump()))
    manifest = Manifest(chain.chain_id, state.height, state.root, tuple(map(digest, chunks)))
    return manifest, chunks


def cut(rows: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield the chunks of all slots and their data."""
    held = bytearray()
    for slot, data in rows:
        held += slot.to_bytes(8, "big") + len(data).to_bytes(4, "big") + data
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def rows(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield every slot and its data in the chunks; raises `Malformed` if they end within a record."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        at = 0
        while len(held) - at >= 12:
            end = at + 12 + int.from_bytes(held[at + 8 : at + 12], "big")
            if end > len(held):
                break
            yield int.from_bytes(held[at : at + 8], "big"), bytes(held[at + 12 : end])
            at = end
        del held[:at]
    if held:
        raise Malformed("the chunks of the snapshot end within a record")


class Restore:
    """A state being put together from chunks: nothing of it can be used before the root has been checked."""

    def __init__(self, manifest: Manifest, time: int):
        self.manifest = manifest
        self.time = time
        """The time of the snapshot's block, in milliseconds since 1970."""
        self._chunks: list[bytes | None] = [None] * len(manifest.chunks)

    @property
    def missing(self) -> list[int]:
        """The numbers of the chunks that have not come yet."""
        return [number for number, chunk in enumerate(self._chunks) if chunk is None]

    def add(self, number: int, chunk: bytes) -> bool:
        """Take a chunk; False, and nothing is taken, if it is not the one of this number in the manifest."""
        if not 0 <= number < len(self._chunks) or digest(chunk) != self.manifest.chunks[number]:
            return False
        self._chunks[number] = chunk
        return True

    def state(self) -> State:
        """Return the state; raises `StateError` if a chunk is missing, or if it is not the one of the manifest."""
        if self.missing:
            raise StateError(f"{len(self.missing)} of {len(self._chunks)} chunks of the snapshot are missing")
        return restore(self.manifest, self.time, (chunk for chunk in self._chunks if chunk is not None))


def restore(manifest: Manifest, time: int, chunks: Iterable[bytes]) -> State:
    """Return the state of a snapshot; raises `StateError` unless every chunk, the root and the chain agree.

    Whoever has checked the header that names the root knows the height and the time: no chunk says them.
    """

    def checked() -> Iterator[bytes]:
        count = 0
        for count, chunk in enumerate(chunks, 1):
            if count > len(manifest.chunks) or digest(chunk) != manifest.chunks[count - 1]:
                raise StateError(f"chunk {count - 1} of the snapshot of height {manifest.height} is damaged")
            yield chunk
        if count != len(manifest.chunks):
            raise StateError(f"the snapshot of height {manifest.height} has {count} chunks, not {len(manifest.chunks)}")

    try:
        state = State.load(rows(checked()), manifest.height, time)
    except Malformed as error:
        raise StateError(f"the snapshot of height {manifest.height} is damaged: {error}") from error
    chain = state.get(Chain)
    if state.root != manifest.app_hash:
        raise StateError(f"the snapshot gives the root {state.root.hex()}: it must be {manifest.app_hash.hex()}")
    if chain is None or chain.chain_id != manifest.chain_id:
        raise StateError(f"the snapshot is not of chain {manifest.chain_id}")
    return state


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest in its one encoding."""
    return codec.encode([manifest.chain_id, manifest.height, manifest.app_hash, list(manifest.chunks)])


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest that the bytes encode; raises `Malformed` for anything else."""
    value = codec.decode(data, limit=MAX_CHUNKS * 34 + 1024)
    if type(value) is not list or tuple(map(type, value)) != (str, int, bytes, list):
        raise Malformed("a manifest is a list of chain id, height, app hash and the hashes of the chunks")
    chain_id, height, app_hash, chunks = value
    if not 0 <= height <= MAX_COUNT or len(app_hash) != 32 or not _hashes(chunks):
        raise Malformed("a manifest's height must be in range, its hashes must have 32 bytes")
    return Manifest(chain_id, height, app_hash, tuple(chunks))


def _hashes(values: list[Any]) -> bool:
    return len(values) <= MAX_CHUNKS and all(type(one) is bytes and len(one) == 32 for one in values)
