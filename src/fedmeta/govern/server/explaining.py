"""An explanation by a node that goes on making blocks meanwhile."""

from collections.abc import Iterator
from typing import Any

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import Refused, StateError
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Candidate, Chain, Challenge, Delegation, Member, Proposal, Unbonding
from fedmeta.govern.state.snapshot import restore
from fedmeta.govern.state.state import State
from fedmeta.govern.views.explain import Block, explain
from fedmeta.govern.views.explanation import Explanation


def explained(engine: EmbeddedEngine, member: str, term: int | None = None) -> Explanation:
    """Return why a member's holdings changed, from genesis or from the oldest snapshot that blocks lead on from.

    It goes through all blocks that are kept, and checks the sum against the holdings before and after them.

    Raises:
        Refused: `unknown-member`.
        StateError: blocks or snapshots were deleted while they were read.
    """
    after = _state(engine.read(lambda application: _holdings(application.state, member)))
    last = after.need(Chain).height
    return explain(_blocks(engine, last), member, term, before=_before(engine), after=after)


def _before(engine: EmbeddedEngine) -> State:
    first = engine.first
    if first == 1:
        return start(engine.genesis).state
    for manifest in engine.snapshots():
        if manifest.height == first - 1:
            return restore(manifest, (engine.chunk(manifest.height, at) or b"" for at in range(len(manifest.chunks))))
    raise StateError(f"the snapshot of height {first - 1} is gone: later blocks were pruned as well")


def _blocks(engine: EmbeddedEngine, last: int) -> Iterator[Block]:
    for height, events in engine.events(engine.first, last):
        signed = engine.header(height)
        if signed is not None:
            yield height, signed.header.time, events


def _holdings(state: State, name: str) -> list[Any]:
    """Return the records that a member's holdings are counted from."""
    member = state.get(Member, name)
    if member is None:
        raise Refused("unknown-member", f"nobody named {name!r} is a member")
    delegations = state.where(Delegation, "member", name)
    return [
        state.need(Chain),
        member,
        *delegations,
        *(state.need(Candidate, one.candidate) for one in delegations),
        *state.where(Unbonding, "member", name),
        *state.where(Proposal, "status", "voting"),
        *state.where(Challenge, "status", "open"),
    ]


def _state(records: list[Any]) -> State:
    """Return a state of these records, which outlasts the next block."""
    draft = State.empty().draft()
    for one in records:
        draft.put(one)
    return draft.finish()
