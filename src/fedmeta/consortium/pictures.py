"""Pictures of a report as SVG: readable in colour, in grey and on paper, with a text that says what they show."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from fedmeta.consortium.results import Table
from fedmeta.consortium.scores import DASH, Interval

Number = float | int

ROW, LEFT, WIDTH, TOP = 26, 168, 560, 30
PANEL_WIDTH, PANEL_HEIGHT = 360, 250


class Line(NamedTuple):
    """A method in a picture: its colour, its dashes, and the shape of its marks."""

    colour: str
    dashes: str
    mark: str


KINDS = {
    "alone": Line("#5c5d60", "5 4", "square"),
    "pooled": Line("#b35900", "1.5 4", "diamond"),
    "federated": Line("#0072b2", "", "circle"),
}
"""By what a method needs: shapes and dashes differ, so that colours need not."""

SECOND = Line("#7a3e9d", "9 3 2 3", "triangle")
"""A second federated method in a picture with lines."""


def dots(table: Table, hospital: str | None, metric: str, title: str) -> str:
    """Return each method's figure as a mark on its interval, a row for each method.

    Args:
        table: the methods.
        hospital: at which one; None for the mean of all.
        metric: which figure.
        title: what the picture shows, for those who do not see it.
    """
    figures = [(row, row.mean[metric] if hospital is None else row.hospitals[hospital][metric]) for row in table.rows]
    known = [one for _, figure in figures for one in figure if not math.isnan(one)]
    low, high, ticks = _scale(min(known, default=0.0), max(known, default=1.0))
    height = TOP + ROW * len(figures) + 14

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 20)

    parts = [_tick(x(tick), f"{100 * tick:.0f}", TOP - 8, height - 14) for tick in ticks]
    for place, (row, figure) in enumerate(figures):
        y = TOP + ROW * place + ROW / 2
        line = KINDS[row.kind]
        parts.append(_text(LEFT - 10, y + 4, row.title, "end"))
        if math.isnan(figure.value):
            parts.append(_text(LEFT + 4, y + 4, f"{DASH} (not defined)", "start", "quiet"))
            continue
        if not math.isnan(figure.low):
            parts.append(_line(x(figure.low), y, x(figure.high), y, line.colour, 2.5))
        parts.append(_mark(x(figure.value), y, line))
    return _svg(WIDTH, height, title, parts)


def curves(points: Mapping[str, Mapping[int, Interval]], lines: Mapping[str, Line], title: str, per_cent: bool) -> str:
    """Return figures against the number of patients, a line with intervals for each method.

    Args:
        points: by method, by number of patients, the figure.
        lines: how each method is drawn.
        title: what the picture shows, for those who do not see it.
        per_cent: whether the figures are shares, shown in per cent.
    """
    known = [one for some in points.values() for figure in some.values() for one in figure if not math.isnan(one)]
    low, high, ticks = _scale(min(known, default=0.0), max(known, default=1.0))
    sizes = sorted({size for some in points.values() for size in some})
    left, bottom, right = 46, PANEL_HEIGHT - 40, PANEL_WIDTH - 16

    def place(size: int) -> float:
        first, last = math.log(sizes[0]), math.log(sizes[-1])
        share = (math.log(size) - first) / (last - first) if last > first else 0.5
        return left + 22 + share * (right - left - 44)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - 14)

    parts = []
    for tick in ticks:
        parts.append(_line(left, y(tick), right, y(tick), "var(--line)", 1))
        parts.append(_text(left - 7, y(tick) + 4, f"{100 * tick:.0f}" if per_cent else f"{tick:.2f}", "end", "quiet"))
    for size in sizes:
        parts.append(_text(place(size), bottom + 18, str(size), "middle", "quiet"))
    parts.append(_text((left + right) / 2, PANEL_HEIGHT - 4, "patients of its own", "middle", "quiet"))
    for number, (name, some) in enumerate(points.items()):
        line, shift = lines[name], 5 * (number - (len(points) - 1) / 2)
        places = [(place(size) + shift, some[size]) for size in sizes if size in some]
        places = [(at, figure) for at, figure in places if not math.isnan(figure.value)]
        path = " ".join(f"{at:.1f},{y(figure.value):.1f}" for at, figure in places)
        dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dashes}/>')
        for at, figure in places:
            if not math.isnan(figure.low):
                parts.append(_line(at, y(figure.low), at, y(figure.high), line.colour, 1.2))
            parts.append(_mark(at, y(figure.value), line))
    return _svg(PANEL_WIDTH, PANEL_HEIGHT, title, parts)


def swatch(line: Line) -> str:
    """Return a short piece of a line with its mark, for a legend."""
    dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
    drawn = f'<line x1="0" y1="7" x2="40" y2="7" stroke="{line.colour}" stroke-width="2"{dashes}/>'
    return f'<svg viewBox="0 0 40 14" class="swatch" aria-hidden="true">{drawn}{_mark(20, 7, line)}</svg>'


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and its ticks, at round numbers."""
    step = next(one for one in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / one <= 6 or one == 0.5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return first * step, last * step, [step * place for place in range(first, last + 1)]


def _svg(width: Number, height: Number, title: str, parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def _tick(x: Number, label: str, top: Number, bottom: Number) -> str:
    return _line(x, top + 4, x, bottom, "var(--line)", 1) + _text(x, top, label, "middle", "quiet")


def _line(x1: Number, y1: Number, x2: Number, y2: Number, colour: str, width: Number) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: Number, y: Number, text: str, anchor: str, kind: str = "ink") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _mark(x: Number, y: Number, line: Line) -> str:
    colour = f'fill="{line.colour}" stroke="{line.colour}"'
    hollow = f'fill="var(--paper)" stroke="{line.colour}" stroke-width="2"'
    match line.mark:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {colour}/>'
        case "square":
            return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {hollow}/>'
        case "diamond":
            corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
            return f'<polygon points="{corners}" {hollow}/>'
        case _:
            corners = f"{x:.1f},{y - 6:.1f} {x + 5.5:.1f},{y + 4.5:.1f} {x - 5.5:.1f},{y + 4.5:.1f}"
            return f'<polygon points="{corners}" {colour}/>'
