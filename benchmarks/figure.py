"""Draw what a round costs, from build/bench/engine.json, as docs/images/performance.png.

python benchmarks/figure.py
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fedmeta.study.plots import COLOURS, STYLE

ROOT = Path(__file__).resolve().parents[1]


def draw(found: Mapping[str, Any]) -> Figure:
    """Return the picture: seconds a round over cohort size, clients in the data set, and hidden units."""
    series = found.get("series", {})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 3.9), layout="constrained")
        cohort, clients, width = figure.subplots(1, 3)
        for colour, (label, rows) in zip(
            COLOURS,
            {
                "CNN, 20 + 20 examples": series.get("cohort", {}).get("cnn", {}),
                "perceptron, 10 + 10 examples": series.get("cohort", {}).get("mlp", {}),
            }.items(),
            strict=False,
        ):
            _line(cohort, rows, colour, label)
        _line(clients, found.get("scale", {}), COLOURS[2], "softmax regression, 10 clients a round")
        _line(width, series.get("width", {}), COLOURS[1], "perceptron, 16 clients a round")
        for axes, title, label in (
            (cohort, "Clients in a round", "clients in a round"),
            (clients, "Clients in the data set", "clients in the data set"),
            (width, "Size of the model", "hidden units"),
        ):
            _finish(axes, title, label)
        cohort.set_ylabel("milliseconds a round (log scale)")
    return figure


def _line(axes: Any, rows: Mapping[str, Any], colour: str, label: str) -> None:
    points = sorted((int(value), row) for value, row in rows.items() if isinstance(row, Mapping) and "seconds" in row)
    if not points:
        return
    places = [value for value, _ in points]
    axes.plot(
        places,
        [1e3 * row["seconds"] for _, row in points],
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1.8,
        label=label,
    )
    axes.fill_between(
        places,
        [1e3 * row["min"] for _, row in points],
        [1e3 * row["max"] for _, row in points],
        color=colour,
        alpha=0.2,
        linewidth=0,
    )


def _finish(axes: Any, title: str, label: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # At least two decades, else a line that is flat looks steep; and room for the legend.
    spread = max(high / low, 100.0)
    middle = (low * high) ** 0.5
    axes.set_ylim(middle / spread**0.5, middle * spread**0.75)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if spread > 3000 else (1.0, 3.0)))
    values = sorted({int(value) for line in axes.lines for value in line.get_xdata()})
    axes.set_xticks(values)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title)
    axes.set_xlabel(f"{label} (log scale)")
    if axes.lines:
        axes.legend(loc="upper left", frameon=False, fontsize=9)


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, default=ROOT / "build" / "bench" / "engine.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "performance.png")
    arguments = parser.parse_args()
    draw(json.loads(arguments.engine.read_text())).savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
