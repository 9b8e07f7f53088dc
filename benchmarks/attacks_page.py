"""Write the tables of build/bench/attacks.jsonl into docs/under-attack.md, and draw docs/images/under-attack.png.

python benchmarks/attacks_page.py
"""

import json
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from attacks import ALGORITHMS, ATTACKS, BENCH, RULES, SEEDS
from matplotlib.figure import Figure
from page import BLOCK

from fedmeta.study.plots import STYLE

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "under-attack.md"
IMAGE = ROOT / "docs" / "images" / "under-attack.png"
TITLES = {"fedavg": "FedAvg", "maml": "MAML", "meta-sgd": "Meta-SGD"}
PLACES = {"mnist": "MNIST by writer", "heart": "Four hospitals"}
SHORT = {
    "weighted_mean": "mean",
    "norm_clipped_mean": "norm-clipped mean",
    "coordinate_median": "median",
    "trimmed_mean": "trimmed mean",
    "krum": "Krum",
    "multi_krum": "Multi-Krum",
    "geometric_median": "geometric median",
}
WORST = 30.0
"""Points below the mean without attackers at which a colour is darkest."""

Cell = tuple[str, str, str, str, int]
Found = dict[Cell, list[float]]


def read() -> Found:
    """Return the accuracies, in per cent, of each data set, algorithm, rule, attack and number of attackers."""
    found: Found = defaultdict(list)
    for line in (BENCH / "attacks.jsonl").read_text().splitlines():
        row = json.loads(line)
        data, algorithm, seed, rule, attack, attackers = row["cell"]
        if seed < SEEDS[data]:
            found[data, algorithm, rule, attack, attackers].append(100 * row["accuracy"])
    return found


def rows_of(data: str) -> list[tuple[str, int]]:
    """Return the attacks and numbers of attackers in the order of the tables."""
    each = (1, 2) if data == "mnist" else (1,)
    return [("", 0), *((attack, count) for count in each for attack in ATTACKS)]


def said(attack: str, attackers: int) -> str:
    """Return a row's name."""
    return f"{attack}, {attackers} of ten" if attackers == 2 else attack or "nobody attacks"


def table(found: Found, data: str, algorithm: str) -> str:
    """Return one table in Markdown; each row's best is bold."""
    rules = list(RULES[data])
    lines = [
        f"| {TITLES[algorithm]} | " + " | ".join(SHORT[one] for one in rules) + " |",
        "|---|" + "---:|" * len(rules),
    ]
    for attack, attackers in rows_of(data):
        values = [np.mean(found[data, algorithm, rule, attack, attackers]) for rule in rules]
        best = max(round(float(one), 1) for one in values)
        cells = [f"**{one:.1f}**" if round(float(one), 1) == best else f"{one:.1f}" for one in values]
        lines.append(f"| {said(attack, attackers)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(found: Found) -> str:
    """Return for each rule what it costs where nobody attacks, and its worst loss, both against the mean without."""
    lines = ["| data | algorithm | " + " | ".join(SHORT.values()) + " |", "|---|---|" + "---:|" * len(SHORT)]
    for data in RULES:
        for algorithm in ALGORITHMS[data]:
            honest = np.mean(found[data, algorithm, "weighted_mean", "", 0])
            cells = []
            for rule in SHORT:
                if rule not in RULES[data]:
                    cells.append("takes more")
                    continue
                losses = {row: honest - np.mean(found[data, algorithm, rule, *row]) for row in rows_of(data)}
                worst = max(losses, key=lambda row: losses[row])
                cells.append(f"{losses['', 0]:.1f} / {losses[worst]:.1f}")
            lines.append(f"| {PLACES[data]} | {TITLES[algorithm]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(found: Found) -> str:
    """Return how many runs there are, and how far seeds of one cell are apart."""
    parts = []
    for data in RULES:
        runs = {cell: values for cell, values in found.items() if cell[0] == data}
        apart = [np.std(values, ddof=1) for values in runs.values() if len(values) > 1]
        count = sum(map(len, runs.values()))
        if not apart:
            parts.append(f"{PLACES[data]}: {count:,} runs of one seed")
            continue
        parts.append(
            f"{PLACES[data]}: {count:,} runs of {SEEDS[data]} seeds, a standard deviation of "
            f"{np.median(apart):.1f} points apart (median over the cells)"
        )
    return ". ".join(parts) + "."


def draw(found: Found) -> Figure:
    """Return a map of losses for each data set and algorithm."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13.0, 9.5), layout="constrained")
        panels = figure.subplots(2, 3, height_ratios=[len(rows_of(data)) for data in RULES])
        for line, data in zip(panels, RULES, strict=True):
            for axes, algorithm in zip(line, ALGORITHMS[data], strict=True):
                _panel(axes, found, data, algorithm)
            for axes in line[1:]:
                axes.set_yticklabels([])
    return figure


def _panel(axes: matplotlib.axes.Axes, found: Found, data: str, algorithm: str) -> None:
    rules, rows = list(RULES[data]), rows_of(data)
    values = np.array([[np.mean(found[data, algorithm, rule, *row]) for rule in rules] for row in rows])
    axes.imshow(values[0, 0] - values, cmap="Oranges", vmin=0, vmax=WORST, aspect="auto")
    for (down, across), value in np.ndenumerate(values):
        colour = "white" if values[0, 0] - value > 0.6 * WORST else "black"
        axes.text(across, down, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(rules)), [SHORT[one] for one in rules], rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), [said(*row) for row in rows], fontsize=8)
    axes.set_title(f"{PLACES[data]}: {TITLES[algorithm]}")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def main() -> None:
    """Write and draw."""
    found = read()
    parts = {"attackssummary": summary(found), "attacksspread": spread(found)}
    for data in RULES:
        parts[f"attacks{data}"] = "\n\n".join(table(found, data, one) for one in ALGORITHMS[data])
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", text), "utf-8")
    draw(found).savefig(IMAGE, dpi=110)


if __name__ == "__main__":
    main()
