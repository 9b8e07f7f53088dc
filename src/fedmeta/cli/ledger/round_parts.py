"""What contributors and seats do in a round, by hand: commit, seal, hold, attest, reveal."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import CHECKPOINT, GENESIS, HASH, UNITS, Connection, numbers, reading, signing
from fedmeta.cli.ledger.rounds import EXPECTED, NONE, latest, round
from fedmeta.cli.ledger.sending import deliver, write_new
from fedmeta.errors import DataError
from fedmeta.govern.engines.disk import read_file
from fedmeta.govern.errors import NodeError, ProofError, Refused, Unacknowledged
from fedmeta.govern.wire import transactions as tx

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client

__all__ = ["round"]

MILLION = 1_000_000


def _opening(default: str) -> Callable[..., Any]:
    """Return the option of a new file for what opens a commitment."""
    return click.option(
        "--opening",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"A new file for what opens it.  [default: {default}]",
    )


def _in_phase(client: "Client", phase: str) -> dict[str, Any]:
    """Return the latest round; refuses as the ledger would if it is not in the phase for what is asked."""
    found = latest(client)
    if found is None:
        raise Refused("not-found", NONE)
    if found["phase"] != phase:
        now = "" if found["settled"] else f"; now {EXPECTED[found['phase']]}"
        raise Refused(
            "wrong-phase",
            f"round {found['number']} is in phase {found['phase']}: this belongs to phase {phase}{now}",
        )
    return found


def _promise(way: Connection, client: "Client", path: Path, opening: dict[str, Any], body: object) -> None:
    """Send a commitment once what opens it is in a new file that only its owner can read."""
    write_new(path, json.dumps(opening, indent=1).encode() + b"\n", 0o600)
    try:
        deliver(way, client, body)
    except (Refused, NodeError) as error:
        # Nothing was committed: the file opens nothing. But where that is not known, it may.
        if not isinstance(error, Unacknowledged):
            path.unlink()
        raise


@round.command(short_help="Commit to an update.")
@click.argument("update", metavar="HASH|FILE", type=HASH)
@_opening("update-ROUND-NAME.json")
@signing
def commit(way: Connection, update: bytes, opening: Path | None) -> None:
    """Commit to an update, as a member of the cohort: to its hash, one's name and a secret of 32 bytes.

    Nobody can tell from it what the update is, or copy it. The secret is in a new file that only you can read. Give it
    to the super nodes with the update, but not before `round sealed` says that the commitments are closed.

    \b
    Example:
      fedmeta ledger round commit coast.update --key fed/keys/coast.pem
    """
    with way.signer() as client:
        number = _in_phase(client, "commit")["number"]
        salt, path = os.urandom(32), opening or Path(f"update-{number}-{way.name}.json")
        kept = {
            "genesis": client.ledger.hex(),
            "round": number,
            "member": way.name,
            "update": update.hex(),
            "salt": salt.hex(),
        }
        digest = tx.update_digest(client.ledger, number, way.name, salt, update)
        _promise(way, client, path, kept, tx.CommitUpdate(number, digest))
    if not way.as_json:
        show.write(f"{path} opens it: send it with the update, once `round sealed` says that you can")


@round.command(short_help="Sign the header that closed the commitments.")
@GENESIS
@CHECKPOINT
@signing
def seal(way: Connection, genesis: Path | None, checkpoint: str | None) -> None:
    """Sign the header of the block with which the commitments closed, as a seat.

    The header is fetched from the node, and must be signed by those who order the blocks. Seal what your own node has
    executed: with seals of more than two thirds of the power contributors let their updates go.

    \b
    Example:
      fedmeta ledger round seal --key fed/keys/north.pem
    """
    with way.signer(genesis, checkpoint) as client:
        found = _in_phase(client, "deliver")
        header = client.checked_header(found["committed"])
        deliver(way, client, tx.Seal(found["number"], header.hash))


@round.command(short_help="Check that enough seats have signed it.")
@click.argument("number", required=False, type=UNITS)
@GENESIS
@CHECKPOINT
@reading
def sealed(way: Connection, number: int | None, genesis: Path | None, checkpoint: str | None) -> None:
    """Check that the commitments of round NUMBER, or of the latest one, are closed for good, before bytes are sent.

    The header of the block with which they closed is fetched and checked, and so are the seals: how much of the
    power has signed this header? The exit code is 1 unless it is more than two thirds. A sequencer that shows you
    another history than the super nodes cannot have that many. Give the genesis that you trust, and compare the seats'
    keys with those that you know: both are otherwise the word of the node and of the sequencer.

    \b
    Example:
      fedmeta ledger round sealed --genesis fed/genesis.cbor
    """
    from fedmeta.govern.client.light import sealed_by
    from fedmeta.govern.rules.members import machine_key_at

    with way.reader(genesis, checkpoint) as client:
        due = client.status()["round"] if number is None else number
        record = client.proof("round", due)
        if not record.committed:
            raise Refused(
                "wrong-phase", f"the commitments of round {due} are not closed: it is in phase {record.phase}"
            )
        header, height = client.checked_header(record.committed), client.status()["height"]
        keys = {
            machine_key_at(client.proof("member", seat.candidate), height): (seat.candidate, seat.power)
            for seat in record.seats
        }
        raws = _seals(client, due, record.committed, height)
        powers = {key: power for key, (_, power) in keys.items()}
        signed = sealed_by(client.ledger, due, header.hash, powers, raws)
    total, held = sum(powers.values()), sum(powers[key] for key in signed)
    enough = held * 3 > total * 2
    if way.as_json:
        seats = [
            {"candidate": name, "key": key, "power": power, "sealed": key in signed}
            for key, (name, power) in keys.items()
        ]
        value = {"round": due, "height": header.height, "header": header.hash, "seats": seats, "sealed": enough}
        show.write_json({**value, "power": held, "total": total})
    else:
        rows = [
            (name, key, power, show.percent(power * MILLION // total), key in signed)
            for key, (name, power) in keys.items()
        ]
        facts = {"closed with": f"block {header.height:,}", "header": show.Whole(header.hash.hex())}
        headings = ("seat", "signs by", "power", "of all", "has signed it")
        show.write(show.facts(f"Round {due}", facts), show.table("", headings, rows))
    said = f"seats with {show.percent(held * MILLION // total)} of the power signed the header of block"
    if not enough:
        raise ProofError(f"round {due} is not sealed: {said} {header.height:,}, it must be more than two thirds")
    if not way.as_json:
        show.write(f"\nSealed: {said} {header.height:,}. What was committed can be sent.")


def _seals(client: "Client", number: int, committed: int, height: int) -> list[bytes]:
    """Return the transactions that seal a round, of the blocks from the one that closed the commitments on."""
    found: list[bytes] = []
    due, digest = len(client.query("round", number=number)["seals"]), ""
    for said in client.events(committed + 1, height) if due and height > committed else ():
        if said.kind == "transaction-applied":
            digest = said.fields["digest"]
        elif said.kind == "header-sealed" and said.fields["round"] == number:
            found.append(bytes.fromhex(client.transaction(bytes.fromhex(digest))["raw"]))
        if len(found) == due:
            break
    return found


@round.command(short_help="Say whose updates one holds.")
@click.argument("members", metavar="[MEMBER]...", nargs=-1)
@signing
def hold(way: Connection, members: tuple[str, ...]) -> None:
    """Say that one holds the updates of MEMBERs, as a seat, or without a name those of all that committed.

    Say so of bytes that open what was committed to, and are well formed by the recipe: `round opens` checks the first.
    It can be said of some now, and of others later.

    \b
    Examples:
      fedmeta ledger round hold --key fed/keys/north.pem
      fedmeta ledger round hold coast east --key fed/keys/north.pem
    """
    with way.signer() as client:
        found = _in_phase(client, "deliver")
        names = set(members) or {one["member"] for one in found["updates"]}
        deliver(way, client, tx.Hold(found["number"], found["attempt"], tuple(sorted(names))))


@round.command(short_help="Check an update against its commitment.")
@click.argument("opening", metavar="OPENING", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("update", metavar="HASH|FILE", type=HASH)
@reading
def opens(way: Connection, opening: Path, update: bytes) -> None:
    """Check that an update, with the OPENING that came with it, is what its contributor committed to.

    \b
    Example:
      fedmeta ledger round opens update-1-coast.json coast.update
    """
    found = _read_json(opening, {"genesis": "", "round": 0, "member": "", "salt": ""})
    name, salt = found["member"], _octets(found, "salt", opening)
    with way.reader() as client:
        _check_ledger(found, client, opening)
        # A commitment that was carried over is of the latest round too, and opens in the one that it was made in.
        updates = (latest(client) or {"updates": []})["updates"]
        due = {one["member"]: one["digest"] for one in updates if one["origin"] == found["round"]}
        if name not in due:
            raise Refused(
                "not-found", f"{name!r} has committed to no update of round {found['round']} in the latest one"
            )
        digest, committed = tx.update_digest(client.ledger, found["round"], name, salt, update).hex(), due[name]
    if digest != committed:
        raise Refused("bad-reveal", f"this does not open {committed}, what {name} committed to")
    if way.as_json:
        show.write_json({"round": found["round"], "member": name, "digest": digest})
    else:
        show.write(f"it is what {name} committed to in round {found['round']}")


@round.command(short_help="Commit to a result and to scores.")
@click.argument("result", metavar="HASH|FILE", type=HASH)
@click.option(
    "--score",
    "scores",
    metavar="MEMBER=PPM",
    multiple=True,
    help="How useful a member's update was, in millionths; once for each.  [default: all alike]",
)
@_opening("result-ROUND-NAME.json")
@signing
def attest(way: Connection, result: bytes, scores: tuple[str, ...], opening: Path | None) -> None:
    """Commit to the next model that one has computed, and to scores, as a seat; a file keeps what opens it.

    Of n updates of others and a cohort of c, the scores may add up to n / c of 1000000; without --score all updates of
    others get the same. One's own organisation's gets none. Keep the file: who commits and does not reveal is not paid.

    \b
    Example:
      fedmeta ledger round attest model.bin --score coast=500000 --score east=250000 --key fed/keys/south.pem
    """
    given = numbers(scores, "--score", "east=250000")
    with way.signer() as client:
        found = _in_phase(client, "compute")
        number, attempt = found["number"], found["attempt"]
        ordered, salt = _ordered(found, way.name, given), os.urandom(32)
        name = f"result-{number}{f'-attempt-{attempt}' if attempt > 1 else ''}-{way.name}.json"
        path = opening or Path(name)
        kept = {
            "genesis": client.ledger.hex(),
            "round": number,
            "attempt": attempt,
            "seat": way.name,
            "result": result.hex(),
            "scores": dict(zip(found["members"], ordered, strict=True)),
            "salt": salt.hex(),
        }
        commitment = tx.commitment(client.ledger, number, attempt, way.name, result, ordered, salt)
        _promise(way, client, path, kept, tx.Attest(number, attempt, commitment))
    if not way.as_json:
        show.write(f"{path} opens it: `round reveal {path}` once all have committed")


def _ordered(found: dict[str, Any], name: str, given: dict[str, int]) -> tuple[int, ...]:
    """Return the scores of a seat in the order of the updates that are in; refuses those that could not be opened."""
    members, places = found["members"], {place["member"]: place["organisation"] for place in found["cohort"]}
    own = next((seat["organisation"] for seat in found["seats"] if seat["candidate"] == name), None)
    if own is None:
        raise Refused("not-allowed", f"{name} holds no seat in round {found['number']}")
    others = [one for one in members if places[one] != own]
    if not given:
        given = dict.fromkeys(others, MILLION // len(places))
    if unknown := sorted(set(given) - set(members)):
        raise Refused("bad-scores", f"--score names {unknown[0]}, whose update is not in: {', '.join(members)} are")
    if mine := sorted(one for one in given if places[one] == own and given[one]):
        raise Refused("bad-scores", f"--score of {mine[0]} is {given[mine[0]]}: it is 0 for one's own organisation")
    if missing := [one for one in others if one not in given]:
        raise Refused("bad-scores", f"--score is missing for {', '.join(missing)}: give all others one, or none")
    budget, total = len(others) * MILLION // len(places), sum(given.values())
    if total > budget:
        raise Refused(
            "bad-scores", f"the scores add up to {total}: at most {budget} for {len(others)} updates of others"
        )
    return tuple(given.get(one, 0) for one in members)


@round.command(short_help="Open what one has committed to.")
@click.argument("opening", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@signing
def reveal(way: Connection, opening: Path) -> None:
    """Open what one has committed to with the FILE that `attest` kept, as a seat.

    \b
    Example:
      fedmeta ledger round reveal result-1-north.json --key fed/keys/north.pem
    """
    due = {"genesis": "", "round": 0, "attempt": 0, "seat": "", "result": "", "scores": {}, "salt": ""}
    found = _read_json(opening, due)
    if found["seat"] != way.name:
        raise DataError(f"{opening} opens what {found['seat']} committed to: you sign as {way.name}")
    scores = found["scores"]
    if any(type(one) is not int for one in scores.values()):
        raise DataError(f"{opening} is no opening: its scores must be whole numbers")
    result, salt = (_octets(found, name, opening) for name in ("result", "salt"))
    with way.signer() as client:
        _check_ledger(found, client, opening)
        ordered = tuple(scores[name] for name in sorted(scores))
        deliver(way, client, tx.Reveal(found["round"], found["attempt"], result, ordered, salt))


def _check_ledger(found: dict[str, Any], client: "Client", path: Path) -> None:
    if found["genesis"] != client.ledger.hex():
        raise DataError(f"{path} is for the ledger of genesis {found['genesis']}: this is {client.ledger.hex()}")


def _read_json(path: Path, due: dict[str, Any]) -> dict[str, Any]:
    """Return the map in a file; raises `DataError` unless it has the fields that are due, of their types."""
    try:
        found = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no opening: it is not JSON") from error
    if type(found) is not dict:
        raise DataError(f"{path} is no opening: it must be a map")
    for name, value in due.items():
        if type(found.get(name)) is not type(value):
            raise DataError(f"{path} is no opening: it has no {name}, or not of its type")
    return found


def _octets(found: dict[str, Any], name: str, path: Path) -> bytes:
    try:
        return bytes.fromhex(found[name])
    except ValueError as error:
        raise DataError(f"the {name} in {path} is not in hex") from error
