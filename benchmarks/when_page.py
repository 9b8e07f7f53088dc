"""Write the tables of docs/when-meta-learning-helps.md from docs/results/when; benchmarks/when_figures.py draws.

python benchmarks/when_page.py
"""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from page import BLOCK
from when_map import CONCEPTS, LABELS, METHODS, NONE, TABLE, TUNING, chosen, stored
from when_quadratics import TABLE as QUADRATICS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "when-meta-learning-helps.md"
TITLES = {
    "global": "FedAvg",
    "alone": "alone",
    "fedavg-meta": "FedAvg(Meta)",
    "maml": "MAML",
    "meta-sgd-layer": "Meta-SGD by layer",
    "meta-sgd": "Meta-SGD",
}
SETTINGS = {"means": "n", "regression": "n", "hardness": "h", "directions": "ratio"}
"""What is varied, in each experiment on quadratic losses."""
MATTERS = 1.0
"""Points of accuracy: of those within so many of the best, the simplest is named."""
DIRECTIONS = 50
"""Of the linear model: 49 pixels and a constant."""

Cell = tuple[str, float, int]
Found = dict[Cell, dict[str, np.ndarray]]


def read() -> Found:
    """Return each method's accuracy in per cent, seed by seed, of each kind, level and support size.

    A support size that has not been measured at every level yet is left out.
    """
    found: dict[Cell, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in stored(TABLE):
        cell = row["kind"], float(row["level"]), int(row["support"])
        found[cell][row["method"]].append(100 * float(row["accuracy"]))
        if row["method"] == "global":
            for name in ("spread", "noise", "border"):
                found[cell][name].append(float(row[name]))
    levels = len({cell[:2] for cell in found})
    whole = [support for support in {cell[2] for cell in found} if sum(cell[2] == support for cell in found) == levels]
    return {
        cell: {name: np.array(values) for name, values in each.items()}
        for cell, each in sorted(found.items())
        if cell[2] in whole
    }


def levels_of(kind: str, found: Found) -> list[tuple[str, float]]:
    """Return a kind's levels, from clients that are alike on."""
    own = sorted({level for one, level, _ in found if one == kind}, reverse=kind == LABELS)
    return [(NONE, 0.0), *((kind, level) for level in own)]


def supports_of(found: Found) -> list[int]:
    """Return the support sizes."""
    return sorted({support for *_, support in found})


def simplest(cell: dict[str, np.ndarray]) -> str:
    """Return the first of `METHODS` that is within what matters of the best."""
    best = max(cell[name].mean() for name in METHODS)
    return next(name for name in METHODS if cell[name].mean() > best - MATTERS)


def gain(cell: dict[str, np.ndarray], one: str, other: str) -> float:
    """Return by how many points one method is above another, in the mean over seeds."""
    return float((cell[one] - cell[other]).mean())


def said(kind: str, level: float) -> str:
    """Return a level in words."""
    if kind == NONE:
        return "alike"
    return f"{level:.0f} classes" if kind == LABELS else f"{100 * level:.0f} %"


def quadratics_table() -> str:
    """Return predictions beside measurements, a line for each kind of clients and method."""
    lines = [
        "| clients | settings | method | predicted | measured | largest deviation |",
        "|---|---|---|---|---|---:|",
    ]
    groups: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in stored(QUADRATICS):
        groups[row["experiment"], row["method"]].append(row)
    for (experiment, method), rows in groups.items():
        settings = f"{SETTINGS[experiment]} = {', '.join(row['setting'] for row in rows)}"
        predicted, measured = (
            ", ".join(f"{float(row[name]):.3f}" for row in rows) for name in ("predicted", "measured")
        )
        farthest = max((deviation(row) for row in rows), key=abs)
        lines.append(f"| {experiment} | {settings} | {method} | {predicted} | {measured} | {farthest:+.1f} |")
    return "\n".join(lines)


def deviation(row: dict[str, str]) -> float:
    """Return how many standard errors a measurement is above its prediction."""
    return (float(row["measured"]) - float(row["predicted"])) / float(row["error"])


def quadratics_summary() -> str:
    """Return how far the measurements are from the predictions, in standard errors."""
    gaps = np.array([deviation(row) for row in stored(QUADRATICS)])
    inside = [np.mean(np.abs(gaps) < width) for width in (1, 2)]
    return (
        f"Of {len(gaps)} measurements {100 * inside[0]:.0f} % are within one standard error of the closed form and "
        f"{100 * inside[1]:.0f} % within two; the farthest is {np.abs(gaps).max():.1f} away. (Those of one setting "
        "share their clients, so they deviate together.)"
    )


def map_table(found: Found, kind: str) -> str:
    """Return the accuracies of all methods; of several supports, each method's cell has one number for each."""
    supports = supports_of(found)
    lines = [
        f"| {'classes' if kind == LABELS else 'permuted'} | examples | {' | '.join(TITLES[one] for one in METHODS)} | "
        "simplest within a point |",
        "|---|---:|" + "---:|" * len(METHODS) + "---|",
    ]
    for one, level in levels_of(kind, found):
        for support in supports:
            cell = found[one, level, support]
            numbers = " | ".join(f"{cell[name].mean():.1f}" for name in METHODS)
            lines.append(f"| {said(one, level)} | {support} | {numbers} | {TITLES[simplest(cell)]} |")
    return "\n".join(lines)


def map_summary(found: Found) -> str:
    """Return where each method is the simplest within a point, and the largest gains."""
    counts = {name: sum(simplest(cell) == name for cell in found.values()) for name in METHODS}
    share = ", ".join(f"{TITLES[name]} in {count}" for name, count in counts.items())
    parts = [f"Of {len(found)} cells, the simplest method within a point of the best is {share}."]
    for name in METHODS[3:]:
        gains = {cell: gain(values, name, "fedavg-meta") for cell, values in found.items()}
        most, least = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
        above = sum(value >= MATTERS for value in gains.values())
        below = sum(value <= -MATTERS for value in gains.values())
        parts.append(
            f"{TITLES[name]} is at least a point above FedAvg(Meta) in {above} and at least one below in {below}; "
            f"the most is {gains[most]:+.1f} ({place(most)}), the least {gains[least]:+.1f} ({place(least)})."
        )
    layer = [gain(cell, "meta-sgd-layer", "meta-sgd") for cell in found.values()]
    parts.append(
        "A rate for each layer in place of one for each coordinate changes Meta-SGD by "
        f"{np.mean(layer):+.1f} points in the mean over the cells, between {min(layer):+.1f} and {max(layer):+.1f}."
    )
    seeds = sorted({len(cell["maml"]) for cell in found.values()})
    parts.append(f"Seeds a cell: {' to '.join(map(str, seeds))}.")
    if seeds[0] > 1:
        apart = np.median([np.std(cell["maml"] - cell["fedavg-meta"], ddof=1) for cell in found.values()])
        parts.append(
            f"From seed to seed MAML less FedAvg(Meta) has a standard deviation of {apart:.1f} points (median)."
        )
    return "\n".join(f"- {part}" for part in parts)


def place(cell: Cell) -> str:
    """Return where a cell is."""
    kind, level, support = cell
    what = {NONE: "clients alike", LABELS: f"{level:.0f} classes each", CONCEPTS: f"{100 * level:.0f} % permute"}[kind]
    return f"{what}, {support} examples"


def simple_border(cell: dict[str, np.ndarray]) -> float:
    """Return the support size at which n t / s is 1, t being the same in all directions."""
    return float(DIRECTIONS * cell["noise"].mean() / max(cell["spread"].mean(), 1e-9))


def border_table(found: Found) -> str:
    """Return the borders that a linear model predicts, and where the common model meets training alone."""
    lines = [
        "| clients | t / s | n t / s = 1 at | direction by direction | measured |",
        "|---|---:|---:|---:|---:|",
    ]
    supports = supports_of(found)
    for kind, level in [*levels_of(LABELS, found), *levels_of(CONCEPTS, found)[1:]]:
        cell = found[kind, level, supports[0]]
        ratio = cell["spread"].mean() / cell["noise"].mean() / DIRECTIONS
        gaps = [gain(found[kind, level, support], "alone", "global") for support in supports]
        lines.append(
            f"| {place((kind, level, 0)).rpartition(',')[0]} | {ratio:.4f} | {_size(simple_border(cell))} | "
            f"{_size(float(cell['border'].mean()))} | {crossing(supports, gaps)} |"
        )
    return "\n".join(lines)


def crossing(supports: list[int], gaps: list[float]) -> str:
    """Return where what is gained by training alone becomes positive, between support sizes by their logarithm."""
    if gaps[0] > 0:
        return f"below {supports[0]}"
    for before, after, low, high in zip(supports, supports[1:], gaps, gaps[1:], strict=False):
        if high > 0:
            share = -low / (high - low)
            return f"{math.exp((1 - share) * math.log(before) + share * math.log(after)):.0f}"
    return f"above {supports[-1]}"


def _size(value: float) -> str:
    return "never" if value > 1e5 else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def settings_table() -> str:
    """Return what was chosen before, and the accuracies of the candidates."""
    rows = stored(TUNING)
    lines = [
        "| clients differ in | algorithm | clients' rate | server | its rate | validation | worst candidate |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for kind in (LABELS, CONCEPTS):
        for name, (rate, server, lr) in chosen(rows, kind).items():
            own = [float(row["validation"]) for row in rows if (row["kind"], row["algorithm"]) == (kind, name)]
            scores = " | ".join(f"{100 * score:.1f}" for score in (max(own), min(own)))
            lines.append(f"| {kind} | {TITLES.get(name, 'FedAvg(Meta)')} | {rate:g} | {server} | {lr:g} | {scores} |")
    return "\n".join(lines)


def main() -> None:
    """Write."""
    found = read()
    parts = {
        "quadratics": quadratics_table(),
        "quadraticssummary": quadratics_summary(),
        "mapsummary": map_summary(found),
        "maplabels": map_table(found, LABELS),
        "mapconcepts": map_table(found, CONCEPTS),
        "mapborder": border_table(found),
        "mapsettings": settings_table(),
    }
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", text), "utf-8")


if __name__ == "__main__":
    main()
