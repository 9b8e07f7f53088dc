"""What CometBFT asks an application, in plain values: ABCI 2.0 without its wire.

Source: the ABCI 2.0 specification of CometBFT 0.38. Times are whole nanoseconds since 1970, public keys Ed25519, 32
bytes; an address is the first 20 bytes of the SHA-256 of a public key.
"""

import abc
import enum
from collections.abc import Sequence
from typing import NamedTuple


class BlockParameters(NamedTuple):
    """How large a block may be."""

    max_bytes: int
    """The whole block, header and evidence included; -1 is CometBFT's own largest, 100 MiB."""
    max_gas: int = -1
    """-1: without a limit, and nobody counts."""


class EvidenceParameters(NamedTuple):
    """How long misbehaviour can be shown: while either limit is open."""

    max_age_blocks: int
    max_age: int
    """Nanoseconds of block time."""
    max_bytes: int
    """All evidence of a block together."""


class ConsensusParameters(NamedTuple):
    """The parameters that CometBFT keeps; what is None stays as it is."""

    block: BlockParameters | None = None
    evidence: EvidenceParameters | None = None
    key_types: tuple[str, ...] | None = None
    """Of validators, such as "ed25519"."""
    app_version: int | None = None


class ValidatorUpdate(NamedTuple):
    """A validator's power from two heights on; 0 removes it."""

    public_key: bytes
    power: int


class Validator(NamedTuple):
    """A validator as a commit names it."""

    address: bytes
    power: int


class VoteFlag(enum.IntEnum):
    """What is known of a validator's vote for the block before."""

    UNKNOWN = 0
    ABSENT = 1
    COMMIT = 2
    """For the block."""
    NIL = 3


class Vote(NamedTuple):
    """A validator's vote in the commit of the block before."""

    validator: Validator
    flag: VoteFlag


class LastCommit(NamedTuple):
    """Who signed the block before, in the order of its validator set; of the first block, nobody."""

    round: int
    votes: tuple[Vote, ...]


class Fault(enum.IntEnum):
    """Kinds of misbehaviour."""

    UNKNOWN = 0
    DUPLICATE_VOTE = 1
    LIGHT_CLIENT_ATTACK = 2


class Misbehaviour(NamedTuple):
    """Misbehaviour that more than 2/3 of the validators checked."""

    kind: Fault
    validator: Validator
    height: int
    """Where it happened."""
    time: int
    total_power: int
    """Of the validator set at that height."""


class InfoRequest(NamedTuple):
    """Which CometBFT asks."""

    version: str
    block_version: int
    p2p_version: int
    abci_version: str


class InfoAnswer(NamedTuple):
    """Where the application stands; CometBFT replays what comes after `height`."""

    height: int
    """Of the last block that is kept; 0 before the first."""
    app_hash: bytes
    app_version: int
    version: str = ""
    data: str = ""


class ChainRequest(NamedTuple):
    """The chain begins: what CometBFT's genesis says."""

    time: int
    chain_id: str
    parameters: ConsensusParameters
    validators: tuple[ValidatorUpdate, ...]
    app_state: bytes
    initial_height: int


class ChainAnswer(NamedTuple):
    """What the application begins with; validators take the place of the genesis's where there are any."""

    app_hash: bytes
    validators: tuple[ValidatorUpdate, ...] = ()
    parameters: ConsensusParameters | None = None


class TxResult(NamedTuple):
    """What came of a transaction; everybody's code and data must be the same, for a header's hash covers them."""

    code: int = 0
    """0: it is taken."""
    data: bytes = b""
    log: str = ""
    info: str = ""
    codespace: str = ""


class QueryRequest(NamedTuple):
    """A question to the state at `height`; 0 is the last one."""

    path: str
    data: bytes
    height: int
    prove: bool


class ProofOperation(NamedTuple):
    """A step of a proof."""

    kind: str
    key: bytes
    data: bytes


class QueryAnswer(NamedTuple):
    """What was asked for, with a proof where one was asked for."""

    code: int = 0
    log: str = ""
    info: str = ""
    key: bytes = b""
    value: bytes = b""
    proof: tuple[ProofOperation, ...] = ()
    height: int = 0
    codespace: str = ""


