"""Regularised logistic regression, many at a time: what a hospital would fit alone, cross-validated."""

from collections.abc import Sequence

import numpy as np

from fedmeta import random

STRENGTHS = tuple(float(one) for one in 10.0 ** np.arange(-3, 2.5, 0.5))
"""The values of C among which cross-validation chooses: the inverse of the penalty, as scikit-learn has it."""

FOLDS = 5
STEPS, HALVINGS = 30, 20
CONVERGED = 1e-8


def fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the coefficients that minimise 1/2 |w|^2 + C sum(log loss), the intercept last: [fits, features + 1].

    By Newton's method with halved steps, all fits at a time. The intercept has no penalty (one of a
    millionth, so that the minimum is there even where all examples are of one class).

    Args:
        x: shape [examples, features] for all fits, or [fits, examples, features].
        y: 0 or 1, [examples] or [fits, examples].
        weights: how often an example counts, [fits, examples].
        c: shape [fits].
    """
    fits, width = len(weights), x.shape[-1] + 1
    x = np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)
    x = np.broadcast_to(x, (fits, *x.shape[-2:]))
    y = np.broadcast_to(y, weights.shape)
    penalty = np.append(np.ones(width - 1), 1e-6)
    w = np.zeros((fits, width))
    cost = _cost(x, y, weights, c, penalty, w)
    for _ in range(STEPS):
        p = _sigmoid(np.einsum("fnd,fd->fn", x, w))
        slope = penalty * w + c[:, None] * np.einsum("fn,fnd->fd", weights * (p - y), x)
        scaled = x * (c[:, None] * weights * p * (1 - p))[..., None]
        curve = np.matmul(x.transpose(0, 2, 1), scaled) + np.diag(penalty)
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        size = np.ones(fits)
        tried = _cost(x, y, weights, c, penalty, w - step)
        for _ in range(HALVINGS):
            worse = tried > cost + 1e-12 * np.abs(cost)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
            tried = _cost(x, y, weights, c, penalty, w - size[:, None] * step)
        w, cost = w - size[:, None] * step, tried
        if np.abs(step).max() < CONVERGED:
            break
    return w


def predict(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the probability of class 1, for coefficients [..., features + 1] and inputs [..., examples, features]."""
    return _sigmoid(np.einsum("...nd,...d->...n", x, w[..., :-1]) + w[..., -1:])


def choose(x: np.ndarray, y: np.ndarray, seed: int = 0, strengths: Sequence[float] = STRENGTHS) -> float:
    """Return the C with the least log loss in a stratified cross-validation; the smallest of several.

    There are `FOLDS` folds, or as many as the rarer class has examples; with one of it or none, the smallest C.

    Args:
        x: shape [examples, features].
        y: 0 or 1, shape [examples].
        seed: of the folds.
        strengths: the values of C.
    """
    folds = min(FOLDS, int(np.bincount(y, minlength=2).min()))
    if folds < 2:
        return strengths[0]
    held = _folds(y, folds, seed)
    weights = np.repeat([held != fold for fold in range(folds)], len(strengths), axis=0).astype(float)
    c = np.tile(np.asarray(strengths, float), folds)
    p = np.clip(predict(fit(x, y, weights, c), np.broadcast_to(x, (len(c), *x.shape))), 1e-12, 1 - 1e-12)
    loss = -np.where(y == 1, np.log(p), np.log1p(-p)) * (1 - weights)
    return strengths[int(np.argmin(loss.sum(axis=1).reshape(folds, -1).sum(axis=0)))]


def alone(x: np.ndarray, y: np.ndarray, asked: np.ndarray, seed: int = 0, strength: float | None = None) -> np.ndarray:
    """Return the probabilities that a hospital's own regression gives, shape [asked]; of one class only, its `share`.

    Args:
        x: its examples, shape [examples, features].
        y: 0 or 1, shape [examples].
        asked: the inputs that are asked for, shape [asked, features].
        seed: of the folds.
        strength: C; chosen by cross-validation where it is not given.
    """
    if not 0 < y.sum() < len(y):
        return np.full(len(asked), share(y))
    c = choose(x, y, seed) if strength is None else strength
    return predict(fit(x, y, np.ones((1, len(y))), np.array([c]))[0], asked)


def share(y: np.ndarray) -> float:
    """Return the share of class 1, with one more example that is half of either: no class is impossible."""
    return float((y.sum() + 0.5) / (len(y) + 1))


def _folds(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    draw, held = random.generator(seed, "folds"), np.empty(len(y), int)
    first = 0
    for kind in (0, 1):
        rows = draw.permutation(np.flatnonzero(y == kind))
        held[rows] = (first + np.arange(len(rows))) % folds
        first += len(rows)
    return held


def _cost(x: np.ndarray, y: np.ndarray, weights: np.ndarray, c: np.ndarray, penalty: np.ndarray, w: np.ndarray):
    z = np.einsum("fnd,fd->fn", x, w)
    return (penalty * w * w).sum(axis=1) / 2 + c * (weights * (np.logaddexp(0, z) - y * z)).sum(axis=1)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))
