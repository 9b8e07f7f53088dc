"""How right predicted probabilities are, and how sure that is: figures for many weights of the patients at a time."""

import warnings
from typing import NamedTuple

import numpy as np

from fedmeta import random

METRICS = ("accuracy", "balanced_accuracy", "auroc", "brier", "calibration_error")
"""The last two are better where they are smaller; all are shares from 0 to 1."""

CENTRED = ("calibration_error",)
"""Figures that are larger in a draw, as it repeats patients: the draws are moved until their mean is the estimate."""

BINS = 10
"""Of equal width, in which the calibration error compares what was predicted with the share that is ill."""

LEVEL = 0.95

DASH = "\N{EN DASH}"
"""What is shown in the place of a figure that is not defined."""


class Interval(NamedTuple):
    """A figure and its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def figures(p: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each figure of one set of predictions, for each row of weights, float64 of shape [rows].

    Accuracy and balanced accuracy are those of the more probable class. AUROC counts pairs of an ill and a healthy
    patient, a tie as half; it is NaN, as balanced accuracy is, where all patients are of one class. The calibration
    error is the mean distance, over `BINS` bins of the predicted probability, of its mean from the share that is ill
    (Naeini, Cooper and Hauskrecht, AAAI 2015).

    Args:
        p: the probability of being ill, shape [patients].
        y: whether they are, 0 or 1, shape [patients].
        weights: how often each patient counts, shape [rows, patients].
    """
    ill, total = weights @ y, weights.sum(axis=1)
    right = (p > 0.5) == (y == 1)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = weights @ ((np.arange(BINS) == bins[:, None]) * (p - y)[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = [weights @ (right & (y == kind)) / count for kind, count in ((1, ill), (0, total - ill))]
        return {
            "accuracy": weights @ right / total,
            "balanced_accuracy": (sides[0] + sides[1]) / 2,
            "auroc": _auroc(p, y, weights, ill, total - ill),
            "brier": weights @ (p - y) ** 2 / total,
            "calibration_error": np.abs(gaps).sum(axis=1) / total,
        }


def _auroc(p: np.ndarray, y: np.ndarray, weights: np.ndarray, ill: np.ndarray, well: np.ndarray) -> np.ndarray:
    order = np.argsort(p, kind="stable")
    first = np.flatnonzero(np.diff(p[order], prepend=-1.0) > 0)
    ordered = weights[:, order]
    healthy = np.add.reduceat(ordered * (y[order] == 0), first, axis=1)
    sick = np.add.reduceat(ordered * (y[order] == 1), first, axis=1)
    below = np.cumsum(healthy, axis=1) - healthy / 2
    return (sick * below).sum(axis=1) / (ill * well)


def draws(count: int, patients: int, seed: int, hospital: str) -> np.ndarray:
    """Return how often each patient counts: once in the first row, then as in `count` bootstrap draws of the patients.

    Returns:
        float64 of shape [count + 1, patients].
    """
    draw = random.generator(seed, "bootstrap", hospital)
    drawn = draw.multinomial(patients, np.full(patients, 1 / patients), size=count)
    return np.concatenate([np.ones((1, patients)), drawn])


class Replicates:
    """One figure in all bootstrap draws: the estimate first, shape [draws + 1]; NaN where it is undefined."""

    def __init__(self, values: np.ndarray):
        self.values = values

    @classmethod
    def over(cls, parts: np.ndarray, times: np.ndarray) -> "Replicates":
        """Return the mean over repeated splits, each drawn so many times, of those in which it is defined.

        Args:
            parts: shape [draws + 1, splits].
            times: how often each split was drawn, shape [draws + 1, splits].
        """
        known = ~np.isnan(parts)
        count = (times * known).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(np.where(count > 0, (times * np.where(known, parts, 0)).sum(axis=1) / count, np.nan))

    @classmethod
    def mean(cls, some: "list[Replicates]") -> "Replicates":
        """Return the mean of several, each counting the same, of those that are defined at all."""
        rows = [one.values for one in some if not np.isnan(one.values[0])]
        return cls(np.mean(rows, axis=0) if rows else np.full_like(some[0].values, np.nan))

    @property
    def centred(self) -> "Replicates":
        """The same, with draws that are moved until their mean is the estimate; none falls below 0."""
        moved = self.values[1:] - np.nanmean(self.values[1:]) + self.values[0]
        return Replicates(np.append(self.values[:1], np.maximum(moved, 0)))

    def __sub__(self, other: "Replicates") -> "Replicates":
        return Replicates(self.values - other.values)

    @property
    def interval(self) -> Interval:
        """The estimate, and the middle `LEVEL` of the draws."""
        rest = (1 - LEVEL) / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            low, high = np.nanquantile(self.values[1:], [rest, 1 - rest])
        return Interval(float(self.values[0]), float(low), float(high))
