"""FedMeta(Meta-SGD): a shared initialisation and a learned rate for each of its coordinates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from fedmeta import pytrees
from fedmeta.algorithms.algorithm import ClientUpdate, InnerDescent, Memory, Phi, meta_gradient
from fedmeta.algorithms.inner import Start
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class MetaSGD(InnerDescent):
    """FedMeta(Meta-SGD): phi is `{"params": theta, "inner_lr": alpha}`, the same tree shape in both.

    As MAML, with theta - alpha * gradient taken elementwise, and alpha trained like theta (Li et al.,
    arXiv 1707.09835; 1802.07876, algorithm 1). Every coordinate of alpha starts at `inner_lr`. Both parts are
    sent in both directions, so a message is twice as large as MAML's. With `adaptable`, alpha has rates for those
    parameters alone; with `inner`, alpha multiplies the result of that transformation.
    """

    name: ClassVar[str] = "meta-sgd"
    title: ClassVar[str] = "FedMeta(Meta-SGD)"

    @property
    def differentiated(self) -> Any:
        """What the inner loop does to a gradient before the rates multiply it."""
        return self.inner

    def init(self, model: Model, key: Any) -> Phi:
        """Return theta, and alpha with `inner_lr` in every coordinate."""
        params = model.init(key)
        moving, _ = pytrees.split(params, self.patterns(model))
        return {"params": params, "inner_lr": jax.tree.map(lambda p: jnp.full_like(p, self.inner_lr), moving)}

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return theta and gradient descent at the rates alpha, in training and in adaptation alike."""
        rates = scale_by_tree(phi["inner_lr"])
        return Start(phi["params"], rates if self.inner is None else optax.chain(self.inner, rates))

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the gradient of the adapted model's query loss in theta and in alpha."""
        return meta_gradient(self, model, phi, task, key), memory


def scale_by_tree(rates: Any) -> optax.GradientTransformation:
    """Return the transformation of an update to -rates * update, elementwise; it may be differentiated in the rates."""

    def scale(updates: Any, _: Any = None) -> Any:
        return jax.tree.map(lambda u, rate: -rate * u, updates, rates)

    return optax.stateless(scale)
