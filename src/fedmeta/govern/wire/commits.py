"""CometBFT's headers, commits and validator sets (v0.38): what of them is hashed and signed, and when a commit holds.

CometBFT hashes and signs protocol buffers. The few messages that this takes are written here by hand, each field in
the order of its number and left out where it is zero or empty, as proto3 does; nothing has to be read in that form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from fedmeta.govern.errors import Malformed, ProofError
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.layout import decode_part, encode_part, part
from fedmeta.govern.wire.signatures import verify

ABSENT, COMMIT, NIL = 1, 2, 3
"""Whether a validator gave no vote, one for the block, or one for none: the flags of its place in a commit."""

MAX_VALIDATORS = 200
"""The most validators of a set."""

MAX_POWER = (2**63 - 1) // 8
"""The most power of a whole set: CometBFT's own limit."""

MAX_CERTIFICATE = 1 << 16
"""The most bytes of a certificate."""

SMALLEST_CERTIFICATE = 128
"""The fewest bytes of one that can hold: the hashes of its header and its sets alone have as many."""

BLOCK_PROTOCOL = 11
"""The version of CometBFT's blocks: that of its 0.34 to 1.0 lines."""

_PRECOMMIT = 2
_LARGEST = 2**63 - 1
_MAX_CHAIN_ID = 50


def _check_whole(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise Malformed(f"{what} must be from {low} to {high}: {value}")


def _check_octets(what: str, value: bytes, *sizes: int) -> None:
    if len(value) not in sizes:
        raise Malformed(f"{what} must have {' or '.join(map(str, sizes))} bytes, not {len(value)}")


def _check_count(what: str, values: Sequence[object]) -> None:
    if len(values) > MAX_VALIDATORS:
        raise Malformed(f"{what} are {len(values)}: at most {MAX_VALIDATORS} can be")


@part
@dataclass(frozen=True, slots=True)
class Timestamp:
    """Seconds since 1970, from year 1 to 9999, and nanoseconds from 0 on."""

    seconds: int
    nanos: int

    def __post_init__(self) -> None:
        _check_whole("the seconds of a time", self.seconds, -62_135_596_800, 253_402_300_799)
        _check_whole("the nanoseconds of a time", self.nanos, 0, 999_999_999)

    @property
    def milliseconds(self) -> int:
        """Milliseconds since 1970, rounded down."""
        return self.seconds * 1_000 + self.nanos // 1_000_000


NEVER = Timestamp(-62_135_596_800, 0)
"""The time of a vote that was not given: the beginning of year 1."""


@part
@dataclass(frozen=True, slots=True)
class BlockId:
    """A block by the hash of its header, and by the number and the Merkle root of the parts it is sent in."""

    hash: bytes
    parts: int
    parts_hash: bytes

    def __post_init__(self) -> None:
        _check_octets("the hash of a block id", self.hash, 0, 32)
        _check_whole("the parts of a block id", self.parts, 0, 2**32 - 1)
        _check_octets("the parts' hash of a block id", self.parts_hash, 0, 32)


@part
@dataclass(frozen=True, slots=True)
class CometHeader:
    """The header of a block of CometBFT. Hashes have 32 bytes or none; `app_hash` is of the block before."""

    block_version: int
    app_version: int
    chain_id: str
    height: int
    time: Timestamp
    last_block_id: BlockId
    last_commit_hash: bytes
    data_hash: bytes
    validators_hash: bytes
    next_validators_hash: bytes
    consensus_hash: bytes
    app_hash: bytes
    last_results_hash: bytes
    evidence_hash: bytes
    proposer_address: bytes

    def __post_init__(self) -> None:
        _check_whole("a header's block version", self.block_version, 0, _LARGEST)
        _check_whole("a header's application version", self.app_version, 0, _LARGEST)
        if not self.chain_id.isascii() or len(self.chain_id) > _MAX_CHAIN_ID:
            raise Malformed(f"a header's chain id must be at most {_MAX_CHAIN_ID} characters of ASCII")
        _check_whole("a header's height", self.height, 1, _LARGEST)
        for name in _HASHES:
            _check_octets(f"a header's {name}", getattr(self, name), 0, 32)
        if len(self.app_hash) > 32:
            raise Malformed(f"a header's app_hash must have at most 32 bytes, not {len(self.app_hash)}")
        _check_octets("a header's proposer_address", self.proposer_address, 20)

    @property
    def hash(self) -> bytes:
        """The hash by which the block is known, 32 bytes: the Merkle root over the fields."""
        return merkle.root(
            [
                _number(1, self.block_version) + _number(2, self.app_version),
                _octets(1, self.chain_id.encode()),
                _number(1, self.height),
                _time(self.time),
                _block_id(self.last_block_id),
                *(_octets(1, getattr(self, name)) for name in (*_HASHES[:5], "app_hash", *_HASHES[5:])),
                _octets(1, self.proposer_address),
            ]
        )


_HASHES = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "last_results_hash",
    "evidence_hash",
)


