"""Tables for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fedmeta.evaluation.figures import Figures
from fedmeta.study.baselines import MEANING, TITLES
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import NAMES, megabytes, score
from fedmeta.study.verdict import told, verdicts


def score_table(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> Table:
    """Return what each algorithm gives to clients that took no part in training, and below what costs nothing gives."""
    name = runs[0].measure
    table = _table(f"{_heading(name)} on {_who(runs[0])}")
    for heading in ("before", "after", "clients", "std", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    if comparison is not None:
        table.add_column("rounds", justify="right", no_wrap=True)
        table.add_column("MB sent", justify="right", no_wrap=True)

    def cells(figures: Figures) -> list[str]:
        values = (figures.over_points[name], figures.over_clients[name], figures.std, figures.worst_tenth)
        return [score(name, value, unit=False) for value in values]

    best = (max if name == "accuracy" else min)(run.report.figures.over_points[name] for run in runs)
    for run in runs:
        figures = run.report.figures
        row = [score(name, run.report.figures_before.over_points[name], unit=False), *cells(figures)]
        if comparison is not None:
            rounds, sent = comparison.cost[run.title]
            row += [str(rounds), megabytes(sent)]
        bold = figures.over_points[name] == best and len(runs) > 1
        table.add_row(run.title, *row, style="bold" if bold else "", end_section=run is runs[-1])
    for kind, report in runs[0].baselines.items():
        table.add_row(TITLES[kind], "", *cells(report.figures))
    return table


def seeds_table(repeats: Repeats) -> Table:
    """Return the means over seeds with their intervals, of each algorithm and each baseline."""
    first = repeats.comparisons[0]
    name, seeds = repeats.measure, len(repeats.comparisons)
    table = _table(f"{_heading(name)} on unseen clients, {seeds} seeds")
    for heading in ("mean", "95 % interval", "clients", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)

    def show(value: float) -> str:
        return score(name, value, unit=False)

    for title, interval in repeats.intervals.items():
        values = repeats.values[title]
        table.add_row(
            title,
            show(interval.mean),
            f"{show(interval.low)} to {show(interval.high)}",
            show(float(repeats.by_client[title].mean())),
            show(values.min()),
            show(values.max()),
            end_section=title == first.runs[-1].title,
        )
    return table


def figures_table(run: FinishedRun) -> Table:
    """Return every figure of one run, before and after adaptation, over data points and over clients."""
    table = _table("All figures")
    for heading in ("before", "after", "before (clients)", "after (clients)"):
        table.add_column(heading, justify="right")
    before, after = run.report.figures_before, run.report.figures
    for name in after.over_points:
        values = (
            before.over_points[name],
            after.over_points[name],
            before.over_clients[name],
            after.over_clients[name],
        )
        table.add_row(NAMES[name], *(score(name, value) for value in values))
    return table


def explain(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> str:
    """Return what the columns mean."""
    name = NAMES[runs[0].measure]
    text = (
        f"before, after: {name} over all query examples, before and after a client adapts on its support; "
        f"clients, std: mean and standard deviation over clients; worst: the mean over the worst tenth of clients."
    )
    if runs[0].baselines:
        text += f" {'; '.join(f'{TITLES[name]}: {MEANING[name]}' for name in runs[0].baselines)}."
    if comparison is not None:
        target = score(runs[0].measure, comparison.target)
        text += f" rounds, MB sent: until the validation clients reached {target}, which they did with every algorithm."
    return text


def show(console: Console, runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> None:
    """Print the table, what it means, and in words what a reader must not miss."""
    console.print(score_table(runs, comparison))
    if len(runs) == 1:
        console.print(figures_table(runs[0]))
    console.print(explain(runs, comparison), style="dim", highlight=False)
    _say(console, verdicts(runs))


def show_repeats(console: Console, repeats: Repeats) -> None:
    """Print the table over seeds, and which differences are beyond the interval."""
    console.print(seeds_table(repeats))
    _say(console, told(repeats))


def _say(console: Console, sentences: Sequence[str]) -> None:
    if sentences:
        console.print("\n" + "\n".join(sentences), highlight=False, markup=False)


def _table(title: str) -> Table:
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", padding=(0, 1), pad_edge=False
    )
    table.add_column("")
    return table


def _heading(name: str) -> str:
    return f"{NAMES[name][0].upper()}{NAMES[name][1:]}{' in %' if name == 'accuracy' else ''}"


def _who(run: FinishedRun) -> str:
    report = run.report
    clients = "1 unseen client" if len(report.clients) == 1 else f"{len(report.clients):,} unseen clients"
    return f"{clients}, {int(report.after.examples.sum()):,} query examples"
