"""What is taken for what: the confusion matrix, or of many classes the pairs that are confused most."""

from dataclasses import dataclass

import numpy as np

from fedmeta.study.formatting import short
from fedmeta.study.report.holdings import CLASSES
from fedmeta.study.report.tables import Row, Table

PAIRS = 20


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix.

    Args:
        names: of the classes.
        rows: of each true class, for each class given, the number of examples and their share of the true class.
    """

    names: list[str]
    rows: list[list[tuple[int, float]]]


def matrix(counts: np.ndarray, names: tuple[str, ...]) -> Matrix | None:
    """Return the matrix, or None where it has too many classes to be read.

    Args:
        counts: of each true class (row) how many were given each class (column).
        names: of the classes.
    """
    if len(counts) > CLASSES:
        return None
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [[(int(n), float(s)) for n, s in zip(*pair, strict=True)] for pair in zip(counts, share, strict=True)]
    return Matrix([short(name, 24) for name in names], rows)


def pairs(counts: np.ndarray, names: tuple[str, ...]) -> Table:
    """Return the pairs of classes that are confused most."""
    wrong = counts - np.diag(np.diag(counts))
    held = counts.sum(axis=1)
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    rows = [
        Row(
            short(names[true]),
            [short(names[given]), f"{wrong[true, given]:,}", f"{wrong[true, given] / held[true]:.1%}"],
        )
        for true, given in (divmod(int(place), len(counts)) for place in places)
        if wrong[true, given]
    ]
    return Table("Confused most", ("true class", "taken for", "examples", "share of the true class"), rows)
