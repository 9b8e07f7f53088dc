"""What every algorithm is: an initial state, a client's update, and a client's adaptation."""

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from fedmeta import _keys, optimisers
from fedmeta._settings import a_number, not_one_text, whole_number
from fedmeta.algorithms.inner import QUERY, Descent, InnerLoop, Start, noise
from fedmeta.errors import UsageError
from fedmeta.model import Model, Params
from fedmeta.task import Batch, Task

Phi = Any
"""What the server holds and sends: a pytree."""

Memory = Any
"""What a client keeps between the rounds that it takes part in: a pytree, () for nothing."""

DEFAULT_LR = 0.1


class ClientUpdate(NamedTuple):
    """What a client makes of phi.

    `pseudo_gradient` is a pytree like phi that takes the place of a gradient: the server subtracts lr * mean from phi.
    `weight` is this client's share in the mean. `metrics` are scalars by name, "loss" among them.
    """

    pseudo_gradient: Phi
    weight: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


@dataclass(frozen=True, kw_only=True)
class Algorithm(abc.ABC):
    """What phi is, what a client answers to it, and how a client adapts from it.

    Args:
        weighting: the clients' weights in the server's mean: "clients" gives all the same weight, "examples" weights
            each by its number of examples.

    Raises:
        UsageError: a value is out of range; the message names it.
    """

    name: ClassVar[str]
    """The name in tables, files and on the command line."""
    title: ClassVar[str]
    """The name for people."""
    adapts: ClassVar[bool] = True
    """Whether a new client adapts before it is tested."""

    weighting: Literal["clients", "examples"] = "clients"

    def __post_init__(self):
        if self.weighting not in ("clients", "examples"):
            raise UsageError(f"weighting must be 'clients' or 'examples', not {self.weighting!r}")

    @property
    @abc.abstractmethod
    def differentiated(self) -> Any:
        """The optimiser that an update differentiates through, or None."""

    @abc.abstractmethod
    def init(self, model: Model, key: Any) -> Phi:
        """Return what the server starts from."""

    def memory(self, model: Model, key: Any) -> Memory:
        """Return the memory of a client that has not taken part yet; () for most algorithms."""
        return ()

    def check_server(self, server: Any) -> None:  # noqa: B027 (most go with any server)
        """Raise a UsageError for a server optimiser that this algorithm does not work with."""

    @abc.abstractmethod
    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return the parameters before a descent and its optimiser, for adaptation or for a client's update."""

    @abc.abstractmethod
    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return what a client answers to phi, and what it keeps.

        Args:
            model: the model.
            phi: as the server sent it.
            task: the client's support and query examples.
            key: draws the client's batches, and what the model draws.
            memory: what the client has kept.
        """

    @abc.abstractmethod
    def descend(
        self, model: Model, phi: Phi, support: Batch, key: Any, probe: Any = None, memory: Memory = ()
    ) -> Descent:
        """Adapt as `adapt` does, and call `probe(params)` before the first step and after each one."""

    def adapt(self, model: Model, phi: Phi, support: Batch, key: Any, memory: Memory = ()) -> Params:
        """Return the client's own parameters: a descent on the support set, from phi.

        It is compiled once for an algorithm, a model and a number of examples, no matter how often it is called.
        """
        given = (phi, support, key, memory)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
            return self.descend(model, phi, support, key, memory=memory).params
        shapes = tuple((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in jax.tree.leaves(given))
        return _adapter(self, model, jax.tree.structure(given), shapes)(*given)

    def weight(self, task: Task) -> Float[Array, ""]:
        """Return the client's weight in the server's mean."""
        if self.weighting == "clients":
            return jnp.ones(())
        return task.support.num_examples + task.query.num_examples


@dataclass(frozen=True, kw_only=True)
class InnerDescent(Algorithm):
    """An algorithm whose clients descend on their own loss; each algorithm says how it uses the fields.

    Args:
        inner_lr: the learning rate of a client's gradient descent.
        inner: any Optax transformation, or one of `fm.optimisers`, in place of gradient descent at `inner_lr`.
        inner_steps: steps in a client's update.
        inner_epochs: passes over the examples instead of a number of steps.
        inner_batch_size: examples in a step; None takes all in each step.
        adapt_steps: steps when a client adapts; as in training by default.
        adapt_epochs: passes over the support when a client adapts, instead of a number of steps.
        adaptable: patterns over the paths of the parameters that a descent changes, such as `("head/*",)`; all by
            default.
        weighting: the clients' weights in the server's mean: "clients" gives all the same weight, "examples" weights
            each by its number of examples.

    Raises:
        UsageError: a value is out of range; the message names it.
    """

    default_epochs: ClassVar[int | None] = None
    """Passes over the examples if neither steps nor epochs are given; None means one step."""
    head_only: ClassVar[bool] = False
    """Whether a descent changes only the model's head by default."""

    inner_lr: float = DEFAULT_LR
    inner_steps: int | None = None
    inner_epochs: int | None = None
    inner_batch_size: int | None = None
    adapt_steps: int | None = None
    adapt_epochs: int | None = None
    inner: Any = None
    adaptable: tuple[str, ...] | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("inner_steps", "inner_epochs", "inner_batch_size", "adapt_steps", "adapt_epochs"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        object.__setattr__(self, "inner_lr", check_rate("inner_lr", self.inner_lr))
        if self.adaptable is not None:
            not_one_text("adaptable", self.adaptable, "patterns")
            object.__setattr__(self, "adaptable", tuple(self.adaptable))
        if self.inner is not None:
            optimisers.check_optimiser("inner", self.inner)
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

    @property
    def differentiated(self) -> Any:
        """None: only meta-learners differentiate through the descent."""
        return None

    def patterns(self, model: Model) -> tuple[str, ...] | None:
        """Return the patterns of the parameters that a descent changes, or None for all.

        Raises:
            UsageError: the algorithm needs the head, and neither its options nor the model name it.
        """
        if self.adaptable is None and self.head_only:
            return head(self, "adaptable", model)
        return self.adaptable

    def train(self, model: Model, phi: Phi, batch: Batch, key: Any, memory: Memory = ()) -> Descent:
        """Return the descent of a client's update, on a batch of its examples."""
        start = self.start(phi, memory)
        return self.training_loop.run(model, start, batch, key, adaptable=self.patterns(model))

    def descend(
        self, model: Model, phi: Phi, support: Batch, key: Any, probe: Any = None, memory: Memory = ()
    ) -> Descent:
        """Adapt as `adapt` does, and call `probe(params)` before the first step and after each one."""
        start = self.start(phi, memory, adapting=True)
        return self.adaptation_loop.run(model, start, support, key, probe, self.patterns(model))


@dataclass(frozen=True, kw_only=True)
class SharedInitialisation(InnerDescent):
    """An algorithm whose phi is an initialisation theta alone.

    Args:
        adapt_lr: the learning rate when a client adapts; `inner_lr` by default.
    """

    adapt_lr: float | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "adapt_lr", check_rate("adapt_lr", self.adapt_lr))
        for name, value, usual in (("inner_lr", self.inner_lr, DEFAULT_LR), ("adapt_lr", self.adapt_lr, None)):
            if self.inner is not None and value != usual:
                raise UsageError(f"{name}={value} has no meaning beside inner=...: give the rate to that optimiser")

    def init(self, model: Model, key: Any) -> Phi:
        """Return theta."""
        return model.init(key)

    def start(self, phi: Params, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return theta, and gradient descent at the learning rate, or the optimiser that was given."""
        return Start(phi, self.optimiser(adapting=adapting))

    def optimiser(self, *, adapting: bool = False) -> Any:
        """Return the optimiser of a descent."""
        if self.inner is not None:
            return self.inner
        return optimisers.sgd(self.adapt_lr if adapting and self.adapt_lr is not None else self.inner_lr)


@_keys.memoise(64)
def _adapter(algorithm: Algorithm, model: Model, structure: Any, shapes: Any) -> Any:
    """Return the compiled adaptation for arguments of these shapes.

    Shapes are part of the key, so that the number of compiled programs is bounded: each takes memory maps of the
    process.
    """
    del structure, shapes

    def adapt(phi: Phi, support: Batch, key: Any, memory: Memory) -> Params:
        return algorithm.descend(model, phi, support, key, memory=memory).params

    return jax.jit(adapt)


def head(algorithm: Algorithm, option: str, model: Model) -> tuple[str, ...]:
    """Return the patterns of a model's head.

    Raises:
        UsageError: the model does not name its head.
    """
    if model.head is None:
        raise UsageError(
            f"{algorithm.title} needs to know the head of the network: give {option}=, patterns over the paths of its "
            "parameters such as ('head/*',), or Model(..., head=...)"
        )
    return model.head


def check_rate(name: str, value: Any) -> float | None:
    """Return a rate as a float, or None.

    Raises:
        UsageError: it is not a positive finite number.
    """
    number = a_number(name, value)
    if number is not None and not (number > 0 and math.isfinite(number)):
        raise UsageError(f"{name} must be a positive number, not {value}")
    return number


def meta_gradient(algorithm: InnerDescent, model: Model, phi: Phi, task: Task, key: Any) -> ClientUpdate:
    """Return the gradient, in all of phi, of the query loss after the inner loop on the support set.

    Exact: it goes through every inner step, second derivatives included (1802.07876, algorithm 1, line 11).
    """

    def query_loss(phi: Phi) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        params = algorithm.train(model, phi, task.support, key).params
        return model.scores(params, task.query, noise(model, key, QUERY))

    (_, metrics), gradient = jax.value_and_grad(query_loss, has_aux=True)(phi)
    return ClientUpdate(gradient, algorithm.weight(task), metrics)


def displacement(algorithm: InnerDescent, model: Model, phi: Params, task: Task, key: Any) -> ClientUpdate:
    """Return theta - theta_local after the inner loop on all of the client's examples."""
    descent = algorithm.train(model, phi, task.pooled(), key)
    moved = jax.tree.map(jnp.subtract, phi, descent.params)
    return ClientUpdate(moved, algorithm.weight(task), descent.metrics)
