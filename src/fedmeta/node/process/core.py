"""The core: it has the member's keys, follows the ledger, and does what its reducer says; it only dials out."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from fedmeta.errors import FedmetaError
from fedmeta.govern.client import keyfile
from fedmeta.govern.errors import Refused
from fedmeta.govern.wire.signatures import digest, tagged
from fedmeta.govern.wire.transactions import kind_of
from fedmeta.node.disk.journal import Journal
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import (
    BadChunk,
    DiskError,
    FolderInUse,
    JournalDamaged,
    JournalFailed,
    MessageRefused,
    SealError,
)
from fedmeta.node.member.config import Config, read, share
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process.approving import Approving
from fedmeta.node.process.desk import Desk
from fedmeta.node.process.duties import DONE_BY, ROOM, Duties
from fedmeta.node.process.gate import SOCKET
from fedmeta.node.process.gatekeeping import Gatekeeping
from fedmeta.node.process.jobs import HALTED, Jobs
from fedmeta.node.process.ledger import STATE, Ledger
from fedmeta.node.process.moves import Moves
from fedmeta.node.process.own import strange
from fedmeta.node.process.shared import SharedJournal, SharedStore
from fedmeta.node.process.status import STATUS, Status
from fedmeta.node.reducer import learn, promises_of, step
from fedmeta.node.reducer.actions import Action, Append, Cancel, Halt, Submit, Tell
from fedmeta.node.reducer.events import Broken, Done, Event, Failed, Limits, Room, Seen, Start, Stop, Tick
from fedmeta.node.reducer.promises import Promise, Started, decode, encode
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.dialling import Dialler
from fedmeta.node.transport.peer import Client
from fedmeta.node.wire.sealing import SealKey

log = logging.getLogger("fedmeta.node")

JOURNAL_BYTES = 1 << 20
"""Taken on the disk when the node is made, twice: a full disk stops no promise."""

TICK = 0.25
"""Seconds from one look at the clock to the next."""


def serve(arguments: dict[str, Any]) -> int:
    """Run until it is told to end, or must not go on.

    Args:
        arguments: `folder`, the node's; `trainer`, the descriptor of the socket to the trainer.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = read(Path(arguments["folder"]))
        with socket.socket(fileno=arguments["trainer"]) as trainer:
            return asyncio.run(_serve(config, trainer))
    except (FolderInUse, JournalDamaged) as error:
        # To begin again would help neither.
        print(f"fedmeta: {error}", file=sys.stderr)
        return HALTED
    except FedmetaError as error:
        print(f"fedmeta: the core: {error}", file=sys.stderr)
        return 1


async def _serve(config: Config, trainer: socket.socket) -> int:
    core = Core(config, trainer)
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, core.stop)
    return await core.run()


def open_journal(folder: Path) -> tuple[Journal, list[bytes]]:
    """Return a core's journal and what stands in it; a new one where the core has never run.

    Raises:
        FolderInUse: another core has it.
        JournalDamaged: it cannot be read; or it is gone, and there are traces of a core that has had one.
    """
    path = folder / "journal"
    if path.exists():
        return Journal.open(path)
    if (folder / STATE).exists() or (folder / STATUS).exists():
        raise JournalDamaged(
            f"{path} is gone, and this node has worked: what it has promised is not known. `fedmeta node recover` "
            "begins anew with a new machine key, by the account's key"
        )
    return Journal.create(path, JOURNAL_BYTES), []


