"""Clients with support sets of a given number of examples, and the query set that they have with a fraction."""

import jax
import numpy as np

from fedmeta import random
from fedmeta.data import AtRandom, FederatedDataset, InTime
from fedmeta.data.columns import Taken
from fedmeta.errors import UsageError


def with_support(
    data: FederatedDataset, count: int, support: float, seed: int, max_examples: int | None = None
) -> FederatedDataset:
    """Return the data set whose clients adapt on so many examples each, and are tested on those that they had before.

    So one model is tested at several sizes of support on the same questions. A larger support set holds all of a
    smaller one. Its examples are drawn at random: from the side of support, of data in time order or by group, and else
    from all that is no query.

    Args:
        data: the clients.
        count: examples of each client's support set.
        support: the fraction that settles the query sets.
        seed: of the split, and of the draw.
        max_examples: as in `fm.evaluate`.

    Raises:
        UsageError: a client has fewer examples that can be support, or the data were made for one fraction only.
    """
    if isinstance(data.split, InTime) and data.split.support is not None:
        raise UsageError(
            f"{data!r} has candidates from the first {data.split.support:g} of each client's examples, so that the "
            "size of the support set is settled"
        )
    rows, sizes, few = [], [], {}
    for place in range(data.num_clients):
        near, query = data.split_at(place, support, seed, max_examples=max_examples)
        near = _possible(data, place, near, query, support, seed)
        if len(near) < count:
            few[str(data.ids[place])] = len(near)
            continue
        draw = random.generator(seed, "support of a count", 0, str(data.ids[place]))
        rows += [np.sort(draw.permutation(near)[:count]), query]
        sizes.append(count + len(query))
    if few:
        name, there = min(few.items(), key=lambda one: one[1])
        raise UsageError(
            f"{len(few)} of {data.num_clients} clients have fewer than {count} examples that can be support; client "
            f"{name!r} has {there}: take a smaller support, or leave out small clients"
        )
    taken, lengths = np.concatenate(rows), np.array(sizes)
    return FederatedDataset(
        jax.tree.map(lambda column: Taken(column, taken), data.x),
        Taken(data.y, taken),
        np.cumsum(lengths) - lengths,
        lengths,
        data.ids,
        data.info,
        InTime(count=count),
    )


def _possible(
    data: FederatedDataset, place: int, near: np.ndarray, query: np.ndarray, support: float, seed: int
) -> np.ndarray:
    """Return the rows that can be a client's support: its side of them, or all that is no query."""
    if isinstance(data.split, AtRandom):
        start = int(data.starts[place])
        return np.setdiff1d(np.arange(start, start + int(data.sizes[place])), query)
    if isinstance(data.split, InTime):
        return data.split_at(place, support, seed)[0]
    return near
