"""The embedded engine: one sequencer orders, signs and keeps the blocks, in one process and one SQLite file."""

import os
from typing import ClassVar

from fedmeta.govern.engines.engine import Applied, Engine, Receipt, answer
from fedmeta.govern.engines.replay import Resumed, resume
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import KeyFileError, Refused
from fedmeta.govern.machine.application import Commit
from fedmeta.govern.machine.genesis import Genesis, Origin, encode_genesis, origin_of, start
from fedmeta.govern.machine.header import Header, SignedHeader, event_leaves, sign_header
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import Key, digest

POOL_COUNT = 4_000
POOL_BYTES = 1 << 25
"""How many transactions, and how many bytes of them, may wait for a block."""


class EmbeddedEngine(Engine):
    """One sequencer, with its key, makes all blocks."""

    hands: ClassVar[int] = 1

    def __init__(self, store: Store, resumed: Resumed, key: Key | None):
        super().__init__(store, resumed)
        self._key = key
        self._pool: dict[bytes, tuple[bytes, Receipt]] = {}
        self._pool_bytes = 0

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

    def close(self) -> None:
        """Close the file; what waits for a block is forgotten, and its receipts are cancelled."""
        with self._lock:
            waiting, self._pool = self._pool, {}
            self._store.close()
        for _, receipt in waiting.values():
            receipt.future.cancel()

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
            answer(receipt, Applied(receipt.digest, height, position))
        for receipt, refusal in answers:
            answer(receipt, refusal)
        return signed

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
