"""What a slash takes, wherever the stake has gone since the deed, and how it is given back."""

from dataclasses import replace

from fedmeta.govern.context import Context
from fedmeta.govern.records import Cut, Delegation, Redelegation, Unbonding
from fedmeta.govern.rules.stake import SHARES_PER_UNIT, drop_shares, reduce_unbonding, value_of


def cut_stake(context: Context, name: str, infraction: int, numerator: int, denominator: int) -> tuple[Cut, ...]:
    """Take numerator / denominator of the stake that stood behind a candidate at a height, rounded down.

    It is taken from the pool as it is now, from stake that was undelegated since, and from stake that was redelegated
    since, in the other pool or on its way out of there. The units are the caller's to place when this returns.
    """
    cuts = []
    candidate = context.candidate(name)
    amount = candidate.tokens * numerator // denominator
    if amount:
        context.draft.put(replace(candidate, tokens=candidate.tokens - amount))
        cuts.append(Cut("pool", "", name, amount))
    for entry in context.draft.where(Unbonding, "candidate", name):
        amount = entry.amount * numerator // denominator
        if entry.created >= infraction and amount:
            reduce_unbonding(context, entry, amount)
            cuts.append(Cut("unbonding", entry.member, name, amount))
    for moved in context.draft.where(Redelegation, "source", name):
        if moved.created >= infraction:
            cuts += _cut_moved(context, moved, numerator, denominator)
    return tuple(cuts)


def _cut_moved(context: Context, moved: Redelegation, numerator: int, denominator: int) -> list[Cut]:
    cuts = []
    due = moved.amount * numerator // denominator
    wanted = moved.shares * numerator // denominator
    pool = context.candidate(moved.destination)
    if value_of(pool, wanted) > due:
        # The pool was emptied and filled anew since: its shares are worth more now.
        wanted = due * pool.shares // pool.tokens
    delegation = context.draft.get(Delegation, moved.member, moved.destination)
    found = min(wanted, delegation.shares if delegation else 0)
    if found:
        amount = value_of(pool, found)
        drop_shares(context, moved.member, moved.destination, found, amount)
        cuts.append(Cut("redelegation", moved.member, moved.destination, amount))
    missing = due * (wanted - found) // wanted if wanted else 0
    for entry in context.draft.where(Unbonding, "candidate", moved.destination):
        amount = min(missing, entry.amount)
        if entry.member == moved.member and entry.created >= moved.created and amount:
            reduce_unbonding(context, entry, amount)
            missing -= amount
            cuts.append(Cut("unbonding", moved.member, moved.destination, amount))
    context.draft.put(replace(moved, shares=moved.shares - wanted, amount=moved.amount - due))
    return [one for one in cuts if one.amount]


def give_back(context: Context, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """Undo cuts with units that the caller has taken from the treasury; return what was given back.

    A pool's part returns to the pool, but its shares never become worth more than they were before any slash. What was
    cut on its way out, or after it had moved, becomes free.
    """
    given = []
    for cut in cuts:
        if cut.place == "pool":
            candidate = context.candidate(cut.candidate)
            amount = min(cut.amount, max(0, candidate.shares // SHARES_PER_UNIT - candidate.tokens))
            context.draft.put(replace(candidate, tokens=candidate.tokens + amount))
        else:
            amount = cut.amount
            context.free(cut.member, amount)
        if amount:
            given.append(replace(cut, amount=amount))
    return tuple(given)
