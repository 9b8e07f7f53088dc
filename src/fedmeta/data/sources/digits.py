"""Digits: the data set of scikit-learn, so nothing has to be fetched."""

from dataclasses import replace
from typing import Any

import numpy as np

from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.partition import deal


def load(num_clients: int = 60, classes_per_client: int = 3, seed: int = 0) -> FederatedDataset:
    """Return 1,797 digits, spread over clients with a few classes each.

    Args:
        num_clients: the number of clients.
        classes_per_client: how many of the ten classes each client holds.
        seed: the same seed gives the same assignment.

    Returns:
        x is float32 in 0..1 of shape [1797, 64].

    Raises:
        UsageError: the numbers of clients or classes are out of range.
    """
    from sklearn.datasets import load_digits

    # Its types depend on whether pandas is installed.
    loaded: Any = load_digits(return_X_y=True)
    images, labels = loaded
    rows = deal(labels, num_clients, classes_per_client, seed)
    order = np.concatenate(rows)
    width = len(str(num_clients - 1))
    clients = np.repeat([f"client-{place:0{width}}" for place in range(num_clients)], [len(part) for part in rows])
    data = from_arrays(images[order] / 16, labels[order], clients, name="digits")
    return replace(
        data,
        info=replace(
            data.info,
            description="handwritten digits, 8x8 pixels",
            source="UCI's Optical Recognition of Handwritten Digits; BSD",
        ),
    )
