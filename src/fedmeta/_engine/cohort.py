"""A cohort as a program takes it: clients' tasks padded to one shape and stacked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedmeta import random
from fedmeta.data import columns
from fedmeta.data.dataset import FederatedDataset
from fedmeta.task import Batch, Task


class Cohort(NamedTuple):
    """Tasks of several clients as one: every array [clients, ...].

    `keys` holds two words of a JAX key for each client. `present` is 1.0 for a client, and 0.0 for a filler that
    brings the cohort to its size.
    """

    tasks: Task
    keys: Any
    present: Any


def read(
    data: FederatedDataset,
    places: Sequence[int],
    lengths: tuple[int, int],
    keys: Sequence[np.ndarray],
    *,
    filled: int,
    **split: Any,
) -> Cohort:
    """Read the tasks of the clients at these positions into a cohort of `filled` clients.

    Padding repeats a client's own first example, with a mask of 0.0; the first client is repeated, with `present` 0.0,
    until there are `filled`.

    Args:
        data: the clients' data set.
        places: the clients' positions in it.
        lengths: of support and query, as padded.
        keys: two words of a JAX key for each client.
        filled: the size of the cohort, fillers included.
        split: passed to `data.split_at`.
    """
    repeated = np.zeros(filled, np.int64)
    repeated[: len(places)] = np.arange(len(places))
    split_rows = [data.split_at(int(place), **split) for place in places]
    batches = []
    for side, length in enumerate(lengths):
        own = [rows[side] for rows in split_rows]
        sizes = np.array([len(rows) for rows in own])
        first = np.cumsum(sizes) - sizes
        counts = np.arange(length) < sizes[:, None]
        rows = np.concatenate(own)[first[:, None] + np.where(counts, np.arange(length), 0)][repeated]
        x, y = columns.read((data.x, data.y), rows.reshape(-1))
        batches.append(_stacked(x, y, counts[repeated].astype(np.float32)))
    present = np.zeros(filled, np.float32)
    present[: len(places)] = 1.0
    return Cohort(Task(batches[0], batches[1]), np.stack(keys)[repeated], present)


def _stacked(x: Any, y: np.ndarray, mask: np.ndarray) -> Batch:
    """Return several clients' examples, end to end, as one batch: every array [clients, examples, ...]."""
    x, y = jax.tree.map(lambda part: part.reshape(*mask.shape, *part.shape[1:]), (x, y))
    return Batch.tree_unflatten(None, (x, y, mask))


def client_key(seed: int, purpose: str, round: int, client_id: str) -> np.ndarray:
    """Return the key words from which a client draws its batches; they depend on nothing else."""
    return random.key_data(seed, purpose, round, client_id)