@part
@dataclass(frozen=True, slots=True)
class CommitSignature:
    """What a validator voted: its `flag`, 20 bytes of address, and a signature that covers its own time."""

    flag: int
    address: bytes
    timestamp: Timestamp
    signature: bytes

    def __post_init__(self) -> None:
        _check_whole("the flag of a vote", self.flag, ABSENT, NIL)
        given = self.flag != ABSENT
        _check_octets("the address of a vote", self.address, 20 if given else 0)
        _check_octets("the signature of a vote", self.signature, 64 if given else 0)
        if not given and self.timestamp != NEVER:
            raise Malformed("a vote that was not given has no time")


NO_VOTE = CommitSignature(ABSENT, b"", NEVER, b"")
"""The place of a validator that gave no vote."""


@part
@dataclass(frozen=True, slots=True)
class Commit:
    """The votes on a block, in the order of its validator set."""

    height: int
    round: int
    block_id: BlockId
    signatures: tuple[CommitSignature, ...]

    def __post_init__(self) -> None:
        _check_whole("a commit's height", self.height, 1, _LARGEST)
        _check_whole("a commit's round", self.round, 0, 2**31 - 1)
        _check_count("the votes of a commit", self.signatures)


@part
@dataclass(frozen=True, slots=True)
class Validator:
    """A validator's Ed25519 key, and its voting power."""

    public: bytes
    power: int

    def __post_init__(self) -> None:
        _check_octets("a validator's key", self.public, 32)
        _check_whole("a validator's power", self.power, 1, MAX_POWER)

    @property
    def address(self) -> bytes:
        """The 20 bytes by which it is named: the first of the key's SHA-256."""
        return sha256(self.public).digest()[:20]


@part
@dataclass(frozen=True, slots=True)
class Certificate:
    """A block's header, the votes that committed it, and the validator sets that it names, each in its order."""

    header: CometHeader
    commit: Commit
    validators: tuple[Validator, ...]
    next_validators: tuple[Validator, ...]
    """The set of the next block; empty if it is the same."""

    def __post_init__(self) -> None:
        _check_count("the validators", self.validators)
        _check_count("the next validators", self.next_validators)
        if self.next_validators == self.validators:
            raise Malformed("the next validators must be left out where they are the same")

    @property
    def following(self) -> tuple[Validator, ...]:
        """The validator set of the next block."""
        return self.next_validators or self.validators


def encode_certificate(certificate: Certificate) -> bytes:
    """Return the certificate in its one encoding, the ledger's canonical CBOR."""
    return encode_part(certificate)


def decode_certificate(data: bytes) -> Certificate:
    """Return the certificate that the bytes encode; raises `Malformed` for anything else."""
    return decode_part(Certificate, data, limit=MAX_CERTIFICATE, items=1 << 13)


