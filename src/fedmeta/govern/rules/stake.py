"""Stake: pools of shares, what leaves them, and what a slash takes.

A candidate's pool holds `tokens` units, divided into `shares`. A slash takes units, never shares, so that it falls on
all delegators alike. Rewards raise the pool's `reward_index` (rewards per share, after the F1 scheme of Ojha and Goes,
2019); a delegation's part is counted when its shares change or its member claims. Every division rounds down, against
whoever asks; what rounding leaves in a pool goes to the treasury when its last share goes.
"""

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Candidate, Delegation, Redelegation, Round, Term, Unbonding
from fedmeta.govern.wire.events import (
    PoolClosed,
    Redelegated,
    RedelegationEnded,
    RewardsClaimed,
    RewardsSettled,
    SharesDropped,
    Staked,
    UnbondingCancelled,
    UnbondingCompleted,
    Unstaked,
)
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.transactions import Bond, CancelUnbonding, Claim, Delegate, Redelegate, Undelegate

INDEX_SCALE = 2**128
"""Rewards per share are kept in this fraction of a unit; the shares of a pool stay below 2**80.

The index is rounded up, so that who is due a whole number of units gets it at once: each time that is less than 2**-48
units too much for a whole pool, and less than 2**-16 in 2**32 rounds. All that is paid is rounded down to units, so
that a pool never pays more than came in.
"""

SHARES_PER_UNIT = 10**6
"""Shares that a unit becomes in a pool that was never slashed."""

LOOK_AGAIN = 20
"""Blocks after which stake is looked at again whose block time has not come."""

THINNEST = 1_000
"""A pool whose shares have lost all but this part of their worth takes no more stake."""


def value_of(candidate: Candidate, shares: int) -> int:
    """Return the units that shares of a candidate's pool are worth, rounded down."""
    return shares * candidate.tokens // candidate.shares if candidate.shares else 0


def own_stake(context: Context, candidate: Candidate) -> int:
    """Return the units that a candidate has bonded to itself."""
    own = context.draft.get(Delegation, candidate.member, candidate.member)
    return value_of(candidate, own.shares) if own else 0


def accrued(delegation: Delegation, candidate: Candidate) -> int:
    """Return the rewards of a delegation that are not settled yet, in units, rounded down."""
    return _due(delegation, candidate) // INDEX_SCALE


def _due(delegation: Delegation, candidate: Candidate) -> int:
    return delegation.rest + delegation.shares * (candidate.reward_index - delegation.index)


def bond(context: Context, name: str, body: Bond) -> None:
    """Stake free units on oneself."""
    _stake(context, name, name, body.amount)


def delegate(context: Context, name: str, body: Delegate) -> None:
    """Stake free units on another candidate."""
    if body.candidate == name:
        raise Refused("not-allowed", "a member does not delegate to itself: bond instead")
    _stake(context, name, body.candidate, body.amount)


def _stake(context: Context, name: str, candidate: str, amount: int) -> None:
    context.free(name, -amount)
    shares, held = enter(context, name, candidate, amount)
    context.emit(Staked(name, candidate, amount, shares, held))


def redelegate(context: Context, name: str, body: Redelegate) -> None:
    """Move stake to another candidate at once; it answers for the old one until the unbonding period is over."""
    if body.source == body.destination:
        raise Refused("not-allowed", f"the stake is with {body.source!r} already")
    for entry in _check_entries(context, name):
        if entry.destination == body.source:
            raise Refused(
                "redelegation-hop",
                f"stake moved from {entry.source} to {entry.destination} at height {entry.created}: "
                f"it can move on after height {entry.completes}",
            )
    source_shares, source_held = withdraw(context, name, body.source, body.amount)
    shares, held = enter(context, name, body.destination, body.amount)
    completes, completes_time = _completes(context)
    before = context.draft.get(Redelegation, name, body.source, body.destination, context.height)
    context.draft.put(
        Redelegation(
            member=name,
            source=body.source,
            destination=body.destination,
            created=context.height,
            completes=completes,
            completes_time=completes_time,
            shares=shares + (before.shares if before else 0),
            amount=body.amount + (before.amount if before else 0),
        )
    )
    context.emit(
        Redelegated(
            member=name,
            source=body.source,
            destination=body.destination,
            amount=body.amount,
            source_shares=source_shares,
            source_held=source_held,
            destination_shares=shares,
            destination_held=held,
            completes=completes,
            completes_time=completes_time,
        )
    )


def undelegate(context: Context, name: str, body: Undelegate) -> None:
    """Take stake back; it is paid after the unbonding period, and is slashed until then for what was done before."""
    _check_entries(context, name)
    _unstake(context, name, body.candidate, body.amount)


def unstake_all(context: Context, name: str) -> None:
    """Put all stake of a member on its way out, as when it is removed; what is worth nothing is dropped."""
    for delegation in context.draft.where(Delegation, "member", name):
        worth = value_of(context.candidate(delegation.candidate), delegation.shares)
        if worth:
            _unstake(context, name, delegation.candidate, worth)
        else:
            drop_shares(context, name, delegation.candidate, delegation.shares, 0)


