"""`fedmeta ledger round`: what a round has come to."""

from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import UNITS, Connection, Shown, reading
from fedmeta.govern.state.parameters import ATTEMPTS

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client

EXPECTED = {
    "commit": "the cohort is to commit to its updates",
    "deliver": "the seats are to say whose updates they hold",
    "compute": "the seats are to commit to results",
    "reveal": "the seats are to open their results",
}
"""Phase to what happens in it."""

REASONS = {
    "too-few-commits": "too few committed to an update",
    "too-few-in": "too few updates are held by more than two thirds of the power",
    "too-few-commitments": "no more than two thirds of the power committed to a result",
    "no-agreement": "no result was opened by more than two thirds of the power",
}
"""Why a round is void, in words."""

NONE = "no round has begun: one does once a recipe is due and enough organisations are registered for it"


@click.group(cls=Shown, short_help="Show a round, or play one by hand.")
def round() -> None:
    """Show a round, or do by hand what contributors and seats do in one; what is done is done in the latest round.

    A hash is given as 64 hexadecimal digits, or as a file whose SHA-256 is taken.

    \b
    Examples:
      fedmeta ledger round
      fedmeta ledger round 3
      fedmeta ledger round commit coast.update --key fed/keys/coast.pem
    """


def latest(client: "Client") -> dict[str, Any] | None:
    """Return the latest round, or None before the first."""
    number = client.status()["round"]
    return client.query("round", number=number) if number else None


def going_on(found: dict[str, Any] | None) -> str:
    """Return what is happening in the latest round."""
    if found is None:
        return NONE
    phase, number = found["phase"], found["number"]
    if found["settled"]:
        return f"{number} is {phase} since block {found['settled']:,}; the next begins once a recipe is due"
    return f"{number}, {phase}: {EXPECTED[phase]}"


def closing(found: dict[str, Any] | None) -> str:
    """Return when the present phase of a round ends, or nothing; its window closes once both have come."""
    if found is None or found["settled"]:
        return ""
    return f"with block {found['closes']:,} and {show.moment(found['closes_time'])}, or once all have"


@round.command("show", short_help="Show a round.")
@click.argument("number", required=False, type=UNITS)
@reading
def show_(way: Connection, number: int | None) -> None:
    """Show round NUMBER, or the latest one: who committed, who holds what, what was opened, and the result.

    \b
    Example:
      fedmeta ledger round show 3
    """
    with way.reader() as client:
        found = latest(client) if number is None else client.query("round", number=number)
        if found is not None:
            found["reason"] = _reason(client, found)
            found["scored"] = client.query("scores", number=found["number"])
    if way.as_json:
        show.write_json(found)
    elif found is None:
        show.write(NONE)
    else:
        show.write(*_parts(found))


def _reason(client: "Client", found: dict[str, Any]) -> str:
    """Return the code for which a round is void: an event of its last block says it, while that is kept."""
    if found["phase"] != "void" or client.status()["first_block"] > found["settled"]:
        return ""
    events = client.block(found["settled"])["events"]
    return next(one["fields"]["reason"] for one in events if one["kind"] == "round-settled")


def _parts(found: dict[str, Any]) -> list[Any]:
    over, power = found["settled"], found["power"]
    facts = {
        "phase": f"{found['phase']}{f': {said}' if (said := EXPECTED.get(found['phase'])) else ''}",
        "because": f"{REASONS.get(found['reason'], '')} ({found['reason']})" if found["reason"] else "",
        "ends": closing(found),
        "over": f"since block {over:,}" if over else "",
        "attempt": f"{found['attempt']} of {ATTEMPTS}",
        "term": found["term"],
        "pays": f"{found['pool']:,} units at most",
        "begun": f"in block {found['scheduled']:,}",
        "commits": f"closed with block {found['committed']:,}" if found["committed"] else "",
        "in": found["members"],
        "recipe": show.Whole(found["recipe"]),
        "model": show.Whole(found["model"]),
        "result": show.Whole(found["result"]),
    }
    parts: list[Any] = [show.facts(f"Round {found['number']}", {name: value for name, value in facts.items() if value})]
    parts.append(_cohort(found))
    parts.append(_seats(found))
    opened = [one for one in found["attestations"] if one["revealed"]]
    if opened:
        rows = [(one["candidate"], _standing(found, one), _scores(found["members"], one["scores"])) for one in opened]
        parts.append(show.table("Opened", ("seat", "next model", "scores, in millionths"), rows))
    if found["scored"]["updates"]:
        parts.append(_scored(found["scored"]))
    parts.append(f"More than two thirds of the power is more than {power * 2 // 3:,} of {power:,}.")
    return parts


def _cohort(found: dict[str, Any]) -> Any:
    """Return the table of who contributes, what each committed to, and how much of the power holds it."""
    updates = {one["member"]: one for one in found["updates"]}
    powers = {seat["candidate"]: seat["power"] for seat in found["seats"]}
    rows = []
    for place in found["cohort"]:
        name = place["member"]
        update = updates.get(name)
        held = sum(powers[one["candidate"]] for one in found["holds"] if name in one["members"])
        rows.append(
            (
                name,
                place["organisation"],
                _committed(update, found["number"]) if update else "-",
                f"{show.percent(held * 1_000_000 // found['power'])} of the power" if update else "-",
            )
        )
    return show.table("Cohort", ("member", "organisation", "committed to", "held by"), rows)


def _committed(update: dict[str, Any], number: int) -> str:
    carried = f", carried over from round {update['origin']}" if update["origin"] != number else ""
    return f"{show.short(update['digest'])}{carried}{', unpaid' if update['unpaid'] else ''}"


def _seats(found: dict[str, Any]) -> Any:
    """Return the table of the seats, and of what each has done."""
    seals = {one["candidate"] for one in found["seals"]}
    holds = {one["candidate"]: len(one["members"]) for one in found["holds"]}
    attestations = {one["candidate"]: one for one in found["attestations"]}
    rows = []
    for seat in found["seats"]:
        name = seat["candidate"]
        attestation = attestations.get(name)
        rows.append(
            (
                name,
                seat["organisation"],
                seat["power"],
                show.percent(seat["power"] * 1_000_000 // found["power"]),
                name in seals,
                f"{holds.get(name, 0)} of {len(found['updates'])}",
                attestation is not None,
                bool(attestation and attestation["revealed"]),
            )
        )
    headings = ("seat", "organisation", "power", "of all", "sealed", "holds", "committed", "opened")
    return show.table("Seats", headings, rows)


def _standing(found: dict[str, Any], one: dict[str, Any]) -> str:
    """Return what a seat opened, beside what is final."""
    if not found["result"]:
        return show.short(one["result"])
    return "the result" if one["result"] == found["result"] else f"another: {show.short(one['result'])}"


def _scored(found: dict[str, Any]) -> Any:
    """Return the table of what each update was found worth, and by which seat how far from the median."""
    rows = []
    for one in found["updates"]:
        apart = [
            f"{seat['candidate']} {seat['scores'][one['member']] - one['score']:+,}"
            for seat in found["scorers"]
            if one["member"] in seat["scores"]
        ]
        rows.append((one["member"], one["score"], one["unpaid"], ", ".join(apart)))
    apart = [f"{seat['candidate']} {seat['distance']:,}" for seat in found["scorers"]]
    rows.append(("on average", "", "", ", ".join(apart)))
    return show.table(
        "Scores: the median, and how far each seat is from it", ("update", "median", "unpaid", "seats"), rows
    )


def _scores(members: list[str], scores: list[int]) -> str:
    return ", ".join(f"{name} {score:,}" for name, score in zip(members, scores, strict=True))
