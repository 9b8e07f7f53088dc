"""The report's tables, as rows of text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedmeta.evaluation.figures import Figures
from fedmeta.evaluation.scores import Report
from fedmeta.study.baselines import TITLES, meaning
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import (
    NAMES,
    SHARES,
    counted,
    difference,
    digits,
    duration,
    gigaflops,
    interval,
    megabytes,
    score,
    short,
    titled,
)
from fedmeta.study.verdict import leaders

SHOWN = 1000
"""Clients in the table of clients at most, those with the worst figures."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        head: its name.
        cells: the rest, as text.
        kind: "best", "beside" for a baseline, or nothing.
        meaning: what it is, in words.
        title: of the algorithm whose sign stands before the name, where that is not the name itself.
    """

    head: str
    cells: Sequence[str]
    kind: str = ""
    meaning: str = ""
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        caption: what it is.
        headings: of its columns, the first of which holds the rows' names.
        rows: its rows.
        note: what the columns mean, where that is not plain.
        words: whether the cells are words rather than numbers.
        sortable: whether a reader may want another order.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    words: bool = False
    sortable: bool = field(default=False, kw_only=True)


def quality(runs: Sequence[FinishedRun]) -> Table:
    """Return what each algorithm gives to unseen clients, and below what it is set beside."""
    name = runs[0].measure

    def cells(before: Figures | None, figures: Figures) -> list[str]:
        values = (figures.over_points[name], figures.over_clients[name], figures.std, figures.worst_tenth)
        first = "" if before is None else score(name, before.over_points[name], unit=False)
        return [first, *(score(name, value, unit=False) for value in values)]

    best = leaders(runs)
    rows = [
        Row(
            run.title,
            cells(run.report.figures_before, run.report.figures),
            "best" if run in best and len(runs) > 1 else "",
            "" if run.adapts else "does not adapt",
        )
        for run in runs
    ]
    rows += [
        Row(TITLES[kind], cells(None, report.figures), "beside", meaning(kind, numbers=name == "rmse"))
        for kind, report in runs[0].baselines.items()
    ]
    return Table(
        heading(name),
        ("", "before", "after", "mean of clients", "std of clients", "worst tenth"),
        rows,
        f"Before and after: {NAMES[name]} over all query examples, before and after a client adapts on its support. "
        "The others are over clients, after adapting, each client counting the same; the worst tenth is a mean, too.",
    )


def seeds(repeats: Repeats) -> list[Table]:
    """Return the means over seeds with their intervals, and the differences."""
    name, count = repeats.measure, len(repeats.comparisons)
    titles = {run.title for run in repeats.comparisons[0].runs}

    def show(value: float) -> str:
        return score(name, value, unit=False)

    rows = [
        Row(
            title,
            [
                show(mean.mean),
                interval(name, mean, unit=False),
                show(float(repeats.by_client[title].mean())),
                show(repeats.values[title].min()),
                show(repeats.values[title].max()),
            ],
            "" if title in titles else "beside",
        )
        for title, mean in repeats.intervals.items()
    ]
    means = Table(
        f"{heading(name)} after adapting, {count} seeds",
        ("", "mean", "95 % interval", "mean of clients", "lowest", "highest"),
        rows,
        "Each seed splits the clients anew and draws anew. The interval is Student's t over the seeds; "
        "of shares it ends at 0 and 100 %.",
    )
    # What two baselines differ by is no news of an algorithm.
    found = [entry for entry in repeats.differences() if titles & set(entry[:2])]
    found.sort(key=lambda entry: not titles >= set(entry[:2]))
    gaps = Table(
        "Differences, seed by seed",
        ("better", "worse", "by", "beyond chance"),
        [Row(one, (other, difference(name, gap), "yes" if gap.beyond_chance else "no")) for one, other, gap in found],
        "Beyond chance: the interval of 95 % leaves zero out.",
        words=True,
    )
    return [means, gaps]


def cost(runs: Sequence[FinishedRun], comparison: Comparison | None) -> Table:
    """Return what the runs cost, in all and until they reached the common target."""
    to = (
        []
        if comparison is None
        else [f"{what} to {score(runs[0].measure, comparison.target)}" for what in ("rounds", "MB")]
    )
    rows = []
    for run in runs:
        cells = [f"{len(run.rows):,}", duration(run.seconds()), megabytes(run.bytes()), gigaflops(run.flops())]
        if comparison is not None:
            rounds, sent = comparison.cost[run.title]
            cells += [f"{rounds:,}", megabytes(sent)]
        rows.append(Row(run.title, cells))
    note = "Bytes of the arrays sent to clients and back. GFLOP: 10⁹ floating-point operations of matrix products and "
    note += "convolutions in the clients' updates, padding included. The time is that of the rounds, on this machine."
    if comparison is not None:
        every = runs[0].experiment.looks.every
        looked = "every round" if every == 1 else f"every {every} rounds"
        note += (
            f" {score(runs[0].measure, comparison.target)} is what the validation clients, looked at {looked}, reached "
            "with every algorithm."
        )
    return Table("", ("", "rounds", "time", "MB", "GFLOP", *to), rows, note)


def figures(runs: Sequence[FinishedRun]) -> list[Table]:
    """Return all figures of the runs, before and after, and of the baselines: over points, and over clients."""
    names = list(runs[0].report.figures.over_points)
    found: list[tuple[str, str, str, Figures]] = []
    for run in runs:
        if run.adapts:
            found.append((f"{run.title}, before", run.title, "", run.report.figures_before))
        found.append((f"{run.title}, after" if run.adapts else run.title, run.title, "", run.report.figures))
    found += [(TITLES[kind], "", "beside", report.figures) for kind, report in runs[0].baselines.items()]

    def table(caption: str, note: str, values: Callable[[Figures], Mapping[str, float]]) -> Table:
        rows = [
            Row(head, [score(name, values(of)[name], unit=False) for name in names], kind, title=title)
            for head, title, kind, of in found
        ]
        headings = [f"{NAMES[name]}{', %' if name in SHARES else ''}" for name in names]
        return Table(caption, ("", *headings), rows, note)

    return [
        table("Over all query examples as one", "", lambda of: of.over_points),
        table(
            "Mean over clients",
            "Of the clients for which a figure is defined: a client with "
            f"{'one class has no AUROC' if runs[0].measure == 'accuracy' else 'one target has no R²'}, say.",
            lambda of: of.over_clients,
        ),
    ]


def gains(runs: Sequence[FinishedRun]) -> Table | None:
    """Return what adapting changes, client by client; None if nothing adapts."""
    name = runs[0].measure
    sign = 1 if name == "accuracy" else -1
    rows = []
    for run in runs:
        if not run.adapts:
            continue
        after, before = sign * run.report.figures.each[name], sign * run.report.figures_before.each[name]
        sides = [f"{int(np.sum(side)):,}" for side in (after > before, after == before, after < before)]
        gain = run.report.gain
        rows.append(Row(run.title, [difference(name, gain), *sides, "yes" if gain.beyond_chance else "no"]))
    if not rows:
        return None
    return Table(
        f"What adapting changes of a client's {NAMES[name]}",
        ("", "mean change (95 % interval)", "clients better", "the same", "worse", "beyond chance"),
        rows,
        f"{'More' if sign > 0 else 'Less'} is better. Paired: the same client before and after. Beyond chance: the "
        "interval leaves zero out; a single client has none.",
    )


def clients(runs: Sequence[FinishedRun]) -> Table:
    """Return the test clients one by one: their examples, and the headline before and after each algorithm adapts."""
    name, report = runs[0].measure, runs[0].report
    columns, headings = [], []
    for run in runs:
        if run.adapts:
            columns.append(run.report.figures_before.each[name])
            headings.append(f"{run.title} before")
        columns.append(run.report.figures.each[name])
        headings.append(f"{run.title} after" if run.adapts else run.title)
    count = len(report.clients)
    places = np.arange(count)
    note = f"{counted(count, 'client')} of the test."
    if count > SHOWN:
        worst = np.argsort(columns[-1] if name == "accuracy" else -columns[-1], kind="stable")[:SHOWN]
        places = np.sort(worst)
        note = f"{SHOWN:,} of {count:,} clients: those that {headings[-1]} serves worst."
    rows = [
        Row(
            short(report.clients[place], 40),
            [
                f"{int(report.support_examples[place]):,}",
                f"{int(report.after.examples[place]):,}",
                *(score(name, float(column[place]), unit=False) for column in columns),
            ],
        )
        for place in places
    ]
    return Table(heading(name), ("client", "support", "query", *headings), rows, note, sortable=True)


def deciles(runs: Sequence[FinishedRun]) -> Table:
    """Return the deciles of the headline over clients, of the runs and of the baselines."""
    name = runs[0].measure

    def cells(report: Report) -> list[str]:
        values = report.figures.each[name]
        # Between two infinite ones there is nothing to interpolate.
        found = np.percentile(
            values, np.arange(0, 101, 10), method="linear" if np.isfinite(values).all() else "nearest"
        )
        return [score(name, float(value), unit=False) for value in found]

    rows = [Row(run.title, cells(run.report)) for run in runs]
    rows += [Row(TITLES[kind], cells(report), "beside") for kind, report in runs[0].baselines.items()]
    return Table(
        f"Deciles over clients after adapting: {heading(name)}", ("", *(f"{s} %" for s in range(0, 101, 10))), rows
    )


def steps(runs: Sequence[FinishedRun]) -> Table | None:
    """Return the headline over points after each step of adaptation; None if no curve was asked for."""
    name, longest = runs[0].measure, max(len(run.report.steps) for run in runs)
    if longest < 2:
        return None
    rows = [
        Row(
            run.title,
            [*(score(name, value, unit=False) for value in run.curve()), *[""] * (longest - len(run.curve()))],
        )
        for run in runs
    ]
    return Table(f"Step by step: {heading(name)}", ("", *(str(step) for step in range(longest))), rows)


def heading(name: str) -> str:
    """Return the name of a figure with its unit, for a table of that figure alone."""
    return f"{titled(name)}{', %' if name in SHARES else ''}"


def number(value: Any) -> str:
    """Return a whole number with commas, anything else with four digits."""
    return f"{value:,}" if isinstance(value, int | np.integer) else digits(float(value))
