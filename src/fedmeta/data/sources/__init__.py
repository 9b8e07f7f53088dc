"""The data sets that fedmeta knows by name. A new one is a file here and a row in the table."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmeta.data import locate
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.download import Progress
from fedmeta.data.sources import (
    digits,
    flights,
    heart,
    insteval,
    mnist,
    movielens,
    omniglot,
    shakespeare,
    spar,
    synthetic,
    words,
)
from fedmeta.errors import UnknownName, UsageError


@dataclass(frozen=True)
class Source:
    """A data set that has a name.

    Args:
        name: its name.
        description: one sentence.
        licence: the terms of use.
        clients: the number of clients with the default options.
        read: returns the data set; its keyword arguments are the source's options.
        get: fetches the files into a folder and reports its progress; None if nothing has to be fetched.
        files: the names of the files that must be there.
        place: the name of their folder, if it is that of another source.
    """

    name: str
    description: str
    licence: str
    clients: int
    read: Callable[..., FederatedDataset]
    get: Callable[[Path, Progress], None] | None = None
    files: tuple[str, ...] = ()
    place: str | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options of `load`."""
        return tuple(inspect.signature(self.read).parameters)

    @property
    def folder(self) -> Path | None:
        """The folder of the files; None if they are absent or none are needed."""
        return locate.find(self.place or self.name, self.files) if self.files else None

    @property
    def present(self) -> bool:
        """Whether the data can be loaded now."""
        return not self.files or self.folder is not None

    def load(self, **options: object) -> FederatedDataset:
        """Return the data set.

        Raises:
            UsageError: there is no such option, or its value is out of range.
            DataError: the files are absent or damaged.
        """
        for option in options:
            if option not in self.options:
                raise UsageError(f"{self.name} has no option {option!r}; it has {', '.join(self.options)}")
        return self.read(**options)


SOURCES = (
    Source(
        name="digits",
        description="1,797 handwritten digits of 8x8 pixels, spread over clients with three classes each",
        licence="BSD, with scikit-learn",
        clients=60,
        read=digits.load,
    ),
    Source(
        name="flights",
        description="287,656 departures from New York in 2013, the next destination; a client is an aircraft",
        licence="CC0",
        clients=flights.CLIENTS,
        read=flights.load,
        get=flights.get,
        files=flights.FILES,
    ),
    Source(
        name="heart",
        description="920 patients of four hospitals, and whether they have coronary heart disease",
        licence="CC BY 4.0",
        clients=heart.CLIENTS,
        read=heart.load,
        get=heart.get,
        files=heart.FILES,
    ),
    Source(
        name="insteval",
        description="68,513 ratings of lectures at ETH Zurich by students; a client is a lecturer",
        licence="GPL, with lme4",
        clients=insteval.CLIENTS,
        read=insteval.load,
        get=insteval.get,
        files=insteval.FILES,
    ),
    Source(
        name="mnist",
        description="70,000 handwritten digits of 28x28 pixels; a client is the person who wrote them",
        licence="MNIST public, QMNIST's labels BSD",
        clients=mnist.CLIENTS,
        read=mnist.load,
        get=mnist.get,
        files=mnist.FILES,
    ),
    Source(
        name="movielens",
        description="100,004 ratings of films, in time order; a client is a user",
        licence="research use, not to be passed on",
        clients=movielens.CLIENTS,
        read=movielens.load,
        get=movielens.get,
        files=movielens.FILES,
    ),
    Source(
        name="omniglot",
        description="4,840 handwritten characters of 28x28 pixels; a client is an alphabet",
        licence="MIT",
        clients=omniglot.CLIENTS,
        read=omniglot.load,
        get=omniglot.get,
        files=omniglot.FILES,
    ),
    Source(
        name="shakespeare",
        description="37 plays, the next character from the 80 before it; a client is a role in a play",
        licence="public domain",
        clients=shakespeare.CLIENTS,
        read=shakespeare.load,
        get=shakespeare.get,
        files=shakespeare.FILES,
    ),
    Source(
        name="shakespeare-words",
        description="37 plays, the next word from the one before it; a client is a role in a play",
        licence="public domain",
        clients=words.CLIENTS,
        read=words.load,
        get=shakespeare.get,
        files=shakespeare.FILES,
        place="shakespeare",
    ),
    Source(
        name="spar",
        description="140 recordings of shoulder exercises by a smartwatch; a client is a person",
        licence="BSD, with seglearn",
        clients=spar.CLIENTS,
        read=spar.load,
        get=spar.get,
        files=spar.FILES,
    ),
    Source(
        name="synthetic",
        description="Synthetic(1, 1): each client has Gaussian inputs and a linear labelling of its own",
        licence="drawn by fedmeta",
        clients=100,
        read=synthetic.load,
    ),
)


def names() -> tuple[str, ...]:
    """Return the names of the data sets."""
    return tuple(source.name for source in SOURCES)


def source(name: str) -> Source:
    """Return the source of this name.

    Raises:
        UnknownName: there is none.
    """
    for candidate in SOURCES:
        if candidate.name == name:
            return candidate
    raise UnknownName("data set", name, names())


def load(name: str, **options: object) -> FederatedDataset:
    """Return a data set by its name; `names()` lists them.

    Args:
        name: for example `digits`.
        options: the source's own; see the table of data sets.

    Raises:
        UsageError: there is no such data set or option.
        DataError: its files are absent or damaged; the message says how to fetch them.
    """
    return source(name).load(**options)
