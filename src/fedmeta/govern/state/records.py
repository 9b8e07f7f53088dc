"""What the state holds: every kind of record, with its key and its indexes."""

from dataclasses import dataclass

from fedmeta.govern.wire.layout import part, record
from fedmeta.govern.wire.parts import Cut, Place, Seat, Window


@record("chain", key=())
@dataclass(frozen=True, slots=True)
class Chain:
    """What the ledger has one of."""

    chain_id: str
    """What people call the ledger."""
    genesis: bytes
    """SHA-256 of the genesis: the ledger's true name, to which every signature is bound."""
    protocol: int
    """The version of the rules by which blocks are executed."""
    upgrade_to: int
    """The protocol that an upgrade will bring; 0 if none is due."""
    upgrade_at: int
    """The first height that the upgrade's protocol executes."""
    supply: int
    """All units there are; fixed at genesis."""
    treasury: int
    term: int
    """The number of the present term; 1 after genesis."""
    round: int
    """The number of the latest round; 0 before the first."""
    stretch: int
    """How often the windows of the next round are doubled: attempts have failed since the last final round."""
    proposals: int
    """Proposals made so far; the latest one's number."""
    faults: int
    voting_seconds: int
    """The genesis's: no vote may be shorter."""
    delay_seconds: int
    """The genesis's: no proposal may take effect sooner."""
    term_length: int
    """The genesis's: no term may be shorter, since limits hold for a term."""
    validators: bool = False
    """The super nodes decide the blocks, by their consensus keys; otherwise one sequencer orders them."""


@part
@dataclass(frozen=True, slots=True)
class KeyPeriod:
    """A member's public key and the first height at which it signs; the next period ends it."""

    public: bytes
    since: int


@record("member", key=("name",))
@dataclass(frozen=True, slots=True)
class Member:
    """A party of the federation; amounts in units."""

    name: str
    organisation: str
    active: bool
    admitted: int
    keys: tuple[KeyPeriod, ...]
    """The key of the account; while it is being rotated also the one before, first."""
    machine: KeyPeriod | None
    """The key that signs for the member in rounds, and in the engine, in the place of the account's."""
    sequence: int
    """Transactions done so far, those of rounds not counted; the next one carries this number."""
    free: int
    owed: int
    """Rewards settled but not claimed."""
    title: str
    address: str
    tls: bytes
    """SHA-256 fingerprint of the node's TLS key; empty if none."""
    next_tls: bytes = b""
    """That of the key which is to take its place; empty if none."""
    earned: int = 0
    """All rewards that were ever settled, claimed or not."""
    left: int = 0
    """The height at which it last left or was removed; 0 if it never did."""


@record("key", key=("public",))
@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose a public key is, or was: a key never changes its owner."""

    public: bytes
    member: str


@record("candidate", key=("member",))
@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that stands for election, and the pool of stake behind it."""

    member: str
    organisation: str
    active: bool
    """False once it has retired."""
    registered: int
    """Height; an earlier one wins a tie."""
    commission: int
    """Parts per million of its voters' rewards."""
    commission_time: int
    """Block time of the commission's last change, in milliseconds."""
    tokens: int
    """Units bonded by all its delegators, itself included."""
    shares: int
    """What the pool is divided into."""
    reward_index: int
    """Rewards per share since the start, times `stake.INDEX_SCALE`."""
    outstanding: int
    """Units of rewards that lie with its delegators, not settled yet."""
    jailed: bool
    jailed_until: int
    absent: bool
    """Jailed for absence, and for nothing worse."""
    tombstoned: bool
    window: int
    """The last duties, the latest in bit 0: 1 is a miss."""
    consensus: bytes = b""
    """The public key by which it decides blocks as a super node; empty if it has named none."""


@record("consensus", key=("address",))
@dataclass(frozen=True, slots=True)
class ConsensusKey:
    """A key by which blocks are or were decided: an engine names it by its address, also when it has been removed."""

    address: bytes
    """The first 20 bytes of the key's SHA-256."""
    public: bytes


