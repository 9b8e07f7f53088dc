"""Members: their keys, profiles, and how they come in and leave."""

from fedmeta.govern.errors import BadSignature, Refused
from fedmeta.govern.rules import election, registrations, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import (
    Candidate,
    Delegation,
    KeyOwner,
    KeyPeriod,
    Member,
    Proposal,
    Redelegation,
    Round,
    Term,
    Unbonding,
)
from fedmeta.govern.wire.events import (
    CandidateRetired,
    KeyRotated,
    MachineKeySet,
    MemberAdmitted,
    MemberLeft,
    MemberRemoved,
    ProfileSet,
)
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.signatures import check_public_key, verify
from fedmeta.govern.wire.transactions import Leave, RotateKey, SetMachineKey, SetProfile, possession


def key_at(member: Member, height: int) -> bytes:
    """Return the public key in force at a height; refuses with `not-active` a height before the first key's."""
    for period in reversed(member.keys):
        if period.since <= height:
            return period.public
    raise Refused(
        "not-active", f"{member.name} has no key at height {height}: its first signs from {member.keys[0].since}"
    )


def machine_key_at(member: Member, height: int) -> bytes:
    """Return the key that signs for a member in rounds and in the engine: its machine's, or else the account's."""
    machine = member.machine
    return machine.public if machine is not None and machine.since <= height else key_at(member, height)


def rotate_key(context: Context, name: str, body: RotateKey) -> None:
    """Sign with another key from the next height on."""
    member = context.active_member(name)
    if member.keys[-1].since > context.height:
        raise Refused("limit-reached", f"{name} has a new key already from {member.keys[-1].since} on: one a height")
    check_new_key(context, name, body.public, body.proof)
    keys = _with_key(context, member, body.public)
    context.draft.put(replace(member, keys=keys))
    context.emit(KeyRotated(name, body.public, keys[-1].since))


def set_machine_key(context: Context, name: str, body: SetMachineKey) -> None:
    """Let another key sign in rounds from the next height on, or the account's again."""
    member = context.active_member(name)
    if member.machine is not None and member.machine.since > context.height:
        raise Refused("limit-reached", f"{name} has a machine key already from {member.machine.since} on: one a height")
    if not body.public:
        if member.machine is None or body.proof:
            raise Refused("bad-value", f"{name} has no machine key to take back, or a proof is given for none")
        context.draft.put(replace(member, machine=None))
    else:
        check_new_key(context, name, body.public, body.proof)
        context.draft.put(KeyOwner(body.public, name))
        context.draft.put(replace(member, machine=KeyPeriod(body.public, context.height + 1)))
    context.emit(MachineKeySet(name, body.public, context.height + 1))


def check_new_key(context: Context, name: str, public: bytes, proof: bytes) -> None:
    """Refuse a key that somebody has or had, or that the member does not show to hold."""
    _check_unowned(context, public)
    if not verify(public, possession(context.chain.genesis, name, public), proof):
        raise Refused("bad-signature", f"the proof is not by the new key over possession(genesis, {name}, public)")


def set_profile(context: Context, name: str, body: SetProfile) -> None:
    """Set the full name, the node's address and the fingerprints of its TLS keys, the present and the next one."""
    profile = {"title": body.title, "address": body.address, "tls": body.tls, "next_tls": body.next_tls}
    context.draft.put(replace(context.active_member(name), **profile))
    context.emit(ProfileSet(name, **profile))


def leave(context: Context, name: str, body: Leave) -> None:
    """Leave, with nothing at stake, under way or left to claim; free units stay on the account."""
    member = context.active_member(name)
    reason = _tie(context, member)
    if reason:
        raise Refused("not-allowed", f"{name} cannot leave: it {reason}")
    registrations.leave_all(context, name)
    context.draft.put(replace(member, active=False, left=context.height))
    context.emit(MemberLeft(name))


