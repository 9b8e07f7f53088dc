"""Who contributes to a recipe: each organisation by one member, in the order in which they have waited."""

from collections.abc import Iterable

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Recipe, Registration, Round
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.round_events import RecipeJoined, RecipeLeft
from fedmeta.govern.wire.transactions import JoinRecipe, LeaveRecipe

MOST_MISSES = 7
"""The most cohorts in a row that count: then 64 rounds are sat out."""


def join(context: Context, name: str, body: JoinRecipe) -> None:
    """Register for a recipe, as the one member that contributes for its organisation."""
    organisation = context.active_member(name).organisation
    recipe = context.draft.get(Recipe, body.recipe)
    if recipe is None:
        raise Refused("not-found", f"no recipe {body.recipe.hex()} is registered")
    if not recipe.active:
        raise Refused("not-allowed", f"recipe {body.recipe.hex()} is not active")
    before = context.draft.get(Registration, body.recipe, organisation)
    if before is not None and before.active:
        raise Refused("already-done", f"{before.member} is registered for {organisation}: one for an organisation")
    misses, until = (before.misses, before.until) if before else (0, 0)
    context.draft.put(Registration(body.recipe, organisation, name, True, context.height, misses, until, 0))
    context.emit(RecipeJoined(body.recipe, organisation, name))


def leave(context: Context, name: str, body: LeaveRecipe) -> None:
    """Take one's registration for a recipe back; a round that has begun goes on."""
    found = context.draft.get(Registration, body.recipe, context.member(name).organisation)
    if found is None or not found.active or found.member != name:
        raise Refused("not-found", f"{name} is not registered for recipe {body.recipe.hex()}")
    _end(context, found, "left")


def leave_all(context: Context, name: str) -> None:
    """End all registrations of a member, as when it leaves or is removed."""
    for one in context.draft.all(Registration):
        if one.active and one.member == name:
            _end(context, one, "no-member")


def note(context: Context, round: Round, organisation: str, reason: str) -> None:
    """Note whether the update of one of a round's cohort is in it; if not, end its registration for a reason.

    It must register again, and sits a round out, and twice as many each time in a row; but none where the round is void
    and it had committed, since others may be to blame. Reason: no-commit, not-in.
    """
    found = context.draft.get(Registration, round.recipe, organisation)
    if found is None:
        return
    if not reason:
        context.draft.put(replace(found, misses=0))
        return
    found = replace(found, misses=min(found.misses + 1, MOST_MISSES))
    if round.phase == "final" or reason == "no-commit":
        found = replace(found, until=round.number + (1 << found.misses - 1))
    context.draft.put(found)
    if found.active:
        _end(context, found, reason)


def _end(context: Context, registration: Registration, reason: str) -> None:
    context.draft.put(replace(registration, active=False))
    context.emit(RecipeLeft(registration.recipe, registration.organisation, registration.member, reason))


def cohort(context: Context, recipe: Recipe) -> list[Registration]:
    """Return who contributes to the next round of a recipe: those that have waited longest, then by organisation.

    They registered before this height. Who was not in the last round that it had a place in comes after all others, but
    for one place of a cohort, which the longest waiting of them gets: so however many commit and never deliver, those
    that do are soon together. Who sits rounds out is only taken where there would be too few without it.
    """
    parameters = context.parameters
    waiting = [
        one
        for one in context.draft.where(Registration, "recipe", recipe.digest)
        if one.active and one.waiting < context.height
    ]
    waiting.sort(key=place)
    ready = [one for one in waiting if one.until <= context.chain.round]
    late = [one for one in waiting if one.until > context.chain.round]
    good, others = [one for one in ready if not one.misses], [one for one in ready if one.misses]
    first = max(parameters.smallest, parameters.cohort_size - 1)
    order = [*good[:first], *others[:1], *good[first:], *others[1:]]
    missing = max(0, parameters.smallest - len(ready))
    return [*order[: parameters.cohort_size], *late[:missing]]


def place(registration: Registration) -> tuple[bool, int, int, str]:
    """Return what the order of those that wait goes by."""
    return registration.misses > 0, registration.waiting, registration.turn, registration.organisation


def wait_again(context: Context, cohort: Iterable[Registration]) -> None:
    """Put a cohort at the end of those that wait, in the order in which it was taken: so no name is always first."""
    for turn, one in enumerate(cohort, 1):
        context.draft.put(replace(one, waiting=context.height, turn=turn))
