"""Every exception of the ledger.

GovernError                 the root; a FedmetaError
├── Malformed               bytes or a value that are not in the ledger's one form
├── BadSignature            a public key or a signature that the rules refuse
├── Refused                 a transaction that the rules refuse, with a code from REFUSALS
├── InvalidBlock            a block that does not follow the state
│   └── WrongProtocol       it is executed by the rules of another version
├── InvalidGenesis          a genesis that breaks a rule
│   └── OlderProtocol       one of rules that this version no longer executes
├── StateError              a record that is absent, or a state that has been folded away
├── KeyFileError            a key file that cannot be used
├── StoreError              a ledger's database cannot be used
│   ├── StoreLocked         another process uses it
│   ├── WrongChain          it holds another chain
│   ├── NewerSchema         a newer version wrote it
│   └── Damaged             what it holds does not fit together
├── EngineError             CometBFT cannot be set up, started or asked
├── ProofError              a proof, a header or a signature that does not convince a light client
│   └── TooFar              a later header of which too little is known yet: those between may lead there
└── NodeError               a node cannot be reached, or its answer cannot be used
    ├── NodeBusy            it says when to come again
    └── Unacknowledged      a transaction was sent, and nothing is known of it
"""

from fedmeta.errors import FedmetaError

REFUSALS = {
    "malformed": "the bytes are not a transaction in the one canonical form",
    "too-large": "the transaction, or a list in it, is larger than the parameters allow",
    "wrong-protocol": "the ledger goes on by the rules of another version of fedmeta",
    "wrong-chain": "the transaction is for another ledger: for another genesis",
    "unknown-member": "nobody of this name is a member",
    "not-active": "the member has left, or has been removed",
    "bad-signature": "the signature is not by the key that the member has for this now",
    "stale-sequence": "the sequence number was used before: a replay",
    "future-sequence": "the sequence number is ahead of the member's next one",
    "bad-amount": "the amount is not a whole number of units in its range",
    "bad-value": "a value is outside its range, or not in its form",
    "insufficient-funds": "the member has less than the amount",
    "not-allowed": "this member may not do this, or not now",
    "not-found": "the thing that is named does not exist",
    "already-done": "it exists already, or was done before",
    "wrong-phase": "the round or the proposal is not in the phase for this",
    "wrong-attempt": "the round is at another attempt",
    "limit-reached": "there are as many as the parameters allow",
    "commission-cap": "the commission is above the cap, or rises faster than the yearly rate",
    "redelegation-hop": "stake that was moved here lately cannot be moved on yet",
    "jailed": "the candidate is jailed",
    "tombstoned": "the candidate is barred for good",
    "bad-reveal": "the reveal does not open the commitment",
    "bad-scores": "scores are not one for each update, name an own update, or exceed their budget",
}
"""What each refusal code means."""


class GovernError(FedmetaError):
    """The root of what the ledger raises on purpose."""


class Malformed(GovernError):
    """Bytes or a value that are not in the ledger's one form."""


class BadSignature(GovernError):
    """A public key or a signature that the rules refuse."""


class Refused(GovernError):
    """A transaction that the rules refuse; `code` is one of `REFUSALS`, the message says what would be right."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InvalidBlock(GovernError):
    """A block that does not follow the state: its height, its time or its size."""


class WrongProtocol(InvalidBlock):
    """A block that is executed by the rules of another version of fedmeta."""


class InvalidGenesis(GovernError):
    """A genesis that breaks a rule."""


class OlderProtocol(InvalidGenesis):
    """A genesis of rules that this version of fedmeta no longer executes."""


class StateError(GovernError):
    """A record that is absent, or a state whose base has moved on."""


class KeyFileError(GovernError):
    """A key file that cannot be used."""


class StoreError(GovernError):
    """A ledger's database cannot be used."""


class StoreLocked(StoreError):
    """Another process uses the database."""


class WrongChain(StoreError):
    """The database holds another chain."""


class NewerSchema(StoreError):
    """A newer version of fedmeta wrote the database."""


class Damaged(StoreError):
    """What the database holds does not fit together."""


class EngineError(GovernError):
    """CometBFT cannot be set up, started or asked."""


class ProofError(GovernError):
    """A proof, a header or a signature that does not convince a light client."""


class TooFar(ProofError):
    """A header whose validators have too little to do with those that are trusted: headers between may lead there."""


class NodeError(GovernError):
    """A node cannot be reached, or its answer cannot be used."""


class NodeBusy(NodeError):
    """A node has no time for the one who asks, and says in how many `seconds` to come again."""

    def __init__(self, message: str, seconds: int):
        super().__init__(message)
        self.seconds = seconds


class Unacknowledged(NodeError):
    """A transaction was sent, and it is not known whether it is in a block, or will be.

    `raw` is the transaction: sent again as it is, it is done once at most. One that is signed anew may be done twice.
    """

    def __init__(self, message: str, digest: bytes, raw: bytes):
        super().__init__(message)
        self.digest = digest
        self.raw = raw
