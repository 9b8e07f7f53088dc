"""`fedmeta ledger stake` and `candidate`: what a member does with its units, and as a candidate."""

from typing import Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import UNITS, Connection, Shown, reading, signing
from fedmeta.cli.ledger.sending import send
from fedmeta.govern.wire import transactions as tx


@click.group()
def stake() -> None:
    """Stake, move stake, take it back, and claim rewards; amounts are in units.

    \b
    Example:
      fedmeta ledger stake delegate east 500 --key fed/keys/north.pem
    """


@stake.command()
@click.argument("amount", type=UNITS)
@signing
def bond(way: Connection, amount: int) -> None:
    """Stake AMOUNT on oneself, as a candidate.

    \b
    Example:
      fedmeta ledger stake bond 500 --key fed/keys/north.pem
    """
    send(way, tx.Bond(amount))


@stake.command()
@click.argument("candidate")
@click.argument("amount", type=UNITS)
@signing
def delegate(way: Connection, candidate: str, amount: int) -> None:
    """Stake AMOUNT on a candidate.

    \b
    Example:
      fedmeta ledger stake delegate east 500 --key fed/keys/north.pem
    """
    send(way, tx.Delegate(candidate, amount))


@stake.command()
@click.argument("candidate")
@click.argument("amount", type=UNITS)
@signing
def undelegate(way: Connection, candidate: str, amount: int) -> None:
    """Take AMOUNT back from a candidate, or from oneself; it is paid after the unbonding period.

    \b
    Example:
      fedmeta ledger stake undelegate east 200 --key fed/keys/north.pem
    """
    send(way, tx.Undelegate(candidate, amount))


@stake.command()
@click.argument("source")
@click.argument("destination")
@click.argument("amount", type=UNITS)
@signing
def redelegate(way: Connection, source: str, destination: str, amount: int) -> None:
    """Move AMOUNT from one candidate to another at once.

    \b
    Example:
      fedmeta ledger stake redelegate east south 200 --key fed/keys/north.pem
    """
    send(way, tx.Redelegate(source, destination, amount))


@stake.command()
@click.argument("candidate")
@click.argument("height", type=UNITS)
@click.argument("amount", type=UNITS)
@signing
def cancel(way: Connection, candidate: str, height: int, amount: int) -> None:
    """Put AMOUNT that was undelegated at HEIGHT back to its candidate.

    \b
    Example:
      fedmeta ledger stake cancel east 118 200 --key fed/keys/north.pem
    """
    send(way, tx.CancelUnbonding(candidate, height, amount))


@stake.command()
@signing
def claim(way: Connection) -> None:
    """Take all rewards that are owed.

    \b
    Example:
      fedmeta ledger stake claim --key fed/keys/north.pem
    """
    send(way, tx.Claim())


@click.group(cls=Shown, short_help="List candidates; stand for election, and what goes with it.")
def candidate() -> None:
    """List candidates or show one; stand for election, and what goes with it. Commissions are in parts per million.

    \b
    Examples:
      fedmeta ledger candidate
      fedmeta ledger candidate north
      fedmeta ledger candidate register --commission 50000 --key fed/keys/west.pem
    """


@candidate.command("show")
@click.argument("name", required=False)
@reading
def show_(way: Connection, name: str | None) -> None:
    """List the candidates, or show the one called NAME.

    \b
    Example:
      fedmeta ledger candidate show north
    """
    with way.reader() as client:
        found = client.query("candidates") if name is None else client.query("candidate", name=name)
    if way.as_json:
        show.write_json(found)
    elif name is None:
        rows = [
            (
                one["member"],
                one["organisation"],
                one["tokens"],
                one["own_stake"],
                one["weight"],
                show.percent(one["commission"]),
                _standing(one),
            )
            for one in sorted(found, key=lambda one: (-one["weight"], one["registered"], one["member"]))
        ]
        show.write(
            show.table("", ("candidate", "organisation", "stake", "its own", "weight", "commission", "stands"), rows)
        )
    else:
        _show_one(found)


def _show_one(found: dict[str, Any]) -> None:
    highest = show.percent(found["highest_commission"])
    show.write(
        show.facts(
            found["member"],
            {
                "organisation": found["organisation"],
                "stands": _standing(found),
                "stake": found["tokens"],
                "its own": found["own_stake"],
                "weight": found["weight"],
                "commission": f"{show.percent(found['commission'])}, could be {highest} now",
                "registered": f"block {found['registered']:,}",
                "unsettled": f"{found['outstanding']:,} units of rewards lie with its voters",
                "faults": [f"{one['number']} ({one['kind']})" for one in found["faults"]],
            },
        )
    )


def _standing(one: dict[str, Any]) -> str:
    if one["tombstoned"]:
        return "barred"
    if one["jailed"]:
        return f"jailed{' for absence' if one['absent'] else ''} until block {one['jailed_until']:,}"
    return "yes" if one["active"] else "retired"


@candidate.command()
@click.option("--commission", metavar="PPM", type=UNITS, default=0, show_default=True, help="Of the voters' rewards.")
@signing
def register(way: Connection, commission: int) -> None:
    """Stand for election, or again after retiring.

    \b
    Example:
      fedmeta ledger candidate register --commission 50000 --key fed/keys/west.pem
    """
    send(way, tx.Register(commission))


@candidate.command("commission")
@click.argument("commission", type=UNITS)
@signing
def set_commission(way: Connection, commission: int) -> None:
    """Change the commission, within the cap and the yearly rate.

    \b
    Example:
      fedmeta ledger candidate commission 60000 --key fed/keys/west.pem
    """
    send(way, tx.SetCommission(commission))


@candidate.command()
@signing
def retire(way: Connection) -> None:
    """Stand for no further election.

    \b
    Example:
      fedmeta ledger candidate retire --key fed/keys/west.pem
    """
    send(way, tx.Retire())


@candidate.command()
@signing
def unjail(way: Connection) -> None:
    """Stand for election again after the time in jail.

    \b
    Example:
      fedmeta ledger candidate unjail --key fed/keys/west.pem
    """
    send(way, tx.Unjail())
