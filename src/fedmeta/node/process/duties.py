"""How each duty is done that the reducer asks for."""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from fedmeta.node.errors import BlobCorrupt, DiskError, MemberError, NotKept, Unreachable
from fedmeta.node.process.desk import Desk
from fedmeta.node.process.jobs import Jobs
from fedmeta.node.process.moves import SALT, Moves, Opened, model_name, opens, own_name, scoring_name
from fedmeta.node.process.shared import SharedJournal, SharedStore
from fedmeta.node.reducer import promises_of
from fedmeta.node.reducer.actions import (
    Aggregate,
    Append,
    Drop,
    DropModels,
    FetchModel,
    Pull,
    Push,
    Take,
    Train,
)
from fedmeta.node.reducer.events import Lost
from fedmeta.node.reducer.promises import Promise, encode
from fedmeta.node.wire.chunks import Blob

log = logging.getLogger("fedmeta.node")

ROOM = 1 << 17
"""Bytes that the journal has left when what no longer binds is taken out of it."""

SCORING = 3
"""The part of the window's time that scoring may take: a third."""


def round_secret(secret: bytes, genesis: bytes, round: int) -> bytes:
    """Return what a round's draws come from, 32 bytes: the trainer is given no more of the member's secret."""
    return hmac.new(secret, b"round" + genesis + round.to_bytes(8, "big"), hashlib.sha256).digest()


