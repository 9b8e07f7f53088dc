"""Who contributes to a recipe: each organisation by one member, in the order in which they have waited."""

from collections.abc import Iterable

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Recipe, Registration, Round
from fedmeta.govern.wire.events import RecipeJoined, RecipeLeft
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.transactions import JoinRecipe, LeaveRecipe


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
    left_out = before.left_out if before else 0
    context.draft.put(Registration(body.recipe, organisation, name, True, context.height, left_out, 0))
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


def leave_out(context: Context, round: Round, organisation: str, reason: str) -> None:
    """End the registration of an organisation whose update is not in a round. Reason: no-commit, not-in."""
    found = context.draft.get(Registration, round.recipe, organisation)
    if found is None:
        return
    found = replace(found, left_out=round.number)
    context.draft.put(found)
    if found.active:
        _end(context, found, reason)


def _end(context: Context, registration: Registration, reason: str) -> None:
    context.draft.put(replace(registration, active=False))
    context.emit(RecipeLeft(registration.recipe, registration.organisation, registration.member, reason))


def cohort(context: Context, recipe: Recipe) -> list[Registration]:
    """Return who contributes to the next round of a recipe: those that have waited longest, then by organisation.

    They registered before this height. Who was left out of the recipe's latest round sits this one out, unless it could
    not be had without: to commit and never deliver makes the others wait in one round of two at most.
    """
    parameters = context.parameters
    waiting = [
        one
        for one in context.draft.where(Registration, "recipe", recipe.digest)
        if one.active and one.waiting < context.height
    ]
    waiting.sort(key=place)
    ready = [one for one in waiting if not one.left_out or one.left_out != recipe.round]
    late = [one for one in waiting if one not in ready]
    missing = max(0, parameters.smallest - len(ready))
    return [*ready[: parameters.cohort_size], *late[:missing]]


def place(registration: Registration) -> tuple[int, int, str]:
    """Return what the order of those that wait goes by."""
    return registration.waiting, registration.turn, registration.organisation


def wait_again(context: Context, cohort: Iterable[Registration]) -> None:
    """Put a cohort at the end of those that wait, in the order in which it was taken: so no name is always first."""
    for turn, one in enumerate(cohort, 1):
        context.draft.put(replace(one, waiting=context.height, turn=turn))
