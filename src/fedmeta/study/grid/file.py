"""The file of a study: what is tried, and what is claimed, before anything is run."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmeta import data as sets
from fedmeta.errors import UnknownName, UsageError, nearest
from fedmeta.study import spelling
from fedmeta.study.recipe import Recipe

MOST = 3
"""Declared comparisons of a data set."""

EFFECT = 0.01
"""The smallest effect that matters where the file says none: a point of accuracy."""

NUMBER: tuple[type, ...] = (int, float)
TEXTS: tuple[type, ...] = (list,)

_STUDY: dict[str, tuple[type, ...]] = {"name": (str,), "seeds": (int, list), "data": (dict,), "procedures": (dict,)}

_CHOSEN: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "model_options": (dict,),
    "rounds": (int,),
    "cohort_size": (int,),
    "max_examples": (int,),
    "max_evaluated": (int,),
    "precision": (str,),
    "select": (str,),
    "client": (str,),
    "target": (str,),
    "features": TEXTS,
    "table": (dict,),
}
"""Of a data set, what a recipe takes as it is."""

_DATA: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "options": (dict,),
    "partition": (str,),
    "fractions": TEXTS,
    "deal": (str,),
    "pool_seed": (int,),
    "support": (*NUMBER, list),
    "looks": (dict,),
    "targets": TEXTS,
    "comparisons": TEXTS,
    "compare_at": NUMBER,
    "smallest_effect": NUMBER,
    "run": TEXTS,
    "procedures": (dict,),
    **_CHOSEN,
}

_PROCEDURE: dict[str, tuple[type, ...]] = {
    "algorithm": (str,),
    "options": (dict,),
    "server": (str,),
    "server_lr": NUMBER,
    "server_options": (dict,),
    "transform": (str,),
    "aggregator": (str,),
}


@dataclass(frozen=True)
class Declared:
    """A comparison that was declared: is the one better than the other after adaptation?

    Args:
        one: a procedure.
        other: the one that it is set against.
    """

    one: str
    other: str


@dataclass(frozen=True, eq=False)
class Entry:
    """One data set of a study.

    Args:
        name: its name in the study.
        source: a data set's name, a file or a folder.
        chosen: what a recipe is told beside the defaults for the source.
        deal: steps that spread the examples of clients outside of the pool anew with each seed; none for none.
        pool_seed: of the draw of the pool of test clients.
        fractions: of the clients, for training, validation and the pool.
        supports: the fractions of a client's examples that it adapts on.
        targets: values of the validation curve, whose time is told.
        comparisons: those that are declared.
        compare_at: the support at which they are made.
        smallest_effect: below which a difference does not matter, in the units of what is measured.
        procedures: by name, what a recipe is told of each.
    """

    name: str
    source: str
    chosen: Mapping[str, Any]
    deal: tuple[Mapping[str, Any], ...]
    pool_seed: int
    fractions: tuple[float, ...] | None
    supports: tuple[float, ...]
    targets: tuple[float, ...]
    comparisons: tuple[Declared, ...]
    compare_at: float
    smallest_effect: float
    procedures: Mapping[str, Mapping[str, Any]]

    def recipe(self, procedure: str, support: float, seed: int, pool: Sequence[str] = ()) -> Recipe:
        """Return the recipe of a cell.

        Args:
            procedure: its name in the study.
            support: the fraction of a client's examples that it adapts on.
            seed: of all draws but that of the pool.
            pool: the names of the test clients, once they are known.

        Raises:
            UsageError: a name or a value is wrong.
        """
        told = {**self.chosen, **self.procedures[procedure], "support": support, "seed": seed}
        algorithm = told.pop("algorithm")
        if self.fractions is not None:
            told["fractions"] = self.fractions
        if pool:
            told["test_clients"] = tuple(pool)
        return Recipe.default(self.source, algorithm, **told)

    def declared(self) -> dict[str, Any]:
        """Return what was declared of the statistics, as JSON can hold it."""
        return {
            "targets": list(self.targets),
            "comparisons": [[each.one, each.other] for each in self.comparisons],
            "compare_at": self.compare_at,
            "smallest_effect": self.smallest_effect,
            "procedures": list(self.procedures),
        }


@dataclass(frozen=True, eq=False)
class Study:
    """What a file declares.

    Args:
        name: the study's name.
        seeds: each draws deal, training and validation clients and the run, together.
        entries: the data sets, in the order of the file.
        text: the file.
    """

    name: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    text: str

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a file.

        Raises:
            UsageError: it cannot be read, is no TOML, or names or says something wrong.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the study {path}: {getattr(error, 'strerror', None) or error}") from None
        return cls.parse(text, str(path), path.stem)

    @classmethod
    def parse(cls, text: str, where: str, stem: str = "study") -> "Study":
        """Read the text of a file.

        Args:
            text: TOML.
            where: the file's name, for errors.
            stem: the study's name where the text says none.

        Raises:
            UsageError: it is no TOML, or names or says something wrong.
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{where} is no TOML: {error}") from None
        _check(content, _STUDY, where)
        for needed in ("data", "procedures"):
            if not content.get(needed):
                raise UsageError(f"{where} needs a table [{needed}.NAME] at least")
        common = _procedures(content["procedures"], where)
        entries = tuple(_entry(name, given, common, f"{where}, data.{name}") for name, given in content["data"].items())
        return cls(content.get("name", stem), _seeds(content.get("seeds", 1), where), entries, text)

    def declared(self) -> dict[str, Any]:
        """Return what is declared of the statistics, as JSON can hold it: by data set."""
        return {entry.name: entry.declared() for entry in self.entries}


