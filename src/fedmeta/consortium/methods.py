"""What is compared: how each algorithm trains and adapts on the hospitals, and the procedure of a federation."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
            case "alone":
                return FedAvgMeta(**own, adapt_lr=ADAPT_LR, adapt_steps=self.adapt)
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

    @cached_property
    def adapting(self) -> Federation:
        """A federation whose clients adapt as these do, by `MOST_STEPS`, equal for settings that adapt alike.

        But for Meta-SGD, whose rates are in phi, adaptation is gradient descent at one rate.
        """
        if self.name == "meta-sgd":
            algorithm: Algorithm = MetaSGD(inner_lr=ADAPT_LR, adapt_steps=MOST_STEPS)
        else:
            lr = ADAPT_LR if self.name in ("alone", "fedavg", "fedavg-meta") else self.lr
            algorithm = FedAvgMeta(inner_lr=lr, inner_batch_size=None, adapt_steps=MOST_STEPS)
        return Federation(algorithm, INPUTS.model(MODEL, {}), self.optimiser)

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
MOST_STEPS, FOLDS = 30, 10
"""A client adapts by at most so many steps, and chooses how many by so many folds of its own patients."""

PADDED = 20
"""Patients are padded to a multiple of this, so that few programs are compiled."""

ALONE = Setting("alone", ADAPT_LR, 1)
"""The same network from zero, without anybody's training."""


def _settings(name: str, **hospitals: tuple[float, int, float, bool, int]) -> dict[str, Setting]:
    return {place.replace("_", "-"): Setting(name, *values) for place, values in hospitals.items()}


NEWCOMER: dict[str, dict[str, Setting]] = {
    "fedavg": _settings(
        "fedavg",
        cleveland=(1.0, 3, 0.0, False, 0),
        budapest=(0.1, 1, 0.0, False, 0),
        zurich=(0.3, 1, 0.0, False, 0),
        long_beach=(0.1, 3, 0.0, False, 0),
    ),
    "fedavg-meta": _settings(
        "fedavg-meta",
        cleveland=(0.1, 1, 0.0, False, 5),
        budapest=(0.1, 1, 0.0, False, 5),
        zurich=(0.3, 1, 0.0, False, 1),
        long_beach=(0.1, 1, 0.0, False, 4),
    ),
    "maml": _settings(
        "maml",
        cleveland=(0.3, 1, 0.005, False, 5),
        budapest=(0.1, 3, 0.005, True, 15),
        zurich=(0.1, 3, 0.005, True, 1),
        long_beach=(0.3, 1, 0.005, False, 5),
    ),
    "meta-sgd": _settings(
        "meta-sgd",
        cleveland=(0.3, 1, 0.003, False, 2),
        budapest=(0.3, 3, 0.003, True, 4),
        zurich=(0.1, 3, 0.01, True, 1),
        long_beach=(1.0, 3, 0.01, True, 2),
    ),
    "per-fedavg": _settings(
        "per-fedavg",
        cleveland=(0.3, 1, 0.03, False, 5),
        budapest=(0.3, 3, 0.03, True, 4),
        zurich=(0.1, 1, 0.1, False, 1),
        long_beach=(0.1, 3, 0.03, False, 15),
    ),
}
"""By algorithm and hospital, how it trains and adapts where that hospital is the newcomer.

Chosen by `benchmarks/consortium.py` on the other three hospitals alone."""

