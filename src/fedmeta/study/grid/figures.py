"""The pictures of a study: convergence against bytes, clients before and after, gain against support, and who gains."""

import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.evaluation.figures import MORE_IS_BETTER
from fedmeta.study import plots, statistics
from fedmeta.study.formatting import NAMES, SHARES, amount, titled
from fedmeta.study.grid.results import Measured, Results
from fedmeta.study.plots import INK, PAPER, QUIET, STYLE, Mark
from fedmeta.study.statistics import Interval

ENDINGS = ("svg", "png")

FIFTHS = 5
"""Groups of clients, by how many examples they adapt on."""

LONG = 30
"""Letters of a name that leave no room for another beside it, in a panel."""

ABREAST = 4
"""Panels of procedures in a row, so that the words in them can be read on a page."""


def marks(results: Results, data: str) -> dict[str, Mark]:
    """Return how each procedure is drawn: in its algorithm's colour; a second of one algorithm with another dash."""
    seen: dict[str, int] = {}
    found = {}
    for procedure, algorithm in results.families(data).items():
        found[procedure] = plots.mark_of(algorithm, seen.get(algorithm, 0))
        seen[algorithm] = seen.get(algorithm, 0) + 1
    return found


def draw_all(results: Results, data: str, folder: Path) -> list[tuple[str, str]]:
    """Write the pictures of a data set, each as SVG and PNG; return the name and what it shows of each PNG.

    Raises:
        MissingPackage: the extra `reports` is not installed.
        RunError: the file system refuses.
    """
    matplotlib = need("matplotlib", "the pictures of a study")
    name = NAMES[results.judged_by(data)]
    drawn = {
        "convergence": (convergence, f"Validation {name} against bytes sent, {data}"),
        "clients": (clients, f"Each test client before and after it adapts, {data}"),
        "support": (support, f"What adapting gains at each size of support, {data}"),
        "who-gains": (who_gains, f"Who gains by adapting, {data}"),
    }
    found = []
    for kind, (draw, words) in drawn.items():
        with matplotlib.rc_context(STYLE | {"svg.hashsalt": "fedmeta", "axes.axisbelow": True}):
            figure = draw(results, data)
            if figure is None:
                continue
            for ending in ENDINGS:
                _save(figure, folder / f"{data}-{kind}.{ending}")
        found.append((f"{data}-{kind}.png", words))
    return found


def convergence(results: Results, data: str) -> Any:
    """Draw the validation curve over bytes, its mean over seeds and their span, at the support of the comparisons.

    Where one algorithm has more curves than can be told apart by their dashes, there is a panel for each algorithm.
    """
    at, judged = results.declared(data)["compare_at"], results.judged_by(data)
    family = results.families(data)
    shown = {one: cells for one in results.trained(data) if (cells := results.of(data, one, at))}
    crowded = max(Counter(family[one] for one in shown).values(), default=0) > plots.VARIANTS
    groups = list(dict.fromkeys(family[one] for one in shown)) if crowded else [None]
    figure, panels = _figure(
        len(groups), (10.5, 4.4 * math.ceil(len(groups) / 2)) if crowded else (7.5, 4.6), share=True
    )
    drawn, sent = marks(results, data), []
    seeds = {one: len({key.seed for key in results.cells if key[:2] == (data, one)}) for one in shown}
    for axes, group in zip(panels, groups, strict=True):
        for procedure, cells in shown.items():
            if group in (None, family[procedure]):
                whole = len(cells) == seeds[procedure]
                label = procedure if whole else f"{procedure}, {len(cells)} of {seeds[procedure]} seeds"
                sent += _curve(axes, drawn[procedure], label, cells)
        for target in results.declared(data)["targets"]:
            axes.axhline(target, color=QUIET, linewidth=1, linestyle=":")
        plots.scaled(axes, judged)
    many = len({key.seed for key in results.cells if key.data == data}) > 1
    below = "mean of the seeds, and their span" if many else ""
    for axes, group in zip(panels, groups, strict=True):
        plots.over_bytes(axes, sent)
        _title(axes, f"Validation {NAMES[judged]} by bytes sent" if group is None else group, below)
        if crowded:
            longest = max(map(len, axes.get_legend_handles_labels()[1]))
            columns = 2 if longest < LONG else 1
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False)
    if not crowded:
        plots.legend(figure, panels[0], 5)
    return figure


