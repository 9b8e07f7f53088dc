"""Rounds: what contributors and seats may do in each phase, and what the end of a phase brings.

One round is live at a time: commit, deliver, compute, reveal; then final or void. Its seats and their powers stand
still from the block that schedules it, whatever happens to the candidates meanwhile.
"""

from itertools import pairwise

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import members
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.round_phases import begin, close, closed, fail, is_quorum, live, power, schedule
from fedmeta.govern.rules.settlement import conclude, miss
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Attestation, Hold, Round, Seal, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.parts import Seat
from fedmeta.govern.wire.round_events import (
    AttestationCommitted,
    AttestationRevealed,
    HeaderSealed,
    UpdateCommitted,
    UpdatesHeld,
    UpdatesIncluded,
)

__all__ = ["attest", "commit_update", "end_block", "hold", "reveal", "schedule", "seal"]


def commit_update(context: Context, name: str, body: tx.CommitUpdate) -> None:
    """Commit to an update, as a member of the cohort."""
    round = _live(context, body.round, "commit")
    place = next((one for one in round.cohort if one.member == name), None)
    if place is None:
        raise Refused("not-allowed", f"{name} is not in the cohort of round {body.round}")
    if context.draft.get(Update, body.round, name) is not None:
        raise Refused("already-done", f"{name} has committed to an update in round {body.round}")
    unpaid = round.exposed
    context.draft.put(
        Update(body.round, name, place.organisation, body.digest, body.round, context.height, unpaid=unpaid)
    )
    context.emit(UpdateCommitted(body.round, name, body.digest, unpaid))


def seal(context: Context, name: str, body: tx.Seal) -> None:
    """Sign the header of the block with which the commitments closed, as a seat."""
    round = _live(context, body.round, "deliver")
    _seat(round, name)
    public = members.machine_key_at(context.member(name), context.height)
    before = context.draft.get(Seal, body.round, name)
    # Under another key the same word may be given again.
    if before is not None and (before.header != body.header or before.public == public):
        raise Refused("already-done", f"{name} has signed a header for round {body.round}")
    context.draft.put(Seal(body.round, name, body.header, public))
    context.emit(HeaderSealed(body.round, name, body.header))


def hold(context: Context, name: str, body: tx.Hold) -> None:
    """Say whose updates one holds, as a seat."""
    round = _live(context, body.round, "deliver", body.attempt)
    _seat(round, name)
    if any(one >= other for one, other in pairwise(body.members)):
        raise Refused("bad-value", "members must be in the order of their names, none twice")
    for one in body.members:
        if context.draft.get(Update, body.round, one) is None:
            raise Refused("not-found", f"{one!r} has committed to no update in round {body.round}")
    before = context.draft.get(Hold, body.round, name)
    held = set(before.members) if before else set()
    if held.issuperset(body.members):
        raise Refused("already-done", f"{name} has said already whose updates it holds in round {body.round}")
    context.draft.put(Hold(body.round, name, tuple(sorted(held.union(body.members)))))
    context.draft.put(replace(round, seen=True))
    context.emit(UpdatesHeld(body.round, body.attempt, name, body.members))


def attest(context: Context, name: str, body: tx.Attest) -> None:
    """Commit to a result and scores, as a seat."""
    round = _live(context, body.round, "compute", body.attempt)
    _seat(round, name)
    if context.draft.get(Attestation, body.round, name) is not None:
        raise Refused("already-done", f"{name} has committed to a result of round {body.round}")
    context.draft.put(
        Attestation(
            round=body.round,
            candidate=name,
            committed=context.height,
            commitment=body.commitment,
            revealed=0,
            result=b"",
            scores=(),
            salt=b"",
        )
    )
    context.emit(AttestationCommitted(body.round, body.attempt, name, body.commitment))


def reveal(context: Context, name: str, body: tx.Reveal) -> None:
    """Open one's commitment, as a seat."""
    round = _live(context, body.round, "reveal", body.attempt)
    seat = _seat(round, name)
    attestation = context.draft.get(Attestation, body.round, name)
    if attestation is None:
        raise Refused("not-allowed", f"{name} has not committed to a result of round {body.round}")
    if attestation.revealed:
        raise Refused("already-done", f"{name} has revealed its result of round {body.round}")
    opened = tx.commitment(context.chain.genesis, body.round, body.attempt, name, body.result, body.scores, body.salt)
    if opened != attestation.commitment:
        raise Refused("bad-reveal", f"this does not open {attestation.commitment.hex()}, what {name} committed to")
    _check_scores(context, round, seat, body.scores)
    context.draft.put(
        replace(attestation, revealed=context.height, result=body.result, scores=body.scores, salt=body.salt)
    )
    context.emit(AttestationRevealed(body.round, body.attempt, name, body.result, body.scores))


