"""Faults: their kinds, what a proven one costs, and how a slash is undone."""

from dataclasses import dataclass, replace

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import candidates
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.slashing import cut_stake, give_back
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Fault, Round, Term
from fedmeta.govern.wire.events import DutyDone, DutyMissed, FaultProven, SlashAnnulled


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: the parameter that says its cost, whether it bars for good, and what it is."""

    parameter: str
    final: bool
    meaning: str


KINDS = {
    "two-manifests": Kind("slash_equivocation", True, "signed two manifests for one attempt at a round"),
    "false-result": Kind("slash_false_result", False, "stood for a result that a quorum's own execution does not give"),
    "withheld-reveal": Kind("slash_withheld_reveal", False, "committed to a result and never revealed it"),
    "left-out": Kind("slash_left_out", False, "left an update out that was committed in time, with receipts"),
    "missed-duties": Kind("slash_missed_duties", False, "missed too many duties of a sliding window"),
}
"""Every kind of fault."""


def prove(context: Context, offender: str, kind: str, round: int, infraction: int, reporter: str = "") -> Fault | None:
    """Punish a proven fault; returns None, and does nothing, if it was proven before.

    The stake that elected the offender for the term of the round answers for it, wherever it has gone since. Within one
    term the highest fault counts, not the sum: only what a graver fault takes beyond earlier ones is taken.
    The reporter's part is capped, and nothing if it belongs to the offender's organisation; the rest is the treasury's.

    Args:
        context: What is being executed.
        offender: The candidate.
        kind: One of `KINDS`.
        round: The round of the deed; with the offender and the kind it names the fault.
        infraction: The height of the deed.
        reporter: The member who showed it; empty when the ledger saw it itself.
    """
    earlier = context.draft.where(Fault, "offender", offender)
    if any((one.kind, one.round) == (kind, round) for one in earlier):
        return None
    term = context.draft.need(Round, round).term
    parameters = context.parameters
    fraction = getattr(parameters, KINDS[kind].parameter)
    already = max((one.fraction for one in earlier if one.term == term and not one.annulled), default=0)
    snapshot = context.draft.need(Term, term).snapshot
    shares, cuts = context.candidate(offender).shares, ()
    if fraction > already:
        cuts = cut_stake(context, offender, snapshot, fraction - already, MILLION - already)
    amount = sum(cut.amount for cut in cuts)
    reward = _reward(context, offender, reporter, amount)
    context.treasury(amount - reward)
    context.owe(reporter, reward)
    number = context.chain.faults + 1
    context.change_chain(faults=number)
    fault = Fault(
        number=number,
        offender=offender,
        kind=kind,
        round=round,
        term=term,
        infraction=infraction,
        height=context.height,
        fraction=fraction,
        cuts=cuts,
        shares=shares,
        reporter=reporter,
        reward=reward,
        annulled=False,
    )
    context.draft.put(fault)
    context.emit(
        FaultProven(number, offender, kind, round, infraction, fraction, already, amount, cuts, reporter, reward)
    )
    if KINDS[kind].final:
        candidates.tombstone(context, offender)
    else:
        candidates.jail(context, offender, parameters.jail_blocks)
    return fault


def _reward(context: Context, offender: str, reporter: str, amount: int) -> int:
    if not reporter or context.member(reporter).organisation == context.candidate(offender).organisation:
        return 0
    return min(amount * context.parameters.reporter_share // MILLION, context.parameters.reporter_cap)


def annul(context: Context, number: int, proposal: int) -> None:
    """Give a slash back out of the treasury; jail and bar stay as they are, and so does the reporter's reward.

    Raises:
        Refused: no such fault, annulled before, or more than the treasury holds.
    """
    fault = context.draft.get(Fault, number)
    if fault is None:
        raise Refused("not-found", f"there is no fault {number}, or it is too old")
    if fault.annulled:
        raise Refused("already-done", f"the slash of fault {number} was annulled before")
    amount = sum(cut.amount for cut in fault.cuts)
    if amount > context.chain.treasury:
        raise Refused("insufficient-funds", f"the treasury has {context.chain.treasury} units: {amount} are needed")
    given = give_back(context, fault)
    returned = sum(cut.amount for cut in given)
    context.treasury(-returned)
    context.draft.put(replace(fault, annulled=True))
    context.emit(SlashAnnulled(number, returned, given, proposal))


def record_duty(context: Context, name: str, round: int, duty: str, missed: bool) -> None:
    """Note that a super node did a duty or missed it; too many misses in the window are a fault."""
    candidate, parameters = context.candidate(name), context.parameters
    window = (candidate.window << 1 | missed) & ((1 << parameters.duty_window) - 1)
    misses = window.bit_count()
    over = missed and misses >= parameters.duty_misses
    context.draft.put(replace(candidate, window=0 if over else window))
    context.emit(DutyMissed(round, name, duty, misses) if missed else DutyDone(round, name, duty, misses))
    if over:
        prove(context, name, "missed-duties", round, context.height)
