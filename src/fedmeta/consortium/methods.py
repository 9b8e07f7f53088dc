"""What is compared: how each algorithm trains and adapts on the hospitals, and the procedure of a federation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from fedmeta import optimisers
from fedmeta.algorithms import MAML, Algorithm, FedAvg, FedAvgMeta, MetaSGD, PerFedAvg
from fedmeta.consortium import side_by_side
from fedmeta.consortium.hospitals import INPUTS
from fedmeta.consortium.side_by_side import Rows, Run
from fedmeta.federation import Federation
from fedmeta.optimisers import NamedOptimiser
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import chain, clip_by_norm, fixed_point

MODEL = "softmax_regression"
"""The network: as many numbers as a logistic regression, so that methods are compared and not networks."""

ROUNDS = 100
HEADLINE = "meta-sgd"
"""The algorithm that the goals are about; named before anything was measured."""

TITLES = {
    "fedavg": "FedAvg",
    "fedavg-meta": "FedAvg(Meta)",
    "maml": "MAML",
    "meta-sgd": "Meta-SGD",
    "per-fedavg": "PerFedAvg",
}
"""The algorithms' names for people, in the order of the tables."""

ALL, FEW = (0.5, None), (1 / 6, 60)
"""Support fraction and most examples of a client in a round: all of them, or ten to adapt on and fifty to judge by."""


@dataclass(frozen=True)
class Setting:
    """How an algorithm trains and adapts.

    Args:
        name: of the algorithm.
        lr: a client's learning rate; Meta-SGD's rates start there.
        steps: a client's steps in training.
        server: the server's learning rate: of Adam for MAML and Meta-SGD, of the local steps for PerFedAvg; else 0.
        few: whether a client draws `FEW` examples in a round, or `ALL`.
        adapt: steps when a client adapts.
    """

    name: str
    lr: float
    steps: int
    server: float = 0.0
    few: bool = False
    adapt: int = 0

    @cached_property
    def algorithm(self) -> Algorithm:
        """The algorithm, with the steps of its adaptation."""
        own = {"inner_lr": self.lr, "inner_steps": self.steps}
        match self.name:
            case "fedavg":
                return FedAvg(**own, inner_batch_size=None)
            case "fedavg-meta":
                return FedAvgMeta(**own, inner_batch_size=None, adapt_lr=ADAPT_LR, adapt_steps=self.adapt)
            case "maml":
                return MAML(**own, adapt_steps=self.adapt)
            case "meta-sgd":
                return MetaSGD(**own, adapt_steps=self.adapt)
            case _:
                of = MAML(**own, adapt_steps=self.adapt)
                return PerFedAvg(of=of, local=optimisers.sgd(self.server), local_steps=LOCAL_STEPS, batch_size=None)

    @property
    def optimiser(self) -> NamedOptimiser:
        """The server's optimiser."""
        return optimisers.adam(self.server) if self.name in ("maml", "meta-sgd") else optimisers.sgd(1.0)

    @cached_property
    def federation(self) -> Federation:
        """What a round computes."""
        return Federation(self.algorithm, INPUTS.model(MODEL, {}), self.optimiser)

    @property
    def draws(self) -> tuple[float, int | None]:
        """Support fraction and most examples of a client in a round."""
        return FEW if self.few else ALL

    @property
    def in_training(self) -> "Setting":
        """The same without the steps of the adaptation, so that settings that train alike are equal."""
        return replace(self, adapt=0, name="fedavg" if self.name == "fedavg-meta" else self.name)


ADAPT_LR = 0.3
"""The learning rate at which a client adapts what FedAvg trained."""
LOCAL_STEPS = 4


class Trained:
    """Runs that are trained side by side, each once for all settings that train alike.

    Args:
        x: the inputs of all patients, shape [patients, 15].
        y: whether they are ill, shape [patients].
        runs: the seed and the training patients of each run.
        rounds: how many rounds.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, runs: list[Run], rounds: int = ROUNDS):
        self.x, self.y, self.runs, self.rounds = x, y, runs, rounds
        self._draws: dict[Any, side_by_side.Draws] = {}
        self._phi: dict[Setting, Any] = {}

    def phi(self, setting: Setting, which: np.ndarray | None = None) -> Any:
        """Return each run's phi, every array [runs, ...]; of some of them where `which` says so."""
        alike = setting.in_training
        if alike not in self._phi:
            if setting.draws not in self._draws:
                self._draws[setting.draws] = side_by_side.draw(self.runs, self.y, self.rounds, *setting.draws)
            drawn = self._draws[setting.draws]
            self._phi[alike] = side_by_side.train(alike.federation, self.x, self.y, self.runs, drawn)
        found = self._phi[alike]
        return found if which is None else jax.tree.map(lambda leaf: leaf[which], found)

    def answers(self, setting: Setting, support: list[np.ndarray], asked: list[np.ndarray], which: list[int]) -> Any:
        """Return the log odds of being ill after each step of adaptation: for each client [steps + 1, asked].

        Args:
            setting: how to train and adapt.
            support: the patients on which each client adapts.
            asked: the patients that each is asked for.
            which: the run from whose phi each starts.
        """
        places = Rows.of(asked).places
        logits = side_by_side.adapt(
            setting.federation, self.phi(setting), self.x, self.y, Rows.of(support), places, np.array(which)
        )
        odds = logits[..., 1].astype(np.float64) - logits[..., 0]
        return [one[:, : len(rows)] for one, rows in zip(odds, asked, strict=True)]


def procedure(
    name: str = HEADLINE, *, rounds: int = ROUNDS, members: int = 4, seed: int = 0, clip: float = 1.0
) -> Procedure:
    """Return the procedure of a federation of hospitals: exact sums, and updates of a bounded length.

    Args:
        name: of the algorithm.
        rounds: the most rounds.
        members: how many hospitals are in a round.
        seed: of the first model.
        clip: the largest norm of an update.
    """
    setting = NEWCOMER[name]["cleveland"]
    support, most = setting.draws
    return Procedure(
        algorithm=setting.algorithm,
        server=setting.optimiser,
        transform=chain(clip_by_norm(clip), fixed_point(20, 24)),
        model=MODEL,
        inputs=INPUTS,
        rounds=rounds,
        cohort_size=members,
        support=support,
        max_examples=most,
        seed=seed,
    )
