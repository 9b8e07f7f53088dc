"""Faults: their kinds, what a proven one costs, and how a slash is undone; and duties, whose neglect costs the seat."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import candidates
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.pruning import horizon
from fedmeta.govern.rules.slashing import cut_stake, give_back
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Fault, KeyOwner, Term
from fedmeta.govern.wire.block import DoubleSignature, LightClientAttack
from fedmeta.govern.wire.events import SlashAnnulled
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.round_events import DutyDone, DutyMissed, FaultProven


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: the parameter that says its cost, whether it bars for good, and what it is."""

    parameter: str
    final: bool
    meaning: str


KINDS = {
    "false-result": Kind("slash_false_result", False, "opened another result than the one that became final"),
    "double-signature": Kind("slash_double_signature", True, "signed two blocks of one height, as the engine shows"),
    "light-client-attack": Kind(
        "slash_double_signature", True, "signed a header to mislead light clients, as the engine shows"
    ),
}
"""Every kind of fault: nobody can commit one in another's name."""


def misconduct(context: Context, found: DoubleSignature | LightClientAttack) -> None:
    """Punish a key's owner for signatures that the engine has shown, unless that was done or is too long ago."""
    kind = "double-signature" if isinstance(found, DoubleSignature) else "light-client-attack"
    owner = context.draft.get(KeyOwner, found.public)
    candidate = None if owner is None else context.draft.get(Candidate, owner.member)
    terms = [one for one in context.draft.all(Term) if 0 < one.start <= found.height <= one.ends]
    recent = found.height >= horizon(context.draft)
    if candidate is not None and not candidate.tombstoned and terms and recent:
        prove(context, candidate.member, kind, terms[0].number, found.height)


def absences(context: Context, absent: Sequence[bytes]) -> None:
    """Note which super nodes have not signed the block before, every so many blocks, as duties that they missed.

    Who has missed none lately is not noted for one more that it did: so nothing changes where all is well.
    """
    if not context.chain.validators or context.height % context.parameters.signing_blocks:
        return
    for seat in context.term.seats:
        candidate = context.candidate(seat.candidate)
        missed = candidate.consensus in absent
        if missed or candidate.window:
            record_duty(context, seat.candidate, 0, missed)


def prove(context: Context, offender: str, kind: str, term: int, infraction: int, round: int = 0) -> Fault:
    """Punish a proven fault: slash, and jail or bar.

    The stake that elected the offender for the term of the round answers for it, wherever it has gone since. Within one
    term the highest fault counts, not the sum: only what a graver fault takes beyond earlier ones is taken. What is
    slashed is the treasury's.

    Args:
        context: What is being executed.
        offender: The candidate.
        kind: One of `KINDS`.
        term: The term of the deed.
        infraction: The height of the deed.
        round: The round of the deed; 0 if it is of none.
    """
    parameters = context.parameters
    fraction = getattr(parameters, KINDS[kind].parameter)
    earlier = context.draft.where(Fault, "offender", offender)
    already = max((one.fraction for one in earlier if one.term == term and not one.annulled), default=0)
    snapshot = context.draft.need(Term, term).snapshot
    shares, cuts = context.candidate(offender).shares, ()
    if fraction > already:
        cuts = cut_stake(context, offender, snapshot, fraction - already, MILLION - already)
    amount = sum(cut.amount for cut in cuts)
    context.treasury(amount)
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
        annulled=False,
    )
    context.draft.put(fault)
    context.emit(FaultProven(number, offender, kind, round, infraction, fraction, already, amount, cuts))
    if KINDS[kind].final:
        candidates.tombstone(context, offender)
    else:
        candidates.jail(context, offender, parameters.jail_blocks, absent=False)
    return fault


def annul(context: Context, number: int, proposal: int) -> None:
    """Give a slash back out of the treasury; jail and bar stay as they are.

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


def record_duty(context: Context, name: str, round: int, missed: bool) -> None:
    """Note that a super node did its duty or missed it; too many misses in the window cost the seat, and no stake."""
    candidate, parameters = context.candidate(name), context.parameters
    window = (candidate.window << 1 | missed) & ((1 << parameters.duty_window) - 1)
    misses = window.bit_count()
    over = missed and misses >= parameters.duty_misses
    context.draft.put(replace(candidate, window=0 if over else window))
    context.emit(DutyMissed(round, name, misses) if missed else DutyDone(round, name, misses))
    if over:
        candidates.jail(context, name, parameters.jail_blocks, absent=True)
