"""A small synthetic data set in memory; `fedmeta data synthetic` stores large ones."""

import numpy as np

from fedmeta.data import synthetic
from fedmeta.data.dataset import FederatedDataset


def load(
    num_clients: int = 100,
    features: int = 60,
    classes: int = 10,
    examples: int = 20,
    alpha: float = 1.0,
    beta: float = 1.0,
    seed: int = 0,
) -> FederatedDataset:
    """Return Synthetic(alpha, beta) in memory; `fedmeta.data.synthetic` says how it is drawn.

    Args:
        num_clients: the number of clients.
        features: the number of features.
        classes: the number of classes.
        examples: a client's examples in the mean.
        alpha: how much the clients' weights differ in their mean.
        beta: how much the clients' inputs differ in their mean.
        seed: the same seed gives the same clients, however many there are.

    Returns:
        x is float32 of shape [examples, features].

    Raises:
        UsageError: a number is out of range.
    """
    drawn = synthetic.blocks(
        num_clients, features=features, classes=classes, examples=examples, alpha=alpha, beta=beta, seed=seed
    )
    ids, x, y, sizes = zip(*drawn, strict=True)
    lengths = np.concatenate(sizes)
    names = np.array([name for block in ids for name in block])
    info = synthetic.describe(classes, alpha, beta)
    return FederatedDataset(np.concatenate(x), np.concatenate(y), np.cumsum(lengths) - lengths, lengths, names, info)
