"""Which clients can take part, how much they bring, and whether the model fits them."""

import math
import warnings
from typing import Any

import jax
import numpy as np

from fedmeta import losses
from fedmeta.algorithms.algorithm import Algorithm, Phi
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, UsageError
from fedmeta.model import Model


def usable_clients(data: FederatedDataset, max_examples: int | None) -> np.ndarray:
    """Return the places of the clients that have at least two examples; warn of those that do not.

    Raises:
        UsageError: `max_examples` is below two.
        DataError: no client has two.
    """
    if max_examples is not None and max_examples < 2:
        raise UsageError(f"max_examples must be at least 2, for support and query, not {max_examples}")
    usable = np.flatnonzero(data.sizes >= 2)
    if not len(usable):
        raise DataError(f"no client of {data!r} has two examples, one for support and one for query")
    if len(usable) < data.num_clients:
        left_out = data.num_clients - len(usable)
        warnings.warn(
            f"{left_out} of {data.num_clients} clients have fewer than 2 examples and are left out",
            stacklevel=3,
        )
    return usable


def drawn_sizes(data: FederatedDataset, max_examples: int | None) -> np.ndarray:
    """Return how many examples each client brings, shape [clients]."""
    return np.asarray(data.sizes if max_examples is None else np.minimum(data.sizes, max_examples))


def check_phi(algorithm: Algorithm, model: Model, phi: Phi) -> None:
    """Raise a UsageError unless phi is what this algorithm holds for this model."""
    expected = jax.eval_shape(lambda: algorithm.init(model, jax.random.key(0)))
    if jax.tree.structure(phi) != jax.tree.structure(expected):
        raise UsageError(f"phi is not what {algorithm.title} holds for this model: another algorithm or model made it")
    for found, right in zip(jax.tree.leaves(phi), jax.tree.leaves(expected), strict=True):
        if np.shape(found) != right.shape:
            raise UsageError(
                f"phi is of another model: an array has shape {np.shape(found)}, where {right.shape} is right"
            )


def check_fit(model: Model, data: FederatedDataset) -> None:
    """Raise a UsageError unless the model takes the data's inputs and predicts all of its classes."""
    x, _ = data.shapes(1)
    try:
        predictions = jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0)), x), x)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"the model cannot take inputs of {_said(x)}: {reason}") from error
    if model.loss is losses.squared_error and math.prod(predictions.shape) != math.prod(data.y.shape[1:]):
        raise UsageError(
            f"the model predicts numbers of shape {predictions.shape[1:]}, and the targets have {data.y.shape[1:]}"
        )
    if model.loss is losses.softmax_cross_entropy:
        if data.num_classes is None:
            raise UsageError("the targets are numbers, not classes: use fm.losses.squared_error, or give classes")
        if predictions.shape[-1] < data.num_classes:
            raise UsageError(
                f"the model predicts {predictions.shape[-1]} classes, and the data have {data.num_classes}"
            )
    _check_one_value_per_example(model, data, predictions)


def _said(x: Any) -> str:
    """Say of which shape and type one example's inputs are, each by its name where there are several."""
    parts = [
        f"{jax.tree_util.keystr(path)} shape {part.shape[1:]} and type {part.dtype}".strip()
        for path, part in jax.tree_util.tree_flatten_with_path(x)[0]
    ]
    return ", ".join(parts)


def _check_one_value_per_example(model: Model, data: FederatedDataset, predictions: jax.ShapeDtypeStruct) -> None:
    """Raise a UsageError unless the loss and each metric give as many values as there are examples."""
    two = jax.ShapeDtypeStruct((2, *predictions.shape[1:]), predictions.dtype)
    y = jax.ShapeDtypeStruct((2, *data.y.shape[1:]), data.y.dtype)
    for name, function in {"loss": model.loss, **model.metrics}.items():
        try:
            found = jax.eval_shape(function, two, y).shape
        except (TypeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(
                f"{name} cannot compare predictions {two.shape[1:]} with targets {y.shape[1:]}: {reason}"
            ) from error
        if found != (2,):
            raise UsageError(f"{name} must give one value per example, shape (2,) for two of them, not {found}")