class ProposalRequest(NamedTuple):
    """This validator is to propose a block: what the pool holds, and how much may be taken of it."""

    max_bytes: int
    """What the chosen transactions may take, each with its tag and its length: see `proposed_size`."""
    transactions: tuple[bytes, ...]
    last_commit: LastCommit
    misbehaviour: tuple[Misbehaviour, ...]
    height: int
    time: int
    next_validators_hash: bytes
    proposer: bytes
    """Its address."""


class BlockRequest(NamedTuple):
    """A block that is proposed, or decided."""

    transactions: tuple[bytes, ...]
    last_commit: LastCommit
    misbehaviour: tuple[Misbehaviour, ...]
    hash: bytes
    """Of CometBFT's header."""
    height: int
    time: int
    next_validators_hash: bytes
    proposer: bytes


class BlockAnswer(NamedTuple):
    """What came of a block."""

    app_hash: bytes
    """In the header of the next one."""
    results: tuple[TxResult, ...] = ()
    """One for each transaction, in order."""
    validators: tuple[ValidatorUpdate, ...] = ()
    """Those that change, from two heights on."""
    parameters: ConsensusParameters | None = None
    """Those that change, from the next height on."""


class Snapshot(NamedTuple):
    """A state that can be had in chunks."""

    height: int
    format: int
    chunks: int
    hash: bytes
    metadata: bytes = b""


class Offer(enum.IntEnum):
    """What is said to a snapshot that peers offer."""

    ACCEPT = 1
    ABORT = 2
    """No snapshot at all."""
    REJECT = 3
    REJECT_FORMAT = 4
    REJECT_SENDER = 5


class Applied(enum.IntEnum):
    """What came of a chunk."""

    ACCEPT = 1
    ABORT = 2
    RETRY = 3
    RETRY_SNAPSHOT = 4
    REJECT_SNAPSHOT = 5


class ChunkAnswer(NamedTuple):
    """What came of a chunk, which to fetch again, and from whom to take no more."""

    result: Applied
    refetch: tuple[int, ...] = ()
    reject_senders: tuple[str, ...] = ()


class Handler(abc.ABC):
    """An application. One thread calls it, one call at a time. What it raises ends CometBFT."""

    @abc.abstractmethod
    def info(self, request: InfoRequest) -> InfoAnswer:
        """Say where the application stands."""

    @abc.abstractmethod
    def init_chain(self, request: ChainRequest) -> ChainAnswer:
        """Begin the chain; asked again after a crash before the first block."""

    @abc.abstractmethod
    def check_tx(self, raw: bytes, recheck: bool) -> TxResult:
        """Say whether a transaction may wait for a block; `recheck` after a block, whether it still may."""

    @abc.abstractmethod
    def prepare_proposal(self, request: ProposalRequest) -> Sequence[bytes]:
        """Choose the transactions of a block."""

    @abc.abstractmethod
    def process_proposal(self, request: BlockRequest) -> bool:
        """Say whether to vote for a proposed block."""

    @abc.abstractmethod
    def finalize_block(self, request: BlockRequest) -> BlockAnswer:
        """Execute a decided block; nothing needs to be kept before `commit`."""

    @abc.abstractmethod
    def commit(self) -> int:
        """Keep what the last block came to; return the first height whose block is still needed, or 0 for all."""

    @abc.abstractmethod
    def query(self, request: QueryRequest) -> QueryAnswer:
        """Answer a question to the state."""

    @abc.abstractmethod
    def list_snapshots(self) -> Sequence[Snapshot]:
        """Say which snapshots there are."""

    @abc.abstractmethod
    def offer_snapshot(self, snapshot: Snapshot, app_hash: bytes) -> Offer:
        """Say whether to begin with a snapshot; light clients checked the `app_hash` of its height, nobody the rest."""

    @abc.abstractmethod
    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        """Return a chunk of a snapshot, counted from 0; empty if it is not to be had."""

    @abc.abstractmethod
    def apply_snapshot_chunk(self, index: int, chunk: bytes, sender: str) -> ChunkAnswer:
        """Take a chunk of the accepted snapshot from the peer `sender`."""


def proposed_size(raw: bytes) -> int:
    """Return the bytes that a transaction takes of a proposal's `max_bytes`: its own, its tag's and its length's."""
    return 1 + max(1, (len(raw).bit_length() + 6) // 7) + len(raw)
