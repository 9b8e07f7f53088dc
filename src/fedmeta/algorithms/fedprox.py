"""FedProx: FedAvg whose clients are held near the global model."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import optax

from fedmeta._settings import a_number
from fedmeta.algorithms.algorithm import ClientUpdate, Memory, Phi, SharedInitialisation, displacement
from fedmeta.algorithms.inner import Start
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class FedProx(SharedInitialisation):
    """FedProx: phi is the global model theta; a client minimises its loss plus mu / 2 * ||p - theta||^2.

    The proximal term keeps clients with many local steps on unlike data from drifting apart (Li et al., arXiv
    1812.06127, algorithm 2). All else is as in FedAvg, which it is at mu = 0. It is tested as it is, without
    adaptation.

    Args:
        mu: the strength of the proximal term, from 0.
    """

    name: ClassVar[str] = "fedprox"
    title: ClassVar[str] = "FedProx"
    adapts: ClassVar[bool] = False
    default_epochs: ClassVar[int | None] = 1

    inner_batch_size: int | None = 10
    weighting: Literal["clients", "examples"] = "examples"
    mu: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "mu", a_number("mu", self.mu))
        if not 0 <= self.mu < float("inf"):
            raise UsageError(f"mu must be a number from 0, not {self.mu}")

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return theta, and a descent that is pulled back towards it."""
        return Start(phi, optax.chain(proximal(self.mu), self.optimiser(adapting=adapting)))

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return theta minus the locally trained model."""
        return displacement(self, model, phi, task, key), memory


def proximal(mu: float) -> optax.GradientTransformation:
    """Return the transformation that adds mu * (params - start), where start are the parameters before the descent."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p, start: u + mu * (p - start), updates, params, state), state

    return optax.GradientTransformation(lambda params: params, update)
