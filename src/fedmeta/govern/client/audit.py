"""An audit: a ledger is executed again from its blocks, and all that it says is compared with what that gives.

A ledger can also be carried elsewhere in one file. That is a sequence of frames, each the length in 4 bytes, most
significant first, and a canonical CBOR list: the genesis; if blocks were pruned the headers of those, a snapshot and
its chunks; then every block; and the end, without which the file is known to be cut off.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from fedmeta.govern.engines.disk import open_file
from fedmeta.govern.engines.files import new_file
from fedmeta.govern.engines.replay import Progress, Replay, begun, choose, heights, needed, read_genesis, whole
from fedmeta.govern.engines.store import Counts, Place, Store
from fedmeta.govern.errors import (
    Damaged,
    InvalidBlock,
    InvalidGenesis,
    Malformed,
    NewerSchema,
    OlderProtocol,
    ProofError,
    StateError,
    StoreError,
)
from fedmeta.govern.machine.application import Commit, Finalized
from fedmeta.govern.machine.genesis import decode_genesis, start
from fedmeta.govern.machine.header import SignedHeader, decode_signed, encode_signed, event_leaves
from fedmeta.govern.state.snapshot import Manifest, decode_manifest, encode_manifest, restore
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found."""

    chain_id: str
    genesis: bytes
    """The digest of the genesis."""
    start: int
    """The height of the snapshot that it began from; 0 for genesis."""
    height: int
    """The last block that holds in all respects."""
    tip: int
    """The last block that there is."""
    transactions: int
    """Transactions that were executed, each signature checked."""
    refused: int
    """Those among them that the rules refused."""
    app_hash: bytes
    problem: str
    """What does not hold, and at which height; empty if all does."""

    @property
    def sound(self) -> bool:
        """Whether everything holds."""
        return not self.problem


def verify_ledger(path: str | os.PathLike, progress: Progress | None = None) -> Audit:
    """Check every block, signature, root and invariant of a ledger; it is only read, also while it is in use.

    Every header's signature and link is checked from genesis on. Blocks are executed from genesis on, or from the
    oldest snapshot if the ledger was pruned; after each the header, the stored events, the index of transactions and
    the invariants must agree. At the end the stored state and the snapshots must, there may be no rows that nothing
    accounts for, and the file's pages must fit together. It stops at the first thing that does not hold.

    Raises:
        StoreError: the file cannot be read at all; Damaged if the genesis cannot be.
    """
    with Store.read(path) as store:
        genesis = read_genesis(store)
        first = begun(store, genesis)
        audit = _Auditor(store, Replay(genesis, first.state, None), store.tip)
        problem = audit.run(event_leaves(first.events), progress)
        return Audit(
            chain_id=genesis.chain_id,
            genesis=genesis.digest,
            start=audit.start,
            height=audit.height,
            tip=audit.tip,
            transactions=audit.transactions,
            refused=audit.refused,
            app_hash=audit.replay.application.app_hash,
            problem=problem,
        )


