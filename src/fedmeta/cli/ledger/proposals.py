"""`fedmeta ledger propose`, `proposals` and `vote`."""

from typing import Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HASH, PUBLIC_KEY, UNITS, Connection, numbers, reading, signing
from fedmeta.cli.ledger.sending import send
from fedmeta.govern.wire import transactions as tx

CHOICES = ("yes", "no", "abstain", "veto")

_title = click.option("--title", default="", help="Why, in a line that all can read.")


@click.group(short_help="Propose a change that the members vote on.")
def propose() -> None:
    """Propose an action, for a deposit that is lost only by a veto; the members vote on it with their stake.

    \b
    Example:
      fedmeta ledger propose parameters round_pool=2000 --title "Pay more" --key fed/keys/east.pem
    """


def _propose(way: Connection, title: str, kind: str, /, **values: Any) -> None:
    send(way, tx.Propose(title, {"kind": kind, **values}))


@propose.command()
@click.argument("changes", metavar="NAME=VALUE...", nargs=-1, required=True)
@_title
@signing
def parameters(way: Connection, changes: tuple[str, ...], title: str) -> None:
    """Change one parameter, or several at once that must fit together; `fedmeta ledger parameters` lists them.

    \b
    Example:
      fedmeta ledger propose parameters round_pool=2000 --title "Pay more" --key fed/keys/east.pem
    """
    values = numbers(changes, "NAME=VALUE", "round_pool=2000")
    if len(values) == 1:
        ((name, value),) = values.items()
        _propose(way, title, "set-parameter", name=name, value=value)
    else:
        _propose(way, title, "set-parameters", values=values)


@propose.command()
@click.argument("member")
@click.argument("organisation")
@click.argument("public", metavar="PUBLIC-KEY", type=PUBLIC_KEY)
@click.option("--full-name", default="", help="The member's full name.")
@_title
@signing
def admit(way: Connection, member: str, organisation: str, public: bytes, full_name: str, title: str) -> None:
    """Admit MEMBER of ORGANISATION, with the public key that `fedmeta ledger key new` wrote, in hex.

    \b
    Example:
      fedmeta ledger propose admit coast coast-hospital PUBLIC-KEY --key fed/keys/east.pem
    """
    _propose(way, title, "admit", member=member, organisation=organisation, public=public, title=full_name)


@propose.command()
@click.argument("member")
@_title
@signing
def remove(way: Connection, member: str, title: str) -> None:
    """Remove MEMBER; its stake is put on its way out.

    \b
    Example:
      fedmeta ledger propose remove west --key fed/keys/east.pem
    """
    _propose(way, title, "remove", member=member)


@propose.command()
@click.argument("member")
@click.argument("amount", type=UNITS)
@_title
@signing
def spend(way: Connection, member: str, amount: int, title: str) -> None:
    """Pay MEMBER an AMOUNT out of the treasury.

    \b
    Example:
      fedmeta ledger propose spend west 500 --title "For the audit" --key fed/keys/east.pem
    """
    _propose(way, title, "spend", member=member, amount=amount)


@propose.command()
@click.argument("fault", type=UNITS)
@_title
@signing
def annul(way: Connection, fault: int, title: str) -> None:
    """Undo the slash of fault number FAULT, out of the treasury.

    \b
    Example:
      fedmeta ledger propose annul 1 --key fed/keys/east.pem
    """
    _propose(way, title, "annul-slash", fault=fault)


@propose.command()
@click.argument("digest", metavar="RECIPE", type=HASH)
@click.option("--model", metavar="HASH|FILE", type=HASH, required=True, help="The model that training starts from.")
@click.option("--name", default="", help="What the recipe is called.")
@click.option("--retire", is_flag=True, help="Take it out of use instead.")
@_title
@signing
def recipe(way: Connection, digest: bytes, model: bytes, name: str, retire: bool, title: str) -> None:
    """Register RECIPE, a hash or a file, to be trained; or set a known one to another model.

    \b
    Example:
      fedmeta ledger propose recipe recipe.toml --model model.safetensors --name "Sepsis" --key fed/keys/east.pem
    """
    _propose(way, title, "recipe", digest=digest, title=name, model=model, active=not retire)


@click.command(short_help="List proposals, or show one.")
@click.argument("number", required=False, type=UNITS)
@click.option("--after", metavar="N", type=UNITS, help="List those after this number.")
@reading
def proposals(way: Connection, number: int | None, after: int | None) -> None:
    """List the proposals with the present count of votes, or show proposal NUMBER.

    \b
    Examples:
      fedmeta ledger proposals
      fedmeta ledger proposals 2
    """
    with way.reader() as client:
        found = client.query("proposals", after=after) if number is None else client.query("proposal", number=number)
    if way.as_json:
        show.write_json(found)
    elif number is None:
        rows = [
            (
                one["number"],
                one["proposer"],
                _action(one["action"]),
                one["status"],
                show.percent(one["turnout"]),
                one["yes"],
                one["no"],
                one["abstain"],
                one["against"],
            )
            for one in found
        ]
        headings = ("proposal", "by", "action", "status", "turnout", "yes", "no", "abstain", "veto")
        show.write(show.table("", headings, rows) if rows else "there is no proposal, or no more")
    else:
        _show_one(found)


def _show_one(one: dict[str, Any]) -> None:
    facts = {
        "title": one["title"],
        "by": f"{one['proposer']}, in block {one['submitted']:,}, for a deposit of {one['deposit']:,}",
        "action": _action(one["action"]),
        "status": one["status"],
        "voting": f"until block {one['closes']:,}",
        "takes effect": f"in block {one['executes']:,}" if one["executes"] else "-",
        "turnout": f"{show.percent(one['turnout'])} of {one['bonded']:,} units at stake",
        "yes": one["yes"],
        "no": one["no"],
        "abstain": one["abstain"],
        "veto": one["against"],
        "votes": [f"{name}: {choice}" for name, choice in one["votes"].items()],
    }
    show.write(show.facts(f"Proposal {one['number']}", facts))


def _action(action: dict[str, Any]) -> str:
    return f"{action['kind']}: {show.short({name: value for name, value in action.items() if name != 'kind'})}"


@click.command(short_help="Vote on a proposal.")
@click.argument("proposal", type=UNITS)
@click.argument("choice", type=click.Choice(CHOICES))
@signing
def vote(way: Connection, proposal: int, choice: str) -> None:
    """Vote on a PROPOSAL with one's stake; a candidate carries the stake behind it that does not vote itself.

    \b
    Example:
      fedmeta ledger vote 1 yes --key fed/keys/north.pem
    """
    send(way, tx.CastVote(proposal, choice))
