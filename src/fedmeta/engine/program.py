"""The compiled programs: a round of a cohort, and the evaluation of a group of clients."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedmeta import aggregate, random, server
from fedmeta.algorithms.algorithm import Algorithm
from fedmeta.engine.cohort import Cohort
from fedmeta.model import Model


class RoundResult(NamedTuple):
    """What a round gives: the new state, the weighted means of the clients' metrics, and what was finite.

    `finite_clients` has shape [clients]; `finite_state` has shape [].
    """

    state: server.ServerState
    metrics: dict[str, jax.Array]
    finite_clients: jax.Array
    finite_state: jax.Array


@lru_cache(maxsize=16)
def round_program(
    algorithm: Algorithm, model: Model, optimiser: optax.GradientTransformation
) -> Callable[[server.ServerState, Cohort], RoundResult]:
    """Return the compiled round: client updates one after another, their mean, the server's step."""

    def run(state: server.ServerState, cohort: Cohort) -> RoundResult:
        def client(carry: Any, one: Cohort) -> tuple[Any, jax.Array]:
            directions, metrics = carry
            update = algorithm.client_update(model, state.phi, one.tasks, random.as_key(one.keys))
            carry = (
                aggregate.add(directions, update.direction, update.weight),
                aggregate.add(metrics, update.metrics, update.weight),
            )
            return carry, all_finite(update.direction)

        one = jax.tree.map(lambda leaf: leaf[0], cohort)
        shapes = jax.eval_shape(lambda: algorithm.client_update(model, state.phi, one.tasks, random.as_key(one.keys)))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        start = (aggregate.empty(zeros.direction), aggregate.empty(zeros.metrics))
        (directions, metrics), finite = jax.lax.scan(client, start, cohort)
        stepped = server.step(optimiser, state, aggregate.value(directions))
        return RoundResult(stepped, aggregate.value(metrics), finite, all_finite((stepped.phi, stepped.optimiser)))

    return jax.jit(run)


@lru_cache(maxsize=16)
def evaluation_program(
    algorithm: Algorithm, model: Model, curve: bool
) -> Callable[[Any, Cohort], dict[str, jax.Array]]:
    """Return the compiled evaluation of a group of clients.

    It maps (phi, cohort) to each metric's means over every client's query examples, shape [clients, points]:
    before adaptation and after it, or with `curve` also after each step.
    """

    def run(phi: Any, cohort: Cohort) -> dict[str, jax.Array]:
        def client(_: None, one: Cohort) -> tuple[None, dict[str, jax.Array]]:
            def probe(params: Any) -> dict[str, jax.Array]:
                return model.scores(params, one.tasks.query)[1]

            key = random.as_key(one.keys)
            descent = algorithm.descend(model, phi, one.tasks.support, key, probe if curve else None)
            if curve:
                return None, descent.probes
            before = probe(algorithm.start(phi, adapting=True).params)
            return None, jax.tree.map(lambda a, b: jnp.stack([a, b]), before, probe(descent.params))

        return jax.lax.scan(client, None, cohort)[1]

    return jax.jit(run)


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point number in the pytree is finite, as a boolean of shape []."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