class _Auditor:
    def __init__(self, store: Store, replay: Replay, tip: int):
        self.store = store
        self.replay = replay
        self.tip = tip
        self._begun = replay.application.app_hash
        self.start = self.height = self.transactions = self.refused = self.places = 0
        self.headers = self.blocks = 0
        self._at = "genesis"
        """What is being checked."""

    def run(self, events: list[bytes], progress: Progress | None) -> str:
        """Check everything, given the genesis's encoded events; return the first problem, or nothing."""
        try:
            self._genesis(events)
            if (snapshot := choose(self.store)) is not None:
                self._skip(snapshot)
            for height in self.replay.heights(self.store, self.start + 1, self.tip):
                self._at = f"block {height}"
                self._block(height)
                self.height = height
                if progress is not None:
                    progress(height, self.tip)
            self._at = f"after block {self.tip}"
            self._state()
            self._snapshots()
            self._counts()
            self.store.check_pages()
        except (Damaged, InvalidBlock, Malformed, ProofError, StateError) as error:
            return f"{self._at}: {error}"
        return ""

    def _genesis(self, events: list[bytes]) -> None:
        check_invariants(self.replay.application.state)
        if self.store.events(0) != events:
            raise Damaged("the events that are stored are not those that the genesis gives")

    def _skip(self, snapshot: Manifest) -> None:
        def headers() -> Iterator[SignedHeader]:
            for height in self.replay.heights(self.store, 1, snapshot.height):
                self._at = f"block {height}"
                self.headers += 1
                yield needed(self.store, height)
            self._at = f"after block {snapshot.height}"

        self.replay.skip(headers(), snapshot, self.store.chunks(snapshot), own=True)
        check_invariants(self.replay.application.state)
        self.start = self.height = snapshot.height

    def _block(self, height: int) -> None:
        signed, raws = needed(self.store, height), whole(self.store, height)
        found, leaves = self.replay.step(signed, raws)
        if self.store.events(height) != leaves:
            raise Damaged("the events that are stored are not those that the block gives")
        block = Block.of(height, signed.header.time, raws)
        for position, (raw, code) in enumerate(zip(block.transactions, found.codes, strict=True), block.first):
            due, place = Place(height, position, code), self.store.place(digest(raw))
            self.places += place == due
            # What was refused may have been applied in another block.
            if place != due and not (code and place):
                raise Damaged(f"transaction {digest(raw).hex()} is at {_told(due)}: the index has it at {_told(place)}")
        check_invariants(self.replay.application.state)
        self.headers += 1
        self.blocks += 1
        self.transactions += len(block.transactions)
        self.refused += sum(map(bool, found.codes))

    def _state(self) -> None:
        state = self.replay.application.state
        for due, row in zip_longest(state.dump(), self.store.rows()):
            if due != row:
                slot = min(one[0] for one in (due, row) if one is not None)
                raise Damaged(f"slot {slot} of the state that is stored is not what the blocks give")

    def _snapshots(self) -> None:
        for one in self.store.manifests():
            height = self.store.last_before(one.height + 1) if self.replay.gaps else one.height
            header = needed(self.store, height).header if height else None
            if one.app_hash != (header.app_hash if header else self._begun):
                raise Damaged(f"the snapshot of height {one.height} is not of the state that its header names")
            restore(one, header.time if header else self.replay.genesis.time, self.store.chunks(one))

    def _counts(self) -> None:
        chunks = sum(len(one.chunks) for one in self.store.manifests())
        due = Counts(
            headers=self.headers, blocks=self.blocks, events=self.blocks + 1, places=self.places, chunks=chunks
        )
        for what, count, checked in zip(Counts._fields, self.store.counts(), due, strict=True):
            if count != checked:
                raise Damaged(f"the database has {count} {what}: what was checked are {checked}")


def _told(place: Place | None) -> str:
    return f"position {place.position} of block {place.height}, code {place.code!r}" if place else "no place"


_FORMAT = "fedmeta ledger"
_VERSION = 1
_MARK = codec.encode(_FORMAT)
"""Comes after the length of the first frame, and the head of its list."""
_SHAPES: dict[str, tuple[type, ...]] = {
    _FORMAT: (int, bytes),
    "header": (bytes,),
    "snapshot": (bytes,),
    "chunk": (bytes,),
    "block": (bytes, list),
    "end": (int,),
}


def export(path: str | os.PathLike, out: str | os.PathLike) -> int:
    """Write a ledger to a new file, and return the height of its last block.

    Where validators certify headers later than they decide blocks, it ends at the last one that is certified.

    Raises:
        StoreError: the ledger cannot be read, or has no headers before its snapshot, as where a node of several began
            with it; or the file exists or cannot be written.
    """
    with Store.read(path) as store, new_file(Path(out)) as aside:
        genesis = decode_genesis(store.genesis)
        gaps, begin = genesis.validators, store.first_from(1)
        if gaps and begin and needed(store, begin).header.previous != genesis.digest:
            raise StoreError(
                f"{path} began at the snapshot of block {begin}: nobody else could tell that it is of this ledger; "
                "export one that has all headers"
            )
        tip, snapshot = (store.certified if gaps else store.tip), choose(store)
        with open(aside, "xb") as file:
            _write(file, _FORMAT, _VERSION, store.genesis)
            if snapshot is not None:
                for height in heights(store, gaps, 1, snapshot.height):
                    _write(file, "header", encode_signed(needed(store, height)))
                _write(file, "snapshot", encode_manifest(snapshot))
                for chunk in store.chunks(snapshot):
                    _write(file, "chunk", chunk)
            for height in heights(store, gaps, store.first, tip):
                _write(file, "block", encode_signed(needed(store, height)), whole(store, height))
            _write(file, "end", tip)
    return tip


