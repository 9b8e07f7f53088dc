"""`fedmeta ledger fault` and `challenge`: what was proven against whom, and how it is proven."""

from typing import Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import UNITS, Connection, Shown, reading, signing
from fedmeta.cli.ledger.rounds import computed
from fedmeta.cli.ledger.sending import deliver, read_transaction, send
from fedmeta.govern.errors import Refused
from fedmeta.govern.wire import transactions as tx

LATEST = 50
"""Faults and challenges that a list goes back."""


@click.group(cls=Shown, short_help="List proven faults, or prove one.")
def fault() -> None:
    """List proven faults or show one; prove one by evidence.

    Others the ledger sees by itself: a reveal that was withheld, duties missed, a result that a quorum refutes.

    \b
    Examples:
      fedmeta ledger fault
      fedmeta ledger fault 1
      fedmeta ledger fault manifests first.tx second.tx --key fed/keys/east.pem
    """


@fault.command("show")
@click.argument("number", required=False, type=UNITS)
@reading
def show_fault(way: Connection, number: int | None) -> None:
    """List the latest faults, or show fault NUMBER and what was slashed for it.

    \b
    Example:
      fedmeta ledger fault show 1
    """
    found = _some(way, "fault", number)
    if way.as_json:
        show.write_json(found if number is None else found[0])
    elif number is None:
        rows = [
            (
                one["number"],
                one["offender"],
                one["kind"],
                one["round"],
                one["height"],
                sum(cut["amount"] for cut in one["cuts"]),
                one["reporter"] or "the ledger",
                one["annulled"],
            )
            for one in found
        ]
        headings = ("fault", "offender", "what", "round", "at block", "slashed", "shown by", "annulled")
        show.write(show.table("", headings, rows) if rows else "no fault was proven")
    else:
        _show_fault(found[0])


def _some(way: Connection, what: str, number: int | None) -> list[dict[str, Any]]:
    """Return the fault or the challenge of a number, or the latest that are not forgotten."""
    with way.reader() as client:
        if number is not None:
            return [client.query(what, number=number)]
        last = client.query("status")[f"{what}s"]
        found = []
        for one in range(max(1, last - LATEST + 1), last + 1):
            try:
                found.append(client.query(what, number=one))
            except Refused as error:
                if error.code != "not-found":
                    raise
        return found


def _show_fault(one: dict[str, Any]) -> None:
    slashed = sum(cut["amount"] for cut in one["cuts"])
    facts = {
        "offender": one["offender"],
        "what": one["kind"],
        "round": f"{one['round']}, of term {one['term']}",
        "done": f"in block {one['infraction']:,}",
        "proven": f"in block {one['height']:,}, by {one['reporter'] or 'the ledger itself'}",
        "costs": show.percent(one["fraction"]),
        "slashed": f"{slashed:,} units{': ' if one['cuts'] else ''}{show.listed(one['cuts'])}",
        "to the reporter": one["reward"],
        "to the treasury": slashed - one["reward"],
        "annulled": one["annulled"],
    }
    show.write(show.facts(f"Fault {one['number']}", facts))


@fault.command()
@click.argument("first", metavar="FIRST")
@click.argument("second", metavar="SECOND")
@signing
def manifests(way: Connection, first: str, second: str) -> None:
    """Prove that a leader signed two manifests for one attempt at a round.

    FIRST and SECOND are the signed transactions: files, hex, or the digest of one that is on the ledger.

    \b
    Example:
      fedmeta ledger fault manifests first.tx second.tx --key fed/keys/east.pem
    """
    with way.signer() as client:
        deliver(way, client, tx.ReportManifests(*(read_transaction(one, client) for one in (first, second))))


@fault.command("left-out")
@click.argument("round", type=UNITS)
@click.argument("member")
@signing
def left_out(way: Connection, round: int, member: str) -> None:
    """Prove that the manifest of ROUND left out the update that MEMBER had committed.

    \b
    Example:
      fedmeta ledger fault left-out 3 west --key fed/keys/west.pem
    """
    send(way, tx.ReportLeftOut(round, member))


@click.group(cls=Shown, short_help="List challenges; challenge a result, or judge one.")
def challenge() -> None:
    """List challenges of results or show one; challenge what a super node revealed, or judge as a standby.

    \b
    Examples:
      fedmeta ledger challenge
      fedmeta ledger challenge open 3 north --aggregate right.bin --model next.bin --key fed/keys/east.pem
    """


@challenge.command("show")
@click.argument("number", required=False, type=UNITS)
@reading
def show_challenge(way: Connection, number: int | None) -> None:
    """List the latest challenges, or show challenge NUMBER with its panel and the verdicts.

    \b
    Example:
      fedmeta ledger challenge show 1
    """
    found = _some(way, "challenge", number)
    if way.as_json:
        show.write_json(found if number is None else found[0])
    elif number is None:
        names = ("number", "round", "accused", "challenger", "status", "closes")
        headings = ("challenge", "round", "accused", "by", "status", "closes at block")
        rows = [tuple(one[name] for name in names) for one in found]
        show.write(show.table("", headings, rows) if rows else "no result was challenged")
    else:
        one = found[0]
        facts = {
            "status": one["status"],
            "round": one["round"],
            "accused": one["accused"],
            "by": f"{one['challenger']}, in block {one['opened']:,}, for a deposit of {one['deposit']:,}",
            "says": show.Whole(one["result"]),
            "closes": f"at block {one['closes']:,}",
        }
        rows = [
            (seat["candidate"], seat["power"], show.Whole(one["verdicts"].get(seat["candidate"], "not yet")))
            for seat in one["panel"]
        ]
        panel = show.table("Panel", ("standby", "power", "got"), rows)
        show.write(show.facts(f"Challenge {number}", facts), panel)


@challenge.command("open")
@click.argument("round", type=UNITS)
@click.argument("accused")
@computed
@signing
def open_challenge(way: Connection, round: int, accused: str, aggregate: bytes, model: bytes) -> None:
    """Say that ACCUSED revealed a wrong result of ROUND, for a deposit; the standbys execute it again.

    \b
    Example:
      fedmeta ledger challenge open 3 north --aggregate right.bin --model next.bin --key fed/keys/east.pem
    """
    send(way, tx.OpenChallenge(round, accused, tx.result(round, aggregate, model)))


@challenge.command()
@click.argument("number", type=UNITS)
@computed
@signing
def judge(way: Connection, number: int, aggregate: bytes, model: bytes) -> None:
    """Say, as a standby on the panel of challenge NUMBER, what one's own execution gave.

    \b
    Example:
      fedmeta ledger challenge judge 1 --aggregate right.bin --model next.bin --key fed/keys/west.pem
    """
    with way.signer() as client:
        round = client.query("challenge", number=number)["round"]
        deliver(way, client, tx.Judge(number, tx.result(round, aggregate, model)))
