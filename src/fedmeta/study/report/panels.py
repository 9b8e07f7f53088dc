"""The report's pictures, each an SVG element that takes the page's colours, light or dark."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta.study import plots
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import NAMES, SHARES, titled
from fedmeta.study.plots import COLOURS, GRID, INK, PAPER, POINTS, QUIET, STYLE, line, mark

_VARIABLES = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(COLOURS)},
}
_CELLS = 32
"""Of more than `POINTS` points, those in the same cell of so many by so many are drawn as one that is larger."""


@dataclass(frozen=True)
class Panel:
    """A picture and what it shows.

    Args:
        title: what it shows, in a few words.
        svg: the picture.
    """

    title: str
    svg: str


def swatches(runs: Sequence[FinishedRun]) -> tuple[dict[str, str], str]:
    """Return by title how each algorithm is drawn, as a small SVG element, and what all of these refer to."""

    def of(run: FinishedRun) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            colour, marker, dash = mark(run)
            axes.plot([0, 1, 2], [0, 0, 0], color=colour, linestyle=dash, linewidth=1.6)
            axes.plot([1], [0], color=colour, marker=marker, markersize=6)
            axes.set_axis_off()

        return draw

    signs, symbols = {}, []
    for place, run in enumerate(runs):
        text = _svg(of(run), f"sign{place}", size=(0.7, 0.2))
        symbols.append(text.replace("<svg", f'<symbol id="sign{place}"', 1).replace("</svg>", "</symbol>"))
        signs[run.title] = f'<svg aria-hidden="true"><use href="#sign{place}"/></svg>'
    return signs, f'<svg class="symbols" aria-hidden="true">{"".join(symbols)}</svg>'


def learning(runs: Sequence[FinishedRun], comparison: Comparison | None) -> list[Panel]:
    """Return the curves of training and validation, over rounds and over bytes."""
    measure = runs[0].measure
    found = _by_round(runs, measure, lambda run, seen: run.experiment.headline(seen))
    if any(run.validation() for run in runs):
        found.append(
            Panel(
                f"Validation {NAMES[measure]} by bytes sent",
                _svg(lambda axes: plots.learning(axes, runs, comparison), "sent"),
            )
        )
    if measure == "accuracy":
        found += _by_round(runs, "loss", lambda _, seen: seen["loss"])
    return found


def adapting(runs: Sequence[FinishedRun]) -> list[Panel]:
    """Return what adaptation does step by step, the spread over clients, and each client before and after."""
    measure = runs[0].measure
    found = [
        Panel(f"{titled(measure)} as unseen clients adapt", _svg(lambda axes: plots.adaptation(axes, runs), "steps"))
    ]
    found.append(
        Panel(f"{titled(measure)} of each unseen client", _svg(lambda axes: plots.clients(axes, runs), "each"))
    )
    for place, run in enumerate(run for run in runs if run.adapts):
        before, after = run.report.figures_before.each[measure], run.report.figures.each[measure]
        drawn = _pairs(run, before, after, "before", "after", measure)
        found.append(Panel(f"{run.title}, client by client", _svg(drawn, f"pairs{place}", (4.6, 4.0))))
    return found


def residuals(runs: Sequence[FinishedRun]) -> list[Panel]:
    """Return the errors of predicted numbers as a histogram, and of each run what was predicted against the truth."""
    answers = [answered(run) for run in runs]
    errors = [given - true for true, given in answers]
    together = np.concatenate(errors)
    if not len(together):
        return []
    low, high = (float(value) for value in np.percentile(together, [0.5, 99.5]))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 41)

    def histogram(axes: Any) -> None:
        for run, each in zip(runs, errors, strict=True):
            counts = np.histogram(each, edges)[0] / max(len(each), 1)
            line(axes, run, (edges[:-1] + edges[1:]) / 2, counts, drawstyle="steps-mid")
        axes.axvline(0, color=QUIET, linewidth=0.9)
        plots.scaled(axes, "accuracy")
        axes.set_xlabel("predicted - true")
        axes.set_ylabel("share of query examples")

    found = [Panel("Errors after adapting (the middle 99 %)", _svg(histogram, "errors"))]
    for place, (run, (true, given)) in enumerate(zip(runs, answers, strict=True)):
        drawn = _pairs(run, true, given, "true", "predicted", "rmse")
        found.append(Panel(f"{run.title}: predicted and true", _svg(drawn, f"true{place}", (4.6, 4.0))))
    return found


def targets(groups: dict[str, np.ndarray]) -> Panel:
    """Return the distribution of the targets of the groups of clients."""
    together = np.concatenate([y[np.isfinite(y)] for y in groups.values()])
    low, high = (float(value) for value in np.percentile(together, [0.5, 99.5]))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 31)

    def draw(axes: Any) -> None:
        for (name, y), dash, colour in zip(
            groups.items(), ("solid", (0, (5, 1.5)), (0, (1, 1))), COLOURS, strict=False
        ):
            counts = np.histogram(y, edges)[0] / max(len(y), 1)
            axes.plot(
                (edges[:-1] + edges[1:]) / 2, counts, drawstyle="steps-mid", color=colour, linestyle=dash, label=name
            )
        plots.scaled(axes, "accuracy")
        axes.set_xlabel("target (the middle 99 %)")
        axes.set_ylabel("share of examples")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
        axes.legend(loc="upper left", ncols=3, frameon=False, fontsize=9, columnspacing=1, handlelength=1.8)

    return Panel("Targets of each group of clients", _svg(draw, "targets"))


def intervals(repeats: Repeats) -> Panel:
    """Return the means over seeds with their intervals, and the value of each seed."""
    runs = {run.title: run for run in repeats.comparisons[0].runs}
    # A baseline that is far behind would leave no room for what differs.
    ends = [end for t in runs for end in (repeats.intervals[t].low, repeats.intervals[t].high) if math.isfinite(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    titles = [
        title
        for title, interval in repeats.intervals.items()
        if title in runs or 2 * low - high <= interval.mean <= 2 * high - low
    ][::-1]

    def draw(axes: Any) -> None:
        for place, title in enumerate(titles):
            colour, marker, _ = mark(runs[title]) if title in runs else (QUIET, "o", None)
            interval, values = repeats.intervals[title], repeats.values[title]
            values = values[np.isfinite(values)]
            axes.plot(values, [place - 0.25] * len(values), linestyle="", marker="|", color=QUIET, markersize=6)
            if math.isfinite(interval.low) and math.isfinite(interval.high):
                ends = np.array([interval.low, interval.high])
                ends = ends.clip(0, 1) if repeats.measure in SHARES else ends
                axes.plot(ends, [place, place], color=colour, linewidth=2.5)
            if math.isfinite(interval.mean):
                axes.plot(interval.mean, place, marker=marker, color=colour, markersize=7)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(-0.7, len(titles) - 0.3)
        axes.set_xlabel(f"{NAMES[repeats.measure]}: mean, 95 % interval, each seed (|)")
        _like(axes.xaxis, repeats.measure)

    return Panel(
        f"{len(repeats.comparisons)} seeds: means and intervals", _svg(draw, "seeds", (4.6, 0.9 + 0.34 * len(titles)))
    )


def answered(run: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted numbers of all query examples with a finite prediction, each [examples]."""
    kept = run.report.predictions
    if kept is None:
        return np.zeros(0), np.zeros(0)
    true = np.concatenate([np.asarray(part, np.float64).ravel() for part in kept.y])
    given = np.concatenate([np.asarray(part, np.float64).ravel() for part in kept.after])
    known = np.isfinite(true) & np.isfinite(given)
    return true[known], given[known]


