"""Who makes a node's blocks: here a sequencer, which looks at what waits at an interval."""

import abc
import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from fedmeta.govern.engines.clock import BlockClock
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import EngineError, StoreError, WrongProtocol
from fedmeta.govern.machine.header import SignedHeader

T = TypeVar("T")

log = logging.getLogger("fedmeta.ledger")


class Host(abc.ABC):
    """What a maker needs of the node that it works for."""

    def __init__(self) -> None:
        self.fault = ""
        """Why no block could be written lately; empty if all is well."""
        self.stopped = asyncio.Event()
        """Set once no more blocks are to be made."""
        self.closing = asyncio.Event()
        """Set once event streams are to end, and blocks to be made without delay."""

    @abc.abstractmethod
    def announce(self) -> None:
        """Wake all who wait for a block."""

    @abc.abstractmethod
    async def write(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that changes the engine, beside the event loop, after those before it."""


class Maker(abc.ABC):
    """Lets blocks be made as long as a node runs."""

    shows_blocks: ClassVar[bool]
    """Whether `light` shows them."""

    @abc.abstractmethod
    def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Return what CometBFT answers to a light client; raises `EngineError` where it does not, or is not there."""

    @abc.abstractmethod
    async def run(self, node: Host) -> None:
        """Make blocks until the node is stopped, and tell it of each; what is raised ends the node."""


class Sequencing(Maker):
    """Makes the blocks of an engine that has the sequencer's key.

    Args:
        engine: It must be open, with the key; whoever opened it closes it.
        block_interval: Seconds from one look at what waits for a block to the next.
        empty_interval: Seconds after which a block is made though nothing waits; `block_interval` if None.
        snapshot_every: Blocks from one snapshot to the next; 0 for none.
        prune: Whether blocks that nothing needs any more are deleted after each snapshot.
        wall: The time in nanoseconds since 1970; it may jump.
        monotonic: Nanoseconds that never go back.
    """

    shows_blocks = False

    def __init__(
        self,
        engine: EmbeddedEngine,
        block_interval: float = 1,
        empty_interval: float | None = None,
        snapshot_every: int = 0,
        prune: bool = False,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ):
        self.engine = engine
        self._block_interval = block_interval
        self._empty_interval = block_interval if empty_interval is None else empty_interval
        self._snapshot_every = snapshot_every
        self._prune = prune
        self._wall = wall
        self._monotonic = monotonic
        self._clock: BlockClock | None = None
        """As it was at the last block that was made here."""

    def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Raise `EngineError`."""
        raise EngineError("a sequencer orders the blocks of this ledger: there is no CometBFT to ask")

    async def run(self, node: Host) -> None:
        """Make blocks until the node is stopped; what waits then still gets its block."""
        clock = asyncio.get_running_loop().time
        last = clock()
        while not node.stopped.is_set():
            began = clock()
            empty = began - last >= self._empty_interval
            if await self.produce(node, empty):
                last = began
            # Once the node closes, nobody is made to wait.
            one, rest = (node.stopped, 0.05) if node.closing.is_set() else (node.closing, self._block_interval)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(rest - (clock() - began), 0)):
                    await one.wait()
        await self.produce(node, False)

    async def produce(self, node: Host, empty: bool) -> bool:
        """Make a block of what waits, or an empty one if that is due; return whether one was made."""
        if not (empty or self.engine.pending):
            return False
        try:
            signed = await node.write(self._make, empty)
            if signed is not None:
                node.announce()
                if log.isEnabledFor(logging.INFO):
                    await node.write(self._tell, signed.header.height)
                if self._snapshot_every and signed.header.height % self._snapshot_every == 0:
                    await node.write(self._snapshot)
        except (StoreError, WrongProtocol) as error:
            if str(error) != node.fault:
                log.error("no block can be written: %s", error)
            node.fault = str(error)
            return False
        node.fault = ""
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
