"""What a node knows: the reducer's state, a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmeta.node.reducer.actions import Duty
from fedmeta.node.reducer.events import Approval, Limits
from fedmeta.node.reducer.promises import ResultPromise, UpdatePromise
from fedmeta.node.reducer.view import View

Key = tuple
"""Names a duty: its kind, the number of the round that it belongs to or 0, and what else tells it apart."""

NEVER = 1 << 62

NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Busy:
    """A duty that is under way, under the number of its action."""

    number: int
    duty: Duty


@dataclass(frozen=True, slots=True)
class Later:
    """When a duty may be tried again, by the node's clock, and how often it has failed."""

    at: int
    tries: int


@dataclass(frozen=True, slots=True)
class Computed:
    """What an attempt's updates gave, how often it was computed with the same outcome, and whether it ever differed."""

    promise: ResultPromise
    times: int
    differed: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """All that a node goes by. What outlasts a crash is on the disk or on the ledger; the rest is found again."""

    me: str
    start: int = 0
    number: int = 0
    """Of the last action."""
    now: int = 0
    began: int = -1
    """When this start was, by the node's clock; -1 before its first tick."""
    view: View | None = None
    limits: Limits = NO_LIMITS
    approvals: Mapping[bytes, Approval] = field(default_factory=dict)
    own: Mapping[int, UpdatePromise] = field(default_factory=dict)
    """The update that was promised in each round."""
    seals: Mapping[int, bytes] = field(default_factory=dict)
    results: Mapping[tuple[int, int], ResultPromise] = field(default_factory=dict)
    """The result that was promised in each round and attempt."""
    trained: Mapping[int, UpdatePromise] = field(default_factory=dict)
    """Updates that were made, and are not promised yet."""
    computed: Mapping[tuple[int, int], Computed] = field(default_factory=dict)
    models: frozenset[bytes] = frozenset()
    updates: frozenset[tuple[int, str]] = frozenset()
    """Whole on the disk, opened and checked: the round that each is bound to, and its member."""
    arrived: frozenset[tuple[int, str]] = frozenset()
    """Whole at the gate, and not opened yet: the round that each is bound to, and its member."""
    pushed: frozenset[tuple[int, str]] = frozenset()
    """Seats whose gate has one's update of a round."""
    bad: frozenset[tuple[int, str, str]] = frozenset()
    """The round, whose update, and from where it came that did not open what was committed to."""
    busy: Mapping[Key, Busy] = field(default_factory=dict)
    later: Mapping[Key, Later] = field(default_factory=dict)
    told: frozenset[Key] = frozenset()
    """What has been said, or done once and for all."""
    silent_until: int = 0
    stopping: bool = False
    halted: str = ""

    def holds(self, member: str) -> bool:
        """Return whether the update that a member has committed to in the latest round is here."""
        update = self.view.updates.get(member) if self.view else None
        return update is not None and (update.origin, member) in self.updates
