"""A node: an engine behind an event loop. It makes the blocks, and wakes those who wait for them."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fedmeta.govern.engines.engine import Applied, Engine, Receipt
from fedmeta.govern.errors import NodeBusy, Refused
from fedmeta.govern.machine.execute import is_of_round
from fedmeta.govern.server.explaining import Explainer
from fedmeta.govern.server.json import block_messages, json_form, to_json
from fedmeta.govern.server.limits import Limits, Places
from fedmeta.govern.server.making import Host, Maker
from fedmeta.govern.state.records import Member

T = TypeVar("T")

LIGHTS = 16
"""Questions of light clients that wait for CometBFT at once."""

_STARTS = ("transaction-applied", "transaction-refused")


class Node(Host):
    """What the routes of a node share; its methods belong to one event loop.

    Args:
        engine: It must be open; whoever opened it closes it.
        limits: What is taken from whom.
        maker: Who makes the blocks.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        maker: Maker,
    ):
        super().__init__()
        self.engine = engine
        self.limits = limits
        self.maker = maker
        self.waiting = 0
        """Requests that wait for a block."""
        self.receipts: dict[bytes, Receipt] = {}
        """What waits for a block, by digest."""
        self.streams = Places("event streams", limits.streams, limits.peer_streams)
        """Event streams by peer."""
        self.explanations = Places("explanations", limits.explanations, limits.peer_explanations)
        """Explanations by peer, those that wait among them."""
        self.explainer = Explainer(engine)
        self._news = asyncio.Event()
        self._pending: Counter[str] = Counter()
        """How many with a sequence number wait for a block, by member."""
        self._latest: tuple[int, bytes] = (-1, b"")
        self._said: tuple[int, list[tuple[str, dict[str, Any]]]] = (-1, [])
        self._genesis: dict[bool, bytes] = {}
        self._encoding = asyncio.Lock()
        # One thread writes: what it does in turn is never interleaved.
        self._writer = ThreadPoolExecutor(1, "ledger-writer")
        self._hands = ThreadPoolExecutor(engine.hands, "ledger-hand")
        self._counting = threading.Lock()
        self._readers = ThreadPoolExecutor(2, "ledger-reader")
        # Apart, for CometBFT may be slow to answer.
        self._lights = ThreadPoolExecutor(2, "ledger-light")
        self._asked = 0

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that reads the engine, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(function, *arguments))

    async def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Ask CometBFT for a light client; raises `EngineError`, or `NodeBusy` where too many ask."""
        if self._asked >= LIGHTS:
            raise NodeBusy(f"{self._asked} light clients wait for CometBFT: come again later", 2)
        self._asked += 1
        try:
            asking = partial(self.maker.light, method, parameters)
            return await asyncio.get_running_loop().run_in_executor(self._lights, asking)
        finally:
            self._asked -= 1

    async def submit(self, raw: bytes, member: str) -> Receipt:
        """Let a transaction of a member wait for its block; raises `Refused`, or `NodeBusy`."""
        submitting = partial(self._submit, raw, member)
        return await asyncio.get_running_loop().run_in_executor(self._hands, submitting)

    async def sequence(self, member: str) -> int:
        """Return the number that a member's next transaction must carry; raises `Refused` for who is no member."""
        return await self.write(self._sequence, member)

    async def run(self) -> None:
        """Let blocks be made until `stop`; what waits then still gets its block."""
        try:
            await self.maker.run(self)
        finally:
            self.abandon()

    def stop(self) -> None:
        """End `run`, after the last block."""
        self.closing.set()
        self.stopped.set()
        self.explainer.end()

    def abandon(self) -> None:
        """Let every request that waits for a block be answered that its transaction still waits."""
        for receipt in list(self.receipts.values()):
            receipt.future.cancel()

    def close(self) -> None:
        """Let the threads go, once they have ended what they are at; the engine stays open."""
        self._writer.shutdown()
        self._hands.shutdown()
        self._readers.shutdown()
        self._lights.shutdown()
        self.explainer.close()

    def wind_up(self) -> None:
        """End all that waits, so that the server can: streams, explanations, and transactions by a block at once."""
        self.closing.set()
        self.announce()
        self.explainer.end()

    @property
    def news(self) -> asyncio.Event:
        """What will be set by the next block; take it before looking for a block that may be there already."""
        return self._news

    async def certified(self, height: int) -> bool:
        """Wait until the header of a block that was decided is certified; return False if that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.wait_seconds):
                while self.engine.height < height and not self.closing.is_set():
                    news = self.news
                    if self.engine.height < height:
                        await news.wait()
        return self.engine.height >= height

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
        with self._counting:
            self._pending[member] += counts
            self.receipts[receipt.digest] = receipt
        receipt.future.add_done_callback(partial(self._answered, member, receipt.digest, counts))
        return receipt

    def _answered(self, member: str, digest: bytes, counts: bool, _: "Future[Applied]") -> None:
        with self._counting:
            self.receipts.pop(digest, None)
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
        if not self.engine.origin.sequencer and self.engine.first <= height <= self.engine.height:
            # Nothing happened in it, so that validators left no header: whoever counts heights is told of it.
            return block_messages(height, [], {"height": height, "events": 0})
        return b""

    def announce(self) -> None:
        """Wake all who wait for a block."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def write(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that changes the engine, beside the event loop, after those before it."""
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
