"""How pooled examples are spread over clients, so that clients differ in a way that is known.

Each is a value: `partition(data, dirichlet(clients=50, alpha=0.3))`. All but `concept_shift` pool the examples of all
clients first, whoever held them.
"""

import abc
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import jax
import numpy as np

from fedmeta import random
from fedmeta._options import keep, real, whole
from fedmeta._options import make as _make
from fedmeta.data.columns import Taken, read
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.partition import deal
from fedmeta.data.splits import AtRandom, InTime
from fedmeta.errors import DataError, UnknownName, UsageError

TRIES = 200
"""How often sizes are drawn anew, until every client has enough."""


class Partitioner(abc.ABC):
    """A way to spread examples over clients; a value with a name."""

    name: ClassVar[str]

    @abc.abstractmethod
    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set, spread so; inputs are read only when they are used.

        Raises:
            UsageError: the data set has not what this needs, or too few examples.
        """


@dataclass(frozen=True, kw_only=True)
class by_classes(Partitioner):
    """Each client holds `count` classes; a class's examples are divided evenly among those who hold it.

    McMahan et al. (2017), arXiv:1602.05629, section 3, deal two shards of one class each; here every client has exactly
    so many, and all classes are equally common among clients.

    Args:
        clients: how many clients.
        count: how many classes each holds.
        seed: the same seed gives the same clients.
    """

    name: ClassVar[str] = "by_classes"
    clients: int
    count: int
    seed: int = 0

    def __post_init__(self):
        keep(self, clients=whole("clients", self.clients, 1), count=whole("count", self.count, 1))

    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set, spread so."""
        y = _labels(data)
        return _spread(data, deal(y, self.clients, self.count, self.seed))


@dataclass(frozen=True, kw_only=True)
class _Shares(Partitioner):
    """One that divides by shares of a Dirichlet distribution; see the classes below for the arguments."""

    clients: int
    alpha: float
    smallest: int = 2
    seed: int = 0

    def __post_init__(self):
        keep(self, clients=whole("clients", self.clients, 1), smallest=whole("smallest", self.smallest, 0))
        keep(self, alpha=real("alpha", self.alpha, "a number above 0", above=0.0))


@dataclass(frozen=True, kw_only=True)
class dirichlet(_Shares):
    """The examples of each class are divided in shares that are drawn from a symmetric Dirichlet distribution.

    Label shift, as in Yurochkin et al. (2019), arXiv:1905.12022, section 4. Shares are drawn anew until every client
    has `smallest` examples.

    Args:
        clients: how many clients.
        alpha: of the distribution: near 0 a class is nearly all one client's, and with a large one all are alike.
        smallest: the fewest examples of a client.
        seed: the same seed gives the same clients.
    """

    name: ClassVar[str] = "dirichlet"

    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set, spread so."""
        y = _labels(data)
        _check_enough(data, self.clients, self.smallest)
        draw = random.generator(self.seed, "dirichlet partition")
        rows = [draw.permutation(np.flatnonzero(y == label)) for label in range(data.num_classes or 0)]
        for _ in range(TRIES):
            shares = [draw.dirichlet(np.full(self.clients, self.alpha)) for _ in rows]
            cuts = [np.rint(np.cumsum(part) * len(held)).astype(int) for part, held in zip(shares, rows, strict=True)]
            sizes = np.diff(np.stack(cuts), axis=1, prepend=0)
            if sizes.sum(axis=0).min() >= self.smallest:
                parts = [np.split(held, cut[:-1]) for held, cut in zip(rows, cuts, strict=True)]
                return _spread(data, [np.sort(np.concatenate(own)) for own in zip(*parts, strict=True)])
        raise _too_few(self, f"alpha={self.alpha:g}")


@dataclass(frozen=True, kw_only=True)
class by_quantity(_Shares):
    """Clients differ in how many examples they have, and in nothing else: sizes in shares of a Dirichlet distribution.

    Li et al. (2022), arXiv:2102.02079, "quantity skew".

    Args:
        clients: how many clients.
        alpha: of the distribution: near 0 few clients have nearly all, and with a large one all have as many.
        smallest: the fewest examples of a client.
        seed: the same seed gives the same clients.
    """

    name: ClassVar[str] = "by_quantity"

    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set, spread so."""
        _check_enough(data, self.clients, self.smallest)
        draw = random.generator(self.seed, "quantity partition")
        order = draw.permutation(data.num_examples)
        # What every client has beforehand is divided alike, and the rest in shares.
        rest = data.num_examples - self.clients * self.smallest
        share = np.cumsum(draw.dirichlet(np.full(self.clients, self.alpha)))
        sizes = self.smallest + np.diff(np.rint(share * rest).astype(int), prepend=0)
        return _spread(data, [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])])


