"""The core: it has the member's keys, follows the ledger, and does what its reducer says; it only dials out."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from fedmeta._files import write_atomically
from fedmeta.errors import FedmetaError
from fedmeta.govern.client import keyfile
from fedmeta.govern.errors import Refused
from fedmeta.govern.wire.signatures import digest, tagged
from fedmeta.govern.wire.transactions import kind_of
from fedmeta.node.disk.journal import Journal
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import (
    BadChunk,
    BlobCorrupt,
    DiskError,
    FolderInUse,
    JournalFailed,
    MemberError,
    MessageRefused,
    NotDone,
    NotKept,
    RequestRefused,
    SealError,
    Unreachable,
)
from fedmeta.node.member import policy as policies
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.config import Config, read, share
from fedmeta.node.member.folder import Folder
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process import jobs
from fedmeta.node.process.gate import SOCKET
from fedmeta.node.process.jobs import HALTED
from fedmeta.node.process.ledger import Ledger
from fedmeta.node.process.metrics import Figures, serve_metrics
from fedmeta.node.process.moves import SALT, Moves, Opened, model_name, opens, own_name, scoring_name
from fedmeta.node.process.own import strange
from fedmeta.node.process.shared import SharedJournal, SharedStore
from fedmeta.node.reducer import Memory, View, learn, promises_of, step
from fedmeta.node.reducer.actions import (
    Action,
    Aggregate,
    Append,
    Cancel,
    Drop,
    DropModels,
    FetchModel,
    Halt,
    Pull,
    Push,
    Submit,
    Take,
    Tell,
    Train,
)
from fedmeta.node.reducer.events import (
    Approval,
    Approved,
    Arrived,
    Broken,
    Done,
    Event,
    Failed,
    Limits,
    Lost,
    Revoked,
    Room,
    Seen,
    Start,
    Stop,
    Tick,
)
from fedmeta.node.reducer.promises import Promise, Started, decode, encode
from fedmeta.node.transport import standing
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.dialling import Dialler
from fedmeta.node.transport.local import LocalGate
from fedmeta.node.transport.peer import Client
from fedmeta.node.wire.chunks import CHUNK, Blob
from fedmeta.node.wire.sealing import SealKey

log = logging.getLogger("fedmeta.node")

JOURNAL_BYTES = 1 << 20
"""Taken on the disk when the node is made, twice: a full disk stops no promise."""

ROOM = 1 << 17
"""Bytes that the journal has left when what no longer binds is taken out of it."""

TICK = 0.25
"""Seconds from one look at the clock to the next."""

UNREACHED = 5
"""Seconds without the ledger after which it is said."""

LOOK = 2.0
"""Seconds from one look at the approvals to the next."""

STATUS = "status.json"
"""The file in the core's folder that says how the node is."""

AGAIN = 2.0
"""Seconds from one time that updates' keys are wrapped for other seats to the next."""

ARRIVALS = 20
"""Seconds that the gate is asked to wait for something new."""


def round_secret(secret: bytes, genesis: bytes, round: int) -> bytes:
    """Return what a round's draws come from, 32 bytes: the trainer is given no more of the member's secret."""
    return hmac.new(secret, b"round" + genesis + round.to_bytes(8, "big"), hashlib.sha256).digest()


