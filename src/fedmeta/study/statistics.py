"""The statistics of a study: intervals and tests for paired differences of seeds and clients, and times to a target."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from fedmeta import random
from fedmeta.errors import UsageError

LEVEL = 0.95
"""Of every interval."""

DRAWS = 10_000
"""Of a bootstrap."""

LOOKS = 3
"""Looks over which a curve is smoothed, and for which it must stay at a target."""

Bound = Literal["exact", "at least", "at most", "unknown"]


class Interval(NamedTuple):
    """A value and its interval; its ends are NaN where there is none."""

    value: float
    low: float
    high: float


class Tested(NamedTuple):
    """A value, its interval, and the probability of one as far from zero where there is no difference (two-sided)."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Reached:
    """When a curve came to a target.

    Args:
        cost: what was spent by then, or in all where it never came there.
        arrived: whether it did; if not, it is censored.
    """

    cost: float
    arrived: bool


@dataclass(frozen=True)
class Ratio:
    """How many times more one spends than another until both are at a target.

    Args:
        value: the geometric mean of the pairs' ratios; NaN where it is unknown.
        low: of the interval; NaN where there are fewer than two pairs, or one is censored.
        high: likewise.
        bound: what the value is of the ratio: where only the first did not arrive it is at least that, where only the
            second did not at most, and unknown where both did not, or here the one and there the other.
        pairs: how many pairs.
        censored: how many curves did not arrive, of both.
    """

    value: float
    low: float
    high: float
    bound: Bound
    pairs: int
    censored: int


def crossed_bootstrap(
    differences: Float[np.ndarray, "seeds clients"], *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return the mean difference and its percentile interval, by a bootstrap over seeds and clients at once.

    Seeds and clients are crossed: each client is tested with each seed. Each draw takes seeds with replacement, and
    clients with replacement, and all cells where these meet (Owen 2007, arXiv:0712.1111, the pigeonhole bootstrap).
    With many of both the interval is on the safe side. With few seeds it is too narrow, for it sees (n - 1)/n of the
    variance of n; of a single seed, or client, it sees none.

    Args:
        differences: of each client with each seed; NaN where it is not defined.
        draws: how many.
        seed: of the draws.

    Raises:
        UsageError: there is no difference at all.
    """
    known = ~np.isnan(differences)
    if differences.ndim != 2 or not known.any():
        raise UsageError(f"a bootstrap needs differences of shape [seeds, clients], not {differences.shape}")
    draw = random.generator(seed, "crossed bootstrap")
    seeds, clients = differences.shape
    of_seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), draws).astype(float)
    of_clients = draw.multinomial(clients, np.full(clients, 1 / clients), draws).astype(float)
    sums = np.einsum("ds,sc,dc->d", of_seeds, np.where(known, differences, 0.0), of_clients, optimize=True)
    counts = np.einsum("ds,sc,dc->d", of_seeds, known.astype(float), of_clients, optimize=True)
    with np.errstate(invalid="ignore"):
        means = sums / counts
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(differences[known].mean()), float(low), float(high))


def wilcoxon(differences: Float[np.ndarray, " clients"]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test over clients, ties and zeros by Pratt's way.

    Args:
        differences: of each client, the mean over seeds; NaN where it is not defined.
    """
    known = differences[~np.isnan(differences)]
    if not np.any(known):
        return 1.0
    with warnings.catch_warnings():
        # With few clients SciPy says that its approximation is rough where there are ties.
        warnings.simplefilter("ignore")
        found: Any = stats.wilcoxon(known, zero_method="pratt")
    return float(found.pvalue)


def corrected_t(differences: Float[np.ndarray, " seeds"], tested: float) -> Tested:
    """Return Nadeau and Bengio's corrected resampled t-test of the seeds' mean differences.

    Seeds share training clients, so that their differences vary together and less than new ones would: the variance is
    taken (1/J + n2/n1) times that of the J differences, with n2 clients tested for n1 that train (Inference for the
    Generalization Error, Machine Learning 52, 2003).

    Args:
        differences: with each seed.
        tested: n2/n1, the number of test clients over that of training clients.

    Raises:
        UsageError: `tested` is negative.
    """
    if not tested >= 0:
        raise UsageError(f"the number of test clients over that of training clients is at least 0, not {tested}")
    known = differences[~np.isnan(differences)]
    count = len(known)
    value = float(known.mean()) if count else math.nan
    if count < 2:
        return Tested(value, math.nan, math.nan, math.nan)
    error = math.sqrt((1 / count + tested) * float(known.var(ddof=1)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    if error == 0:
        return Tested(value, value, value, 1.0 if value == 0 else 0.0)
    return Tested(value, value - reach, value + reach, float(2 * stats.t.sf(abs(value) / error, count - 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (1979): each is below a level where Holm's procedure rejects at that level.

    Args:
        p: of all tests of a family; NaN counts as 1.
    """
    values = np.nan_to_num(np.asarray(p, float), nan=1.0)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def smoothed(values: Float[np.ndarray, " looks"]) -> Float[np.ndarray, " looks"]:
    """Return the mean of each look and the two before it; of fewer at the start."""
    return np.array([values[max(0, end - LOOKS) : end].mean() for end in range(1, len(values) + 1)])


def time_to(
    target: float,
    values: Float[np.ndarray, " looks"],
    costs: Float[np.ndarray, " looks"],
    *,
    more_is_better: bool = True,
) -> Reached:
    """Return what was spent when the smoothed curve first came to a target at which it stayed for three looks.

    The cost is that of the first of the three. A curve that comes there less than three looks before its end has not
    shown that it stays.

    Args:
        target: the value.
        values: of the validation clients at each look.
        costs: what was spent until each look, such as bytes; it rises.
        more_is_better: whether the target is reached from below.

    Raises:
        UsageError: there is no look.
    """
    if not len(values) or len(values) != len(costs):
        raise UsageError(f"a time to a target needs looks with their costs, not {len(values)} and {len(costs)}")
    curve = smoothed(values)
    # Means of numbers that are equal to the target must reach it.
    there = curve >= target - 1e-9 if more_is_better else curve <= target + 1e-9
    for place in range(len(there) - LOOKS + 1):
        if there[place : place + LOOKS].all():
            return Reached(float(costs[place]), True)
    return Reached(float(costs[-1]), False)


def ratio(one: Sequence[Reached], other: Sequence[Reached]) -> Ratio:
    """Return how many times more the one spent than the other, seed by seed, with Student's interval of the logarithms.

    Args:
        one: with each seed.
        other: with the same seeds.

    Raises:
        UsageError: there is no pair, or not as many of the other.
    """
    if not one or len(one) != len(other):
        raise UsageError(f"a ratio needs pairs, not {len(one)} and {len(other)}")
    logs = np.log([a.cost / b.cost for a, b in zip(one, other, strict=True)])
    late, later = (sum(not each.arrived for each in side) for side in (one, other))
    bound: Bound = "unknown" if late and later else "at least" if late else "at most" if later else "exact"
    value = math.nan if bound == "unknown" else float(np.exp(logs.mean()))
    low = high = math.nan
    if bound == "exact" and len(logs) > 1:
        reach = float(stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1)) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
        low, high = float(np.exp(logs.mean() - reach)), float(np.exp(logs.mean() + reach))
    return Ratio(value, low, high, bound, len(logs), late + later)