def _unstake(context: Context, name: str, candidate: str, amount: int) -> None:
    shares, held = withdraw(context, name, candidate, amount)
    completes, completes_time = _completes(context)
    before = context.draft.get(Unbonding, candidate, name, context.height)
    whole = amount + (before.amount if before else 0)
    context.draft.put(Unbonding(candidate, name, context.height, completes, completes_time, whole))
    context.emit(Unstaked(name, candidate, shares, amount, held, completes, completes_time))


def _completes(context: Context) -> tuple[int, int]:
    """Return the height and the block time from which stake that leaves now can be paid, by the present periods."""
    parameters = context.parameters
    return context.height + parameters.unbonding_blocks, context.time + parameters.unbonding_seconds * 1_000


def cancel_unbonding(context: Context, name: str, body: CancelUnbonding) -> None:
    """Put stake on its way out back to its candidate."""
    entry = context.draft.get(Unbonding, body.candidate, name, body.created)
    if entry is None:
        raise Refused("not-found", f"{name} undelegated nothing from {body.candidate!r} at height {body.created}")
    if body.amount > entry.amount:
        raise Refused("insufficient-funds", f"{entry.amount} units are on their way out: {body.amount} were asked for")
    reduce_unbonding(context, entry, body.amount)
    shares, held = enter(context, name, body.candidate, body.amount)
    context.emit(UnbondingCancelled(name, body.candidate, body.created, body.amount, shares, held))


def claim(context: Context, name: str, body: Claim) -> None:
    """Make all rewards that are owed free; delegations that slashes have left worthless are dropped."""
    worthless = False
    for delegation in context.draft.where(Delegation, "member", name):
        candidate = context.candidate(delegation.candidate)
        if value_of(candidate, delegation.shares):
            _settle(context, delegation, candidate)
        else:
            worthless = True
            drop_shares(context, name, delegation.candidate, delegation.shares, 0)
    member = context.member(name)
    if not member.owed and not worthless:
        raise Refused("insufficient-funds", f"nothing is owed to {name}")
    context.draft.put(replace(member, free=member.free + member.owed, owed=0))
    context.emit(RewardsClaimed(name, member.owed))


def end_block(context: Context) -> None:
    """Let go of the redelegations whose time has come, and pay the stake whose time has; what still answers waits."""
    for moved in context.draft.where(Redelegation, "completes", context.height):
        again = _wait(context, moved, moved.source)
        if again:
            context.draft.put(replace(moved, completes=again))
            continue
        context.draft.delete(Redelegation, moved.member, moved.source, moved.destination, moved.created)
        context.emit(RedelegationEnded(moved.member, moved.source, moved.destination, moved.created))
    for entry in context.draft.where(Unbonding, "completes", context.height):
        again = _wait(context, entry, entry.candidate) or _moved_until(context, entry)
        if again:
            context.draft.put(replace(entry, completes=again))
            continue
        context.draft.delete(Unbonding, entry.candidate, entry.member, entry.created)
        context.free(entry.member, entry.amount)
        context.emit(UnbondingCompleted(entry.member, entry.candidate, entry.created, entry.amount))


def _moved_until(context: Context, entry: Unbonding) -> int:
    """Return up to which height stake that was moved here before it left answers for where it came from; 0 if none."""
    found = [
        moved.completes
        for moved in context.draft.where(Redelegation, "member", entry.member)
        if moved.destination == entry.candidate and moved.created <= entry.created
    ]
    return max(found, default=0)


def _wait(context: Context, entry: Unbonding | Redelegation, candidate: str) -> int:
    """Return the height at which to look again at stake that cannot be let go yet, or 0 if it can.

    It waits for its block time, which is looked at now and then, and for as long as it answers: while the candidate
    has a place in a term, or a seat in a live round, that it had helped to elect. So no vote that changes the periods
    lets stake go before its time.
    """
    height, draft = context.height, context.draft
    if entry.completes_time > context.time:
        return height + LOOK_AGAIN
    present = context.term
    for number in (present.number, present.number + 1):
        term = draft.need(Term, number)
        places = (*term.seats, *term.standbys)
        if term.snapshot < entry.created and any(seat.candidate == candidate for seat in places):
            return max(height, present.ends) + 1
    latest = draft.get(Round, context.chain.round)
    if latest is None or latest.settled or all(seat.candidate != candidate for seat in latest.seats):
        return 0
    return height + 1 if draft.need(Term, latest.term).snapshot < entry.created else 0


def _check_entries(context: Context, name: str) -> list[Redelegation]:
    """Return what a member has moved and that still answers; refuses if there is no place for more that leaves."""
    moved = context.draft.where(Redelegation, "member", name)
    count, most = len(context.draft.where(Unbonding, "member", name)) + len(moved), context.parameters.max_unbonding
    if count >= most:
        raise Refused("limit-reached", f"{name} has {count} unbonding and redelegation entries: at most {most}")
    return moved


