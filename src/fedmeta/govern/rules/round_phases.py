"""The course of a round: how it is scheduled, goes from phase to phase and from attempt to attempt, and is over.

Nobody chooses anything: the recipe, the cohort and the seats follow from the state, and a phase ends with the block
after which nothing can be added to it, or once its window has closed.
"""

from fedmeta.govern.rules import registrations
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import ATTEMPTS, LONGEST_STRETCH, PHASES, shortest_window, windows
from fedmeta.govern.state.records import Attestation, Hold, Recipe, Registration, Round, Term, Update
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.parts import Place, Window
from fedmeta.govern.wire.round_events import AttemptFailed, PhaseBegan, RoundScheduled, RoundSettled, UpdateCarried


def live(context: Context) -> Round | None:
    """Return the round that is not over, or None."""
    latest = context.draft.get(Round, context.chain.round)
    return None if latest is None or latest.settled else latest


def power(round: Round) -> int:
    """Return the power of all of a round's seats."""
    return sum(seat.power for seat in round.seats)


def is_quorum(round: Round, held: int) -> bool:
    """Return whether this much power is more than 2/3 of the round's."""
    return held * 3 > power(round) * 2


def window(round: Round) -> Window:
    """Return the window of the round's present phase, doubled as often as attempts have failed."""
    plain = round.windows[PHASES.index(round.phase)]
    return Window(plain.blocks << round.stretch, plain.milliseconds << round.stretch)


def closed(context: Context, round: Round) -> bool:
    """Return whether the window of the present phase closes with this block: both its blocks and its time are over."""
    due = window(round)
    return context.height >= round.opened + due.blocks and context.time >= round.opened_time + due.milliseconds


def schedule(context: Context) -> None:
    """Schedule a round of the recipe that is due and whose last round is the longest ago, if there is one."""
    parameters, term = context.parameters, context.term
    pool = min(parameters.round_pool, context.chain.treasury)
    if not term.seats or term.paid + pool > parameters.term_budget:
        return
    due = [
        one
        for one in context.draft.all(Recipe)
        if one.active and (not one.scheduled or context.height >= one.scheduled + one.interval)
    ]
    for recipe in sorted(due, key=lambda one: (one.scheduled, one.digest)):
        cohort = registrations.cohort(context, recipe)
        if len(cohort) >= parameters.smallest:
            _schedule(context, recipe, cohort, pool)
            return


def _schedule(context: Context, recipe: Recipe, cohort: list[Registration], pool: int) -> None:
    chain, term = context.chain, context.term
    # A vote may have made windows shorter than the present seats need.
    shortest = shortest_window(len(term.seats))
    round = Round(
        number=chain.round + 1,
        recipe=recipe.digest,
        model=recipe.model,
        term=term.number,
        pool=pool,
        cohort=tuple(Place(one.organisation, one.member) for one in sorted(cohort, key=lambda one: one.organisation)),
        seats=term.seats,
        windows=tuple(replace(one, blocks=max(one.blocks, shortest)) for one in windows(context.parameters)),
        stretch=chain.stretch,
        attempt=1,
        phase="commit",
        scheduled=context.height,
        opened=context.height,
        opened_time=context.time,
        committed=0,
        smallest=context.parameters.smallest,
        exposed=recipe.exposed,
        seen=False,
        members=(),
        result=b"",
        settled=0,
    )
    context.change_chain(round=round.number)
    context.draft.put(replace(term, paid=term.paid + pool))
    context.draft.put(replace(recipe, scheduled=context.height, round=round.number))
    registrations.wait_again(context, cohort)
    context.emit(
        RoundScheduled(
            round.number, round.recipe, round.model, round.term, pool, round.cohort, round.seats, round.windows
        )
    )
    _carry(context, round, recipe)
    begin(context, round, "commit")


def _carry(context: Context, round: Round, recipe: Recipe) -> None:
    """Let commitments of void rounds of the same model stand: who has seen others' updates must not commit anew."""
    if not recipe.exposed:
        return
    same = recipe.digest, recipe.model, "void"
    void = [one for one in context.draft.all(Round) if (one.recipe, one.model, one.phase) == same]
    for place in round.cohort:
        found = [context.draft.get(Update, one.number, place.member) for one in void]
        update = next((one for one in reversed(found) if one is not None), None)
        if update is not None:
            context.draft.put(replace(update, round=round.number, height=context.height))
            context.emit(UpdateCarried(round.number, place.member, update.digest, update.origin))


def begin(context: Context, round: Round, phase: str) -> Round:
    """Let a round go on to a phase with this block, and return it."""
    changed = replace(round, phase=phase, opened=context.height, opened_time=context.time)
    context.draft.put(changed)
    due = window(changed)
    context.emit(PhaseBegan(round.number, round.attempt, phase, due.blocks, due.milliseconds))
    return changed


def fail(context: Context, round: Round, reason: str) -> None:
    """End an attempt that gave no result: the next one begins with the same commitments and windows twice as long.

    After the last one the round is void. Reason: too-few-in, too-few-commitments, no-agreement.
    """
    context.emit(AttemptFailed(round.number, round.attempt, reason))
    stretch = min(round.stretch + 1, LONGEST_STRETCH)
    if round.attempt == ATTEMPTS:
        context.change_chain(stretch=stretch)
        _expose(context, round)
        close(context, round, "void", reason)
        return
    for cls in (Hold, Attestation):
        for one in context.draft.where(cls, "round", round.number):
            context.draft.delete(cls, round.number, one.candidate)
    begin(context, replace(round, attempt=round.attempt + 1, stretch=stretch, members=()), "deliver")


def _expose(context: Context, round: Round) -> None:
    recipe = context.draft.need(Recipe, round.recipe)
    if recipe.model == round.model and round.seen:
        context.draft.put(replace(recipe, exposed=True))


def close(context: Context, round: Round, outcome: str, reason: str, paid: int = 0) -> None:
    """End a round, and the registrations of those that are not in it; what it did not pay, its term may still."""
    round = replace(round, phase=outcome, settled=context.height)
    context.draft.put(round)
    term = context.draft.need(Term, round.term)
    context.draft.put(replace(term, paid=term.paid - round.pool + paid))
    for place in round.cohort:
        committed = context.draft.get(Update, round.number, place.member) is not None
        stays = committed if reason == "too-few-commits" else place.member in round.members
        registrations.note(context, round, place.organisation, "" if stays else "not-in" if committed else "no-commit")
    context.emit(RoundSettled(round.number, outcome, reason))
