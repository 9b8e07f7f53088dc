"""A node: an engine behind an event loop. It makes the blocks, and wakes those who wait for them."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fedmeta.govern.engines.clock import BlockClock
from fedmeta.govern.engines.embedded import Applied, EmbeddedEngine, Receipt
from fedmeta.govern.errors import Refused, StoreError, WrongProtocol
from fedmeta.govern.machine.execute import is_of_round
from fedmeta.govern.machine.header import SignedHeader
from fedmeta.govern.server.explaining import Explainer
from fedmeta.govern.server.json import block_messages, json_form, to_json
from fedmeta.govern.server.limits import Limits, Places
from fedmeta.govern.state.records import Member

T = TypeVar("T")

log = logging.getLogger("fedmeta.ledger")

_STARTS = ("transaction-applied", "transaction-refused")


class Node:
    """What the routes of a node share; its methods belong to one event loop.

    Args:
        engine: It must be open, with the sequencer's key if blocks are to be made; whoever opened it closes it.
        limits: What is taken from whom.
        block_interval: Seconds from one look at what waits for a block to the next.
        empty_interval: Seconds after which a block is made though nothing waits; `block_interval` if None.
        snapshot_every: Blocks from one snapshot to the next; 0 for none.
        prune: Whether blocks that nothing needs any more are deleted after each snapshot.
        wall: The time in nanoseconds since 1970; it may jump.
        monotonic: Nanoseconds that never go back.
    """

    def __init__(
        self,
        engine: EmbeddedEngine,
        limits: Limits,
        block_interval: float = 1,
        empty_interval: float | None = None,
        snapshot_every: int = 0,
        prune: bool = False,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ):
        self.engine = engine
        self.limits = limits
        self.fault = ""
        """Why no block could be written lately; empty if all is well."""
        self.waiting = 0
        """Requests that wait for a block."""
        self.receipts: dict[bytes, Receipt] = {}
        """What waits for a block, by digest."""
        self.streams = Places("event streams", limits.streams, limits.peer_streams)
        """Event streams by peer."""
        self.explanations = Places("explanations", limits.explanations, limits.peer_explanations)
        """Explanations by peer, those that wait among them."""
        self.explainer = Explainer(engine)
        self._block_interval = block_interval
        self._empty_interval = block_interval if empty_interval is None else empty_interval
        self._snapshot_every = snapshot_every
        self._prune = prune
        self._wall = wall
        self._monotonic = monotonic
        self._clock: BlockClock | None = None
        """As it was at the last block that this node has made."""
        self._news = asyncio.Event()
        self._stopped = asyncio.Event()
        self._closing = asyncio.Event()
        self._pending: Counter[str] = Counter()
        """How many with a sequence number wait for a block, by member."""
        self._latest: tuple[int, bytes] = (-1, b"")
        self._said: tuple[int, list[tuple[str, dict[str, Any]]]] = (-1, [])
        self._genesis: dict[bool, bytes] = {}
        self._encoding = asyncio.Lock()
        # One thread writes: what it does in turn is never interleaved.
        self._writer = ThreadPoolExecutor(1, "ledger-writer")
        self._readers = ThreadPoolExecutor(2, "ledger-reader")

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that reads the engine, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(function, *arguments))

    async def submit(self, raw: bytes, member: str) -> Receipt:
        """Let a transaction of a member wait for its block; raises `Refused`."""
        return await self._write(self._submit, raw, member)

    async def sequence(self, member: str) -> int:
        """Return the number that a member's next transaction must carry; raises `Refused` for who is no member."""
        return await self._write(self._sequence, member)

    async def run(self) -> None:
        """Make blocks until `stop`; what waits then still gets its block. A fault that is not the disk's ends it."""
        try:
            await self._run()
        finally:
            self.abandon()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        last = clock()
        while not self._stopped.is_set():
            began = clock()
            empty = began - last >= self._empty_interval
            if await self._produce(empty):
                last = began
            # Once the node closes, nobody is made to wait.
            one, rest = (self._stopped, 0.05) if self.closing else (self._closing, self._block_interval)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(rest - (clock() - began), 0)):
                    await one.wait()
        await self._produce(False)

    def stop(self) -> None:
        """End `run`, after the last block."""
        self._closing.set()
        self._stopped.set()
        self.explainer.end()

    def abandon(self) -> None:
        """Let every request that waits for a block be answered that its transaction still waits."""
        for receipt in list(self.receipts.values()):
            receipt.future.cancel()

    def close(self) -> None:
        """Let the threads go, once they have ended what they are at; the engine stays open."""
        self._writer.shutdown()
        self._readers.shutdown()
        self.explainer.close()

    @property
    def closing(self) -> bool:
        """Whether event streams are to end, and blocks are made without delay."""
        return self._closing.is_set()

    def wind_up(self) -> None:
        """End all that waits, so that the server can: streams, explanations, and transactions by a block at once."""
        self._closing.set()
        self._announce()
        self.explainer.end()

    @property
    def news(self) -> asyncio.Event:
        """What will be set by the next block; take it before looking for a block that may be there already."""
        return self._news

    async def messages(self, height: int) -> bytes:
        """Return a block's server-sent events, height 0 being genesis; nothing if they were pruned."""
        if self._latest[0] == height:
            return self._latest[1]
        found = await self.read(self._messages, height)
        # All that follow the chain want the same block at the same time.
        if height == self.engine.height:
            self._latest = (height, found)
        return found

    async def genesis(self, binary: bool) -> bytes:
        """Return the genesis in canonical CBOR, or in JSON with its digest; either is encoded once, for it is large."""
        async with self._encoding:
            if binary not in self._genesis:
                self._genesis[binary] = await self.read(self._encode_genesis, binary)
        return self._genesis[binary]

    def outcome(self, applied: Applied) -> dict[str, Any]:
        """Return what a transaction did, with its events."""
        height, said = self._said
        if height != applied.height:
            # All that waited for a block ask for its events.
            said = [pair for _, events in self.engine.events(applied.height, applied.height) for pair in events]
            self._said = applied.height, said
        return {
            "digest": applied.digest,
            "height": applied.height,
            "position": applied.position,
            "events": [{"kind": kind, "fields": fields} for kind, fields in _of_transaction(said, applied.position)],
        }

    def _submit(self, raw: bytes, member: str) -> Receipt:
        receipt = self.engine.submit(raw)
        counts = not is_of_round(raw)
        self._pending[member] += counts
        self.receipts[receipt.digest] = receipt
        receipt.future.add_done_callback(partial(self._answered, member, receipt.digest, counts))
        return receipt

    def _answered(self, member: str, digest: bytes, counts: bool, _: "Future[Applied]") -> None:
        del self.receipts[digest]
        self._pending[member] -= counts
        if not self._pending[member]:
            del self._pending[member]

    def _sequence(self, name: str) -> int:
        member = self.engine.read(lambda application: application.state.get(Member, name))
        if member is None:
            raise Refused("unknown-member", f"nobody named {name!r} is a member")
        return member.sequence + self._pending[name]

    def _encode_genesis(self, binary: bool) -> bytes:
        if binary:
            return self.engine.encoded_genesis
        return to_json({**json_form(self.engine.genesis), "digest": self.engine.origin.digest})

    def _messages(self, height: int) -> bytes:
        for _, events in self.engine.events(height, height):
            signed = self.engine.header(height)
            header = {"time": self.engine.origin.time} if signed is None else json_form(signed.header)
            return block_messages(height, events, {**header, "height": height, "events": len(events)})
        return b""

    async def _produce(self, empty: bool) -> bool:
        """Make a block of what waits, or an empty one if that is due; return whether one was made."""
        if not (empty or self.engine.pending):
            return False
        try:
            signed = await self._write(self._make, empty)
            if signed is not None:
                self._announce()
                if log.isEnabledFor(logging.INFO):
                    await self._write(self._tell, signed.header.height)
                if self._snapshot_every and signed.header.height % self._snapshot_every == 0:
                    await self._write(self._snapshot)
        except (StoreError, WrongProtocol) as error:
            if str(error) != self.fault:
                log.error("no block can be written: %s", error)
            self.fault = str(error)
            return False
        self.fault = ""
        return signed is not None

    def _make(self, empty: bool) -> SignedHeader | None:
        wall, monotonic = self._wall(), self._monotonic()
        if self._clock is None:
            clock = BlockClock.started(self.engine.time, wall, monotonic)
        else:
            clock = self._clock.moved(wall, monotonic)
        signed = self.engine.produce(clock.milliseconds, empty)
        if signed is not None:
            self._clock = clock
        return signed

    def _tell(self, height: int) -> None:
        block = self.engine.block(height)
        if block is not None and block.transactions:
            log.info("block %d: transactions %d", height, len(block.transactions))

    def _snapshot(self) -> None:
        self.engine.snapshot()
        if self._prune:
            self.engine.prune()

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _write(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, partial(function, *arguments))


def _of_transaction(events: list[tuple[str, dict[str, Any]]], position: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of one transaction of a block."""
    found: list[tuple[str, dict[str, Any]]] = []
    inside = False
    for kind, fields in events:
        if kind in _STARTS or kind == "block-ending":
            inside = kind in _STARTS and fields["index"] == position
        if inside:
            found.append((kind, fields))
    return found
