"""FedMeta(Meta-SGD): a shared initialisation and a learned rate for each of its coordinates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fedmeta.algorithms.algorithm import Algorithm, ClientUpdate, Phi, meta_gradient
from fedmeta.algorithms.inner import Start
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class MetaSGD(Algorithm):
    """FedMeta(Meta-SGD): phi is `{"params": theta, "inner_lr": alpha}`, the same tree shape in both.

    As MAML, with theta - alpha * gradient taken elementwise, and alpha trained like theta (Li et al.,
    arXiv 1707.09835; 1802.07876, algorithm 1). Every coordinate of alpha starts at `inner_lr`. Both parts are
    sent and come back, so a message is twice as large as MAML's.
    """

    name: ClassVar[str] = "meta-sgd"
    title: ClassVar[str] = "FedMeta(Meta-SGD)"

    def init(self, model: Model, key: Any) -> Phi:
        """Return theta, and alpha with `inner_lr` in every coordinate."""
        params = model.init(key)
        return {"params": params, "inner_lr": jax.tree.map(lambda p: jnp.full_like(p, self.inner_lr), params)}

    def start(self, phi: Phi, *, adapting: bool) -> Start:
        """Return theta and alpha, in training and in adaptation alike."""
        return Start(phi["params"], phi["inner_lr"])

    def client_update(self, model: Model, phi: Phi, task: Task, key: Any) -> ClientUpdate:
        """Return the gradient of the adapted model's query loss in theta and in alpha."""
        return meta_gradient(self, model, phi, task, key)
