"""FedMeta(Meta-SGD): a shared initialisation and a learned rate for each of its coordinates."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from fedmeta import pytrees
from fedmeta.algorithms.algorithm import ClientUpdate, InnerDescent, Memory, Phi, meta_gradient
from fedmeta.algorithms.inner import Start
from fedmeta.errors import UsageError
from fedmeta.model import Model
from fedmeta.task import Task


@dataclass(frozen=True, kw_only=True)
class MetaSGD(InnerDescent):
    """FedMeta(Meta-SGD): phi is `{"params": theta, "inner_lr": alpha}`, the same tree structure in both.

    As MAML, with theta - alpha * gradient taken elementwise, and alpha trained like theta (Li et al.,
    arXiv 1707.09835; 1802.07876, algorithm 1). Every rate in alpha starts at `inner_lr`. Both parts are
    sent in both directions, so a message is twice as large as MAML's where each coordinate has a rate of its own.
    With `adaptable`, alpha has rates for those parameters alone; with `inner`, alpha multiplies that optimiser's
    steps, whose own learning rate is usually 1 then.

    Args:
        rates: what shares a rate: a "filter", which is an index of an array's last axis (an output of a dense layer or
            of a convolution, in this library's networks and in Flax's; a bias, which has one axis, keeps a rate for
            each coordinate), or a "layer", which is an array of the parameters (weights have one rate, their bias
            another). By default each coordinate has its own, as in the papers. An array of shape [..., n] has rates
            of shape [n], of shape [], or of its own.

    Raises:
        UsageError: a value is out of range; the message names it.
    """

    name: ClassVar[str] = "meta-sgd"
    title: ClassVar[str] = "FedMeta(Meta-SGD)"

    rates: Literal["filter", "layer"] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.rates not in (None, "filter", "layer"):
            raise UsageError(f"rates must be 'filter' or 'layer', or None for one a coordinate, not {self.rates!r}")

    @property
    def differentiated(self) -> Any:
        """The optimiser whose steps the rates multiply."""
        return self.inner

    def init(self, model: Model, key: Any) -> Phi:
        """Return theta, and alpha with `inner_lr` as every rate."""
        params = model.init(key)
        moving, _ = pytrees.split(params, self.patterns(model))

        def rates(leaf: Any) -> Any:
            whole = jnp.shape(leaf)
            shape = {None: whole, "filter": whole[-1:], "layer": ()}[self.rates]
            return jnp.full_like(leaf, self.inner_lr, shape=shape)

        return {"params": params, "inner_lr": jax.tree.map(rates, moving)}

    def start(self, phi: Phi, memory: Memory = (), *, adapting: bool = False) -> Start:
        """Return theta and a descent at the rates alpha, in training and in adaptation alike."""
        rates = phi["inner_lr"]
        if self.inner is None:
            return Start(phi["params"], scale_by_tree(jax.tree.map(jnp.negative, rates)))
        # An optimiser's steps lead downhill already.
        return Start(phi["params"], optax.chain(self.inner, scale_by_tree(rates)))

    def update(self, model: Model, phi: Phi, task: Task, key: Any, memory: Memory = ()) -> tuple[ClientUpdate, Memory]:
        """Return the gradient of the adapted model's query loss in theta and in alpha."""
        return meta_gradient(self, model, phi, task, key), memory


def scale_by_tree(rates: Any) -> optax.GradientTransformation:
    """Return the transformation of an update to rates * update; it may be differentiated in the rates.

    A rate of fewer axes than its part of the update is that of all places along the others.
    """

    def scale(updates: Any, _: Any = None) -> Any:
        # Broadcast explicitly, because JAX can be set to refuse it otherwise (jax_numpy_rank_promotion).
        return jax.tree.map(lambda u, rate: jnp.broadcast_to(rate, u.shape) * u, updates, rates)

    return optax.stateless(scale)