@record("delegation", key=("member", "candidate"), index=("member",))
@dataclass(frozen=True, slots=True)
class Delegation:
    """Shares of a candidate's pool; a candidate's own stake is its delegation to itself."""

    member: str
    candidate: str
    shares: int
    index: int
    """The candidate's reward index when this was last settled."""
    entered: int = 0
    """The height at which shares were last added."""
    rest: int = 0
    """The fraction of a unit that was left over when this was last settled, times `stake.INDEX_SCALE`."""


@record("unbonding", key=("candidate", "member", "created"), index=("candidate", "member", "completes"))
@dataclass(frozen=True, slots=True)
class Unbonding:
    """Stake on its way out: it is paid when its time has come and it answers for no term any more."""

    candidate: str
    member: str
    created: int
    completes: int
    """The height at which it is paid, unless it has to wait longer."""
    completes_time: int
    """The block time from which it may be paid, in milliseconds since 1970."""
    amount: int


@record(
    "redelegation",
    key=("member", "source", "destination", "created"),
    index=("member", "source", "completes"),
)
@dataclass(frozen=True, slots=True)
class Redelegation:
    """Stake that moved: it answers for `source` in the terms that it still elected, at least until `completes`."""

    member: str
    source: str
    destination: str
    created: int
    completes: int
    completes_time: int
    shares: int
    """Shares of the destination's pool that it became."""
    amount: int
    """Units that moved."""


@record("term", key=("number",))
@dataclass(frozen=True, slots=True)
class Term:
    """Who aggregates in a term: elected a term ahead, changed only when a jailed super node is replaced."""

    number: int
    snapshot: int
    """The height of the election's snapshot."""
    start: int
    """Its first height; 0 until the term before it ends."""
    ends: int
    """Its last height; 0 until it starts."""
    seats: tuple[Seat, ...]
    """By rank at the election, one for each organisation; a replacement takes the place of the one it replaces."""
    standbys: tuple[Seat, ...]
    ended: int
    """The block time at its end, in milliseconds since 1970; 0 before."""
    paid: int
    """What the rounds scheduled in it were paid, or may still be."""
    spent: int
    """What proposals spent from the treasury in it."""


@record("recipe", key=("digest",))
@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained: the hash of a recipe and of its model as of the last final round."""

    digest: bytes
    title: str
    model: bytes
    active: bool
    interval: int
    """The fewest blocks from one round to the next."""
    scheduled: int
    """The height at which its latest round was scheduled; 0 before the first."""
    round: int
    """The number of its latest round; 0 before the first."""
    exposed: bool
    """Super nodes may have seen updates of the present model: who commits to a new one is not paid for it."""


@record("registration", key=("recipe", "organisation"), index=("recipe",))
@dataclass(frozen=True, slots=True)
class Registration:
    """An organisation that contributes to a recipe, or once did, by one of its members."""

    recipe: bytes
    organisation: str
    member: str
    active: bool
    waiting: int
    """The height since which it waits: of its registration, or of its last place in a cohort."""
    misses: int
    """In how many cohorts in a row it was without its update being in the round."""
    until: int
    """The number of the last round that it sits out for that; 0 if it never did."""
    turn: int
    """Which it was of those that were taken into its last cohort, from 1, or 0: they go on waiting in that order."""


@record("round", key=("number",))
@dataclass(frozen=True, slots=True)
class Round:
    """A round's course. Phases: commit, deliver, compute, reveal; then final or void."""

    number: int
    recipe: bytes
    model: bytes
    """The hash of the model that it starts from."""
    term: int
    """The term whose super nodes answer for it."""
    pool: int
    """The most that it pays, in units."""
    cohort: tuple[Place, ...]
    """By organisation."""
    seats: tuple[Seat, ...]
    """The term's, with their powers, as they were when the round was scheduled."""
    windows: tuple[Window, ...]
    """Of each phase, before they are doubled."""
    stretch: int
    """How often the windows are doubled."""
    attempt: int
    """From 1."""
    phase: str
    scheduled: int
    opened: int
    """The height of the block with which the present phase began, and its time in `opened_time`."""
    opened_time: int
    committed: int
    """The height of the block with which the commitments closed, whose header the seats sign; 0 before."""
    smallest: int
    """The fewest updates that it is made of."""
    exposed: bool
    """Updates of its model may have been seen before it began: who commits to a new one is not paid for it."""
    seen: bool
    """A seat has said that it holds an update of it, in some attempt."""
    members: tuple[str, ...]
    """Whose updates are in: sorted; empty until they have been delivered."""
    result: bytes
    """The hash of the next model; empty unless it is final."""
    settled: int
    """The height at which it became final or void; 0 before."""


