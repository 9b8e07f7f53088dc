"""A cohort on its way into a program: clients' tasks padded to one shape and stacked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedmeta import random
from fedmeta.data.dataset import FederatedDataset
from fedmeta.task import Batch, Task, pad


class Cohort(NamedTuple):
    """Tasks of several clients as one: every array [clients, ...].

    `keys` holds two words of a JAX key for each client. `present` is 1.0 for a client, and 0.0 for one that only
    fills the cohort up.
    """

    tasks: Task
    keys: np.ndarray
    present: np.ndarray


def pack(tasks: Sequence[Task], lengths: tuple[int, int], keys: Sequence[np.ndarray]) -> Cohort:
    """Pad the tasks' support and query sets to these lengths and stack them; shape [clients, length, ...]."""
    padded = [Task(pad(task.support, lengths[0]), pad(task.query, lengths[1])) for task in tasks]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *padded)
    return Cohort(stacked, np.stack(keys), np.ones(len(tasks), np.float32))


def read(
    data: FederatedDataset,
    places: Sequence[int],
    lengths: tuple[int, int],
    keys: Sequence[np.ndarray],
    *,
    filled: int,
    **split: Any,
) -> Cohort:
    """Read the tasks of the clients at these places into a cohort of `filled` clients.

    It holds what `pack` makes of the clients' tasks, but that the padding repeats a client's own first example, and
    that the first client is repeated, with `present` 0.0, until there are `filled`.

    Args:
        data: the clients' data set.
        places: the clients' places in it.
        lengths: of support and query, as padded.
        keys: two words of a JAX key for each client.
        filled: how many clients the cohort shall have.
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
        flat = rows.reshape(-1)
        x, y = (np.asarray(column[flat]).reshape(filled, length, *column.shape[1:]) for column in (data.x, data.y))
        batches.append(_stacked(x, y, counts[repeated].astype(np.float32)))
    present = np.zeros(filled, np.float32)
    present[: len(places)] = 1.0
    return Cohort(Task(batches[0], batches[1]), np.stack(keys)[repeated], present)


def _stacked(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> Batch:
    """Return several clients' batches as one: every array [clients, examples, ...]."""
    return Batch.tree_unflatten(None, (x, y, mask))


def client_key(seed: int, purpose: str, round: int, client_id: str) -> np.ndarray:
    """Return the key words from which a client draws its batches; they depend on nothing else."""
    return random.key_data(seed, purpose, round, client_id)