class Duties:
    """What can be done; each by a method, which `DONE_BY` names.

    Args:
        desk: The core's.
        secret: The member's.
        journal: Where promises stand.
        store: The core's own blobs.
        moves: What brings blobs elsewhere and fetches them.
        jobs: What the trainer does.
    """

    def __init__(self, desk: Desk, secret: bytes, journal: SharedJournal, store: SharedStore, moves: Moves, jobs: Jobs):
        self._desk, self._secret, self._journal = desk, secret, journal
        self._store, self._moves, self._jobs = store, moves, jobs
        self._appending = asyncio.Lock()
        self._unheard: dict[Promise, None] = {}
        """What was asked to be promised, and the reducer has not heard that it is."""

    def heard(self, promise: Promise) -> None:
        """Note that the reducer knows of a promise: what binds is asked of it from now on."""
        self._unheard.pop(promise, None)

    async def append(self, duty: Append) -> None:
        """Write a promise to the journal; it stands on the disk when this returns."""
        self._unheard[duty.promise] = None
        async with self._appending:
            if self._journal.free < ROOM:
                # What no longer binds makes room; what does stays, in one flush, also what was flushed a moment ago.
                binding = [*promises_of(self._desk.memory), *self._unheard]
                await asyncio.to_thread(self._journal.keep, [encode(one) for one in binding])
            await asyncio.to_thread(self._journal.append, encode(duty.promise))

    async def train(self, duty: Train) -> tuple[bytes, int, bytes]:
        """Make one's update of a round; return its content's digest, its length in bytes, and its salt."""
        state = await self._model(duty.model)
        secret = round_secret(self._secret, self._moves.genesis, duty.round)
        blobs = [self._desk.procedures[duty.recipe], state, secret]
        _, (message,) = await self._jobs.ask("train", blobs, round=duty.round, seat=self._desk.config.listens)
        salt = secrets.token_bytes(SALT)
        name = own_name(duty.round, self._desk.config.member)
        await asyncio.to_thread(self._store.replace, name, salt + message)
        return (await asyncio.to_thread(Blob.of, message)).id, len(message), salt

    async def _model(self, model: bytes) -> bytes:
        """Return a model; one that the disk has damaged is fetched again."""
        try:
            return await asyncio.to_thread(self._store.read, model_name(model))
        except (BlobCorrupt, NotKept) as error:
            self._desk.tell(Lost(models=frozenset([model])))
            raise DiskError(f"{error}: it is fetched again") from error

    async def _held(self, origin: int, member: str) -> bytes:
        """Return an update's salt and message; one that the disk has damaged is taken or fetched again."""
        try:
            return await asyncio.to_thread(self._store.read, own_name(origin, member))
        except (BlobCorrupt, NotKept) as error:
            self._desk.tell(Lost(updates=frozenset([(origin, member)])))
            raise DiskError(f"{error}: it is fetched again") from error

    async def push(self, duty: Push) -> None:
        """Bring one's update to a seat."""
        try:
            await self._moves.push(self._desk.view, duty.round, duty.origin, duty.seat)
        except (BlobCorrupt, NotKept):
            # What is sealed is sealed anew; what it is made of may be lost, and then a person must hear of it.
            await self._held(duty.origin, self._desk.config.member)
            raise

    async def take(self, duty: Take) -> None:
        """Open an update that lies at one's gate, and keep it."""
        try:
            opened = await self._moves.take(self._desk.view, duty.origin, duty.member)
        except (BlobCorrupt, NotKept) as error:
            self._desk.tell(Lost(arrived=frozenset([(duty.origin, duty.member)])))
            raise DiskError(f"{error}: it is fetched from another seat") from error
        await self._check(duty, opened)
        self._moves.opened(opened)

    async def pull(self, duty: Pull) -> None:
        """Fetch an update from another seat, open it, keep it, and let others have it."""
        opened = await self._moves.pull(self._desk.view, duty.origin, duty.member, duty.source)
        await self._check(duty, opened)
        await self._moves.keep(opened)

    async def _check(self, duty: Take | Pull, opened: Opened) -> None:
        """Keep an update if it is what was committed to, and well formed."""
        plain = opened.plain
        await asyncio.to_thread(opens, self._desk.view, duty.origin, duty.member, duty.digest, plain)
        await self._jobs.ask("check", [self._desk.procedures[duty.recipe], plain[SALT:]])
        await asyncio.to_thread(self._store.replace, own_name(duty.origin, duty.member), plain)

    async def aggregate(self, duty: Aggregate) -> tuple[bytes, tuple[int, ...], bytes]:
        """Compute the next state; return its digest, what each update is worth in millionths, and a salt."""
        view = self._desk.view
        state = await self._model(duty.model)
        plains = [await self._held(view.updates[one].origin, one) for one in duty.members]
        messages = [memoryview(plain)[SALT:] for plain in plains]
        # What is computed once more is compared by its result: its scores are those of the first time.
        score, worth = duty.check == 0, scoring_name(duty.recipe)
        before = await asyncio.to_thread(self._kept_scoring, worth)
        answer, (after, memory) = await self._jobs.ask(
            "aggregate",
            [self._desk.procedures[duty.recipe], state, before, *messages],
            round=duty.round,
            members=list(duty.members),
            own=list(duty.own),
            budget=duty.budget,
            score=score,
            milliseconds=self._desk.milliseconds_left() // SCORING,
        )
        if answer["unscored"]:
            log.warning("round %d is not scored, all get the same: %s", duty.round, answer["unscored"])
        if memory and memory != before:
            await asyncio.to_thread(self._keep_scoring, worth, memory)
        result = (await asyncio.to_thread(Blob.of, after)).id
        name = model_name(result)
        if self._store.blob(name) is None or not self._store.complete(name):
            await asyncio.to_thread(self._store.replace, name, after)
        await self._moves.publish(result)
        return result, tuple(answer["scores"]), secrets.token_bytes(SALT)

    def _kept_scoring(self, name: str) -> bytes:
        """Return what the scoring of earlier rounds gave; nothing where the disk has lost it."""
        try:
            return self._store.read(name) if self._store.blob(name) is not None else b""
        except (BlobCorrupt, NotKept) as error:
            log.warning("what was kept of earlier rounds' scores is lost: %s", error)
            return b""

    def _keep_scoring(self, name: str, memory: bytes) -> None:
        try:
            self._store.replace(name, memory)
        except DiskError as error:
            log.warning("the next rounds are scored without this one: %s", error)

    async def fetch_model(self, duty: FetchModel) -> None:
        """Fetch a model from the first of its sources that gives it."""
        reasons = []
        for source in duty.sources:
            try:
                await self._moves.fetch_model(self._desk.view, duty.model, source)
            except DiskError:
                # It is here that it fails: nobody else's copy is smaller.
                raise
            except MemberError as error:
                reasons.append(f"{source}: {error}")
            else:
                await self._moves.publish(duty.model)
                return
        raise Unreachable(
            f"model {duty.model.hex()[:12]} is at none of them: {'; '.join(reasons) or 'no seat listens'}"
        )

    async def drop(self, duty: Drop) -> None:
        """Forget the updates of rounds that are over."""
        await self._moves.forget_rounds(duty.before, duty.keep)

    async def drop_models(self, duty: DropModels) -> None:
        """Forget models that nobody asks for."""
        await self._moves.forget_models(duty.keep)


DONE_BY: dict[type, Callable[[Duties, Any], Awaitable[Any]]] = {
    Append: Duties.append,
    Train: Duties.train,
    Push: Duties.push,
    Take: Duties.take,
    Pull: Duties.pull,
    Aggregate: Duties.aggregate,
    FetchModel: Duties.fetch_model,
    Drop: Duties.drop,
    DropModels: Duties.drop_models,
}
"""How each duty is done."""
