"""The picture of who holds what: a column for each client, a row for each class or part of the targets."""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta._extras import need
from fedmeta.data import FederatedDataset, columns
from fedmeta.errors import UsageError
from fedmeta.study.formatting import short
from fedmeta.study.plots import INK, PAPER, QUIET, STYLE

CLASSES, BINS, CLIENTS = 25, 16, 400
"""Classes that are drawn one by one, parts of a number's range, and clients; of more classes the commonest, of more
clients every so manieth by size."""

NAMED = 30
"""Clients whose names are written, at most."""


class Holdings(NamedTuple):
    """What clients hold: counts of shape [rows, clients], the rows' names, and the clients' names."""

    counts: np.ndarray
    rows: tuple[str, ...]
    clients: tuple[str, ...]


def held(data: FederatedDataset) -> Holdings:
    """Count how many examples of each class, or each part of the targets' range, each client has.

    Raises:
        UsageError: the data set has no client, or its targets are several numbers an example.
    """
    if not data.num_clients or len(data.y.shape) != 1:
        raise UsageError(f"{data!r} has no clients with one class or number an example, which could be drawn")
    y = np.asarray(columns.read(data.y, data.rows))
    owner = np.repeat(np.arange(data.num_clients), data.sizes)
    if data.num_classes is None:
        places, names = _parts(y)
    else:
        places, names = y, [short(name, 16) for name in data.info.classes or ()]
    counts = np.zeros((len(names), data.num_clients), np.int64)
    np.add.at(counts, (places, owner), 1)
    if len(names) > CLASSES:
        common = np.argsort(-counts.sum(axis=1), kind="stable")
        rest = counts[common[CLASSES - 1 :]].sum(axis=0)
        names = [*(names[place] for place in common[: CLASSES - 1]), f"{len(common) - CLASSES + 1:,} others"]
        counts = np.concatenate([counts[common[: CLASSES - 1]], rest[None]])
    return Holdings(counts, tuple(names), tuple(data.client_ids))


def _parts(y: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the part of the range in which each number lies, and the parts' names; few numbers are a part each."""
    known = np.unique(y)
    if len(known) <= BINS:
        return np.searchsorted(known, y), [f"{value:g}" for value in known]
    edges = np.linspace(y.min(), y.max(), BINS + 1)
    places = np.clip(np.searchsorted(edges, y, side="right") - 1, 0, BINS - 1)
    return places, [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]


def draw(data: FederatedDataset, before: FederatedDataset | None = None) -> Any:
    """Return the picture, a Matplotlib figure: the size of each client, and which share of it each class is.

    Clients whose main class is the same stand together; those with numbers, in the order of their mean.

    Args:
        data: what is drawn.
        before: the data set before a concept shift; clients whose labels differ from it are marked.

    Raises:
        UsageError: as for `held`.
        MissingPackage: the extra `reports` is not installed.
    """
    counts, rows, names = held(data)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    numbers = data.num_classes is None
    if numbers:
        order = np.argsort(np.arange(len(rows)) @ shares, kind="stable")
    else:
        order = np.lexsort((-shares.max(axis=0), shares.argmax(axis=0)))
    if len(order) > CLIENTS:
        order = order[np.linspace(0, len(order) - 1, CLIENTS).round().astype(int)]
    shifted = _shifted(data, before)[order]
    matplotlib = need("matplotlib", "a picture")
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = need("matplotlib.figure", "a picture").Figure(
            figsize=(min(12.5, max(6.0, 0.28 * len(order) + 2.5)), min(9.0, 0.24 * len(rows) + 3.2)),
            layout="constrained",
        )
        sizes, parts = figure.subplots(2, 1, sharex=True, height_ratios=(1, max(1.5, 0.16 * len(rows))))
        _sizes(sizes, counts.sum(axis=0)[order])
        image = parts.imshow(
            shares[:, order], aspect="auto", cmap="Blues", vmin=0, interpolation="nearest", origin="lower"
        )
        said = "clients, " + ("in the order of their mean" if numbers else "those of one main class side by side")
        _labels(parts, rows, [names[place] for place in order], shifted, said)
        bar = figure.colorbar(image, ax=parts, pad=0.01, aspect=30)
        bar.set_label("share of the client's examples")
        bar.ax.yaxis.set_major_formatter(need("matplotlib.ticker", "a picture").PercentFormatter(1.0))
        more = "" if len(order) == len(names) else f", of which {len(order):,} are drawn"
        sizes.set_title(f"Who holds what: {data.num_examples:,} examples of {len(names):,} clients{more}")
    return figure


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure, in the form that the ending says.

    Raises:
        UsageError: the ending is neither .svg nor .png.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"a picture is written as .svg or .png, not as {path.name!r}")
    figure.savefig(path, dpi=150)


def _shifted(data: FederatedDataset, before: FederatedDataset | None) -> np.ndarray:
    """Return which clients have other labels than before, shape [clients]."""
    if before is None or before.client_ids != data.client_ids or not np.array_equal(before.sizes, data.sizes):
        return np.zeros(data.num_clients, bool)
    differ = columns.read(before.y, before.rows) != columns.read(data.y, data.rows)
    owner = np.repeat(np.arange(data.num_clients), data.sizes)
    return np.bincount(owner, differ, data.num_clients) > 0


def _sizes(axes: Any, sizes: np.ndarray) -> None:
    axes.bar(np.arange(len(sizes)), sizes, width=0.8 if len(sizes) <= 60 else 1.0, color=QUIET)
    axes.set_ylabel("examples")
    axes.tick_params(bottom=False, labelbottom=False)
    if sizes.min() > 0 and sizes.max() > 30 * sizes.min():
        axes.set_yscale("log")
    ticker = need("matplotlib.ticker", "a picture")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _labels(axes: Any, rows: tuple[str, ...], names: list[str], shifted: np.ndarray, said: str) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), [short(name, 18) for name in names], rotation=90)
    else:
        axes.set_xticks([])
    axes.set_xlim(-0.5, len(names) - 0.5)
    if shifted.any():
        axes.plot(
            np.flatnonzero(shifted),
            np.full(int(shifted.sum()), len(rows) - 0.5),
            marker="v",
            linestyle="none",
            color=INK,
            markeredgecolor=PAPER,
            markersize=7,
            clip_on=False,
        )
        said += f"; ▼ {int(shifted.sum()):,} whose labels are permuted"
    axes.set_xlabel(said)
