"""The inner loop: gradient descent on one client's examples, the same for every algorithm."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fedmeta.errors import UsageError
from fedmeta.model import Model, Params
from fedmeta.task import Batch


class Start(NamedTuple):
    """Where a client's gradient descent starts, and how fast it goes.

    `rates` is one number, or a pytree shaped like `params` (a rate per coordinate).
    """

    params: Params
    rates: Any


class Descent(NamedTuple):
    """What gradient descent gave.

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
        steps: gradient steps; None where epochs are counted.
        epochs: passes over the examples; None where steps are counted.
        batch_size: examples in a step, drawn without replacement within a pass, the last batch of a pass
            taking what is left; None takes all examples in each step.

    Raises:
        UsageError: a number is out of range, or both or neither of steps and epochs are given.
    """

    steps: int | None = 1
    epochs: int | None = None
    batch_size: int | None = None

    def __post_init__(self):
        if (self.steps is None) == (self.epochs is None):
            raise UsageError(f"give either steps or epochs, not steps={self.steps} and epochs={self.epochs}")
        for name in ("steps", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"{name} must be a whole number, not {value!r}")
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
        self, model: Model, start: Start, batch: Batch, key: Any, probe: Callable[[Params], Any] | None = None
    ) -> Descent:
        """Take the steps; differentiable in `start`, through every step.

        The examples of a step follow from the key and the number of examples that count, so padding changes
        nothing.

        Args:
            model: whose loss goes down.
            start: parameters and rates.
            batch: the client's examples.
            key: draws the batches.
            probe: called on the parameters before the first step and after each one.
        """
        most = self.most_steps(len(batch))
        batches_a_pass = self._batches_a_pass(batch)
        count = most if self.epochs is None else self.epochs * batches_a_pass
        rates = start.rates
        if jax.tree.structure(rates) != jax.tree.structure(start.params):
            rates = jax.tree.map(lambda _: start.rates, start.params)

        def step(params: Params, place: Any) -> tuple[Params, Any]:
            number, drawn = place
            part = batch if drawn is None else batch.take(*drawn)
            (_, metrics), gradient = jax.value_and_grad(model.scores, has_aux=True)(params, part)
            active = number < count
            taken = rates
            if self.epochs is not None and self.batch_size is not None:
                taken = jax.tree.map(lambda r: jnp.where(active, r, 0.0), rates)
            stepped = jax.tree.map(lambda p, r, g: p - r * g, params, taken, gradient)
            return stepped, (metrics, part.num_examples * active, None if probe is None else probe(stepped))

        numbers = jnp.arange(most)
        drawn = None if self.batch_size is None else self._draw(batch, key, numbers, batches_a_pass)
        params, (metrics, visited, probes) = jax.lax.scan(step, start.params, (numbers, drawn))
        weights = visited / jnp.maximum(jnp.sum(visited), 1.0)
        means = {name: jnp.sum(values * weights) for name, values in metrics.items()}
        if probe is not None:
            first = probe(start.params)
            probes = jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b]), first, probes)
        return Descent(params, means, probes)

    def _batches_a_pass(self, batch: Batch) -> Any:
        if self.batch_size is None:
            return 1
        count = batch.num_examples.astype(jnp.int32)
        return jnp.maximum((count + self.batch_size - 1) // self.batch_size, 1)

    def _draw(self, batch: Batch, key: Any, numbers: Any, batches_a_pass: Any) -> tuple[Any, Any]:
        """Return the rows of each step's batch and which of them count, [steps, batch_size] both.

        Each pass shuffles the examples that count anew.
        """
        assert self.batch_size is not None
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
