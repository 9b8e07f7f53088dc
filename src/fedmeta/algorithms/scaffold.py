"""SCAFFOLD: FedAvg with control variates against the drift of unlike clients."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from fedmeta import _keys, optimisers
from fedmeta._settings import a_number
from fedmeta.algorithms.algorithm import ClientUpdate, InnerDescent, Memory, Phi
from fedmeta.algorithms.inner import Start
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class SCAFFOLD(InnerDescent):
    """SCAFFOLD: phi is `{"params": theta, "control": c}`; a client keeps a control c_u of its own in its memory.

    A local step follows gradient - c_u + c; after K steps the client's control becomes
    c_u - c + (theta - theta_local) / (K * lr) (Karimireddy et al., arXiv 1910.06378, algorithm 1, option II), and
    the server moves c by the mean change times the share of clients that took part. Its server must be
    `fm.optimisers.sgd(1.0)`, because any other would distort the controls. A message is twice as large as FedAvg's.
    It is tested as it is, without adaptation.

    Args:
        participation: cohort size / number of clients, in (0, 1].
    """

    name: ClassVar[str] = "scaffold"
    title: ClassVar[str] = "SCAFFOLD"
    adapts: ClassVar[bool] = False

    participation: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "participation", a_number("participation", self.participation))
        if not 0 < self.participation <= 1:
            raise UsageError(f"participation must lie in (0, 1], cohort size / clients, not {self.participation}")
        if self.inner is not None:
            raise UsageError("SCAFFOLD's control counts steps of plain gradient descent: inner=... has no meaning")
        if self.inner_epochs is not None:
            raise UsageError("SCAFFOLD's control divides by the number of steps: give inner_steps, not inner_epochs")
        if self.weighting != "clients":
            raise UsageError("SCAFFOLD's controls are averaged over clients: weighting must be 'clients'")

    def check_server(self, server: Any) -> None:
        """Raise a UsageError unless the server takes the mean as it is."""
        plain = (optimisers.sgd(1.0), optax.sgd(1.0))
        if _keys.value_key(server) not in [_keys.value_key(one) for one in plain]:
            raise UsageError("SCAFFOLD needs the server fm.optimisers.sgd(1.0): another one distorts its controls")

    def init(self, model: Model, key: Any) -> Phi:
        """Return theta, and a control of zeros."""
        params = model.init(key)
        return {"params": params, "control": jax.tree.map(jnp.zeros_like, params)}

    def memory(self, model: Model, key: Any) -> Memory:
        """Return a control of zeros."""
        return jax.tree.map(jnp.zeros_like, model.init(key))

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return theta, and gradient descent that is corrected by c - c_u."""
        correction = jax.tree.map(jnp.subtract, phi["control"], memory)
        rate = self.inner_lr
        step = optax.stateless(lambda updates, _: jax.tree.map(lambda u, c: -rate * (u + c), updates, correction))
        return Start(phi["params"], step)

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return theta minus the locally trained model, and the change of the control; keep the new control."""
        descent = self.train(model, phi, task.pooled(), key, memory)
        moved = jax.tree.map(jnp.subtract, phi["params"], descent.params)
        steps = self.training_loop.steps
        assert steps is not None
        own = jax.tree.map(lambda c, g, m: c - g + m / (steps * self.inner_lr), memory, phi["control"], moved)
        # In a gradient's place: the server subtracts it.
        change = jax.tree.map(lambda old, new: (old - new) * self.participation, memory, own)
        return ClientUpdate({"params": moved, "control": change}, self.weight(task), descent.metrics), own
