"""FedMeta(FOMAML): MAML without the second derivatives."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation
from fedmeta.algorithms.inner import QUERY, noise
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class FOMAML(SharedInitialisation):
    """FedMeta(FOMAML): phi is an initialisation theta; the gradient stops at the adapted parameters.

    A client answers with the gradient of the query loss in its adapted parameters (Finn et al.,
    arXiv 1703.03400, section 5.2: the first-order approximation).
    """

    name: ClassVar[str] = "fomaml"
    title: ClassVar[str] = "FedMeta(FOMAML)"

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the gradient of the query loss in the adapted parameters."""
        params = self.train(model, phi, task.support, key).params
        draws = noise(model, key, QUERY)
        (_, metrics), gradient = jax.value_and_grad(model.scores, has_aux=True)(params, task.query, draws)
        return ClientUpdate(gradient, self.weight(task), metrics), memory