def enter(context: Context, name: str, candidate_name: str, amount: int) -> tuple[int, int]:
    """Turn units into shares of a pool; return the new shares and all that the member holds there."""
    candidate = context.candidate(candidate_name)
    if candidate.tombstoned:
        raise Refused("tombstoned", f"{candidate_name} is barred for good")
    if not candidate.active:
        raise Refused("not-allowed", f"{candidate_name} has retired")
    if candidate.shares > candidate.tokens * SHARES_PER_UNIT * THINNEST:
        raise Refused("not-allowed", f"the pool of {candidate_name} was slashed too thin to stake on")
    delegation = context.draft.get(Delegation, name, candidate_name)
    if delegation is None:
        _check_delegations(context, name)
        delegation = Delegation(name, candidate_name, 0, candidate.reward_index)
    else:
        delegation, candidate = _settle(context, delegation, candidate)
    shares = amount * candidate.shares // candidate.tokens if candidate.shares else amount * SHARES_PER_UNIT
    if not shares:
        raise Refused("bad-amount", f"{amount} units are worth no share of the pool of {candidate_name}")
    held = delegation.shares + shares
    context.draft.put(replace(delegation, shares=held, entered=context.height))
    context.draft.put(replace(candidate, tokens=candidate.tokens + amount, shares=candidate.shares + shares))
    return shares, held


def _check_delegations(context: Context, name: str) -> None:
    count, most = len(context.draft.where(Delegation, "member", name)), context.parameters.max_delegations
    if count >= most:
        raise Refused("limit-reached", f"{name} has staked on {count} candidates: at most {most}")


def withdraw(context: Context, name: str, candidate_name: str, amount: int) -> tuple[int, int]:
    """Take units out of a pool; return the shares that went, and what the member still holds there."""
    candidate = context.candidate(candidate_name)
    delegation = context.draft.get(Delegation, name, candidate_name)
    worth = value_of(candidate, delegation.shares) if delegation else 0
    if delegation is None or amount > worth:
        raise Refused("insufficient-funds", f"{name} has {worth} units with {candidate_name}: {amount} were asked for")
    shares = -(-amount * candidate.shares // candidate.tokens)
    if amount == worth:
        shares = delegation.shares
    remove_shares(context, name, candidate_name, shares, amount)
    return shares, delegation.shares - shares


def drop_shares(context: Context, name: str, candidate_name: str, shares: int, amount: int) -> None:
    """Take shares off a member, and units out of the pool, for nothing: slashed, or worthless."""
    held = context.draft.need(Delegation, name, candidate_name).shares
    remove_shares(context, name, candidate_name, shares, amount)
    context.emit(SharesDropped(name, candidate_name, shares, held - shares, amount))


def remove_shares(context: Context, name: str, candidate_name: str, shares: int, amount: int) -> None:
    """Take shares off a delegation, and units out of the pool; what an empty pool still holds is the treasury's."""
    delegation = context.draft.need(Delegation, name, candidate_name)
    delegation, candidate = _settle(context, delegation, context.candidate(candidate_name))
    if delegation.shares == shares:
        context.draft.delete(Delegation, name, candidate_name)
    else:
        context.draft.put(replace(delegation, shares=delegation.shares - shares))
    candidate = replace(candidate, tokens=candidate.tokens - amount, shares=candidate.shares - shares)
    if not candidate.shares and (candidate.tokens or candidate.outstanding):
        context.treasury(candidate.tokens + candidate.outstanding)
        context.emit(PoolClosed(candidate_name, candidate.tokens, candidate.outstanding))
        candidate = replace(candidate, tokens=0, outstanding=0)
    context.draft.put(candidate)


def _settle(context: Context, delegation: Delegation, candidate: Candidate) -> tuple[Delegation, Candidate]:
    if delegation.index == candidate.reward_index:
        return delegation, candidate
    amount, rest = divmod(_due(delegation, candidate), INDEX_SCALE)
    context.emit(
        RewardsSettled(
            delegation.member,
            delegation.candidate,
            delegation.rest,
            delegation.shares,
            delegation.index,
            candidate.reward_index,
            amount,
        )
    )
    context.owe(delegation.member, amount)
    settled = replace(delegation, index=candidate.reward_index, rest=rest)
    remaining = replace(candidate, outstanding=candidate.outstanding - amount)
    context.draft.put(settled)
    context.draft.put(remaining)
    return settled, remaining


def give_voters(context: Context, candidate_name: str, amount: int) -> Candidate:
    """Give units to all delegators of a pool that has shares, in proportion; return the candidate as it is then."""
    candidate = context.candidate(candidate_name)
    rise = -(-amount * INDEX_SCALE // candidate.shares)
    raised = replace(candidate, reward_index=candidate.reward_index + rise, outstanding=candidate.outstanding + amount)
    context.draft.put(raised)
    return raised


def reduce_unbonding(context: Context, entry: Unbonding, amount: int) -> None:
    """Take units off an unbonding entry."""
    if amount == entry.amount:
        context.draft.delete(Unbonding, entry.candidate, entry.member, entry.created)
    else:
        context.draft.put(replace(entry, amount=entry.amount - amount))
