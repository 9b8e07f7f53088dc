"""The picture of a comparison, or of one run: how it learned, and what it gives to unseen clients."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta._extras import need
from fedmeta.algorithms import ALGORITHMS
from fedmeta.study.baselines import TITLES
from fedmeta.study.compare import Comparison, FinishedRun
from fedmeta.study.formatting import NAMES, SHARES, titled

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
# Likewise, so that no two are alike in grey.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
_DASHES = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
VARIANTS = len(_DASHES)
"""How many lines of one colour differ by their dashes."""
INK, QUIET, GRID, PAPER = "#1c1c1d", "#66676a", "#e4e4e5", "#fefefe"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "svg.fonttype": "none",
}
POINTS = 400
"""A line has at most about so many points; of more, each is the mean of several or every so manieth."""

Values = Sequence[float | int] | np.ndarray


class Mark(NamedTuple):
    """How an algorithm is drawn, wherever it is.

    Args:
        colour: its colour.
        marker: the form of its points.
        dash: the form of its lines.
    """

    colour: str
    marker: str
    dash: Any


def mark(run: FinishedRun) -> Mark:
    """Return how the run's algorithm is drawn, the same whatever it is compared with."""
    return mark_of(run.experiment.procedure.algorithm.name)


def mark_of(algorithm: str, variant: int = 0) -> Mark:
    """Return how an algorithm is drawn; a variant of it in the same colour, with another marker and dash.

    Args:
        algorithm: its name; one that this version does not know is drawn in grey.
        variant: from 0.
    """
    place = list(ALGORITHMS).index(algorithm) if algorithm in ALGORITHMS else len(COLOURS) - 1
    other = place + variant
    return Mark(COLOURS[place], _MARKERS[other % len(_MARKERS)], _DASHES[other % len(_DASHES)])


