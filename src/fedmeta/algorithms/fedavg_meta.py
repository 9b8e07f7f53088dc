"""FedAvg(Meta): FedAvg whose global model is fine-tuned by each client before it is tested."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, displacement
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class FedAvgMeta(SharedInitialisation):
    """FedAvg(Meta): trained as FedAvg is, then adapted on the support set before it is tested.

    The baseline of 1802.07876, section 4.1, that separates what adaptation gives from what training for
    adaptation gives.
    """

    name: ClassVar[str] = "fedavg-meta"
    title: ClassVar[str] = "FedAvg(Meta)"
    default_epochs: ClassVar[int | None] = 1

    inner_batch_size: int | None = 10
    weighting: Literal["clients", "examples"] = "examples"

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return theta minus the locally trained model."""
        return displacement(self, model, phi, task, key), memory
