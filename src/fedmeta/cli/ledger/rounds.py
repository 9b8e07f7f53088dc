"""`fedmeta ledger round`: what a round has come to, and playing one by hand."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HASH, UNITS, Connection, Shown, keyed, numbers, reading, signing
from fedmeta.cli.ledger.sending import deliver, write_new
from fedmeta.errors import DataError, UsageError
from fedmeta.govern.engines.disk import read_file
from fedmeta.govern.wire import transactions as tx

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client

EXPECTED = {
    "opening": "{leader} is to open it",
    "updates": "the cohort is to commit its updates",
    "manifest": "{leader} is to post the manifest",
    "commit": "the super nodes are to commit to results",
    "reveal": "the super nodes are to reveal their results",
}
"""Phase to what happens in it."""


def computed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what an execution of a round gave."""
    model = click.option("--model", metavar="HASH|FILE", type=HASH, required=True, help="The next model.")
    aggregate = click.option("--aggregate", metavar="HASH|FILE", type=HASH, required=True, help="The aggregate.")
    return aggregate(model(command))


@click.group(cls=Shown, short_help="Show a round, or play one by hand.")
def round() -> None:
    """Show a round, or do by hand what members and super nodes do in one; the round is always the latest.

    A hash is given as 64 hexadecimal digits, or as a file whose SHA-256 is taken.

    \b
    Examples:
      fedmeta ledger round
      fedmeta ledger round 3
      fedmeta ledger round open --key fed/keys/north.pem
    """


def going_on(found: dict[str, Any]) -> str:
    """Return what is happening in a round that is not over, and until when."""
    phase, leader = found["phase"], found["leader"] or "the next leader"
    if phase == "opening" and not found["deadline"]:
        return "it waits for a recipe"
    return f"{EXPECTED[phase].format(leader=leader)} by block {found['deadline']:,}" if phase in EXPECTED else phase


@round.command("show")
@click.argument("number", required=False, type=UNITS)
@reading
def show_(way: Connection, number: int | None) -> None:
    """Show round NUMBER, or the latest one: its updates, its manifest, and what the super nodes revealed.

    \b
    Example:
      fedmeta ledger round show 3
    """
    with way.reader() as client:
        found = client.query("round", number=client.status()["round"] if number is None else number)
    if way.as_json:
        show.write_json(found)
        return
    manifest = found["manifest"]
    facts = {
        "phase": found["phase"],
        "now": going_on(found) if not found["settled"] else "",
        "over": f"since block {found['settled']:,}" if found["settled"] else "",
        "term": found["term"],
        "leader": found["leader"],
        "led before": found["leaders"][:-1],
        "cohort": found["cohort"],
        "opened": f"in block {found['opened']:,}" if found["opened"] else "",
        "recipe": show.Whole(found["recipe"]),
        "model": show.Whole(found["model"]),
        "result": show.Whole(found["result"]),
        "challenges": found["challenges"],
    }
    parts: list[Any] = [show.facts(f"Round {found['number']}", {name: value for name, value in facts.items() if value})]
    if found["updates"]:
        names = ("member", "digest", "examples", "height")
        rows = [tuple(one[name] for name in names) for one in found["updates"]]
        parts.append(show.table("Updates", ("member", "update", "examples", "block"), rows))
    if manifest is not None:
        facts = {
            "leader": f"{manifest['leader']}, attempt {manifest['attempt']}, in block {manifest['height']:,}",
            "includes": manifest["members"],
            "aggregate": show.Whole(manifest["aggregate"]),
            "next model": show.Whole(manifest["model"]),
        }
        parts.append(show.facts("Manifest", facts))
    if found["attestations"]:
        members = (manifest or {}).get("members", ())
        rows = [
            (one["candidate"], _standing(one, found["number"], manifest), *(one["scores"] or ["-"] * len(members)))
            for one in found["attestations"]
        ]
        title = "What the super nodes revealed: their results, and scores for the updates"
        parts.append(show.table(title, ("super node", "result", *members), rows))
    show.write(*parts)


def _standing(one: dict[str, Any], number: int, manifest: dict[str, Any] | None) -> str:
    """Return what a super node revealed, beside what the manifest says."""
    if not one["revealed"]:
        return "not yet"
    if manifest is None:
        return one["result"]
    due = tx.result(number, *(bytes.fromhex(manifest[name]) for name in ("aggregate", "model")))
    return "the manifest's" if one["result"] == due.hex() else f"another: {show.short(one['result'])}"