def draw(runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> Any:
    """Return the picture, a Matplotlib figure: validation over bytes sent, adaptation, and the spread over clients.

    Raises:
        MissingPackage: the extra `reports` is not installed.
    """
    matplotlib = need("matplotlib", "a picture")
    with matplotlib.rc_context(STYLE):
        figure = need("matplotlib.figure", "a picture").Figure(figsize=(12.5, 4.5), layout="constrained")
        parts = figure.subplots(1, 3, width_ratios=(1.15, 1.1, 1))
        learning(parts[0], runs, comparison)
        adaptation(parts[1], runs)
        clients(parts[2], runs)
        name, heading = NAMES[runs[0].measure], titled(runs[0].measure)
        titles = (
            f"Validation {name} by bytes sent",
            f"{heading} as unseen clients adapt",
            f"{heading} of each unseen client",
        )
        for axes, title in zip(parts, titles, strict=True):
            axes.set_title(title)
        legend(figure, parts[0], 6)
    return figure


def legend(figure: Any, axes: Any, most: int) -> None:
    """Write what the lines of a part are under all parts, in as many columns as are asked for and have room."""
    handles, labels = axes.get_legend_handles_labels()
    for columns in range(max(1, min(len(labels), most)), 0, -1):
        found = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        if columns == 1 or found.get_tightbbox().width <= figure.bbox.width:
            return
        found.remove()


def save_picture(comparison: Comparison, path: Path) -> None:
    """Write the picture as PNG and SVG, `path` with those endings."""
    figure = draw(comparison.runs, comparison)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"))


def learning(axes: Any, runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> None:
    """Draw the validation clients' headline over the bytes sent, and where each run reached the common target."""
    looks = {run.title: run.validation() for run in runs}
    for run in runs:
        points = looks[run.title]
        sent, values = thinned([sent / 1e6 for _, sent, _ in points], [value for *_, value in points])
        # On a logarithmic scale the rounds crowd at the right.
        line(axes, run, sent, values, markevery=0.12)
    if comparison is not None and math.isfinite(comparison.target):
        axes.axhline(comparison.target, color=QUIET, linewidth=1, linestyle=":")
        for run in runs:
            reached, sent = comparison.cost[run.title]
            value = next((value for number, _, value in looks[run.title] if number == reached), math.nan)
            colour, marker, _ = mark(run)
            axes.plot(
                sent / 1e6,
                value,
                marker=marker,
                color=colour,
                markersize=10,
                markeredgecolor=PAPER,
                markeredgewidth=0.7,
            )
    scaled(axes, runs[0].measure)
    over_bytes(axes, [sent for points in looks.values() for _, sent, _ in points])


def adaptation(axes: Any, runs: Sequence[FinishedRun]) -> None:
    """Draw the headline over the test clients' points, step by step, with the baselines as thin lines."""
    longest = max(max(len(run.report.steps) for run in runs) - 1, 1)
    for run in runs:
        values = run.curve() or [run.report.figures.over_points[run.measure]]
        if len(values) == 1:
            line(axes, run, [0, longest], values * 2)
        else:
            line(axes, run, list(range(len(values))), values)
    scaled(axes, runs[0].measure)
    _beside(axes, runs[0])
    still = any(len(run.report.steps) <= 1 for run in runs)
    axes.set_xlabel("adaptation steps" + (" (level line: does not adapt)" if still else ""))
    whole(axes)


def clients(axes: Any, runs: Sequence[FinishedRun]) -> None:
    """Draw the clients' headlines after adaptation, in their order."""
    for run in runs:
        values = np.sort(run.report.figures.each[run.measure])
        share = (np.arange(len(values)) + 0.5) / len(values)
        line(axes, run, *thinned(share, values), drawstyle="steps-mid")
    scaled(axes, runs[0].measure)
    count = len(runs[0].report.clients)
    axes.set_xlabel("1 client" if count == 1 else f"share of the {count:,} clients, sorted")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_as_percent())


def line(axes: Any, run: FinishedRun, x: Values, y: Values, **more: Any) -> None:
    """Draw a line in the form of the run's algorithm, with a few of its points marked."""
    colour, marker, dash = mark(run)
    values = np.asarray(y, float)
    form = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 5, "linewidth": 1.6, "label": run.title}
    form |= {"markevery": max(1, len(x) // 8), **more}
    if np.isfinite(values).sum() < 3:
        form["markevery"] = None
    axes.plot(x, np.where(np.isfinite(values), values, np.nan), **form)


def thinned(x: Values, y: Values) -> tuple[list[float], list[float]]:
    """Return at most `POINTS` of the points, evenly, the first and the last among them."""
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    return np.asarray(x, float)[places].tolist(), np.asarray(y, float)[places].tolist()


def scaled(axes: Any, name: str) -> None:
    """Scale and label the y axis for a figure: shares in percent, what spans powers of ten by its logarithm."""
    if name in SHARES:
        axes.yaxis.set_major_formatter(_as_percent())
        return
    drawn = [np.asarray(one.get_ydata(), float) for one in axes.lines]
    values = np.concatenate([*drawn, np.zeros(0)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 100 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain())
        axes.set_ylabel(f"{NAMES.get(name, name)} (log scale)")
    else:
        axes.yaxis.set_major_formatter(_plain())


def over_bytes(axes: Any, sent: Sequence[int]) -> None:
    """Make the x axis one of megabytes: by its logarithm, unless these bytes span too little for that."""
    ticker = need("matplotlib.ticker", "a picture")
    low, high = min(sent, default=0), max(sent, default=0)
    wide = 0 < 3 * low < high
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(_plain())
    axes.set_xlabel(f"MB sent, up and down{' (log scale)' if wide else ''}")


def whole(axes: Any) -> None:
    """Let the x axis have whole numbers only."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 0.5, high + 0.5)
    axes.xaxis.set_major_locator(need("matplotlib.ticker", "a picture").MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(_plain())


def _beside(axes: Any, run: FinishedRun) -> None:
    """Draw the baselines that lie near what is drawn, each a thin line with its name at the right."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        return
    room = 0.2 * (high - low)
    values = {TITLES[name]: report.figures.over_points[run.measure] for name, report in run.baselines.items()}
    near = sorted((value, title) for title, value in values.items() if low - room <= value <= high + room)
    if not near:
        return
    low, high = min(low, near[0][0] - room / 4), max(high, near[-1][0] + room / 4)
    axes.set_ylim(low, high)
    for (value, title), place in zip(near, _apart([v for v, _ in near], 0.06 * (high - low)), strict=True):
        axes.axhline(value, color=QUIET, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1)
        axes.text(
            1.01,
            place,
            title,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=QUIET,
            clip_on=False,
        )


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Return ascending places, of which those that are nearer than the gap have moved apart."""
    moved = list(places)
    for _ in range(20):
        for place in range(1, len(moved)):
            short = gap - (moved[place] - moved[place - 1])
            if short > 0:
                moved[place - 1] -= short / 2
                moved[place] += short / 2
    return moved


def _as_percent() -> Any:
    return _formatter(lambda value: f"{round(100 * value, 6):g}%")


def _plain() -> Any:
    return _formatter(lambda value: f"{value:,.10g}" if 1e-4 <= abs(value) < 1e7 or not value else f"{value:.6g}")


def _formatter(text: Callable[[float], str]) -> Any:
    return need("matplotlib.ticker", "a picture").FuncFormatter(lambda value, _: text(value))
