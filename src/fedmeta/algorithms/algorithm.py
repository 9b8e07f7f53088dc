"""What every algorithm is: an initial state, a client's update, and a client's adaptation."""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fedmeta.algorithms.inner import Descent, InnerLoop, Start
from fedmeta.errors import UsageError
from fedmeta.model import Model, Params
from fedmeta.task import Batch, Task

Phi = Any
"""What the server holds and sends: a pytree."""


class ClientUpdate(NamedTuple):
    """What a client sends back.

    `direction` is a pytree like phi that stands in a gradient's place: the server takes phi - lr * mean.
    `weight` is this client's share in the mean. `metrics` are scalars by name, "loss" among them.
    """

    direction: Phi
    weight: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


@dataclass(frozen=True, kw_only=True)
class Algorithm(abc.ABC):
    """The fields that all algorithms share; see each algorithm for what it does with them.

    Args:
        inner_lr: the learning rate of a client's gradient descent.
        inner_steps: gradient steps in a client's update.
        inner_epochs: passes over the examples instead of a number of steps.
        inner_batch_size: examples in a step; None takes all in each step.
        adapt_steps: gradient steps when a client adapts; as in training where neither this nor epochs are given.
        adapt_epochs: passes over the support when a client adapts, instead of a number of steps.
        weighting: the clients' weights in the server's mean: "clients" gives each the same, "examples" as many
            as it has examples.

    Raises:
        UsageError: a value is out of range; the message names it.
    """

    name: ClassVar[str]
    """The name in tables, files and on the command line."""
    title: ClassVar[str]
    """The name for people."""
    adapts: ClassVar[bool] = True
    """Whether a new client adapts before it is tested."""
    default_epochs: ClassVar[int | None] = None
    """Passes over the examples where neither steps nor epochs are given; None means one step."""

    inner_lr: float = 0.1
    inner_steps: int | None = None
    inner_epochs: int | None = None
    inner_batch_size: int | None = None
    adapt_steps: int | None = None
    adapt_epochs: int | None = None
    weighting: Literal["clients", "examples"] = "clients"

    def __post_init__(self):
        check_rate("inner_lr", self.inner_lr)
        if self.weighting not in ("clients", "examples"):
            raise UsageError(f"weighting must be 'clients' or 'examples', not {self.weighting!r}")
        if 0 in (self.training_loop.steps, self.training_loop.epochs):
            raise UsageError(f"{self.title} needs at least 1 inner step or epoch in training")
        _ = self.adaptation_loop
        for name in ("adapt_lr", "adapt_steps", "adapt_epochs"):
            if not self.adapts and getattr(self, name, None) is not None:
                raise UsageError(f"{self.title} does not adapt, so {name}={getattr(self, name)} has no meaning")

    @property
    def training_loop(self) -> InnerLoop:
        """The inner loop of a client's update."""
        steps, epochs = self.inner_steps, self.inner_epochs
        if steps is None and epochs is None:
            steps, epochs = (1, None) if self.default_epochs is None else (None, self.default_epochs)
        return InnerLoop(steps, epochs, self.inner_batch_size)

    @property
    def adaptation_loop(self) -> InnerLoop:
        """The inner loop of a client that adapts; no steps where the algorithm does not adapt."""
        if not self.adapts:
            return InnerLoop(0)
        if self.adapt_steps is None and self.adapt_epochs is None:
            return self.training_loop
        return InnerLoop(self.adapt_steps, self.adapt_epochs, self.inner_batch_size)

    @abc.abstractmethod
    def init(self, model: Model, key: Any) -> Phi:
        """Return what the server starts from."""

    @abc.abstractmethod
    def start(self, phi: Phi, *, adapting: bool) -> Start:
        """Return the parameters before the inner loop and its rates, for adaptation or for a client's update."""

    @abc.abstractmethod
    def client_update(self, model: Model, phi: Phi, task: Task, key: Any) -> ClientUpdate:
        """Return what a client answers to phi.

        Args:
            model: the model.
            phi: as the server sent it.
            task: the client's support and query examples.
            key: draws the client's batches.
        """

    def adapt(self, model: Model, phi: Phi, support: Batch, key: Any) -> Params:
        """Return the client's own parameters: gradient descent on the support set, from phi."""
        return self.descend(model, phi, support, key).params

    def descend(self, model: Model, phi: Phi, support: Batch, key: Any, probe: Any = None) -> Descent:
        """Adapt as `adapt` does, and call `probe(params)` before the first step and after each one."""
        return self.adaptation_loop.run(model, self.start(phi, adapting=True), support, key, probe)

    def weight(self, task: Task) -> Float[Array, ""]:
        """Return the client's weight in the server's mean."""
        if self.weighting == "clients":
            return jnp.ones(())
        return task.support.num_examples + task.query.num_examples


@dataclass(frozen=True, kw_only=True)
class SharedInitialisation(Algorithm):
    """An algorithm whose phi is an initialisation theta alone.

    Args:
        adapt_lr: the learning rate when a client adapts; `inner_lr` where it is not given.
    """

    adapt_lr: float | None = None

    def __post_init__(self):
        super().__post_init__()
        check_rate("adapt_lr", self.adapt_lr)

    def init(self, model: Model, key: Any) -> Params:
        """Return theta."""
        return model.init(key)

    def start(self, phi: Params, *, adapting: bool) -> Start:
        """Return theta and the learning rate."""
        return Start(phi, self.adapt_lr if adapting and self.adapt_lr is not None else self.inner_lr)


def check_rate(name: str, value: float | None) -> None:
    """Raise a UsageError unless the rate is a positive finite number (or None)."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{name} must be a positive number, not {value}")


def meta_gradient(algorithm: Algorithm, model: Model, phi: Phi, task: Task, key: Any) -> ClientUpdate:
    """Return the gradient, in all of phi, of the query loss after the inner loop on the support set.

    Exact: it goes through every inner step, second derivatives included (1802.07876, algorithm 1, line 11).
    """

    def query_loss(phi: Phi) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        params = algorithm.training_loop.run(model, algorithm.start(phi, adapting=False), task.support, key).params
        return model.scores(params, task.query)

    (_, metrics), direction = jax.value_and_grad(query_loss, has_aux=True)(phi)
    return ClientUpdate(direction, algorithm.weight(task), metrics)


def displacement(algorithm: Algorithm, model: Model, phi: Params, task: Task, key: Any) -> ClientUpdate:
    """Return theta - theta_local after the inner loop on all of the client's examples."""
    descent = algorithm.training_loop.run(model, algorithm.start(phi, adapting=False), task.pooled(), key)
    direction = jax.tree.map(jnp.subtract, phi, descent.params)
    return ClientUpdate(direction, algorithm.weight(task), descent.metrics)
