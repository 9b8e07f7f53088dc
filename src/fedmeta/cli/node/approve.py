"""`fedmeta node approve`: a person lets the node work on a procedure, sees what was approved, or revokes it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HEX
from fedmeta.cli.node.options import in_folder
from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from fedmeta.node.member.approvals import Approval, Approvals
    from fedmeta.node.member.folder import Folder
    from fedmeta.runs.procedure import Procedure


@click.command(short_help="Let the node work on a procedure; list or revoke what was approved.")
@click.argument("procedure", metavar="[DIGEST|FILE]", required=False)
@click.option("--note", metavar="TEXT", help="Why, such as the number of an ethics committee's vote; it never leaves.")
@click.option("--until", metavar="DATE", help="The last day, such as 2027-12-31.  [default: no end]")
@click.option("--revoke", is_flag=True, help="Take it back: the node takes no further duty for it.")
@click.option("--list", "listing", is_flag=True, help="List what was approved.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output, and do not ask.")
def approve(
    procedure: str | None,
    note: str | None,
    until: str | None,
    revoke: bool,
    listing: bool,
    yes: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Approve a procedure, given as a FILE with its bytes or by its DIGEST: then it is fetched from a super node.

    What it does is shown in words, and it is refused if the policy in policy.toml does. The note and your name stay in
    the node's folder.

    \b
    Examples:
      fedmeta node approve digits.json --note "ethics 2026-17" --until 2027-12-31
      fedmeta node approve --list
      fedmeta node approve 5f0c...e1 --revoke --note "study ended"
    """
    from fedmeta.node.member import config
    from fedmeta.node.member.approvals import Approvals
    from fedmeta.node.member.folder import Folder

    config.read(folder)
    place = Folder(folder)
    known = Approvals(place.approvals)
    if listing:
        if procedure is not None or note or until or revoke:
            raise UsageError("--list takes nothing else")
        _list(known, as_json)
        return
    if procedure is None:
        raise UsageError("say which procedure, by its digest or its file; --list shows what was approved")
    if not note:
        raise UsageError("say why with --note, such as the number of an ethics committee's vote: it never leaves")
    if revoke:
        if until:
            raise UsageError("--revoke takes back at once: leave --until out")
        digest = _digest(procedure)
        known.revoke(digest, note)
        _say(known.latest()[digest], "revoked", as_json)
        return
    _approve(place, known, procedure, note, until, yes or as_json, as_json)


def _approve(
    place: "Folder", known: "Approvals", procedure: str, note: str, until: str | None, sure: bool, as_json: bool
) -> None:
    from fedmeta.cli.start import start

    start()
    from fedmeta.node.errors import NotApproved
    from fedmeta.node.member import policy
    from fedmeta.node.member.describing import describe, words
    from fedmeta.node.member.folder import keep_procedure
    from fedmeta.node.member.settings import day

    end = None if until is None else day(until, "--until")
    read = _read(place, procedure)
    found = describe(read)
    if _is_digest(procedure) and found.digest.hex() != procedure.lower():
        raise NotApproved(f"the procedure that is kept as {procedure} is another one, {found.digest.hex()}")
    if not as_json:
        show.write(f"Procedure {found.digest.hex()}", *(f"  {line}" for line in words(found)))
    reasons = policy.read(place.path).reasons(found)
    if reasons:
        raise NotApproved(f"the policy refuses procedure {found.digest.hex()}: {'; '.join(reasons)}")
    if not sure:
        click.confirm("Approve it?", abort=True)
    keep_procedure(place, found.digest, read.to_bytes())
    known.approve(found.digest, note, end)
    _say(known.latest()[found.digest], "approved", as_json)


def _read(place: "Folder", procedure: str) -> "Procedure":
    """Return the procedure in a file, or that of a digest: as it is kept here, or as a super node's gate gives it."""
    from fedmeta.node.member import config
    from fedmeta.node.member.describing import read_procedure

    if not _is_digest(procedure):
        return read_procedure(Path(procedure))
    digest = bytes.fromhex(procedure)
    if place.procedure(digest).is_file():
        return read_procedure(place.procedure(digest))
    from fedmeta.node.process import pulling
    from fedmeta.runs.procedure import Procedure

    return Procedure.from_bytes(pulling.procedure_of(config.read(place.path), digest))


def _is_digest(text: str) -> bool:
    return bool(HEX.fullmatch(text)) and not Path(text).is_file()


def _digest(text: str) -> bytes:
    """Return the digest that was given, or that of the procedure in a file."""
    from fedmeta.node.member.describing import read_procedure

    return bytes.fromhex(text if _is_digest(text) else read_procedure(Path(text)).digest)


def _say(one: "Approval", what: str, as_json: bool) -> None:
    if as_json:
        show.write_json(_row(one))
    else:
        show.write(f"{what} by {one.by}" + (f", until {one.until}" if one.until else ""))


def _row(one: "Approval") -> dict[str, object]:
    reason = one.why_not(datetime.now(UTC).date())
    until = one.until.isoformat() if one.until else None
    return {
        "digest": one.digest.hex(),
        "holds": reason is None,
        "until": until,
        "note": one.note,
        "by": one.by,
        "time": one.time,
        "reason": reason,
    }


def _list(known: "Approvals", as_json: bool) -> None:
    rows = [_row(one) for one in known.latest().values()]
    if as_json:
        show.write_json(rows)
    elif rows:
        show.write(*(show.facts("", {**row, "digest": show.Whole(row["digest"])}) for row in rows))
    else:
        show.write("no procedure was ever approved")
