"""Values that stand both in records and in events."""

from dataclasses import dataclass

from fedmeta.govern.wire.layout import part


@part
@dataclass(frozen=True, slots=True)
class Seat:
    """An elected candidate: its weight at the snapshot, its power under the organisations' cap."""

    candidate: str
    organisation: str
    weight: int
    power: int


@part
@dataclass(frozen=True, slots=True)
class Place:
    """A place in a cohort: an organisation, and the member that contributes for it."""

    organisation: str
    member: str


@part
@dataclass(frozen=True, slots=True)
class Window:
    """How long a phase may take: it is over once this many blocks and this much block time have passed."""

    blocks: int
    milliseconds: int


@part
@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a slash: from the `pool`, from `unbonding`, or from a `redelegation` of a member."""

    place: str
    member: str
    candidate: str
    amount: int
