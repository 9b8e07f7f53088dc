"""The cells of a study: what each is tried on, and the digest by which a finished one is known again."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fedmeta
from fedmeta import random
from fedmeta._fit import usable_clients
from fedmeta.data import FederatedDataset
from fedmeta.data.partitioners import PARTITIONERS, make, partition
from fedmeta.errors import UsageError
from fedmeta.study.dataspec import DataSpec, Groups
from fedmeta.study.experiment import Experiment
from fedmeta.study.grid.entries import Entry
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.procedures import BASELINE, Spec
from fedmeta.study.naming import named_clients, only, without
from fedmeta.study.recipe import Recipe
from fedmeta.study.supports import with_support

APART = ("cli", "consortium", "govern", "node")
"""Parts of fedmeta that change nothing of what a cell computes."""

COMPUTING = (
    "answers.py",
    "baselines.py",
    "dataspec.py",
    "defaults.py",
    "dose.py",
    "experiment.py",
    "mixed_model.py",
    "naming.py",
    "on_top.py",
    "recipe.py",
    "supports.py",
    "untrained.py",
    "grid/beside.py",
    "grid/cells.py",
    "grid/work.py",
)
"""Of `fedmeta.study`, the files that do."""


class Key(NamedTuple):
    """Which cell of the grid it is."""

    data: str
    procedure: str
    support: float
    seed: int

    def __str__(self) -> str:
        return f"{self.data}, {self.procedure}, support {self.support:g}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a study.

    Args:
        key: which it is.
        recipe: what is run; of a baseline, the network and how clients are split.
        spec: what the study says of its procedure.
        tested: the supports at which it is tested: fractions, or from 1 on numbers of examples.
        identity: settings, data and code, as JSON can hold them.
    """

    key: Key
    recipe: Recipe
    spec: Spec
    tested: tuple[float, ...]
    identity: Mapping[str, Any]

    @property
    def algorithm(self) -> str:
        """The name of its algorithm, or that it is a baseline."""
        return BASELINE if self.spec.baseline else self.recipe.algorithm

    @property
    def rounds(self) -> int:
        """How many rounds it has."""
        return 0 if self.spec.baseline else self.recipe.rounds

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with settings, data and code."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The name of the cell's run folder."""
        return f"{self.key.data}-{self.key.procedure}-{self.digest}"


class Source:
    """The data of one entry, read once.

    Args:
        entry: of the study.

    Raises:
        UsageError: the entry does not fit the data.
        DataError: the data are absent or damaged.
    """

    def __init__(self, entry: Entry):
        self.entry = entry
        recipe = next(iter(self._recipes()))
        self.whole = recipe.data.load()
        self.pool = pool(entry, recipe.data, self.whole, recipe.max_examples)

    def cells(self, seeds: tuple[int, ...]) -> list[Cell]:
        """Return the entry's cells, all procedures of a seed before the next seed."""
        entry, found = self.entry, []
        for seed in seeds:
            for support in entry.supports:
                for procedure in entry.procedures:
                    recipe = entry.recipe(procedure, support, seed, self.pool)
                    found.append(self._cell(Key(entry.name, procedure, support, seed), recipe))
        return found

    def candidate(self, procedure: str, settings: Mapping[str, Any]) -> Cell:
        """Return the cell of a candidate, by which a procedure is tuned.

        Args:
            procedure: its name in the study.
            settings: of its grid.
        """
        entry = self.entry
        assert entry.tuning is not None
        key = Key(entry.name, procedure, entry.supports[0], entry.tuning.seed)
        return self._cell(key, entry.recipe(procedure, key.support, key.seed, self.pool, settings))

    def experiment(self, cell: Cell) -> Experiment:
        """Return the experiment of a cell.

        Raises:
            UsageError: the recipe does not fit the data.
        """
        return cell.recipe.on(self._groups(cell.recipe))

    def at(self, experiment: Experiment, support: float) -> Experiment:
        """Return the experiment whose clients adapt on so much: a fraction, or from 1 on a number of examples.

        Raises:
            UsageError: a client has fewer examples.
        """
        if support < 1:
            return experiment
        procedure = experiment.procedure
        how = (int(support), procedure.support, procedure.seed, procedure.max_examples)
        return replace(
            experiment,
            procedure=replace(procedure, max_examples=None),
            validation=with_support(experiment.validation, *how),
            test=with_support(experiment.test, *how),
        )

    def _recipes(self) -> Iterator[Recipe]:
        for procedure in self.entry.procedures:
            yield self.entry.recipe(procedure, self.entry.supports[0], 0)

    def _groups(self, recipe: Recipe) -> Groups:
        """Return the clients that train, the validation clients, and the pool."""
        if not self.entry.deal:
            return recipe.data.split(self.whole, recipe.seed, recipe.max_examples)
        rest = without(self.whole.select(usable_clients(self.whole, recipe.max_examples)), self.pool)
        for step in self.entry.deal:
            drawn = {"seed": recipe.seed} if _is_drawn(step["name"]) else {}
            rest = partition(rest, make(**{**step, **drawn}))
        rest = rest.select(usable_clients(rest, recipe.max_examples))
        train, validation, _ = recipe.data.fractions
        parts = rest.split_clients([train / (train + validation), validation / (train + validation)], recipe.seed)
        some = _at_most(parts[1], recipe.data.max_evaluated, random.generator(recipe.seed, "evaluated clients", "deal"))
        return Groups(parts[0], some, only(self.whole, self.pool))

    def _cell(self, key: Key, recipe: Recipe) -> Cell:
        spec, tested = self.entry.procedures[key.procedure], self.entry.tested(key.support)
        return Cell(key, recipe, spec, tested, self._identity(recipe, spec, tested))

    def _identity(self, recipe: Recipe, spec: Spec, tested: tuple[float, ...]) -> dict[str, Any]:
        settings = recipe.settings()
        data = dict(settings["data"])
        # The fingerprint says what the data are, wherever they lie.
        data["data"] = Path(data["data"]).name
        data["test_clients"] = hashlib.sha256("\n".join(self.pool).encode()).hexdigest()[:16]
        doses = self.entry.doses
        settings |= {
            "data": data,
            "deal": [dict(step) for step in self.entry.deal],
            "baseline": spec.baseline,
            "also": list(spec.also),
            "tested": list(tested),
            "over": self.entry.over,
            "doses": None if doses is None else asdict(doses),
        }
        return {"settings": _plain(settings), "data": self.whole.fingerprint, "code": code()}


