"""Evidence: what anyone may submit to prove a fault."""

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import faults, members, rounds
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Manifest, Round, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import verify


def report_manifests(context: Context, name: str, body: tx.ReportManifests) -> None:
    """Prove that a leader signed two manifests for one attempt at a round."""
    first, second = _manifest(context, body.first), _manifest(context, body.second)
    if first.member != second.member:
        raise Refused("bad-evidence", f"{first.member} and {second.member} signed one manifest each")
    if (first.body.round, first.body.attempt) != (second.body.round, second.body.attempt):
        raise Refused("bad-evidence", "the manifests are for different rounds or attempts")
    if first.body == second.body:
        raise Refused("bad-evidence", "the manifests say the same")
    found = _evidence_round(context, first.body.round)
    offender = first.member
    if first.body.attempt >= len(found.leaders) or found.leaders[first.body.attempt] != offender:
        raise Refused("bad-evidence", f"{offender} did not lead attempt {first.body.attempt} at round {found.number}")
    _check_age(context, found.opened)
    keys = members.keys_between(context.member(offender), found.opened, context.height)
    for one in (first, second):
        if not any(verify(key, one.message, one.signature) for key in keys):
            raise Refused("bad-evidence", f"a manifest is not signed by a key that {offender} had at the time")
    _prove_or_refuse(context, offender, "two-manifests", found.number, found.opened, name)
    rounds.strike(context, found.number, "two-manifests", offender)


def _manifest(context: Context, raw: bytes) -> tx.Signed:
    try:
        signed = tx.decode(raw)
    except Refused as error:
        raise Refused("bad-evidence", f"not a transaction: {error.message}") from error
    if not isinstance(signed.body, tx.PostManifest):
        raise Refused("bad-evidence", f"a {signed.kind} is no manifest")
    if signed.chain_id != context.chain.chain_id:
        raise Refused("bad-evidence", f"the manifest is for chain {signed.chain_id[:64]!r}")
    return signed


def report_left_out(context: Context, name: str, body: tx.ReportLeftOut) -> None:
    """Prove that a manifest left out an update that was committed in time, with receipts."""
    found = _evidence_round(context, body.round)
    manifest = context.draft.get(Manifest, body.round)
    if manifest is None:
        raise Refused("not-found", f"round {body.round} has no manifest")
    if context.draft.get(Update, body.round, body.member) is None:
        raise Refused("bad-evidence", f"{body.member!r} committed no update in round {body.round}")
    if body.member in manifest.members:
        raise Refused("bad-evidence", f"the manifest of round {body.round} includes the update of {body.member!r}")
    _check_age(context, manifest.height)
    _prove_or_refuse(context, manifest.leader, "left-out", found.number, manifest.height, name)
    rounds.strike(context, found.number, "left-out", manifest.leader)


def _evidence_round(context: Context, number: int) -> Round:
    found = context.draft.get(Round, number)
    if found is None:
        if 0 < number <= context.chain.round:
            raise Refused("stale-evidence", f"round {number} is too old")
        raise Refused("not-found", f"there is no round {number}")
    if not found.opened:
        raise Refused("wrong-phase", f"round {number} has not been opened")
    return found


def _check_age(context: Context, infraction: int) -> None:
    age, oldest = context.height - infraction, context.parameters.evidence_age
    if age > oldest:
        raise Refused("stale-evidence", f"the deed is {age} blocks old: evidence is taken for {oldest}")


def _prove_or_refuse(context: Context, offender: str, kind: str, round: int, infraction: int, reporter: str) -> None:
    if faults.prove(context, offender, kind, round, infraction, reporter) is None:
        raise Refused("already-done", f"this fault of {offender} in round {round} was proven before")
