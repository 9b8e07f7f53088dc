"""What a rule sees and may do while a block is executed."""

from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import Candidate, Chain, Member, Term
from fedmeta.govern.state.state import Draft, State
from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.layout import replace


class Context:
    """A draft of the next state, the events so far, and the height and time of the block that is being executed."""

    def __init__(self, state: State, height: int, time: int):
        self.draft: Draft = state.draft(height, time)
        self.height = height
        self.time = time
        self.events: list[Event] = []

    @property
    def chain(self) -> Chain:
        """What the ledger has one of."""
        return self.draft.need(Chain)

    def change_chain(self, **values: Any) -> Chain:
        """Change fields of the chain's record, and return it."""
        changed = replace(self.chain, **values)
        self.draft.put(changed)
        return changed

    @property
    def parameters(self) -> Parameters:
        """The parameters as they are now."""
        return self.draft.need(Parameters)

    @property
    def term(self) -> Term:
        """The present term."""
        return self.draft.need(Term, self.chain.term)

    def emit(self, event: Event) -> None:
        """Say that something changed."""
        self.events.append(event)

    def member(self, name: str) -> Member:
        """Return a member, active or not; refuses with `unknown-member`."""
        found = self.draft.get(Member, name)
        if found is None:
            raise Refused("unknown-member", f"nobody named {name!r:.80} is a member")
        return found

    def active_member(self, name: str) -> Member:
        """Return a member that has not left; refuses with `unknown-member` or `not-active`."""
        found = self.member(name)
        if not found.active:
            raise Refused("not-active", f"member {name!r} has left or was removed")
        return found

    def candidate(self, name: str) -> Candidate:
        """Return a candidate, retired or not; refuses with `not-found`."""
        found = self.draft.get(Candidate, name)
        if found is None:
            raise Refused("not-found", f"{name!r} is no candidate")
        return found

    def treasury(self, amount: int) -> None:
        """Add units to the treasury, or take them out if negative; the caller has checked that they are there."""
        self.change_chain(treasury=self.chain.treasury + amount)

    def owe(self, name: str, amount: int) -> None:
        """Add to the rewards that a member may claim."""
        if amount:
            member = self.member(name)
            self.draft.put(replace(member, owed=member.owed + amount, earned=member.earned + amount))

    def free(self, name: str, amount: int) -> None:
        """Add to a member's free units, or take some; refuses with `insufficient-funds`."""
        member = self.member(name)
        if member.free + amount < 0:
            raise Refused("insufficient-funds", f"{name} has {member.free} free units: {-amount} are needed")
        self.draft.put(replace(member, free=member.free + amount))
