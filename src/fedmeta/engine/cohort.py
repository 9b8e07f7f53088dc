"""A cohort on its way into a program: clients' tasks padded to one shape and stacked."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedmeta import random
from fedmeta.task import Task, pad


class Cohort(NamedTuple):
    """Tasks of several clients as one: every array [clients, ...], and two words of a JAX key for each client."""

    tasks: Task
    keys: np.ndarray


def pack(tasks: Sequence[Task], lengths: tuple[int, int], keys: Sequence[np.ndarray]) -> Cohort:
    """Pad the tasks' support and query sets to these lengths and stack them; shape [clients, length, ...]."""
    padded = [Task(pad(task.support, lengths[0]), pad(task.query, lengths[1])) for task in tasks]
    return Cohort(jax.tree.map(lambda *parts: np.stack(parts), *padded), np.stack(keys))


def client_key(seed: int, purpose: str, round: int, client_id: str) -> np.ndarray:
    """Return the key words from which a client draws its batches; they depend on nothing else."""
    return random.key_data(seed, purpose, round, client_id)
