"""What a node does: each action carries a number and its start's, and so does the answer to it."""

from dataclasses import dataclass

from fedmeta.node.reducer.promises import Promise


@dataclass(frozen=True, slots=True)
class Append:
    """Write a promise into the journal, and flush it."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class Submit:
    """Sign a transaction's body and send it to the ledger. Done: the ledger has it, or it waits for a block."""

    body: object
    by_account: bool = False
    """By the key of the account, with a sequence number; else by the machine's."""


@dataclass(frozen=True, slots=True)
class Train:
    """Make one's update, and keep it on the disk. Done gives the digest of its content, its length and a new salt."""

    round: int
    recipe: bytes
    model: bytes


@dataclass(frozen=True, slots=True)
class FetchModel:
    """Fetch a model from one of these members, and keep it once it is whole."""

    model: bytes
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Push:
    """Seal one's update to the round's seats, and bring it to one of them. Done: its gate has all of it."""

    round: int
    """The round that is live."""
    origin: int
    """The round to which the commitment is bound."""
    seat: str


@dataclass(frozen=True, slots=True)
class Take:
    """Open an update that came to one's gate, and check it against its commitment and the procedure."""

    round: int
    member: str
    recipe: bytes
    digest: bytes
    origin: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch a sealed update from another seat that holds it; then open and check it as in `Take`."""

    round: int
    member: str
    source: str
    recipe: bytes
    digest: bytes
    origin: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Compute the next model of exactly these updates, and keep it; Done gives its digest, scores and a new salt.

    `check` counts up where the same is computed once more: the next one must not take anything from memory.
    """

    round: int
    attempt: int
    recipe: bytes
    model: bytes
    members: tuple[str, ...]
    budget: int
    """The points that each update of another organisation may be given, in parts per million, if all get as much."""
    own: tuple[bool, ...]
    """Which of the updates are of the seat's own organisation: they get none."""
    check: int = 0


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget what rounds before this one left on the disk and at the gate, but for updates bound to these rounds."""

    before: int
    keep: frozenset[int]


@dataclass(frozen=True, slots=True)
class DropModels:
    """Forget all models but these."""

    keep: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the member's people: a text for the log, and `alarm` for what must be looked at."""

    text: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an action that is under way and is of no use any more; no answer to it is awaited."""

    number: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Do nothing any more, and say why."""

    why: str


Duty = Append | Submit | Train | FetchModel | Push | Take | Pull | Aggregate | Drop | DropModels | Tell | Cancel | Halt


@dataclass(frozen=True, slots=True)
class Action:
    """A duty with its number; answers name the start and the number."""

    start: int
    number: int
    duty: Duty
