"""FedAvg: one global model, averaged from clients' local training."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, displacement
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class FedAvg(SharedInitialisation):
    """FedAvg: phi is the global model theta, and it is tested as it is.

    A client trains on all of its examples, support and query, and answers with theta - theta_local, so that
    `optax.sgd(1.0)` at the server gives the weighted mean of the clients' models (McMahan et al.,
    arXiv 1602.05629, algorithm 1) and `optax.adam` gives FedAdam (Reddi et al., arXiv 2003.00295). One epoch
    in batches of 10 where nothing else is said.
    """

    name: ClassVar[str] = "fedavg"
    title: ClassVar[str] = "FedAvg"
    adapts: ClassVar[bool] = False
    default_epochs: ClassVar[int | None] = 1

    inner_batch_size: int | None = 10
    weighting: Literal["clients", "examples"] = "examples"

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return theta minus the locally trained model."""
        return displacement(self, model, phi, task, key), memory
