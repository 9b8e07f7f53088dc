"""Tables for the terminal; where it is narrow, several in place of one, so that no number is cut off."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from fedmeta.evaluation.figures import Figures
from fedmeta.study.baselines import TITLES, meaning
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import NAMES, counted, interval, megabytes, score, titled
from fedmeta.study.verdict import chosen, leaders, result, verdicts


@dataclass(frozen=True)
class _Columns:
    """Columns that belong together: in one table if there is room, else in one of their own.

    Args:
        title: what they are.
        headings: of the columns.
        cells: by column, then by row.
    """

    title: str
    headings: Sequence[str]
    cells: Sequence[Sequence[str]]


def show(console: Console, runs: Sequence[FinishedRun], comparison: Comparison | None = None, which: str = "") -> None:
    """Print the table, what it means, and in words what a reader must not miss.

    Args:
        console: where.
        runs: one, or several that are compared.
        comparison: of several.
        which: of several comparisons this is, such as "seed 0".
    """
    beside = [TITLES[kind] for kind in runs[0].baselines]
    best = {run.title for run in leaders(runs)} if len(runs) > 1 else set()
    parts = [_quality(runs, which), *([] if comparison is None else [_cost(runs, comparison)])]
    _print(console, [*(run.title for run in runs), *beside], parts, best, lines_below=len(runs))
    if len(runs) == 1:
        names = list(runs[0].report.figures.over_points)
        _print(console, [NAMES[name] for name in names], [_all_figures(runs[0], names)])
    console.print(explain(runs, comparison), style="dim")
    _say(console, [*chosen(runs), *verdicts(runs)])


def show_repeats(console: Console, repeats: Repeats) -> None:
    """Print the table over seeds, and in words which differences are beyond the interval."""
    first = repeats.comparisons[0]
    _print(console, list(repeats.values), [_seeds(repeats)], lines_below=len(first.runs))
    _say(console, result(repeats))


def explain(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> Table:
    """Return what the columns and the baselines mean."""
    name = NAMES[runs[0].measure]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row("before, after", f"{name} over all query examples, before and after adapting")
    grid.add_row("clients, std, worst", "mean, deviation and worst tenth of the clients, after")
    if comparison is not None:
        target = score(runs[0].measure, comparison.target)
        grid.add_row("rounds, MB sent", f"until the validation clients reached {target}")
    for kind in runs[0].baselines:
        grid.add_row(TITLES[kind], meaning(kind, numbers=runs[0].measure == "rmse"))
    return grid


def _quality(runs: Sequence[FinishedRun], which: str) -> _Columns:
    """Return what each algorithm gives to unseen clients, and below what costs nothing gives."""
    name = runs[0].measure

    def cells(before: Figures | None, figures: Figures) -> list[str]:
        values = (figures.over_points[name], figures.over_clients[name], figures.std, figures.worst_tenth)
        first = "" if before is None else score(name, before.over_points[name], unit=False)
        return [first, *(score(name, value, unit=False) for value in values)]

    rows = [cells(run.report.figures_before, run.report.figures) for run in runs]
    rows += [cells(None, report.figures) for report in runs[0].baselines.values()]
    headings = ("before", "after", "clients", "std", "worst")
    title = f"{_heading(name)} on {_who(runs[0])}{f', {which}' if which else ''}"
    return _Columns(title, headings, [*zip(*rows, strict=True)])


def _cost(runs: Sequence[FinishedRun], comparison: Comparison) -> _Columns:
    """Return what it took each algorithm to reach the common target."""
    costs = [comparison.cost[run.title] for run in runs]
    target = score(runs[0].measure, comparison.target)
    cells = [[f"{rounds:,}" for rounds, _ in costs], [megabytes(sent) for _, sent in costs]]
    return _Columns(f"Until the validation clients reached {target}", ("rounds", "MB sent"), cells)


def _seeds(repeats: Repeats) -> _Columns:
    """Return the means over seeds with their intervals, of each algorithm and each baseline."""
    name = repeats.measure
    rows = []
    for title, mean in repeats.intervals.items():
        values, by_client = repeats.values[title], repeats.by_client[title]
        ends = [score(name, float(value), unit=False) for value in (by_client.mean(), values.min(), values.max())]
        rows.append([score(name, mean.mean, unit=False), interval(name, mean, unit=False), *ends])
    title = f"{_heading(name)} on unseen clients, {counted(len(repeats.comparisons), 'seed')}"
    return _Columns(title, ("mean", "95 % interval", "clients", "lowest", "highest"), [*zip(*rows, strict=True)])


def _all_figures(run: FinishedRun, names: Sequence[str]) -> _Columns:
    """Return every figure of one run, before and after adaptation, over data points and over clients."""
    before, after = run.report.figures_before, run.report.figures
    cells = [
        [score(name, values[name]) for name in names]
        for values in (before.over_points, after.over_points, before.over_clients, after.over_clients)
    ]
    return _Columns("All figures", ("before", "after", "before (clients)", "after (clients)"), cells)


def _print(
    console: Console, heads: Sequence[str], parts: Sequence[_Columns], bold: Collection[str] = (), lines_below: int = 0
) -> None:
    """Print one table of all parts if the console is wide enough, else one of each, or several.

    Args:
        console: where.
        heads: the rows' names.
        parts: their cells.
        bold: the rows that stand out.
        lines_below: after how many rows there is a line; a part may have no more rows than these.
    """
    together = _Columns(
        parts[0].title, [h for part in parts for h in part.headings], [c for part in parts for c in part.cells]
    )

    def table(part: _Columns) -> Table:
        return _table(part, heads, bold, lines_below, tight=console.width < 80)

    if _fits(console, table(together)):
        console.print(table(together))
        return
    for part in parts:
        left = list(zip(part.headings, part.cells, strict=True))
        while left:
            count = len(left)
            while count > 1 and not _fits(console, table(_Columns(part.title, *zip(*left[:count], strict=True)))):
                count -= 1
            console.print(table(_Columns(part.title, *zip(*left[:count], strict=True))))
            left = left[count:]


def _table(part: _Columns, heads: Sequence[str], bold: Collection[str], lines_below: int, tight: bool) -> Table:
    table = Table(
        title=part.title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=tight,
    )
    table.add_column("", no_wrap=True)
    for heading in part.headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for place in range(max(len(column) for column in part.cells)):
        cells = [column[place] if place < len(column) else "" for column in part.cells]
        style = "bold" if heads[place] in bold else ""
        table.add_row(heads[place], *cells, style=style, end_section=place + 1 == lines_below)
    return table


def _fits(console: Console, table: Table) -> bool:
    return console.measure(table, options=console.options.update(width=10_000)).maximum <= console.width


def _say(console: Console, sentences: Sequence[str]) -> None:
    if sentences:
        console.print("\n" + "\n".join(sentences), highlight=False, markup=False)


def _heading(name: str) -> str:
    return f"{titled(name)}{' in %' if name == 'accuracy' else ''}"


def _who(run: FinishedRun) -> str:
    report = run.report
    examples = counted(int(report.after.examples.sum()), "query example")
    return f"{counted(len(report.clients), 'unseen client')}, {examples}"
