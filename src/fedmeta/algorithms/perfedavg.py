"""Per-FedAvg: a client takes several local steps of another algorithm before it answers."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fedmeta._settings import said, whole_number
from fedmeta.algorithms.algorithm import Algorithm, ClientUpdate, Memory, Phi
from fedmeta.algorithms.inner import Descent, InnerLoop, Start, apply_updates
from fedmeta.algorithms.maml import MAML
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.optimisers import check_optimiser, sgd
from fedmeta.task import Batch, Task

ROWS = 0x726F7773
"""Folded into a client's key for the minibatches of its local steps."""

STEPS = 0x73746570
"""Folded into a client's key for what the other algorithm draws in each step."""


@dataclass(frozen=True, kw_only=True)
class PerFedAvg(Algorithm):
    """Per-FedAvg: a client takes local steps along another algorithm's pseudo-gradient, and answers with their sum.

    With `of=fm.MAML(...)` it is Per-FedAvg with exact second derivatives, with `fm.FOMAML(...)` its first-order form
    (Fallah et al., arXiv 2002.07948, algorithm 1); any other algorithm is possible too. Each local step draws its
    own minibatches of the support and of the query examples; the client answers with phi minus where it ends, and
    `fm.optimisers.sgd(1.0)` at the server takes the mean of the clients' results. A client adapts as `of` says.

    Args:
        of: the algorithm whose pseudo-gradient a local step follows.
        local: the optimiser of the local steps, an Optax transformation or one of `fm.optimisers`.
        local_steps: the number of local steps.
        batch_size: examples of the support, and of the query, in a local step; None takes all of them.
    """

    name: ClassVar[str] = "per-fedavg"
    title: ClassVar[str] = "Per-FedAvg"

    of: Algorithm = field(default_factory=MAML)
    local: Any = sgd(0.05)  # noqa: RUF009 (a value)
    local_steps: int = 4
    batch_size: int | None = 10

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.of, Algorithm):
            raise UsageError(f"of must be an algorithm such as fm.MAML(), not {said(self.of)}")
        check_optimiser("local", self.local)
        for name in ("local_steps", "batch_size"):
            value = whole_number(name, getattr(self, name))
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
            object.__setattr__(self, name, value)

    @property
    def differentiated(self) -> Any:
        """The optimiser that the other algorithm differentiates through."""
        return self.of.differentiated

    def check_server(self, server: Any) -> None:
        """Leave it to the other algorithm."""
        self.of.check_server(server)

    def init(self, model: Model, key: Any) -> Phi:
        """Return what the other algorithm starts from."""
        return self.of.init(model, key)

    def memory(self, model: Model, key: Any) -> Memory:
        """Return what the other algorithm's clients keep."""
        return self.of.memory(model, key)

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return where the other algorithm's descent starts."""
        return self.of.start(phi, memory, adapting=adapting)

    def descend(
        self, model: Model, phi: Phi, support: Batch, key: Any, probe: Any = None, memory: Memory = ()
    ) -> Descent:
        """Adapt as the other algorithm does."""
        return self.of.descend(model, phi, support, key, probe, memory)

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return phi minus where the local steps end."""
        numbers = jnp.arange(self.local_steps)
        sides = (task.support, task.query)
        rows = [self._rows(batch, jax.random.fold_in(key, ROWS + side), numbers) for side, batch in enumerate(sides)]

        def step(carry: Any, place: Any) -> tuple[Any, Any]:
            (here, state, memory), (number, drawn) = carry, place
            parts = [batch if some is None else batch.take(*some) for batch, some in zip(sides, drawn, strict=True)]
            once = jax.random.fold_in(jax.random.fold_in(key, STEPS), number)
            update, memory = self.of.update(model, here, Task(*parts), once, memory)
            updates, state = self.local.update(update.pseudo_gradient, state, here)
            return (apply_updates(here, updates), state, memory), update.metrics

        first = (phi, self.local.init(phi), memory)
        (there, _, memory), metrics = jax.lax.scan(step, first, (numbers, rows))
        moved = jax.tree.map(jnp.subtract, phi, there)
        means = {name: jnp.mean(values) for name, values in metrics.items()}
        return ClientUpdate(moved, self.weight(task), means), memory

    def _rows(self, batch: Batch, key: Any, numbers: Any) -> Any:
        if self.batch_size is None:
            return None
        return InnerLoop(self.local_steps, None, self.batch_size).draw(batch, key, numbers)
