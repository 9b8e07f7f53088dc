"""`fedmeta ledger recipes`: what is trained, and who contributes to it."""

from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HASH, Connection, Shown, reading, signing
from fedmeta.cli.ledger.sending import deliver
from fedmeta.errors import UsageError
from fedmeta.govern.errors import Refused
from fedmeta.govern.wire import transactions as tx

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client


@click.group(cls=Shown, short_help="List recipes and who contributes to them; join one, or leave it.")
def recipes() -> None:
    """List the recipes and who contributes to them; contribute to one, or no longer.

    A recipe is given by its hash of 64 hexadecimal digits, or as a file whose SHA-256 is taken. A proposal registers
    one: `propose recipe`.

    \b
    Examples:
      fedmeta ledger recipes
      fedmeta ledger recipes join recipe.toml --key fed/keys/coast.pem
    """


@recipes.command("show", short_help="List recipes, or show one.")
@click.argument("recipe", metavar="[HASH|FILE]", required=False, type=HASH)
@reading
def show_(way: Connection, recipe: bytes | None) -> None:
    """List the recipes, or show one: the model that each has reached, and who contributes.

    \b
    Example:
      fedmeta ledger recipes show
    """
    with way.reader() as client:
        known = client.query("recipes")
        found = [one for one in known if recipe in (None, bytes.fromhex(one["digest"]))]
        if recipe is not None and not found:
            raise Refused("not-found", f"no recipe {recipe.hex()} is registered")
        joined = [client.query("registrations", recipe=one["digest"]) for one in found]
    if way.as_json:
        whole = [{**one, "registrations": those} for one, those in zip(found, joined, strict=True)]
        show.write_json(whole if recipe is None else whole[0])
        return
    parts = [part for one, those in zip(found, joined, strict=True) for part in _parts(one, those)]
    show.write(*(parts or ["there is no recipe: a proposal registers one"]))


def _parts(one: dict[str, Any], joined: list[dict[str, Any]]) -> list[Any]:
    facts = {
        "recipe": show.Whole(one["digest"]),
        "model": show.Whole(one["model"]),
        "in use": one["active"],
        "interval": f"{one['interval']:,} blocks from round to round, at least",
        "latest round": f"{one['round']}, begun in block {one['scheduled']:,}" if one["round"] else "none",
    }
    if one["exposed"]:
        facts["not paid"] = "who commits anew: others' updates of this model may have been seen before"
    rows = [(place["organisation"], place["member"], place["waiting"]) for place in joined]
    people = show.table("", ("organisation", "by its member", "waits since block"), rows)
    # To commit and never deliver makes the others wait.
    late = [f"{place['member']} up to round {place['until']:,}" for place in joined if place["until"] > one["round"]]
    if late:
        facts["sit out"] = f"{show.listed(late)}, unless there would be too few without"
    return [show.facts(one["title"], facts), people if rows else "nobody contributes to it: `recipes join` does"]


@recipes.command(short_help="Contribute to a recipe.")
@click.argument("recipe", metavar="[HASH|FILE]", required=False, type=HASH)
@signing
def join(way: Connection, recipe: bytes | None) -> None:
    """Contribute to a recipe for one's organisation, by default to the only one; an organisation has one contributor.

    It lasts until `recipes leave`, or until an update of yours is not in a round: then join again.

    \b
    Example:
      fedmeta ledger recipes join recipe.toml --key fed/keys/coast.pem
    """
    with way.signer() as client:
        deliver(way, client, tx.JoinRecipe(_one(client, recipe)))


@recipes.command(short_help="Contribute to it no longer.")
@click.argument("recipe", metavar="[HASH|FILE]", required=False, type=HASH)
@signing
def leave(way: Connection, recipe: bytes | None) -> None:
    """Contribute to a recipe no longer, by default to the only one, from the next round on.

    \b
    Example:
      fedmeta ledger recipes leave recipe.toml --key fed/keys/coast.pem
    """
    with way.signer() as client:
        deliver(way, client, tx.LeaveRecipe(_one(client, recipe)))


def _one(client: "Client", recipe: bytes | None) -> bytes:
    """Return the recipe that was given, or the only one that is in use; raises `UsageError` where there is a choice."""
    if recipe is not None:
        return recipe
    known = [one["digest"] for one in client.query("recipes") if one["active"]]
    if len(known) != 1:
        raise UsageError(f"say which recipe, by its hash or its file: in use are {', '.join(known) or 'none'}")
    return bytes.fromhex(known[0])