def _entry(name: str, given: Any, common: Mapping[str, Mapping[str, Any]], where: str) -> Entry:
    _check(given, _DATA, where)
    if "source" not in given:
        raise UsageError(f"{where} needs source = NAME, FILE or FOLDER")
    source = given["source"]
    if source not in sets.names() and not Path(source).exists():
        near = nearest(source, sets.names())
        raise UsageError(f"{where}: source = {source!r} is no data set, and no file or folder: {near}")
    procedures = _own_procedures(given, common, where)
    supports = _supports(given.get("support", 0.2), where)
    chosen = {key: given[key] for key in _CHOSEN if key in given}
    chosen |= {"data_options": dict(given.get("options", {}))}
    if "partition" in given:
        chosen["data_options"]["partition"] = _spelled(spelling.partition, given["partition"], where)
    chosen |= _looks(given.get("looks", {}), where)
    fractions = given.get("fractions")
    entry = Entry(
        name=name,
        source=source,
        chosen=chosen,
        deal=tuple(_spelled(spelling.partition, given["deal"], where)) if "deal" in given else (),
        pool_seed=given.get("pool_seed", 0),
        fractions=None if fractions is None else tuple(_numbers(fractions, f"{where}: fractions")),
        supports=supports,
        targets=tuple(_numbers(given.get("targets", []), f"{where}: targets")),
        comparisons=_comparisons(given.get("comparisons", []), procedures, where),
        compare_at=float(given.get("compare_at", supports[0])),
        smallest_effect=float(given.get("smallest_effect", EFFECT)),
        procedures=procedures,
    )
    if entry.compare_at not in supports:
        raise UsageError(f"{where}: compare_at = {entry.compare_at:g} is none of support = {list(supports)}")
    if not entry.smallest_effect > 0:
        raise UsageError(f"{where}: smallest_effect must be above 0, not {entry.smallest_effect:g}")
    for procedure in procedures:
        for support in supports:
            try:
                entry.recipe(procedure, support, 0)
            except UsageError as error:
                raise UsageError(f"{where}, procedures.{procedure}: {error}") from None
    return entry