def _check_scores(context: Context, round: Round, seat: Seat, scores: tuple[int, ...]) -> None:
    if len(scores) != len(round.members):
        raise Refused("bad-scores", f"there are {len(scores)} scores: {len(round.members)} updates are in")
    others = 0
    for member, score in zip(round.members, scores, strict=True):
        if context.draft.need(Update, round.number, member).organisation != seat.organisation:
            others += 1
        elif score:
            raise Refused("bad-scores", f"the score of {member} is {score}: it is 0 for one's own organisation")
    given, budget = sum(scores), others * MILLION // len(round.cohort)
    if given > budget:
        raise Refused("bad-scores", f"the scores add up to {given}: at most {budget} for {others} updates of others")


def _live(context: Context, number: int, phase: str, attempt: int | None = None) -> Round:
    round = context.draft.get(Round, number)
    if round is None:
        raise Refused("not-found", f"there is no round {number}: the latest is {context.chain.round}")
    if attempt is not None and attempt != round.attempt:
        raise Refused("wrong-attempt", f"round {number} is at attempt {round.attempt}: this is for attempt {attempt}")
    if round.phase != phase:
        raise Refused("wrong-phase", f"round {number} is in phase {round.phase}: this belongs to phase {phase}")
    return round


def _seat(round: Round, name: str) -> Seat:
    for seat in round.seats:
        if seat.candidate == name:
            return seat
    raise Refused("not-allowed", f"{name} holds no seat in round {round.number}")


def end_block(context: Context) -> None:
    """Let the live round go on where its phase is over; without one, schedule the next."""
    round = live(context)
    if round is not None:
        _ENDINGS[round.phase](context, round)
    if live(context) is None:
        schedule(context)


def _end_commit(context: Context, round: Round) -> None:
    committed = context.draft.where(Update, "round", round.number)
    if len(committed) < len(round.cohort) and not closed(context, round):
        return
    if len(committed) < round.smallest:
        close(context, round, "void", "too-few-commits")
    else:
        begin(context, replace(round, committed=context.height), "deliver")


def _end_deliver(context: Context, round: Round) -> None:
    committed = [one.member for one in context.draft.where(Update, "round", round.number)]
    powers = {seat.candidate: seat.power for seat in round.seats}
    holds = context.draft.where(Hold, "round", round.number)
    everything = len(holds) == len(round.seats) and all(len(one.members) == len(committed) for one in holds)
    if not everything and not closed(context, round):
        return
    held = dict.fromkeys(committed, 0)
    for one in holds:
        for member in one.members:
            held[member] += powers[one.candidate]
    included = tuple(sorted(member for member, by in held.items() if is_quorum(round, by)))
    round = replace(round, members=included)
    context.draft.put(round)
    if len(included) >= round.smallest:
        context.emit(UpdatesIncluded(round.number, round.attempt, included))
        begin(context, round, "compute")
        return
    # What more than a third of the power holds, an honest seat holds: who holds nothing and signed no header was away.
    if any(by * 3 > power(round) for by in held.values()):
        sealed = {one.candidate for one in context.draft.where(Seal, "round", round.number)}
        miss(context, round, sealed | {one.candidate for one in holds})
    fail(context, round, "too-few-in")


def _end_compute(context: Context, round: Round) -> None:
    attestations = context.draft.where(Attestation, "round", round.number)
    if len(attestations) < len(round.seats) and not closed(context, round):
        return
    there = {one.candidate for one in attestations}
    if is_quorum(round, sum(seat.power for seat in round.seats if seat.candidate in there)):
        begin(context, round, "reveal")
        return
    miss(context, round, there)
    fail(context, round, "too-few-commitments")


def _end_reveal(context: Context, round: Round) -> None:
    attestations = context.draft.where(Attestation, "round", round.number)
    if not all(one.revealed for one in attestations) and not closed(context, round):
        return
    if not conclude(context, round):
        miss(context, round, {one.candidate for one in attestations if one.revealed})
        fail(context, round, "no-agreement")


_ENDINGS = {"commit": _end_commit, "deliver": _end_deliver, "compute": _end_compute, "reveal": _end_reveal}
