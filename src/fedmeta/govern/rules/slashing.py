"""What a slash takes, wherever the stake has gone since the deed, and how it is given back."""

from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.stake import drop_shares, reduce_unbonding, value_of
from fedmeta.govern.state.records import Delegation, Fault, Redelegation, Unbonding
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.parts import Cut


def cut_stake(context: Context, name: str, snapshot: int, numerator: int, denominator: int) -> tuple[Cut, ...]:
    """Take numerator / denominator of the stake that elected a candidate by a snapshot, rounded down.

    It is taken from the pool as it is now, from stake that was undelegated after the snapshot, and from stake that was
    redelegated after it, in the other pool or on its way out of there. The units are the caller's to place when this
    returns.
    """
    cuts = []
    candidate = context.candidate(name)
    amount = candidate.tokens * numerator // denominator
    if amount:
        context.draft.put(replace(candidate, tokens=candidate.tokens - amount))
        cuts.append(Cut("pool", "", name, amount))
    for entry in context.draft.where(Unbonding, "candidate", name):
        amount = entry.amount * numerator // denominator
        if entry.created > snapshot and amount:
            reduce_unbonding(context, entry, amount)
            cuts.append(Cut("unbonding", entry.member, name, amount))
    for moved in context.draft.where(Redelegation, "source", name):
        if moved.created > snapshot:
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
    for entry in context.draft.where(Unbonding, "member", moved.member):
        amount = min(missing, entry.amount)
        if entry.candidate == moved.destination and entry.created >= moved.created and amount:
            reduce_unbonding(context, entry, amount)
            missing -= amount
            cuts.append(Cut("unbonding", moved.member, moved.destination, amount))
    context.draft.put(replace(moved, shares=moved.shares - wanted, amount=moved.amount - due))
    return [one for one in cuts if one.amount]


def give_back(context: Context, fault: Fault) -> tuple[Cut, ...]:
    """Undo the cuts of a fault with units that the caller takes from the treasury; return what was given, and to whom.

    All of it becomes free. The pool's part goes to those who have kept their shares since and added none, each as much
    as these shares lost: who entered the pool afterwards gets nothing.
    """
    given = [cut for cut in fault.cuts if cut.place != "pool"]
    for cut in fault.cuts:
        if cut.place == "pool":
            for held in context.draft.all(Delegation):
                amount = cut.amount * held.shares // fault.shares
                if held.candidate == cut.candidate and held.entered < fault.height and amount:
                    given.append(replace(cut, member=held.member, amount=amount))
    for cut in given:
        context.free(cut.member, cut.amount)
    return tuple(given)