def _curve(axes: Any, mark: Mark, label: str, cells: Sequence[Measured]) -> list[int]:
    """Draw the curve of some cells; return the bytes of its looks."""
    curves = [cell.curve() for cell in cells]
    # A run that stopped early has fewer looks.
    count = min(len(values) for *_, values in curves)
    costs = np.mean([costs[:count] for _, costs, _ in curves], axis=0) / 1e6
    values = np.array([values[:count] for *_, values in curves])
    _line(axes, mark, label, costs, values.mean(axis=0), markevery=0.12)
    if len(cells) > 1:
        axes.fill_between(costs, values.min(axis=0), values.max(axis=0), color=mark.colour, alpha=0.13, linewidth=0)
    return (1e6 * costs).astype(int).tolist()


def clients(results: Results, data: str) -> Any:
    """Draw each test client's value before and after it adapts, a panel for each procedure that adapts."""
    at, judged = results.declared(data)["compare_at"], results.judged_by(data)
    shown = _adapting(results, data, at)
    if not shown or results.over(data) == "examples":
        return None
    rows, columns = math.ceil(len(shown) / ABREAST), min(len(shown), ABREAST)
    figure, panels = _figure(len(shown), (3.1 * max(columns, 2), 3.7 * rows), columns, share=True)
    drawn = {
        procedure: [
            np.nanmean([list(cell.clients[when].values()) for cell in results.of(data, procedure, at)], axis=0)
            for when in ("before", "after")
        ]
        for procedure in shown
    }
    every = np.concatenate([np.concatenate(pair) for pair in drawn.values()])
    every = every[np.isfinite(every)]
    low, high = (every.min(), every.max()) if len(every) else (0.0, 1.0)
    room = max(0.04 * (high - low), 1e-3)
    better = judged in MORE_IS_BETTER
    for axes, procedure in zip(panels, shown, strict=True):
        mark, (before, after) = marks(results, data)[procedure], drawn[procedure]
        axes.plot([low, high], [low, high], color=QUIET, linewidth=1, zorder=1)
        axes.scatter(
            before, after, s=26, marker=mark.marker, color=mark.colour, alpha=0.75, edgecolors=PAPER, linewidths=0.4
        )
        gains = after > before if better else after < before
        worse = after < before if better else after > before
        axes.set_title(procedure)
        axes.text(
            0.97,
            0.04,
            f"{int(gains.sum())} better, {int(worse.sum())} worse",
            transform=axes.transAxes,
            ha="right",
            fontsize=9,
            color=INK,
        )
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_aspect("equal")
        axes.set_xlabel(f"{NAMES[judged]} before")
        plots.scaled(axes, judged)
        if judged in SHARES:
            axes.xaxis.set_major_formatter(axes.yaxis.get_major_formatter())
    for first in panels[::columns]:
        first.set_ylabel(f"{NAMES[judged]} after")
    return figure


def support(results: Results, data: str) -> Any:
    """Draw the mean over clients after adapting, and what adapting gains, against the size of the support."""
    judged, sizes = results.judged_by(data), results.supports(data)
    if len(sizes) < 2:
        return None
    figure, (after, gained) = _figure(2, (10.5, 4.4))
    shown = [name for name in marks(results, data) if any(name in _adapting(results, data, at) for at in sizes)]
    _over_support(after, results, data, list(marks(results, data)), results.level, 1)
    _over_support(gained, results, data, shown, _mean_gain(results), 100 if judged in SHARES else 1)
    plots.scaled(after, judged)
    gained.axhline(0, color=QUIET, linewidth=1)
    gained.set_ylabel("gain, points" if judged in SHARES else f"less {NAMES[judged]}")
    below = f"mean of the {results.over(data)}; intervals of 95 %"
    _title(after, f"{titled(judged)} after adapting", below)
    _title(gained, "Gain by adapting", below)
    plots.legend(figure, after, 5)
    return figure


def _over_support(
    axes: Any,
    results: Results,
    data: str,
    procedures: Sequence[str],
    value: Callable[[str, str, float], Interval | None],
    scale: int,
) -> None:
    """Draw a value with its interval for each procedure at each support, side by side."""
    sizes = results.supports(data)
    width = min(0.04, 0.5 / max(len(procedures), 1))
    for place, procedure in enumerate(procedures):
        mark = marks(results, data)[procedure]
        found = [(number, value(data, procedure, at)) for number, at in enumerate(sizes)]
        beside = (place - (len(procedures) - 1) / 2) * width
        points = [(at + beside, *each) for at, each in found if each is not None]
        if not points:
            continue
        x, mean, low, high = np.array(points).T
        reach = scale * np.maximum([mean - low, high - mean], 0)
        axes.errorbar(x, scale * mean, reach, fmt="none", ecolor=mark.colour, elinewidth=1.1, capsize=2.5)
        _line(axes, mark, procedure, x, scale * mean)
    axes.set_xticks(range(len(sizes)), [amount(at) for at in sizes])
    shares = "share of a client's examples" if max(sizes) < 1 else "examples"
    axes.set_xlabel(f"{shares} that it adapts on")


