"""The answers of a node, as its OpenAPI description has them; bytes are in hex."""

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why the answer is no."""

    code: str = Field(description="A short name of the reason, such as `insufficient-funds`.")
    message: str = Field(description="What was wrong, its value, and what would be right.")


class EventModel(BaseModel):
    """Something that changed."""

    kind: str = Field(description="Such as `staked`.")
    fields: dict[str, Any] = Field(description="What the kind has.")


class OutcomeModel(BaseModel):
    """What a transaction did."""

    digest: str = Field(description="SHA-256 of the transaction: its name.")
    height: int = Field(description="The height of its block.")
    position: int = Field(description="Its place in the block, from 0.")
    events: list[EventModel]


class WaitingModel(BaseModel):
    """A transaction that waits for its block."""

    digest: str


class TransactionModel(OutcomeModel):
    """A transaction in a block."""

    member: str
    sequence: int
    kind: str
    body: dict[str, Any]
    raw: str = Field(description="The signed transaction in canonical CBOR.")


class StatusModel(BaseModel):
    """Where a node is."""

    chain_id: str
    height: int = Field(description="Of the last block whose header is certified.")
    time: int = Field(description="Of the last block that left a header, in milliseconds since 1970.")
    decided: dict[str, int] = Field(
        description="Height and time of the last block, which leaves no header where validators decide it and nothing "
        "happens, and a certified one only with the next block."
    )
    app_hash: str = Field(description="The Merkle root of the state.")
    genesis: str = Field(description="SHA-256 of the genesis: the chain's true name.")
    sequencer: str = Field(description="The public key that blocks are signed by; empty where super nodes decide them.")
    term: int
    round: int
    first_block: int = Field(description="The oldest block that is whole; older ones were pruned to their headers.")
    pending: int = Field(description="Transactions that wait for a block.")
    fault: str = Field(description="Why no block can be written at present; empty if all is well.")
    version: str


class SequenceModel(BaseModel):
    """The number that a member's next transaction must carry."""

    sequence: int


class GenesisModel(BaseModel):
    """What a ledger began with; the reference has the fields of what the lists hold."""

    chain_id: str
    time: int = Field(description="In milliseconds since 1970.")
    sequencer: str = Field(description="The public key that blocks are signed by; empty where super nodes decide them.")
    treasury: int = Field(description="Units.")
    parameters: dict[str, int] = Field(description="Those that do not have their default.")
    members: list[dict[str, Any]]
    candidates: list[dict[str, Any]]
    delegations: list[dict[str, Any]]
    recipes: list[dict[str, Any]]
    registrations: list[dict[str, Any]]
    protocol: int = Field(description="The version of the rules by which blocks are executed.")
    digest: str = Field(description="SHA-256 of the canonical CBOR.")


class QueryModel(BaseModel):
    """Something that can be asked."""

    name: str
    meaning: str
    arguments: dict[str, str] = Field(description="Names and types: `str`, `int`, or `bytes` in hex.")
    optional: dict[str, Any] = Field(description="The defaults of those that have one.")


class ExplanationModel(BaseModel):
    """Why a member's holdings changed, in units."""

    member: str
    term: int | None = Field(description="The term that was asked for; null for all.")
    first: int = Field(description="The first block.")
    last: int = Field(description="The last block.")
    total: int = Field(description="The sum of the lines.")
    lines: list[dict[str, Any]] = Field(description="Each term of the sum, with its arithmetic.")
    settlements: list[dict[str, Any]] = Field(description="How rewards with a candidate were counted.")
    moves: list[dict[str, Any]] = Field(description="What only moved from one of the member's places to another.")
    terms: list[dict[str, int]] = Field(description="The sum of each term.")
    check: dict[str, Any] | None = Field(description="The holdings before and after, and whether the sum fits.")


class HeaderModel(BaseModel):
    """A block in a few hashes, and what certifies it."""

    genesis: str = Field(description="SHA-256 of the genesis.")
    height: int
    time: int
    previous: str
    transactions_root: str
    events_root: str
    app_hash: str
    hash: str
    certificate: str = Field(description="The sequencer's signature, or a certificate of CometBFT's validators.")


class BlockModel(BaseModel):
    """A block whole: its transactions in canonical CBOR, and what came of them."""

    header: HeaderModel
    transactions: list[str]
    events: list[EventModel]


class LightModel(BaseModel):
    """An answer of JSON-RPC 2.0: a result, or an error."""

    jsonrpc: str
    id: int | str | None = Field(description="That of the call.")
    result: dict[str, Any] | None = Field(default=None, description="As CometBFT's RPC gives it.")
    error: dict[str, Any] | None = Field(default=None, description="With code, message and data.")


class ProofModel(BaseModel):
    """A record, and that it is in the ledger: RFC 6962's inclusion proof under the header's `app_hash`."""

    kind: str
    record: dict[str, Any]
    header: HeaderModel
    leaf: str = Field(description="The record in canonical CBOR: what the tree's leaf holds.")
    index: int
    size: int
    path: list[str] = Field(description="The siblings on the way from the leaf to the root.")
