"""Candidates: members that stand for election, their commission, and their time in jail."""

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import election, members, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Candidate, ConsensusKey, KeyOwner, Member
from fedmeta.govern.wire.events import (
    CandidateJailed,
    CandidateRegistered,
    CandidateRetired,
    CandidateTombstoned,
    CandidateUnjailed,
    CommissionSet,
    ConsensusKeySet,
)
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.signatures import digest
from fedmeta.govern.wire.transactions import Register, Retire, SetCommission, SetConsensusKey, Unjail

YEAR = 31_536_000_000
"""365 days in milliseconds, over which a commission may rise by `commission_rise`."""


def register(context: Context, name: str, body: Register) -> None:
    """Stand for election, or again after retiring: then as the latest to register, by the rule of `set_commission`."""
    member = context.active_member(name)
    before = context.draft.get(Candidate, name)
    if before is None:
        _check_cap(context, body.commission)
        candidate = new(context, member, body.commission)
    else:
        if before.tombstoned:
            raise Refused("tombstoned", f"{name} is barred for good")
        if before.active:
            raise Refused("already-done", f"{name} is a candidate")
        candidate = replace(_with_commission(context, before, body.commission), active=True, registered=context.height)
    context.draft.put(candidate)
    context.emit(CandidateRegistered(name, candidate.organisation, candidate.commission))


def new(context: Context, member: Member, commission: int) -> Candidate:
    """Return a member as a candidate with an empty pool, which registers with this block."""
    return Candidate(
        member=member.name,
        organisation=member.organisation,
        active=True,
        registered=context.height,
        commission=commission,
        commission_time=context.time,
        tokens=0,
        shares=0,
        reward_index=0,
        outstanding=0,
        jailed=False,
        jailed_until=0,
        absent=False,
        tombstoned=False,
        window=0,
    )


def set_commission(context: Context, name: str, body: SetCommission) -> None:
    """Change the commission: within the cap, and up no faster than the yearly rate."""
    before = context.candidate(name)
    if body.commission == before.commission:
        raise Refused("already-done", f"the commission is {before.commission} already")
    context.draft.put(_with_commission(context, before, body.commission))
    context.emit(CommissionSet(name, before.commission, body.commission))


def allowed_rise(candidate: Candidate, commission_rise: int, time: int) -> int:
    """Return by how many parts per million a commission may rise at a block time, in milliseconds.

    The rise grows with the time since the last change, for a year at most.
    """
    return commission_rise * min(time - candidate.commission_time, YEAR) // YEAR


def set_consensus_key(context: Context, name: str, body: SetConsensusKey) -> None:
    """Decide blocks by another key, from the second height after this one on if it holds a seat."""
    candidate = context.candidate(name)
    if candidate.tombstoned:
        raise Refused("tombstoned", f"{name} is barred for good")
    members.check_new_key(context, name, body.public, body.proof)
    context.draft.put(KeyOwner(body.public, name))
    context.draft.put(with_consensus_key(context, candidate, body.public))
    context.emit(ConsensusKeySet(name, body.public))


def with_consensus_key(context: Context, candidate: Candidate, public: bytes) -> Candidate:
    """Return the candidate with a key that is its owner's, and let the key be known by its address."""
    address = digest(public)[:20]
    other = context.draft.get(ConsensusKey, address)
    if other is not None:
        raise Refused("already-done", f"the address {address.hex()} of the key {public.hex()} is another key's")
    context.draft.put(ConsensusKey(address, public))
    return replace(candidate, consensus=public)


def retire(context: Context, name: str, body: Retire) -> None:
    """Stand for no further election; the stake stays until it is undelegated."""
    candidate = context.candidate(name)
    if not candidate.active:
        raise Refused("already-done", f"{name} has retired")
    context.draft.put(replace(candidate, active=False))
    context.emit(CandidateRetired(name))


def unjail(context: Context, name: str, body: Unjail) -> None:
    """Come out of jail, after the time and with the own stake that an election needs."""
    candidate = context.candidate(name)
    if candidate.tombstoned:
        raise Refused("tombstoned", f"{name} is barred for good")
    if not candidate.jailed:
        raise Refused("already-done", f"{name} is not in jail")
    if context.height <= candidate.jailed_until:
        raise Refused("jailed", f"{name} is in jail up to height {candidate.jailed_until}: this is {context.height}")
    own, needed = stake.own_stake(context, candidate), context.parameters.min_self_stake
    if own < needed:
        raise Refused("insufficient-funds", f"{name} has {own} at stake on itself: it must be at least {needed}")
    context.draft.put(replace(candidate, jailed=False, absent=False))
    context.emit(CandidateUnjailed(name))


def jail(context: Context, name: str, blocks: int, absent: bool) -> None:
    """Jail a candidate for some blocks, and give its seats to standbys; it comes out when it asks to.

    Who was only absent keeps its seat, unpaid, where fewer than four organisations would remain without it.
    """
    candidate = context.candidate(name)
    until = max(candidate.jailed_until, context.height + blocks)
    absent = absent and (candidate.absent or not candidate.jailed)
    context.draft.put(replace(candidate, jailed=True, jailed_until=until, absent=absent))
    context.emit(CandidateJailed(name, until, absent))
    election.replace_seat(context, name)


def tombstone(context: Context, name: str) -> None:
    """Bar a candidate for good, and give its seats to standbys."""
    candidate = context.candidate(name)
    if candidate.tombstoned:
        return
    context.draft.put(replace(candidate, jailed=True, absent=False, tombstoned=True))
    context.emit(CandidateTombstoned(name))
    election.replace_seat(context, name)


def _with_commission(context: Context, before: Candidate, commission: int) -> Candidate:
    _check_cap(context, commission)
    if commission == before.commission:
        return before
    rise = allowed_rise(before, context.parameters.commission_rise, context.time)
    if commission > before.commission + rise:
        highest = before.commission + rise
        raise Refused(
            "commission-cap", f"from {before.commission} the commission can rise to {highest} now: not {commission}"
        )
    return replace(before, commission=commission, commission_time=context.time)


def _check_cap(context: Context, commission: int) -> None:
    cap = context.parameters.commission_cap
    if commission > cap:
        raise Refused("commission-cap", f"the commission is {commission} parts per million: the cap is {cap}")
