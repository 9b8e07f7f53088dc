"""The picture of a comparison, or of one run: how it learned, and what it gives to unseen clients."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta.algorithms import ALGORITHMS
from fedmeta.study.compare import Comparison, FinishedRun
from fedmeta.study.formatting import NAMES

# In the order of ALGORITHMS: those of Okabe and Ito, then of Tol, which people with colour blindness can tell apart.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#56B4E9",
    "#D55E00",
    "#CC79A7",
    "#000000",
    "#882255",
    "#999933",
    "#332288",
    "#888888",
)
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "svg.fonttype": "none",
}


def draw(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> Any:
    """Return the picture, a Matplotlib figure: validation over bytes sent, adaptation, and the spread over clients.

    Raises:
        MissingPackage: the extra `reports` is not installed.
    """
    matplotlib, ticker = need("matplotlib", "a picture"), need("matplotlib.ticker", "a picture")
    with matplotlib.rc_context(STYLE):
        figure = need("matplotlib.figure", "a picture").Figure(figsize=(12.5, 4.3), layout="constrained")
        learning, adaptation, clients = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        _learning(learning, runs, comparison)
        _adaptation(adaptation, runs)
        _clients(clients, runs)
        if runs[0].measure == "accuracy":
            for axes in (learning, adaptation, clients):
                axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
        handles, labels = learning.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def save_picture(comparison: Comparison, path: Path) -> None:
    """Write the picture as PNG and SVG, `path` with those endings."""
    figure = draw(comparison.runs, comparison)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"))


def svg(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> str:
    """Return the picture as an SVG element."""
    file = StringIO()
    draw(runs, comparison).savefig(file, format="svg")
    text = file.getvalue()
    return text[text.index("<svg") :]


def _coloured(runs: Sequence[FinishedRun]) -> list[tuple[FinishedRun, str]]:
    """Return each run with its algorithm's colour, the same whatever it is compared with."""
    colours = dict(zip(ALGORITHMS, COLOURS, strict=True))
    return [(run, colours[run.experiment.procedure.algorithm.name]) for run in runs]


def _learning(axes: Any, runs: Sequence[FinishedRun], comparison: Comparison | None) -> None:
    ticker = need("matplotlib.ticker", "a picture")
    for run, colour in _coloured(runs):
        points = run.validation()
        sent = [s / 1e6 for _, s, _ in points]
        axes.plot(sent, [value for *_, value in points], color=colour, label=run.title, linewidth=1.8)
    if comparison is not None:
        axes.axhline(comparison.target, color="#666666", linewidth=1, linestyle=":")
        for run, colour in _coloured(runs):
            reached = comparison.cost[run.title]
            value = next(value for number, _, value in run.validation() if number == reached[0])
            axes.plot(reached[1] / 1e6, value, marker="o", color=colour, markersize=6)
    axes.set_title(f"Validation {NAMES[runs[0].measure]} while it learns")
    axes.set_xlabel("MB sent, up and down (log scale)")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _adaptation(axes: Any, runs: Sequence[FinishedRun]) -> None:
    longest = max(len(run.report.steps) for run in runs)
    for run, colour in _coloured(runs):
        values = run.curve()
        if len(values) == 1:
            axes.plot([0, max(longest - 1, 1)], values * 2, color=colour, linestyle="--", linewidth=1.4)
            axes.plot(0, values[0], color=colour, marker="o", markersize=4)
        else:
            axes.plot(range(len(values)), values, color=colour, marker="o", markersize=4, linewidth=1.8)
    axes.set_title("Unseen clients, as they adapt")
    axes.set_xlabel("adaptation steps (dashed: does not adapt)")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _clients(axes: Any, runs: Sequence[FinishedRun]) -> None:
    for run, colour in _coloured(runs):
        values = np.sort(run.report.figures.each[run.measure])
        share = (np.arange(len(values)) + 0.5) / len(values)
        axes.plot(share, values, color=colour, linewidth=1.8, drawstyle="steps-mid")
    axes.set_title("Unseen clients, one by one")
    axes.set_xlabel("clients, sorted")
    axes.xaxis.set_major_formatter(need("matplotlib.ticker", "a picture").PercentFormatter(1.0, decimals=0))
