"""Tests what answers each client's query examples from its support set, whatever it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from fedmeta.data import FederatedDataset, columns
from fedmeta.errors import DataError, UsageError
from fedmeta.evaluation.scores import Predictions, Report, Scores

NEVER = -50.0
"""The logarithm of the share that a class gets that is no answer; its examples are misses, with a finite loss."""

TOP = 4
"""How many of the likeliest classes `top_4` looks at."""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """How clients' examples are split, as in `fm.evaluate`."""

    support: float = 0.2
    seed: int = 0
    max_examples: int | None = None


@dataclass(frozen=True, eq=False)
class Client:
    """A client as what answers sees it: its support set, the inputs of its query, and what came before each of them.

    Args:
        support: rows of the data set, shape [support].
        query: likewise, shape [query].
        y: the labels of the support set, shape [support].
        earlier: the labels of all rows from the client's first up to, but not with, its last query example.
        start: the first row, so that `earlier[row - start - 1]` is what came before a row.
    """

    support: np.ndarray
    query: np.ndarray
    y: np.ndarray
    earlier: np.ndarray
    start: int


Answer = Callable[[Client], np.ndarray]
"""Returns a client's logits, float of shape [query, classes]."""


def answered(test: FederatedDataset, sides: Sides, answer: Answer, before: Answer | None = None) -> Report:
    """Return the report of what answers, with loss, accuracy and `top_4`.

    Where the data set's last class is a miss, it is never the answer, whatever its logit.

    Args:
        test: the clients that are tested, with classes.
        sides: how they are split.
        answer: what answers.
        before: what is reported as before adaptation; `answer` where it is not given.

    Raises:
        UsageError: the data set has no classes.
        DataError: no client has two examples.
    """
    if test.num_classes is None or len(test.y.shape) != 1:
        raise UsageError(f"{test!r} has no classes, among which there could be an answer")
    usable = np.flatnonzero(test.drawable >= 2)
    if not len(usable):
        raise DataError(f"no client of {test!r} has two examples, one for support and one for query")
    clients = [client_at(test, int(place), sides) for place in usable]
    targets = [np.asarray(columns.read(test.y, client.query)) for client in clients]
    after = [_settled(test, answer(client)) for client in clients]
    first = after if before is None else [_settled(test, before(client)) for client in clients]
    return Report(
        scores(targets, first),
        scores(targets, after),
        tuple(str(name) for name in test.ids[usable]),
        np.array([len(client.support) for client in clients]),
        (),
        test.num_clients - len(usable),
        Predictions(tuple(targets), tuple(first), tuple(after)),
    )


def client_at(data: FederatedDataset, place: int, sides: Sides) -> Client:
    """Return the client at a place of the data set."""
    support, query = data.split_at(place, sides.support, sides.seed, max_examples=sides.max_examples)
    start = int(data.starts[place])
    earlier = np.asarray(columns.read(data.y, slice(start, int(query.max()))))
    return Client(support, query, np.asarray(columns.read(data.y, support)), earlier, start)


def scores(targets: list[np.ndarray], logits: list[np.ndarray]) -> Scores:
    """Return each client's mean loss in nats, accuracy and `top_4`; of equal logits the lower class comes first."""
    values: dict[str, list[float]] = {"loss": [], "accuracy": [], "top_4": []}
    for y, given in zip(targets, logits, strict=True):
        rows = np.arange(len(y))
        own = given[rows, y][:, None]
        rank = ((given > own) | ((given == own) & (np.arange(given.shape[1]) < y[:, None]))).sum(axis=1)
        values["loss"].append(float(np.mean(-special.log_softmax(given.astype(np.float64), axis=1)[rows, y])))
        values["accuracy"].append(float(np.mean(rank < 1)))
        values["top_4"].append(float(np.mean(rank < TOP)))
    return Scores({name: np.array(each) for name, each in values.items()}, np.array([len(y) for y in targets]))


def shares(counts: Any) -> np.ndarray:
    """Return the logarithms of shares, of counts of shape [..., classes]; of none at least `NEVER`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(counts / np.sum(counts, axis=-1, keepdims=True))
    return np.maximum(np.nan_to_num(found, nan=NEVER, neginf=NEVER), NEVER)


def known(data: FederatedDataset) -> np.ndarray:
    """Return which classes can be an answer, booleans of shape [classes]: all, but for a miss."""
    found = np.ones(data.num_classes or 0, bool)
    if data.info.misses:
        found[-1] = False
    return found


def _settled(test: FederatedDataset, logits: np.ndarray) -> np.ndarray:
    """Return finite logits as float32, with the miss as the lowest."""
    given = np.asarray(logits, np.float64)
    given = np.where(np.isfinite(given), given, np.where(given > 0, -NEVER, 2 * NEVER))
    if test.info.misses:
        given = given.copy()
        given[:, -1] = given.min(axis=1) - 1
    return given.astype(np.float32)
