"""Who holds which classes: dealing examples to clients, and keeping some classes of each client."""

from dataclasses import replace

import jax
import numpy as np

from fedmeta import random
from fedmeta.data.columns import Taken
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.splits import of_rows
from fedmeta.errors import UsageError


def assign_classes(num_clients: int, num_classes: int, classes_per_client: int, seed: int = 0) -> np.ndarray:
    """Return which classes each client holds, as booleans of shape [num_clients, num_classes].

    Every client holds exactly `classes_per_client` classes, and the numbers of clients that hold any two
    classes differ by at most one.

    Raises:
        UsageError: `classes_per_client` is not in 1..num_classes, or there is no client.
    """
    _check_count(classes_per_client, num_classes)
    if num_clients < 1:
        raise UsageError(f"the number of clients must be at least 1, not {num_clients}")
    return _choose(np.ones((num_clients, num_classes), bool), classes_per_client, seed)


def deal(y: np.ndarray, num_clients: int, classes_per_client: int, seed: int = 0) -> list[np.ndarray]:
    """Deal examples to clients that each hold `classes_per_client` classes, every example once.

    Args:
        y: labels 0, 1, ..., shape [examples]; there are max + 1 classes.
        num_clients: the number of clients.
        classes_per_client: how many classes each client holds.
        seed: the same seed gives the same assignment.

    Returns:
        For each client its rows in increasing order. A class's examples are divided evenly among its clients;
        with classes of equal size the clients' sizes differ by at most a few examples.

    Raises:
        UsageError: `classes_per_client` is out of range, the clients cannot hold all classes, or there are
            more clients than examples.
    """
    y = np.asarray(y)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or (len(y) and y.min() < 0):
        raise UsageError(f"dealing needs labels 0, 1, ... of shape [examples], not {y.dtype} of shape {y.shape}")
    if not 1 <= num_clients <= len(y):
        raise UsageError(f"{len(y)} examples cannot be dealt to {num_clients} clients")
    num_classes = int(y.max()) + 1
    _check_count(classes_per_client, num_classes)
    if num_clients * classes_per_client < num_classes:
        raise UsageError(
            f"{num_clients} clients with {classes_per_client} classes each cannot hold {num_classes} classes"
        )
    holds = assign_classes(num_clients, num_classes, classes_per_client, seed)
    draw = random.generator(seed, "deal examples")
    sizes = np.zeros(num_clients, int)
    parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in range(num_classes):
        rows = draw.permutation(np.flatnonzero(y == label))
        holders = draw.permutation(np.flatnonzero(holds[:, label]))
        holders = holders[np.argsort(sizes[holders], kind="stable")]
        for holder, share in zip(holders, np.array_split(rows, len(holders)), strict=True):
            parts[holder].append(share)
            sizes[holder] += len(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def keep_classes(data: FederatedDataset, classes_per_client: int, seed: int = 0) -> FederatedDataset:
    """Return the data set in which each client keeps the examples of only some of its classes.

    A client's classes are chosen from those that it has, first those that the fewest clients keep so far, so that all
    classes stay about equally common; a client with no more than `classes_per_client` classes keeps them all.
    Inputs are read only when they are used.

    Args:
        data: a data set with classes, its targets of shape [examples].
        classes_per_client: how many classes a client keeps.
        seed: the same seed gives the same choice.

    Raises:
        UsageError: the data have no classes, or `classes_per_client` is not in 1..num_classes.
    """
    if data.num_classes is None or len(data.y.shape) != 1:
        raise UsageError(f"{data!r} has no classes to choose from")
    _check_count(classes_per_client, data.num_classes)
    labels = [
        np.asarray(data.y[slice(int(start), int(start) + int(size))])
        for start, size in zip(data.starts, data.sizes, strict=True)
    ]
    holds = np.zeros((data.num_clients, data.num_classes), bool)
    for client, held in enumerate(labels):
        holds[client, held] = True
    kept = _choose(holds, classes_per_client, seed)
    rows = [
        int(start) + np.flatnonzero(kept[client, held])
        for client, (start, held) in enumerate(zip(data.starts, labels, strict=True))
    ]
    sizes = np.array([len(part) for part in rows], np.int64)
    taken = np.concatenate([np.zeros(0, np.int64), *rows])
    x, y = jax.tree.map(lambda column: Taken(column, taken), (data.x, data.y))
    split = of_rows(data.split, taken)
    return replace(data, x=x, y=y, starts=np.cumsum(sizes) - sizes, sizes=sizes, split=split)


def _choose(allowed: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose up to `count` allowed classes for each client, the least chosen so far first."""
    num_clients, num_classes = allowed.shape
    draw = random.generator(seed, "classes of a client")
    chosen = np.zeros_like(allowed)
    times = np.zeros(num_classes, int)
    for client in draw.permutation(num_clients):
        order = draw.permutation(num_classes)
        order = order[allowed[client, order]]
        classes = order[np.argsort(times[order], kind="stable")][:count]
        chosen[client, classes] = True
        times[classes] += 1
    return chosen


def _check_count(classes_per_client: int, num_classes: int) -> None:
    if not 1 <= classes_per_client <= num_classes:
        raise UsageError(f"classes per client must lie in 1..{num_classes}, not {classes_per_client}")
