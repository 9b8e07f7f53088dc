"""What the ledger forgets: records to which nothing can refer, once the unbonding period has passed over them."""

from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import (
    Attestation,
    Challenge,
    Fault,
    Manifest,
    Proposal,
    Round,
    Term,
    Update,
    Verdict,
    Vote,
)
from fedmeta.govern.wire.events import RecordsForgotten


def prune(context: Context) -> None:
    """Delete rounds, terms, challenges, proposals and faults that ended more than an unbonding period ago."""
    oldest = context.height - context.parameters.unbonding_period
    if oldest <= 0:
        return
    before = _counts(context)
    _prune_rounds(context, oldest)
    _prune_terms(context, oldest)
    draft = context.draft
    for challenge in draft.all(Challenge):
        if challenge.status != "open" and challenge.closes < oldest:
            for verdict in draft.where(Verdict, "challenge", challenge.number):
                draft.delete(Verdict, challenge.number, verdict.standby)
            draft.delete(Challenge, challenge.number)
    for proposal in draft.all(Proposal):
        if proposal.status not in ("voting", "passed") and max(proposal.closes, proposal.executes) < oldest:
            for vote in draft.where(Vote, "proposal", proposal.number):
                draft.delete(Vote, proposal.number, vote.member)
            draft.delete(Proposal, proposal.number)
    for fault in draft.all(Fault):
        if fault.height < oldest:
            draft.delete(Fault, fault.number)
    gone = [was - now for was, now in zip(before, _counts(context), strict=True)]
    if any(gone):
        context.emit(RecordsForgotten(oldest, *gone))


def _counts(context: Context) -> list[int]:
    return [context.draft.count(cls) for cls in (Round, Term, Challenge, Proposal, Fault)]


def _prune_rounds(context: Context, oldest: int) -> None:
    draft, latest = context.draft, context.chain.round
    disputed = {challenge.round for challenge in draft.where(Challenge, "status", "open")}
    for one in draft.all(Round):
        if one.number == latest or one.settled >= oldest:
            return
        if one.number in disputed:
            continue
        for update in draft.where(Update, "round", one.number):
            draft.delete(Update, one.number, update.member)
        for attestation in draft.where(Attestation, "round", one.number):
            draft.delete(Attestation, one.number, attestation.candidate)
        if draft.get(Manifest, one.number) is not None:
            draft.delete(Manifest, one.number)
        draft.delete(Round, one.number)


def _prune_terms(context: Context, oldest: int) -> None:
    draft, present = context.draft, context.chain.term
    named = {one.term for one in draft.all(Round)}
    for term in draft.all(Term):
        if term.number >= present or term.ends >= oldest:
            return
        if term.number not in named:
            draft.delete(Term, term.number)
