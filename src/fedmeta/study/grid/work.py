"""Computes one cell, and writes down all that was measured of it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta._engine.plan import Plan, default_plan
from fedmeta.errors import Diverged, UsageError
from fedmeta.evaluation.figures import MORE_IS_BETTER, Figures
from fedmeta.evaluation.scores import Report
from fedmeta.events import Event, RoundEnded
from fedmeta.runs.folder import read_history
from fedmeta.runs.loop import Run
from fedmeta.study import answers
from fedmeta.study.answers import TOP
from fedmeta.study.dose import Dose, Doses, choose, possible
from fedmeta.study.experiment import Experiment, Validation
from fedmeta.study.grid.beside import ALSO, UNTRAINED
from fedmeta.study.grid.cells import Cell, Source
from fedmeta.study.grid.entries import also_named

MEASURED = 3
"""Rounds whose median is a round's time."""

Row = dict[str, Any]


class Seconds(NamedTuple):
    """What a cell takes: the compilation and first round, each other round, a look, and what comes at the end.

    That is the choice of a dose, the test, and what stands beside the model.
    """

    first: float
    round: float
    look: float
    end: float

    def of(self, rounds: int, looks: int) -> float:
        """Return the seconds of so many rounds and looks."""
        return self.first + max(rounds - 1, 0) * self.round + looks * self.look + self.end


