"""The embedded engine: one sequencer orders, signs and keeps the blocks, in one process and one SQLite file."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fedmeta.govern.engines.replay import Resumed, resume
from fedmeta.govern.engines.store import Place, Store
from fedmeta.govern.errors import KeyFileError, NodeError, Refused
from fedmeta.govern.machine.application import Application, Commit
from fedmeta.govern.machine.genesis import Genesis, Origin, decode_genesis, encode_genesis, origin_of, start
from fedmeta.govern.machine.header import Header, SignedHeader, decode_leaf, event_leaves, sign_header
from fedmeta.govern.state.snapshot import Manifest
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import Key, digest

POOL_COUNT = 4_000
POOL_BYTES = 1 << 25
"""How many transactions, and how many bytes of them, may wait for a block."""

T = TypeVar("T")


class Applied(NamedTuple):
    """Where a transaction was applied, in a block that is on the disk."""

    digest: bytes
    height: int
    position: int


class Receipt:
    """That a transaction waits for its block; it is acknowledged once the block is on the disk."""

    def __init__(self, digest: bytes):
        self.digest = digest
        self.future: Future[Applied] = Future()
        """What becomes of it: an `Applied`, or the exception `Refused` if the rules refuse it after all."""

    def wait(self, timeout: float | None = None) -> Applied:
        """Return where it was applied; raises `Refused`, or `NodeError` if that takes more than `timeout` seconds."""
        try:
            return self.future.result(timeout)
        except FutureTimeout as error:
            raise NodeError(f"transaction {self.digest.hex()} is in no block yet, after {timeout} s") from error


class EmbeddedEngine:
    """A ledger in one file. Threads may share it: one lock orders what they do, and readers see whole blocks."""

    def __init__(self, store: Store, resumed: Resumed, key: Key | None):
        self.origin = resumed.origin
        """What the genesis says of the chain itself."""
        self._genesis_hash = resumed.state.root
        self._store = store
        self._application = Application(resumed.state, store)
        self._head = resumed.head
        self._key = key
        self._pool: dict[bytes, tuple[bytes, Receipt]] = {}
        self._pool_bytes = 0
        self._lock = threading.RLock()

    @staticmethod
    def create(path: str | os.PathLike, genesis: Genesis, key: Key) -> "EmbeddedEngine":
        """Make a new ledger and open it.

        Raises:
            StoreError: the file exists, or cannot be made.
            InvalidGenesis: a rule of the genesis is broken.
            KeyFileError: the key is not the one that the genesis names as the sequencer's.
        """
        _check_key(origin_of(genesis), key)
        begun = start(genesis)
        Store.create(path, encode_genesis(genesis), begun.state.dump(), event_leaves(begun.events))
        return EmbeddedEngine.open(path, key)

    @staticmethod
    def open(path: str | os.PathLike, key: Key | None = None, chain_id: str | None = None) -> "EmbeddedEngine":
        """Open a ledger; without the sequencer's key it can be read, but makes no blocks.

        Raises:
            StoreError: there is none, or it is none of ours; WrongChain if it is not `chain_id`; StoreLocked,
                NewerSchema, Damaged. Nothing has been changed then.
            KeyFileError: the key is not the sequencer's.
        """
        with Store.probe(path) as (found, lock):
            resumed = resume(found, chain_id)
            if key is not None:
                _check_key(resumed.origin, key)
            store = Store.open(path, lock)
        return EmbeddedEngine(store, resumed, key)

    def __enter__(self) -> "EmbeddedEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what waits for a block is forgotten, and its receipts are cancelled."""
        with self._lock:
            waiting, self._pool = self._pool, {}
            self._store.close()
        for _, receipt in waiting.values():
            receipt.future.cancel()

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._store.path

    @property
    def genesis(self) -> Genesis:
        """What the ledger began with, read anew each time: it may be large."""
        return decode_genesis(self.encoded_genesis)

    @property
    def encoded_genesis(self) -> bytes:
        """The genesis in its canonical CBOR, read anew each time as well."""
        with self._lock:
            return self._store.genesis

    @property
    def chain_id(self) -> str:
        """The chain's name."""
        return self.origin.chain_id

    @property
    def height(self) -> int:
        """The height of the last block; 0 after genesis."""
        return self._head.height if self._head else 0

    @property
    def time(self) -> int:
        """The time of the last block, or of the genesis, in milliseconds since 1970."""
        return self._head.time if self._head else self.origin.time

    @property
    def app_hash(self) -> bytes:
        """The root of the state, 32 bytes."""
        return self._head.app_hash if self._head else self._genesis_hash

    @property
    def first(self) -> int:
        """The oldest block whose transactions and events are kept."""
        with self._lock:
            return self._store.first

    @property
    def pending(self) -> int:
        """How many transactions wait for a block."""
        return len(self._pool)

    def submit(self, raw: bytes) -> Receipt:
        """Let a transaction wait for the next block; its receipt is acknowledged once the block is on the disk.

        Raises:
            Refused: it would be refused in the next block, after what waits already; or too many wait.
        """
        with self._lock:
            if len(self._pool) >= POOL_COUNT or self._pool_bytes + len(raw) > POOL_BYTES:
                raise Refused(
                    "limit-reached",
                    f"{len(self._pool)} transactions of {self._pool_bytes} bytes wait for a block: try later",
                )
            if refusal := self._application.check_tx(raw):
                raise refusal
            receipt = Receipt(digest(raw))
            self._pool[receipt.digest] = raw, receipt
            self._pool_bytes += len(raw)
            return receipt

    def produce(self, time: int, empty: bool = False) -> SignedHeader | None:
        """Make a block of what waits, and return its header; it is on the disk then.

        `time` is the block's, in milliseconds since 1970, as a `BlockClock` gives it, or the last block's if that is
        later. Where nothing that waits applies, a block is only made if it may be `empty`.

        Raises:
            StoreError: the block cannot be written. Nothing was acknowledged or lost: try again once it can.
            KeyFileError: the ledger was opened without the sequencer's key.
        """
        if self._key is None:
            raise KeyFileError(f"{self.path} was opened without the sequencer's key: it makes no blocks")
        with self._lock:
            height, time = self.height + 1, max(time, self._application.time)
            prepared = self._application.prepare(Block(height, time), [raw for raw, _ in self._pool.values()])
            chosen, signed = prepared.transactions, None
            if chosen or empty:
                signed = self._write(Block(height, time, chosen), self._key)
            answers = [(self._leave(one), refusal) for one, refusal in prepared.refused.items()]
            receipts = [self._leave(digest(raw)) for raw in chosen]
            refused = self._application.recheck(raw for raw, _ in self._pool.values())
            answers += [(self._leave(one), refusal) for one, refusal in refused.items()]
        for position, receipt in enumerate(receipts):
            _answer(receipt, Applied(receipt.digest, height, position))
        for receipt, refusal in answers:
            _answer(receipt, refusal)
        return signed

    def block(self, height: int) -> Block | None:
        """Return a block, or None if there is none or its transactions were pruned."""
        with self._lock:
            signed, transactions = self._store.header(height), self._store.transactions(height)
        if signed is None or transactions is None:
            return None
        return Block.of(height, signed.header.time, transactions)

    def header(self, height: int) -> SignedHeader | None:
        """Return the signed header of a block, or None if there is none; headers are never pruned."""
        with self._lock:
            return self._store.header(height)

    def first_from(self, height: int) -> int | None:
        """Return the first height from this one on that has a header, or None if there is none yet."""
        with self._lock:
            return self._store.first_from(height)

    def events(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
        """Yield the height and the events, kind and fields, of the blocks from `first` to `last`; 0 is genesis.

        Without `last` it ends at the block that is the last when it gets there. Pruned blocks are left out.
        """
        height = first
        while height <= (self.height if last is None else min(last, self.height)):
            with self._lock:
                leaves = self._store.events(height)
            if leaves is not None:
                yield height, [decode_leaf(leaf) for leaf in leaves]
            height += 1

    def transaction(self, digest: bytes) -> Place | None:
        """Return where the transaction of this digest stands, or None."""
        with self._lock:
            return self._store.place(digest)

    def query(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Answer one of `queries.QUERIES` about the committed state; raises `Refused` as they do."""
        with self._lock:
            return self._application.query(name, arguments)

    def read(self, question: Callable[[Application], T]) -> T:
        """Return what a function finds in the application while no block is committed."""
        with self._lock:
            return question(self._application)

    def prove(self, kind: str, *key: Any) -> tuple[Any, merkle.Proof, SignedHeader | None]:
        """Return a record, its proof, and the signed header of its state, None at genesis.

        Raises:
            StateError: there is no such record.
        """
        with self._lock:
            record, proof, height = self._application.prove(kind, *key)
            return record, proof, self._store.header(height)

    def prove_transaction(self, digest: bytes) -> tuple[merkle.Proof, SignedHeader] | None:
        """Return the proof that a transaction is in its block, and the block's header; None if it is not kept."""
        with self._lock:
            place = self._store.place(digest)
            if place is None:
                return None
            return self._inclusion(place.height, place.position, self._store.transactions(place.height))

    def prove_event(self, height: int, position: int) -> tuple[merkle.Proof, SignedHeader] | None:
        """Return the proof that an event is of a block, and the block's header; None if it is not kept."""
        with self._lock:
            return self._inclusion(height, position, self._store.events(height))

    def snapshot(self) -> Manifest:
        """Take a snapshot of the state and keep it in the file: blocks before it can be pruned, sooner or later."""
        with self._lock:
            return self._application.snapshot()

    def snapshots(self) -> list[Manifest]:
        """Return the snapshots that are kept, by height."""
        with self._lock:
            return self._application.snapshots()

    def chunk(self, height: int, number: int) -> bytes | None:
        """Return a chunk of a snapshot, or None if it is not kept."""
        with self._lock:
            return self._application.chunk(height, number)

    def prune(self, retain: int | None = None) -> int:
        """Delete the transactions and events of old blocks, and return the oldest block that is whole.

        All of them from `retain` on are kept: by default what stake and evidence still need. Headers are all kept. So
        is one snapshot from which the kept blocks lead on, and no block after it is deleted.
        """
        with self._lock:
            due = self._application.retain_height
            retain = due if retain is None else min(retain, due)
            starts = [one.height + 1 for one in self._store.manifests() if one.height < retain]
            first = self._store.first
            if starts and starts[-1] > first:
                first = starts[-1]
                self._store.prune(first)
            return first

    def _inclusion(
        self, height: int, position: int, leaves: list[bytes] | None
    ) -> tuple[merkle.Proof, SignedHeader] | None:
        signed = self._store.header(height)
        if signed is None or leaves is None or not 0 <= position < len(leaves):
            return None
        return merkle.prove(leaves, position), signed

    def _write(self, block: Block, key: Key) -> SignedHeader:
        """Execute a block, sign it, and commit it once it is on the disk."""
        finalized = self._application.finalize(block)
        leaves = event_leaves(finalized.events)
        header = Header(
            genesis=self.origin.digest,
            height=block.height,
            time=block.time,
            previous=self._head.hash if self._head else self.origin.digest,
            transactions_root=merkle.root(block.items),
            events_root=merkle.root(leaves),
            app_hash=finalized.app_hash,
        )
        signed = sign_header(key, header)

        def save(commit: Commit) -> None:
            self._store.append(signed, block, leaves, finalized.codes, commit.changes)

        self._application.commit(save)
        self._head = header
        return signed

    def _leave(self, one: bytes) -> Receipt:
        raw, receipt = self._pool.pop(one)
        self._pool_bytes -= len(raw)
        return receipt


def _check_key(origin: Origin, key: Key) -> None:
    if key.public != origin.sequencer:
        raise KeyFileError(
            f"the key {key.public.hex()} is not that of the sequencer of {origin.chain_id}, {origin.sequencer.hex()}"
        )


def _answer(receipt: Receipt, answer: Applied | Refused) -> None:
    # Without the lock: whoever waits for an answer may do anything then.
    if receipt.future.set_running_or_notify_cancel():
        if isinstance(answer, Refused):
            receipt.future.set_exception(answer)
        else:
            receipt.future.set_result(answer)
