"""The state of the ledger: records by class and key, under one Merkle root.

A `State` is a value. It shares a large base with the states before and after it and holds the changes since the last
`fold` on top. A `Draft` gathers the changes of one block and can undo them.

The root is that of an RFC 6962 tree over numbered slots: a slot holds a record's bytes, or nothing (a leaf of no data)
once the record is gone. A new record takes the smallest vacant slot. A block's deletions come first and its new
records after, both in the order of (kind, key), so that the order of writes within a block leaves no trace.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, TypeVar

from fedmeta.govern.errors import StateError
from fedmeta.govern.state.slot_store import SlotStore, merged
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.layout import LAYOUTS, decode_record, encode_record, layout

R = TypeVar("R")

_ABSENT: Any = object()
_VACANT = merkle.leaf_hash(b"")


@dataclass(frozen=True, slots=True)
class Change:
    """What a slot holds now: the bytes of the record of this kind and key, or None where that record has gone."""

    slot: int
    kind: str
    key: tuple
    data: bytes | None


class State:
    """All records at one height; every method raises `StateError` once a later state of the same base was folded."""

    __slots__ = (
        "_base",
        "_changes",
        "_counts",
        "_hints",
        "_taken",
        "_touched",
        "_vacated",
        "_version",
        "_view",
        "height",
        "time",
    )

    def __init__(
        self,
        base: SlotStore,
        view: merkle.View,
        touched: Mapping[type, dict[tuple, tuple[Any, int]]],
        counts: Mapping[type, int],
        changes: Mapping[int, Change],
        taken: int,
        vacated: tuple[int, ...],
        height: int,
        time: int,
    ):
        self.height = height
        """The height of the block that it is the state after; 0 for genesis. No part of the root."""
        self.time = time
        """That block's time, in milliseconds since 1970. No part of the root."""
        self._base = base
        self._version = base.version
        self._view = view
        self._touched = touched
        """The record and the slot of every key that has changed since the fold; (None, -1) for one that is gone."""
        self._counts = counts
        self._changes = changes
        self._taken = taken
        """How many of the base's vacant slots, from the smallest, have been taken."""
        self._vacated = vacated
        """The slots that have fallen vacant since the fold, ascending."""
        self._hints: dict[tuple[type, str], dict[Any, list[tuple]]] = {}

    @staticmethod
    def empty() -> "State":
        """Return the state without records."""
        return _folded(SlotStore(), 0, 0)

    @staticmethod
    def load(rows: Iterable[tuple[int, bytes]], height: int = 0, time: int = 0) -> "State":
        """Return the state whose `dump` gave these rows; what it takes grows with them, whatever they say.

        `height` and `time` are those of the block that it is the state after: the rows do not say them.

        Raises `Malformed` for bytes that are no record, and `StateError` for a slot that is not the next one or a key
        that comes twice.
        """
        hashes = bytearray()

        def records() -> Iterator[Any]:
            for due, (slot, data) in enumerate(rows):
                if slot != due:
                    raise StateError(f"slot {slot} comes where slot {due} is due")
                hashes.extend(merkle.leaf_hash(data))
                yield decode_record(data) if data else None

        base = SlotStore()
        base.fill(records())
        base.tree = merkle.Tree(hashes)
        return _folded(base, height, time)

    @property
    def root(self) -> bytes:
        """The Merkle root of all records, 32 bytes: the app hash."""
        return self._view.root

    @property
    def slots(self) -> int:
        """How many slots there are, vacant ones included."""
        return self._view.size

    @property
    def changes(self) -> list[Change]:
        """What every slot that has changed since the last fold holds now, by slot."""
        return [self._changes[slot] for slot in sorted(self._changes)]

    def get(self, cls: type[R], *key: Any) -> R | None:
        """Return the record of a class with a key, or None."""
        return self._find(cls, key)[0]

    def need(self, cls: type[R], *key: Any) -> R:
        """Return the record of a class with a key; raises `StateError` if there is none."""
        return _present(self.get(cls, *key), cls, key)

    def all(self, cls: type[R]) -> list[R]:
        """Return all records of a class, by key."""
        return self._all(cls, {})

    def where(self, cls: type[R], field: str, value: Any) -> list[R]:
        """Return the records of a class whose field has a value, by key; the field must be among the `index` fields."""
        return _matching(self, cls, field, value, self._candidates(cls, field, value))

    def count(self, cls: type) -> int:
        """Return how many records of a class there are."""
        self._check()
        layout(cls)
        found = self._counts.get(cls)
        return len(self._base.at.get(cls, ())) if found is None else found

    def prove(self, cls: type, *key: Any) -> merkle.Proof:
        """Return the proof that a record is under the root; raises `StateError` if there is none."""
        found, slot = self._find(cls, key)
        data = encode_record(_present(found, cls, key))
        return merkle.Proof(data, slot, self.slots, self._view.path(slot))

    def draft(self, height: int | None = None, time: int | None = None) -> "Draft":
        """Return changes to this state, none as yet, by a block of a height and a time; by default its own."""
        self._check()
        return Draft(self, self.height if height is None else height, self.time if time is None else time)

    def fold(self) -> "State":
        """Merge the changes into the base and return the same state upon it; older states of the base can go."""
        self._check()
        if not self._changes:
            return self
        base = self._base
        base.merge(self._touched, self.slots)
        base.free = sorted([*base.free[self._taken :], *self._vacated])
        base.tree.merge(self._view)
        base.version += 1
        return _folded(base, self.height, self.time)

    def dump(self) -> Iterator[tuple[int, bytes]]:
        """Yield every slot and the bytes of its record, none where it is vacant, by slot."""
        for slot in range(self.slots):
            self._check()
            change = self._changes.get(slot)
            if change is not None:
                yield slot, change.data or b""
            else:
                found = self._base.entries[slot]
                yield slot, b"" if found is None else encode_record(found)

    def _check(self) -> None:
        if self._version != self._base.version:
            raise StateError("this state cannot be read any more: a later one was folded into their common base")

    def _find(self, cls: type, key: tuple) -> tuple[Any, int]:
        """Return the record of a class with a key and its slot, or (None, -1)."""
        base = self._base
        if self._version != base.version:
            self._check()
        touched = self._touched.get(cls)
        if touched and (found := touched.get(key)) is not None:
            return found
        at = base.at.get(cls)
        if at is not None and (slot := at.get(key)) is not None:
            return base.entries[slot], slot
        due = layout(cls)
        if len(key) != len(due.key):
            raise StateError(f"the key of a {due.kind} is ({', '.join(due.key)}), not {key}")
        return None, -1

    def _all(self, cls: type, written: Mapping[tuple, Any]) -> list:
        """Return all records of a class, by key, with those of a draft in the place of this state's."""
        self._check()
        layout(cls)
        entries, at = self._base.entries, self._base.at.get(cls, {})
        keys = self._base.keys(cls)
        over = {key: record for key, (record, _) in self._touched.get(cls, {}).items()}
        over.update(written)
        if not over:
            return [entries[at[key]] for key in keys]
        keys = merged(keys, sorted(key for key in over if key not in at))
        found = (over[key] if key in over else entries[at[key]] for key in keys)
        return [record for record in found if record is not None]

    def _candidates(self, cls: type, field: str, value: Any) -> dict[tuple, None]:
        """Return the keys of all records whose field may have the value, and perhaps of others."""
        self._check()
        if field not in layout(cls).index:
            raise StateError(f"{layout(cls).kind} records cannot be searched by {field!r}: it is not an index field")
        index = self._base.index.get((cls, field))
        found = dict(index[value]) if index and value in index else {}
        touched = self._touched.get(cls)
        if touched:
            hints = self._hints.get((cls, field))
            if hints is None:
                hints = self._hints[cls, field] = {}
                for key, (record, _) in touched.items():
                    if record is not None:
                        hints.setdefault(getattr(record, field), []).append(key)
            found.update(dict.fromkeys(hints.get(value, ())))
        return found


