"""Where the data of a run lie, and how their clients are split; nothing of what is learned from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta import data as sets
from fedmeta import random
from fedmeta._fit import usable_clients
from fedmeta._settings import whole_number
from fedmeta.data import FederatedDataset
from fedmeta.data.schema import Field, Schema
from fedmeta.errors import UnknownName, UsageError
from fedmeta.runs.inputs import tuples


class Groups(NamedTuple):
    """The clients that train, those that are looked at on the way, and those that are tested at the end."""

    train: FederatedDataset
    validation: FederatedDataset
    test: FederatedDataset


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the data lie, in plain values that run.toml holds.

    Args:
        data: a data set's name, a table, or a folder.
        client: the client column of a table.
        target: the target column of a table.
        features: the input columns of a table; all others where they are not given.
        table: what else is told of a table, by the names of `fm.data.from_table`.
        options: the data set's own options.
        fractions: of the clients, for training, validation and test.
        max_evaluated: at most so many validation clients are looked at, and so many test clients, drawn at random.

    Raises:
        UsageError: a value is out of range.
    """

    data: str
    client: str | None = None
    target: str | None = None
    features: tuple[str, ...] | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    max_evaluated: int = 1000

    def __post_init__(self):
        object.__setattr__(self, "max_evaluated", whole_number("max_evaluated", self.max_evaluated))
        if self.max_evaluated < 1:
            raise UsageError(f"max_evaluated must be at least 1, not {self.max_evaluated}")

    @classmethod
    def at(cls, data: str, **options: Any) -> "DataSpec":
        """Return the data set of that name, or at that path, which is made absolute.

        Raises:
            UsageError: the path cannot be written to run.toml, for it is not UTF-8.
        """
        path = data if data in sets.names() else str(Path(data).absolute())
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the path {path!a} is not UTF-8, so that a run could not keep it") from None
        return cls(data=path, **options)

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; None is left out."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        return content if self.table else {name: value for name, value in content.items() if name != "table"}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "DataSpec":
        """Return what `to_dict` described.

        Raises:
            UsageError: a field is unknown or out of range.
        """
        known = [entry.name for entry in fields(cls)]
        for name in content:
            if name not in known:
                raise UnknownName("part of where the data lie", name, known)
        return cls(**tuples(content))

    def load(self, schema: Schema | None = None) -> FederatedDataset:
        """Read the data.

        Args:
            schema: of a table, where it is known already.

        Raises:
            UsageError: no such data set, or columns are given where there are none (or the reverse).
            DataError: the data are absent or damaged.
        """
        table = {"client": self.client, "target": self.target, "features": self.features, **self.table}
        if schema is not None:
            if schema.role("client") is None and self.client is not None:
                schema = replace(
                    schema, columns=(*schema.columns, Field(name=self.client, role="client", kind="identifier"))
                )
            kept = ("client", "target", "drop_missing_target", "reading")
            table = {name: value for name, value in table.items() if name in kept} | {"schema": schema}
        return sets.resolve(self.data, **table, **self.options)

    def split(self, whole: FederatedDataset, seed: int, max_examples: int | None) -> Groups:
        """Return the three groups of clients, of those that have enough examples.

        Args:
            whole: what `load` gave.
            seed: of the split.
            max_examples: as in `fm.train`.
        """
        usable = whole.select(usable_clients(whole, max_examples))
        train, validation, test = usable.split_clients(self.fractions, seed)
        return Groups(train, self._evaluated(validation, "validation", seed), self._evaluated(test, "test", seed))

    def _evaluated(self, clients: FederatedDataset, purpose: str, seed: int) -> FederatedDataset:
        """Return the clients that are evaluated: all, or `max_evaluated` of them."""
        if clients.num_clients <= self.max_evaluated:
            return clients
        draw = random.generator(seed, "evaluated clients", purpose)
        return clients.select(np.sort(draw.choice(clients.num_clients, self.max_evaluated, replace=False)))
