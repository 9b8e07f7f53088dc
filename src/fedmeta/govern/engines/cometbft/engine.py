"""The engine whose blocks the super nodes decide: the ledger as CometBFT's application, and CometBFT as its child."""

import asyncio
import contextlib
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fedmeta.govern.engines.cometbft.bridge import Bridge, Told
from fedmeta.govern.engines.cometbft.child import (
    Child,
    ConsensusFailure,
    Ended,
    GoesOn,
    News,
    Patience,
    StandsStill,
    Started,
)
from fedmeta.govern.engines.cometbft.config import Settings
from fedmeta.govern.engines.cometbft.home import Home
from fedmeta.govern.engines.cometbft.protocol import listening
from fedmeta.govern.engines.cometbft.rpc import Rpc
from fedmeta.govern.engines.engine import Applied, Engine, Receipt, answer
from fedmeta.govern.engines.replay import Resumed, resume
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import EngineError, GovernError, Malformed, NodeBusy, Refused, StoreError, Unacknowledged
from fedmeta.govern.machine.execute import is_of_round
from fedmeta.govern.machine.genesis import Genesis, encode_genesis, start
from fedmeta.govern.machine.header import Header, event_leaves
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.commit_json import certificate_of
from fedmeta.govern.wire.commits import chain_id_of, check_commit, encode_certificate
from fedmeta.govern.wire.signatures import digest

RECEIPTS = 4_000
"""How many transactions that were submitted here may wait for a block."""

COLLECT = 20_000
"""Objects that come and stay, until Python looks for cycles among them."""

RETRY = 0.2
"""Seconds until CometBFT is asked again for what it could not say yet."""

log = logging.getLogger("fedmeta.ledger")