def admit(context: Context, name: str, organisation: str, public: bytes, title: str = "") -> None:
    """Let a new member in, with nothing, or one that left back in, with the account it had.

    One that comes back keeps its organisation and goes on counting its transactions: no old one can be replayed.
    Refuses with `already-done`, `not-allowed` or `bad-value`.
    """
    check_admission(context, name, organisation, public)
    before = context.draft.get(Member, name)
    if before is None:
        keys = _first_key(context, name, public)
        context.draft.put(
            Member(
                name=name,
                organisation=organisation,
                active=True,
                admitted=context.height,
                keys=keys,
                machine=None,
                sequence=0,
                free=0,
                owed=0,
                title=title,
                address="",
                tls=b"",
                next_tls=b"",
            )
        )
    else:
        keys = before.keys if before.keys[-1].public == public else _with_key(context, before, public)
        back = replace(before, active=True, admitted=context.height, keys=keys, machine=None)
        context.draft.put(replace(back, title=title or before.title))
    context.emit(MemberAdmitted(name, organisation, public))


def check_admission(context: Context, name: str, organisation: str, public: bytes) -> None:
    """Refuse what `admit` would refuse."""
    before = context.draft.get(Member, name)
    if before is not None:
        if before.active:
            raise Refused("already-done", f"{name} is a member")
        if before.organisation != organisation:
            raise Refused("not-allowed", f"{name} comes back: its organisation must be {before.organisation}")
        if before.keys[-1].public == public:
            return
    _check_unowned(context, public)


def remove(context: Context, name: str, proposal: int) -> None:
    """Shut a member out, by a proposal.

    All its stake is put on its way out and its rewards are settled. What it has, and what the unbonding will pay, stays
    on its account; it can be used again once the member is admitted again. As a candidate it is retired and replaced.
    """
    context.active_member(name)
    stake.unstake_all(context, name)
    registrations.leave_all(context, name)
    context.draft.put(replace(context.member(name), active=False, left=context.height))
    candidate = context.draft.get(Candidate, name)
    if candidate is not None:
        if candidate.active:
            context.draft.put(replace(candidate, active=False))
            context.emit(CandidateRetired(name))
        election.replace_seat(context, name)
    context.emit(MemberRemoved(name, proposal))


def _tie(context: Context, member: Member) -> str:
    """Return what keeps a member from leaving, or nothing."""
    draft, name = context.draft, member.name
    candidate = draft.get(Candidate, name)
    if candidate is not None and candidate.active:
        return "stands for election: it must retire first"
    if _holds_seat(context, name):
        return "holds a seat: it must wait until the term is over"
    if draft.where(Delegation, "member", name):
        return "has stake: it must undelegate first"
    if draft.where(Unbonding, "member", name):
        return "has stake on its way out: it must wait until that is paid"
    if draft.where(Redelegation, "member", name):
        return "has moved stake that still answers for its old candidate: it must wait"
    if member.owed:
        return f"is owed {member.owed}: it must claim first"
    if any(one.proposer == name for one in draft.where(Proposal, "status", "voting")):
        return "has a proposal that is voted on: it must wait for the deposit"
    return ""


def _holds_seat(context: Context, name: str) -> bool:
    chain, draft = context.chain, context.draft
    terms = [draft.get(Term, number) for number in (chain.term, chain.term + 1)]
    held = [seat for term in terms if term is not None for seat in (*term.seats, *term.standbys)]
    latest = draft.get(Round, chain.round)
    if latest is not None and not latest.settled:
        held += latest.seats
    return any(seat.candidate == name for seat in held)


def _check_unowned(context: Context, public: bytes) -> None:
    try:
        check_public_key(public)
    except BadSignature as error:
        raise Refused("bad-value", str(error)) from error
    owner = context.draft.get(KeyOwner, public)
    if owner is not None:
        raise Refused("already-done", f"the key {public.hex()} is or was {owner.member}'s: a key is used once")


def own_key(context: Context, name: str, public: bytes) -> None:
    """Let a key be a member's for ever; refuses one that somebody has or had."""
    _check_unowned(context, public)
    context.draft.put(KeyOwner(public, name))


def _first_key(context: Context, name: str, public: bytes) -> tuple[KeyPeriod, ...]:
    context.draft.put(KeyOwner(public, name))
    return (KeyPeriod(public, context.height + 1),)


def _with_key(context: Context, member: Member, public: bytes) -> tuple[KeyPeriod, ...]:
    """Return the member's key in force, and the new one that follows it from the next height on."""
    return (member.keys[-1], *_first_key(context, member.name, public))