def compute(source: Source, cell: Cell, folder: Path, listener: Callable[[Event], object]) -> tuple[str, list[Row]]:
    """Train a cell, or go on with it where it was stopped, test it; return what it is judged by, and its rows.

    A cell that diverges has its curve until then, and a row that says in which round. What is asked for beside the
    trained model is tested too; its rows name it.

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
    judged, rows, over = judged_by(experiment), [], source.entry.over
    if over == "examples" and judged != "accuracy":
        raise UsageError('over = "examples" is for classes, of which each answer is right or wrong; these are numbers')
    # A client that has too few examples is found before anything is trained.
    tests = {support: source.at(experiment, support) for support in cell.tested}
    if cell.spec.baseline:
        answer = UNTRAINED[cell.spec.baseline]
        for support, at in tests.items():
            rows += _at(support, [*_clients(experiment, over), *tested(at, answer(at), over)])
        return judged, rows
    trained = train(experiment, folder, listener)
    spent = [*_clients(experiment, over), *curve(experiment, trained.rows)]
    if trained.run is None:
        lost = [*spent, _row("diverged", trained.rows[-1]["round"] + 1 if trained.rows else 1)]
        return judged, [row for support in cell.tested for row in _at(support, lost)]
    bare = [row for row in spent if row["measure"] != "validation"]
    for support, at in tests.items():
        told, report = adapted(at, trained.run, source.entry.doses)
        rows += _at(support, [*spent, *told, *tested(at, report, over)])
        for also in cell.spec.also:
            more = [*bare, *tested(at, ALSO[also](at, trained.run.phi), over)]
            rows += _at(support, more, also_named(cell.key.procedure, also))
    return judged, rows


class Trained(NamedTuple):
    """A run, or None where it diverged, and its rows."""

    run: Run | None
    rows: Sequence[Mapping[str, Any]]


def train(
    experiment: Experiment, folder: Path, listener: Callable[[Event], object], *, looking: bool = True
) -> Trained:
    """Train, or go on where it was stopped.

    Args:
        experiment: what is trained.
        folder: its run folder.
        listener: is told of each round.
        looking: whether the validation clients are looked at on the way.

    Raises:
        UsageError: the recipe does not fit the data.
        RunError: the run folder is in use, damaged, or cannot be written.
    """
    simulator = experiment.simulator()
    # By the settings alone, so that a cell is the same bit for bit on all machines of a kind.
    plan = default_plan(simulator.cohort_size, simulator.flops())
    heard: list[Mapping[str, Any]] = []

    def hear(event: Event) -> None:
        if isinstance(event, RoundEnded):
            heard.append(event.row())
        listener(event)

    try:
        run = experiment.run(folder, (hear,), plan, looking=looking)
    except Diverged:
        first = heard[0]["round"] if heard else math.inf
        before = [row for row in read_history(folder) if row["round"] < first]
        return Trained(None, [*before, *heard])
    return Trained(run, run.rows)


def adapted(experiment: Experiment, run: Run, doses: Doses | None) -> tuple[list[Row], Report]:
    """Return the rows of the dose that is best for the validation clients, and the report of the test clients with it.

    Args:
        experiment: whose clients adapt.
        run: the trained model.
        doses: which are tried; as in training where there are none, or where the algorithm does not adapt.
    """
    algorithm, phi, model = experiment.procedure.algorithm, run.phi, experiment.procedure.network
    rows: list[Row] = []
    found = {} if doses is None else dosed(experiment, phi, doses, run.plan)
    if found:
        dose, value = next(iter(found.items()))
        none = next(given for one, given in found.items() if one.steps == 0)
        algorithm, phi = dose.of(algorithm, model, phi)
        sign = better(judged_by(experiment))
        rows = [
            _row("dose_rate", dose.rate),
            _row("dose_steps", dose.steps),
            _row("dose_head", dose.part == "head"),
            _row("dose_validation", sign * value),
            _row("dose_validation_none", sign * none),
        ]
    return rows, experiment.report(phi, experiment.test, algorithm=algorithm, predictions=True, plan=run.plan)


def dosed(experiment: Experiment, phi: Any, doses: Doses, plan: Plan | None = None) -> dict[Dose, float]:
    """Return by dose what the validation clients give, the best one first; larger is better."""
    procedure, validation = experiment.procedure, experiment.validation
    sign = better(judged_by(experiment))
    return choose(
        procedure.algorithm,
        procedure.network,
        phi,
        doses,
        lambda algorithm, phi: experiment.report(phi, validation, algorithm=algorithm, plan=plan),
        lambda scores: sign * experiment.headline(scores),
    )


def attempt(
    source: Source, cell: Cell, rounds: int, folder: Path, listener: Callable[[Event], object]
) -> dict[str, Any]:
    """Train a candidate for so many rounds, or go on with it, and return what the validation clients give.

    Returns:
        `before` and `after` they adapt, larger where they are better, None where it diverged; the `dose` of the second,
        where there are doses; and `flops`, spent on training it so far.

    Raises:
        UsageError: the recipe does not fit the data.
        RunError: the run folder is in use, damaged, or cannot be written.
    """
    experiment = source.experiment(cell)
    procedure = replace(experiment.procedure, rounds=rounds)
    experiment = replace(experiment, looks=Validation(), procedure=procedure)
    trained = train(experiment, folder, listener, looking=False)
    spent = sum(row["flops"] or 0 for row in trained.rows)
    if trained.run is None:
        return {"before": None, "after": None, "dose": None, "flops": spent}
    sign, doses = better(judged_by(experiment)), source.entry.doses
    found = {} if doses is None else dosed(experiment, trained.run.phi, doses, trained.run.plan)
    if found:
        dose, after = next(iter(found.items()))
        none = next(value for one, value in found.items() if one.steps == 0)
        return {"before": none, "after": after, "dose": asdict(dose), "flops": spent}
    report = experiment.report(trained.run.phi, experiment.validation, curve=False, plan=trained.run.plan)
    before, after = (sign * experiment.headline(scores.pooled) for scores in (report.before, report.after))
    return {"before": before, "after": after, "dose": None, "flops": spent}


def curve(experiment: Experiment, history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the validation curve, and what was sent and computed until each look."""
    found: list[Row] = []
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


