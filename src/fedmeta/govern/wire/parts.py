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
    priority: int
    """Of the weighted round-robin that chooses leaders; 0 for a standby."""
    since: int = 0
    """The height at which it replaced another; 0 for one that was elected."""


@part
@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a slash: from the `pool`, from `unbonding`, or from a `redelegation` of a member."""

    place: str
    member: str
    candidate: str
    amount: int
