"""A data set spread over clients: columns of examples and, for each client, the range of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heapify, heappop, heapreplace
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from fedmeta import random
from fedmeta._settings import not_one_text
from fedmeta.data.columns import Column, native_type, read
from fedmeta.data.fingerprint import fingerprint
from fedmeta.data.schema import Schema
from fedmeta.data.splits import AtRandom, ByGroup, InTime, Split, check_support, some, support_size
from fedmeta.errors import DataError, UsageError
from fedmeta.task import Batch, Task


@dataclass(frozen=True)
class Info:
    """What a data set is.

    Args:
        name: its name.
        description: one sentence.
        source: where it comes from, and its licence.
        classes: the names of the classes in the order of their numbers; None for regression.
        features: the names of the input columns, if they have names.
        characters: the characters in the order of their codes, if the inputs are text.
        schema: what the columns of the table are that it was read from, if it was one.
        misses: whether the last class is no answer, but stands for all items that are none of the classes: whatever
            is answered there is a miss.
    """

    name: str = "arrays"
    description: str = ""
    source: str = ""
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    characters: str | None = None
    schema: Schema | None = None
    misses: bool = False

    def __post_init__(self):
        for name in ("classes", "features"):
            not_one_text(name, getattr(self, name))


@dataclass(frozen=True, eq=False)
class FederatedDataset:
    """Examples spread over clients; make one with `fm.data.load`, `from_arrays`, `from_table` or `from_leaf`.

    Args:
        x: column of inputs, shape [examples, ...], or several columns in dicts and tuples.
        y: column of targets, shape [examples, ...].
        starts: the first row of each client, shape [clients].
        sizes: the number of examples of each client, shape [clients].
        ids: the clients' names, shape [clients], strings.
        info: what the data set is.
        split: how a client's examples become support and query.
    """

    x: Any
    y: Column
    starts: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray
    info: Info = Info()
    split: Split = AtRandom()  # noqa: RUF009 (a value)

    def __repr__(self) -> str:
        return f"FederatedDataset({self.info.name!r}, {self.num_clients} clients, {self.num_examples} examples)"

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_clients(self) -> int:
        """The number of clients."""
        return len(self.starts)

    @property
    def rows(self) -> np.ndarray:
        """The rows of all clients' examples in the columns, client by client, shape [examples]."""
        before = np.cumsum(self.sizes) - self.sizes
        return np.repeat(self.starts - before, self.sizes) + np.arange(self.sizes.sum())

    @cached_property
    def num_examples(self) -> int:
        """The number of examples of all clients together."""
        return int(self.sizes.sum())

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None for regression."""
        return None if self.info.classes is None else len(self.info.classes)

    @property
    def drawable(self) -> np.ndarray:
        """How many of each client's examples can be support or query, shape [clients]: all but the split's gap."""
        return np.maximum(self.sizes - self.split.gap, 0)

    @property
    def client_ids(self) -> list[str]:
        """The names of the clients."""
        return self.ids.tolist()

    def shapes(self, examples: int) -> tuple[Any, jax.ShapeDtypeStruct]:
        """Return the shapes and types of inputs and targets for this many examples, x in its own structure."""

        def like(column: Column) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((examples, *column.shape[1:]), native_type(column.dtype))

        return jax.tree.map(like, self.x), like(self.y)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when a client, one of its inputs or one of its targets changes.

        The names of classes, features and characters count too; the name of the data set does not. A column
        in a file counts by the file's name, size and modification time; it is not read.

        Raises:
            DataError: a file is gone.
        """
        meaning: list[Any] = [self.info.classes, self.info.features, self.info.characters]
        if self.info.misses:
            meaning.append("misses")
        more: tuple[Column, ...] = ()
        if isinstance(self.split, InTime):
            meaning += ["in time", self.split.gap, self.split.support]
            meaning += [] if self.split.count is None else [self.split.count]
        if isinstance(self.split, ByGroup):
            meaning, more = [*meaning, "by group"], (self.split.groups,)
        return fingerprint(self.x, self.y, self.starts, self.sizes, self.ids, meaning, *more)

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.ids, kind="stable")

    def position(self, client_id: Any) -> int:
        """Return the position of a client in `client_ids`.

        Args:
            client_id: the client's name, text also where the source holds numbers.

        Raises:
            UsageError: there is no such client, or it is not text.
        """
        if not isinstance(client_id, str):
            raise UsageError(self._not_a_name(client_id))
        # NumPy would pad all names to the length of the longest.
        if self.ids.dtype.kind != "U" or len(client_id) <= self.ids.dtype.itemsize // 4:
            place = int(np.searchsorted(self.ids, client_id, sorter=self._order))
            if place < len(self) and str(self.ids[self._order[place]]) == client_id:
                return int(self._order[place])
        raise UsageError(f"no client {client_id!r} in {self!r}")

    def _not_a_name(self, given: Any) -> str:
        """Say what to write in place of a value that is not text."""
        said = f"a client is found by its name, which is text, not by {given!r}"
        if isinstance(given, slice):
            return f"{said}: select(range(...)) gives the clients at these places"
        if not isinstance(given, int | np.integer) or isinstance(given, bool):
            return f"{said}; client_ids lists the names"
        place = int(given)
        ways = []
        if -len(self) <= place < len(self):
            ways.append(f"client_ids[{place}], which is {str(self.ids[place])!r}, is the name at place {place}")
        if np.any(self.ids == str(place)):
            ways.append(f"{str(place)!r} is the name of the client of that number")
        return f"{said}: {' and '.join(ways) or 'client_ids lists the names'}"

    def __getitem__(self, client_id: Any) -> Batch:
        position = self.position(client_id)
        start = int(self.starts[position])
        return Batch(*read((self.x, self.y), slice(start, start + int(self.sizes[position]))))

    def select(self, positions: Any) -> "FederatedDataset":
        """Return the data set of the clients at these positions, sharing the columns.

        Raises:
            UsageError: there is no such position, or it is not a whole number.
        """
        try:
            starts, sizes, ids = self.starts[positions], self.sizes[positions], self.ids[positions]
        except IndexError as error:
            raise UsageError(
                f"places of clients are whole numbers from 0 to {len(self) - 1}, not {positions!r}; "
                "position(name) gives that of a name"
            ) from error
        return replace(self, starts=starts, sizes=sizes, ids=ids)

    def at_least(self, examples: int) -> "FederatedDataset":
        """Return the data set without the clients that have fewer examples than this."""
        return self.select(np.flatnonzero(self.sizes >= examples))

    def split_clients(self, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> list["FederatedDataset"]:
        """Split the clients at random, for example into training, validation and test clients.

        Each part gets at least one client.

        Args:
            fractions: positive, with a sum of at most 1.
            seed: the same seed gives the same split.

        Raises:
            UsageError: a fraction is out of range, or there are fewer clients than parts.
        """
        if min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
            raise UsageError(f"client fractions must be positive with a sum of at most 1, not {tuple(fractions)}")
        order = random.generator(seed, "split clients").permutation(self.num_clients)
        bounds = np.concatenate([[0], np.cumsum(_part_sizes(fractions, self.num_clients))])
        return [self.select(np.sort(order[a:b])) for a, b in pairwise(bounds)]

    def task(
        self,
        client_id: Any,
        support: float = 0.2,
        seed: int = 0,
        *,
        max_examples: int | None = None,
        round: int = 0,
    ) -> Task:
        """Split a client's examples into support and query.

        As `self.split` says. At random, each class has the fraction `support` of its examples in the support set, and
        at least one example on each side, where every class the client holds allows that; otherwise examples are drawn
        at random. In time and by group the two sides are settled first, and of each its share of `max_examples` is
        drawn.

        Args:
            client_id: the client's name.
            support: the fraction p of the examples that adaptation may see, in (0, 1).
            seed: the same seed, client and round give the same split, whatever else is computed.
            max_examples: first draw at most this many of the client's examples.
            round: the round for which the split is drawn.

        Raises:
            UsageError: no such client, or `support` is out of range.
            DataError: the client has fewer than two examples, so one side would be empty.
        """
        return self.task_at(self.position(client_id), support, seed, max_examples=max_examples, round=round)

    def task_at(
        self,
        position: int,
        support: float = 0.2,
        seed: int = 0,
        *,
        max_examples: int | None = None,
        round: int = 0,
    ) -> Task:
        """Split the examples of the client at a position in `client_ids`, as `task` does for its name."""
        sides = self.split_at(position, support, seed, max_examples=max_examples, round=round)
        return Task(*(Batch(*read((self.x, self.y), rows)) for rows in sides))

    def split_at(
        self,
        position: int,
        support: float = 0.2,
        seed: int = 0,
        *,
        max_examples: int | None = None,
        round: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of `x` and `y` that `task_at` uses as support and as query, each in ascending order.

        Only the client's targets are read.

        Raises:
            UsageError: `support` is out of range.
            DataError: the client has fewer than two examples.
        """
        check_support(support)
        client_id = str(self.ids[position])
        start, size = int(self.starts[position]), int(self.sizes[position])
        gap = self.split.gap
        if size - gap < 2:
            said = f" beside a gap of {gap}" if gap else ""
            raise DataError(f"client {client_id!r} has {size} examples; support and query need at least one each{said}")
        draw = random.generator(seed, "support and query", round, client_id)
        if not isinstance(self.split, AtRandom):
            if isinstance(self.split, ByGroup):
                sides = self.split.sides(start, size, support, draw, client_id)
            else:
                sides = self.split.sides(start, size, support)
            drawn = size - gap if max_examples is None else min(size - gap, max(2, max_examples))
            count = support_size(drawn, support, self.split)
            return some(sides[0], count, draw), some(sides[1], drawn - count, draw)
        if max_examples is not None and max_examples < size:
            rows = start + np.sort(draw.choice(size, max(2, max_examples), replace=False))
            y = read(self.y, rows)
        else:
            rows = np.arange(start, start + size)
            y = read(self.y, slice(start, start + size))
        chosen = _support_rows(y, support, draw)
        return rows[chosen], rows[~chosen]


def _part_sizes(fractions: Sequence[float], clients: int) -> np.ndarray:
    """Return how many clients each part gets: its fraction, rounded, and at least one."""
    if clients < len(fractions):
        raise UsageError(f"{clients} clients cannot be split into {len(fractions)} parts of at least one client")
    sizes = np.diff(np.rint(np.cumsum([0.0, *fractions]) * clients)).astype(int)
    while sizes.min() < 1:
        if sizes.sum() >= clients:
            sizes[np.argmax(sizes)] -= 1
        sizes[np.argmin(sizes)] += 1
    return sizes


def _support_rows(y: np.ndarray, support: float, draw: np.random.Generator) -> np.ndarray:
    """Return which examples are support, as booleans of shape [examples]."""
    count = support_size(len(y), support)
    order = draw.permutation(len(y))
    chosen = np.zeros(len(y), bool)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        chosen[order[:count]] = True
        return chosen
    labels = y[order]
    by_class = labels.argsort(kind="stable")
    labels = labels[by_class]
    starts = [0, *((labels[1:] != labels[:-1]).nonzero()[0] + 1).tolist()]
    sizes = [end - start for start, end in pairwise([*starts, len(y)])]
    if min(sizes) < 2 or not len(sizes) <= count <= len(y) - len(sizes):
        chosen[order[:count]] = True
        return chosen
    first = np.zeros(len(y), bool)
    for start, share in zip(starts, _shares(sizes, count), strict=True):
        first[start : start + share] = True
    chosen[order[by_class[first]]] = True
    return chosen


def _shares(sizes: list[int], count: int) -> list[int]:
    """Return how many of `count` examples each class gives: in proportion, and at least one on each side.

    A surplus or shortage from rounding is settled one at a time, at the class furthest from its proportion, and at the
    first of several such classes.
    """
    examples = sum(sizes)
    quota = [min(max(size * count / examples, 1.0), size - 1) for size in sizes]
    shares = [int(part) for part in quota]
    left = count - sum(shares)
    step = 1 if left > 0 else -1

    def gap(place: int) -> tuple[float, int] | None:
        room = shares[place] < sizes[place] - 1 if step > 0 else shares[place] > 1
        return (step * (shares[place] - quota[place]), place) if room else None

    gaps = [found for place in range(len(sizes)) if (found := gap(place))]
    heapify(gaps)
    for _ in range(abs(left)):
        place = gaps[0][1]
        shares[place] += step
        if found := gap(place):
            heapreplace(gaps, found)
        else:
            heappop(gaps)
    return shares
