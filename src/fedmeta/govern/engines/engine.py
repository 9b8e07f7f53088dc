"""What every engine is, whoever orders its blocks: a state, a database, and the answers that both give."""

import abc
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from fedmeta.govern.engines.replay import Resumed
from fedmeta.govern.engines.store import Place, Store
from fedmeta.govern.errors import NodeError, Refused
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import Genesis, decode_genesis
from fedmeta.govern.machine.header import SignedHeader, decode_leaf
from fedmeta.govern.state.snapshot import Manifest
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.block import Block

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


def answer(receipt: Receipt, found: Applied | Refused) -> None:
    """Acknowledge a transaction, or say what it was refused for; not while a lock is held, for who waits acts then."""
    if receipt.future.set_running_or_notify_cancel():
        if isinstance(found, Refused):
            receipt.future.set_exception(found)
        else:
            receipt.future.set_result(found)


class Engine(abc.ABC):
    """A ledger in one file. Threads may share it: one lock orders what they do, and readers see whole blocks."""

    hands: ClassVar[int]
    """How many transactions can be handed over at once."""

    def __init__(self, store: Store, resumed: Resumed):
        self.origin = resumed.origin
        """What the genesis says of the chain itself."""
        self._genesis_hash = resumed.state.root
        self._store = store
        self._application = Application(resumed.state, store)
        self._head = resumed.head
        """The last header that is certified."""
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file; what waits for a block is forgotten, and its receipts are cancelled."""

    @abc.abstractmethod
    def submit(self, raw: bytes) -> Receipt:
        """Let a transaction wait for a block; raises `Refused` if it would be refused, or if too many wait."""

    @property
    @abc.abstractmethod
    def pending(self) -> int:
        """How many transactions that were submitted here wait for a block."""

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
        """The height of the last block whose header is certified; 0 after genesis."""
        return self._head.height if self._head else 0

    @property
    def decided(self) -> int:
        """The height of the last block, which may leave no header or one that is not certified yet."""
        return self._application.height

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
            return self._certified(height)

    def block_time(self, height: int) -> int | None:
        """Return the time of a block, certified or not, in milliseconds since 1970, or None if it left no header."""
        with self._lock:
            found = self._store.header(height)
        return None if found is None else found.header.time

    def first_from(self, height: int) -> int | None:
        """Return the first height from this one on that has a header, or None if there is none yet."""
        with self._lock:
            found = self._store.first_from(height)
        return None if found is None or found > self.height else found

    def events(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
        """Yield the height and the events, kind and fields, of the blocks from `first` to `last`; 0 is genesis.

        Without `last` it ends at the block that is the last certified one when it gets there. Pruned blocks are left
        out.
        """
        height = first
        while height <= (self.height if last is None else min(last, self.decided)):
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

    def prove(self, kind: str, *key: Any) -> tuple[Any, merkle.Proof, int]:
        """Return a record, its proof, and the height of the header that names its state, 0 at genesis.

        That header is certified once `height` has come there.

        Raises:
            StateError: there is no such record.
        """
        with self._lock:
            record, proof, height = self._application.prove(kind, *key)
            return record, proof, self._store.last_before(height + 1)

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

    def _certified(self, height: int) -> SignedHeader | None:
        found = self._store.header(height)
        return found if found is not None and found.certificate else None

    def _inclusion(
        self, height: int, position: int, leaves: list[bytes] | None
    ) -> tuple[merkle.Proof, SignedHeader] | None:
        signed = self._certified(height)
        if signed is None or leaves is None or not 0 <= position < len(leaves):
            return None
        return merkle.prove(leaves, position), signed
