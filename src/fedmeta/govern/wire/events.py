"""What the ledger says about every change: the kinds of events, which an engine stores with each block."""

from dataclasses import dataclass, fields
from typing import Any

from fedmeta.govern.wire.layout import plain
from fedmeta.govern.wire.parts import Cut, Place, Seat, Window

EVENTS: dict[str, type] = {}
"""Kind to class, in the order of the documentation."""


class Event:
    """The base of all events; `kind` is the class's name in lower case with hyphens."""

    __slots__ = ()
    kind: str = ""

    def __init_subclass__(cls) -> None:
        cls.kind = "".join(f"-{one.lower()}" if one.isupper() else one for one in cls.__name__).removeprefix("-")
        EVENTS[cls.kind] = cls

    def fields(self) -> dict[str, Any]:
        """Return the event's fields, nested parts as maps: what is encoded and shown."""
        return {one.name: plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class TransactionApplied(Event):
    """A transaction was done; the events up to the next transaction, or to the end of the block, are its doing."""

    index: int
    digest: bytes
    member: str
    transaction: str


@dataclass(frozen=True, slots=True)
class TransactionRefused(Event):
    """A transaction in the block was refused, and changed nothing."""

    index: int
    digest: bytes
    code: str


@dataclass(frozen=True, slots=True)
class BlockEnding(Event):
    """The block's transactions are done; the events that follow are the rules' own doing."""

    height: int


@dataclass(frozen=True, slots=True)
class MemberAdmitted(Event):
    """A member came in, or came back."""

    member: str
    organisation: str
    public: bytes


@dataclass(frozen=True, slots=True)
class MemberLeft(Event):
    """A member left by itself."""

    member: str


@dataclass(frozen=True, slots=True)
class MemberRemoved(Event):
    """A proposal removed a member."""

    member: str
    proposal: int


@dataclass(frozen=True, slots=True)
class KeyRotated(Event):
    """A member signs with another key from `since` on."""

    member: str
    public: bytes
    since: int


@dataclass(frozen=True, slots=True)
class MachineKeySet(Event):
    """Another key signs for a member in rounds from `since` on; an empty one: the account's key again."""

    member: str
    public: bytes
    since: int


@dataclass(frozen=True, slots=True)
class ProfileSet(Event):
    """A member changed its profile."""

    member: str
    title: str
    address: str
    tls: bytes


@dataclass(frozen=True, slots=True)
class CandidateRegistered(Event):
    """A member stands for election."""

    candidate: str
    organisation: str
    commission: int


@dataclass(frozen=True, slots=True)
class CommissionSet(Event):
    """A candidate changed its commission."""

    candidate: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class CandidateRetired(Event):
    """A candidate stands for no further election."""

    candidate: str


@dataclass(frozen=True, slots=True)
class CandidateJailed(Event):
    """A candidate was jailed, for a fault or because it was `absent`; it may ask to be unjailed after `until`."""

    candidate: str
    until: int
    absent: bool


@dataclass(frozen=True, slots=True)
class CandidateUnjailed(Event):
    """A candidate stands for election again."""

    candidate: str


@dataclass(frozen=True, slots=True)
class CandidateTombstoned(Event):
    """A candidate is barred for good."""

    candidate: str


@dataclass(frozen=True, slots=True)
class Staked(Event):
    """Free units became shares of a candidate's pool; `held` are the member's shares in it after that."""

    member: str
    candidate: str
    amount: int
    shares: int
    held: int


@dataclass(frozen=True, slots=True)
class Unstaked(Event):
    """Shares of a candidate's pool became units on their way out."""

    member: str
    candidate: str
    shares: int
    amount: int
    held: int
    completes: int
    completes_time: int


@dataclass(frozen=True, slots=True)
class Redelegated(Event):
    """Stake moved from one candidate's pool to another's."""

    member: str
    source: str
    destination: str
    amount: int
    source_shares: int
    source_held: int
    destination_shares: int
    destination_held: int
    completes: int
    completes_time: int


@dataclass(frozen=True, slots=True)
class UnbondingCancelled(Event):
    """Stake on its way out went back to its candidate."""

    member: str
    candidate: str
    created: int
    amount: int
    shares: int
    held: int


@dataclass(frozen=True, slots=True)
class UnbondingCompleted(Event):
    """Stake on its way out became free."""

    member: str
    candidate: str
    created: int
    amount: int


@dataclass(frozen=True, slots=True)
class RedelegationEnded(Event):
    """Stake that had moved to another candidate answers for the old one no more."""

    member: str
    source: str
    destination: str
    created: int


@dataclass(frozen=True, slots=True)
class SharesDropped(Event):
    """Shares left a pool and the member got nothing: `amount` units went with them, slashed, or they were worthless."""

    member: str
    candidate: str
    shares: int
    held: int
    amount: int


@dataclass(frozen=True, slots=True)
class PoolClosed(Event):
    """The last share left a candidate's pool: what rounding had left there went to the treasury."""

    candidate: str
    stake: int
    rewards: int


@dataclass(frozen=True, slots=True)
class RewardsSettled(Event):
    """A voter's rewards were counted: (rest + shares * (index_to - index_from)) / INDEX_SCALE is now owed.

    It is rounded down; the remainder is the rest of the next time.
    """

    member: str
    candidate: str
    rest: int
    shares: int
    index_from: int
    index_to: int
    amount: int


@dataclass(frozen=True, slots=True)
class RewardsClaimed(Event):
    """What was owed to a member became free."""

    member: str
    amount: int


@dataclass(frozen=True, slots=True)
class TermElected(Event):
    """A snapshot was taken and the super nodes of `term` elected from it."""

    term: int
    seats: tuple[Seat, ...]
    standbys: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class TermStarted(Event):
    """A term began; it goes up to height `ends`."""

    term: int
    ends: int


@dataclass(frozen=True, slots=True)
class StandbyDropped(Event):
    """A jailed or barred standby left the standbys of a term."""

    term: int
    candidate: str


@dataclass(frozen=True, slots=True)
class SeatReplaced(Event):
    """A jailed super node was replaced by a standby; an empty `by` if there was none. All power is said anew."""

    term: int
    candidate: str
    by: str
    seats: tuple[Seat, ...]


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


@dataclass(frozen=True, slots=True)
class ProposalOpened(Event):
    """A proposal was made."""

    proposal: int
    proposer: str
    title: str
    action: dict[str, Any]
    closes: int
    closes_time: int
    deposit: int


@dataclass(frozen=True, slots=True)
class VoteCast(Event):
    """A member voted."""

    proposal: int
    member: str
    choice: str


@dataclass(frozen=True, slots=True)
class ProposalClosed(Event):
    """The votes of a proposal were counted, in units of stake; `reason` is the parameter that it failed by."""

    proposal: int
    status: str
    reason: str
    yes: int
    no: int
    abstain: int
    against: int
    bonded: int
    deposit_to: str


@dataclass(frozen=True, slots=True)
class ProposalExecuted(Event):
    """A passed proposal took effect, or failed to: then `status` is failed and `reason` a refusal's code."""

    proposal: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParameterSet(Event):
    """A parameter was changed."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class TreasurySpent(Event):
    """Units of the treasury became a member's."""

    member: str
    amount: int
    proposal: int


@dataclass(frozen=True, slots=True)
class SlashAnnulled(Event):
    """A slash was undone out of the treasury, to those who had lost by it."""

    fault: int
    amount: int
    cuts: tuple[Cut, ...]
    proposal: int


@dataclass(frozen=True, slots=True)
class RecipeRegistered(Event):
    """A recipe may be trained from `model` on; or no longer, if not `active`."""

    recipe: bytes
    title: str
    model: bytes
    active: bool
    interval: int


@dataclass(frozen=True, slots=True)
class UpgradeSet(Event):
    """Blocks from `height` on are executed by the rules of another protocol; with height 0 none will be."""

    protocol: int
    height: int
    proposal: int


@dataclass(frozen=True, slots=True)
class ProtocolChanged(Event):
    """The next block is the first that this protocol executes."""

    protocol: int


@dataclass(frozen=True, slots=True)
class RecordsForgotten(Event):
    """What was over before the height `oldest` was dropped from the state, with all that belonged to it: how many."""

    oldest: int
    rounds: int
    terms: int
    proposals: int
    faults: int


def encode_event(event: Event) -> list[Any]:
    """Return an event in the form that is hashed and stored: its kind and its fields."""
    return [event.kind, event.fields()]
