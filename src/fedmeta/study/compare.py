"""Several algorithms on one data set: the same clients, the same budget, one table."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmeta._files import write_atomically
from fedmeta.errors import UsageError
from fedmeta.evaluation.evaluator import Report
from fedmeta.study.experiment import Experiment


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One algorithm's run, and its test on clients that took no part in training.

    Args:
        experiment: what was run.
        rows: the run's history, a row a round.
        report: the test.
    """

    experiment: Experiment
    rows: Sequence[Mapping[str, Any]]
    report: Report

    @property
    def title(self) -> str:
        """The algorithm's name for people."""
        return self.experiment.procedure.algorithm.title

    @property
    def measure(self) -> str:
        """What the run is judged by: "accuracy", or "loss" where there is none."""
        return self.report.after.judged_by

    def validation(self) -> list[tuple[int, int, float]]:
        """Return (round, bytes sent so far, value) for each look at the validation clients."""
        sent, points = 0, []
        for row in self.rows:
            sent += row["bytes_down"] + row["bytes_up"]
            if f"validation_{self.measure}" in row:
                points.append((row["round"], sent, row[f"validation_{self.measure}"]))
        return points

    def bytes(self) -> int:
        """Return the bytes sent in the whole run, to the clients and back."""
        return sum(row["bytes_down"] + row["bytes_up"] for row in self.rows)

    def flops(self) -> int | None:
        """Return the floating-point operations of the whole run; None where they could not be counted."""
        each = [row["flops"] for row in self.rows]
        return None if None in each else sum(each)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of several algorithms, and what it took each to reach an accuracy that all of them reached.

    Args:
        runs: in the order that was asked for.
        target: the highest validation accuracy, in whole percents, that every algorithm reached; for a model
            without accuracy the lowest loss.
        cost: by algorithm, (round, bytes) at the first look at the validation clients that reached it.
    """

    runs: tuple[FinishedRun, ...]
    target: float
    cost: Mapping[str, tuple[int, int]]

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
            "common_target": self.target,
            "algorithms": {
                run.experiment.procedure.algorithm.name: {
                    "procedure_sha256": run.experiment.procedure.digest,
                    "rounds_to_target": self.cost[run.title][0],
                    "bytes_to_target": self.cost[run.title][1],
                    "bytes": run.bytes(),
                    "flops": run.flops(),
                    "test": run.report.summary(),
                }
                for run in self.runs
            },
        }

    def save(self, folder: Path) -> None:
        """Write the figures to comparison.json."""
        write_atomically(folder / "comparison.json", json.dumps(self.summary(), indent=1).encode())


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
