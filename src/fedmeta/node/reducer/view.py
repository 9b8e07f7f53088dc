"""What a node looks at in the state of the ledger after a block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fedmeta.govern.rules.members import machine_key_at
from fedmeta.govern.rules.round_phases import power, window
from fedmeta.govern.state.records import (
    Attestation,
    Chain,
    Hold,
    Member,
    Recipe,
    Registration,
    Round,
    Seal,
    Term,
    Update,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.parts import Seat


@dataclass(frozen=True, slots=True)
class Peer:
    """Another member, or oneself: how it signs, and where it can be reached."""

    name: str
    organisation: str
    key: bytes
    """The Ed25519 public key that signs for its machine at the next height."""
    address: str
    """As it says itself; empty if it listens nowhere."""
    fingerprints: tuple[bytes, ...]
    """SHA-256 of the certificates that it may show."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of a ledger's state that decides what a member's node has to do."""

    genesis: bytes
    height: int
    time: int
    """Of the block, in milliseconds since 1970."""
    me: str
    organisation: str
    """Empty if there is no such member."""
    round: Round | None
    """The latest round, also one that is over."""
    previous: Round | None
    """The round before that one: it is over, and what came of it is to be seen in no other way."""
    opened_before: frozenset[str]
    """Which seats opened their results in the round before, in the attempt in which it was over."""
    committed_before: bool
    """Whether this member had committed to an update in the round before."""
    closes: int
    """The height before which the present window does not close."""
    closing: bytes
    """The hash of the header of the block with which the commitments closed; empty before."""
    updates: Mapping[str, Update]
    seals: Mapping[str, Seal]
    holds: Mapping[str, Hold]
    attestations: Mapping[str, Attestation]
    recipes: Mapping[bytes, Recipe]
    registrations: Mapping[bytes, Registration]
    """Those of one's own organisation, by recipe."""
    peers: Mapping[str, Peer]
    """All active members by name."""
    seated: frozenset[str]
    """Who has a seat in the latest round or in the present term."""
    left_over: frozenset[int] = frozenset()
    """To which rounds updates are bound whose commitments a void round has left over: they may stand again."""

    @property
    def live(self) -> Round | None:
        """The round that is not over."""
        return None if self.round is None or self.round.settled else self.round

    @property
    def has_tls_key(self) -> bool:
        """Whether the ledger has a TLS key of this member: who has none there shows no certificate."""
        own = self.peers.get(self.me)
        return own is not None and bool(own.fingerprints)

    def seat(self, name: str) -> Seat | None:
        """Return a member's seat in the latest round."""
        seats = self.round.seats if self.round else ()
        return next((one for one in seats if one.candidate == name), None)

    def power_of(self, names: object) -> int:
        """Return the power that some members have together in the latest round."""
        return sum(one.power for one in self.round.seats if one.candidate in names) if self.round else 0  # type: ignore[operator]

    @property
    def power(self) -> int:
        """The power of all seats of the latest round."""
        return power(self.round) if self.round else 0

    def is_quorum(self, names: object) -> bool:
        """Return whether some members have more than 2/3 of the round's power."""
        return self.power_of(names) * 3 > self.power * 2

    def holders(self, member: str) -> tuple[str, ...]:
        """Return the seats that say that they hold a member's update, by name."""
        return tuple(sorted(name for name, one in self.holds.items() if member in one.members))

    @property
    def is_sealed(self) -> bool:
        """Whether seats with more than 2/3 of the power have signed the header that this ledger has there.

        A contributor's bytes leave only then: a sequencer that shows it another history cannot have that many.
        """
        return bool(self.closing) and self.is_quorum(
            {name for name, one in self.seals.items() if one.header == self.closing}
        )


def look(state: State, me: str, header_hash: Callable[[int], bytes]) -> View:
    """Return what a member's node looks at.

    Args:
        state: After a block that was executed and checked.
        me: The member's name.
        header_hash: Gives the hash of a block's header, by height.
    """
    chain = state.need(Chain)
    round = state.get(Round, chain.round)
    own = state.get(Member, me)
    number = round.number if round else 0
    due = window(round) if round and not round.settled else None
    organisation = own.organisation if own and own.active else ""
    term = state.need(Term, chain.term)
    seats = (*term.seats, *(round.seats if round else ()))
    return View(
        genesis=chain.genesis,
        height=state.height,
        time=state.time,
        me=me,
        organisation=organisation,
        round=round,
        previous=state.get(Round, number - 1),
        opened_before=frozenset(one.candidate for one in state.where(Attestation, "round", number - 1) if one.revealed),
        committed_before=state.get(Update, number - 1, me) is not None,
        closes=round.opened + due.blocks if round and due else 0,
        closing=header_hash(round.committed) if round and round.committed else b"",
        updates={one.member: one for one in state.where(Update, "round", number)},
        seals={one.candidate: one for one in state.where(Seal, "round", number)},
        holds={one.candidate: one for one in state.where(Hold, "round", number)},
        attestations={one.candidate: one for one in state.where(Attestation, "round", number)},
        recipes={one.digest: one for one in state.all(Recipe)},
        registrations={
            one.recipe: one for one in state.all(Registration) if own and one.organisation == own.organisation
        },
        peers={one.name: _peer(one, state.height + 1) for one in state.all(Member) if one.active},
        seated=frozenset(seat.candidate for seat in seats),
        left_over=frozenset(_left_over(state)),
    )


def _left_over(state: State) -> Iterator[int]:
    models = {one.digest: one.model for one in state.all(Recipe)}
    for one in state.all(Round):
        if one.phase == "void" and models.get(one.recipe) == one.model:
            yield from (update.origin for update in state.where(Update, "round", one.number))


def _peer(member: Member, height: int) -> Peer:
    prints = tuple(one for one in (member.tls, member.next_tls) if one)
    return Peer(member.name, member.organisation, machine_key_at(member, height), member.address, prints)