def check_commit(chain_id: str, certificate: Certificate) -> frozenset[bytes]:
    """Return the keys that signed the block, once they hold more than 2/3 of the power of the set its header names.

    A signature that fails counts as a vote that was not given: CometBFT takes some that the ledger's rules refuse.
    Whether the set itself is to be trusted is another question.

    Raises:
        ProofError: it is of another chain, header, commit and sets do not belong together, or the power is less.
    """
    header, commit, validators = certificate.header, certificate.commit, certificate.validators
    where = f"block {header.height} of CometBFT"
    if header.chain_id != chain_id:
        raise ProofError(f"{where} is of chain {header.chain_id!r}: it must be {chain_id!r}")
    if header.block_version != BLOCK_PROTOCOL:
        raise ProofError(f"{where} is of version {header.block_version}: it must be {BLOCK_PROTOCOL}")
    if commit.height != header.height or commit.block_id.hash != header.hash:
        raise ProofError(
            f"{where} has hash {header.hash.hex()}: the commit is of block {commit.height}, "
            f"{commit.block_id.hash.hex()}"
        )
    total = total_power(validators)
    total_power(certificate.following)
    for what, found, due in (
        ("validators", validators, header.validators_hash),
        ("next validators", certificate.following, header.next_validators_hash),
    ):
        if validators_hash(found) != due:
            raise ProofError(f"the {what} hash to {validators_hash(found).hex()}: {where} names {due.hex()}")
    signed = frozenset(_signers(chain_id, commit, validators))
    power = sum(one.power for one in validators if one.public in signed)
    if power * 3 <= total * 2:
        raise ProofError(f"{power} of the power of {total} signed {where}: more than two thirds are needed")
    return signed


def total_power(validators: Sequence[Validator]) -> int:
    """Return the power of a whole set; raises `ProofError` where there cannot be such a set."""
    total = sum(one.power for one in validators)
    if total > MAX_POWER:
        raise ProofError(f"a validator set has the power {total}: at most {MAX_POWER} can be")
    if len({one.address for one in validators}) != len(validators):
        raise ProofError("a validator is in a set twice")
    return total


def _signers(chain_id: str, commit: Commit, validators: Sequence[Validator]) -> Iterable[bytes]:
    if len(commit.signatures) != len(validators):
        raise ProofError(f"the commit has {len(commit.signatures)} votes: there are {len(validators)} validators")
    for at, (vote, validator) in enumerate(zip(commit.signatures, validators, strict=True)):
        if vote.flag == ABSENT:
            continue
        if vote.address != validator.address:
            raise ProofError(
                f"vote {at} of the commit is by {vote.address.hex()}: it must be {validator.address.hex()}"
            )
        if vote.flag == COMMIT:
            message = vote_sign_bytes(chain_id, commit.height, commit.round, commit.block_id, vote.timestamp)
            if verify(validator.public, message, vote.signature):
                yield validator.public


def vote_sign_bytes(
    chain_id: str, height: int, round: int, block_id: BlockId | None, time: Timestamp, kind: int = _PRECOMMIT
) -> bytes:
    """Return what a validator signs: the length of a CanonicalVote, and the vote. Without `block_id` it is for none.

    `kind` is 2 for a precommit, 1 for a prevote.
    """
    vote = _number(1, kind) + _fixed(2, height) + _fixed(3, round)
    if block_id is not None and block_id != BlockId(b"", 0, b""):
        vote += _message(4, _block_id(block_id))
    vote += _message(5, _time(time)) + _octets(6, chain_id.encode())
    return _varint(len(vote)) + vote


def validators_hash(validators: Sequence[Validator]) -> bytes:
    """Return the hash of a set, 32 bytes: the Merkle root over keys and powers, in the order of the set."""
    return merkle.root([_message(1, _octets(1, one.public)) + _number(2, one.power) for one in validators])


def validator_set(powers: Mapping[bytes, int]) -> tuple[Validator, ...]:
    """Return the set of these powers by key, in CometBFT's order: the most power first, and then by address."""
    made = [Validator(public, power) for public, power in powers.items()]
    return tuple(sorted(made, key=lambda one: (-one.power, one.address)))


def chain_id_of(genesis: bytes) -> str:
    """Return the name that a ledger's chain has in CometBFT, of the digest of its genesis; it fits in 50 characters."""
    return f"fedmeta-{genesis.hex()[:40]}"


def data_hash(transactions: Sequence[bytes]) -> bytes:
    """Return the hash of a block's transactions, 32 bytes: the Merkle root over the SHA-256 of each."""
    return merkle.root([sha256(raw).digest() for raw in transactions])


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | 1) + value.to_bytes(8, "little", signed=True) if value else b""


def _octets(field: int, value: bytes) -> bytes:
    return _message(field, value) if value else b""


def _message(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _time(time: Timestamp) -> bytes:
    return _number(1, time.seconds) + _number(2, time.nanos)


def _block_id(one: BlockId) -> bytes:
    return _octets(1, one.hash) + _message(2, _number(1, one.parts) + _octets(2, one.parts_hash))
