"""A model is three pure functions; adapters make one from a Flax NNX or an Equinox module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fedmeta import losses, metrics
from fedmeta.errors import UsageError
from fedmeta.task import Batch

Params = Any
"""Any pytree of floating-point arrays."""


@dataclass(frozen=True, eq=False)
class Model:
    """What is trained: pure `init`, `apply` and `loss`.

    Args:
        init: `init(key) -> params`, any pytree of floating-point arrays.
        apply: `apply(params, x) -> predictions`, leading axis = examples on both sides.
        loss: `loss(predictions, y)`, one value per example; the mean over the mask is taken by the library.
        metrics: by name, functions like `loss`, reported and never trained on. Where they are not given:
            accuracy with `fm.losses.softmax_cross_entropy`, the absolute error with `fm.losses.squared_error`,
            none with another loss.
    """

    init: Callable[[Any], Params]
    apply: Callable[[Params, Any], Any]
    loss: Callable[[Any, Any], Any] = losses.softmax_cross_entropy
    metrics: Any = None

    def __post_init__(self):
        if self.metrics is None:
            usual: dict[Any, Any] = {
                losses.softmax_cross_entropy: {"accuracy": metrics.accuracy},
                losses.squared_error: {"absolute_error": metrics.absolute_error},
            }
            object.__setattr__(self, "metrics", usual.get(self.loss, {}))

    def scores(self, params: Params, batch: Batch) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean loss over the examples that count, and that of each metric, "loss" among them."""
        predictions = self.apply(params, batch.x)
        loss = masked_mean(self.loss(predictions, batch.y), batch.mask)
        measured = {name: masked_mean(f(predictions, batch.y), batch.mask) for name, f in self.metrics.items()}
        return loss, {"loss": loss, **measured}

    def mean_loss(self, params: Params, batch: Batch) -> Float[Array, ""]:
        """Return the mean loss over the examples that count; 0.0 where none does."""
        return masked_mean(self.loss(self.apply(params, batch.x), batch.y), batch.mask)

    @staticmethod
    def from_nnx(build: Callable[[Any], Any], loss: Any = losses.softmax_cross_entropy, metrics: Any = None) -> "Model":
        """Make a model of a Flax NNX module.

        Args:
            build: `build(nnx.Rngs) -> nnx.Module`; the module takes a batch, as is usual in NNX. It is put
                in evaluation mode (`module.eval()`), so dropout is off.
            loss: as in `Model`.
            metrics: as in `Model`.

        Raises:
            UsageError: the module holds running statistics (BatchNorm). They are neither parameters nor
                shared, so their mean over clients has no meaning; LayerNorm or GroupNorm do.
        """
        from flax import nnx

        def split(key: Any) -> Any:
            module = build(nnx.Rngs(key))
            module.eval()
            return nnx.split(module, nnx.Param, nnx.BatchStat, ...)

        graph, _, statistics, rest = split(jax.random.key(0))
        if jax.tree.leaves(statistics):
            raise UsageError("the module holds running statistics (BatchNorm): use LayerNorm or GroupNorm")

        def init(key: Any) -> Params:
            return nnx.to_pure_dict(split(key)[1])

        shapes = nnx.eval_shape(lambda: split(jax.random.key(0))[1])

        def apply(params: Params, x: Any) -> Any:
            state = jax.tree.map(lambda leaf: leaf, shapes)
            nnx.replace_by_pure_dict(state, params)
            return nnx.merge(graph, state, statistics, rest)(x)

        return Model(init, apply, loss, metrics)

    @staticmethod
    def from_equinox(
        build: Callable[[Any], Any], loss: Any = losses.softmax_cross_entropy, metrics: Any = None
    ) -> "Model":
        """Make a model of an Equinox module.

        Args:
            build: `build(key) -> equinox.Module`; the module takes one example, as is usual in Equinox. It
                is put in inference mode, so dropout is off.
            loss: as in `Model`.
            metrics: as in `Model`.
        """
        import equinox as eqx

        def split(key: Any) -> Any:
            return eqx.partition(eqx.nn.inference_mode(build(key)), eqx.is_inexact_array)

        static = split(jax.random.key(0))[1]

        def init(key: Any) -> Params:
            return split(key)[0]

        def apply(params: Params, x: Any) -> Any:
            return jax.vmap(eqx.combine(params, static))(x)

        return Model(init, apply, loss, metrics)


def masked_mean(values: Float[Array, " n"], mask: Any) -> Float[Array, ""]:
    """Return the mean of the values whose mask is 1.0; 0.0 where none is."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)