class CometEngine(Engine, Told):
    """A ledger in one file, whose blocks CometBFT decides: `run` listens for it, and runs it as a child.

    A header is certified by the block after its own, so the last one is a block late. What was submitted is
    acknowledged as soon as its block is decided and kept.
    """

    hands: ClassVar[int] = 8

    def __init__(self, store: Store, resumed: Resumed, rpc: Path, snapshot_every: int = 0, prune: bool = False):
        super().__init__(store, resumed)
        self._snapshot_every = snapshot_every
        self._prune = prune
        self._snapped = max((one.height for one in store.manifests()), default=0)
        """The height of the last snapshot."""
        last = resumed.head
        uncertified = store.uncertified()
        if uncertified:
            before = store.last_before(uncertified[0])
            found = store.header(before) if before else None
            self._head = None if found is None else found.header
        self._bridge = Bridge(self.origin, self._application, store, last, self._lock, self)
        self._rpc = Rpc(rpc)
        self._receipts: dict[bytes, tuple[bytes, Receipt]] = {}
        self._due: list[int] = uncertified
        """The heights of headers that are to be certified, in order."""
        self._following: tuple[int, dict[str, Any]] = (0, {})
        """The height and the validators of the block after the one that certified the last header."""
        self._waiting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look: asyncio.Event | None = None
        self._ending = threading.Event()
        self._announce: Callable[[], None] = lambda: None
        self.fault = ""
        """Why no blocks are decided lately, as far as is known; empty if all is well."""

    @staticmethod
    def create(path: str | os.PathLike, genesis: Genesis) -> None:
        """Make the file of a new ledger.

        Raises:
            StoreError: the file exists, or cannot be made.
            InvalidGenesis: a rule of the genesis is broken.
            EngineError: a sequencer orders the blocks of this ledger.
        """
        if not genesis.validators:
            raise EngineError(f"the genesis of {genesis.chain_id} names a sequencer: its blocks are not CometBFT's")
        begun = start(genesis)
        Store.create(path, encode_genesis(genesis), begun.state.dump(), event_leaves(begun.events))

    @staticmethod
    def open(
        path: str | os.PathLike,
        rpc: Path,
        chain_id: str | None = None,
        snapshot_every: int = 0,
        prune: bool = False,
    ) -> "CometEngine":
        """Open a ledger.

        Args:
            path: Its file.
            rpc: The socket on which its CometBFT listens.
            chain_id: The chain that it must be, if given.
            snapshot_every: Blocks from one snapshot to the next, at least; 0 for none. New nodes begin by them.
            prune: Whether blocks that nothing needs any more are deleted after each snapshot.

        Raises:
            StoreError: as for `EmbeddedEngine.open`.
            EngineError: a sequencer orders the blocks of this ledger.
        """
        with Store.probe(path) as (found, lock):
            resumed = resume(found, chain_id)
            if resumed.origin.sequencer:
                raise EngineError(
                    f"a sequencer orders the blocks of {resumed.origin.chain_id}: they are not CometBFT's"
                )
            # What is lost with the power, CometBFT has kept: it lets those blocks be executed again.
            store = Store.open(path, lock, durable=None)
        return CometEngine(store, resumed, rpc, snapshot_every, prune)

    def close(self) -> None:
        """Close the file; what waits for a block is forgotten here, and its receipts are cancelled."""
        with self._waiting:
            waiting, self._receipts = self._receipts, {}
        with self._lock:
            self._store.close()
        self._rpc.close()
        for _, receipt in waiting.values():
            receipt.future.cancel()

    @property
    def pending(self) -> int:
        """How many transactions that were submitted here wait for a block."""
        return len(self._receipts)

    def submit(self, raw: bytes) -> Receipt:
        """Hand a transaction to CometBFT; its receipt is acknowledged once its block is decided and kept.

        Not to be called in the loop of `run`, which CometBFT asks what it thinks of the transaction.

        Raises:
            Refused: it would be refused in the next block, after what waits already; or too many wait.
            NodeBusy: CometBFT cannot take it now.
        """
        receipt = Receipt(digest(raw))
        with self._waiting:
            if len(self._receipts) >= RECEIPTS:
                raise Refused("limit-reached", f"{len(self._receipts)} transactions wait for a block: try later")
            # Its block may be decided before CometBFT has said that it took it.
            known = self._receipts.setdefault(receipt.digest, (raw, receipt))[1]
        if known is not receipt:
            return known
        try:
            found = self._rpc.broadcast_tx_sync(raw)
        except Unacknowledged:
            # Perhaps it has it; it is sent again when CometBFT is there again.
            return receipt
        except BaseException as error:
            self._forget(receipt.digest)
            if isinstance(error, EngineError):
                raise NodeBusy(f"CometBFT cannot take a transaction now: {error}", 2) from error
            raise
        if found.code:
            self._forget(receipt.digest)
            raise Refused(found.codespace, found.log)
        if found.known:
            self._find(receipt, raw)
        return receipt

    def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Return what CometBFT answers to a light client; raises `EngineError` where it does not."""
        return self._rpc.light(method, parameters)

    def _find(self, receipt: Receipt, raw: bytes) -> None:
        """Answer for a transaction that CometBFT has had before, if it is in a block; raises `Refused`."""
        with self._lock:
            place, refusal = self._store.place(receipt.digest), self._application.judge(raw)
        if place is None:
            # Its number was used, or its round is over: it was in a block that is forgotten here, and nobody would ever
            # answer for it. What is refused for anything else may wait for another one that comes before it.
            if refusal is not None and (refusal.code == "stale-sequence" or is_of_round(raw)):
                self._forget(receipt.digest)
                raise refusal
            return
        self._forget(receipt.digest)
        if place.code:
            raise Refused(place.code, f"it was refused in block {place.height}")
        answer(receipt, Applied(receipt.digest, place.height, place.position))

    def run(
        self,
        program: Path,
        home: Home,
        settings: Settings,
        announce: Callable[[], None],
        patience: Patience | None = None,
    ) -> None:
        """Listen for CometBFT and run it as a child until `stop`, in a thread that nothing else runs in.

        `announce` is called, in this thread, when a header has been certified, and when `fault` may be another one.

        Raises:
            EngineError: CometBFT cannot be started. KeyFileError: it must not be, see `home.check`.
            StoreError: a block cannot be written.
        """
        self._announce = announce
        with _rarely_collected():
            asyncio.run(self._run(program, home, settings, patience))

    def stop(self) -> None:
        """Let `run` end, from any thread."""
        self._ending.set()
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._stopped.set)

    async def _run(self, program: Path, home: Home, settings: Settings, patience: Patience | None) -> None:
        self._loop, self._look, self._stopped = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        if self._ending.is_set():
            return
        if self._due:
            self._look.set()
        try:
            async with listening(self._bridge, settings.application):
                child = Child(program, home, settings, self._hear, patience)
                tasks = [asyncio.create_task(one) for one in (child.run(), self._certify(), self._stopped.wait())]
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for one in tasks:
                        one.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                for one in done:
                    one.result()
        finally:
            self._loop = None

    def committed(self, block: Block, codes: Sequence[str], header: Header | None) -> None:
        """Acknowledge what was submitted here, and have the header certified."""
        with self._waiting:
            # Most nodes have submitted nothing of a block.
            some = enumerate(block.transactions) if self._receipts else ()
            found = [(at, self._receipts.pop(digest(raw), None)) for at, raw in some]
        for at, waiting in found:
            if waiting is not None:
                receipt = waiting[1]
                if codes[at]:
                    answer(receipt, Refused(codes[at], f"a rule refused it in block {block.height}"))
                else:
                    answer(receipt, Applied(receipt.digest, block.height, at + block.first))
        if header is not None:
            self._due.append(header.height)
            # The state is still that which the header names.
            if self._snapshot_every and header.height - self._snapped >= self._snapshot_every:
                self.snapshot()
                self._snapped = header.height
                if self._prune:
                    self.prune()
        if self._look is not None and self._due:
            self._look.set()
        if self.fault:
            # It takes part again, whatever was wrong.
            self.fault = ""
            self._announce()

    def begun(self, header: Header) -> None:
        """Have the header of the snapshot certified with which the ledger has begun."""
        self._due.append(header.height)
        self._snapped = header.height

    def refused(self, name: bytes, refusal: Refused) -> None:
        """Answer for a transaction that the pool lets go."""
        found = self._forget(name)
        if found is not None:
            answer(found, refusal)

    def _forget(self, name: bytes) -> Receipt | None:
        with self._waiting:
            found = self._receipts.pop(name, None)
        return None if found is None else found[1]

    async def _certify(self) -> None:
        """Certify headers as soon as the blocks after theirs are there."""
        assert self._look is not None
        while True:
            await self._look.wait()
            self._look.clear()
            while self._due and self._due[0] < self._application.height:
                height = self._due[0]
                try:
                    await asyncio.to_thread(self._certify_one, height)
                except (EngineError, Malformed, GovernError) as error:
                    if isinstance(error, StoreError):
                        raise
                    log.debug("header %d cannot be certified yet: %s", height, error)
                    await asyncio.sleep(RETRY)
                    continue
                self._due.pop(0)
                self._announce()

    def _certify_one(self, height: int) -> None:
        """Ask CometBFT for the block after a header's own, and keep it as the header's certificate."""
        due = height + 1
        # Blocks that follow one another share a set.
        first = self._following if self._following[0] == due else (due, self._rpc.validators(due))
        self._following = due + 1, self._rpc.validators(due + 1)
        sets = first[1], self._following[1]
        certificate = certificate_of(self._rpc.commit(due), *sets)
        check_commit(chain_id_of(self.origin.digest), certificate)
        with self._lock:
            signed = self._store.header(height)
            if signed is None or certificate.header.app_hash != signed.header.hash:
                raise Malformed(f"block {due} of CometBFT does not certify header {height}")
            self._store.certify(height, encode_certificate(certificate))
            self._head = signed.header

    async def _send_again(self) -> None:
        """Hand over what waits once more: CometBFT's pool does not outlive its process."""
        while True:
            with self._waiting:
                waiting = list(self._receipts.items())
            try:
                for name, (raw, _) in waiting:
                    found = await asyncio.to_thread(self._rpc.broadcast_tx_sync, raw)
                    if found.code:
                        self.refused(name, Refused(found.codespace, found.log))
                return
            except (EngineError, NodeBusy, Unacknowledged):
                await asyncio.sleep(RETRY)

    def _hear(self, news: News) -> None:
        if isinstance(news, Started):
            log.info("CometBFT runs, process %d", news.pid)
            with self._lock:
                # Its pool is empty: what waited in that of the one before counts no more.
                self._application.recheck(())
            if self._receipts and self._loop is not None:
                self._sending = self._loop.create_task(self._send_again())
        elif isinstance(news, Ended):
            self.fault = f"CometBFT ended with {news.code} after {news.ran:.0f} s"
            log.error("%s: it is started again in %.0f s", self.fault, news.pause)
        elif isinstance(news, ConsensusFailure):
            self.fault = f"CometBFT takes part no more: {news.line}"
            log.error("%s", self.fault)
        elif isinstance(news, StandsStill):
            self.fault = f"block {news.height} is the last one, for {news.seconds:.0f} s"
            log.error("%s: too few validators are there, or this one is cut off", self.fault)
        elif isinstance(news, GoesOn):
            self.fault = ""
            log.info("there are blocks again: %d", news.height)
        self._announce()


@contextlib.contextmanager
def _rarely_collected() -> Iterator[None]:
    """Have Python look for cycles rarely, and not among what is there: records live long, and are in none.

    At its own thresholds that takes a tenth of a busy ledger's time.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
