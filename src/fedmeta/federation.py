"""The round: broadcast phi, client update, transform, aggregate, server step; what is computed, and not how fast."""

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fedmeta import _keys, optimisers, random
from fedmeta._precision import doubles
from fedmeta._settings import said
from fedmeta.aggregators import Aggregator, Part, weighted_mean
from fedmeta.algorithms.algorithm import Algorithm, Phi
from fedmeta.algorithms.inner import apply_updates
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.task import Task
from fedmeta.transforms import Transform, identity

TRANSFORM = 0x7472616E
"""Folded into a client's key for what its transform draws, so that its own draws stay as they are without one."""

KEPT = 64
"""Federations whose shapes are remembered."""

Memory = Any
"""What a client keeps: the algorithm's part of it, and the transform's."""


class Message(NamedTuple):
    """What a client sends. Its bytes are the leaves in order, without a header.

    `body` is the transformed pseudo-gradient; `weight` is the client's weight in the mean, shape [].
    """

    body: Any
    weight: Float[Array, ""]


class ServerState(NamedTuple):
    """What the server holds between rounds.

    `phi` is what it sends; `optimiser` is the optimiser's own state (its moments), which is kept for the whole
    run; `round` is the number of rounds done, an int32 of shape [].
    """

    phi: Any
    optimiser: Any
    round: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class Federation:
    """What a round computes, the same in simulation and at a node.

    Two federations are equal if their parts were made alike, and then share compiled programs.

    Args:
        algorithm: what phi is, and how a client updates it.
        model: the network, its loss and its metrics.
        server: the server's optimiser: one of `fm.optimisers`, which also run on NumPy, or any Optax transformation.
        transform: what a client sends in place of its pseudo-gradient; one of `fm.transforms`.
        aggregator: how the clients' parts are combined; one of `fm.aggregators`.

    Raises:
        UsageError: a part is not what it should be.
    """

    algorithm: Algorithm
    model: Model
    server: Any = optimisers.adam(1e-3)  # noqa: RUF009 (a value)
    transform: Transform = identity()  # noqa: RUF009
    aggregator: Aggregator = weighted_mean()  # noqa: RUF009

    def __post_init__(self):
        _check_kind("algorithm", self.algorithm, Algorithm, "fm.MAML()")
        _check_kind("model", self.model, Model, "fm.models.mlp((4, 8, 3))")
        _check_kind("transform", self.transform, Transform, "fm.transforms.quantise(8)")
        _check_kind("aggregator", self.aggregator, Aggregator, "fm.aggregators.coordinate_median()")
        optimisers.check_optimiser("server", self.server)

    @cached_property
    def _key(self) -> Any:
        return tuple(_keys.value_key(getattr(self, field.name)) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Federation) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def init(self, key: Any) -> ServerState:
        """Return the state before the first round."""
        phi = self.algorithm.init(self.model, key)
        return ServerState(phi, self.server.init(phi), jnp.zeros((), jnp.int32))

    def memory(self, key: Any) -> Memory:
        """Return the memory of a client that has not taken part: the algorithm's, and the transform's."""
        return self.algorithm.memory(self.model, key), self.transform.init(self.phi_like)

    def client(self, phi: Phi, task: Task, key: Any, memory: Memory) -> tuple[Message, dict[str, Any], Memory]:
        """Return what a client sends, its metrics, and its new memory.

        Args:
            phi: as the server sent it.
            task: the client's support and query examples.
            key: the source of all the client's draws in this round.
            memory: the client's memory from its last round, or a fresh one.
        """
        own, sent = memory
        update, own = self.algorithm.update(self.model, phi, task, key, own)
        draws = jax.random.fold_in(key, TRANSFORM)
        body, sent = self.transform.encode(update.pseudo_gradient, sent, draws)
        return Message(body, update.weight), update.metrics, (own, sent)

    def lift(self, message: Message) -> Part:
        """Return a message as a part that the aggregator adds or stacks."""
        return self.aggregator.lift(self.transform.decode(message.body, self.phi_like), message.weight)

    def finish(self, state: ServerState, total: Part) -> ServerState:
        """Return the state after the round: the aggregator's pseudo-gradient, and the server's step.

        Args:
            state: before the round.
            total: the sum of all parts, or the parts stacked [n, ...], as the aggregator needs them.
        """
        return self.step(state, self.aggregator.finish(total))

    def step(self, state: ServerState, pseudo_gradient: Any) -> ServerState:
        """Return the state after a server step: phi - lr * pseudo_gradient for plain gradient descent."""
        # The mean of half-precision updates is float32; the optimiser's moments keep the parameters' types.
        gradient = jax.tree.map(lambda g, p: g.astype(p.dtype), pseudo_gradient, state.phi)
        # Optax mixes types where a user of JAX may have forbidden it.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = self.server.update(gradient, state.optimiser, state.phi)
        return ServerState(apply_updates(state.phi, updates), moments, state.round + 1)

    def exact_lift(self, message: Message) -> Part:
        """Return the result of `lift`, in float64 on NumPy: the same bytes on every machine.

        Parts of whole numbers on one grid (`fm.transforms.fixed_point`) add without rounding, in any order, while
        bits + log2(the sum of the weights) <= 53.

        Raises:
            UsageError: the weight is not a whole number from 0 to 2^20.
        """
        body, weight = jax.tree.map(np.asarray, tuple(message))
        weight = weight.astype(np.float64)
        if not (weight == np.floor(weight) and 0 <= weight <= 2**20):
            raise UsageError(f"a message's weight must be a whole number from 0 to {2**20}, not {weight}")
        return self.aggregator.lift(_wide(self.transform.decode(body, self.phi_like)), weight)

    def exact_finish(self, state: ServerState, total: Part) -> ServerState:
        """Return the result of `finish`, in float64 on NumPy: the same bytes on every machine.

        Each operation is one that IEEE 754 rounds correctly, in a fixed order; phi and the moments are rounded to
        their own types at the end.

        Raises:
            UsageError: the server is a bare Optax transformation, which runs on JAX only.
        """
        if not isinstance(self.server, optimisers.NamedOptimiser):
            raise UsageError(
                "only a server of fm.optimisers gives the same bytes on every machine, not a bare Optax one"
            )
        done = self.finish(_wide(state), total)
        return jax.tree.map(lambda new, old: np.asarray(new).astype(np.asarray(old).dtype), done, state)

    @property
    def phi_like(self) -> Any:
        """The shapes and types of phi."""
        return _phi_like(self, doubles())


@lru_cache(maxsize=KEPT)
def _phi_like(federation: Federation, with_doubles: bool) -> Any:
    # A federation may be used with and without JAX's doubles, in which its types differ.
    del with_doubles
    return jax.eval_shape(lambda: federation.algorithm.init(federation.model, random.default_key()))


def add(first: Part, second: Part) -> Part:
    """Return the sum of two parts."""
    return jax.tree.map(lambda a, b: a + b, first, second)


def stack(parts: list[Part]) -> Part:
    """Return parts stacked, every array [n, ...]."""
    return jax.tree.map(lambda *leaves: leaves[0].__array_namespace__().stack(leaves), *parts)


def _wide(tree: Any) -> Any:
    """Return the arrays as NumPy's, floating-point ones as float64."""

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(leaf, tree)


def _check_kind(name: str, value: Any, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be such as {example}, not {said(value)}")
