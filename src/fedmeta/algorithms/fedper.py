"""FedPer: the body of the network is shared, its head stays with the client."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from fedmeta import pytrees
from fedmeta._settings import not_one_text
from fedmeta.algorithms.algorithm import ClientUpdate, InnerDescent, Memory, Phi, check_rate, head
from fedmeta.algorithms.inner import Start
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.optimisers import sgd
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class FedPer(InnerDescent):
    """FedPer: phi is the body of the network; the head is a client's own, in its memory, and is never sent.

    A client trains body and head together on all of its examples, answers with what its body moved by, and keeps
    its head for its next round (Arivazhagan et al., arXiv 1912.00818, algorithm 1). A client that has taken no part
    has the head that the seed gives, and adapts both on its support set.

    Args:
        personal: patterns over the paths of the parameters that stay with the client; by default the model's head.
        adapt_lr: the learning rate when a client adapts; `inner_lr` by default.
    """

    name: ClassVar[str] = "fedper"
    title: ClassVar[str] = "FedPer"
    default_epochs: ClassVar[int | None] = 1

    inner_batch_size: int | None = 10
    weighting: Literal["clients", "examples"] = "examples"
    adapt_lr: float | None = None
    personal: tuple[str, ...] | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "adapt_lr", check_rate("adapt_lr", self.adapt_lr))
        if self.personal is not None:
            not_one_text("personal", self.personal, "patterns")
            object.__setattr__(self, "personal", tuple(self.personal))

    def _parts(self, model: Model, params: Any) -> tuple[Any, Any]:
        """Return (head, body)."""
        patterns = head(self, "personal", model) if self.personal is None else self.personal
        own, shared = pytrees.split(params, patterns)
        if not jax.tree.leaves(shared):
            raise UsageError(f"FedPer shares what {patterns} leaves over, and they match every parameter")
        return own, shared

    def init(self, model: Model, key: Any) -> Phi:
        """Return the body."""
        return self._parts(model, model.init(key))[1]

    def memory(self, model: Model, key: Any) -> Memory:
        """Return the head."""
        return self._parts(model, model.init(key))[0]

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return the body with the client's head, and gradient descent or the optimiser that was given."""
        rate = self.adapt_lr if adapting and self.adapt_lr is not None else self.inner_lr
        return Start(pytrees.join(phi, memory), sgd(rate) if self.inner is None else self.inner)

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the body minus the locally trained one, and keep the trained head."""
        descent = self.train(model, phi, task.pooled(), key, memory)
        own, shared = self._parts(model, descent.params)
        moved = jax.tree.map(jnp.subtract, phi, shared)
        return ClientUpdate(moved, self.weight(task), descent.metrics), own
