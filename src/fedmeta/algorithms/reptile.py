"""Reptile: move the initialisation towards where clients' gradient descent ends."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, displacement
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class Reptile(SharedInitialisation):
    """Reptile: phi is an initialisation theta, and a client answers with theta - theta_local.

    The client's gradient descent runs on all of its examples, support and query, because there is no query loss
    (Nichol et al., arXiv 1803.02999, algorithm 2). With more than one step it differs from a gradient on the
    joint loss; with one it is that gradient. It differs from FedAvg(Meta) in that clients have equal weights.
    """

    name: ClassVar[str] = "reptile"
    title: ClassVar[str] = "Reptile"
    default_epochs: ClassVar[int | None] = 1

    inner_batch_size: int | None = 10

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return theta minus where the client's gradient descent ends."""
        return displacement(self, model, phi, task, key), memory
