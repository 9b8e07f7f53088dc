"""Tables for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fedmeta.study.compare import Comparison, FinishedRun
from fedmeta.study.formatting import megabytes, percent


def score_table(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> Table:
    """Return what each algorithm gives to clients that took no part in training."""
    accuracy = runs[0].measure == "accuracy"
    show = "{:.4f}".format if not accuracy else lambda share: f"{100 * share:.1f}"
    scores = runs[0].report
    clients = "1 unseen client" if len(scores.clients) == 1 else f"{len(scores.clients)} unseen clients"
    examples = f"{clients}, {int(scores.after.examples.sum()):,} query examples"
    title = f"{'Accuracy in %' if accuracy else 'Loss'} on {examples}"
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", padding=(0, 1), pad_edge=False
    )
    table.add_column("algorithm", no_wrap=True)
    for heading in ("before", "after", "clients", "std", "worst"):
        table.add_column(heading, justify="right")
    if comparison is not None:
        table.add_column("rounds", justify="right")
        table.add_column("MB sent", justify="right")
    best = max if accuracy else min
    winner = best(run.report.after.pooled[run.measure] for run in runs)
    for run in runs:
        before, after, name = run.report.before, run.report.after, run.measure
        cells = [
            show(before.pooled[name]),
            show(after.pooled[name]),
            show(after.by_client[name]),
            show(after.std),
            show(after.bottom_10_percent),
        ]
        if comparison is not None:
            rounds, sent = comparison.cost[run.title]
            cells += [str(rounds), megabytes(sent)]
        style = "bold" if after.pooled[name] == winner and len(runs) > 1 else ""
        table.add_row(run.title, *cells, style=style)
    return table


def explain(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> str:
    """Return what the columns mean."""
    name = runs[0].measure
    target = "" if comparison is None else percent(comparison.target) if name == "accuracy" else comparison.target
    text = (
        f"before, after: {name} over all query examples, before and after a client adapts on its support; "
        f"clients, std: mean and standard deviation over clients; worst: the mean over the worst tenth of clients."
    )
    if comparison is not None:
        text += f" rounds, MB sent: until the validation clients reached {target}, which they did with every algorithm."
    return text


def show(console: Console, runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> None:
    """Print the table and what it means."""
    console.print(score_table(runs, comparison))
    console.print(explain(runs, comparison), style="dim", highlight=False)
