"""`fedmeta ledger fault`: what was proven against whom, and what it cost."""

from typing import Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import UNITS, Connection, reading
from fedmeta.govern.errors import Refused

LATEST = 50
"""Faults that a list goes back."""


@click.command(short_help="List proven faults, or show one.")
@click.argument("number", required=False, type=UNITS)
@reading
def fault(way: Connection, number: int | None) -> None:
    """List the latest faults, or show fault NUMBER and what was slashed for it.

    The ledger sees them by itself: a seat opened another result than the one that became final, or signed two blocks of
    one height, or a header to mislead light clients. `propose annul` undoes a slash.

    \b
    Examples:
      fedmeta ledger fault
      fedmeta ledger fault 1
    """
    found = _some(way, number)
    if way.as_json:
        show.write_json(found if number is None else found[0])
    elif number is None:
        rows = [
            (
                one["number"],
                one["offender"],
                one["kind"],
                one["round"] or "-",
                one["height"],
                sum(cut["amount"] for cut in one["cuts"]),
                one["annulled"],
            )
            for one in found
        ]
        headings = ("fault", "offender", "what", "round", "at block", "slashed", "annulled")
        show.write(show.table("", headings, rows) if rows else "no fault was proven")
    else:
        _show_one(found[0])


def _some(way: Connection, number: int | None) -> list[dict[str, Any]]:
    """Return the fault of a number, or the latest that are not forgotten."""
    with way.reader() as client:
        if number is not None:
            return [client.query("fault", number=number)]
        last = client.query("status")["faults"]
        found = []
        for one in range(max(1, last - LATEST + 1), last + 1):
            try:
                found.append(client.query("fault", number=one))
            except Refused as error:
                if error.code != "not-found":
                    raise
        return found


def _show_one(one: dict[str, Any]) -> None:
    from fedmeta.govern.rules.faults import KINDS

    slashed, kind = sum(cut["amount"] for cut in one["cuts"]), one["kind"]
    facts = {
        "offender": one["offender"],
        "what": f"{kind}: {KINDS[kind].meaning}" if kind in KINDS else kind,
        "round": f"{one['round']}, of term {one['term']}" if one["round"] else f"none, in term {one['term']}",
        "done": f"in block {one['infraction']:,}",
        "proven": f"in block {one['height']:,}",
        "costs": show.percent(one["fraction"]),
        "slashed": f"{slashed:,} units{': ' if one['cuts'] else ''}{show.listed(one['cuts'])}",
        "annulled": one["annulled"],
    }
    show.write(show.facts(f"Fault {one['number']}", facts))
