"""A client's next item from the ones before it: among all items, or among the client's own candidates.

The question of recommendation, as in arXiv:1802.07876, section 4.2: a classifier over all items that is the same for
everybody, or a small one whose classes are each client's own items.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedmeta._settings import whole_number
from fedmeta.data.columns import OneHots, read
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.splits import InTime, support_size
from fedmeta.errors import UsageError

OTHER = "another"
"""The name of the class of items that are none of the classes; no answer can be it."""


def next_items(
    items: np.ndarray,
    sizes: np.ndarray,
    ids: Sequence[str],
    info: Info,
    *,
    history: int = 1,
    context: np.ndarray | None = None,
) -> FederatedDataset:
    """Return a data set of each client's next item, split in time.

    Args:
        items: integers of shape [examples], numbers of classes, client by client and in time order.
        sizes: how many items each client has, shape [clients].
        ids: the clients' names.
        info: what the data set is; its classes are the items. With `misses` the last one stands for all others.
        history: how many items before it are inputs.
        context: further inputs, float32 of shape [examples, numbers].

    Returns:
        x holds, for each of the `history` items before, the last one first, a 1 at its number (all 0 where there is
        none), and then the context; y is the item.

    Raises:
        UsageError: `history` is below 1.
    """
    if whole_number("history", history) < 1:
        raise UsageError(f"history must be at least 1, not {history}")
    sizes = np.asarray(sizes, np.int64)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(items)) - np.repeat(starts, sizes)
    before = np.full((len(items), history), -1, np.int32)
    for back in range(1, history + 1):
        known = np.flatnonzero(place >= back)
        before[known, back - 1] = items[known - back]
    x = OneHots(before, len(info.classes or ()), context)
    return FederatedDataset(x, np.asarray(items, np.int32), starts, sizes, np.array(ids), info, InTime())


def candidates(data: FederatedDataset, count: int = 40, support: float = 0.2) -> FederatedDataset:
    """Return the data set in which a client's classes are its own commonest items: its candidates.

    They come from the client's support set only, the first `support` of its examples; the commonest is class 0, and of
    equally common ones that with the lower number comes first. Any other item is the last class, "another", which no
    answer can be: a miss. The items among the inputs are numbered likewise.

    Args:
        data: as `next_items` gives it.
        count: at most so many candidates.
        support: the fraction of a client's examples that is its support; the data set can be split by no other.

    Raises:
        UsageError: the data set is of another kind or split otherwise, or a value is out of range.
    """
    if not isinstance(data.x, OneHots) or not isinstance(data.split, InTime) or data.split.support is not None:
        raise UsageError(f"{data!r} has no items in time order of which candidates could be taken")
    if whole_number("candidates", count) < 1:
        raise UsageError(f"candidates must be at least 1, not {count}")
    split = InTime(data.split.gap, support)
    y, before = np.array(read(data.y, slice(None))), np.array(data.x.codes)
    for start, size in zip(data.starts.tolist(), data.sizes.tolist(), strict=True):
        if size - split.gap < 2:
            continue
        own = slice(start, start + size)
        place = np.full(data.x.size + 1, count, np.int32)
        place[-1] = -1
        chosen = _commonest(y[start : start + support_size(size - split.gap, support)], data, count)
        place[chosen] = np.arange(len(chosen))
        y[own], before[own] = place[y[own]], place[before[own]]
    classes = (*(f"candidate {number}" for number in range(1, count + 1)), OTHER)
    said = f"{data.info.description}, among the {count} commonest of the client's first {support:g}"
    return replace(
        data,
        x=OneHots(before, count + 1, data.x.rest),
        y=y,
        info=replace(data.info, classes=classes, misses=True, features=None, description=said),
        split=split,
    )


def _commonest(items: np.ndarray, data: FederatedDataset, count: int) -> np.ndarray:
    held, times = np.unique(items, return_counts=True)
    if data.info.misses:
        known = held != (data.num_classes or 0) - 1
        held, times = held[known], times[known]
    return held[np.argsort(-times, kind="stable")][:count]