@dataclass(frozen=True, kw_only=True)
class by_column(Partitioner):
    """Who has the same value in an input column is one client, or the same part of its range.

    Args:
        column: the name of a column of numbers, or of a category.
        parts: cut the values of a column of numbers at quantiles into so many clients; where it is not given each
            value is a client.
    """

    name: ClassVar[str] = "by_column"
    column: str
    parts: int | None = None

    def __post_init__(self):
        if self.parts is not None:
            keep(self, parts=whole("parts", self.parts, 2))

    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set, spread so."""
        values, names = self._values(data)
        if self.parts is not None:
            if names is not None:
                raise UsageError(f"{self.column} is a category, which has no quantiles: leave parts out")
            # Equal values are in one part.
            edges = np.unique(np.quantile(values, np.linspace(0, 1, self.parts + 1)[1:-1], method="lower"))
            place = np.searchsorted(edges, values, side="left")
            names = [f"{part + 1}: {_between(values[place == part])}" for part in range(int(place.max()) + 1)]
        elif names is None:
            held, place = np.unique(values, return_inverse=True)
            names = [f"{self.column} = {_short(value)}" for value in held]
        else:
            place = values
        rows = [np.flatnonzero(place == part) for part in range(len(names))]
        kept = [part for part, own in enumerate(rows) if len(own)]
        return _spread(data, [rows[part] for part in kept], [str(names[part]) for part in kept])

    def _values(self, data: FederatedDataset) -> tuple[np.ndarray, list[str] | None]:
        """Return the column, shape [examples]; or for a category the place of each value, and the values' names."""
        features = data.info.features
        if features is None:
            raise UsageError(f"{data!r} has no names of columns")
        if self.column in features:
            return np.asarray(read(data.x, data.rows)[:, features.index(self.column)], np.float64), None
        places = [place for place, name in enumerate(features) if name.startswith(f"{self.column} = ")]
        if not places:
            raise UnknownName("column", self.column, [name.partition(" = ")[0] for name in features])
        given = read(data.x, data.rows)[:, places]
        none = len(places) * (given.max(axis=1) <= 0)
        return np.maximum(given.argmax(axis=1), none), [*(features[place] for place in places), f"{self.column} = none"]


@dataclass(frozen=True, kw_only=True)
class concept_shift(Partitioner):
    """For a share of the clients labels mean something else: each of them permutes its labels in its own way.

    Clients, their examples and their inputs stay as they are. No client that permutes keeps every class in place.

    Args:
        share: of the clients, 0 to 1.
        seed: the same seed gives the same permutations.
    """

    name: ClassVar[str] = "concept_shift"
    share: float
    seed: int = 0

    def __post_init__(self):
        keep(self, share=real("share", self.share, "a number from 0 to 1", least=0.0))
        if self.share > 1:
            raise UsageError(f"share must be a number from 0 to 1, not {self.share!r}")

    def apply(self, data: FederatedDataset) -> FederatedDataset:
        """Return the data set with those labels."""
        _labels(data)
        classes = data.num_classes or 0
        if classes < 2:
            raise UsageError(f"{data!r} has one class, which no permutation changes")
        y = np.array(read(data.y, slice(None)))
        chosen = random.generator(self.seed, "who shifts").permutation(data.num_clients)
        for place in chosen[: round(self.share * data.num_clients)].tolist():
            draw = random.generator(self.seed, "concept shift", str(data.ids[place]))
            order = draw.permutation(classes)
            while (order == np.arange(classes)).all():
                order = draw.permutation(classes)
            own = slice(int(data.starts[place]), int(data.starts[place] + data.sizes[place]))
            y[own] = order[y[own]]
        return replace(data, y=y)


PARTITIONERS: dict[str, type[Partitioner]] = {
    way.name: way for way in (by_classes, dirichlet, by_quantity, by_column, concept_shift)
}
"""Every way by name: tests read this table, and whatever takes a name."""


def make(name: str, **options: Any) -> Partitioner:
    """Return the partitioner of that name with these fields.

    Raises:
        UsageError: no such one, no such field, or a value out of range.
    """
    known: Any = PARTITIONERS.get(name)
    for field in fields(known) if known is not None else ():
        # A whole number may stand where any number may.
        if field.type is float and type(options.get(field.name)) is int:
            options[field.name] = float(options[field.name])
    return _make("partition", PARTITIONERS, name, options)


def partition(data: FederatedDataset, way: Partitioner) -> FederatedDataset:
    """Return a data set whose examples are spread over clients in that way.

    Inputs are read only when they are used. Clients of pooled examples are split at random, whatever the split was.

    Args:
        data: any data set; its clients are pooled, but for `concept_shift`.
        way: such as `fm.data.dirichlet(clients=50, alpha=0.3)`.

    Raises:
        UsageError: the data set has not what this needs, or too few examples.
    """
    return way.apply(data)


def _spread(data: FederatedDataset, rows: list[np.ndarray], names: list[str] | None = None) -> FederatedDataset:
    """Return the data set whose clients hold these of all its examples, counted client by client."""
    if isinstance(data.split, InTime) and data.split.support is not None:
        raise UsageError(f"{data!r} has candidates of each client's own, which clients cannot pool")
    sizes = np.array([len(own) for own in rows], np.int64)
    taken = data.rows[np.concatenate(rows)]
    x, y = jax.tree.map(lambda column: Taken(column, taken), (data.x, data.y))
    if names is None:
        width = len(str(len(rows) - 1))
        names = [f"client-{place:0{width}}" for place in range(len(rows))]
    if not len(taken):
        raise DataError(f"{data!r} holds no examples")
    return FederatedDataset(x, y, np.cumsum(sizes) - sizes, sizes, np.array(names), data.info, AtRandom())


def _labels(data: FederatedDataset) -> np.ndarray:
    """Return the labels of all clients' examples, shape [examples]."""
    if data.num_classes is None or len(data.y.shape) != 1:
        raise UsageError(f"{data!r} has no classes")
    return np.asarray(read(data.y, data.rows))


def _check_enough(data: FederatedDataset, clients: int, smallest: int) -> None:
    if clients * max(smallest, 1) > data.num_examples:
        raise UsageError(
            f"{data.num_examples} examples are too few for {clients} clients of at least {max(smallest, 1)} each"
        )


def _too_few(way: Any, said: str) -> UsageError:
    return UsageError(
        f"in {TRIES} draws with {said} some of the {way.clients} clients had fewer than {way.smallest} examples: take "
        "fewer clients, a larger alpha, or a lower smallest"
    )


def _between(values: np.ndarray) -> str:
    low, high = _short(values.min()), _short(values.max())
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    """Return a value of float32 in the fewest digits that tell it from all others."""
    return str(np.float32(value)).removesuffix(".0")
