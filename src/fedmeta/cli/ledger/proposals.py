"""`fedmeta ledger propose`, `proposals` and `vote`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HASH, PUBLIC_KEY, UNITS, Connection, numbers, reading, signing
from fedmeta.cli.ledger.sending import send
from fedmeta.errors import UsageError
from fedmeta.govern.errors import REFUSALS
from fedmeta.govern.wire import transactions as tx

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client

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


@propose.command(short_help="Change parameters.")
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


@propose.command(short_help="Admit a member.")
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


@propose.command(short_help="Remove a member.")
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


@propose.command(short_help="Pay a member out of the treasury.")
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


@propose.command(short_help="Undo a slash.")
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


@propose.command(short_help="Register a recipe, change or retire it.")
@click.argument("digest", metavar="RECIPE", type=HASH)
@click.option("--model", metavar="HASH|FILE", type=HASH, help="The model that training starts from.")
@click.option("--name", help="What the recipe is called.")
@click.option("--interval", metavar="N", type=UNITS, help="Blocks from one of its rounds to the next, at least.")
@click.option("--retire", is_flag=True, help="Take it out of use instead.")
@_title
@signing
def recipe(
    way: Connection,
    digest: bytes,
    model: bytes | None,
    name: str | None,
    interval: int | None,
    retire: bool,
    title: str,
) -> None:
    """Register RECIPE, a hash or a file, to be trained; change a known one, or take it out of use.

    Of a known one stays what is not given. A new one needs --model.

    \b
    Example:
      fedmeta ledger propose recipe recipe.toml --model model.safetensors --name "Sepsis" --key fed/keys/east.pem
    """
    with way.reader() as client:
        known = next((one for one in client.query("recipes") if one["digest"] == digest.hex()), None)
    if model is None:
        if known is None:
            raise UsageError(
                f"recipe {digest.hex()} is new: give the model that its training starts from, with --model"
            )
        model = bytes.fromhex(known["model"])
    before = known or {"title": "", "interval": 0}
    name = before["title"] if name is None else name
    interval = before["interval"] if interval is None else interval
    values = {"digest": digest, "title": name, "model": model, "active": not retire, "interval": interval}
    _propose(way, title, "recipe", **values)


@propose.command(short_help="Go on by the rules of a later protocol.")
@click.argument("protocol", type=UNITS)
@click.argument("height", type=UNITS)
@_title
@signing
def upgrade(way: Connection, protocol: int, height: int, title: str) -> None:
    """Execute blocks from HEIGHT on by the rules of PROTOCOL; with height 0 call an upgrade off.

    From then on a node needs a version of fedmeta that executes this protocol; `status` says when that is.

    \b
    Example:
      fedmeta ledger propose upgrade 3 500000 --title "Protocol 3" --key fed/keys/east.pem
    """
    _propose(way, title, "upgrade", protocol=protocol, height=height)


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
        if number is not None:
            found["reason"] = _reason(client, found)
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


def _reason(client: "Client", one: dict[str, Any]) -> str:
    """Return the code with which a proposal failed: an event says it, in one of the blocks from when it was due on."""
    kind = {"rejected": "proposal-closed", "vetoed": "proposal-closed", "failed": "proposal-executed"}.get(
        one["status"]
    )
    first = one["executes"] or one["closes"]
    node = client.status()
    if kind is not None and first >= node["first_block"]:
        for said in client.events(first, node["height"]):
            if said.kind == kind and said.fields["proposal"] == one["number"]:
                return said.fields["reason"]
    return ""


def _show_one(one: dict[str, Any]) -> None:
    facts = {
        "title": one["title"],
        "by": f"{one['proposer']}, in block {one['submitted']:,}, for a deposit of {one['deposit']:,}",
        "action": _action(one["action"]),
        "status": one["status"] + (f": {_told(one['reason'])}" if one["reason"] else ""),
        "voting": f"until block {one['closes']:,} and {show.moment(one['closes_time'])}",
        "takes effect": f"from block {one['executes']:,} and {show.moment(one['executes_time'])} on"
        if one["executes"]
        else "-",
        "turnout": f"{show.percent(one['turnout'])} of {one['bonded']:,} units at stake",
        "yes": one["yes"],
        "no": one["no"],
        "abstain": one["abstain"],
        "veto": one["against"],
        "votes": [f"{name}: {choice}" for name, choice in one["votes"].items()],
    }
    show.write(show.facts(f"Proposal {one['number']}", facts))


FAILED_BY = {
    "quorum": "too little of the stake has voted",
    "veto": "too much of it has vetoed",
    "threshold": "too little of it was for yes",
}
"""The parameter that a vote has missed or exceeded, in words."""


def _told(reason: str) -> str:
    """Return in words why a proposal failed."""
    if reason in FAILED_BY:
        return f"{FAILED_BY[reason]} (parameter {reason})"
    return f"{REFUSALS.get(reason, reason)} ({reason})"


IN_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "set-parameter": lambda of: f"set {of['name']} to {of['value']:,}",
    "set-parameters": lambda of: "set " + ", ".join(f"{name} to {value:,}" for name, value in of["values"].items()),
    "admit": lambda of: f"admit {of['member']} of {of['organisation']}",
    "remove": lambda of: f"remove {of['member']}",
    "spend": lambda of: f"pay {of['member']} {of['amount']:,} units of the treasury",
    "annul-slash": lambda of: f"annul the slash of fault {of['fault']}",
    "recipe": lambda of: _recipe_told(of),
    "upgrade": lambda of: f"protocol {of['protocol']} from block {of['height']:,} on" if of["height"] else "no upgrade",
}
"""Each action in words."""


def _recipe_told(of: dict[str, Any]) -> str:
    what = f"recipe {show.short(of['digest'])} {show.short(of['title'])}"
    if not of["active"]:
        return f"no more {what}"
    apart = f", rounds {of['interval']:,} blocks apart at least" if of["interval"] else ""
    return f"{what}, from model {show.short(of['model'])} on{apart}"


def _action(action: dict[str, Any]) -> str:
    return IN_WORDS[action["kind"]](action) if action["kind"] in IN_WORDS else show.short(action)


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
