"""What the ledger forgets: records to which nothing can refer, once the unbonding period has passed over them."""

from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import (
    Attestation,
    Fault,
    Hold,
    Proposal,
    Recipe,
    Round,
    Seal,
    Term,
    Update,
    Vote,
)
from fedmeta.govern.state.state import Draft, State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.events import RecordsForgotten


def prune(context: Context) -> None:
    """Delete rounds, terms, proposals and faults that ended more than an unbonding period ago."""
    oldest = horizon(context.draft)
    if oldest <= 0:
        return
    before = _counts(context)
    _prune_rounds(context, oldest)
    _prune_terms(context, oldest)
    draft = context.draft
    for proposal in draft.all(Proposal):
        if proposal.status not in ("voting", "passed") and max(proposal.closes, proposal.executes) < oldest:
            for vote in draft.where(Vote, "proposal", proposal.number):
                draft.delete(Vote, proposal.number, vote.member)
            draft.delete(Proposal, proposal.number)
    disputed = _disputed(context)
    for fault in draft.all(Fault):
        if fault.height < oldest and fault.number not in disputed:
            draft.delete(Fault, fault.number)
    gone = [was - now for was, now in zip(before, _counts(context), strict=True)]
    if any(gone):
        context.emit(RecordsForgotten(oldest, *gone))


def horizon(state: State | Draft) -> int:
    """Return the height before which no stake answers any more: an unbonding period ago, in blocks and in block time.

    The time is that of whole terms: what lies in a term that ended later, or has not ended, still counts.
    """
    parameters = state.need(Parameters)
    before = state.time - parameters.unbonding_seconds * 1_000
    recent = (one.start for one in state.all(Term) if one.start and (not one.ended or one.ended > before))
    return min(state.height - parameters.unbonding_blocks, *recent)


def _disputed(context: Context) -> set[int]:
    """Return the faults that a proposal may still annul."""
    open_ = [one for status in ("voting", "passed") for one in context.draft.where(Proposal, "status", status)]
    actions = [codec.decode(one.action) for one in open_]
    return {one["fault"] for one in actions if one["kind"] == "annul-slash"}


def _counts(context: Context) -> list[int]:
    return [context.draft.count(cls) for cls in (Round, Term, Proposal, Fault)]


def _prune_rounds(context: Context, oldest: int) -> None:
    draft, latest = context.draft, context.chain.round
    kept = {one.round for one in draft.all(Recipe)}
    for one in draft.all(Round):
        if one.number == latest or one.settled >= oldest:
            return
        if one.number in kept:
            # The next round of its recipe may take its commitments over.
            continue
        for update in draft.where(Update, "round", one.number):
            draft.delete(Update, one.number, update.member)
        for cls in (Seal, Hold, Attestation):
            for entry in draft.where(cls, "round", one.number):
                draft.delete(cls, one.number, entry.candidate)
        draft.delete(Round, one.number)


def _prune_terms(context: Context, oldest: int) -> None:
    draft, present = context.draft, context.chain.term
    named = {one.term for one in draft.all(Round)}
    for term in draft.all(Term):
        if term.number >= present or term.ends >= oldest:
            return
        if term.number not in named:
            draft.delete(Term, term.number)
