"""A linear mixed model for numbers: what all clients share, and an intercept of each client's own that is shrunk.

What statistics has long used where ratings or patients come in groups (Laird and Ware 1982, doi 10.2307/2529876); a
learner for groups that does not beat it has not earned its cost.
"""

from dataclasses import dataclass

import numpy as np

from fedmeta.data import FederatedDataset, columns
from fedmeta.errors import DataError, UsageError
from fedmeta.evaluation.scores import Predictions, Report, Scores
from fedmeta.study.answers import Sides


@dataclass(frozen=True, eq=False)
class MixedModel:
    """y = intercept + x slopes + u + e, with u ~ N(0, between) of each client's own, and e ~ N(0, within).

    Args:
        intercept: what all clients share.
        slopes: likewise, shape [inputs].
        between: the variance of clients' intercepts.
        within: the variance of what is left.
    """

    intercept: float
    slopes: np.ndarray
    between: float
    within: float

    def fixed(self, x: np.ndarray) -> np.ndarray:
        """Return the answers to inputs of shape [examples, inputs] for a client of whom nothing is known."""
        return self.intercept + x @ self.slopes

    def own(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return a client's intercept from its examples: the best linear unbiased prediction of u.

        It is n between / (n between + within) times the mean of what the fixed part leaves of n targets.
        """
        pull = len(y) * self.between
        return float(pull / (pull + self.within) * np.mean(y - self.fixed(x))) if pull else 0.0


def fit(train: FederatedDataset) -> MixedModel:
    """Fit a mixed model to the training clients' examples.

    The variances are estimated by analysis of variance of what least squares leaves (Searle's method, in groups of any
    sizes), a negative one between clients being 0; then the rest by generalised least squares with them.

    Raises:
        UsageError: the targets are no numbers, or there are several inputs or targets.
        DataError: no client has two examples, or there is one client only.
    """
    if train.num_classes is not None or len(train.y.shape) != 1 or not isinstance(train.x, columns.Column):
        raise UsageError(f"{train!r} has no numbers to predict from one array of inputs")
    if train.num_clients < 2 or train.num_examples <= train.num_clients:
        raise DataError(f"{train!r} does not tell what is between its clients from what is within them")
    x, y, owner = _read(train)
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    first = np.linalg.lstsq(design, y, rcond=None)[0]
    between, within = _variances(y - design @ first, owner, train.sizes)
    # Fuller and Battese's transformation: least squares on it is generalised least squares.
    share = 1 - np.sqrt(within / (within + train.sizes * between)) if within > 0 else np.zeros(train.num_clients)
    moved = design - share[owner, None] * _means(design, owner, train.sizes)[owner]
    target = y - share[owner] * _means(y[:, None], owner, train.sizes)[owner, 0]
    found = np.linalg.lstsq(moved, target, rcond=None)[0]
    return MixedModel(float(found[0]), found[1:], between, within)


def mixed_model(test: FederatedDataset, train: FederatedDataset, sides: Sides | None = None) -> Report:
    """Return the report of a mixed model: before a client's own intercept, and with that of its support set.

    Raises:
        UsageError: as for `fit`.
        DataError: as for `fit`, or no client has two examples.
    """
    model, sides = fit(train), sides or Sides()
    usable = np.flatnonzero(test.drawable >= 2)
    if not len(usable):
        raise DataError(f"no client of {test!r} has two examples, one for support and one for query")
    targets, before, after, supports = [], [], [], []
    for place in usable:
        task = test.task_at(int(place), sides.support, sides.seed, max_examples=sides.max_examples)
        given = model.fixed(_flat(task.query.x))
        own = model.own(_flat(task.support.x), np.asarray(task.support.y, np.float64))
        targets.append(np.asarray(task.query.y))
        before.append(given.astype(np.float32))
        after.append((given + own).astype(np.float32))
        supports.append(len(task.support))
    return Report(
        _scores(targets, before),
        _scores(targets, after),
        tuple(str(name) for name in test.ids[usable]),
        np.array(supports),
        (),
        test.num_clients - len(usable),
        Predictions(tuple(targets), tuple(before), tuple(after)),
    )


def _read(data: FederatedDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = columns.read((data.x, data.y), data.rows)
    return _flat(x), np.asarray(y, np.float64), np.repeat(np.arange(data.num_clients), data.sizes)


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(len(x), -1)


def _means(values: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean of each client's rows, shape [clients, columns]."""
    found = np.zeros((len(sizes), values.shape[1]))
    np.add.at(found, owner, values)
    return found / np.maximum(sizes, 1)[:, None]


def _variances(left: np.ndarray, owner: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Return the variance between clients and that within them."""
    means = _means(left[:, None], owner, sizes)[:, 0]
    total, clients = len(left), np.count_nonzero(sizes)
    within = float(np.sum((left - means[owner]) ** 2) / (total - clients))
    spread = np.sum(sizes * (means - left.mean()) ** 2) - (clients - 1) * within
    return max(float(spread / (total - np.sum(sizes**2) / total)), 0.0), within


def _scores(targets: list[np.ndarray], answers: list[np.ndarray]) -> Scores:
    errors = [given.astype(np.float64) - y for y, given in zip(targets, answers, strict=True)]
    values = {
        "loss": [np.mean(error**2) / 2 for error in errors],
        "squared_error": [np.mean(error**2) for error in errors],
        "absolute_error": [np.mean(np.abs(error)) for error in errors],
    }
    return Scores({name: np.array(each) for name, each in values.items()}, np.array([len(y) for y in targets]))
