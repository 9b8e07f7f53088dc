"""What the ledger says of rounds: who contributes, their phases, what came of them, pay, duties and faults."""

from dataclasses import dataclass

from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.parts import Cut, Place, Seat, Window


@dataclass(frozen=True, slots=True)
class RecipeJoined(Event):
    """An organisation contributes to a recipe, by one of its members."""

    recipe: bytes
    organisation: str
    member: str


@dataclass(frozen=True, slots=True)
class RecipeLeft(Event):
    """An organisation contributes to a recipe no longer. Reason: left, no-member, no-commit, not-in."""

    recipe: bytes
    organisation: str
    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoundScheduled(Event):
    """A round began: with this model, these contributors, and these seats, which stand still until it is over."""

    round: int
    recipe: bytes
    model: bytes
    term: int
    pool: int
    cohort: tuple[Place, ...]
    seats: tuple[Seat, ...]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class PhaseBegan(Event):
    """An attempt at a round went on to a phase, which lasts so many blocks and so much block time at most."""

    round: int
    attempt: int
    phase: str
    blocks: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class UpdateCommitted(Event):
    """A contributor committed to an update; it is not paid for it if its organisation may have seen others' before."""

    round: int
    member: str
    digest: bytes
    unpaid: bool


@dataclass(frozen=True, slots=True)
class UpdateCarried(Event):
    """A commitment of a void round stands in the next one of the same model; the digest is bound to round `origin`."""

    round: int
    member: str
    digest: bytes
    origin: int


@dataclass(frozen=True, slots=True)
class HeaderSealed(Event):
    """A seat signed the header of the block with which the commitments closed."""

    round: int
    candidate: str
    header: bytes


@dataclass(frozen=True, slots=True)
class UpdatesHeld(Event):
    """A seat said that it holds these updates too."""

    round: int
    attempt: int
    candidate: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatesIncluded(Event):
    """Seats with more than 2/3 of the power hold these updates: they are in."""

    round: int
    attempt: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttestationCommitted(Event):
    """A seat committed to a result."""

    round: int
    attempt: int
    candidate: str
    commitment: bytes


@dataclass(frozen=True, slots=True)
class AttestationRevealed(Event):
    """A seat opened its commitment."""

    round: int
    attempt: int
    candidate: str
    result: bytes
    scores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """An attempt gave no result. Reason: too-few-in, too-few-commitments, no-agreement."""

    round: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoundFinal(Event):
    """Seats with more than 2/3 of the power opened one result: the digest of the next model."""

    round: int
    attempt: int
    result: bytes
    power: int
    total: int


@dataclass(frozen=True, slots=True)
class RoundSettled(Event):
    """A round is over. Outcome: final, or void with a reason: too-few-commits, or that of its last attempt."""

    round: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelAdvanced(Event):
    """A final round has moved its recipe on to the next model."""

    round: int
    recipe: bytes
    model: bytes


@dataclass(frozen=True, slots=True)
class DutyMissed(Event):
    """A seat did not do its duty in an attempt; `misses` of its last duties are misses now."""

    round: int
    candidate: str
    misses: int


@dataclass(frozen=True, slots=True)
class DutyDone(Event):
    """A seat opened a result in a final round; `misses` of its last duties are misses now."""

    round: int
    candidate: str
    misses: int


@dataclass(frozen=True, slots=True)
class PoolShared(Event):
    """A final round's pool, and its parts before they are divided: by `total_score`, and by the number of seats."""

    round: int
    term: int
    pool: int
    contributors: int
    super_nodes: int
    total_score: int
    seats: int


@dataclass(frozen=True, slots=True)
class ContributorPaid(Event):
    """pool * score / total_score, rounded down, is owed to a contributor."""

    round: int
    term: int
    member: str
    score: int
    total_score: int
    pool: int
    amount: int


@dataclass(frozen=True, slots=True)
class SuperNodePaid(Event):
    """pool / seats, rounded down, was shared between a super node and its voters.

    The commission is owed to the super node. The rest raised the candidate's reward index by
    voters * INDEX_SCALE / shares, rounded up.
    """

    round: int
    term: int
    candidate: str
    seats: int
    pool: int
    amount: int
    commission_rate: int
    commission: int
    voters: int
    shares: int
    index_from: int
    index_to: int


@dataclass(frozen=True, slots=True)
class PoolReturned(Event):
    """What a round's pool did not pay stays in the treasury."""

    round: int
    amount: int


@dataclass(frozen=True, slots=True)
class FaultProven(Event):
    """A fault was proven, and `amount` slashed; `already` ppm had been taken for earlier faults of the term."""

    fault: int
    offender: str
    fault_kind: str
    round: int
    infraction: int
    fraction: int
    already: int
    amount: int
    cuts: tuple[Cut, ...]
