"""What a model becomes without more training: masked to a client's classes, with a prior from them, or kNN-Per.

Without these, a comparison on clients that hold few of the classes would measure knowledge of their labels only.
"""

import fnmatch
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from fedmeta.data import FederatedDataset, columns
from fedmeta.errors import UsageError
from fedmeta.evaluation.scores import Report
from fedmeta.model import Model
from fedmeta.study.answers import NEVER, Client, Sides, answered, shares

CHUNK = 256
"""Rows that are computed at once."""


def masked(model: Model, params: Any, test: FederatedDataset, sides: Sides | None = None) -> Report:
    """Return the report of a model, before and after classes that are not in a client's support set are left out.

    Args:
        model: gives a logit of each class.
        params: such as FedAvg's `run.phi`.
        test: the clients that are tested.
        sides: how they are split.

    Raises:
        UsageError: the data set has no classes.
    """
    logits = _outputs(model.predict, params, test)

    def answer(client: Client) -> np.ndarray:
        held = np.bincount(client.y, minlength=test.num_classes or 0) > 0
        given = special.log_softmax(logits[client.query], axis=1)
        return np.where(held, np.maximum(given, NEVER), 2 * NEVER)

    return answered(test, sides or Sides(), answer, lambda client: logits[client.query])


def with_prior(
    model: Model,
    params: Any,
    test: FederatedDataset,
    train: FederatedDataset,
    sides: Sides | None = None,
    *,
    prior: float = 1.0,
) -> Report:
    """Return the report of a model, before and after its shares are those of a client's own classes.

    What the model gives a class is multiplied by the class's share in the client's support set and divided by that
    among the training clients (Saerens, Latinne and Decaestecker 2002, doi 10.1162/089976602753284446, eq. 2.4).

    Args:
        model: gives a logit of each class.
        params: such as FedAvg's `run.phi`.
        test: the clients that are tested.
        train: those that the model was trained on.
        sides: how clients are split.
        prior: how many examples the training clients' shares count as beside the client's own.

    Raises:
        UsageError: the data set has no classes, or `prior` is below 0.
    """
    if not prior >= 0:
        raise UsageError(f"prior must be at least 0, not {prior}")
    logits = _outputs(model.predict, params, test)
    classes = test.num_classes or 0
    counts = np.bincount(columns.read(train.y, train.rows), minlength=classes) + 1 / max(classes, 1)
    overall = counts / counts.sum()

    def answer(client: Client) -> np.ndarray:
        own = np.bincount(client.y, minlength=classes) + prior * overall
        found = special.log_softmax(logits[client.query], axis=1) + shares(own) - np.log(overall)
        return np.maximum(special.log_softmax(found, axis=1), NEVER)

    return answered(test, sides or Sides(), answer, lambda client: logits[client.query])


