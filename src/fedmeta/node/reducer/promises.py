"""What a node has promised: each stands in its journal before a word of it leaves."""

from dataclasses import dataclass, fields
from typing import Any

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node.errors import JournalDamaged


@dataclass(frozen=True, slots=True)
class Started:
    """The node has been started for the `start`-th time."""

    start: int


@dataclass(frozen=True, slots=True)
class UpdatePromise:
    """What one commits to in a round: the content's digest, and the salt that opens the commitment."""

    round: int
    model: bytes
    """The model that it was trained from."""
    content: bytes
    length: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class SealPromise:
    """The one header that one signs for a round."""

    round: int
    header: bytes


@dataclass(frozen=True, slots=True)
class ResultPromise:
    """What one commits to in an attempt, and opens: result, scores and salt."""

    round: int
    attempt: int
    members: tuple[str, ...]
    """Whose updates it was computed from."""
    result: bytes
    scores: tuple[int, ...]
    salt: bytes


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing is promised or sent before a height: the machine is new, or its memory is old."""

    until: int


Promise = Started | UpdatePromise | SealPromise | ResultPromise | Silence

_KINDS: dict[str, type] = {
    "started": Started,
    "update": UpdatePromise,
    "seal": SealPromise,
    "result": ResultPromise,
    "silence": Silence,
}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def encode(promise: Promise) -> bytes:
    """Return a promise's bytes, as they stand in the journal."""
    return codec.encode([_NAMES[type(promise)], *(_plain(getattr(promise, one.name)) for one in fields(promise))])


def decode(entry: bytes) -> Promise:
    """Return the promise of a journal's entry; raises `JournalDamaged` if it is none."""
    try:
        kind, *values = codec.decode(entry)
        cls = _KINDS[kind]
        return cls(*(tuple(one) if isinstance(one, list) else one for one in values))
    except (Malformed, KeyError, TypeError, ValueError) as error:
        raise JournalDamaged(f"an entry of the journal is no promise: {entry[:40].hex()}") from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