def load(out: str | os.PathLike, path: str | os.PathLike, progress: Progress | None = None) -> int:
    """Make a new ledger of a file from `export`, executing and checking all of it; return the last block's height.

    `progress` is called with the height that was done, and how many bytes were read. Whatever is raised, no ledger is
    made.

    Raises:
        StoreError: the ledger exists or cannot be written, or the file cannot be read or is no export; NewerSchema;
            Damaged if it does not hold.
    """
    with new_file(Path(path)) as aside, _open(Path(out)) as file:
        try:
            return _load(_Frames(Path(out), file), aside, progress)
        except OlderProtocol as error:
            raise OlderProtocol(f"{out}: {error}") from error
        except (InvalidBlock, InvalidGenesis, Malformed, ProofError, StateError) as error:
            raise Damaged(f"{out} does not hold: {error}") from error


def _load(frames: "_Frames", path: Path, progress: Progress | None) -> int:
    _, raw = frames.need(_FORMAT)
    genesis = decode_genesis(raw)
    first = start(genesis)
    replay = Replay(genesis, first.state, None)
    headers = [decode_signed(header) for (header,) in frames.all("header")]
    manifest, chunks = None, []
    if headers:
        manifest = decode_manifest(*frames.need("snapshot"))
        chunks = [chunk for (chunk,) in frames.all("chunk")]
        replay.skip(headers, manifest, chunks)
    state = replay.application.state
    Store.create(path, raw, state.dump(), event_leaves(first.events))
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock, durable=False)
    try:
        if manifest is not None:
            store.begin_at(headers, manifest, chunks)
        for header, transactions in frames.all("block"):
            signed = decode_signed(header)
            replay.step(signed, transactions, partial(_append, store, signed, transactions))
            if progress is not None:
                progress(signed.header.height, frames.done)
    finally:
        store.close()
    (tip,) = frames.need("end")
    if frames.more:
        raise Malformed("it goes on after its end")
    if tip != replay.application.height:
        raise Malformed(f"it ends at block {replay.application.height}, but says {tip}")
    return tip


def _append(
    store: Store, signed: SignedHeader, items: list[bytes], commit: Commit, found: Finalized, leaves: list[bytes]
) -> None:
    block = Block.of(signed.header.height, signed.header.time, items)
    store.append(signed, block, leaves, found.codes, commit.changes)


class _Frames:
    """The frames of a file, one after the other."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path = path
        self._file = file
        if not _MARK.startswith(file.read(5 + len(_MARK))[5:]):
            raise StoreError(f"{path} is not the export of a ledger")
        file.seek(0)
        self._next: tuple[str, list[Any]] | None = self._read()

    @property
    def more(self) -> bool:
        """Whether a frame is left."""
        return self._next is not None

    @property
    def done(self) -> int:
        """How many bytes were read."""
        return self._file.tell()

    def all(self, kind: str) -> Iterator[list[Any]]:
        """Yield the values of the frames of a kind that come next."""
        while self._next is not None and self._next[0] == kind:
            values, self._next = self._next[1], self._read()
            yield values

    def need(self, kind: str) -> list[Any]:
        """Return the values of the next frame; raises `Malformed` if it is not of this kind."""
        for values in self.all(kind):
            return values
        raise Malformed(f"{kind!r} is due, but {'the file ends' if self._next is None else repr(self._next[0])}")

    def _read(self) -> tuple[str, list[Any]] | None:
        head = self._file.read(4)
        if not head:
            return None
        size = int.from_bytes(head, "big")
        if len(head) < 4 or size > os.fstat(self._file.fileno()).st_size - self._file.tell():
            raise Malformed("the file ends within a frame")
        data = self._file.read(size)
        frame = codec.decode(data, limit=max(1, size))
        if type(frame) is not list or not frame or type(frame[0]) is not str:
            raise Malformed("a frame is a list that begins with its kind")
        kind, *values = frame
        if kind == _FORMAT and values[:1] != [_VERSION]:
            self._other_version(values)
        if tuple(map(type, values)) != _SHAPES.get(kind):
            raise Malformed(f"a frame of kind {kind[:40]!r} holds other values")
        if kind == "block" and any(type(one) is not bytes for one in values[1]):
            raise Malformed("a block's transactions are byte strings")
        return kind, values

    def _other_version(self, values: list[Any]) -> None:
        if values and type(values[0]) is int and values[0] > _VERSION:
            raise NewerSchema(f"{self.path} has format {values[0]}: this version of fedmeta knows {_VERSION}")
        raise Malformed(f"the format must be {_VERSION}")


def _write(file: BinaryIO, *frame: Any) -> None:
    data = codec.encode(list(frame))
    file.write(len(data).to_bytes(4, "big") + data)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_file(path) as file:
            yield file
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
