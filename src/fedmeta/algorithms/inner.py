"""The inner loop: an optimiser's steps on one client's examples, the same for every algorithm."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fedmeta import pytrees
from fedmeta.errors import UsageError
from fedmeta.model import Model, Params
from fedmeta.task import Batch

NOISE = 0x6E6F6973
"""Folded into a client's key for what a model draws (dropout), so that its batches stay as they are without it."""

QUERY = 2**32 - 1
"""The place of the query loss among the draws of a model; the steps have theirs from 0."""


class Start(NamedTuple):
    """The parameters before a client's descent, and its optimiser.

    `optimiser` is an Optax transformation or one of `fm.optimisers`; it may hold parts of phi, such as Meta-SGD's
    rates.
    """

    params: Params
    optimiser: Any


class Descent(NamedTuple):
    """The result of a client's descent.

    `metrics` are means over the examples as they were visited, before each step; `probes` holds what the probe
    returned before the first step and after each one, leading axis [steps + 1], or None without a probe.
    """

    params: Params
    metrics: dict[str, Float[Array, ""]]
    probes: Any


@dataclass(frozen=True)
class InnerLoop:
    """How many steps, over which examples.

    Args:
        steps: optimiser steps; None where epochs are counted.
        epochs: passes over the examples; None where steps are counted.
        batch_size: examples in a step, drawn without replacement within a pass; the last batch of a pass
            has what is left. None takes all examples in each step.

    Raises:
        UsageError: a number is out of range, or both or neither of steps and epochs are given.
    """

    steps: int | None = 1
    epochs: int | None = None
    batch_size: int | None = None

    def __post_init__(self):
        if (self.steps is None) == (self.epochs is None):
            raise UsageError(f"give either steps or epochs, not steps={self.steps} and epochs={self.epochs}")
        if min(self.steps or 0, self.epochs or 0) < 0:
            raise UsageError(f"steps and epochs cannot be negative: steps={self.steps}, epochs={self.epochs}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"a batch needs at least 1 example, not {self.batch_size}")

    def most_steps(self, length: int) -> int:
        """Return the steps that a client with `length` examples, padding included, may take."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * (1 if self.batch_size is None else math.ceil(length / self.batch_size))

    def run(
        self,
        model: Model,
        start: Start,
        batch: Batch,
        key: Any,
        probe: Callable[[Params], Any] | None = None,
        adaptable: tuple[str, ...] | None = None,
    ) -> Descent:
        """Take the steps; differentiable in `start`, including its optimiser's arrays, through every step.

        The examples of a step depend only on the key and on the number of examples that count, so padding changes
        nothing.

        Args:
            model: the model whose loss is minimised.
            start: parameters and optimiser.
            batch: the client's examples.
            key: draws the batches, and what the model draws.
            probe: called on the parameters before the first step and after each one.
            adaptable: patterns over the paths of the parameters that change, such as "head/*"; None is all.
        """
        moving, still = pytrees.split(start.params, adaptable)
        most = self.most_steps(len(batch))
        batches_a_pass = self._batches_a_pass(batch)
        count = most if self.epochs is None else self.epochs * batches_a_pass
        some_rest = self.epochs is not None and self.batch_size is not None

        def step(carry: tuple[Any, Any], place: Any) -> tuple[tuple[Any, Any], Any]:
            (moving, state), (number, drawn) = carry, place
            part = batch if drawn is None else batch.take(*drawn)

            def loss(moving: Any) -> tuple[Any, Any]:
                return model.scores(pytrees.join(moving, still), part, noise(model, key, number))

            (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(moving)
            # Optax mixes types where a user of JAX may have forbidden it.
            with jax.numpy_dtype_promotion("standard"):
                updates, stepped = start.optimiser.update(gradient, state, moving)
            active = number < count
            if some_rest:
                # A client with fewer batches than another waits: neither its parameters nor its moments change.
                updates = jax.tree.map(lambda u: u * active.astype(u.dtype), updates)
                stepped = jax.tree.map(lambda new, old: jnp.where(active, new, old), stepped, state)
            moving = apply_updates(moving, updates)
            seen = None if probe is None else probe(pytrees.join(moving, still))
            return (moving, stepped), (
                metrics,
                jnp.where(active, part.num_examples, jnp.zeros_like(part.num_examples)),
                seen,
            )

        numbers = jnp.arange(most)
        drawn = None if self.batch_size is None else self.draw(batch, key, numbers, batches_a_pass)
        first = (moving, start.optimiser.init(moving))
        (moving, _), (metrics, visited, probes) = jax.lax.scan(step, first, (numbers, drawn))
        weights = visited / jnp.maximum(jnp.sum(visited), 1.0)
        means = {name: jnp.sum(values * weights) for name, values in metrics.items()}
        if probe is not None:
            before = probe(start.params)
            probes = jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b]), before, probes)
        return Descent(pytrees.join(moving, still), means, probes)

    def _batches_a_pass(self, batch: Batch) -> Any:
        if self.batch_size is None:
            return 1
        count = batch.num_examples.astype(jnp.int32)
        return jnp.maximum((count + self.batch_size - 1) // self.batch_size, 1)

    def draw(self, batch: Batch, key: Any, numbers: Any, batches_a_pass: Any = None) -> tuple[Any, Any]:
        """Return the rows of each step's batch and which of them count, [steps, batch_size] both.

        Each pass shuffles the examples that count anew.

        Args:
            batch: the client's examples.
            key: draws the batches.
            numbers: the steps, shape [steps], from 0.
            batches_a_pass: how many batches a pass has; counted by default.
        """
        assert self.batch_size is not None
        batches_a_pass = self._batches_a_pass(batch) if batches_a_pass is None else batches_a_pass
        mask = jnp.asarray(batch.mask)
        rank = (jnp.cumsum(mask) - 1).astype(jnp.int32)
        passes = jnp.arange(len(numbers) if self.epochs is None else self.epochs)

        def shuffled(number: Any) -> Any:
            once = jax.random.fold_in(key, number)
            draws = jax.vmap(lambda r: jax.random.bits(jax.random.fold_in(once, r), dtype=jnp.uint32))(rank)
            return jnp.lexsort((draws, mask == 0))

        orders = jax.vmap(shuffled)(passes)
        places = (numbers % batches_a_pass)[:, None] * self.batch_size + jnp.arange(self.batch_size)
        order = jnp.take(orders, numbers // batches_a_pass, axis=0, mode="clip")
        rows = jnp.take_along_axis(order, places, axis=1, mode="clip")
        return rows, (places < batch.num_examples).astype(mask.dtype)


def apply_updates(params: Any, updates: Any) -> Any:
    """Return params + updates, in the types of the parameters."""
    return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)


def noise(model: Model, key: Any, place: Any) -> Any:
    """Return the key from which a model draws at one point of a client's update; None if the model draws nothing."""
    if "key" not in model.needs:
        return None
    return jax.random.fold_in(jax.random.fold_in(key, NOISE), place)
