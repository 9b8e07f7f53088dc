"""Proposals: made for a deposit, voted on in units of stake, and carried out after a delay."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.proposal_actions import ACTIONS, Action, read_action
from fedmeta.govern.state.parameters import MILLION, Parameters
from fedmeta.govern.state.records import Candidate, Delegation, Member, Proposal, Vote
from fedmeta.govern.state.state import Draft, State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.events import ProposalClosed, ProposalExecuted, ProposalOpened, VoteCast
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.transactions import CastVote, Propose

__all__ = ["ACTIONS", "Action", "Tally", "cast_vote", "count_votes", "end_block", "propose", "verdict"]


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on a proposal, in units of stake."""

    yes: int
    no: int
    abstain: int
    against: int
    """Vetoes."""
    bonded: int
    """All bonded stake."""

    @property
    def votes(self) -> int:
        """All votes together; never more than `bonded`."""
        return self.yes + self.no + self.abstain + self.against


def propose(context: Context, name: str, body: Propose) -> None:
    """Open a proposal for the deposit, if its action could be carried out as things stand."""
    context.active_member(name)
    parameters = context.parameters
    read_action(body.action).check(context)
    _check_open(context, name)
    context.free(name, -parameters.proposal_deposit)
    number = context.chain.proposals + 1
    context.change_chain(proposals=number)
    proposal = Proposal(
        number=number,
        proposer=name,
        title=body.title,
        action=codec.encode(body.action),
        deposit=parameters.proposal_deposit,
        submitted=context.height,
        closes=context.height + parameters.voting_blocks,
        closes_time=context.time + parameters.voting_seconds * 1_000,
        executes=0,
        executes_time=0,
        status="voting",
        yes=0,
        no=0,
        abstain=0,
        against=0,
        bonded=0,
    )
    context.draft.put(proposal)
    context.emit(
        ProposalOpened(number, name, body.title, body.action, proposal.closes, proposal.closes_time, proposal.deposit)
    )


def _check_open(context: Context, name: str) -> None:
    parameters, organisation = context.parameters, context.member(name).organisation
    proposers = [one.proposer for one in context.draft.where(Proposal, "status", "voting")]
    own = sum(context.member(one).organisation == organisation for one in proposers)
    for what, count, most in (
        ("proposals", len(proposers), parameters.max_proposals),
        (f"proposals of {organisation}", own, parameters.max_own_proposals),
    ):
        if count >= most:
            raise Refused("limit-reached", f"{count} {what} are open: at most {most}")


def cast_vote(context: Context, name: str, body: CastVote) -> None:
    """Vote with one's stake, or change one's vote, up to and including the block with which the proposal closes."""
    context.active_member(name)
    proposal = context.draft.get(Proposal, body.proposal)
    if proposal is None:
        raise Refused("not-found", f"there is no proposal {body.proposal}")
    if proposal.status != "voting":
        raise Refused("wrong-phase", f"proposal {body.proposal} is {proposal.status}: it is not voted on any more")
    candidate = context.draft.get(Candidate, name)
    if not (candidate is not None and candidate.tokens) and not context.draft.where(Delegation, "member", name):
        raise Refused("not-allowed", f"{name} has no stake to vote with: it must bond or delegate first")
    context.draft.put(Vote(body.proposal, name, body.choice))
    context.emit(VoteCast(body.proposal, name, body.choice))


def end_block(context: Context) -> None:
    """Count the votes of what closes with this block, and carry out what is due; in the order of the numbers."""
    for proposal in context.draft.where(Proposal, "status", "voting"):
        if proposal.closes <= context.height and proposal.closes_time <= context.time:
            _close(context, proposal)
    for proposal in context.draft.where(Proposal, "status", "passed"):
        if proposal.executes <= context.height and proposal.executes_time <= context.time:
            _execute(context, proposal)


def count_votes(state: State | Draft, votes: Iterable[Vote]) -> Tally:
    """Count votes by the stake behind them.

    A voter's own delegations count by its own vote. A candidate that votes carries the rest of its pool: all of it but
    the delegations of others that vote themselves. Retired and jailed candidates carry theirs too: the stake is still
    their voters' choice. A tombstoned one has its own stake only. Votes of members that have left do not count.
    The work grows with the votes and the voters' delegations, not with all delegations.
    """
    choices = {vote.member: vote.choice for vote in votes if state.need(Member, vote.member).active}
    pools = {candidate.member: candidate for candidate in state.all(Candidate)}
    sums = {"yes": 0, "no": 0, "abstain": 0, "veto": 0}
    taken: dict[str, int] = {}
    for name, choice in choices.items():
        for delegation in state.where(Delegation, "member", name):
            pool = pools[delegation.candidate]
            if pool.member == name and not pool.tombstoned:
                continue
            value = stake.value_of(pool, delegation.shares)
            sums[choice] += value
            taken[pool.member] = taken.get(pool.member, 0) + value
    for name, choice in choices.items():
        pool = pools.get(name)
        if pool is not None and not pool.tombstoned:
            sums[choice] += pool.tokens - taken.get(name, 0)
    bonded = sum(pool.tokens for pool in pools.values())
    return Tally(sums["yes"], sums["no"], sums["abstain"], sums["veto"], bonded)


def verdict(tally: Tally, parameters: Parameters) -> tuple[str, str]:
    """Return the status that the votes give, `passed`, `rejected` or `vetoed`, and what they missed or exceeded.

    That is the parameter's name: `quorum`, `threshold` or `veto`; nothing for what has passed.
    """
    if tally.votes * MILLION < parameters.quorum * tally.bonded:
        return "rejected", "quorum"
    if tally.against * MILLION > parameters.veto * tally.votes:
        return "vetoed", "veto"
    if tally.yes * MILLION <= parameters.threshold * (tally.yes + tally.no + tally.against):
        return "rejected", "threshold"
    return "passed", ""


def _close(context: Context, proposal: Proposal) -> None:
    parameters = context.parameters
    tally = count_votes(context.draft, context.draft.where(Vote, "proposal", proposal.number))
    status, reason = verdict(tally, parameters)
    passed = status == "passed"
    executes = context.height + parameters.delay_blocks if passed else 0
    executes_time = context.time + parameters.delay_seconds * 1_000 if passed else 0
    deposit_to = "treasury" if status == "vetoed" else proposal.proposer
    if status == "vetoed":
        context.treasury(proposal.deposit)
    else:
        context.free(proposal.proposer, proposal.deposit)
    counts: dict[str, Any] = {
        "yes": tally.yes,
        "no": tally.no,
        "abstain": tally.abstain,
        "against": tally.against,
        "bonded": tally.bonded,
    }
    context.draft.put(replace(proposal, status=status, executes=executes, executes_time=executes_time, **counts))
    context.emit(ProposalClosed(proposal.number, status, reason, **counts, deposit_to=deposit_to))


def _execute(context: Context, proposal: Proposal) -> None:
    action = read_action(codec.decode(proposal.action))
    mark, said = context.draft.mark(), len(context.events)
    status, reason = "executed", ""
    try:
        action.carry_out(context, proposal.number)
    except Refused as refusal:
        context.draft.undo(mark)
        del context.events[said:]
        status, reason = "failed", refusal.code
    context.draft.put(replace(proposal, status=status))
    context.emit(ProposalExecuted(proposal.number, status, reason))
