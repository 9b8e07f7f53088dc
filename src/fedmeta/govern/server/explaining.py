"""Explanations by a node that goes on making blocks meanwhile: one at a time, and only while somebody waits for it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fedmeta.govern.engines.engine import Engine
from fedmeta.govern.errors import Refused, StateError
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Member, Proposal, Unbonding
from fedmeta.govern.state.snapshot import restore
from fedmeta.govern.state.state import State
from fedmeta.govern.views.explain import ToldBlock, explain
from fedmeta.govern.views.explanation import Explanation


class _GivenUp(Exception):
    """Nobody waits for an explanation any more."""


class Explainer:
    """Makes explanations in a thread of its own, in turn: what is quickly read does not wait for them."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._ending = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "ledger-explainer")

    async def explain(self, member: str, term: int | None, left: Coroutine[Any, Any, None]) -> Explanation | None:
        """Return an explanation when its turn has come; `left` returns when whoever asked has gone.

        It is given up, and None returned, when that is so or the node ends.

        Raises:
            Refused: `unknown-member`.
            StateError: blocks or snapshots were deleted while they were read.
        """
        over = threading.Event()
        job = self._thread.submit(explained, self._engine, member, term, over.is_set)
        made = asyncio.wrap_future(job)
        ends = [asyncio.ensure_future(left), asyncio.ensure_future(self._ending.wait())]
        try:
            await asyncio.wait([made, *ends], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.set()
            for one in ends:
                one.cancel()
        if job.cancel():
            return None
        try:
            return await made
        except _GivenUp:
            return None

    def end(self) -> None:
        """Give up those that are made or wait now, and all later ones."""
        self._ending.set()

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown()


def explained(
    engine: Engine, member: str, term: int | None = None, over: Callable[[], bool] = lambda: False
) -> Explanation:
    """Return why a member's holdings changed, from genesis or from the oldest snapshot that blocks lead on from.

    It goes through all blocks that are kept, and checks the sum against the holdings before and after them. From block
    to block it asks whether it is `over`.

    Raises:
        Refused: `unknown-member`.
        StateError: blocks or snapshots were deleted while they were read.
        _GivenUp: it is over.
    """
    after = _state(*engine.read(lambda application: _holdings(application.state, member)))
    return explain(_blocks(engine, after.height, over), member, term, before=_before(engine), after=after)


def _before(engine: Engine) -> State:
    first = engine.first
    if first == 1:
        return start(engine.genesis).state
    for manifest in engine.snapshots():
        time = engine.block_time(manifest.height)
        if time is not None and manifest.height == first - 1:
            return restore(
                manifest, time, (engine.chunk(manifest.height, at) or b"" for at in range(len(manifest.chunks)))
            )
    raise StateError(f"the snapshot of height {first - 1} is gone: later blocks were pruned as well")


def _blocks(engine: Engine, last: int, over: Callable[[], bool]) -> Iterator[ToldBlock]:
    for height, events in engine.events(engine.first, last):
        if over():
            raise _GivenUp
        time = engine.block_time(height)
        if time is not None:
            yield height, time, events


def _holdings(state: State, name: str) -> tuple[int, int, list[Any]]:
    """Return height, time, and the records that a member's holdings are counted from."""
    member = state.get(Member, name)
    if member is None:
        raise Refused("unknown-member", f"nobody named {name!r} is a member")
    delegations = state.where(Delegation, "member", name)
    records = [
        state.need(Chain),
        member,
        *delegations,
        *(state.need(Candidate, one.candidate) for one in delegations),
        *state.where(Unbonding, "member", name),
        *state.where(Proposal, "status", "voting"),
    ]
    return state.height, state.time, records


def _state(height: int, time: int, records: list[Any]) -> State:
    """Return a state of these records, which outlasts the next block."""
    draft = State.empty().draft(height, time)
    for one in records:
        draft.put(one)
    return draft.finish()
