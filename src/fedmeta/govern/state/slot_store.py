"""The store that the states of one ledger share: every record at its slot, the indexes, and the Merkle tree."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from fedmeta.govern.errors import StateError
from fedmeta.govern.wire.layout import layout
from fedmeta.govern.wire.merkle import Tree


class SlotStore:
    """Records by slot, with the ways to find them; `version` counts the folds."""

    __slots__ = ("_order", "_stale", "at", "entries", "free", "index", "tree", "version")

    def __init__(self):
        self.version = 0
        self.entries: list[Any] = []
        """The record of each slot, None where it is vacant."""
        self.at: dict[type, dict[tuple, int]] = {}
        """The slot of each key of a class."""
        self.index: dict[tuple[type, str], dict[Any, dict[tuple, None]]] = {}
        """The keys of the records of a class that have a value in an index field."""
        self.free: list[int] = []
        """The vacant slots, ascending."""
        self.tree = Tree()
        self._order: dict[type, list[tuple]] = {}
        self._stale: dict[type, dict[tuple, None]] = {}

    def fill(self, records: Iterable[Any]) -> None:
        """Put the record of each slot, None for a vacant one, into an empty base.

        Raises `StateError` for a key that comes twice.
        """
        for slot, record in enumerate(records):
            self.entries.append(record)
            if record is None:
                self.free.append(slot)
                continue
            due = layout(type(record))
            key = due.key_of(record)
            keys = self.at.setdefault(due.cls, {})
            if key in keys:
                raise StateError(f"{due.kind} {key} comes twice")
            keys[key] = slot
            self._link(due.cls, due.index, key, record)

    def merge(self, touched: Mapping[type, Mapping[tuple, tuple[Any, int]]], slots: int) -> None:
        """Write the record and the slot of each key, (None, -1) for one that is gone; there are so many slots then."""
        for cls, changed in touched.items():
            fields = layout(cls).index
            keys = self.at.setdefault(cls, {})
            for key, (record, slot) in changed.items():
                was = keys.get(key)
                if was is not None:
                    before, self.entries[was] = self.entries[was], None
                    self._unlink(cls, fields, key, before, record)
                if record is None:
                    keys.pop(key, None)
                else:
                    keys[key] = slot
                    self._link(cls, fields, key, record)
                if (was is None) != (record is None):
                    self._age(cls, key)
        # The last slots may have been taken and left since the fold.
        self.entries.extend([None] * (slots - len(self.entries)))
        for changed in touched.values():
            for record, slot in changed.values():
                if record is not None:
                    self.entries[slot] = record

    def keys(self, cls: type) -> list[tuple]:
        """Return the keys of a class, ascending; the caller must not change the list."""
        at = self.at.get(cls, {})
        order = self._order.get(cls)
        if order is None:
            order = sorted(at)
        elif stale := self._stale.get(cls):
            came = sorted(key for key in stale if key in at)
            order = merged([key for key in order if key not in stale], came)
        self._order[cls] = order
        self._stale[cls] = {}
        return order

    def _link(self, cls: type, fields: tuple[str, ...], key: tuple, record: Any) -> None:
        for field in fields:
            buckets = self.index.setdefault((cls, field), {})
            value = getattr(record, field)
            bucket = buckets.get(value)
            if bucket is None:
                buckets[value] = {key: None}
            elif key not in bucket:
                bucket[key] = None

    def _unlink(self, cls: type, fields: tuple[str, ...], key: tuple, before: Any, after: Any) -> None:
        for field in fields:
            value = getattr(before, field)
            if after is None or getattr(after, field) != value:
                buckets = self.index[cls, field]
                del buckets[value][key]
                if not buckets[value]:
                    del buckets[value]

    def _age(self, cls: type, key: tuple) -> None:
        """Note that a key has come or gone since the keys were last put in order."""
        order = self._order.get(cls)
        if order is not None:
            stale = self._stale[cls]
            stale[key] = None
            if len(stale) > 1000 + len(order) // 4:
                del self._order[cls], self._stale[cls]


def merged(order: list[tuple], came: list[tuple]) -> list[tuple]:
    """Return two ascending lists of keys as one; no key is in both."""
    if not came:
        return order
    whole, start = [], 0
    for key in came:
        at = bisect_left(order, key, start)
        whole += order[start:at]
        whole.append(key)
        start = at
    whole += order[start:]
    return whole