def _mean_gain(results: Results) -> Callable[[str, str, float], Interval | None]:
    def gain(data: str, procedure: str, at: float) -> Interval | None:
        found = results.gain(data, procedure, at)
        return None if found is None else statistics.crossed_bootstrap(found)

    return gain


def who_gains(results: Results, data: str) -> Any:
    """Draw the clients' gains in their order, and the mean gain by how many examples clients adapt on."""
    at, judged = results.declared(data)["compare_at"], results.judged_by(data)
    shown = _adapting(results, data, at)
    if not shown or results.over(data) == "examples":
        return None
    sizes = {one: np.array(list(results.of(data, one, at)[0].clients["support"].values())) for one in shown}
    # Where all have about as many there is nothing to see.
    varied = all(len(np.unique(held)) >= FIFTHS for held in sizes.values())
    figure, panels = _figure(1 + varied, (6.0 + 4.5 * varied, 4.4))
    scale = 100 if judged in SHARES else 1
    for procedure in shown:
        mark, gains = marks(results, data)[procedure], results.gain(data, procedure, at)
        if gains is None:
            continue
        each = scale * np.nanmean(gains, axis=0)
        share = 100 * (np.arange(len(each)) + 0.5) / len(each)
        _line(panels[0], mark, procedure, share, np.sort(each))
        if varied:
            held = sizes[procedure]
            fifths = np.array_split(np.argsort(held, kind="stable"), FIFTHS)
            means = [(held[one].mean(), np.nanmean(each[one])) for one in fifths]
            _line(panels[1], mark, procedure, *np.array(means).T)
    for axes in panels:
        axes.axhline(0, color=QUIET, linewidth=1)
        axes.set_ylabel("gain, points" if judged in SHARES else f"less {NAMES[judged]}")
    panels[0].set_xlabel("% of the test clients, sorted by their gain")
    _title(panels[0], "Gain of each client by adapting", "mean of the seeds; below zero: adapting hurts it")
    if varied:
        panels[1].set_xlabel("examples to adapt on, the mean of each fifth of the clients")
        _title(panels[1], "Gain by size of the support set", "mean of each fifth of the clients")
    plots.legend(figure, panels[0], 5)
    return figure


def _adapting(results: Results, data: str, at: float) -> list[str]:
    """Return the trained procedures with which a client's answers change as it adapts."""
    gains = {procedure: results.gain(data, procedure, at) for procedure in results.trained(data)}
    return [procedure for procedure, gain in gains.items() if gain is not None and np.any(gain != 0)]


def _figure(
    panels: int, size: tuple[float, float], columns: int = 2, *, share: bool = False
) -> tuple[Any, Sequence[Any]]:
    figure = need("matplotlib.figure", "the pictures of a study").Figure(figsize=size, layout="constrained")
    places = figure.subplots(math.ceil(panels / columns), min(panels, columns), sharey=share, squeeze=False).ravel()
    for empty in places[panels:]:
        empty.remove()
    return figure, list(places[:panels])


def _line(axes: Any, mark: Mark, label: str, x: Any, y: Any, **more: Any) -> None:
    form = {"color": mark.colour, "linestyle": mark.dash, "marker": mark.marker, "markersize": 5, "linewidth": 1.6}
    axes.plot(x, y, label=label, **{**form, "markevery": max(1, len(x) // 8), **more})


def _title(axes: Any, title: str, below: str) -> None:
    axes.set_title(title, pad=20 if below else None)
    if below:
        axes.text(0, 1.02, below, transform=axes.transAxes, fontsize=9, color=QUIET)


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    ending = path.suffix[1:]
    told: dict[str, Any] = {"dpi": 150, "metadata": {"Software": None}} if ending == "png" else {}
    figure.savefig(buffer, format=ending, **(told or {"metadata": {"Date": None}}))
    write_atomically(path, buffer.getvalue())
