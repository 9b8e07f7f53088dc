"""FedMeta(MAML): a shared initialisation, trained through the adaptation (1802.07876, algorithm 1)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, meta_gradient
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class MAML(SharedInitialisation):
    """FedMeta(MAML): phi is an initialisation theta.

    A client takes `inner_steps` gradient steps on its support set and answers with the gradient of the query
    loss in theta, through all of those steps (Finn et al., arXiv 1703.03400, equation 1; 1802.07876,
    algorithm 1). Exact, second derivatives included.
    """

    name: ClassVar[str] = "maml"
    title: ClassVar[str] = "FedMeta(MAML)"

    @property
    def differentiated(self) -> Any:
        """The optimiser of the inner loop."""
        return self.optimiser()

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the gradient of the adapted model's query loss in theta."""
        return meta_gradient(self, model, phi, task, key), memory
