"""Draw the figures of docs/when-meta-learning-helps.md from docs/results/when.

python benchmarks/when_figures.py
"""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors, patches, patheffects, ticker
from matplotlib.figure import Figure
from when_map import CONCEPTS, LABELS, METHODS, stored
from when_page import ROOT, TITLES, Found, gain, levels_of, read, said, simple_border, simplest, supports_of
from when_quadratics import NOISE, RATE, SPREAD, STEPS, best_dose, lifted, of_means
from when_quadratics import TABLE as QUADRATICS

from fedmeta.study.plots import INK, PAPER, QUIET, STYLE, Mark, mark_of

IMAGES = ROOT / "docs" / "images"
DRAWN = {name: mark_of("fedavg" if name == "global" else name) for name in METHODS}
DRAWN["meta-sgd-layer"] = mark_of("meta-sgd", 1)
LETTERS = {"global": "G", "alone": "A", "fedavg-meta": "F", "maml": "M", "meta-sgd-layer": "L", "meta-sgd": "S"}
KINDS = {LABELS: "Labels: classes a client holds", CONCEPTS: "Concepts: clients that permute their labels"}
HATCHES = {"meta-sgd-layer": ".."}
"""What tells the two Meta-SGDs apart, which have one colour."""
WIDEST = 15.0
"""Points at which a colour is darkest."""


