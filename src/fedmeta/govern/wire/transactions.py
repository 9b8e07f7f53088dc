"""What members may ask of the ledger: the schema of each transaction, its signed form, and its one encoding."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from fedmeta.govern.errors import Malformed, Refused
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import (
    Amount,
    Choice,
    Count,
    Fingerprint,
    Hash,
    Name,
    PublicKey,
    RawTransaction,
    Share,
    SignatureBytes,
    Text,
    checker,
)
from fedmeta.govern.wire.signatures import Key, digest, tagged

MAX_ITEMS = 2_000
"""The most values in a transaction: twice what the largest one needs, the manifest or the scores of a large cohort."""

TRANSACTIONS: dict[str, type] = {}
"""Kind to schema, in the order of the documentation."""

_CHECKERS: dict[str, Callable[[dict[str, Any]], Any]] = {}
_KINDS: dict[type, str] = {}


def transaction(kind: str) -> Callable[[type], type]:
    """Declare a frozen dataclass as the schema of a kind of transaction."""

    def declare(cls: type) -> type:
        TRANSACTIONS[kind] = cls
        _KINDS[cls] = kind
        _CHECKERS[kind] = checker(cls)
        return cls

    return declare


@transaction("rotate-key")
@dataclass(frozen=True, slots=True)
class RotateKey:
    """Sign with another key from the next block on; evidence against the old key stays valid."""

    public: PublicKey
    proof: SignatureBytes
    """The new key's signature over `possession(chain_id, member, public)`."""


@transaction("set-profile")
@dataclass(frozen=True, slots=True)
class SetProfile:
    """Say the member's full name, the address of its node, and the fingerprint of the node's TLS key."""

    title: Text
    address: Text
    tls: Fingerprint


@transaction("leave")
@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the federation, with nothing staked or unbonding, and nothing left to claim."""


@transaction("register")
@dataclass(frozen=True, slots=True)
class Register:
    """Stand for election, with a commission on one's voters' rewards; or stand again after retiring."""

    commission: Share


@transaction("set-commission")
@dataclass(frozen=True, slots=True)
class SetCommission:
    """Change the commission, within the cap and the yearly rate."""

    commission: Share


@transaction("retire")
@dataclass(frozen=True, slots=True)
class Retire:
    """Stand for no further election; terms that are elected already are served."""


@transaction("unjail")
@dataclass(frozen=True, slots=True)
class Unjail:
    """Stand for election again after the time in jail."""


@transaction("bond")
@dataclass(frozen=True, slots=True)
class Bond:
    """Stake on oneself, as a candidate."""

    amount: Amount


@transaction("delegate")
@dataclass(frozen=True, slots=True)
class Delegate:
    """Stake on a candidate."""

    candidate: Name
    amount: Amount


@transaction("redelegate")
@dataclass(frozen=True, slots=True)
class Redelegate:
    """Move stake from one candidate to another; it answers for the old one until the unbonding period is over."""

    source: Name
    destination: Name
    amount: Amount


@transaction("undelegate")
@dataclass(frozen=True, slots=True)
class Undelegate:
    """Take stake back, one's own included; it is paid after the unbonding period."""

    candidate: Name
    amount: Amount


@transaction("cancel-unbonding")
@dataclass(frozen=True, slots=True)
class CancelUnbonding:
    """Put stake that is on its way out back to its candidate."""

    candidate: Name
    created: Count
    """The height at which it was undelegated."""
    amount: Amount


@transaction("claim")
@dataclass(frozen=True, slots=True)
class Claim:
    """Take all rewards that are owed, as contributor, super node and voter."""


@transaction("open-round")
@dataclass(frozen=True, slots=True)
class OpenRound:
    """Open the round, as its leader."""

    round: Count
    recipe: Hash
    model: Hash
    """The recipe's model as of the last final round."""


@transaction("commit-update")
@dataclass(frozen=True, slots=True)
class CommitUpdate:
    """Commit to an update, as a member of the cohort."""

    round: Count
    digest: Hash
    examples: Count
    receipts: tuple[tuple[Name, SignatureBytes], ...]
    """Super nodes and their signatures over `receipt(...)`: at least f + 1, in the order of their names."""


@transaction("post-manifest")
@dataclass(frozen=True, slots=True)
class PostManifest:
    """Say which updates were aggregated and what it gave, as the round's leader."""

    round: Count
    attempt: Count
    members: tuple[Name, ...]
    """Whose updates are included; sorted, none twice."""
    aggregate: Hash
    model: Hash


@transaction("attest")
@dataclass(frozen=True, slots=True)
class Attest:
    """Commit to one's own result and scores, as a super node."""

    round: Count
    commitment: Hash
    """`commitment(...)` of what will be revealed."""


