"""What members may ask of the ledger: the schema of each transaction, its signed form, and its one encoding.

Every signature and every commitment is bound to the genesis by its digest, 32 bytes: a chain id is only a name. What a
member sends as a part of a round comes once for each round, attempt and kind, so that it needs no sequence number.
"""

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
    Proof,
    PublicKey,
    Share,
    SignatureBytes,
    Text,
    checker,
)
from fedmeta.govern.wire.signatures import Key, digest, tagged

MAX_ITEMS = 2_000
"""The most values in a transaction: twice what the largest one needs, the updates held or the scores of a cohort."""

TRANSACTIONS: dict[str, type] = {}
"""Kind to schema, in the order of the documentation."""

OF_ROUNDS: set[str] = set()
"""The kinds that are parts of a round: they carry the sequence number 0, and go first in a block."""

BY_MACHINE: set[str] = set()
"""The kinds that either key of a member may sign, for its machine does them by itself; they have a sequence number."""

_CHECKERS: dict[str, Callable[[dict[str, Any]], Any]] = {}
_KINDS: dict[type, str] = {}


def transaction(kind: str, *, of_rounds: bool = False, by_machine: bool = False) -> Callable[[type], type]:
    """Declare a frozen dataclass as the schema of a kind of transaction."""

    def declare(cls: type) -> type:
        TRANSACTIONS[kind] = cls
        _KINDS[cls] = kind
        _CHECKERS[kind] = checker(cls)
        if of_rounds:
            OF_ROUNDS.add(kind)
        if by_machine:
            BY_MACHINE.add(kind)
        return cls

    return declare


@transaction("rotate-key")
@dataclass(frozen=True, slots=True)
class RotateKey:
    """Sign with another key from the next block on."""

    public: PublicKey
    proof: SignatureBytes
    """The new key's signature over `possession(genesis, member, public)`."""


@transaction("set-machine-key")
@dataclass(frozen=True, slots=True)
class SetMachineKey:
    """Let another key sign for the member in rounds from the next block on, so that the account's can stay away."""

    public: Fingerprint
    """The public key; empty for the account's key again."""
    proof: Proof
    """The key's signature over `possession(genesis, member, public)`; empty if the key is."""


@transaction("set-consensus-key")
@dataclass(frozen=True, slots=True)
class SetConsensusKey:
    """Decide blocks by another key, as a candidate: on a ledger whose super nodes are its validators."""

    public: PublicKey
    """A key that nobody has or had: it is used for nothing else, and never again."""
    proof: SignatureBytes
    """The key's signature over `possession(genesis, member, public)`."""


@transaction("set-profile")
@dataclass(frozen=True, slots=True)
class SetProfile:
    """Say the member's full name, the address of its node, and the fingerprints of the node's TLS key."""

    title: Text
    address: Text
    tls: Fingerprint
    next_tls: Fingerprint = b""
    """Of the key that is to take its place: others accept both, so that no hour need be agreed on."""


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


@transaction("join-recipe", by_machine=True)
@dataclass(frozen=True, slots=True)
class JoinRecipe:
    """Contribute to a recipe for one's organisation, until one leaves it or an update of one's is not in a round."""

    recipe: Hash


@transaction("leave-recipe")
@dataclass(frozen=True, slots=True)
class LeaveRecipe:
    """Contribute to a recipe no longer, in rounds that are scheduled later."""

    recipe: Hash


@transaction("commit-update", of_rounds=True)
@dataclass(frozen=True, slots=True)
class CommitUpdate:
    """Commit to an update, as a member of the cohort."""

    round: Count
    digest: Hash
    """`update_digest(...)`."""


@transaction("seal", of_rounds=True)
@dataclass(frozen=True, slots=True)
class Seal:
    """Sign the header of the block with which the commitments closed, as a seat: one for a round, if it is honest."""

    round: Count
    header: Hash
    """The hash of that header."""


@transaction("hold", of_rounds=True)
@dataclass(frozen=True, slots=True)
class Hold:
    """Say whose updates one holds, as a seat: bytes that open what they committed to, well formed by the recipe."""

    round: Count
    attempt: Count
    members: tuple[Name, ...]
    """Sorted, none twice, one at least that was not said before; those that were said before count on."""


@transaction("attest", of_rounds=True)
@dataclass(frozen=True, slots=True)
class Attest:
    """Commit to one's own result and scores, as a seat."""

    round: Count
    attempt: Count
    commitment: Hash
    """`commitment(...)` of what will be revealed."""


@transaction("reveal", of_rounds=True)
@dataclass(frozen=True, slots=True)
class Reveal:
    """Open one's commitment."""

    round: Count
    attempt: Count
    result: Hash
    """The digest of the next model that one's own computation gave."""
    scores: tuple[Share, ...]
    """One for each update that is in, in their order: how useful it was, in parts per million.

    0 for one of the own organisation. Of n others and a cohort of c, at most n / c of 1000000 in all.
    """
    salt: Hash


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

    genesis: bytes
    """The digest of the genesis."""
    member: str
    sequence: int
    """0 for the parts of rounds."""
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


def sign(key: Key, genesis: bytes, member: str, sequence: int, body: object) -> bytes:
    """Return the signed transaction, in its one encoding; `sequence` is not used for parts of rounds."""
    values = {field.name: getattr(body, field.name) for field in fields(body)}  # type: ignore[arg-type]
    kind = kind_of(body)
    content = [genesis, member, 0 if kind in OF_ROUNDS else sequence, kind, values]
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
    form = "a transaction is a list of the genesis's digest, member, sequence, kind, fields, signature"
    if type(value) is not list or len(value) != 6:
        raise Refused("malformed", form)
    genesis, member, sequence, kind, values, signature = value
    types = (type(genesis), type(member), type(sequence), type(kind), type(values), type(signature))
    if types != (bytes, str, int, str, dict, bytes) or (len(genesis), len(signature)) != (32, 64) or sequence < 0:
        raise Refused("malformed", form)
    check = _CHECKERS.get(kind)
    if check is None:
        raise Refused("malformed", f"unknown kind of transaction {kind[:40]!r}: known are {', '.join(TRANSACTIONS)}")
    if sequence and kind in OF_ROUNDS:
        raise Refused("malformed", f"the sequence of a {kind} is {sequence}: parts of rounds have 0")
    return Signed(genesis, member, sequence, kind, check(values), _message(raw), signature, digest(raw))


def _message(raw: bytes) -> bytes:
    """Return what is signed: the same list without its last item, the signature of 2 + 64 bytes."""
    return b"fedmeta transaction\0\x85" + raw[1:-66]


def possession(genesis: bytes, member: str, public: bytes) -> bytes:
    """Return what a new key signs to show that the member holds it."""
    return tagged("possession", genesis, member.encode(), public)


def update_digest(genesis: bytes, round: int, member: str, salt: bytes, content: bytes) -> bytes:
    """Return what a contributor commits to: it opens under its own name, in this round, and nowhere else.

    Args:
        genesis: The digest of the genesis, 32 bytes.
        round: The round's number.
        member: The contributor's name.
        salt: 32 bytes that nobody can guess.
        content: The digest of the update's bytes, 32 bytes, as the recipe says it is made.
    """
    return tagged("update", genesis, codec.encode([round, member, salt, content]))


def commitment(
    genesis: bytes, round: int, attempt: int, candidate: str, result: bytes, scores: tuple[int, ...], salt: bytes
) -> bytes:
    """Return what a seat commits to: it opens under its own name, in this attempt at this round, and nowhere else."""
    return tagged("commitment", genesis, codec.encode([round, attempt, candidate, result, list(scores), salt]))