def tested(experiment: Experiment, report: Report, over: str) -> list[Row]:
    """Return what the test clients gave: each of them, and together, before and after, step by step.

    Args:
        experiment: whose clients they are.
        report: of them.
        over: "examples" gives rows of each query example, by its client and its row, in place of each client.
    """
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
        each = zip(report.clients, figures.each[name], strict=True)
        found += [_row(when, value, client=client) for client, value in (each if over == "clients" else ())]
    if over == "examples":
        found += _examples(experiment, report)
    if report.predictions is not None and len(experiment.procedure.inputs.classes or ()) > TOP:
        kept = report.predictions
        for when, given in (("before", kept.before), ("after", kept.after)):
            found.append(_row(f"top_{TOP}_{when}", answers.scores(list(kept.y), list(given)).pooled[f"top_{TOP}"]))
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
    """Return what a cell would take here, from a few rounds, looks and curves and a test that are thrown away."""
    experiment = source.experiment(cell)
    at = source.at(experiment, cell.tested[0])
    if cell.spec.baseline:
        return Seconds(0.0, 0.0, 0.0, _timed(lambda: UNTRAINED[cell.spec.baseline](at)) * len(cell.tested))
    simulator = experiment.simulator()
    simulator.use(default_plan(simulator.cohort_size, simulator.flops()))
    state, rounds = simulator.init(), []
    for number in range(1, MEASURED + 2):
        begun = time.perf_counter()
        state, figures = simulator.step(state, simulator.draw(number))
        _ = figures.metrics
        rounds.append(time.perf_counter() - begun)
    phi = state.phi
    first, look = (_timed(lambda: experiment.report(phi, experiment.validation, curve=False)) for _ in range(2))
    end = _choosing(at, phi, source.entry.doses)
    end += _timed(lambda: at.report(phi, at.test, predictions=True).figures)
    end += sum(_timed(lambda also=also: ALSO[also](at, phi)) for also in cell.spec.also)
    return Seconds(rounds[0] + first - look, float(np.median(rounds[1:])), look, end * len(cell.tested))


def _choosing(experiment: Experiment, phi: Any, doses: Doses | None) -> float:
    """Return the seconds that it takes to choose a dose: of as many curves as are tried, two of which are computed."""
    algorithm, model = experiment.procedure.algorithm, experiment.procedure.network
    if doses is None or not (tried := list(possible(algorithm, doses, model))):
        return 0.0
    rate, part = tried[0]
    algorithm, phi = Dose(rate=rate, steps=doses.steps, part=part).of(algorithm, model, phi)
    first, other = (
        _timed(lambda: experiment.report(phi, experiment.validation, algorithm=algorithm)) for _ in range(2)
    )
    return first + other * (len(tried) - 1)


def _timed(compute: Callable[[], object]) -> float:
    begun = time.perf_counter()
    compute()
    return time.perf_counter() - begun


def looks(cell: Cell) -> int:
    """Return how often a cell's validation clients are looked at."""
    when = cell.recipe.looks
    if not cell.rounds:
        return 0
    due = set(range(1, min(when.early, cell.rounds) + 1)) | set(range(when.every, cell.rounds + 1, when.every))
    return len(due | {cell.rounds})


def better(judged: str) -> int:
    """Return 1 where more is better of what cells are judged by, else -1."""
    return 1 if judged in MORE_IS_BETTER else -1


def judged_by(experiment: Experiment) -> str:
    """Return what a cell is judged by: "accuracy" or "rmse"."""
    return "rmse" if experiment.procedure.inputs.classes is None else "accuracy"


def _clients(experiment: Experiment, over: str) -> list[Row]:
    found = [_row("training_clients", experiment.train.num_clients)]
    return found if over == "clients" else [*found, _row("training_examples", experiment.train.num_examples)]


def _examples(experiment: Experiment, report: Report) -> list[Row]:
    """Return for each query example whether it was answered rightly, before and after."""
    procedure, test, kept = experiment.procedure, experiment.test, report.predictions
    assert kept is not None
    found, said = [], report.clients
    for place, client in enumerate(said):
        at = test.position(client)
        _, query = test.split_at(at, procedure.support, procedure.seed, max_examples=procedure.max_examples)
        for when, given in (("before", kept.before[place]), ("after", kept.after[place])):
            right = np.argmax(np.asarray(given), axis=-1) == np.asarray(kept.y[place])
            names = (f"{client} {row - int(test.starts[at])}" for row in query)
            found += [_row(when, value, client=name) for name, value in zip(names, right, strict=True)]
    return found


def _at(support: float, rows: Sequence[Row], procedure: str | None = None) -> list[Row]:
    """Return the rows as those of one support, and of what stands beside a procedure."""
    named = {} if procedure is None else {"procedure": procedure}
    return [{**row, "support": support, **named} for row in rows]


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