class Core:
    """What surrounds the reducer: the journal, the blobs, the ledger, the gate, the trainer and the clock."""

    def __init__(self, config: Config, trainer: socket.socket):
        self.desk = desk = Desk(config)
        key = keyfile.load(config.path(config.keys.machine))
        secret = config.path(config.keys.secret).read_bytes()
        genesis, folder = config.ledger.genesis, desk.folder
        journal, entries = open_journal(folder.core)
        self.journal = SharedJournal(journal)
        self.promises: list[Promise] = [decode(one) for one in entries]
        self.store = SharedStore(BlobStore(folder.core / "blobs", share(config)))
        self.outbox = Outbox(folder.outbox)
        self.ledger = Ledger(config, key, folder.core, desk.told_from_thread(Seen), desk.told_from_thread(Broken))
        moves = Moves(
            genesis,
            config.member,
            key,
            SealKey.from_seed(tagged("seal-key", secret, key.public)),
            self.store,
            Client(Dialler(config.route, known=desk.has_tls_key), genesis, config.member, key, desk.height),
            folder.gate / SOCKET if config.listens else None,
            self._record,
        )
        self.jobs = Jobs(trainer, self._without_trainer)
        self.duties = Duties(desk, secret, self.journal, self.store, moves, self.jobs)
        self.approving = Approving(desk, self.jobs, self.store)
        self.gatekeeping = Gatekeeping(desk, moves)
        self.status = Status(desk, self.ledger)
        self._tasks: dict[int, asyncio.Task] = {}
        self._appended: dict[int, Promise] = {}
        self._own = key.public, Certificate.load(folder.tls).fingerprint, config.listens

    def stop(self) -> None:
        """End soon: nothing new is begun."""
        self.desk.tell(Stop())

    def _without_trainer(self, why: str) -> None:
        log.warning("%s: the node starts anew", why)
        self.desk.end(1)

    # The course of things.

    async def run(self) -> int:
        """Go on until there is a reason to end, and return the exit code."""
        started = max((one.start for one in self.promises if isinstance(one, Started)), default=0) + 1
        if self.journal.free < ROOM:
            # However often it was started in vain, it can be started.
            known = learn(self.desk.memory, Start(started, tuple(self.promises), frozenset(), frozenset(), ()))
            await asyncio.to_thread(self.journal.keep, [encode(one) for one in promises_of(known)])
        await asyncio.to_thread(self.journal.append, encode(Started(started)))
        self.ledger.start()
        others = [asyncio.create_task(lasting(one)) for one in self._lasting()]
        self._happens(self._start(started))
        try:
            while self.desk.code is None:
                event = await self.desk.events.get()
                self._happens(event)
                if isinstance(event, Stop):
                    self.desk.code = 0
        finally:
            await self._end(others)
        return self.desk.code

    def _lasting(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """Return what goes on as long as the core does."""
        found = [self._tick, self.approving.watch, self.status.keep]
        if self.desk.config.listens:
            found += [self.gatekeeping.listen, self.gatekeeping.stand, self.gatekeeping.pass_on]
        if self.desk.config.metrics.port:
            found.append(self.status.serve)
        return found

    async def _end(self, others: list[asyncio.Task]) -> None:
        for one in (*others, *self._tasks.values()):
            one.cancel()
        await asyncio.gather(*others, *self._tasks.values(), return_exceptions=True)
        self.ledger.stop()
        self.close()
        with contextlib.suppress(OSError):
            self.status.write()

    def close(self) -> None:
        """Let go of the trainer and of the disk."""
        self.approving.close()
        self.jobs.close()
        self.journal.close()
        self.store.close()

    def _start(self, started: int) -> Start:
        models, updates = set(), set()
        for name in self.store.names():
            if not self.store.complete(name):
                continue
            kind, _, rest = name.partition("/")
            if kind == "model":
                models.add(bytes.fromhex(rest))
            elif kind == "update":
                round, member = rest.split("/")
                updates.add((int(round), member))
        mbits = self.desk.config.network.bandwidth
        limits = Limits(self.store.free, int(mbits * 125_000)) if mbits else Limits(self.store.free)
        return Start(started, tuple(self.promises), frozenset(models), frozenset(updates), (), limits)

    def _happens(self, event: Event) -> None:
        now: list[Event] = [Tick(time.monotonic_ns() // 1_000_000)]
        if isinstance(event, Seen):
            self.desk.figures.seen(event.view)
            self.desk.saw(event.view)
            now.append(Room(self.store.free))
            self.desk.warn("own", "; ".join(strange(event.view.me, event.view.peers.get(event.view.me), *self._own)))
        for one in (*now, event):
            self.desk.memory, actions = step(self.desk.memory, one)
            for action in actions:
                self._do(action)
        if isinstance(event, Done) and event.number in self._appended:
            self.duties.heard(self._appended.pop(event.number))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.desk.tell(Tick(time.monotonic_ns() // 1_000_000))

    # What is done.

    def _do(self, action: Action) -> None:
        duty = action.duty
        if isinstance(duty, Tell):
            log.log(logging.WARNING if duty.alarm else logging.INFO, "%s", duty.text)
            self.desk.figures.tell(duty.text, duty.alarm)
        elif isinstance(duty, Halt):
            log.error("halted: %s", duty.why)
            self.desk.figures.tell(f"halted: {duty.why}", True)
            self.desk.code = HALTED
        elif isinstance(duty, Cancel):
            if task := self._tasks.get(duty.number):
                task.cancel()
        elif isinstance(duty, Submit):
            self._submit(action, duty)
        else:
            if isinstance(duty, Append):
                self._appended[action.number] = duty.promise
            self._tasks[action.number] = asyncio.create_task(self._answer(action))

    async def _answer(self, action: Action) -> None:
        try:
            event: Event = Done(action.start, action.number, await DONE_BY[type(action.duty)](self.duties, action.duty))
            self.desk.figures.done(action.duty)
        except asyncio.CancelledError:
            return
        except JournalFailed as error:
            event = Broken(str(error))
        except (MessageRefused, BadChunk, SealError) as error:
            event = Failed(action.start, action.number, str(error), final=True)
            self._complain(action, error)
        except (FedmetaError, OSError, TimeoutError) as error:
            event = Failed(action.start, action.number, str(error) or type(error).__name__)
            self._complain(action, error)
        except Exception as error:
            # A duty that nobody answers for would be under way for ever.
            event = Failed(action.start, action.number, f"{type(error).__name__}: {error}")
            log.exception("%s", type(action.duty).__name__)
            self.desk.figures.failed(action.duty, type(error).__name__)
        finally:
            self._tasks.pop(action.number, None)
        self.desk.tell(event)

    def _complain(self, action: Action, error: BaseException) -> None:
        if isinstance(error, DiskError):
            self.desk.warn("disk", str(error))
        log.info("%s: %s", type(action.duty).__name__, error or type(error).__name__)
        self.desk.figures.failed(action.duty, str(error) or type(error).__name__)

    def _submit(self, action: Action, duty: Submit) -> None:
        kind, round = kind_of(duty.body), getattr(duty.body, "round", None)

        def before(raw: bytes, address: str) -> None:
            what = "commitment" if kind == "commit-update" else "transaction"
            why = "a duty of the round" if round else "to contribute"
            self._record(address, what, kind, len(raw), digest(raw), round, why)

        def answer(error: Exception | None) -> None:
            if error is None:
                self.desk.figures.done(duty)
                event: Event = Done(action.start, action.number)
            else:
                if not (isinstance(error, Refused) and error.code == "already-done"):
                    log.info("%s: %s", kind, error)
                event = Failed(action.start, action.number, str(error))
            self.desk.tell_later(event)

        self.ledger.submit(duty.body, before, answer)

    def _record(self, to: str, what: str, detail: str, size: int, content: bytes, round: int | None, why: str) -> None:
        self.outbox.record(to=to, what=what, size=size, digest=content, why=why, round=round, detail=detail)


async def lasting(work: Callable[[], Awaitable[None]]) -> None:
    """Let work go on as long as the core does, whatever befalls it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("what must go on has failed, and begins again")
        await asyncio.sleep(1.0)