def pool(entry: Entry, data: DataSpec, whole: FederatedDataset, max_examples: int | None) -> tuple[str, ...]:
    """Return the names of the test clients, which are the same with every seed.

    Raises:
        UsageError: there are fewer clients than groups.
    """
    usable = whole.select(usable_clients(whole, max_examples))
    if usable.num_clients < len(Groups._fields):
        raise UsageError(f"{entry.name} has {usable.num_clients} clients; training, validation and pool need one each")
    if entry.pool:
        return named_clients(entry.pool, usable.client_ids, f"the pool of {entry.name}")
    _, _, chosen = usable.split_clients(data.fractions, entry.pool_seed)
    draw = random.generator(entry.pool_seed, "pool")
    return tuple(str(name) for name in _at_most(chosen, data.max_evaluated, draw).client_ids)


def sources(study: Study) -> Iterator[Source]:
    """Read the data of each entry in turn."""
    for entry in study.entries:
        try:
            yield Source(entry)
        except UsageError as error:
            raise UsageError(f"data.{entry.name}: {error}") from None


@cache
def code() -> dict[str, str]:
    """Return by part a digest of the code that computes a cell, and the versions of what it stands on."""
    home = Path(fedmeta.__file__).parent
    parts: dict[str, Any] = {}
    for file in sorted(home.rglob("*.py")):
        inside = file.relative_to(home)
        part = inside.parts[0]
        if part in APART or (part == "study" and inside.relative_to("study").as_posix() not in COMPUTING):
            continue
        name = f"fedmeta/{part}"
        parts.setdefault(name, hashlib.sha256()).update(f"{inside.as_posix()}\n".encode() + file.read_bytes())
    digests = {name: digest.hexdigest()[:12] for name, digest in parts.items()}
    return digests | {name: version(name) for name in ("jax", "numpy", "optax")}


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return in words what differs between two identities, the plainest first."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        one, other = old.get(name), new.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += changed(one, other, name if prefix == "" else f"{prefix}.{name}")
        elif one != other:
            found.append(_said(prefix, name, one, other))
    return found


def _said(prefix: str, name: str, one: Any, other: Any) -> str:
    if prefix == "" and name == "data":
        return f"the data (their fingerprint was {one} and is {other})"
    if prefix == "code":
        return f"the code of {name} ({one} then, {other} now)"
    where = f"{prefix}.{name}".removeprefix("settings.")
    return f"{where} ({one!r:.60} then, {other!r:.60} now)"


def _is_drawn(name: str) -> bool:
    return "seed" in inspect.signature(PARTITIONERS[name]).parameters


def _at_most(clients: FederatedDataset, most: int, draw: Any) -> FederatedDataset:
    if clients.num_clients <= most:
        return clients
    return clients.select(np.sort(draw.choice(clients.num_clients, most, replace=False)))


def _plain(value: Any) -> Any:
    """Return what JSON gives back as it was."""
    return json.loads(json.dumps(value))
