"""Who contributes to a recipe: each organisation by one member, in the order in which they have waited."""

from dataclasses import replace

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Recipe, Registration
from fedmeta.govern.wire.events import RecipeJoined, RecipeLeft
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
    if before is not None:
        raise Refused("already-done", f"{before.member} is registered for {organisation}: one for an organisation")
    context.draft.put(Registration(body.recipe, organisation, name, context.height))
    context.emit(RecipeJoined(body.recipe, organisation, name))


def leave(context: Context, name: str, body: LeaveRecipe) -> None:
    """Take one's registration for a recipe back; a round that has begun goes on."""
    found = context.draft.get(Registration, body.recipe, context.member(name).organisation)
    if found is None or found.member != name:
        raise Refused("not-found", f"{name} is not registered for recipe {body.recipe.hex()}")
    end(context, found, "left")


def leave_all(context: Context, name: str) -> None:
    """End all registrations of a member, as when it leaves or is removed."""
    for one in context.draft.all(Registration):
        if one.member == name:
            end(context, one, "no-member")


def end(context: Context, registration: Registration, reason: str) -> None:
    """End a registration. Reason: left, no-member, no-commit, not-in."""
    context.draft.delete(Registration, registration.recipe, registration.organisation)
    context.emit(RecipeLeft(registration.recipe, registration.organisation, registration.member, reason))


def longest_waiting(context: Context, recipe: bytes, count: int) -> list[Registration]:
    """Return at most `count` of those registered before this height: the longest waiting, then by organisation."""
    found = [one for one in context.draft.where(Registration, "recipe", recipe) if one.waiting < context.height]
    return sorted(found, key=lambda one: (one.waiting, one.organisation))[:count]


def wait_again(context: Context, registration: Registration) -> None:
    """Put a registration at the end of those that wait."""
    context.draft.put(replace(registration, waiting=context.height))
