"""Several algorithms on one data set: the same clients, the same budget, one table."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._files import write_atomically
from fedmeta.errors import UsageError
from fedmeta.evaluation.evaluator import Report
from fedmeta.evaluation.figures import MORE_IS_BETTER, Difference, Figures, finite
from fedmeta.study.baselines import TITLES
from fedmeta.study.experiment import Experiment


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One algorithm's run, and its test on clients that took no part in training.

    Args:
        experiment: what was run.
        rows: the run's history, a row a round.
        report: the test, with its predictions.
        baselines: by name, the reports of what the run is set beside, on the same clients.
        best: the round that was selected, the best by the validation clients; None where that is the last.
    """

    experiment: Experiment
    rows: Sequence[Mapping[str, Any]]
    report: Report
    baselines: Mapping[str, Report] = field(default_factory=dict)
    best: int | None = None

    @property
    def title(self) -> str:
        """The algorithm's name for people."""
        return self.experiment.procedure.algorithm.title

    @property
    def adapts(self) -> bool:
        """Whether a client adapts."""
        return self.experiment.procedure.algorithm.adapts

    @property
    def measure(self) -> str:
        """What the run is judged by: "accuracy" or "rmse"."""
        return self.report.figures.headline

    def validation(self) -> list[tuple[int, int, float]]:
        """Return (round, bytes sent so far, value) for each look at the validation clients."""
        sent, points = 0, []
        for row in self.rows:
            sent += row["bytes_down"] + row["bytes_up"]
            seen = {
                name.removeprefix("validation_"): value for name, value in row.items() if name.startswith("validation_")
            }
            if seen:
                points.append((row["round"], sent, self.experiment.headline(seen)))
        return points

    def curve(self) -> list[float]:
        """Return the value over the test clients' data points before adaptation and after each step."""
        return [self.experiment.headline(scores.pooled) for scores in self.report.steps]

    def bytes(self) -> int:
        """Return the bytes sent in the whole run, to the clients and back."""
        return sum(row["bytes_down"] + row["bytes_up"] for row in self.rows)

    def flops(self) -> int | None:
        """Return the floating-point operations of the whole run; None where they could not be counted."""
        each = [row["flops"] for row in self.rows]
        return None if None in each else sum(each)

    def seconds(self) -> float:
        """Return the seconds of the whole run."""
        return sum(row["seconds"] for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the test, and those of the baselines, as JSON can hold them."""
        beside = {name: report.figures.summary() for name, report in self.baselines.items()}
        return {**self.report.summary(), "baselines": beside, "best_round": self.best}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of several algorithms, and what it took each to reach a figure that all of them reached.

    Args:
        runs: in the order that was asked for.
        target: the highest validation accuracy, in whole percents, that every algorithm reached; of numbers
            the lowest RMSE.
        cost: by algorithm, (round, bytes) at the first look at the validation clients that reached it.
    """

    runs: tuple[FinishedRun, ...]
    target: float
    cost: Mapping[str, tuple[int, int]]

    @property
    def figures(self) -> dict[str, Figures]:
        """By title, the figures after adaptation of each algorithm and then of each baseline."""
        beside = {TITLES[name]: report.figures for name, report in self.runs[0].baselines.items()}
        return {**{run.title: run.report.figures for run in self.runs}, **beside}

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        experiment = self.runs[0].experiment
        procedure = experiment.procedure
        return {
            "data": experiment.data.data,
            "rounds": procedure.rounds,
            "cohort_size": procedure.cohort_size,
            "support": procedure.support,
            "seed": procedure.seed,
            "common_target": finite(self.target),
            "algorithms": {
                run.experiment.procedure.algorithm.name: {
                    "procedure_sha256": run.experiment.procedure.digest,
                    "rounds_to_target": self.cost[run.title][0],
                    "bytes_to_target": self.cost[run.title][1],
                    "bytes": run.bytes(),
                    "flops": run.flops(),
                    "best_round": run.best,
                    "test": run.report.summary(),
                }
                for run in self.runs
            },
            "baselines": {name: report.figures.summary() for name, report in self.runs[0].baselines.items()},
        }


@dataclass(frozen=True, eq=False)
class Repeats:
    """A comparison that was repeated with several seeds, which differ in the split of the clients and in all draws.

    Args:
        comparisons: one for each seed, of the same algorithms.
    """

    comparisons: tuple[Comparison, ...]

    @property
    def measure(self) -> str:
        """What the runs are judged by: "accuracy" or "rmse"."""
        return self.comparisons[0].runs[0].measure

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """By title, the measure over data points with each seed, shape [seeds]."""
        return self._each(lambda figures: figures.over_points[self.measure])

    @cached_property
    def by_client(self) -> dict[str, np.ndarray]:
        """By title, the measure over clients with each seed, shape [seeds]."""
        return self._each(lambda figures: figures.over_clients[self.measure])

    @cached_property
    def intervals(self) -> dict[str, Difference]:
        """By title, the mean of `values` and its interval of 95 % over seeds."""
        return {title: Difference.of(values) for title, values in self.values.items()}

    def differences(self) -> list[tuple[str, str, Difference]]:
        """Return (better, worse, difference) for each pair, seed by seed, so that what splits share cancels out."""
        sign = 1 if self.measure in MORE_IS_BETTER else -1
        found = []
        for one, other in combinations(self.values, 2):
            gap = Difference.between(self.values[one], self.values[other])
            if sign * gap.mean < 0:
                one, other, gap = other, one, Difference.between(self.values[other], self.values[one])
            found.append((one, other, gap))
        return found

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        seeds = {str(each.runs[0].experiment.procedure.seed): each.summary() for each in self.comparisons}
        return {
            "seeds": seeds,
            "measure": self.measure,
            "intervals": {title: interval.summary() for title, interval in self.intervals.items()},
            "differences": [
                {"better": one, "worse": other, **gap.summary(), "beyond_chance": gap.beyond_chance}
                for one, other, gap in self.differences()
            ],
        }

    def _each(self, value: Callable[[Figures], float]) -> dict[str, np.ndarray]:
        figures = [each.figures for each in self.comparisons]
        return {title: np.array([value(each[title]) for each in figures]) for title in figures[0]}


def save(folder: Path, found: Comparison | Repeats) -> None:
    """Write the figures to comparison.json."""
    write_atomically(folder / "comparison.json", json.dumps(found.summary(), indent=1).encode())


def compare(runs: Sequence[FinishedRun]) -> Comparison:
    """Compare runs on the same data with the same budget.

    Raises:
        UsageError: there is none.
    """
    if not runs:
        raise UsageError("there is nothing to compare: name at least one algorithm")
    curves = {run.title: run.validation() for run in runs}
    if runs[0].measure == "accuracy":
        reached = min(max((value for *_, value in curve if value == value), default=0.0) for curve in curves.values())
        # Means of float32 carry an error of about 1e-8, which must not cost a percent or a round.
        target = math.floor(100 * reached + 1e-5) / 100
        cost = {title: _first(curve, lambda value: value >= target - 1e-6) for title, curve in curves.items()}
    else:
        target = max(
            min((value for *_, value in curve if value == value), default=math.inf) for curve in curves.values()
        )
        cost = {title: _first(curve, lambda value: value <= target) for title, curve in curves.items()}
    return Comparison(tuple(runs), target, cost)


def _first(curve: Sequence[tuple[int, int, float]], reached: Callable[[float], bool]) -> tuple[int, int]:
    """Return (round, bytes) at the first look that reached the target, or at the last look if none did."""
    return next(((number, sent) for number, sent, value in curve if reached(value)), curve[-1][:2])