def draw_quadratics() -> Figure:
    """Return the closed forms as lines, and what was measured as points."""
    rows = stored(QUADRATICS)
    figure = Figure(figsize=(13.0, 4.4), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    sizes = np.geomspace(1, 32, 100)
    dose = lifted(RATE, STEPS)
    fine, other = DRAWN["fedavg-meta"], mark_of("fedavg-meta", 1)
    lines_ = {
        "global": (DRAWN["global"], np.full_like(sizes, SPREAD), "the global model: t"),
        "alone": (DRAWN["alone"], NOISE / sizes, "alone: s / n"),
        "FedAvg, fine-tuned": (fine, [of_means(dose, SPREAD, n) for n in sizes], f"fine-tuned, {STEPS} steps"),
        "MAML, the same steps": (DRAWN["maml"], None, "MAML, the same steps"),
        "FedAvg, best dose": (
            other,
            best_dose(SPREAD, sizes) * NOISE / sizes,
            "fine-tuned, best dose: t s / (n t + s)",
        ),
    }
    for name, (mark, values, label) in lines_.items():
        if values is not None:
            first.plot(sizes, values, color=mark.colour, linestyle=mark.dash)
        _points(first, [row for row in rows if row["experiment"] == "means" and row["method"] == name], mark, label)
    first.axvline(NOISE / SPREAD, color=QUIET, linewidth=1, linestyle=":")
    first.text(NOISE / SPREAD * 1.06, 3.3, "n t = s", color=QUIET)
    first.set(
        xlabel="examples of support n (log scale)", xscale="log", yscale="log", title="Clients alike but for their mean"
    )
    for axes, name, label, title, marks in (
        (
            second,
            "hardness",
            "curvature of the flat half (log scale)",
            "Half of the clients are flat and lie apart",
            {"FedAvg, fine-tuned": fine, "MAML, the same steps": DRAWN["maml"]},
        ),
        (
            third,
            "directions",
            "ratio of the two halves' variances (log scale)",
            "Clients differ more in some directions",
            {
                "MAML, one best rate": DRAWN["maml"],
                "Meta-SGD, a rate for each layer": mark_of("meta-sgd", 1),
                "Meta-SGD, a rate for each coordinate": DRAWN["meta-sgd"],
            },
        ),
    ):
        for method, mark in marks.items():
            own = [row for row in rows if row["experiment"] == name and row["method"] == method]
            axes.plot(*_columns(own, "setting", "predicted"), color=mark.colour, linestyle=mark.dash)
            _points(axes, own, mark, method)
        axes.set(xlabel=label, xscale="log", title=title)
        axes.set_ylim(0, None)
    second.invert_xaxis()
    for axes in (first, second, third):
        axes.legend(frameon=False, fontsize=8)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    first.set_ylabel("squared error in a direction")
    first.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


def _columns(rows: list[dict[str, str]], *names: str) -> list[list[float]]:
    return [[float(row[name]) for row in rows] for name in names]


def _points(axes: Any, rows: list[dict[str, str]], mark: Mark, label: str) -> None:
    setting, measured, error = _columns(rows, "setting", "measured", "error")
    axes.errorbar(
        setting,
        measured,
        yerr=2 * np.array(error),
        color=mark.colour,
        marker=mark.marker,
        markersize=6,
        markeredgecolor=PAPER,
        linestyle="none",
        label=label,
    )


def draw_map(found: Found) -> Figure:
    """Return for each kind what is best, what adapting gives, and what meta-learning gives beyond."""
    figure = Figure(figsize=(15.0, 7.6), layout="constrained")
    panels = figure.subplots(2, 4)
    for line, kind in zip(panels, KINDS, strict=True):
        rows = levels_of(kind, found)
        _best(line[0], found, rows)
        for axes, one, other in zip(
            line[1:], ("fedavg-meta", "maml", "meta-sgd"), ("simple", "fedavg-meta", "fedavg-meta"), strict=True
        ):
            _gains(axes, found, rows, one, other)
        for axes in line:
            _frame(axes, found, rows, first=axes is line[0])
        line[0].set_ylabel(KINDS[kind])
    titles = (
        "Simplest within a point of the best",
        "FedAvg(Meta) less FedAvg or alone",
        "MAML less FedAvg(Meta)",
        "Meta-SGD less FedAvg(Meta)",
    )
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    handles = [
        patches.Patch(
            facecolor=_tint(DRAWN[name].colour),
            edgecolor=INK,
            hatch=HATCHES.get(name),
            label=f"{LETTERS[name]}: {title}",
        )
        for name, title in TITLES.items()
    ]
    handles += panels[0][0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _best(axes: Any, found: Found, rows: list[tuple[str, float]]) -> None:
    for down, row in enumerate(rows):
        for across, support in enumerate(supports_of(found)):
            cell = found[*row, support]
            name = simplest(cell)
            corner = (across - 0.5, down - 0.5)
            colour = _tint(DRAWN[name].colour)
            axes.add_patch(patches.Rectangle(corner, 1, 1, facecolor=colour, edgecolor=PAPER, hatch=HATCHES.get(name)))
            text = f"{LETTERS[name]}\n{cell[name].mean():.0f} %"
            _written(axes, across, down, text, INK)


def _gains(axes: Any, found: Found, rows: list[tuple[str, float]], one: str, other: str) -> None:
    supports = supports_of(found)
    values = np.zeros((len(rows), len(supports)))
    for down, row in enumerate(rows):
        for across, support in enumerate(supports):
            cell = found[*row, support]
            beside = max(("global", "alone"), key=lambda name: cell[name].mean()) if other == "simple" else other
            values[down, across] = gain(cell, one, beside)
    axes.imshow(values, cmap="PuOr_r", vmin=-WIDEST, vmax=WIDEST, aspect="auto")
    for (down, across), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.75 * WIDEST else INK
        _written(axes, across, down, f"{value:+.1f}", colour)


def _written(axes: Any, across: float, down: float, text: str, colour: str) -> None:
    """Write into a cell, above the lines."""
    edge = [patheffects.withStroke(linewidth=2.5, foreground=PAPER if colour == INK else INK)]
    axes.text(across, down, text, ha="center", va="center", fontsize=8.5, color=colour, zorder=6, path_effects=edge)


def _frame(axes: Any, found: Found, rows: list[tuple[str, float]], first: bool) -> None:
    supports = supports_of(found)
    for label, dash, at in (
        ("n t / s = 1, a linear model", "solid", simple_border),
        ("the same, direction by direction", (0, (3, 2)), lambda cell: float(cell["border"].mean())),
    ):
        where = [_across(at(found[*row, supports[0]]), supports) for row in rows]
        axes.plot(where, range(len(rows)), color=PAPER, linewidth=4, zorder=3)
        axes.plot(where, range(len(rows)), color=INK, linewidth=1.8, linestyle=dash, zorder=4, label=label)
    axes.set_xlim(-0.5, len(supports) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(supports)), supports)
    axes.set_yticks(range(len(rows)), [said(*row) for row in rows] if first else [""] * len(rows))
    axes.set_xlabel("examples of support")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _across(size: float, supports: list[int]) -> float:
    """Return where a support size lies between the columns, which are drawn a step apart; beyond them off the map."""
    logs, size = np.log(supports), math.log(max(size, 1e-3))
    steps = np.diff(logs).mean()
    if size < logs[0]:
        return max((size - logs[0]) / steps, -3.0)
    if size > logs[-1]:
        return min(len(logs) - 1 + (size - logs[-1]) / steps, len(logs) + 2.0)
    return float(np.interp(size, logs, range(len(logs))))


def _tint(colour: str) -> Any:
    rgb = np.array(colors.to_rgb(colour))
    return tuple(1 - 0.45 * (1 - rgb))


def draw_border(found: Found) -> Figure:
    """Return what training alone gives beside the common model, and fine-tuning beside both, against n t / s."""
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, at, title in (
        (panels[0], simple_border, "n t / s, all directions alike"),
        (panels[1], lambda cell: float(cell["border"].mean()), "n over the border, direction by direction"),
    ):
        for kind, mark in ((LABELS, mark_of("fedavg-meta")), (CONCEPTS, mark_of("maml"))):
            cells = [(support, cell) for (one, _, support), cell in found.items() if one == kind]
            ratios = [support / at(cell) for support, cell in cells]
            gaps = [gain(cell, "alone", "global") for _, cell in cells]
            form = {"color": mark.colour, "marker": mark.marker, "linestyle": "none", "markeredgecolor": PAPER}
            axes.plot(ratios, gaps, label=f"clients differ in {kind}", **form)
        axes.set(xscale="log", xlabel=f"{title} (log scale)")
        axes.axvline(1, color=QUIET, linewidth=1, linestyle=":")
        axes.axhline(0, color=QUIET, linewidth=1)
    panels[0].set_ylabel("points: alone less FedAvg")
    panels[0].legend(frameon=False)
    return figure


def main() -> None:
    """Draw."""
    found = read()
    with matplotlib.rc_context(STYLE):
        for name, figure in (
            ("when-quadratics", draw_quadratics()),
            ("when-map", draw_map(found)),
            ("when-border", draw_border(found)),
        ):
            figure.savefig(IMAGES / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
