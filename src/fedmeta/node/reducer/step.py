"""The reducer: `step(memory, event)` gives what the node knows then, and what it does.

It goes by levels, not by edges: after every event it lists what has to be done as things stand, and begins what is not
under way and need not wait. So a lost answer, a restart or a transaction whose fate is unknown needs no case of its
own: what is not on the ledger is still to be done, and what is there is not.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fedmeta.node.reducer import contributor, history, seat
from fedmeta.node.reducer.actions import (
    Action,
    Aggregate,
    Append,
    Cancel,
    Drop,
    DropModels,
    Duty,
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
    Approved,
    Arrived,
    Broken,
    Done,
    Event,
    Failed,
    Lost,
    Revoked,
    Room,
    Seen,
    Start,
    Stop,
    Tick,
)
from fedmeta.node.reducer.memory import NEVER, Busy, Computed, Key, Later, Memory
from fedmeta.node.reducer.promises import Promise, ResultPromise, SealPromise, Silence, Started, UpdatePromise
from fedmeta.node.reducer.view import View

PATIENCE = 5_000
"""Milliseconds after which what was sent and is not on the ledger is sent again."""

FIRST_WAIT = 500
LONGEST_WAIT = 30_000
"""Milliseconds before what has failed is tried again: at first, and at most; it doubles each time."""

AT_ONCE = 6
"""How many transfers, and updates that are opened, are under way at a time: each is whole in memory."""

MOVES = (FetchModel, Push, Pull, Take)


def step(memory: Memory, event: Event) -> tuple[Memory, tuple[Action, ...]]:
    """Return what the node knows after an event, and what it does; nothing else decides either."""
    memory = learn(memory, event)
    return _begin(memory)


def learn(memory: Memory, event: Event) -> Memory:
    """Return what the node knows after an event."""
    match event:
        case Start():
            fresh = Memory(
                me=memory.me,
                start=event.start,
                models=event.models,
                updates=event.updates,
                limits=event.limits,
                approvals={one.recipe: one for one in event.approvals},
                silent_until=event.silent_until,
            )
            for promise in event.promises:
                fresh = promised(fresh, promise)
            return fresh
        case Tick():
            now = max(memory.now, event.now)
            return replace(memory, now=now, began=now if memory.began < 0 else memory.began)
        case Room():
            return replace(memory, limits=replace(memory.limits, room=event.room))
        case Seen():
            return _seen(memory, event.view)
        case Arrived():
            return replace(memory, arrived=memory.arrived | {(event.round, event.member)})
        case Lost():
            return replace(
                memory,
                models=memory.models - event.models,
                updates=memory.updates - event.updates,
                arrived=memory.arrived - event.arrived,
            )
        case Approved():
            return replace(memory, approvals={**memory.approvals, event.approval.recipe: event.approval})
        case Revoked():
            left = {recipe: one for recipe, one in memory.approvals.items() if recipe != event.recipe}
            return replace(memory, approvals=left)
        case Broken():
            return replace(memory, halted=memory.halted or event.why)
        case Stop():
            return replace(memory, stopping=True)
        case Done() | Failed():
            return _answered(memory, event)


def _seen(memory: Memory, view: View) -> Memory:
    if memory.view is not None and view.height <= memory.view.height:
        return memory
    number = view.round.number if view.round else 0
    if _attempt(view) != _attempt(memory.view):
        memory = _afresh(memory)
    # Of rounds that are over nothing is awaited, and nothing need be remembered.
    later = {key: one for key, one in memory.later.items() if not 0 < key[1] < number}
    told = frozenset(key for key in memory.told if not 0 < key[1] < number - 1)
    return replace(
        memory,
        view=view,
        later=later,
        told=told,
        arrived=frozenset(one for one in memory.arrived if one[0] >= number or _stands(view, one[0])),
        pushed=frozenset(one for one in memory.pushed if one[0] >= number),
        bad=frozenset(one for one in memory.bad if one[0] >= number),
        trained={round: one for round, one in memory.trained.items() if round >= number},
        computed={key: one for key, one in memory.computed.items() if key[0] >= number},
        own={round: one for round, one in memory.own.items() if round >= number or _stands(view, round)},
        seals={round: one for round, one in memory.seals.items() if round >= number},
        results={key: one for key, one in memory.results.items() if key[0] >= number},
    )


def _attempt(view: View | None) -> tuple[int, int]:
    return (view.round.number, view.round.attempt) if view and view.round else (0, 0)


def _afresh(memory: Memory) -> Memory:
    """Return what a node knows when an attempt begins: where it was given what did not open, it asks once more."""
    later = {key: one for key, one in memory.later.items() if key[0] not in ("take", "pull")}
    return replace(memory, later=later, bad=frozenset())


def _stands(view: View, round: int) -> bool:
    """Return whether an update of an earlier round may still be brought: its commitment stands, or may again."""
    return round in view.left_over or any(one.origin == round for one in view.updates.values())


def promises_of(memory: Memory) -> tuple[Promise, ...]:
    """Return the promises that still bind: what a journal must hold of all that it ever held."""
    seals = (SealPromise(round, header) for round, header in memory.seals.items())
    silence = (Silence(memory.silent_until),) if memory.silent_until else ()
    return (Started(memory.start), *silence, *memory.own.values(), *seals, *memory.results.values())


def _answered(memory: Memory, event: Done | Failed) -> Memory:
    if event.start != memory.start:
        return memory
    found = next(((key, one) for key, one in memory.busy.items() if one.number == event.number), None)
    if found is None:
        return memory
    key, busy = found
    memory = replace(memory, busy={other: one for other, one in memory.busy.items() if other != key})
    if isinstance(event, Done):
        later = {other: one for other, one in memory.later.items() if other != key}
        if isinstance(busy.duty, Submit):
            later[key] = Later(memory.now + PATIENCE, 0)
        return _done(replace(memory, later=later), busy.duty, event.result)
    tries = memory.later[key].tries + 1 if key in memory.later else 1
    wait = NEVER if event.final else min(LONGEST_WAIT, FIRST_WAIT << min(tries - 1, 16))
    memory = replace(memory, later={**memory.later, key: Later(min(NEVER, memory.now + wait), tries)})
    if event.final and isinstance(busy.duty, Take):
        bad = (busy.duty.round, busy.duty.member, seat.GATE)
        return replace(memory, bad=memory.bad | {bad})
    if event.final and isinstance(busy.duty, Pull):
        return replace(memory, bad=memory.bad | {(busy.duty.round, busy.duty.member, busy.duty.source)})
    return memory


def _done(memory: Memory, duty: Duty, result: Any) -> Memory:
    match duty:
        case Append():
            return promised(memory, duty.promise)
        case Train():
            content, length, salt = result
            promise = UpdatePromise(duty.round, duty.model, content, length, salt)
            return replace(
                memory,
                trained={**memory.trained, duty.round: promise},
                updates=memory.updates | {(duty.round, memory.me)},
            )
        case FetchModel():
            return replace(memory, models=memory.models | {duty.model})
        case Push():
            return replace(memory, pushed=memory.pushed | {(duty.round, duty.seat)})
        case Take() | Pull():
            return replace(memory, updates=memory.updates | {(duty.origin, duty.member)})
        case Aggregate():
            return _computed(memory, duty, result)
        case Drop():
            left = {one for one in memory.updates if one[0] >= duty.before or one[0] in duty.keep}
            return replace(memory, updates=frozenset(left))
        case DropModels():
            return replace(memory, models=memory.models & duty.keep)
        case _:
            return memory


def _computed(memory: Memory, duty: Aggregate, result: Any) -> Memory:
    (digest, scores, salt), key = result, (duty.round, duty.attempt)
    before = memory.computed.get(key)
    promise = seat.promise_of(duty, digest, scores, salt)
    if before is None:
        # After a restart the promise is known, and was computed twice.
        known = memory.results.get(key)
        before = Computed(known, seat.TWICE) if known is not None else Computed(promise, 0)
    same = before.promise.result == digest and before.promise.members == duty.members
    found = replace(before, times=before.times + 1, differed=before.differed or not same)
    return replace(memory, computed={**memory.computed, key: found}, models=memory.models | {digest})


def promised(memory: Memory, promise: Promise) -> Memory:
    """Return what the node knows once a promise stands in its journal."""
    match promise:
        case UpdatePromise():
            return replace(memory, own={**memory.own, promise.round: promise})
        case SealPromise():
            return replace(memory, seals={**memory.seals, promise.round: promise.header})
        case ResultPromise():
            return replace(memory, results={**memory.results, (promise.round, promise.attempt): promise})
        case Silence():
            return replace(memory, silent_until=max(memory.silent_until, promise.until))
        case _:
            return memory


def _begin(memory: Memory) -> tuple[Memory, tuple[Action, ...]]:
    """Begin what is to be done and is not under way, and cancel what is under way and of no use any more."""
    duties = dict(_wanted(memory))
    actions: list[Action] = []
    number, busy, told = memory.number, dict(memory.busy), set(memory.told)
    for key, one in memory.busy.items():
        if key not in duties and isinstance(one.duty, (Train, FetchModel, Push, Take, Pull, Aggregate)):
            del busy[key]
            number += 1
            actions.append(Action(memory.start, number, Cancel(one.number)))
    moving = sum(isinstance(one.duty, MOVES) for one in busy.values())
    halted = memory.halted
    for key, duty in duties.items():
        if key in busy or key in told or (key in memory.later and memory.later[key].at > memory.now):
            continue
        if isinstance(duty, MOVES):
            if moving >= AT_ONCE:
                continue
            moving += 1
        number += 1
        actions.append(Action(memory.start, number, duty))
        if isinstance(duty, (Tell, Halt)):
            told.add(key)
        else:
            busy[key] = Busy(number, duty)
        if isinstance(duty, Halt):
            halted = duty.why
            break
    return replace(memory, number=number, busy=busy, told=frozenset(told), halted=halted), tuple(actions)


def _wanted(memory: Memory) -> Iterator[tuple[Key, Duty]]:
    """Yield what is to be done as things stand, what matters most first."""
    view = memory.view
    if memory.halted:
        yield ("halted", 0, memory.halted), Halt(memory.halted)
        return
    if view is None or memory.stopping or not memory.start or not view.organisation:
        return
    if view.height < memory.silent_until:
        return
    if lost := history.forgotten(memory, view):
        yield ("forgotten", 0), Halt(lost)
        return
    yield from seat.wanted(memory, view)
    yield from contributor.wanted(memory, view)
    yield from _models(memory, view)
    yield from _forgetting(memory, view)


def _models(memory: Memory, view: View) -> Iterator[tuple[Key, Duty]]:
    """Yield the models to fetch: the latest of each recipe that was approved."""
    for recipe in sorted(memory.approvals):
        found = view.recipes.get(recipe)
        if found is not None and found.model not in memory.models:
            yield contributor.fetching(view, found.model)


def _forgetting(memory: Memory, view: View) -> Iterator[tuple[Key, Duty]]:
    """Yield what is no longer needed: updates of rounds that are over, and models that nobody asks for."""
    round = view.round
    if round is None:
        return
    over = round.number + 1 if round.settled else round.number
    # What was brought into a round from an earlier one is bound to that one.
    keep = view.left_over | {one.origin for one in view.updates.values()}
    if any(number < over and number not in keep for number, _ in memory.updates):
        yield ("drop", round.number, over), Drop(over, keep)
    before = {view.previous.model} if view.previous else set()
    keep_models = {round.model, *before, *(one.model for one in view.recipes.values())}
    computing = any(isinstance(one.duty, (Train, Aggregate, FetchModel)) for one in memory.busy.values())
    if round.phase in ("commit", "final", "void") and not computing and memory.models - keep_models:
        yield ("models", round.number), DropModels(frozenset(keep_models))
