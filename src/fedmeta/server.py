"""The server's state, and its step with any Optax optimiser."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


class ServerState(NamedTuple):
    """What the server holds between rounds.

    `phi` is what it sends; `optimiser` is the optimiser's own state (its moments), which lives as long as the
    run; `round` is the number of rounds done, an int32 of shape [].
    """

    phi: Any
    optimiser: Any
    round: Int[Array, ""]


def init(optimiser: optax.GradientTransformation, phi: Any) -> ServerState:
    """Return the state before the first round."""
    return ServerState(phi, optimiser.init(phi), jnp.zeros((), jnp.int32))


def step(optimiser: optax.GradientTransformation, state: ServerState, direction: Any) -> ServerState:
    """Return the state after a step along the mean direction, which stands in a gradient's place."""
    updates, moments = optimiser.update(direction, state.optimiser, state.phi)
    return ServerState(optax.apply_updates(state.phi, updates), moments, state.round + 1)
