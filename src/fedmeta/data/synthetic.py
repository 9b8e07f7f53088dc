"""Synthetic(alpha, beta): any number of clients, whose inputs and whose labelling both differ.

Li et al. (2020), "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127, section 5.1.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np

from fedmeta import random
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.storage import Block, write_blocks
from fedmeta.errors import UsageError

TOGETHER = 256
"""How many clients are drawn together; another number would draw other clients."""

LARGEST = 5
"""The size of the largest client, as a multiple of the mean."""


def write(
    folder: str | os.PathLike[str],
    num_clients: int,
    *,
    features: int = 60,
    classes: int = 10,
    examples: int = 20,
    alpha: float = 1.0,
    beta: float = 1.0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> FederatedDataset:
    """Store synthetic clients as a new folder, holding a few hundred at a time, and open it.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        num_clients: how many clients.
        features: see `blocks`.
        classes: see `blocks`.
        examples: see `blocks`.
        alpha: see `blocks`.
        beta: see `blocks`.
        seed: see `blocks`.
        progress: called with the number of clients stored so far.

    Raises:
        UsageError: the folder exists, or a number is out of range.
    """
    drawn = blocks(
        num_clients, features=features, classes=classes, examples=examples, alpha=alpha, beta=beta, seed=seed
    )

    def told() -> Iterator[Block]:
        done = 0
        for block in drawn:
            yield block
            done += len(block.ids)
            progress(done)

    return write_blocks(folder, told(), describe(classes, alpha, beta))


def blocks(
    num_clients: int,
    *,
    features: int = 60,
    classes: int = 10,
    examples: int = 20,
    alpha: float = 1.0,
    beta: float = 1.0,
    seed: int = 0,
) -> Iterator[Block]:
    """Draw the clients "0", "1", ..., 256 at a time.

    Client k has u_k ~ N(0, alpha) and B_k ~ N(0, beta), weights W_k and b_k ~ N(u_k, 1) and a centre
    v_k ~ N(B_k, 1) in every feature. Its inputs are x ~ N(v_k, Sigma), Sigma diagonal with the variance j^-1.2
    of the feature j = 1, 2, ...; its labels are y = argmax(softmax(W_k x + b_k)). As in the authors' program
    alpha and beta are standard deviations, and u_k shifts the scores of all classes alike: the labels do not
    depend on alpha.

    A client has m/2 (1 + e^(z - 1/2)) examples, z ~ N(0, 1), rounded and at most 5 m, where m is `examples`:
    between half the mean and five times the mean, with the long tail of the paper's sizes but with a bound.

    A client's examples depend on its number, on the seed and on the other arguments, but not on
    `num_clients`: a larger data set begins with the same clients as a smaller one.

    Args:
        num_clients: how many clients, at least 1.
        features: how many features, at least 1.
        classes: how many classes, at least 2.
        examples: a client's examples in the mean, at least 4.
        alpha: how much the clients' weights differ in their mean.
        beta: how much the clients' inputs differ in their mean.
        seed: the same seed gives the same clients.

    Returns:
        Blocks with x float32 of shape [examples, features] and y int32.

    Raises:
        UsageError: a number is out of range.
    """
    for name, value, least in (
        ("num_clients", num_clients, 1),
        ("features", features, 1),
        ("classes", classes, 2),
        ("examples", examples, 4),
        ("alpha", alpha, 0),
        ("beta", beta, 0),
    ):
        if not least <= value < np.inf:
            raise UsageError(f"{name} must be a number of at least {least}, not {value}")

    def block(first: int) -> Block:
        draw = random.generator(seed, "synthetic clients", first // TOGETHER)
        sizes = _sizes(draw, examples)
        x, y = _examples(draw, sizes, features, classes, alpha, beta)
        kept = min(TOGETHER, num_clients - first)
        rows = int(sizes[:kept].sum())
        return Block([str(client) for client in range(first, first + kept)], x[:rows], y[:rows], sizes[:kept])

    return (block(first) for first in range(0, num_clients, TOGETHER))


def describe(classes: int, alpha: float, beta: float) -> Info:
    """Return what a data set of such clients is."""
    return Info(
        name="synthetic",
        description=f"Synthetic({alpha:g}, {beta:g}): Gaussian inputs, labels by a linear model of each client's own",
        source="drawn by fedmeta after Li et al. (2020), arXiv:1812.06127",
        classes=tuple(str(label) for label in range(classes)),
    )


def _sizes(draw: np.random.Generator, examples: int) -> np.ndarray:
    tail = np.exp(draw.standard_normal(TOGETHER) - 0.5)
    return np.rint(np.minimum(examples / 2 * (1 + tail), LARGEST * examples)).astype(np.int64)


def _examples(
    draw: np.random.Generator, sizes: np.ndarray, features: int, classes: int, alpha: float, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the examples of clients of these sizes, end to end."""

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape, np.float32)

    shift, centre = np.float32(alpha) * normal(len(sizes), 1, 1), np.float32(beta) * normal(len(sizes), 1)
    weights, bias = normal(len(sizes), features, classes) + shift, normal(len(sizes), 1, classes) + shift
    centres = normal(len(sizes), features) + centre
    x = normal(int(sizes.sum()), features)
    x *= np.arange(1, features + 1, dtype=np.float32) ** np.float32(-0.6)
    x += np.repeat(centres, sizes, axis=0)
    scores = np.repeat(bias[:, 0], sizes, axis=0)
    end = 0
    for client, size in enumerate(sizes.tolist()):
        begin, end = end, end + size
        scores[begin:end] += x[begin:end] @ weights[client]
    return x, scores.argmax(axis=1).astype(np.int32)