def knn_per(
    model: Model,
    params: Any,
    test: FederatedDataset,
    sides: Sides | None = None,
    *,
    neighbours: int = 10,
    mix: float = 0.5,
    scale: float = 1.0,
    features: Callable[[Any, Any], Any] | None = None,
) -> Report:
    """Return the report of a model, before and after it is mixed with the nearest examples of a client's support set.

    kNN-Per (Marfoq et al. 2022, arXiv:2111.09360, eq. 6 to 8): the shares are `mix` times those of the classes of the
    nearest support examples, each weighing e^(-d / scale) with its distance d in the features, and 1 - `mix` times
    the model's.

    Args:
        model: gives a logit of each class.
        params: such as FedAvg's `run.phi`.
        test: the clients that are tested.
        sides: how they are split.
        neighbours: how many examples at most.
        mix: 0 is the model alone, 1 the neighbours alone; choose it on validation clients.
        scale: of the distances, in which it is chosen likewise.
        features: `features(params, x)`, shape [examples, numbers]; what goes into the network's head where it is not
            given.

    Raises:
        UsageError: a value is out of range, the data set has no classes, or the network's head is no dense layer.
    """
    if neighbours < 1 or not 0 <= mix <= 1 or not (scale > 0 and math.isfinite(scale)):
        raise UsageError(
            f"neighbours must be at least 1, mix from 0 to 1 and scale above 0, not {neighbours}, {mix} and {scale}"
        )
    logits = _outputs(model.predict, params, test)
    represent = into_head(model) if features is None else features
    points = _outputs(represent, params, test)

    def answer(client: Client) -> np.ndarray:
        here, there = points[client.query], points[client.support]
        square = (here**2).sum(axis=1)[:, None] + (there**2).sum(axis=1) - 2 * here @ there.T
        far = np.sqrt(np.maximum(square, 0))
        near = np.argsort(far, axis=1, kind="stable")[:, :neighbours]
        weight = special.softmax(-np.take_along_axis(far, near, axis=1) / scale, axis=1)
        found = np.zeros((len(here), test.num_classes or 0))
        np.add.at(found, (np.arange(len(here))[:, None], client.y[near]), weight)
        return shares(mix * found + (1 - mix) * special.softmax(logits[client.query], axis=1))

    return answered(test, sides or Sides(), answer, lambda client: logits[client.query])


@lru_cache(maxsize=8)
def into_head(model: Model) -> Callable[[Any, Any], Any]:
    """Return what gives the inputs of a network's head, its last dense layer; of a linear network the inputs.

    The layer is made to pass its inputs on: its weights become a unit matrix, its biases 0.

    Raises:
        UsageError: when called, the head is no dense layer.
    """

    def features(params: Any, x: Any) -> Any:
        named = jax.tree_util.tree_flatten_with_path(params)[0]
        paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in named]
        of = [path for path in paths if model.head is None or any(fnmatch.fnmatchcase(path, one) for one in model.head)]
        weights = [(path, leaf) for path, (_, leaf) in zip(paths, named, strict=True) if path in of and leaf.ndim == 2]
        biases = [path for path, (_, leaf) in zip(paths, named, strict=True) if path in of and leaf.ndim == 1]
        if len(weights) != 1 or len(biases) > 1 or len(of) != 1 + len(biases):
            raise UsageError(
                f"the head of the network is {', '.join(of) or 'not named'}, and no dense layer: give features=..., in "
                "which neighbours are near"
            )
        path, weight = weights[0]
        width = weight.shape[0]
        # One output more, for a network that answers candidates only replaces its last one.
        new = {path: jnp.eye(width, width + 1, dtype=weight.dtype)}
        new |= {name: jnp.zeros(width + 1, weight.dtype) for name in biases}
        leaves = [new.get(path, leaf) for path, (_, leaf) in zip(paths, named, strict=True)]
        return model.predict(jax.tree.unflatten(jax.tree.structure(params), leaves), x)[..., :width]

    return features


@lru_cache(maxsize=8)
def _compiled(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a compiled function, the same for the same one: one program serves all parameters of a network."""
    return jax.jit(compute)


def _outputs(outputs: Callable[[Any, Any], Any], params: Any, data: FederatedDataset) -> np.ndarray:
    """Return a network's outputs for every row of the clients, float64 of shape [rows, outputs]; other rows are NaN."""
    rows = data.rows
    compute = _compiled(outputs)
    found: np.ndarray | None = None
    for first in range(0, len(rows), CHUNK):
        some = rows[first : first + CHUNK]
        # The last ones again, so that one program does.
        padded = np.concatenate([some, np.repeat(some[-1:], min(CHUNK, len(rows)) - len(some))])
        given = np.asarray(compute(params, columns.read(data.x, padded)), np.float64)[: len(some)]
        if found is None:
            found = np.full((int(rows.max()) + 1, *given.shape[1:]), np.nan)
        found[some] = given
    if found is None or found.ndim != 2:
        raise UsageError(f"the model gives no logits of shape [examples, classes] for {data!r}")
    return found