def _by_round(
    runs: Sequence[FinishedRun], name: str, value: Callable[[FinishedRun, dict[str, float]], float]
) -> list[Panel]:
    found = []
    for prefix, title in (("", "Training"), ("validation_", "Validation")):
        curves = {run.title: _curve(run, prefix, value) for run in runs}
        if not any(rounds for rounds, _ in curves.values()):
            continue

        def draw(axes: Any, curves: Any = curves) -> None:
            for run in runs:
                line(axes, run, *curves[run.title])
            plots.scaled(axes, name)
            axes.set_xlabel("round")
            plots.whole(axes)

        found.append(Panel(f"{title} {NAMES.get(name, name)} by round", _svg(draw, f"{prefix}{name}")))
    return found


def _curve(
    run: FinishedRun, prefix: str, value: Callable[[FinishedRun, dict[str, float]], float]
) -> tuple[list[float], list[float]]:
    """Return rounds and values; of many rounds of training the means of several, of many looks some."""
    rounds, values = [], []
    for row in run.rows:
        seen = {n.removeprefix(prefix): v for n, v in row.items() if n.startswith(prefix) and n.endswith(_MEASURED)}
        try:
            values.append(value(run, seen))
        except KeyError:
            continue
        rounds.append(row["round"])
    if not rounds or prefix or len(rounds) <= POINTS:
        return plots.thinned(rounds, values)
    parts = np.array_split(np.arange(len(rounds)), POINTS // 2)
    return (
        [float(np.mean([rounds[place] for place in part])) for part in parts],
        [float(np.mean([values[place] for place in part])) for part in parts],
    )


_MEASURED = ("accuracy", "loss", "squared_error")


def _pairs(
    run: FinishedRun, x: np.ndarray, y: np.ndarray, x_title: str, y_title: str, name: str
) -> Callable[[Any], None]:
    """Return what draws pairs of values and the diagonal; points at one place are one that is larger."""

    def draw(axes: Any) -> None:
        known = np.isfinite(x) & np.isfinite(y)
        points = np.stack([x[known], y[known]], axis=1)
        if not len(points):
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no finite figures", ha="center", transform=axes.transAxes)
            return
        low, high = float(points.min()), float(points.max())
        room = 0.04 * (high - low) or 0.5 * (abs(high) or 1.0)
        if len(points) > POINTS:
            cell = (high - low) / _CELLS or 1.0
            points = low + ((points - low) / cell).round() * cell
        places, counts = np.unique(points, axis=0, return_counts=True)
        axes.plot([low - room, high + room], [low - room, high + room], color=QUIET, linewidth=0.9)
        colour, marker, _ = mark(run)
        sizes = np.round(22 * np.minimum(counts / np.percentile(counts, 75), 8) ** 0.5 + 8)
        axes.scatter(places[:, 0], places[:, 1], s=sizes, color=colour, marker=marker, alpha=0.7, linewidths=0)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        _like(axes.xaxis, name)
        _like(axes.yaxis, name)

    return draw


def _like(axis: Any, name: str) -> None:
    ticker = need("matplotlib.ticker", "a report")
    axis.set_major_locator(ticker.MaxNLocator(5))
    scale, sign = (100, "%") if name in SHARES else (1, "")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{round(scale * value, 8):,g}{sign}"))


def _svg(draw: Callable[[Any], None], salt: str, size: tuple[float, float] = (4.6, 3.3)) -> str:
    """Return a drawing as an SVG element without a size of its own, in the page's colours and its type."""
    matplotlib = need("matplotlib", "a report")
    file = StringIO()
    # The salt keeps the names within one picture apart from those within another.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = need("matplotlib.figure", "a report").Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"| xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)
    text = re.sub(r"px 'DejaVu Sans'[^;\"]*", "px system-ui, sans-serif", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"|(<svg [^>]*?)height="[^"]*"', r"<svg \1\2", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    # Points lie within the axes.
    text = re.sub(r'<g clip-path="url\(#\w+\)">\s*(<use [^>]*/>)\s*</g>', r"\1", text)
    for colour, variable in _VARIABLES.items():
        text = re.sub(colour + r"\b", variable, text, flags=re.IGNORECASE)
    # A hundredth of a point is more than a screen shows.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)
    return re.sub(r"\n\s*", "\n", text).replace("xlink:href", "href")
