"""Few shapes for clients of many sizes, so that few programs are compiled."""

import numpy as np
from jaxtyping import Int

from fedmeta.data.splits import Split, support_size


class PaddingBuckets:
    """The sizes to which clients' support and query sets are padded.

    As few buckets as possible, at most `limit`, so that padding adds no more than the share `slack` of the examples;
    for that number of buckets, those with the least padding.

    Args:
        sizes: the number of examples of each client, shape [clients], at least 2 each.
        support: the fraction of them that is support.
        limit: how many buckets there may be.
        slack: the share of padding that is accepted before another bucket, and so another program, is compiled.
        split: of the data set, which may say a count of support examples.
    """

    def __init__(
        self,
        sizes: Int[np.ndarray, " clients"],
        support: float,
        limit: int = 4,
        slack: float = 0.15,
        split: Split | None = None,
    ):
        self.sizes = _bucket_sizes(sizes, limit, slack)
        self.support, self.split = support, split

    def bucket(self, examples: int) -> int:
        """Return the size of the smallest bucket that holds a client with so many examples."""
        return int(self.sizes[np.searchsorted(self.sizes, examples)])

    def lengths(self, examples: int) -> tuple[int, int]:
        """Return how many support and query examples a client of this size has; for a bucket, the padded lengths."""
        support = support_size(examples, self.support, self.split)
        return support, examples - support

    def padding(self, sizes: Int[np.ndarray, " clients"]) -> float:
        """Return the share of padding among the examples of these clients, each padded to its own bucket."""
        return float(1 - sizes.sum() / self.sizes[np.searchsorted(self.sizes, sizes)].sum())


def _bucket_sizes(sizes: np.ndarray, limit: int, slack: float) -> np.ndarray:
    """Choose the sizes by dynamic programming over at most 64 candidate sizes."""
    values, counts = np.unique(sizes, return_counts=True)
    if len(values) > 64:
        ends = np.unique(
            np.searchsorted(np.cumsum(counts), np.linspace(0, 1, 65)[1:] * counts.sum()).clip(0, len(values) - 1)
        )
        ends = np.unique(np.append(ends, len(values) - 1))
        counts = np.add.reduceat(counts, np.concatenate([[0], ends[:-1] + 1]))
        values = values[ends]
    below = np.concatenate([[0], np.cumsum(counts)])
    enough = (1 + slack) * sizes.sum()
    # cost[j]: examples, padding included, when clients up to candidate j lie in the buckets so far.
    cost = values * below[1:]
    choice: list[np.ndarray] = []
    while cost[-1] > enough and len(choice) < min(limit, len(values)) - 1:
        clients = below[1:][:, None] - below[None, :-1]
        options = np.concatenate([[0], cost[:-1]])[None, :] + clients * values[:, None]
        options = np.where(clients > 0, options, np.iinfo(np.int64).max)
        choice.append(np.argmin(options, axis=1))
        cost = options[np.arange(len(values)), choice[-1]]
    chosen, last = [], len(values) - 1
    for first in reversed(choice):
        chosen.append(values[last])
        last = first[last] - 1
        if last < 0:
            break
    else:
        chosen.append(values[last])
    return np.unique(chosen)