class Draft:
    """Changes upon a state, which can be undone; the state itself stays as it is."""

    __slots__ = ("_counts", "_hints", "_log", "_mark", "_state", "_written", "height", "time")

    def __init__(self, state: State, height: int, time: int):
        self.height = height
        self.time = time
        self._state = state
        self._mark = 0
        self._written: dict[type, dict[tuple, Any]] = {}
        """The record of every key that was written, None for one that was deleted."""
        self._hints: dict[tuple[type, str], dict[Any, dict[tuple, None]]] = {}
        """The keys of the records that were put with a value in an index field, undone ones aside."""
        self._counts: dict[type, int] = {}
        self._log: list[tuple[type, tuple, Any, int, list[tuple[str, Any]]]] = []
        """What each write since the last mark replaced: the class, the key, the record written before, the change of
        the count, and the index fields with the values that it gave a hint of the key."""

    def get(self, cls: type[R], *key: Any) -> R | None:
        """Return the record of a class with a key, or None."""
        written = self._written.get(cls)
        found = _ABSENT if written is None else written.get(key, _ABSENT)
        return self._state._find(cls, key)[0] if found is _ABSENT else found

    def need(self, cls: type[R], *key: Any) -> R:
        """Return the record of a class with a key; raises `StateError` if there is none."""
        found = self.get(cls, *key)
        return _present(found, cls, key) if found is None else found

    def all(self, cls: type[R]) -> list[R]:
        """Return all records of a class, by key."""
        return self._state._all(cls, self._written.get(cls, {}))

    def where(self, cls: type[R], field: str, value: Any) -> list[R]:
        """Return the records of a class whose field has a value, by key; the field must be among the `index` fields."""
        keys = self._state._candidates(cls, field, value)
        hints = self._hints.get((cls, field))
        if hints and value in hints:
            keys.update(hints[value])
        return _matching(self, cls, field, value, keys)

    def count(self, cls: type) -> int:
        """Return how many records of a class there are."""
        return self._state.count(cls) + self._counts.get(cls, 0)

    def put(self, record: Any) -> None:
        """Insert a record, or replace the one with its key."""
        cls = type(record)
        due = layout(cls)
        key = due.key_of(record)
        written = self._written.get(cls)
        if written is None:
            written = self._written[cls] = {}
        earlier = written.get(key, _ABSENT)
        before = self._state._find(cls, key)[0] if earlier is _ABSENT else earlier
        hints = []
        for field in due.index:
            value = getattr(record, field)
            if before is not None and getattr(before, field) == value:
                continue
            keys = self._hints.setdefault((cls, field), {}).setdefault(value, {})
            if key not in keys:
                keys[key] = None
                hints.append((field, value))
        more = int(before is None)
        self._log.append((cls, key, earlier, more, hints))
        if more:
            self._counts[cls] = self._counts.get(cls, 0) + 1
        written[key] = record

    def delete(self, cls: type, *key: Any) -> None:
        """Delete the record of a class with a key; raises `StateError` if there is none."""
        self.need(cls, *key)
        written = self._written.setdefault(cls, {})
        self._log.append((cls, key, written.get(key, _ABSENT), -1, []))
        self._counts[cls] = self._counts.get(cls, 0) - 1
        written[key] = None

    def mark(self) -> int:
        """Return a mark to which `undo` can go back until the next one is made; 0 is the draft's beginning."""
        self._log.clear()
        self._mark += 1
        return self._mark

    def undo(self, mark: int) -> None:
        """Take back everything that was written since the last mark."""
        if mark != self._mark:
            raise StateError(f"no mark {mark} to go back to: the draft's last one is {self._mark}")
        while self._log:
            cls, key, before, more, hints = self._log.pop()
            if more:
                self._counts[cls] -= more
            for field, value in hints:
                buckets = self._hints[cls, field]
                del buckets[value][key]
                if not buckets[value]:
                    del buckets[value]
            if before is _ABSENT:
                del self._written[cls][key]
            else:
                self._written[cls][key] = before

    def follow(self, folded: State) -> None:
        """Go on upon what `fold` returned for the state that these are changes to: the same records."""
        self._state = folded

    def finish(self) -> State:
        """Return the state with these changes; raises `Malformed` if a record's field is not of its declared type."""
        state = self._state
        touched = {cls: dict(entries) for cls, entries in state._touched.items()}
        counts = dict(state._counts)
        changes = dict(state._changes)
        leaves: dict[int, bytes] = {}
        vacant = _Vacant(state._base.free, state._taken, state._vacated)
        size = state.slots
        fresh: list[tuple[str, tuple, Any]] = []

        def fill(slot: int, kind: str, key: tuple, record: Any) -> None:
            data = encode_record(record)
            leaves[slot] = merkle.leaf_hash(data)
            changes[slot] = Change(slot, kind, key, data)
            touched.setdefault(type(record), {})[key] = record, slot

        for kind in sorted(layout(cls).kind for cls in self._written):
            cls = LAYOUTS[kind].cls
            for key in sorted(self._written[cls]):
                record = self._written[cls][key]
                before, slot = state._find(cls, key)
                if before == record:
                    continue
                if before is None:
                    fresh.append((kind, key, record))
                elif record is not None:
                    fill(slot, kind, key, record)
                else:
                    leaves[slot] = _VACANT
                    changes[slot] = Change(slot, kind, key, None)
                    touched.setdefault(cls, {})[key] = None, -1
                    vacant.add(slot)
            counts[cls] = self.count(cls)
        for kind, key, record in fresh:
            slot = vacant.take()
            if slot is None:
                slot, size = size, size + 1
            fill(slot, kind, key, record)
        view = state._view.replace(leaves, size)
        vacated = tuple(sorted(vacant.added))
        return State(state._base, view, touched, counts, changes, vacant.taken, vacated, self.height, self.time)


class _Vacant:
    """The vacant slots: those of the base from the cursor `taken` on, and the heap `added` of later ones."""

    def __init__(self, free: list[int], taken: int, added: Iterable[int]):
        self.free = free
        self.taken = taken
        self.added = list(added)

    def add(self, slot: int) -> None:
        heappush(self.added, slot)

    def take(self) -> int | None:
        """Return the smallest vacant slot, which is vacant no more, or None if there is none."""
        if self.taken < len(self.free) and (not self.added or self.free[self.taken] < self.added[0]):
            self.taken += 1
            return self.free[self.taken - 1]
        return heappop(self.added) if self.added else None


def _folded(base: SlotStore, height: int, time: int) -> State:
    return State(base, base.tree.view(), {}, {}, {}, 0, (), height, time)


def _present(found: R | None, cls: type, key: tuple) -> R:
    if found is None:
        raise StateError(f"there is no {layout(cls).kind} {', '.join(map(str, key))}".rstrip())
    return found


def _matching(source: State | Draft, cls: type[R], field: str, value: Any, keys: Collection[tuple]) -> list[R]:
    found = [source.get(cls, *key) for key in sorted(keys)] if keys else []
    return [record for record in found if record is not None and getattr(record, field) == value]