def serve(arguments: dict[str, Any]) -> int:
    """Run until it is told to end, or must not go on.

    Args:
        arguments: `folder`, the node's; `trainer`, the descriptor of the socket to the trainer.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = read(Path(arguments["folder"]))
        return asyncio.run(_serve(config, socket.socket(fileno=arguments["trainer"])))
    except FolderInUse as error:
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


class Core:
    """What surrounds the reducer: the journal, the blobs, the ledger, the gate, the trainer and the clock."""

    def __init__(self, config: Config, trainer: socket.socket):
        self.config, folder = config, Folder(config.folder)
        self.folder = folder
        key = keyfile.load(config.path(config.keys.machine))
        secret = config.path(config.keys.secret).read_bytes()
        journal, entries = self._open_journal(folder.core / "journal")
        self.journal = SharedJournal(journal)
        self.promises: list[Promise] = [decode(one) for one in entries]
        self.store = SharedStore(BlobStore(folder.core / "blobs", share(config)))
        self.outbox = Outbox(folder.outbox)
        self.genesis, self._secret = config.ledger.genesis, secret
        self.memory = Memory(config.member)
        self.figures = Figures()
        self.ledger = Ledger(config, key, folder.core, self._from_thread(Seen), self._from_thread(Broken))
        client = Client(Dialler(config.route), self.genesis, config.member, key, self._height)
        self.moves = Moves(
            self.genesis,
            config.member,
            key,
            SealKey.from_seed(tagged("seal-key", secret, key.public)),
            self.store,
            client,
            folder.gate / SOCKET if config.listens else None,
            self._record,
        )
        self._trainer, self._jobs = trainer, ThreadPoolExecutor(1, "trainer")
        self._appending, self._unheard = asyncio.Lock(), dict[int, Promise]()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task] = {}
        self._procedures: dict[bytes, bytes] = {}
        self._approved: dict[bytes, Approval] = {}
        self._warned: dict[str, str] = {}
        self._own = key.public, Certificate.load(folder.tls).fingerprint, config.listens
        self._stands: Any = None
        self._code: int | None = None
        self._unreached = 0

    @staticmethod
    def _open_journal(path: Path) -> tuple[Journal, list[bytes]]:
        if path.exists():
            return Journal.open(path)
        return Journal.create(path, JOURNAL_BYTES), []

    def _from_thread(self, kind: Callable[[Any], Event]) -> Callable[[Any], None]:
        def tell(value: Any) -> None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, kind(value))

        return tell

    def _height(self) -> int:
        return self.memory.view.height if self.memory.view else 0

    def stop(self) -> None:
        """End soon: nothing new is begun."""
        self._events.put_nowait(Stop())

    # The course of things.

    async def run(self) -> int:
        """Go on until there is a reason to end, and return the exit code."""
        started = max((one.start for one in self.promises if isinstance(one, Started)), default=0) + 1
        if self.journal.free < ROOM:
            # However often it was started in vain, it can be started.
            known = learn(self.memory, Start(started, tuple(self.promises), frozenset(), frozenset(), ()))
            await asyncio.to_thread(self.journal.keep, [encode(one) for one in promises_of(known)])
        await asyncio.to_thread(self.journal.append, encode(Started(started)))
        self.ledger.start()
        lasting = [self._tick, self._watch_approvals, self._keep_status]
        if self.config.listens:
            lasting += [self._listen, self._stand, self._pass_on]
        if self.config.metrics.port:
            lasting.append(self._serve_metrics)
        others = [asyncio.create_task(self._lasting(one)) for one in lasting]
        self._happens(self._start(started))
        try:
            while self._code is None:
                event = await self._events.get()
                self._happens(event)
                if isinstance(event, Stop):
                    self._code = 0
        finally:
            for one in (*others, *self._tasks.values()):
                one.cancel()
            await asyncio.gather(*others, *self._tasks.values(), return_exceptions=True)
            self.ledger.stop()
            self._end_jobs()
            self.journal.close()
            self.store.close()
            with contextlib.suppress(OSError):
                self._write_status()
        return self._code

    async def _serve_metrics(self) -> None:
        port = self.config.metrics.port
        try:
            await serve_metrics(port, self.figures, self.status)
        except OSError as error:
            self._warn("metrics", f"no metrics are served at port {port}: {error.strerror}")

    async def _lasting(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let work go on as long as the core does, whatever befalls it."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("what must go on has failed, and begins again")
            await asyncio.sleep(1.0)

    def _end_jobs(self) -> None:
        """Let nobody wait for the trainer any more, whatever it is at."""
        with contextlib.suppress(OSError):
            self._trainer.shutdown(socket.SHUT_RDWR)
        self._jobs.shutdown(wait=False, cancel_futures=True)

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
        mbits = self.config.network.bandwidth
        limits = Limits(self.store.free, int(mbits * 125_000)) if mbits else Limits(self.store.free)
        return Start(started, tuple(self.promises), frozenset(models), frozenset(updates), (), limits)

    def _happens(self, event: Event) -> None:
        now: list[Event] = [Tick(time.monotonic_ns() // 1_000_000)]
        if isinstance(event, Seen):
            self.figures.seen(event.view)
            self._stands = None
            now.append(Room(self.store.free))
            self._warn("own", "; ".join(strange(event.view.me, event.view.peers.get(event.view.me), *self._own)))
        for one in (*now, event):
            self.memory, actions = step(self.memory, one)
            for action in actions:
                self._do(action)
        if isinstance(event, Done):
            self._unheard.pop(event.number, None)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._events.put_nowait(Tick(time.monotonic_ns() // 1_000_000))

    # What is done.

    def _do(self, action: Action) -> None:
        duty = action.duty
        if isinstance(duty, Tell):
            log.log(logging.WARNING if duty.alarm else logging.INFO, "%s", duty.text)
            self.figures.tell(duty.text, duty.alarm)
        elif isinstance(duty, Halt):
            log.error("halted: %s", duty.why)
            self.figures.tell(f"halted: {duty.why}", True)
            self._code = HALTED
        elif isinstance(duty, Cancel):
            if task := self._tasks.get(duty.number):
                task.cancel()
        elif isinstance(duty, Submit):
            self._submit(action, duty)
        else:
            if isinstance(duty, Append):
                self._unheard[action.number] = duty.promise
            self._tasks[action.number] = asyncio.create_task(self._answer(action))

    async def _answer(self, action: Action) -> None:
        try:
            event: Event = Done(action.start, action.number, await _WORK[type(action.duty)](self, action.duty))
            self.figures.done(action.duty)
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
            self.figures.failed(action.duty, type(error).__name__)
        finally:
            self._tasks.pop(action.number, None)
        self._events.put_nowait(event)

    def _complain(self, action: Action, error: BaseException) -> None:
        if isinstance(error, DiskError):
            self._warn("disk", str(error))
        log.info("%s: %s", type(action.duty).__name__, error or type(error).__name__)
        self.figures.failed(action.duty, str(error) or type(error).__name__)

    def _submit(self, action: Action, duty: Submit) -> None:
        kind, round = kind_of(duty.body), getattr(duty.body, "round", None)

        def before(raw: bytes, address: str) -> None:
            what = "commitment" if kind == "commit-update" else "transaction"
            why = "a duty of the round" if round else "to contribute"
            self._record(address, what, kind, len(raw), digest(raw), round, why)

        def answer(error: Exception | None) -> None:
            if error is None:
                self.figures.done(duty)
                event: Event = Done(action.start, action.number)
            else:
                if not (isinstance(error, Refused) and error.code == "already-done"):
                    log.info("%s: %s", kind, error)
                event = Failed(action.start, action.number, str(error))
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

        self.ledger.submit(duty.body, before, answer)

    def _record(self, to: str, what: str, detail: str, size: int, content: bytes, round: int | None, why: str) -> None:
        self.outbox.record(to=to, what=what, size=size, digest=content, why=why, round=round, detail=detail)

    async def _append(self, duty: Append) -> None:
        async with self._appending:
            if self.journal.free < ROOM:
                # What no longer binds makes room; what does stays, in one flush, also what was flushed a moment ago.
                binding = [*promises_of(self.memory), *self._unheard.values()]
                await asyncio.to_thread(self.journal.keep, [encode(one) for one in binding])
            await asyncio.to_thread(self.journal.append, encode(duty.promise))

    async def _train(self, duty: Train) -> tuple[bytes, int, bytes]:
        state = await self._model(duty.model)
        secret = round_secret(self._secret, self.genesis, duty.round)
        blobs = [self._procedures[duty.recipe], state, secret]
        _, (message,) = await self._job("train", blobs, round=duty.round, seat=self.config.listens)
        salt = secrets.token_bytes(SALT)
        name = own_name(duty.round, self.config.member)
        await asyncio.to_thread(self.store.replace, name, salt + message)
        return Blob.of(message).id, len(message), salt

    async def _model(self, model: bytes) -> bytes:
        """Return a model; one that the disk has damaged is fetched again."""
        try:
            return await asyncio.to_thread(self.store.read, model_name(model))
        except (BlobCorrupt, NotKept) as error:
            self._events.put_nowait(Lost(models=frozenset([model])))
            raise DiskError(f"{error}: it is fetched again") from error

    async def _held(self, origin: int, member: str) -> bytes:
        """Return an update's salt and message; one that the disk has damaged is taken or fetched again."""
        try:
            return await asyncio.to_thread(self.store.read, own_name(origin, member))
        except (BlobCorrupt, NotKept) as error:
            self._events.put_nowait(Lost(updates=frozenset([(origin, member)])))
            raise DiskError(f"{error}: it is fetched again") from error

    async def _push(self, duty: Push) -> None:
        try:
            await self.moves.push(self._view, duty.round, duty.origin, duty.seat)
        except (BlobCorrupt, NotKept):
            # What is sealed is sealed anew; what it is made of may be lost, and then a person must hear of it.
            await self._held(duty.origin, self.config.member)
            raise

    async def _take(self, duty: Take) -> None:
        try:
            opened = await self.moves.take(self._view, duty.origin, duty.member)
        except (BlobCorrupt, NotKept) as error:
            self._events.put_nowait(Lost(arrived=frozenset([(duty.origin, duty.member)])))
            raise DiskError(f"{error}: it is fetched from another seat") from error
        await self._check(duty, opened)
        self.moves.opened(opened)

    async def _pull(self, duty: Pull) -> None:
        opened = await self.moves.pull(self._view, duty.origin, duty.member, duty.source)
        await self._check(duty, opened)
        await self.moves.keep(opened)

    async def _check(self, duty: Take | Pull, opened: Opened) -> None:
        """Keep an update if it is what was committed to, and well formed."""
        plain = opened.plain
        opens(self._view, duty.origin, duty.member, duty.digest, plain)
        await self._job("check", [self._procedures[duty.recipe], plain[SALT:]])
        await asyncio.to_thread(self.store.replace, own_name(duty.origin, duty.member), plain)

    async def _aggregate(self, duty: Aggregate) -> tuple[bytes, tuple[int, ...], bytes]:
        view = self._view
        state = await self._model(duty.model)
        plains = [await self._held(view.updates[one].origin, one) for one in duty.members]
        messages = [memoryview(plain)[SALT:] for plain in plains]
        # What is computed once more is compared by its result: its scores are those of the first time.
        score, worth = duty.check == 0, scoring_name(duty.recipe)
        before = await asyncio.to_thread(self._kept_scoring, worth)
        answer, (after, memory) = await self._job(
            "aggregate",
            [self._procedures[duty.recipe], state, before, *messages],
            round=duty.round,
            members=list(duty.members),
            own=list(duty.own),
            budget=duty.budget,
            score=score,
        )
        if answer["unscored"]:
            log.warning("round %d is not scored, all get the same: %s", duty.round, answer["unscored"])
        if memory and memory != before:
            await asyncio.to_thread(self._keep_scoring, worth, memory)
        result = Blob.of(after).id
        name = model_name(result)
        if self.store.blob(name) is None or not self.store.complete(name):
            await asyncio.to_thread(self.store.replace, name, after)
        await self.moves.publish(result)
        return result, tuple(answer["scores"]), secrets.token_bytes(SALT)

    def _kept_scoring(self, name: str) -> bytes:
        """Return what the scoring of earlier rounds gave; nothing where the disk has lost it."""
        try:
            return self.store.read(name) if self.store.blob(name) is not None else b""
        except (BlobCorrupt, NotKept) as error:
            log.warning("what was kept of earlier rounds' scores is lost: %s", error)
            return b""

    def _keep_scoring(self, name: str, memory: bytes) -> None:
        try:
            self.store.replace(name, memory)
        except DiskError as error:
            log.warning("the next rounds are scored without this one: %s", error)

    async def _fetch_model(self, duty: FetchModel) -> None:
        reasons = []
        for source in duty.sources:
            try:
                await self.moves.fetch_model(self._view, duty.model, source)
            except DiskError:
                # It is here that it fails: nobody else's copy is smaller.
                raise
            except MemberError as error:
                reasons.append(f"{source}: {error}")
            else:
                await self.moves.publish(duty.model)
                return
        raise Unreachable(
            f"model {duty.model.hex()[:12]} is at none of them: {'; '.join(reasons) or 'no seat listens'}"
        )

    async def _drop(self, duty: Drop) -> None:
        await self.moves.forget_rounds(duty.before, duty.keep)

    async def _drop_models(self, duty: DropModels) -> None:
        await self.moves.forget_models(duty.keep)

    @property
    def _view(self) -> View:
        assert self.memory.view is not None
        return self.memory.view

    async def _job(
        self, job: str, blobs: Sequence[bytes | memoryview], **head: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Let the trainer do something; one thing at a time. What is cancelled before it is begun is not asked."""

        def ask() -> tuple[dict[str, Any], list[bytes]]:
            jobs.send(self._trainer, {"job": job, **head}, blobs)
            return jobs.receive(self._trainer)

        try:
            # In a thread of their own: jobs that wait for one another must not keep a promise from the disk.
            answer, given = await asyncio.get_running_loop().run_in_executor(self._jobs, ask)
        except (EOFError, OSError) as error:
            self._code = 1
            self._events.put_nowait(Tick(0))
            raise Unreachable(f"the trainer has ended: {error}") from error
        if "refused" in answer:
            raise MessageRefused(answer["refused"])
        if "failed" in answer:
            raise NotDone(answer["failed"])
        return answer, given

    # Approvals.

    async def _watch_approvals(self) -> None:
        """Tell the reducer of what a person approves and revokes, and of what has ended."""
        while True:
            try:
                await self._look_at_approvals()
            except FedmetaError as error:
                log.warning("approvals: %s", error)
            await asyncio.sleep(LOOK)

    async def _look_at_approvals(self) -> None:
        today = date.today()
        latest = await asyncio.to_thread(Approvals(self.folder.approvals).latest)
        holding = {one.digest: one for one in latest.values() if one.holds(today)}
        self._warn("approvals", "" if holding else "no procedure is approved: `fedmeta node approve`; without, no duty")
        for recipe in [one for one in self._approved if one not in holding]:
            del self._approved[recipe]
            log.warning("recipe %s is approved no more", recipe.hex()[:12])
            self._events.put_nowait(Revoked(recipe))
        for recipe, before in list(self._approved.items()):
            now = replace(before, contributes=holding[recipe].contributes and bool(self.config.data.paths))
            if now != before:
                self._approved[recipe] = now
                log.info("recipe %s: %s", recipe.hex()[:12], "contributes" if now.contributes else "only aggregates")
                self._events.put_nowait(Approved(now))
        for recipe in sorted(set(holding) - set(self._approved)):
            approval = await self._examine(recipe, holding[recipe].contributes)
            if approval is not None:
                self._approved[recipe] = approval
                log.info("recipe %s is approved: %d bytes an update", recipe.hex()[:12], approval.message_bytes)
                self._events.put_nowait(Approved(approval))

    async def _examine(self, recipe: bytes, contributes: bool) -> Approval | None:
        """Return an approved procedure's sizes, or None where it is not here, or beyond the policy."""
        file = self.folder.procedure(recipe)
        if not file.exists():
            self._refuse(recipe, f"the bytes of procedure {recipe.hex()} are not in {self.folder.procedures}")
            return None
        content = await asyncio.to_thread(file.read_bytes)
        if digest(content) != recipe:
            self._refuse(recipe, f"{file} is not the procedure of its name")
            return None
        policy = asdict(policies.read(self.folder.path))
        plain = {name: list(one) if isinstance(one, tuple) else one for name, one in policy.items()}
        contributes = contributes and bool(self.config.data.paths)
        asked = {"policy": plain, "contributes": contributes, "seat": self.config.listens}
        try:
            found, _ = await self._job("describe", [content], **asked)
        except (MessageRefused, NotDone) as error:
            self._refuse(recipe, f"procedure {recipe.hex()[:12]} cannot be worked on with the data here: {error}")
            return None
        if found["reasons"]:
            self._refuse(recipe, f"the policy refuses procedure {recipe.hex()[:12]}: {'; '.join(found['reasons'])}")
            return None
        self._procedures[recipe] = content
        self._warned.pop(recipe.hex(), None)
        return Approval(recipe, found["message"], found["state"], contributes)

    def _refuse(self, recipe: bytes, why: str) -> None:
        self._warn(recipe.hex(), why)

    def _warn(self, about: str, why: str) -> None:
        """Say to the member's people what they should look at: once, until it is something else, or over."""
        if why and self._warned.get(about) != why:
            log.warning("%s", why)
            self.figures.tell(why, True)
        self._warned[about] = why

    # The gate.

    async def _listen(self) -> None:
        """Hear from the gate what has arrived."""
        known: set[tuple[int, str]] = set()
        while True:
            try:
                gate = await LocalGate.open(self.folder.gate / SOCKET)
            except (MemberError, OSError):
                await asyncio.sleep(0.5)
                continue
            try:
                seen = -1
                while True:
                    seen, arrivals = await gate.arrivals(seen, ARRIVALS)
                    whole = {(one.round, one.member) for one in arrivals if not one.missing}
                    for round, member in sorted(whole - known):
                        self._events.put_nowait(Arrived(round, member))
                    known = whole
            except (MemberError, OSError) as error:
                log.info("the gate: %s", error)
                known = set()
            finally:
                gate.close()

    async def _stand(self) -> None:
        """Tell the gate what it has to know: who the members are, at which height, and what may come."""
        while True:
            try:
                gate = await LocalGate.open(self.folder.gate / SOCKET)
            except (MemberError, OSError):
                await asyncio.sleep(0.5)
                continue
            try:
                told, shown = None, set[bytes]()
                while True:
                    now = self._standing()
                    if now is not None and now != told:
                        await gate.stand(now)
                        told = now
                    if told is not None:
                        await self._show(shown)
                    await asyncio.sleep(0.1)
            except (MemberError, OSError) as error:
                log.info("the gate: %s", error)
                await asyncio.sleep(0.5)
            finally:
                gate.close()

    async def _show(self, shown: set[bytes]) -> None:
        """Give the gate the models and procedures that are here; what cannot be given keeps nothing else from it."""
        for model in self.memory.models - shown:
            shown.add(model)
            try:
                await self.moves.publish(model)
            except (BlobCorrupt, NotKept):
                self._events.put_nowait(Lost(models=frozenset([model])))
                shown.discard(model)
            except (DiskError, RequestRefused) as error:
                log.warning("model %s is not at the gate: %s", model.hex()[:12], error)
        for recipe in set(self._procedures) - shown:
            shown.add(recipe)
            await self.moves.publish_procedure(self._procedures[recipe])

    async def _pass_on(self) -> None:
        """Let other seats open what is held here."""
        while True:
            try:
                if (view := self.memory.view) is not None and view.seat(view.me):
                    held = {name: one.origin for name, one in view.updates.items() if self.memory.holds(name)}
                    await self.moves.pass_on(view, held)
            except (MemberError, OSError) as error:
                log.info("wraps: %s", error)
            await asyncio.sleep(AGAIN)

    def _standing(self) -> standing.Standing | None:
        view = self.memory.view
        if view is None:
            return None
        if self._stands is None:
            expected, round = {}, view.live
            approval = self.memory.approvals.get(round.recipe) if round else None
            if round and approval and view.seat(view.me) and round.phase in ("deliver", "compute"):
                length = approval.message_bytes + SALT
                largest = length + 64 * (2 + length // (CHUNK - 16))
                expected = {(one.origin, member): largest for member, one in view.updates.items()}
            peers = {
                name: standing.Peer(peer.key, peer.fingerprints, "seat" if name in view.seated else "member")
                for name, peer in view.peers.items()
            }
            self._stands = standing.Standing(
                self.genesis, view.me, view.height, standing.WINDOW, peers, expected, self.moves.card
            )
        return self._stands

    # How it is.

    async def _keep_status(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._look_at_ledger()
            await asyncio.to_thread(self._write_status)

    def _look_at_ledger(self) -> None:
        self._unreached = self._unreached + 1 if self.ledger.trouble else 0
        if not self._unreached:
            self._warn("ledger", "")
        elif self._unreached == UNREACHED:
            self._warn("ledger", f"the ledger is not reached: {self.ledger.trouble}")

    def _write_status(self) -> None:
        write_atomically(self.folder.core / STATUS, json.dumps(self.status(), indent=1).encode())

    def status(self) -> dict[str, Any]:
        """Return how the node is, for people and programs; nothing of it is of data."""
        view, memory = self.memory.view, self.memory
        round = view.round if view else None
        return {
            "member": self.config.member,
            "role": self.config.role,
            "start": memory.start,
            "height": view.height if view else 0,
            "ledger": self.ledger.trouble or "reached",
            "round": round.number if round else 0,
            "phase": round.phase if round else "",
            "attempt": round.attempt if round else 0,
            "in_cohort": bool(view and round and any(one.member == view.me for one in round.cohort)),
            "seat": bool(view and view.seat(view.me)),
            "approved": [one.hex() for one in sorted(memory.approvals)],
            "models": [one.hex() for one in sorted(memory.models)],
            "under_way": sorted(type(one.duty).__name__ for one in memory.busy.values()),
            "silent_until": memory.silent_until,
            "halted": memory.halted,
            **self.figures.status(),
        }


_WORK: dict[type, Callable[[Core, Any], Awaitable[Any]]] = {
    Append: Core._append,
    Train: Core._train,
    Push: Core._push,
    Take: Core._take,
    Pull: Core._pull,
    Aggregate: Core._aggregate,
    FetchModel: Core._fetch_model,
    Drop: Core._drop,
    DropModels: Core._drop_models,
}
"""How each duty is done."""
