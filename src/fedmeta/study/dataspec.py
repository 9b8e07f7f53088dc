"""Where the data of a run lie, and how their clients are split; nothing of what is learned from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta import data as sets
from fedmeta import random
from fedmeta._fit import usable_clients
from fedmeta._settings import a_number, whole_number
from fedmeta.data import FederatedDataset
from fedmeta.data.schema import Field, Schema
from fedmeta.errors import UnknownName, UsageError
from fedmeta.runs.inputs import tuples
from fedmeta.study.naming import named_clients, only, without


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
        validation_clients: these are the validation clients; a text that names none is several names with commas.
        test_clients: likewise the test clients.
        max_evaluated: at most so many validation clients are looked at, and so many test clients, drawn at random; all
            of those that are named.

    Raises:
        UsageError: a value is out of range.
    """

    data: str
    client: str | None = None
    target: str | None = None
    features: tuple[str, ...] | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    fractions: tuple[float, ...] = (0.8, 0.1, 0.1)
    validation_clients: tuple[str, ...] = ()
    test_clients: tuple[str, ...] = ()
    max_evaluated: int = 1000

    def __post_init__(self):
        fractions = tuple(a_number("fractions", part) for part in self.fractions)
        if len(fractions) != len(Groups._fields) or min(fractions) <= 0 or not sum(fractions) <= 1 + 1e-9:
            raise UsageError(
                "fractions are three positive numbers with a sum of at most 1, for training, validation and test, such "
                f"as 0.6,0.2,0.2, not {','.join(f'{part:g}' for part in fractions)}"
            )
        object.__setattr__(self, "fractions", fractions)
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
        unsaid = ("table", "validation_clients", "test_clients")
        return {name: value for name, value in content.items() if value or name not in unsaid}

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
        return sets.resolve(self.data, options=self.options, **table)

    def split(self, whole: FederatedDataset, seed: int, max_examples: int | None) -> Groups:
        """Return the three groups of clients, of those that have enough examples.

        Clients that are named are in the group for which they are named. All others are split at random among the
        other groups, in the proportion of their fractions.

        Args:
            whole: what `load` gave.
            seed: of the split.
            max_examples: as in `fm.train`.

        Raises:
            UsageError: a client that is named is unknown, has too few examples or is named for two groups, or there
                are fewer clients than groups.
        """
        usable = whole.select(usable_clients(whole, max_examples))
        named = self._named(whole, usable)
        rest = without(usable, [name for names in named.values() for name in names])
        left = [group for group in Groups._fields if group not in named]
        if rest.num_clients < len(left):
            said = ["training" if group == "train" else group for group in left]
            beside = f" beside the {usable.num_clients - rest.num_clients} that are named" if named else ""
            raise UsageError(
                f"{', '.join(said)} need a client each, and {whole.info.name} has {rest.num_clients} with two "
                f"examples or more{beside}"
            )
        fraction = dict(zip(Groups._fields, self.fractions, strict=True))
        scale = sum(self.fractions) / sum(fraction[group] for group in left)
        parts = dict(zip(left, rest.split_clients([fraction[group] * scale for group in left], seed), strict=True))
        parts = {
            group: part if group == "train" else self._evaluated(part, group, seed) for group, part in parts.items()
        }
        return Groups(**parts, **{group: only(usable, names) for group, names in named.items()})

    def _named(self, whole: FederatedDataset, usable: FederatedDataset) -> dict[str, tuple[str, ...]]:
        """Return the clients that are named for a group, by the group."""
        told = {"validation": self.validation_clients, "test": self.test_clients}
        named = {
            group: named_clients(texts, whole.client_ids, f"--{group}-clients of {whole.info.name}")
            for group, texts in told.items()
            if texts
        }
        for group, names in named.items():
            if small := set(names) - set(usable.client_ids):
                raise UsageError(
                    f"--{group}-clients names {min(small)!r}, which has fewer than two examples, one for support and "
                    "one for query"
                )
        if both := set(named.get("validation", ())) & set(named.get("test", ())):
            raise UsageError(
                f"the client {min(both)!r} is named for validation and for the test; it can be in one group"
            )
        return named

    def _evaluated(self, clients: FederatedDataset, purpose: str, seed: int) -> FederatedDataset:
        """Return the clients that are evaluated: all, or `max_evaluated` of them."""
        if clients.num_clients <= self.max_evaluated:
            return clients
        draw = random.generator(seed, "evaluated clients", purpose)
        return clients.select(np.sort(draw.choice(clients.num_clients, self.max_evaluated, replace=False)))