MEMBER: dict[str, dict[str, Setting]] = {
    "fedavg": _settings(
        "fedavg",
        cleveland=(0.3, 1, 0.0, False, 0),
        budapest=(0.3, 1, 0.0, False, 0),
        zurich=(0.3, 1, 0.0, False, 0),
        long_beach=(0.3, 1, 0.0, False, 0),
    ),
    "fedavg-meta": _settings(
        "fedavg-meta",
        cleveland=(0.1, 1, 0.0, False, 10),
        budapest=(0.1, 3, 0.0, False, 20),
        zurich=(0.3, 1, 0.0, False, 1),
        long_beach=(0.1, 1, 0.0, False, 30),
    ),
    "maml": _settings(
        "maml",
        cleveland=(1.0, 1, 0.005, False, 2),
        budapest=(0.3, 3, 0.005, True, 20),
        zurich=(0.3, 1, 0.005, True, 8),
        long_beach=(0.3, 3, 0.005, True, 30),
    ),
    "meta-sgd": _settings(
        "meta-sgd",
        cleveland=(1.0, 1, 0.003, False, 3),
        budapest=(0.3, 3, 0.003, True, 20),
        zurich=(0.1, 1, 0.01, True, 2),
        long_beach=(1.0, 3, 0.003, True, 10),
    ),
    "per-fedavg": _settings(
        "per-fedavg",
        cleveland=(1.0, 1, 0.1, False, 2),
        budapest=(0.3, 3, 0.1, False, 20),
        zurich=(0.1, 1, 0.1, True, 4),
        long_beach=(0.3, 3, 0.1, True, 20),
    ),
}
"""Likewise, where that hospital is a member; a hospital that is judged is judged by what was chosen without it."""


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

    def phi(self, setting: Setting) -> Any:
        """Return each run's phi after its rounds, every array [runs, ...]; of "alone", the one before them."""
        alike = setting.in_training
        if setting.name == "alone":
            return side_by_side.initial(setting.federation, self.runs)
        if alike not in self._phi:
            if setting.draws not in self._draws:
                self._draws[setting.draws] = side_by_side.draw(self.runs, self.y, self.rounds, *setting.draws)
            drawn = self._draws[setting.draws]
            self._phi[alike] = side_by_side.train(alike.federation, self.x, self.y, self.runs, drawn)
        return self._phi[alike]

    def adapted(self, setting: Setting, support: list[np.ndarray], which: list[int]) -> Any:
        """Return each client's parameters after 0 to `MOST_STEPS` steps, every array [clients, steps + 1, ...].

        Args:
            setting: how to train and adapt.
            support: the patients on which each client adapts.
            which: the run from whose phi each starts.
        """
        length = PADDED * -(-max(map(len, support)) // PADDED)
        rows = Rows.of(support, length)
        return side_by_side.adapt(setting.adapting, self.phi(setting), self.x, self.y, rows, np.array(which))

    def odds(self, setting: Setting, params: Any, asked: list[np.ndarray]) -> list[np.ndarray]:
        """Return the log odds of being ill, for each client [steps, asked].

        Args:
            setting: how they were trained.
            params: every array [clients, steps, ...].
            asked: the patients that each is asked for.
        """
        length = -(-max(map(len, asked)) // PADDED) * PADDED
        logits = side_by_side.predict(setting.adapting, params, self.x, Rows.of(asked, length).places)
        odds = logits[..., 1].astype(np.float64) - logits[..., 0]
        return [one[:, : len(rows)] for one, rows in zip(odds, asked, strict=True)]


def own_steps(
    trained: Trained, setting: Setting, support: list[np.ndarray], which: list[int], usual: int | None
) -> np.ndarray:
    """Return how many steps each client adapts by, chosen on its own patients alone, at most `MOST_STEPS`.

    By the sum of the log losses in a cross-validation of at most `FOLDS` folds. Few patients say little, so a number of
    steps that is e times as large as the usual one, or as small, must be better by one nat; ten times, by five.

    Args:
        trained: the runs.
        setting: how to train.
        support: each client's patients.
        which: the run from whose phi each starts.
        usual: what was best for other hospitals; None where nobody has said anything.

    Returns:
        Whole numbers of shape [clients].
    """
    kept, asked, starts, owner = [], [], [], []
    for place, rows in enumerate(support):
        folds = min(len(rows), FOLDS)
        fold = np.arange(len(rows)) % folds
        kept += [rows[fold != number] for number in range(folds)]
        asked += [rows[fold == number] for number in range(folds)]
        starts += [which[place]] * folds
        owner += [place] * folds
    odds = trained.odds(setting, trained.adapted(setting, kept, starts), asked)
    losses = np.zeros((len(support), MOST_STEPS + 1))
    for place, one, rows in zip(owner, odds, asked, strict=True):
        losses[place] += (np.logaddexp(0, one) - trained.y[rows] * one).sum(axis=1)
    if usual is not None:
        losses += np.log((np.arange(MOST_STEPS + 1) + 1) / (usual + 1)) ** 2
    return losses.argmin(axis=1)


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
