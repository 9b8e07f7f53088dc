"""What a contributor has to do: train, commit, bring its update to the seats, and stay registered."""

from collections.abc import Iterator

from fedmeta.govern.state.records import Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer.actions import Append, Duty, FetchModel, Push, Submit, Tell, Train
from fedmeta.node.reducer.events import Approval
from fedmeta.node.reducer.memory import Key, Memory
from fedmeta.node.reducer.view import View
from fedmeta.node.wire.exchange import pushes, top_up

PATIENT = 3
"""After a third of the window who lacks an update and has not pulled it from others is brought it."""


def wanted(memory: Memory, view: View) -> Iterator[tuple[Key, Duty]]:
    """Yield what a contributor has to do now, each under its key."""
    yield from _registration(memory, view)
    round = view.live
    if round is None:
        return
    approval = memory.approvals.get(round.recipe)
    if approval is None:
        return
    if round.phase == "commit" and any(place.member == view.me for place in round.cohort):
        if round.smallest < approval.smallest:
            text = (
                f"no update in round {round.number}: {round.smallest} updates make it final on this ledger, and the "
                f"policy or the procedure asks for {approval.smallest}"
            )
            yield ("few", round.number), Tell(text, alarm=True)
        elif approval.contributes:
            yield from _commit(memory, view, round, approval)
    # Who contributes no more still brings what it has committed to.
    elif round.phase in ("deliver", "compute") and view.me in view.updates:
        yield from _deliver(memory, view, round)


def _registration(memory: Memory, view: View) -> Iterator[tuple[Key, Duty]]:
    for recipe, approval in sorted(memory.approvals.items()):
        there, found = view.recipes.get(recipe), view.registrations.get(recipe)
        if not approval.contributes or there is None or not there.active or not view.organisation:
            continue
        if found is None or not found.active:
            if found is not None and found.misses and found.member == view.me:
                text = (
                    f"left out of recipe {recipe.hex()[:12]}: {_why_out(view)}; {found.misses} in a row; "
                    f"it registers again, and rounds up to {found.until} go on without it"
                )
                yield ("left-out", 0, recipe, found.until, found.misses), Tell(text, alarm=True)
            yield ("join", 0, recipe), Submit(tx.JoinRecipe(recipe), by_account=True)


def _why_out(view: View) -> str:
    settled = view.round is not None and bool(view.round.settled)
    round = view.round if settled else view.previous
    committed = view.me in view.updates if settled else view.committed_before
    if round is None or all(place.member != view.me for place in round.cohort):
        return "its update was not in a round"
    if not committed:
        return f"it had not committed to an update when round {round.number} closed"
    return f"in round {round.number} seats with more than 2/3 of the power did not hold its update in time"


def _commit(memory: Memory, view: View, round: Round, approval: Approval) -> Iterator[tuple[Key, Duty]]:
    number = round.number
    if number in memory.own:
        promise = memory.own[number]
        if view.me not in view.updates:
            body = tx.CommitUpdate(
                number, tx.update_digest(view.genesis, number, view.me, promise.salt, promise.content)
            )
            yield ("commit", number), Submit(body)
    elif view.me in view.updates:
        return
    elif too_slow(memory, view, round, approval):
        text = f"no update in round {number}: {approval.message_bytes} bytes do not leave in time"
        yield ("slow", number), Tell(text, alarm=True)
    elif number in memory.trained:
        yield ("promise-update", number), Append(memory.trained[number])
    elif round.model in memory.models:
        yield ("train", number), Train(number, round.recipe, round.model)
    else:
        yield fetching(view, round.model)


def too_slow(memory: Memory, view: View, round: Round, approval: Approval) -> bool:
    """Return whether one's update cannot reach seats with a third of the power within the window for it."""
    seats = len(_first(view, round))
    milliseconds = round.windows[1].milliseconds << round.stretch
    return seats * approval.message_bytes * 1_000 > memory.limits.upload * milliseconds > 0


def _deliver(memory: Memory, view: View, round: Round) -> Iterator[tuple[Key, Duty]]:
    number, update = round.number, view.updates[view.me]
    promise = memory.own.get(update.origin)
    opens = promise is not None and update.digest == tx.update_digest(
        view.genesis, update.origin, view.me, promise.salt, promise.content
    )
    if not opens or (update.origin, view.me) not in memory.updates:
        text = f"the update that was committed to in round {update.origin} is not on this machine: it cannot be brought"
        yield ("lost-update", number), Tell(text, alarm=True)
    elif view.is_sealed and round.phase == "deliver":
        for seat in _targets(view, round):
            # Also to its own gate where it has a seat: from there the others pull it.
            if (number, seat) not in memory.pushed:
                yield ("push", number, round.attempt, seat), Push(number, update.origin, seat)


def _targets(view: View, round: Round) -> tuple[str, ...]:
    """Return to whom the update is to be brought now: at first to some, then to all who lack it."""
    holders = view.holders(view.me)
    if PATIENT * (view.height - round.opened) < view.closes - round.opened:
        return tuple(one for one in _first(view, round) if one not in holders or one == view.me)
    return _own(view, round) + top_up(view.me, round.number, _cohort(round), _powers(round), holders)


def _own(view: View, round: Round) -> tuple[str, ...]:
    return (view.me,) if view.seat(view.me) else ()


def _first(view: View, round: Round) -> tuple[str, ...]:
    return pushes(view.me, round.number, _cohort(round), _powers(round))


def _cohort(round: Round) -> list[str]:
    return [place.member for place in round.cohort]


def _powers(round: Round) -> dict[str, int]:
    return {seat.candidate: seat.power for seat in round.seats}


def fetching(view: View, model: bytes) -> tuple[Key, Duty]:
    """Return the duty to fetch a model: from those first that have opened it as their result."""
    opened = sorted(name for name, one in view.attestations.items() if one.result == model)
    others = sorted(view.seated - {view.me} - set(opened))
    sources = tuple(one for one in (*opened, *others) if one != view.me and one in view.peers)
    return ("model", 0, model), FetchModel(model, sources)
