"""How clients' directions become one: the weighted mean, taken one client at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Mean(NamedTuple):
    """A weighted mean under way: the sum of weight * direction, and the sum of the weights."""

    total: Any
    weight: Float[Array, ""]


def empty(like: Any) -> Mean:
    """Return the mean of no client, for directions shaped like `like`."""
    return Mean(jax.tree.map(jnp.zeros_like, like), jnp.zeros(()))


def add(mean: Mean, direction: Any, weight: Float[Array, ""]) -> Mean:
    """Return the mean with one more client in it. A weight of 0.0 adds nothing."""
    total = jax.tree.map(lambda t, d: t + jnp.asarray(weight, d.dtype) * d, mean.total, direction)
    return Mean(total, mean.weight + weight)


def value(mean: Mean) -> Any:
    """Return the weighted mean; zeros where no client has weight."""
    weight = jnp.where(mean.weight > 0, mean.weight, 1.0)
    return jax.tree.map(lambda t: t / jnp.asarray(weight, t.dtype), mean.total)


def weighted_mean(directions: Any, weights: Float[Array, " clients"]) -> Any:
    """Return the weighted mean over the leading axis: [clients, *params] -> [*params]."""

    def step(mean: Mean, client: tuple[Any, Any]) -> tuple[Mean, None]:
        return add(mean, *client), None

    like = jax.tree.map(lambda d: d[0], directions)
    return value(jax.lax.scan(step, empty(like), (directions, weights))[0])
