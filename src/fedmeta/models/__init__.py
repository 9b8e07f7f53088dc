"""Ready-made networks, and the table that names them."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedmeta import losses
from fedmeta.errors import UnknownName, UsageError
from fedmeta.model import Model
from fedmeta.models.candidates import among_candidates
from fedmeta.models.char_lstm import char_lstm
from fedmeta.models.leaf_cnn import leaf_cnn
from fedmeta.models.linear import softmax_regression
from fedmeta.models.mlp import mlp

__all__ = ["MODELS", "Shape", "among_candidates", "build", "char_lstm", "leaf_cnn", "mlp", "softmax_regression"]


Sizes = int | tuple[int, ...]
"""The value of a network's option: one number or several."""


@dataclass(frozen=True)
class Shape:
    """What a network must fit.

    Args:
        example: the shape of one input.
        classes: the number of classes; None for regression.
        vocabulary: the number of different characters where inputs are text; else None.
    """

    example: tuple[int, ...]
    classes: int | None
    vocabulary: int | None = None

    @property
    def outputs(self) -> int:
        """The number of outputs: one per class, or one number."""
        return 1 if self.classes is None else self.classes


def _softmax_regression(shape: Shape) -> Model:
    if shape.classes is None:
        return mlp((math.prod(shape.example), 1), loss=losses.squared_error)
    return softmax_regression(math.prod(shape.example), shape.classes)


def _mlp(shape: Shape, *, hidden: Sizes = 64) -> Model:
    loss = losses.squared_error if shape.classes is None else losses.softmax_cross_entropy
    return mlp((math.prod(shape.example), *_several("hidden", hidden), shape.outputs), loss=loss)


def _leaf_cnn(shape: Shape, *, filters: Sizes = (32, 64), hidden: Sizes = 2048) -> Model:
    if shape.example != (28, 28, 1) or shape.classes is None:
        raise UsageError(f"leaf_cnn classifies images of shape (28, 28, 1), not inputs of shape {shape.example}")
    first, second = _several("filters", filters, 2)
    return leaf_cnn(shape.classes, filters=(first, second), hidden=_one("hidden", hidden))


def _char_lstm(shape: Shape, *, embedding: Sizes = 8, hidden: Sizes = 256, layers: Sizes = 2) -> Model:
    if shape.vocabulary is None:
        raise UsageError("char_lstm reads text, and the inputs of this data set are not characters")
    return char_lstm(
        shape.vocabulary,
        shape.classes,
        embedding=_one("embedding", embedding),
        hidden=_one("hidden", hidden),
        layers=_one("layers", layers),
    )


def _several(name: str, value: Sizes, count: int | None = None) -> tuple[int, ...]:
    """Return an option's numbers, of which there must be `count` where it is given, each at least 1."""
    values = value if isinstance(value, tuple) else (value,)
    if count is not None and len(values) != count:
        raise UsageError(f"{name} takes {count} number{'s' if count > 1 else ''}, not {value}")
    if min(values) < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
    return values


def _one(name: str, value: Sizes) -> int:
    return _several(name, value, 1)[0]


MODELS: dict[str, Callable[..., Model]] = {
    "softmax_regression": _softmax_regression,
    "mlp": _mlp,
    "leaf_cnn": _leaf_cnn,
    "char_lstm": _char_lstm,
}
"""By name, the function that builds a network for a `Shape` from its options."""


def build(name: str, shape: Shape, options: Mapping[str, Any] | None = None) -> Model:
    """Return the network of that name, made to fit the data.

    Raises:
        UsageError: no such network, no such option, or the network does not fit the shape.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    options = dict(options or {})
    known = list(inspect.signature(MODELS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of model {name}", option, known or ["(none)"])
    return MODELS[name](shape, **options)
