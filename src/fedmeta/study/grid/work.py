"""Computes one cell, and writes down all that was measured of it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta._engine.plan import default_plan
from fedmeta.errors import Diverged
from fedmeta.evaluation.figures import Figures
from fedmeta.evaluation.scores import Report
from fedmeta.events import Event, RoundEnded
from fedmeta.study.experiment import Experiment
from fedmeta.study.grid.cells import Cell, Source

MEASURED = 3
"""Rounds whose median is a round's time."""

Row = dict[str, Any]


class Seconds(NamedTuple):
    """What a cell takes: the compilation and first round, each other round, a look, and the test at the end."""

    first: float
    round: float
    look: float
    test: float

    def of(self, rounds: int, looks: int) -> float:
        """Return the seconds of so many rounds and looks."""
        return self.first + (rounds - 1) * self.round + looks * self.look + self.test


def compute(source: Source, cell: Cell, folder: Path, listener: Callable[[Event], object]) -> tuple[str, list[Row]]:
    """Train a cell, or go on with it where it was stopped, test it; return what it is judged by, and its rows.

    A cell that diverges has its curve until then, and a row that says in which round.

    Args:
        source: its data.
        cell: which it is.
        folder: its run folder.
        listener: is told of each round.

    Raises:
        UsageError: the recipe does not fit the data.
        RunError: the run folder is in use, damaged, or cannot be written.
    """
    experiment = source.experiment(cell)
    simulator = experiment.simulator()
    # By the settings alone, so that a cell is the same bit for bit on all machines of a kind.
    plan = default_plan(simulator.cohort_size, simulator.flops())
    heard: list[Mapping[str, Any]] = []

    def hear(event: Event) -> None:
        if isinstance(event, RoundEnded):
            heard.append(event.row())
        listener(event)

    try:
        run = experiment.run(folder, (hear,), plan)
    except Diverged:
        return judged_by(experiment), [
            *curve(experiment, heard),
            _row("diverged", heard[-1]["round"] + 1 if heard else 1),
        ]
    report = experiment.report(run.phi, experiment.test, predictions=True, plan=run.plan)
    return judged_by(experiment), [*curve(experiment, run.rows), *tested(experiment, report)]


def curve(experiment: Experiment, history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the validation curve, what was sent and computed until each look, and the totals."""
    found = [_row("training_clients", experiment.train.num_clients)]
    sent, flops, seconds = 0, 0, 0.0
    for row in history:
        sent += row["bytes_down"] + row["bytes_up"]
        flops = math.nan if row["flops"] is None else flops + row["flops"]
        seconds += row["seconds"]
        seen = {name.removeprefix("validation_"): value for name, value in row.items() if "validation_" in name}
        if seen or row is history[-1]:
            spent = {"bytes": sent, "flops": flops, "seconds": seconds}
            found += [_row(name, value, round=row["round"]) for name, value in spent.items()]
        if seen:
            found.append(_row("validation", experiment.headline(seen), round=row["round"]))
    return found


def tested(experiment: Experiment, report: Report) -> list[Row]:
    """Return what the test clients gave: each of them, and together, before and after, step by step."""
    name = report.figures.headline
    found: list[Row] = []
    for when, figures in (("before", report.figures_before), ("after", report.figures)):
        found += [
            _row(f"points_{when}", figures.over_points[name]),
            _row(f"clients_{when}", figures.over_clients[name]),
            _row(f"worst_tenth_{when}", figures.worst_tenth),
            _row(f"std_{when}", figures.std),
            *_deciles(figures, when),
        ]
        found += [
            _row(when, value, client=client) for client, value in zip(report.clients, figures.each[name], strict=True)
        ]
    # A client whose loss is not finite counts as wrong in all of the above.
    lost = int(np.sum(~np.isfinite(report.after.values["loss"])))
    found.append(_row("not_finite_after", lost))
    sides = (("support", report.support_examples), ("query", report.after.examples))
    for side, counts in sides:
        found += [_row(side, count, client=client) for client, count in zip(report.clients, counts, strict=True)]
    for step, scores in enumerate(report.steps):
        found.append(_row("points_at_step", experiment.headline(scores.pooled), step=step))
        if name in scores.by_client:
            found.append(_row("clients_at_step", scores.by_client[name], step=step))
    return found


def measure(source: Source, cell: Cell) -> Seconds:
    """Return what a cell would take here, from a few rounds, two looks and a test that are thrown away."""
    experiment = source.experiment(cell)
    simulator = experiment.simulator()
    simulator.use(default_plan(simulator.cohort_size, simulator.flops()))
    state, rounds = simulator.init(), []
    for number in range(1, MEASURED + 2):
        begun = time.perf_counter()
        state, figures = simulator.step(state, simulator.draw(number))
        _ = figures.metrics
        rounds.append(time.perf_counter() - begun)
    looks = []
    for _ in range(2):
        begun = time.perf_counter()
        experiment.report(state.phi, experiment.validation, curve=False)
        looks.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    _ = experiment.report(state.phi, experiment.test, predictions=True).figures
    test = time.perf_counter() - begun
    return Seconds(rounds[0] + looks[0] - looks[1], float(np.median(rounds[1:])), looks[1], test)


def looks(cell: Cell) -> int:
    """Return how often a cell's validation clients are looked at."""
    when = cell.recipe.looks
    due = set(range(1, min(when.early, cell.rounds) + 1)) | set(range(when.every, cell.rounds + 1, when.every))
    return len(due | {cell.rounds})


def judged_by(experiment: Experiment) -> str:
    """Return what a cell is judged by: "accuracy" or "rmse"."""
    return "rmse" if experiment.procedure.inputs.classes is None else "accuracy"


def _deciles(figures: Figures, when: str) -> list[Row]:
    values = figures.each[figures.headline]
    method = "linear" if np.isfinite(values).all() else "nearest"
    places = np.arange(0, 101, 10)
    return [
        _row(f"decile_{place:02}_{when}", value)
        for place, value in zip(places, np.percentile(values, places, method=method), strict=True)
    ]


def _row(
    measure: str, value: Any, *, client: str | None = None, round: int | None = None, step: int | None = None
) -> Row:
    return {"client": client, "round": round, "step": step, "measure": measure, "value": float(value)}
