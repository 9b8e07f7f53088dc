"""The data sets that fedmeta knows by name. A new one is a file here and a row in the table."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmeta.data import locate
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.download import Progress
from fedmeta.data.sources import digits, heart, mnist, shakespeare, synthetic
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
    """

    name: str
    description: str
    licence: str
    clients: int
    read: Callable[..., FederatedDataset]
    get: Callable[[Path, Progress], None] | None = None
    files: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options of `load`."""
        return tuple(inspect.signature(self.read).parameters)

    @property
    def folder(self) -> Path | None:
        """The folder of the files; None if they are absent or none are needed."""
        return locate.find(self.name, self.files) if self.files else None

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
        name="heart",
        description="920 patients of four hospitals, and whether they have coronary heart disease",
        licence="CC BY 4.0",
        clients=heart.CLIENTS,
        read=heart.load,
        get=heart.get,
        files=heart.FILES,
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
        name="shakespeare",
        description="37 plays, the next character from the 80 before it; a client is a role in a play",
        licence="public domain",
        clients=shakespeare.CLIENTS,
        read=shakespeare.load,
        get=shakespeare.get,
        files=shakespeare.FILES,
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
