"""What a seat has to do: sign the header, hold updates, compute, commit, open; and compare before it opens."""

from collections.abc import Iterator

from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer.actions import Aggregate, Append, Duty, Halt, Pull, Submit, Take, Tell
from fedmeta.node.reducer.contributor import fetching
from fedmeta.node.reducer.memory import Key, Memory
from fedmeta.node.reducer.promises import ResultPromise, SealPromise
from fedmeta.node.reducer.view import View
from fedmeta.node.wire.exchange import pulls, sources

GATE = "gate"
"""Where an update came from that was brought to one's own gate."""

LOOKED_AT = 60_000
"""Milliseconds after a start in which what was approved may not have been looked at yet."""

TWICE = 2
"""How often a result is computed before it is promised."""


def wanted(memory: Memory, view: View) -> Iterator[tuple[Key, Duty]]:
    """Yield what a seat has to do now, each under its key."""
    round = view.live
    if round is None or view.seat(view.me) is None or round.phase == "commit":
        return
    if round.recipe not in memory.approvals:
        if memory.now - memory.began < LOOKED_AT:
            return
        text = f"a seat in round {round.number}, and nobody here has approved recipe {round.recipe.hex()}"
        yield ("unapproved", round.number), Tell(text, alarm=True)
        return
    if round.phase == "deliver":
        yield from _seal(memory, view, round)
        yield from _hold(memory, view, round)
    elif round.phase == "compute":
        yield from _compute(memory, view, round)
    elif round.phase == "reveal":
        yield from _reveal(memory, view, round)


def _seal(memory: Memory, view: View, round: Round) -> Iterator[tuple[Key, Duty]]:
    number, promised = round.number, memory.seals.get(round.number)
    if promised is None:
        if view.me not in view.seals:
            yield ("promise-seal", number), Append(SealPromise(number, view.closing))
    elif promised != view.closing:
        yield (
            ("two-histories", number),
            Halt(
                f"the ledger shows header {view.closing.hex()} at height {round.committed}, and this node has signed "
                f"{promised.hex()} for round {number}: two histories"
            ),
        )
    elif view.me not in view.seals:
        yield ("seal", number), Submit(tx.Seal(number, promised))


def _hold(memory: Memory, view: View, round: Round) -> Iterator[tuple[Key, Duty]]:
    number, here = round.number, [one for one in sorted(view.updates) if memory.holds(one)]
    largest = memory.approvals[round.recipe].message_bytes
    if (len(view.updates) - len(here)) * largest > memory.limits.room:
        text = f"no updates are taken in round {number}: {len(view.updates)} of {largest} bytes do not fit on the disk"
        yield ("no-room", number), Tell(text, alarm=True)
        return
    yield from _lacking(memory, view, round, sorted(set(view.updates).difference(here)))
    said = view.holds.get(view.me)
    # One's own lies at one's gate, from where others pull it, once it was brought there.
    mine = {view.me} if (number, view.me) not in memory.pushed else set()
    fresh = tuple(one for one in here if one not in mine and (said is None or one not in said.members))
    if fresh:
        yield ("hold", number, round.attempt, fresh), Submit(tx.Hold(number, round.attempt, fresh))


def _lacking(memory: Memory, view: View, round: Round, members: list[str]) -> Iterator[tuple[Key, Duty]]:
    """Yield how to come by updates: what lies at one's gate first, else from a seat that holds it."""
    number = round.number
    for member in pulls(view.me, number, members):
        update = view.updates[member]
        if (update.origin, member) in memory.arrived and (number, member, GATE) not in memory.bad:
            yield ("take", number, member), Take(number, member, round.recipe, update.digest, update.origin)
            continue
        holders = [one for one in view.holders(member) if (number, member, one) not in memory.bad]
        for source in sources(view.me, member, number, holders):
            key = ("pull", number, member, source)
            if key not in memory.later or memory.later[key].at <= memory.now:
                yield key, Pull(number, member, source, round.recipe, update.digest, update.origin)
                break


def _compute(memory: Memory, view: View, round: Round) -> Iterator[tuple[Key, Duty]]:
    number, key = round.number, (round.number, round.attempt)
    yield from _lacking(memory, view, round, [one for one in round.members if not memory.holds(one)])
    if view.me in view.attestations:
        return
    promise, computed = memory.results.get(key), memory.computed.get(key)
    if promise is not None:
        if promise.members != round.members:
            text = f"round {number} has other updates in than what this node has promised a result for"
            yield ("other-updates", number, round.attempt), Halt(text)
            return
        digest = tx.commitment(
            view.genesis, number, round.attempt, view.me, promise.result, promise.scores, promise.salt
        )
        yield ("attest", number, round.attempt), Submit(tx.Attest(number, round.attempt, digest))
    elif computed is not None and computed.differed:
        text = (
            f"round {number} was computed twice, with two results: nothing is said of it; look at this machine's memory"
        )
        yield ("differed", number, round.attempt), Tell(text, alarm=True)
    elif computed is not None and computed.times >= TWICE:
        yield ("promise-result", number, round.attempt), Append(computed.promise)
    elif round.model not in memory.models:
        yield fetching(view, round.model)
    elif len(round.members) < (takes := memory.approvals[round.recipe].takes):
        text = (
            f"round {number} has {len(round.members)} updates in, and the procedure's aggregator takes {takes} or more"
        )
        yield ("few-in", number, round.attempt), Tell(text, alarm=True)
    elif all(memory.holds(one) for one in round.members):
        yield _aggregate(view, round, computed.times if computed else 0)


def _aggregate(view: View, round: Round, check: int) -> tuple[Key, Duty]:
    own = tuple(view.updates[one].organisation == view.organisation for one in round.members)
    duty = Aggregate(
        round=round.number,
        attempt=round.attempt,
        recipe=round.recipe,
        model=round.model,
        members=round.members,
        budget=MILLION // len(round.cohort),
        own=own,
        check=check,
    )
    return ("aggregate", round.number, round.attempt, check), duty


def _reveal(memory: Memory, view: View, round: Round) -> Iterator[tuple[Key, Duty]]:
    number, key = round.number, (round.number, round.attempt)
    mine, promise = view.attestations.get(view.me), memory.results.get(key)
    if mine is None or mine.revealed:
        return
    if promise is None:
        text = f"what was committed to in round {number} is not in this node's journal: it cannot be opened"
        yield ("lost-result", number, round.attempt), Tell(text, alarm=True)
        return
    against = {name for name, one in view.attestations.items() if one.revealed and one.result != promise.result}
    computed = memory.computed.get(key)
    differed, times = (computed.differed, computed.times) if computed else (False, TWICE)
    can_compute = round.model in memory.models and all(memory.holds(one) for one in round.members)
    if against and times <= TWICE and not differed and can_compute:
        # Somebody is wrong: what is on the disk is read and computed once more before anything is opened.
        yield _aggregate(view, round, TWICE)
        return
    if differed or view.power_of(against) * 3 > view.power:
        text = f"others have opened another result of round {number}: it is withheld here; check this machine's memory"
        yield ("contradicted", number, round.attempt), Tell(text, alarm=True)
        return
    yield (
        ("reveal", number, round.attempt),
        Submit(tx.Reveal(number, round.attempt, promise.result, promise.scores, promise.salt)),
    )


def promise_of(duty: Aggregate, result: bytes, scores: tuple[int, ...], salt: bytes) -> ResultPromise:
    """Return what a computed result is promised as."""
    return ResultPromise(duty.round, duty.attempt, duty.members, result, scores, salt)
