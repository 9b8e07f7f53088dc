"""What a member holds, wherever on the ledger it lies."""

from dataclasses import dataclass

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.stake import accrued, value_of
from fedmeta.govern.state.records import Candidate, Delegation, Member, Proposal, Unbonding
from fedmeta.govern.state.state import State


@dataclass(frozen=True, slots=True)
class Bonded:
    """A member's stake with one candidate: the units that its shares are worth, and the rewards not settled yet."""

    candidate: str
    shares: int
    value: int
    accrued: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that a member holds at one height, in units, each place rounded down."""

    free: int
    owed: int
    bonded: tuple[Bonded, ...]
    unbonding: tuple[Unbonding, ...]
    deposits: int
    """Of its proposals that are voted on."""

    @property
    def total(self) -> int:
        """free + owed + the values bonded + the rewards accrued + unbonding + deposits."""
        bonded = sum(one.value + one.accrued for one in self.bonded)
        return self.free + self.owed + bonded + sum(one.amount for one in self.unbonding) + self.deposits


def holdings(state: State, name: str) -> Holdings:
    """Return what a member holds; refuses with `unknown-member`."""
    member = state.get(Member, name)
    if member is None:
        raise Refused("unknown-member", f"nobody named {name!r} is a member")
    bonded = []
    for one in state.where(Delegation, "member", name):
        candidate = state.need(Candidate, one.candidate)
        bonded.append(Bonded(one.candidate, one.shares, value_of(candidate, one.shares), accrued(one, candidate)))
    proposals = (one for one in state.where(Proposal, "status", "voting") if one.proposer == name)
    return Holdings(
        free=member.free,
        owed=member.owed,
        bonded=tuple(bonded),
        unbonding=tuple(state.where(Unbonding, "member", name)),
        deposits=sum(one.deposit for one in proposals),
    )
