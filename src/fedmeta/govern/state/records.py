"""What the state holds: every kind of record, with its key and its indexes."""

from dataclasses import dataclass

from fedmeta.govern.wire.layout import part, record
from fedmeta.govern.wire.parts import Cut, Seat


@record("chain", key=())
@dataclass(frozen=True, slots=True)
class Chain:
    """What the ledger has one of."""

    chain_id: str
    height: int
    """The last block's height; 0 after genesis."""
    time: int
    """The last block's time, in milliseconds since 1970."""
    supply: int
    """All units there are; fixed at genesis."""
    treasury: int
    beacon: bytes
    """32 bytes that the reveals of each round move on; the cohorts are drawn from them."""
    term: int
    """The number of the present term; 1 after genesis."""
    round: int
    """The number of the latest round; 1 after genesis."""
    proposals: int
    """Proposals made so far; the latest one's number."""
    challenges: int
    faults: int


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
    """Oldest first: evidence against an old key stays valid."""
    sequence: int
    """Transactions done so far; the next one carries this number."""
    free: int
    owed: int
    """Rewards settled but not claimed."""
    title: str
    address: str
    tls: bytes
    """SHA-256 fingerprint of the node's TLS key; empty if none."""
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
    tombstoned: bool
    window: int
    """The last duties, the latest in bit 0: 1 is a miss."""


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
    """Stake on its way out: paid at `completes`, slashed until then for the terms that it still elected."""

    candidate: str
    member: str
    created: int
    completes: int
    amount: int


@record(
    "redelegation",
    key=("member", "source", "destination", "created"),
    index=("member", "source", "completes"),
)
@dataclass(frozen=True, slots=True)
class Redelegation:
    """Stake that moved: until `completes` it answers for `source` in the terms that it still elected."""

    member: str
    source: str
    destination: str
    created: int
    completes: int
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
    """By rank at the election; a replacement takes the place of the one it replaces."""
    standbys: tuple[Seat, ...]


@record("recipe", key=("digest",))
@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained: the hash of a recipe and of its model as of the last final round."""

    digest: bytes
    title: str
    model: bytes
    active: bool


@record("round", key=("number",))
@dataclass(frozen=True, slots=True)
class Round:
    """A round's course. Phases: opening, updates, manifest, commit, reveal; then final, refuted or failed."""

    number: int
    term: int
    """The term whose super nodes answer for it: the present one until it opens, then fixed."""
    phase: str
    deadline: int
    """The last height of the present phase; 0 while an opening round waits for a recipe."""
    leader: str
    attempt: int
    """Leaders before the present one, since the round was opened."""
    cohort: tuple[str, ...]
    """Drawn when the round before was settled, so that nobody chooses it; sorted."""
    recipe: bytes
    model: bytes
    opened: int
    settled: int
    """The height at which it became final, refuted or failed; 0 before."""
    result: bytes
    """The result that more than 2/3 of the power revealed; empty before."""
    leaders: tuple[str, ...] = ()
    """Who led each attempt since the round was opened, the present leader last."""


@record("update", key=("round", "member"), index=("round",))
@dataclass(frozen=True, slots=True)
class Update:
    """A contributor's committed update: a hash, never data."""

    round: int
    member: str
    digest: bytes
    examples: int
    height: int


@record("manifest", key=("round",))
@dataclass(frozen=True, slots=True)
class Manifest:
    """What the leader says the aggregation is of, and gives."""

    round: int
    leader: str
    attempt: int
    height: int
    members: tuple[str, ...]
    """The contributors whose updates are included; sorted."""
    aggregate: bytes
    model: bytes
    """The hash of the next model."""


@record("attestation", key=("round", "candidate"), index=("round",))
@dataclass(frozen=True, slots=True)
class Attestation:
    """A super node's commitment, and what it revealed."""

    round: int
    candidate: str
    committed: int
    commitment: bytes
    revealed: int
    """Height; 0 before."""
    result: bytes
    scores: tuple[int, ...]
    """One for each member of the manifest, in its order, from 0 to 1000000."""
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
    reporter: str
    """Empty when the ledger saw the fault itself."""
    reward: int
    annulled: bool


@record("challenge", key=("number",), index=("round", "status"))
@dataclass(frozen=True, slots=True)
class Challenge:
    """A claim that a super node revealed a wrong result. Status: open, upheld, rejected, undecided."""

    number: int
    round: int
    accused: str
    challenger: str
    result: bytes
    """What the challenger says is right."""
    deposit: int
    opened: int
    closes: int
    panel: tuple[Seat, ...]
    """The standbys that judge, without those of the accused's and the challenger's organisations."""
    status: str


@record("verdict", key=("challenge", "standby"), index=("challenge",))
@dataclass(frozen=True, slots=True)
class Verdict:
    """What a standby's own re-execution gave."""

    challenge: int
    standby: str
    result: bytes


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
    executes: int
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