def _own_procedures(
    given: Mapping[str, Any], common: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Mapping[str, Any]]:
    """Return the procedures of a data set: those that it runs, with what it says of its own in place of the rest."""
    run = _names(given.get("run", list(common)), f"{where}: run")
    own = _procedures(given.get("procedures", {}), where, partial=True)
    for name in (*run, *own):
        if name not in common:
            raise UnknownName(f"procedure in {where}", name, common)
    merged: dict[str, Mapping[str, Any]] = {}
    for name in run:
        options = {**common[name].get("algorithm_options", {}), **own.get(name, {}).get("algorithm_options", {})}
        merged[name] = {**common[name], **own.get(name, {})} | ({"algorithm_options": options} if options else {})
    if not merged:
        raise UsageError(f"{where}: run names no procedure")
    return merged


def _procedures(given: Mapping[str, Any], where: str, *, partial: bool = False) -> dict[str, dict[str, Any]]:
    found = {}
    for name, table in given.items():
        here = f"{where}, procedures.{name}"
        _check(table, _PROCEDURE, here)
        told = dict(table)
        if "algorithm" not in told and not partial:
            told["algorithm"] = name
        if "options" in told:
            told["algorithm_options"] = told.pop("options")
        for part, read in (("transform", spelling.transform), ("aggregator", spelling.aggregator)):
            if part in told:
                told[part] = _spelled(read, told[part], here)
        found[name] = told
    return found


def _comparisons(given: Sequence[Any], procedures: Mapping[str, Any], where: str) -> tuple[Declared, ...]:
    if len(given) > MOST:
        raise UsageError(
            f"{where} declares {len(given)} comparisons; at most {MOST} can be declared for a data set, and all others "
            "are reported as exploratory"
        )
    found = []
    for pair in given:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise UsageError(f'{where}: a comparison is a pair such as ["maml", "fedavg-meta"], not {pair!r}')
        for name in pair:
            if name not in procedures:
                raise UnknownName(f"procedure in the comparisons of {where}", name, procedures)
        found.append(Declared(*pair))
    pairs = [frozenset((each.one, each.other)) for each in found]
    if any(len(pair) == 1 for pair in pairs) or len(set(pairs)) < len(pairs):
        raise UsageError(f"{where}: each comparison is of two procedures, and is declared once")
    return tuple(found)


def _looks(given: Mapping[str, Any], where: str) -> dict[str, int]:
    _check(given, {"early": (int,), "every": (int,)}, f"{where}, looks")
    return {f"validate_{name}": value for name, value in given.items()}


def _supports(given: Any, where: str) -> tuple[float, ...]:
    supports = tuple(_numbers(given if isinstance(given, list) else [given], f"{where}: support"))
    if not supports or len(set(supports)) < len(supports):
        raise UsageError(f"{where}: support is one fraction or several that differ, not {given!r}")
    return supports


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    seeds = list(range(given)) if isinstance(given, int) else given
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: seeds is how many, or a list of whole numbers that differ, not {given!r}")
    return tuple(seeds)


def _numbers(given: Sequence[Any], where: str) -> list[float]:
    for value in given:
        if type(value) not in NUMBER:
            raise UsageError(f"{where} holds numbers, not {value!r}")
    return [float(value) for value in given]


def _names(given: Sequence[Any], where: str) -> list[str]:
    for value in given:
        if not isinstance(value, str):
            raise UsageError(f"{where} holds names, not {value!r}")
    return list(dict.fromkeys(given))


def _spelled(read: Any, text: str, where: str) -> Any:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _check(given: Any, known: Mapping[str, tuple[type, ...]], where: str) -> None:
    """Raise a UsageError for a name that is unknown, or a value of another type."""
    if not isinstance(given, dict):
        raise UsageError(f"{where} is a table of names and values, not {given!r:.60}")
    for name, value in given.items():
        if name not in known:
            raise UnknownName(f"name in {where}:", name, known)
        if type(value) not in known[name]:
            words = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table"}
            wanted = " or ".join(words[kind] for kind in known[name])
            raise UsageError(f"{where}: {name} must be {wanted}, not {value!r:.60}")
