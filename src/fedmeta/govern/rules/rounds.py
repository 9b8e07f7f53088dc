"""Rounds: what the leader, the cohort and the super nodes may do in each phase, and what a deadline brings.

One round is live at a time: opening, updates, manifest, commit, reveal; then final, refuted or failed. A phase ends
with the block in which everyone has done its part, or with the block of its deadline.
"""

from dataclasses import replace
from itertools import pairwise

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import faults, members
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.round_phases import begin, can_open, close, hand_on, retry, schedule, strike
from fedmeta.govern.rules.settlement import conclude, settle
from fedmeta.govern.state.records import Attestation, Manifest, Recipe, Round, Term, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import (
    AttestationCommitted,
    AttestationRevealed,
    LeaderMissed,
    ManifestPosted,
    RoundOpened,
    UpdateCommitted,
)
from fedmeta.govern.wire.signatures import verify

__all__ = ["attest", "commit_update", "end_block", "open_round", "post_manifest", "reveal", "schedule", "strike"]


def open_round(context: Context, name: str, body: tx.OpenRound) -> None:
    """Open the round with an active recipe and its present model, as the leader."""
    round = _live(context, body.round, "opening")
    _check_leader(context, round, name)
    recipe = context.draft.get(Recipe, body.recipe)
    if recipe is None:
        raise Refused("not-found", f"no recipe {body.recipe.hex()} is registered")
    if not recipe.active:
        raise Refused("not-allowed", f"recipe {body.recipe.hex()} is not active")
    if body.model != recipe.model:
        raise Refused("bad-value", f"the model is {body.model.hex()}: the recipe's is {recipe.model.hex()}")
    opened = replace(round, recipe=body.recipe, model=body.model, opened=context.height)
    deadline = context.height + context.parameters.update_blocks
    context.emit(RoundOpened(round.number, name, body.recipe, body.model, deadline))
    begin(context, opened, "updates", context.parameters.update_blocks)


def commit_update(context: Context, name: str, body: tx.CommitUpdate) -> None:
    """Commit to an update that enough super nodes have a copy of, as a member of the cohort."""
    round = _live(context, body.round, "updates")
    if name not in round.cohort:
        raise Refused("not-allowed", f"{name} is not in the cohort of round {body.round}")
    if context.draft.get(Update, body.round, name) is not None:
        raise Refused("already-done", f"{name} has committed an update in round {body.round}")
    if body.examples < 1:
        raise Refused("bad-value", "examples is 0: an update comes from 1 example at least")
    _check_receipts(context, round, name, body)
    context.draft.put(Update(body.round, name, body.digest, body.examples, context.height))
    context.emit(UpdateCommitted(body.round, name, body.digest, body.examples))


def _check_receipts(context: Context, round: Round, name: str, body: tx.CommitUpdate) -> None:
    seats = {seat.candidate for seat in context.draft.need(Term, round.term).seats}
    needed, names = (len(seats) - 1) // 3 + 1, [one for one, _ in body.receipts]
    if not needed <= len(names) <= len(seats):
        raise Refused("bad-receipts", f"there are {len(names)} receipts: from {needed} to {len(seats)} are taken")
    if any(one >= other for one, other in pairwise(names)):
        raise Refused("bad-receipts", "the receipts must be in the order of the super nodes' names, one of each")
    message = tx.receipt(context.chain.chain_id, body.round, name, body.digest, body.examples)
    for one, signature in body.receipts:
        if one not in seats:
            raise Refused("bad-receipts", f"{one!r} is no super node of term {round.term}")
        # A super node may have changed its key since it signed.
        keys = members.keys_between(context.member(one), round.opened, context.height)
        if not any(verify(key, message, signature) for key in keys):
            raise Refused("bad-receipts", f"the receipt of {one} is not signed by its key")


def post_manifest(context: Context, name: str, body: tx.PostManifest) -> None:
    """Say which updates were aggregated and what it gave, as the leader.

    A manifest that leaves an update out is taken: the fault can be proven from it.
    """
    round = _live(context, body.round, "manifest")
    _check_leader(context, round, name)
    if body.attempt != round.attempt:
        raise Refused("bad-value", f"attempt is {body.attempt}: round {body.round} is at attempt {round.attempt}")
    if not body.members:
        raise Refused("bad-value", "members is empty: a manifest includes 1 update at least")
    if any(one >= other for one, other in pairwise(body.members)):
        raise Refused("bad-value", "members must be in the order of their names, none twice")
    for one in body.members:
        if context.draft.get(Update, body.round, one) is None:
            raise Refused("bad-value", f"{one!r} has committed no update in round {body.round}")
    context.draft.put(
        Manifest(
            round=body.round,
            leader=name,
            attempt=body.attempt,
            height=context.height,
            members=body.members,
            aggregate=body.aggregate,
            model=body.model,
        )
    )
    context.emit(ManifestPosted(body.round, name, body.attempt, body.members, body.aggregate, body.model))
    begin(context, round, "commit", context.parameters.commit_blocks)


