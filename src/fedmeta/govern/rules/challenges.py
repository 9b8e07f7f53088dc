"""Challenges: a super node's result is executed again by the standbys, and a quorum of them decides."""

from collections import Counter
from dataclasses import replace

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import faults
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.election import with_powers
from fedmeta.govern.state.records import Attestation, Challenge, Round, Term, Verdict
from fedmeta.govern.wire.events import ChallengeDecided, ChallengeOpened, VerdictGiven
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.transactions import Judge, OpenChallenge


def open_challenge(context: Context, name: str, body: OpenChallenge) -> None:
    """Challenge a revealed result, for a deposit.

    The panel is fixed here: the standbys of the round's term, without those of the accused's and the challenger's
    organisations. An organisation has one open challenge at a time.
    """
    attestation = context.draft.get(Attestation, body.round, body.accused)
    if attestation is None or not attestation.revealed:
        raise Refused("not-found", f"{body.accused!r} revealed no result in round {body.round}")
    if attestation.result == body.result:
        raise Refused("bad-evidence", f"this is the result that {body.accused} revealed")
    if not context.draft.need(Round, body.round).settled:
        # Until then the manifest can be struck, and the results about it with it.
        raise Refused("wrong-phase", f"round {body.round} is not over yet")
    parameters = context.parameters
    age = context.height - attestation.committed
    if age > parameters.evidence_age:
        raise Refused(
            "stale-evidence", f"the commitment is {age} blocks old: evidence is taken for {parameters.evidence_age}"
        )
    for other in context.draft.where(Challenge, "round", body.round):
        if other.accused == body.accused and other.status != "undecided":
            raise Refused("already-done", f"challenge {other.number} of this result is {other.status}")
    organisation = context.member(name).organisation
    for other in context.draft.where(Challenge, "status", "open"):
        if context.member(other.challenger).organisation == organisation:
            raise Refused("limit-reached", f"challenge {other.number} of {organisation} is open: one at a time")
    panel = _panel(context, body, organisation)
    if not panel:
        raise Refused("not-allowed", f"round {body.round} has no other standbys to judge {body.accused}")
    context.free(name, -parameters.challenge_deposit)
    number = context.chain.challenges + 1
    context.change_chain(challenges=number)
    closes = context.height + parameters.challenge_blocks
    context.draft.put(
        Challenge(
            number=number,
            round=body.round,
            accused=body.accused,
            challenger=name,
            result=body.result,
            deposit=parameters.challenge_deposit,
            opened=context.height,
            closes=closes,
            panel=panel,
            status="open",
        )
    )
    context.emit(
        ChallengeOpened(number, body.round, body.accused, name, body.result, closes, parameters.challenge_deposit)
    )


def _panel(context: Context, body: OpenChallenge, challenger: str) -> tuple[Seat, ...]:
    sides = (context.candidate(body.accused).organisation, challenger)
    term = context.draft.need(Term, context.draft.need(Round, body.round).term)
    others = [one for one in term.standbys if one.organisation not in sides and _may_judge(context, one.candidate)]
    return with_powers(others, context.parameters.organisation_cap)


def _may_judge(context: Context, name: str) -> bool:
    return context.member(name).active and not context.candidate(name).tombstoned


def judge(context: Context, name: str, body: Judge) -> None:
    """Say what one's own execution gave."""
    challenge = context.draft.get(Challenge, body.challenge)
    if challenge is None:
        raise Refused("not-found", f"there is no challenge {body.challenge}")
    if challenge.status != "open":
        raise Refused("wrong-phase", f"challenge {body.challenge} is {challenge.status}")
    if name not in {seat.candidate for seat in challenge.panel}:
        raise Refused("not-allowed", f"{name} is not on the panel of challenge {body.challenge}")
    if context.draft.get(Verdict, body.challenge, name) is not None:
        raise Refused("already-done", f"{name} has judged challenge {body.challenge}")
    context.draft.put(Verdict(body.challenge, name, body.result))
    context.emit(VerdictGiven(body.challenge, name, body.result))


def end_block(context: Context) -> None:
    """Decide the challenges on which a quorum agrees, and close those whose time is over."""
    for challenge in context.draft.where(Challenge, "status", "open"):
        verdicts = context.draft.where(Verdict, "challenge", challenge.number)
        result = _agreed(challenge, verdicts)
        if result is not None:
            _decide(context, challenge, result)
            _record_duties(context, challenge, verdicts, result)
        elif context.height >= challenge.closes:
            _close(context, challenge, "undecided", challenge.challenger)
            _record_duties(context, challenge, verdicts, None)


def _record_duties(context: Context, challenge: Challenge, verdicts: list[Verdict], result: bytes | None) -> None:
    """Note who of the panel has judged, and, where a result was agreed on, found that one.

    Who was not asked for long because the others agreed at once has missed nothing.
    """
    found = {one.standby: one.result for one in verdicts}
    for seat in challenge.panel:
        name = seat.candidate
        if name in found or result is None:
            missed = name not in found or result not in (None, found[name])
            faults.record_duty(context, name, challenge.round, "judge", missed=missed)


def _agreed(challenge: Challenge, verdicts: list[Verdict]) -> bytes | None:
    """Return the result that more than 2/3 of the panel's power found, if there is one."""
    power = {seat.candidate: seat.power for seat in challenge.panel}
    found: Counter[bytes] = Counter()
    for one in verdicts:
        found[one.result] += power[one.standby]
    total = sum(power.values())
    return next((result for result, behind in sorted(found.items()) if behind * 3 > total * 2), None)


def _decide(context: Context, challenge: Challenge, result: bytes) -> None:
    attestation = context.draft.need(Attestation, challenge.round, challenge.accused)
    if result == attestation.result:
        _close(context, challenge, "rejected", "")
        return
    _close(context, challenge, "upheld", challenge.challenger)
    faults.prove(
        context,
        challenge.accused,
        "false-result",
        challenge.round,
        attestation.committed,
        reporter=challenge.challenger,
    )


def _close(context: Context, challenge: Challenge, status: str, deposit_to: str) -> None:
    context.draft.put(replace(challenge, status=status))
    if deposit_to:
        context.free(deposit_to, challenge.deposit)
    else:
        context.treasury(challenge.deposit)
    context.emit(ChallengeDecided(challenge.number, status, deposit_to or "treasury"))
