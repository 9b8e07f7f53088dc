"""What the ledger says of transactions, members, stake, elections and proposals; of rounds see `round_events`."""

from dataclasses import dataclass
from typing import Any

from fedmeta.govern.wire import round_events  # noqa: F401  its events are in the table
from fedmeta.govern.wire.event import EVENTS as EVENTS
from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.parts import Cut, Seat


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
class ConsensusKeySet(Event):
    """A candidate decides blocks by another key, once the engine has taken it over."""

    member: str
    public: bytes


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
    next_tls: bytes


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
