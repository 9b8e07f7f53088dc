"""What answers without federated training: what a client did last or most, and counts that all clients add to.

For data in time order the item before a query example is known when it is asked for, as it is among a model's inputs;
of the query nothing else is. Each takes the clients that are tested, and where it needs them those that train.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fedmeta.data import FederatedDataset, InTime, columns
from fedmeta.errors import UsageError
from fedmeta.evaluation.scores import Report
from fedmeta.study.answers import NEVER, Client, Sides, answered, known, shares

BACKOFF, PRIOR = 20.0, 20.0
"""How many examples the global chain counts as, and the global shares of naive Bayes, beside a client's own."""

GRID = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Values of either, of which validation clients can choose."""


def most_recent(test: FederatedDataset, sides: Sides | None = None) -> Report:
    """Return the report of the item before, and of the ones before that as next likely.

    Raises:
        UsageError: the data set is not in time order, or has no classes.
    """
    _check_in_time(test)
    classes, possible = test.num_classes or 0, known(test)

    def answer(client: Client) -> np.ndarray:
        seen = np.full(classes, -1)
        found = np.empty((len(client.query), classes))
        place = 0
        for row, query in enumerate(client.query - client.start):
            seen[client.earlier[place:query]] = np.arange(place, query)
            place = query
            # The nearer, the likelier: each place further back a tenth less in the logarithm.
            found[row] = np.where((seen >= 0) & possible, np.maximum((seen - query) / 10, NEVER), NEVER - 1)
        return found

    return answered(test, sides or Sides(), answer)


def most_frequent(test: FederatedDataset, train: FederatedDataset | None = None, sides: Sides | None = None) -> Report:
    """Return the report of the shares of the classes in a client's support set.

    Args:
        test: the clients that are tested.
        train: those whose shares count as one more example, which decides where classes come equally often.
        sides: how clients are split.

    Raises:
        UsageError: the data set has no classes.
    """
    prior = np.zeros(test.num_classes or 0) if train is None else _shares(train)

    def answer(client: Client) -> np.ndarray:
        counts = np.bincount(client.y, minlength=len(prior)) + prior
        return np.broadcast_to(shares(counts * known(test)), (len(client.query), len(prior)))

    return answered(test, sides or Sides(), answer)


def markov_chain(
    test: FederatedDataset,
    train: FederatedDataset,
    sides: Sides | None = None,
    *,
    backoff: float = BACKOFF,
    own_only: bool = False,
) -> Report:
    """Return the report of a chain of a client's own, counted on its support set, that backs off to that of all.

    P(next | last) = (n(last, next) + backoff Q(next | last)) / (n(last) + backoff) with the client's own counts n. In
    the same way Q backs off from the counts of the client's items, whatever was last, to the training clients' chain,
    and that from their transitions to their shares of items.

    Args:
        test: the clients that are tested.
        train: those whose transitions are counted for all.
        sides: how clients are split.
        backoff: how many examples the next wider distribution counts as.
        own_only: leave out items that the client's support set does not have.

    Raises:
        UsageError: the data set is not in time order or has no classes, or `backoff` is not above 0.
    """
    _check_in_time(test)
    _check_positive("backoff", backoff)
    classes = test.num_classes or 0
    possible = known(test)
    everywhere = _backed_off(_transitions(train), _shares(train), backoff)

    def answer(client: Client) -> np.ndarray:
        counts = np.bincount(client.y, minlength=classes)
        own = np.zeros((classes, classes))
        np.add.at(own, (client.y[:-1], client.y[1:]), 1)
        last = client.earlier[client.query - client.start - 1]
        items = _backed_off(counts, everywhere[last], backoff)
        found = _backed_off(own[last], items, backoff)
        return shares(found * (possible & (counts > 0) if own_only else possible))

    return answered(test, sides or Sides(), answer)


def naive_bayes(
    test: FederatedDataset,
    train: FederatedDataset,
    sides: Sides | None = None,
    *,
    prior: float = PRIOR,
    own_only: bool = False,
) -> Report:
    """Return the report of naive Bayes on a client's support set, with the training clients' shares as the prior.

    An input counts as 1 where it is above the mean of its values over the training clients, else as 0.

    Args:
        test: the clients that are tested.
        train: those whose shares are the prior.
        sides: how clients are split.
        prior: how many examples the prior counts as, for the classes and within each class.
        own_only: leave out classes that the client's support set does not have.

    Raises:
        UsageError: the data set has no classes, or `prior` is not above 0.
    """
    _check_positive("prior", prior)
    classes = test.num_classes or 0
    overall, possible = _shares(train), known(test)
    x = _flat(train, train.rows)
    cut = x.mean(axis=0, dtype=np.float64)
    y = np.asarray(columns.read(train.y, train.rows))
    ones = np.zeros((classes, x.shape[1]))
    np.add.at(ones, y, x > cut)
    # Within a class of which there is little, the shares are those of all classes.
    of = np.bincount(y, minlength=classes)[:, None]
    inside = (ones + (x > cut).mean(axis=0)) / (of + 1)

    def answer(client: Client) -> np.ndarray:
        own = np.zeros_like(ones)
        np.add.at(own, client.y, _flat(test, client.support) > cut)
        counts = np.bincount(client.y, minlength=classes)
        share = np.clip((own + prior * inside) / (counts[:, None] + prior), 1e-6, 1 - 1e-6)
        asked = (_flat(test, client.query) > cut).astype(np.float64)
        likely = asked @ np.log(share).T + (1 - asked) @ np.log1p(-share).T
        start = np.log((counts + prior * overall) / (counts.sum() + prior))
        allowed = possible & (counts > 0) if own_only else possible
        found = np.where(allowed, likely + start, -np.inf)
        return np.maximum(found - found.max(axis=1, keepdims=True), NEVER)

    return answered(test, sides or Sides(), answer)


def best_of(values: Sequence[float], report: Callable[[float], Report]) -> float:
    """Return the value whose report has the best accuracy over data points, the first of several.

    Args:
        values: such as `GRID`.
        report: of the validation clients: `lambda value: markov_chain(validation, train, backoff=value)`.
    """
    return values[int(np.argmax([report(value).accuracy for value in values]))]


def _backed_off(counts: np.ndarray, wider: np.ndarray, backoff: float) -> np.ndarray:
    """Return shares of counts of shape [..., classes], to which a wider distribution adds `backoff` examples."""
    return (counts + backoff * wider) / (counts.sum(axis=-1, keepdims=True) + backoff)


def _shares(train: FederatedDataset) -> np.ndarray:
    """Return the shares of the classes; one that none has counts as one example of all classes together would."""
    classes = train.num_classes or 0
    counts = np.bincount(columns.read(train.y, train.rows), minlength=classes) + 1 / max(classes, 1)
    return counts / counts.sum()


def _transitions(train: FederatedDataset) -> np.ndarray:
    """Return how often each item follows each other one within a client, shape [last, next]."""
    _check_in_time(train)
    y = np.asarray(columns.read(train.y, train.rows))
    owner = np.repeat(np.arange(train.num_clients), train.sizes)
    within = owner[1:] == owner[:-1]
    classes = train.num_classes or 0
    pairs = y[:-1][within].astype(np.int64) * classes + y[1:][within]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.float64)


def _flat(data: FederatedDataset, rows: np.ndarray) -> np.ndarray:
    if not isinstance(data.x, columns.Column):
        raise UsageError(f"{data!r} has several inputs, and naive Bayes takes one")
    return np.asarray(columns.read(data.x, rows)).reshape(len(rows), -1)


def _check_in_time(data: FederatedDataset) -> None:
    if not isinstance(data.split, InTime):
        raise UsageError(f"{data!r} is not in time order, so that nothing comes before an example")
    if data.num_classes is None:
        raise UsageError(f"{data!r} has no classes")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"{name} must be above 0, not {value}")
