"""Figures of what was answered, in float64, by scikit-learn and SciPy: over data points, and client by client."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special, stats
from sklearn import config_context, metrics

from fedmeta.errors import UsageError

MORE_IS_BETTER = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "r2")
"""Of the other figures less is better."""

BINS = 10
"""Of equal width, in which the calibration error compares confidence and accuracy."""


@dataclass(frozen=True, eq=False)
class Figures:
    """How right some answers are.

    Classification has `accuracy`, `balanced_accuracy`, `macro_f1`, `auroc` (one class against the rest, their mean),
    `log_loss` in nats and `calibration_error`; regression has `mae` and `rmse` in the target's units, and `r2`.

    Args:
        over_points: by name, each figure over all data points as one; NaN where it is not defined.
        each: by name, each figure of each client's data points alone, shape [clients]; NaN where it is not defined,
            as AUROC is where a client's points are all of one class.
        confusion: how many points of each class (row) were given each class (column); None for regression.
    """

    over_points: Mapping[str, float]
    each: Mapping[str, np.ndarray]
    confusion: np.ndarray | None = None

    @cached_property
    def over_clients(self) -> dict[str, float]:
        """Each figure's mean over the clients for which it is defined, in which each counts the same."""
        return {name: mean(values) for name, values in self.each.items()}

    @property
    def headline(self) -> str:
        """The figure that answers are judged by: "accuracy" or "rmse"."""
        return "rmse" if self.confusion is None else "accuracy"

    @property
    def std(self) -> float:
        """The standard deviation of the headline over clients."""
        with np.errstate(invalid="ignore"):
            return float(np.std(self.each[self.headline]))

    @property
    def worst_tenth(self) -> float:
        """The mean of the headline over the tenth of the clients (at least one) for which it is worst."""
        values = np.sort(self.each[self.headline])
        count = math.ceil(len(values) / 10)
        return float(np.mean(values[:count] if self.headline in MORE_IS_BETTER else values[-count:]))

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them; one that is not finite is None."""
        found: dict[str, Any] = {
            "over_examples": {name: finite(value) for name, value in self.over_points.items()},
            "over_clients": {name: finite(value) for name, value in self.over_clients.items()},
        }
        return found if self.confusion is None else {**found, "confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Difference:
    """The mean of a difference that was measured several times, with its interval of 95 % (Student's t).

    Args:
        mean: the mean.
        low: the interval's lower end; NaN for a single measurement.
        high: its upper end.
        count: how many there are.
    """

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> "Difference":
        """Return the mean and the interval of the values that are not NaN, shape [count]."""
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return cls(math.nan, math.nan, math.nan, 0)
        centre = float(values.mean())
        if len(values) == 1:
            return cls(centre, math.nan, math.nan, 1)
        with np.errstate(invalid="ignore"):
            spread = values.std(ddof=1)
        reach = float(stats.t.ppf(0.975, len(values) - 1) * spread / np.sqrt(len(values)))
        return cls(centre, centre - reach, centre + reach, len(values))

    @classmethod
    def between(cls, one: np.ndarray, other: np.ndarray) -> "Difference":
        """Return the mean of one minus the other, pair by pair, shape [count]; two infinite ones count as NaN."""
        with np.errstate(invalid="ignore"):
            return cls.of(one - other)

    def summary(self) -> dict[str, Any]:
        """Return the difference as JSON can hold it."""
        return {"mean": finite(self.mean), "low": finite(self.low), "high": finite(self.high), "count": self.count}

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def figures(y: Sequence[np.ndarray], predictions: Sequence[Any]) -> Figures:
    """Return the figures of some clients' answers.

    An answer that is not finite is wrong, and its loss or error infinite.

    Args:
        y: each client's targets, shape [points, ...]: numbers of classes, or numbers to predict.
        predictions: each client's answers: logits [points, ..., classes], or as many numbers as there are targets.

    Raises:
        UsageError: the answers are neither.
    """
    target, answer = y[0], predictions[0]
    if not isinstance(answer, np.ndarray):
        raise UsageError("figures need predictions that are one array, not several in a dict or a tuple")
    if target.dtype.kind in "iu" and answer.ndim == target.ndim + 1:
        measure, shape = _classification, answer.shape[-1:]
    elif target.dtype.kind == "f" and math.prod(answer.shape[1:]) == math.prod(target.shape[1:]):
        measure, shape = _regression, ()
    else:
        raise UsageError(
            "figures need a logit of each class where targets are whole numbers, and else as many predictions as "
            f"targets: targets are {target.dtype} of shape {target.shape}, predictions of shape {answer.shape}"
        )
    clients = [
        (one.reshape(-1), np.asarray(other, np.float64).reshape(-1, *shape))
        for one, other in zip(y, predictions, strict=True)
    ]
    together = [np.concatenate(parts) for parts in zip(*clients, strict=True)]
    with config_context(assume_finite=True, skip_parameter_validation=True), warnings.catch_warnings():
        # A client need not hold every class that it is given.
        warnings.simplefilter("ignore")
        over, each = measure(*together), [measure(*client) for client in clients]
        confusion = _confusion(*together) if shape else None
    return Figures(over, {name: np.array([client[name] for client in each]) for name in over}, confusion)


def finite(value: float | int) -> float | int | None:
    """Return the value, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _regression(y: np.ndarray, given: np.ndarray) -> dict[str, float]:
    y = y.astype(np.float64)
    if not np.isfinite(given).all():
        return {"mae": math.inf, "rmse": math.inf, "r2": -math.inf}
    varied = len(y) > 1 and np.ptp(y) > 0
    return {
        "mae": float(metrics.mean_absolute_error(y, given)),
        "rmse": float(metrics.root_mean_squared_error(y, given)),
        "r2": float(metrics.r2_score(y, given)) if varied else math.nan,
    }


def _classification(y: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    known, given = _given(logits)
    logarithms = special.log_softmax(np.where(known[:, None], logits, 0.0), axis=1)
    # From the shares themselves it would end at 36, the logarithm of what float64 tells from zero.
    loss = np.mean(-logarithms[np.arange(len(y)), y]) if known.all() else math.inf
    labels = np.arange(logits.shape[1])
    # The figures of one table, in which -1 stands for no answer: each of scikit-learn's functions would make it anew.
    table = metrics.confusion_matrix(y, given, labels=np.append(labels, -1))[:-1]
    right, held, answered = np.diag(table), table.sum(axis=1), table[:, :-1].sum(axis=0)
    # A class that is neither held nor given says nothing.
    some = held + answered > 0
    return {
        "accuracy": float(right.sum() / len(y)),
        "balanced_accuracy": float(np.mean(right[held > 0] / held[held > 0])),
        "macro_f1": float(np.mean(2 * right[some] / (held + answered)[some])),
        "auroc": _auroc(y, _odds(logarithms), known),
        "log_loss": float(loss),
        "calibration_error": _calibration_error(y == given, np.exp(logarithms.max(axis=1))),
    }


def _confusion(y: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return metrics.confusion_matrix(y, _given(logits)[1], labels=np.arange(logits.shape[1]))


def _given(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are finite, and the class that each row gives; -1 where it is not."""
    known = np.asarray(np.isfinite(logits).all(axis=1))
    return known, np.where(known, logits.argmax(axis=1), -1)


def _odds(logarithms: np.ndarray) -> np.ndarray:
    """Return the logarithm of each class's odds against the rest, from the logarithms of the shares.

    Its order is that of the shares, also where a share is so near to 1 that float64 has no other number between.
    """
    rows, top = np.arange(len(logarithms)), logarithms.argmax(axis=1)
    others = logarithms.copy()
    others[rows, top] = -np.inf
    odds = logarithms - np.log1p(-np.exp(others))
    odds[rows, top] = logarithms[rows, top] - special.logsumexp(others, axis=1)
    # What differs by the noise of float64 alone is equal.
    return np.round(odds, 9)


def _auroc(y: np.ndarray, odds: np.ndarray, known: np.ndarray) -> float:
    """Return the mean, over the classes that some but not all points are of, of one class's AUROC against the rest.

    A point without a finite answer is the last of its class, and before all others for every other class.

    By ranks, for all classes at once: scikit-learn's function, class by class and client by client, would take most
    of the time of all figures.
    """
    held = np.bincount(y, minlength=odds.shape[1])
    classes = np.flatnonzero((held > 0) & (held < len(y)))
    if not len(classes):
        return math.nan
    of = y[:, None] == classes
    count = held[classes]
    answers = np.where(known[:, None], odds[:, classes], np.where(of, -np.inf, np.inf))
    ranks = np.where(of, stats.rankdata(answers, axis=0), 0.0).sum(axis=0)
    return float(np.mean((ranks - count * (count + 1) / 2) / (count * (len(y) - count))))


def _calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the expected calibration error (Guo et al., arXiv 1706.04599, eq. 3) over `BINS` bins."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))
