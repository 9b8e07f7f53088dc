"""What happens to a node: each event is what its reducer is told."""

from dataclasses import dataclass
from typing import Any

from fedmeta.node.reducer.promises import Promise
from fedmeta.node.reducer.view import View


@dataclass(frozen=True, slots=True)
class Approval:
    """A procedure that a person approved, and how large what it brings is."""

    recipe: bytes
    message_bytes: int
    state_bytes: int
    contributes: bool = True
    """Whether the member also brings updates; else it only aggregates where it has a seat."""
    smallest: int = 1
    """The fewest updates among which the member's own may be."""
    takes: int = 1
    """The fewest updates that the procedure's aggregator takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can bear: a duty beyond it is not taken."""

    room: int = 1 << 62
    """Bytes of others' updates that fit on the disk."""
    upload: int = 1 << 62
    """Bytes a second that leave."""


@dataclass(frozen=True, slots=True)
class Start:
    """The process begins: what its journal and its disk hold."""

    start: int
    """How many times the node has been started, this one included: answers to an earlier start are ignored."""
    promises: tuple[Promise, ...]
    models: frozenset[bytes]
    """Models that are whole on the disk."""
    updates: frozenset[tuple[int, str]]
    """Updates (round, member) that are whole on the disk, opened and checked; one's own among them."""
    approvals: tuple[Approval, ...]
    limits: Limits = Limits()
    silent_until: int = 0
    """A height before which nothing is promised or sent, since an older machine's words may still arrive."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time goes on: milliseconds of a clock that never goes back and says nothing of the hour."""

    now: int


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes of others' updates fit on the disk now."""

    room: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The ledger's state after a block."""

    view: View


@dataclass(frozen=True, slots=True)
class Arrived:
    """A sealed update lies whole at the node's gate: the round that its commitment is bound to, and its member."""

    round: int
    member: str


@dataclass(frozen=True, slots=True)
class Lost:
    """What was whole is so no more: the disk has damaged it, or it is gone."""

    models: frozenset[bytes] = frozenset()
    updates: frozenset[tuple[int, str]] = frozenset()
    """Opened and checked: the round that each is bound to, and its member."""
    arrived: frozenset[tuple[int, str]] = frozenset()
    """At the gate: the live round, and the member."""


@dataclass(frozen=True, slots=True)
class Done:
    """An action is done; `result` is what it gave."""

    start: int
    number: int
    result: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An action came to nothing, or nobody knows whether it did.

    `final` says that to do the same again cannot help: the bytes are bad, the ledger's rules refuse.
    """

    start: int
    number: int
    why: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Approved:
    """A person approved a procedure."""

    approval: Approval


@dataclass(frozen=True, slots=True)
class Revoked:
    """An approval was taken back, or has ended."""

    recipe: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The journal or the disk has failed: nothing may be promised any more."""

    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A person ends the node: nothing new is begun."""


Event = Start | Tick | Room | Seen | Arrived | Lost | Done | Failed | Approved | Revoked | Broken | Stop