def _latest(client: "Client", phase: str) -> dict[str, Any]:
    """Return the latest round; raises `UsageError` if it is not in the phase for what is asked."""
    found = client.query("round", number=client.status()["round"])
    if found["phase"] != phase:
        raise UsageError(f"round {found['number']} is in phase {found['phase']}, not {phase}: {going_on(found)}")
    return found


@round.command("open")
@click.option("--recipe", metavar="HASH|FILE", type=HASH, help="The recipe.  [default: the only active one]")
@signing
def open_(way: Connection, recipe: bytes | None) -> None:
    """Open the round with a recipe and the model that it has reached, as the leader.

    \b
    Example:
      fedmeta ledger round open --key fed/keys/north.pem
    """
    with way.signer() as client:
        found, recipes = _latest(client, "opening"), client.query("recipes")
        wanted = [one for one in recipes if (one["active"] if recipe is None else one["digest"] == recipe.hex())]
        if len(wanted) != 1:
            known = ", ".join(one["digest"] for one in recipes if one["active"]) or "none"
            raise UsageError(f"--recipe must be one of those that are active: {known}")
        body = tx.OpenRound(found["number"], *(bytes.fromhex(wanted[0][name]) for name in ("digest", "model")))
        deliver(way, client, body)


@round.command()
@click.argument("member")
@click.argument("update", metavar="HASH|FILE", type=HASH)
@click.option("--examples", type=UNITS, required=True, help="How many examples the member says it is of.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="A new file for it.")
@keyed
def receipt(way: Connection, member: str, update: bytes, examples: int, out: Path | None) -> None:
    """Sign, as a super node, that MEMBER's update has come and is stored; the member commits with it.

    \b
    Example:
      fedmeta ledger round receipt east east.update --examples 120 --out north.receipt --key fed/keys/north.pem
    """
    key = way.private()
    with way.reader() as client:
        chain_id, number = client.chain_id, _latest(client, "updates")["number"]
    signature = key.sign(tx.receipt(chain_id, number, member, update, examples))
    made = {
        "chain_id": chain_id,
        "round": number,
        "member": member,
        "update": update.hex(),
        "examples": examples,
        "super_node": way.name,
        "signature": signature.hex(),
    }
    if out is None:
        show.write_json(made)
    else:
        write_new(out, json.dumps(made, indent=1).encode() + b"\n")
        show.write(f"{out} is the receipt of {way.name} for the update of {member} in round {number}")


@round.command()
@click.argument("update", metavar="HASH|FILE", type=HASH)
@click.option("--examples", type=UNITS, required=True, help="How many examples it is of.")
@click.option(
    "--receipt",
    "receipts",
    metavar="FILE",
    multiple=True,
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A super node's receipt; once for each, at least f + 1.",
)
@signing
def update(way: Connection, update: bytes, examples: int, receipts: tuple[Path, ...]) -> None:
    """Commit to an update, as a member of the cohort, with receipts of super nodes that have it.

    \b
    Example:
      fedmeta ledger round update east.update --examples 120 --receipt north.receipt --key fed/keys/east.pem
    """
    with way.signer() as client:
        number = _latest(client, "updates")["number"]
        due = {"round": number, "member": way.name, "update": update.hex(), "examples": examples}
        signed = sorted(_receipt(path, {"chain_id": client.chain_id, **due}) for path in receipts)
        deliver(way, client, tx.CommitUpdate(number, update, examples, tuple(signed)))


def _receipt(path: Path, due: dict[str, Any]) -> tuple[str, bytes]:
    """Return super node and signature of the receipt in a file, if it is for what is due."""
    found = _read_json(path, "receipt", {**due, "super_node": "", "signature": ""})
    for name, value in due.items():
        if found[name] != value:
            raise DataError(f"the receipt {path} is for {name} {found[name]!r}: this is for {value!r}")
    return found["super_node"], _octets(found["signature"], f"the signature in {path}")


@round.command()
@computed
@click.option("--leave-out", metavar="MEMBER", multiple=True, help="Leave a member's update out: a fault.")
@signing
def manifest(way: Connection, aggregate: bytes, model: bytes, leave_out: tuple[str, ...]) -> None:
    """Say which updates were aggregated and what it gave, as the leader: all that were committed.

    \b
    Example:
      fedmeta ledger round manifest --aggregate aggregate.bin --model model.bin --key fed/keys/north.pem
    """
    with way.signer() as client:
        found = _latest(client, "manifest")
        names = [one["member"] for one in found["updates"]]
        if unknown := sorted(set(leave_out) - set(names)):
            raise UsageError(f"--leave-out {unknown[0]}: it committed no update; {', '.join(sorted(names))} did")
        included = tuple(sorted(set(names) - set(leave_out)))
        deliver(way, client, tx.PostManifest(found["number"], found["attempt"], included, aggregate, model))


@round.command()
@computed
@click.option(
    "--score",
    "scores",
    metavar="MEMBER=PPM",
    multiple=True,
    help="How useful a member's update was, in parts per million; once for each.",
)
@click.option(
    "--opening",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file for what `reveal` needs.  [default: round-NUMBER-NAME.json]",
)
@signing
def attest(way: Connection, aggregate: bytes, model: bytes, scores: tuple[str, ...], opening: Path | None) -> None:
    """Commit to a result and to scores, as a super node; a file keeps what opens it, readable by its owner only.

    Keep the file: who commits and does not reveal is slashed.

    \b
    Example:
      fedmeta ledger round attest --aggregate aggregate.bin --model model.bin --score east=520000 \\
          --score west=250000 --key fed/keys/north.pem
    """
    from fedmeta.govern.errors import Refused

    given = numbers(scores, "--score", "east=520000")
    with way.signer() as client:
        found = _latest(client, "commit")
        number, attempt, names = found["number"], found["attempt"], found["manifest"]["members"]
        if sorted(given) != names:
            raise UsageError(
                f"--score must be given for {', '.join(names)}, not for {', '.join(sorted(given)) or 'none'}"
            )
        ordered = tuple(given[name] for name in names)
        if too := [name for name in names if given[name] > 1_000_000]:
            raise UsageError(f"--score of {too[0]} is {given[too[0]]}: it must be from 0 to 1000000")
        result, salt = tx.result(number, aggregate, model), os.urandom(32)
        path = opening or Path(f"round-{number}{f'-attempt-{attempt}' if attempt else ''}-{way.name}.json")
        kept = {
            "chain_id": client.chain_id,
            "round": number,
            "super_node": way.name,
            "result": result.hex(),
            "scores": given,
            "salt": salt.hex(),
        }
        write_new(path, json.dumps(kept, indent=1, sort_keys=True).encode() + b"\n", 0o600)
        commitment = tx.commitment(client.chain_id, number, way.name, result, ordered, salt)
        try:
            deliver(way, client, tx.Attest(number, commitment))
        except Refused:
            # Nothing was committed: the file opens nothing.
            path.unlink()
            raise
    if not way.as_json:
        show.write(f"{path} opens it: `round reveal {path}` once all have committed")
    due = found["manifest"]
    if (aggregate.hex(), model.hex()) != (due["aggregate"], due["model"]):
        click.echo("fedmeta: warning: this is another result than the manifest's", err=True)


@round.command()
@click.argument("opening", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@signing
def reveal(way: Connection, opening: Path) -> None:
    """Open a commitment with the FILE that `attest` kept.

    \b
    Example:
      fedmeta ledger round reveal round-1-north.json --key fed/keys/north.pem
    """
    due = {"chain_id": "", "round": 0, "super_node": "", "result": "", "scores": {}, "salt": ""}
    found = _read_json(opening, "opening", due)
    if found["super_node"] != way.name:
        raise DataError(f"{opening} opens what {found['super_node']} committed to: you sign as {way.name}")
    scores = found["scores"]
    if any(type(one) is not int for one in scores.values()):
        raise DataError(f"{opening} is no opening: its scores must be whole numbers")
    result, salt = (_octets(found[name], f"the {name} in {opening}") for name in ("result", "salt"))
    with way.signer() as client:
        if found["chain_id"] != client.chain_id:
            raise DataError(f"{opening} is for chain {found['chain_id']!r}: this is {client.chain_id!r}")
        ordered = tuple(scores[name] for name in sorted(scores))
        deliver(way, client, tx.Reveal(found["round"], result, ordered, salt))


def _read_json(path: Path, what: str, due: dict[str, Any]) -> dict[str, Any]:
    """Return the map in a file; raises `DataError` unless it has the fields that are due, of their types."""
    try:
        found = json.loads(read_file(path))
    except ValueError as error:
        raise DataError(f"{path} is no {what}: it is not JSON") from error
    if type(found) is not dict:
        raise DataError(f"{path} is no {what}: it must be a map")
    for name, value in due.items():
        if type(found.get(name)) is not type(value):
            raise DataError(f"{path} is no {what}: it has no {name}, or not of its type")
    return found


def _octets(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise DataError(f"{what} is not in hex") from error
