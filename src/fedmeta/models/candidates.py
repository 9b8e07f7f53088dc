"""A network for data whose last class is no answer: items that are none of a client's candidates."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fedmeta import losses, metrics
from fedmeta.model import Model

BELOW = 20.0
"""How far the logit of the last class lies below all others."""


def among_candidates(model: Model, *, top: tuple[int, ...] = (4,)) -> Model:
    """Return the model that never answers the last class, nor learns from examples of it.

    Its logit is always the lowest. The loss of such an example is 0, so that it has no gradient; its accuracy is 0 too,
    for it is a miss. `top_4` is likewise the share of examples whose class is among the four likeliest.

    Args:
        model: gives a logit of each class.
        top: for which numbers of likeliest classes there are metrics; those below the number of classes count.
    """

    def apply(params: Any, x: Any, **given: Any) -> jax.Array:
        logits = model.apply(params, x, **given)[..., :-1]
        last = jax.lax.stop_gradient(logits.min(axis=-1, keepdims=True)) - BELOW
        return jnp.concatenate([logits, last], axis=-1)

    more = {f"top_{count}": metrics.top(count) for count in top}
    return replace(
        model, apply=apply, loss=losses.candidate_cross_entropy, metrics={"accuracy": metrics.accuracy, **more}
    )
