"""How a member stops to contribute: its registrations, and what it still owes and has at stake.

A round that has begun goes on, and so does a term: who has a seat in one answers for it until it is over. So to leave
is one thing, and to shut the node down another, later one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import NodeError, Refused
from fedmeta.govern.state.records import (
    Candidate,
    Chain,
    Delegation,
    Member,
    Redelegation,
    Registration,
    Round,
    Term,
    Unbonding,
    Update,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.errors import FolderInUse, Unreachable
from fedmeta.node.member import reaching
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.process.approving import LOOK
from fedmeta.node.process.following import catch_up, check_member
from fedmeta.node.process.sending import check_account, send
from fedmeta.node.process.supervisor import locked

POLL = 2.0
"""Seconds from one look at the ledger to the next, while it is waited for the end of the duties."""

WHY = "a person has said that this member contributes no more"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member still has to do, and has on the ledger."""

    height: int
    duties: tuple[str, ...]
    """Why its node must go on, each in words; empty once it may be shut down."""
    stakes: tuple[str, ...]
    """What it has on the ledger that answers for something, or is owed to it, each in words."""


def standing(state: State, name: str) -> Standing:
    """Return what a member still has to do, and has on the ledger, after a block."""
    return Standing(state.height, tuple(_duties(state, name)), tuple(_stakes(state, name)))


def _duties(state: State, name: str) -> list[str]:
    chain, found = state.need(Chain), []
    round = state.get(Round, chain.round)
    if round is not None and not round.settled:
        if any(seat.candidate == name for seat in round.seats):
            found.append(f"it holds a seat of round {round.number}, which is in its phase {round.phase}")
        if state.get(Update, round.number, name) is not None:
            found.append(f"it has committed to an update in round {round.number}, which the seats must have")
    for number in (chain.term, chain.term + 1):
        term = state.get(Term, number)
        if term is None:
            continue
        ends = f"which ends at height {term.ends:,}" if term.ends else "which has not begun"
        if any(seat.candidate == name for seat in term.seats):
            found.append(f"it holds a seat of term {number}, {ends}")
        elif any(seat.candidate == name for seat in term.standbys):
            found.append(f"it stands by in term {number}, {ends}")
    return found


def _stakes(state: State, name: str) -> list[str]:
    member, candidate, found = state.need(Member, name), state.get(Candidate, name), []
    if candidate is not None and candidate.active:
        found.append("it stands for election, and may be elected again: `--candidate` ends that")
    for one in state.where(Delegation, "member", name):
        pool = state.need(Candidate, one.candidate)
        amount = one.shares * pool.tokens // pool.shares if pool.shares else 0
        found.append(
            f"{amount:,} units are staked on {one.candidate}: `fedmeta ledger stake undelegate` takes them back"
        )
    for one in state.where(Unbonding, "member", name):
        found.append(
            f"{one.amount:,} units are on their way back from {one.candidate}, paid at height {one.completes:,}"
        )
    for one in state.where(Redelegation, "member", name):
        found.append(f"{one.amount:,} units answer for {one.source} until height {one.completes:,}")
    if member.owed:
        found.append(f"{member.owed:,} units are owed to it: `fedmeta ledger stake claim` takes them")
    return found


def leave(config: Config, account: Key, note: str, *, candidate: bool = False) -> tuple[list[str], Follower]:
    """Bring no more updates: locally at once, and on the ledger; return what was done, in words, and the ledger.

    Args:
        config: The node's.
        account: The key of the member's account.
        note: Why; it never leaves.
        candidate: Whether to stand for no further election, too.

    Raises:
        MemberError: the key is not the account's, or the member is none of the ledger. Nothing has changed.
        Unreachable, NodeError: the ledger cannot be reached; if that is so after this node was told to bring no more
            updates, the same once more tells the ledger, too.
        Refused: the ledger refuses a transaction.
        DiskError: the approvals cannot be written.
    """
    with reaching.first(config) as client:
        follower = catch_up(config, client)
        check_account(account, check_member(follower.state.get(Member, config.member), config))
        done = _leave_here(config, note)
        for one in _registered(follower.state, config.member):
            done += _told(config, account, tx.LeaveRecipe(one.recipe), f"left recipe {one.recipe.hex()}")
        stands = follower.state.get(Candidate, config.member)
        if candidate and stands is not None and stands.active:
            done += _told(config, account, tx.Retire(), "stands for election no more")
        return done, catch_up(config, client, follower)


def _leave_here(config: Config, note: str) -> list[str]:
    """Tell the node, which would register again by itself otherwise, and let a running one hear of it."""
    approvals, done = Approvals(Folder(config.folder).approvals), []
    for digest, one in approvals.latest().items():
        if not one.revoked and one.contributes:
            approvals.leave(digest, note)
            done.append(f"this node brings no more updates by procedure {digest.hex()}")
    if done and is_running(config):
        time.sleep(2 * LOOK)
    return done


def is_running(config: Config) -> bool:
    """Return whether a node runs in the folder."""
    try:
        with locked(config.folder):
            return False
    except FolderInUse:
        return True


def _registered(state: State, name: str) -> list[Registration]:
    return [one for one in state.all(Registration) if one.member == name and one.active]


def _told(config: Config, account: Key, body: object, done: str) -> list[str]:
    try:
        send(config, account, body, WHY)
    except Refused as refusal:
        # The registration has ended in the meantime, or somebody has done the same.
        if refusal.code not in ("not-found", "already-done"):
            raise
        return []
    return [done]


def wait(config: Config, follower: Follower, say: Callable[[Standing], None]) -> Standing:
    """Return once the node may be shut down; `say` is given what has changed on the way.

    Where the ledger cannot be reached, it is asked again.
    """
    last = standing(follower.state, config.member)
    say(last)
    while last.duties:
        time.sleep(POLL)
        try:
            with reaching.first(config) as client:
                follower = catch_up(config, client, follower)
        except (NodeError, Unreachable):
            continue
        now = standing(follower.state, config.member)
        if now.duties != last.duties:
            say(now)
        last = now
    return last