@record("update", key=("round", "member"), index=("round",))
@dataclass(frozen=True, slots=True)
class Update:
    """A contributor's commitment to an update: a hash, never data."""

    round: int
    member: str
    organisation: str
    digest: bytes
    origin: int
    """The round to whose number the digest is bound: this one, or a void one of the same model before it."""
    height: int
    unpaid: bool
    """It was committed to after others' updates of this model may have been seen."""


@record("seal", key=("round", "candidate"), index=("round",))
@dataclass(frozen=True, slots=True)
class Seal:
    """A seat's word that the header with which the commitments closed is this one: it signs one for a round."""

    round: int
    candidate: str
    header: bytes
    public: bytes
    """The key that it was signed by."""


@record("hold", key=("round", "candidate"), index=("round",))
@dataclass(frozen=True, slots=True)
class Hold:
    """Whose updates a seat holds, in the present attempt."""

    round: int
    candidate: str
    members: tuple[str, ...]
    """Sorted."""


@record("attestation", key=("round", "candidate"), index=("round",))
@dataclass(frozen=True, slots=True)
class Attestation:
    """A seat's commitment in the present attempt, and what it revealed."""

    round: int
    candidate: str
    committed: int
    commitment: bytes
    revealed: int
    """Height; 0 before."""
    result: bytes
    scores: tuple[int, ...]
    """One for each of the round's `members`, in their order, in parts per million; 0 for its own organisation's."""
    salt: bytes


@record("fault", key=("number",), index=("offender",))
@dataclass(frozen=True, slots=True)
class Fault:
    """A proven fault, and what was slashed for it."""

    number: int
    offender: str
    kind: str
    round: int
    term: int
    """The term of the fault: within one term the highest fault counts."""
    infraction: int
    """The height of the deed."""
    height: int
    """The height of the proof."""
    fraction: int
    """Parts per million that this kind of fault costs."""
    cuts: tuple[Cut, ...]
    """What was taken, after what earlier faults of the term had taken already."""
    shares: int
    """What the pool was divided into when it was slashed."""
    annulled: bool


@record("proposal", key=("number",), index=("status",))
@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal. Status: voting, passed, executed, rejected, vetoed, failed."""

    number: int
    proposer: str
    title: str
    action: bytes
    """The action in canonical CBOR: a map with `kind` and that kind's fields."""
    deposit: int
    submitted: int
    closes: int
    """The height from which the votes can be counted, and in `closes_time` the block time."""
    closes_time: int
    executes: int
    """The height from which it can take effect, and in `executes_time` the block time; 0 unless it has passed."""
    executes_time: int
    status: str
    yes: int
    no: int
    abstain: int
    against: int
    """Units of stake that vetoed."""
    bonded: int
    """All bonded stake when the votes were counted."""


@record("vote", key=("proposal", "member"), index=("proposal",))
@dataclass(frozen=True, slots=True)
class Vote:
    """A member's vote on a proposal; the latest counts."""

    proposal: int
    member: str
    choice: str