def attest(context: Context, name: str, body: tx.Attest) -> None:
    """Commit to a result and scores, as a super node."""
    round = _live(context, body.round, "commit")
    if not _holds_seat(context, round, name):
        raise Refused("not-allowed", f"{name} holds no seat in term {round.term}")
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
    context.emit(AttestationCommitted(body.round, name, body.commitment))


def reveal(context: Context, name: str, body: tx.Reveal) -> None:
    """Open one's commitment; the round is final once more than 2/3 of the power revealed one result.

    A super node that has lost its seat since may still reveal, and so clear itself; its power does not count.
    """
    round = _live(context, body.round, "reveal")
    attestation = context.draft.get(Attestation, body.round, name)
    if attestation is None:
        raise Refused("not-allowed", f"{name} has not committed to a result of round {body.round}")
    if attestation.revealed:
        raise Refused("already-done", f"{name} has revealed its result of round {body.round}")
    opened = tx.commitment(context.chain.chain_id, body.round, name, body.result, body.scores, body.salt)
    if opened != attestation.commitment:
        raise Refused("bad-reveal", f"this does not open {attestation.commitment.hex()}, what {name} committed to")
    due = len(context.draft.need(Manifest, body.round).members)
    if len(body.scores) != due:
        raise Refused("bad-value", f"there are {len(body.scores)} scores: the manifest has {due} members")
    context.draft.put(
        replace(attestation, revealed=context.height, result=body.result, scores=body.scores, salt=body.salt)
    )
    context.emit(AttestationRevealed(body.round, name, body.result, body.scores))
    conclude(context, round)


def _live(context: Context, number: int, phase: str) -> Round:
    round = context.draft.get(Round, number)
    if round is None:
        raise Refused("not-found", f"there is no round {number}: the latest is {context.chain.round}")
    if round.phase != phase:
        raise Refused("wrong-phase", f"round {number} is in phase {round.phase}: this belongs to phase {phase}")
    return round


def _check_leader(context: Context, round: Round, name: str) -> None:
    if name != round.leader:
        raise Refused("not-allowed", f"{name} does not lead round {round.number}: {round.leader or 'nobody'} does")
    if not _holds_seat(context, round, name):
        raise Refused("not-allowed", f"{name} has lost its seat in term {round.term}")


def _holds_seat(context: Context, round: Round, name: str) -> bool:
    return any(seat.candidate == name for seat in context.draft.need(Term, round.term).seats)


def end_block(context: Context) -> None:
    """Let the live round go on where its phase is over."""
    round = context.draft.need(Round, context.chain.round)
    _ENDINGS[round.phase](context, round)


def _end_opening(context: Context, round: Round) -> None:
    blocks = context.parameters.open_blocks
    if not can_open(context):
        if round.deadline:
            context.draft.put(replace(round, deadline=0))
    elif not round.leader:
        return
    elif not round.deadline:
        begin(context, round, "opening", blocks)
    elif not _holds_seat(context, round, round.leader):
        hand_on(context, round, context.height + blocks)
    elif context.height >= round.deadline:
        _miss(context, round)
        hand_on(context, round, context.height + blocks)


def _end_updates(context: Context, round: Round) -> None:
    if not _holds_seat(context, round, round.leader):
        round = hand_on(context, round, round.deadline)
    everyone = all(context.draft.get(Update, round.number, one) is not None for one in round.cohort)
    if everyone or (context.height >= round.deadline and context.draft.where(Update, "round", round.number)):
        begin(context, round, "manifest", context.parameters.manifest_blocks)
    elif context.height >= round.deadline:
        close(context, round, "failed", "no updates were committed")
        schedule(context, round.number + 1)


def _end_manifest(context: Context, round: Round) -> None:
    if not _holds_seat(context, round, round.leader):
        hand_on(context, round, context.height + context.parameters.manifest_blocks)
    elif context.height >= round.deadline:
        _miss(context, round)
        retry(context, round, "no leader posted a manifest in time")


def _miss(context: Context, round: Round) -> None:
    context.emit(LeaderMissed(round.number, round.leader, round.phase))
    faults.record_duty(context, round.leader, round.number, "lead", missed=True)


def _end_commit(context: Context, round: Round) -> None:
    seats = context.draft.need(Term, round.term).seats
    if all(context.draft.get(Attestation, round.number, seat.candidate) is not None for seat in seats) or (
        context.height >= round.deadline
    ):
        begin(context, round, "reveal", context.parameters.reveal_blocks)


def _end_reveal(context: Context, round: Round) -> None:
    # A seat that was lost since the last reveal may have left the others with more than 2/3.
    round = conclude(context, round)
    waiting = any(not one.revealed for one in context.draft.where(Attestation, "round", round.number))
    if not waiting or context.height >= round.deadline:
        settle(context, round)


_ENDINGS = {
    "opening": _end_opening,
    "updates": _end_updates,
    "manifest": _end_manifest,
    "commit": _end_commit,
    "reveal": _end_reveal,
}