@transaction("reveal")
@dataclass(frozen=True, slots=True)
class Reveal:
    """Open one's commitment."""

    round: Count
    result: Hash
    """`result(...)` of the aggregate and the next model that one's own execution gave."""
    scores: tuple[Share, ...]
    """One for each member of the manifest, in its order: how useful the update was, in parts per million."""
    salt: Hash


@transaction("report-manifests")
@dataclass(frozen=True, slots=True)
class ReportManifests:
    """Prove that a leader signed two manifests for one attempt at a round."""

    first: RawTransaction
    second: RawTransaction


@transaction("report-left-out")
@dataclass(frozen=True, slots=True)
class ReportLeftOut:
    """Prove that a manifest left out an update that was committed in time, with receipts."""

    round: Count
    member: Name


@transaction("challenge")
@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """Say that a super node revealed a wrong result, and let the standbys execute again."""

    round: Count
    accused: Name
    result: Hash
    """What is right."""


@transaction("judge")
@dataclass(frozen=True, slots=True)
class Judge:
    """Say what one's own execution gave, as a standby."""

    challenge: Count
    result: Hash


@transaction("propose")
@dataclass(frozen=True, slots=True)
class Propose:
    """Propose an action, for the deposit; `proposals.ACTIONS` lists them."""

    title: Text
    action: dict[str, Any]


@transaction("vote")
@dataclass(frozen=True, slots=True)
class CastVote:
    """Vote on a proposal with one's stake, and as a candidate with that of the delegators who do not vote."""

    proposal: Count
    choice: Choice


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction as it stands in a block: who asks for what, on which chain, for the how-manieth time."""

    chain_id: str
    member: str
    sequence: int
    kind: str
    body: Any
    """An instance of one of `TRANSACTIONS`."""
    message: bytes
    """What the signature is over."""
    signature: bytes
    digest: bytes
    """SHA-256 of the whole transaction: its name."""


def kind_of(body: object) -> str:
    """Return the kind of a transaction's body."""
    return _KINDS[type(body)]


def sign(key: Key, chain_id: str, member: str, sequence: int, body: object) -> bytes:
    """Return the signed transaction, in its one encoding."""
    values = {field.name: getattr(body, field.name) for field in fields(body)}  # type: ignore[arg-type]
    content = [chain_id, member, sequence, kind_of(body), values]
    unsigned = codec.encode([*content, bytes(64)])
    return unsigned[:-64] + key.sign(_message(unsigned))


def decode(raw: bytes) -> Signed:
    """Return the transaction that the bytes encode. The signature is not checked here.

    Raises:
        Refused: `malformed` if they are not the one encoding of a transaction; `bad-value` or `bad-amount` for a field.
    """
    try:
        value = codec.decode(raw, items=MAX_ITEMS)
    except Malformed as error:
        raise Refused("malformed", str(error)) from error
    if type(value) is not list or len(value) != 6:
        raise Refused("malformed", "a transaction is a list of chain id, member, sequence, kind, fields, signature")
    chain_id, member, sequence, kind, values, signature = value
    types = (type(chain_id), type(member), type(sequence), type(kind), type(values), type(signature))
    if types != (str, str, int, str, dict, bytes) or len(signature) != 64 or sequence < 0:
        raise Refused("malformed", "a transaction is a list of chain id, member, sequence, kind, fields, signature")
    check = _CHECKERS.get(kind)
    if check is None:
        raise Refused("malformed", f"unknown kind of transaction {kind[:40]!r}: known are {', '.join(TRANSACTIONS)}")
    return Signed(chain_id, member, sequence, kind, check(values), _message(raw), signature, digest(raw))


def _message(raw: bytes) -> bytes:
    """Return what is signed: the same list without its last item, the signature of 2 + 64 bytes."""
    return b"fedmeta transaction\0\x85" + raw[1:-66]


def possession(chain_id: str, member: str, public: bytes) -> bytes:
    """Return what a new key signs to show that the member holds it."""
    return tagged("possession", chain_id.encode(), member.encode(), public)


def receipt(chain_id: str, round: int, member: str, digest: bytes, examples: int) -> bytes:
    """Return what a super node signs when it has received an update and stored it."""
    return tagged("receipt", chain_id.encode(), codec.encode([round, member, digest, examples]))


def result(round: int, aggregate: bytes, model: bytes) -> bytes:
    """Return the digest that an execution of a round is attested by."""
    return tagged("result", codec.encode([round, aggregate, model]))


def commitment(chain_id: str, round: int, candidate: str, result: bytes, scores: tuple[int, ...], salt: bytes) -> bytes:
    """Return what a super node commits to; it is bound to the chain, the round and the super node."""
    return tagged("commitment", chain_id.encode(), codec.encode([round, candidate, result, list(scores), salt]))
