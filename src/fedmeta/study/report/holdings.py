"""Who holds what: the groups of clients, their classes or targets, and the columns of a table."""

from collections.abc import Mapping

import numpy as np

from fedmeta.data import FederatedDataset, Schema, columns
from fedmeta.study.experiment import Experiment
from fedmeta.study.formatting import counted, short
from fedmeta.study.report.tables import Row, Table, number

CLASSES = 25
"""Classes that are shown one by one; of more, the most frequent ones."""

COLUMNS = 200
"""Columns of a table that are shown at most."""


def groups(experiment: Experiment) -> dict[str, FederatedDataset]:
    """Return the three groups of clients by name."""
    return {"training": experiment.train, "validation": experiment.validation, "test": experiment.test}


def targets(experiment: Experiment) -> dict[str, np.ndarray]:
    """Return by group the targets of all its clients' examples, shape [values]."""
    return {name: columns.read(group.y, group.rows).ravel() for name, group in groups(experiment).items()}


def sizes(experiment: Experiment) -> Table:
    """Return how many clients and examples each group has, and how many a client has."""
    rows = []
    for name, group in groups(experiment).items():
        each = group.sizes
        cells = [group.num_clients, group.num_examples, int(each.min()), float(np.median(each)), int(each.max())]
        rows.append(Row(name, [f"{value:,g}" if isinstance(value, float) else number(value) for value in cells]))
    return Table("Clients and examples", ("", "clients", "examples", "fewest of a client", "median", "most"), rows)


def classes(y: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Table:
    """Return how many examples of each class each group has, with their share of the group."""
    counts = {group: np.bincount(values, minlength=len(names)) for group, values in y.items()}
    total = np.sum(list(counts.values()), axis=0)
    shown = np.arange(len(names)) if len(names) <= CLASSES else np.argsort(-total, kind="stable")[:CLASSES]

    def cell(group: str, count: int) -> str:
        return f"{count:,} ({100 * count / max(counts[group].sum(), 1):.1f} %)"

    rows = [Row(short(names[place]), [cell(group, int(counts[group][place])) for group in y]) for place in shown]
    if len(shown) < len(names):
        rest = {group: int(count.sum() - count[shown].sum()) for group, count in counts.items()}
        left = len(names) - len(shown)
        rows.append(Row(f"{left:,} other classes", [cell(group, rest[group]) for group in y], "beside"))
    return Table("Examples of each class", ("class", *y), rows, sortable=True)


def numbers(y: Mapping[str, np.ndarray]) -> Table:
    """Return how the targets of each group are spread."""
    rows = []
    for group, values in y.items():
        low, quarter, middle, upper, high = np.percentile(values, [0, 25, 50, 75, 100])
        found = (values.mean(dtype=np.float64), values.std(dtype=np.float64), low, quarter, middle, upper, high)
        rows.append(Row(group, [number(float(value)) for value in found]))
    return Table("The targets", ("", "mean", "std", "lowest", "25 %", "median", "75 %", "highest"), rows)


def held(experiment: Experiment) -> str:
    """Return in words how many of the classes a training client holds; nothing where that is not told."""
    train = experiment.train
    if train.num_classes is None or len(train.y.shape) != 1:
        return ""
    client = np.repeat(np.arange(train.num_clients), train.sizes)
    pairs = np.unique(client * train.num_classes + columns.read(train.y, train.rows).astype(np.int64))
    each = np.bincount(pairs // train.num_classes)
    low, high = int(each.min()), int(each.max())
    between = str(low) if low == high else f"{low} to {high} (median {np.median(each):g})"
    return f"A training client holds {between} of the {train.num_classes:,} classes."


def described(schema: Schema) -> Table:
    """Return the columns of a table: what each is, and what it is for."""
    rows = []
    for column in schema.columns[:COLUMNS]:
        values = ""
        if column.categories:
            shown = ", ".join(short(value, 24) for value in column.categories[:6])
            values = f"{counted(len(column.categories), 'value')}: {shown}{', …' if len(column.categories) > 6 else ''}"
        elif column.mean is not None and column.std is not None:
            values = f"mean {number(column.mean)}, std {number(column.std)}"
        role = {"none": "left out"}.get(column.role, column.role)
        rows.append(Row(short(column.name), [column.kind, role, values]))
    more = len(schema.columns) - len(rows)
    note = f"And {more:,} more columns. " if more > 0 else ""
    return Table(
        "The table's columns",
        ("column", "kind", "used as", "values of the training clients"),
        rows,
        note + "A number is standardised by its mean and standard deviation over the training clients.",
        words=True,
        sortable=True,
    )
