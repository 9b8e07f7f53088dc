"""ANIL: MAML whose clients adapt the head of the network alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, meta_gradient
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class ANIL(SharedInitialisation):
    """ANIL: phi is an initialisation theta, of which a client adapts the head alone (almost no inner loop).

    The query loss is differentiated in all of theta, through the inner steps on the head (Raghu et al.,
    arXiv 1909.09157). The head is what `adaptable` matches; by default the head that the model names
    (`fm.Model(..., head=...)`; the ready-made networks name theirs).
    """

    name: ClassVar[str] = "anil"
    title: ClassVar[str] = "ANIL"
    head_only: ClassVar[bool] = True

    @property
    def differentiated(self) -> Any:
        """The optimiser of the inner loop."""
        return self.optimiser()

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the gradient of the adapted model's query loss in theta."""
        return meta_gradient(self, model, phi, task, key), memory
