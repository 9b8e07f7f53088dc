"""The file of a study: what is tried, and what is claimed, before anything is run."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmeta import data as sets
from fedmeta.errors import UnknownName, UsageError, nearest
from fedmeta.study import spelling
from fedmeta.study.dose import Doses
from fedmeta.study.grid import procedures, reading
from fedmeta.study.grid.entries import OVER, Declared, Entry, Tuning
from fedmeta.study.grid.procedures import Spec
from fedmeta.study.grid.reading import LIST, NUMBER

MOST = 3
"""Declared comparisons of a data set."""

EFFECT = 0.01
"""The smallest effect that matters where the file says none: a point of accuracy."""

_STUDY: reading.Known = {
    "name": (str,),
    "seeds": (int, list),
    "tuned": (str,),
    "data": (dict,),
    "procedures": (dict,),
}

_CHOSEN: reading.Known = {
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
    "features": LIST,
    "table": (dict,),
}
"""Of a data set, what a recipe takes as it is."""

_DATA: reading.Known = {
    "source": (str,),
    "options": (dict,),
    "partition": (str,),
    "fractions": LIST,
    "deal": (str,),
    "pool_seed": (int,),
    "pool": LIST,
    "over": (str,),
    "support": (*NUMBER, list),
    "evaluate_at": LIST,
    "dose": (dict,),
    "tuning": (dict,),
    "tuned_as": (str,),
    "looks": (dict,),
    "targets": LIST,
    "comparisons": LIST,
    "compare_at": NUMBER,
    "smallest_effect": NUMBER,
    "run": LIST,
    "procedures": (dict,),
    **_CHOSEN,
}

_DOSE: reading.Known = {"rates": LIST, "steps": (int,), "parts": LIST}

_TUNING: reading.Known = {"tflops": NUMBER, "floor": NUMBER, "seed": (int,)}


@dataclass(frozen=True, eq=False)
class Study:
    """What a file declares.

    Args:
        name: the study's name.
        seeds: each draws deal, training and validation clients and the run, together.
        entries: the data sets, in the order of the file.
        text: the file.
        tuned: the file of tuned settings that it names; "" where it names none.
    """

    name: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    text: str
    tuned: str = ""

    @classmethod
    def read(cls, path: Path, *, tuning: bool = False) -> "Study":
        """Read a file, and the tuned settings that it names.

        Args:
            path: the file.
            tuning: leave the tuned settings out, for they are being chosen, or not chosen yet.

        Raises:
            UsageError: it cannot be read, is no TOML, or names or says something wrong.
        """
        text, tuned = _text(path), ""
        told = _toml(text, str(path)).get("tuned")
        if isinstance(told, str) and not tuning:
            tuned = _text(path.parent / told)
        return cls.parse(text, str(path), path.stem, tuned, untuned=tuning)

    @classmethod
    def parse(cls, text: str, where: str, stem: str = "study", tuned: str = "", *, untuned: bool = False) -> "Study":
        """Read the text of a file.

        Args:
            text: TOML.
            where: the file's name, for errors.
            stem: the study's name where the text says none.
            tuned: the text of the tuned settings that it names.
            untuned: whether it is no matter that these are not given.

        Raises:
            UsageError: it is no TOML, or names or says something wrong.
        """
        content = _toml(text, where)
        reading.check(content, _STUDY, where)
        for needed in ("data", "procedures"):
            if not content.get(needed):
                raise UsageError(f"{where} needs a table [{needed}.NAME] at least")
        if "tuned" in content and not (tuned or untuned):
            raise UsageError(f"{where} names tuned settings, {content['tuned']}, and the file is empty")
        reading.check_names(content["data"], f"{where}, data")
        common = procedures.read(content["procedures"], where)
        chosen = _toml(tuned, f"{where}, tuned")
        _check_tuned(chosen, content["data"], common, f"{where}, {content.get('tuned', 'tuned')}")
        entries = tuple(
            _entry(name, given, common, _tuned_of(name, given, chosen, content["data"], where), f"{where}, data.{name}")
            for name, given in content["data"].items()
        )
        if tuned:
            _check_all_tuned(entries, content["data"], chosen, f"{where}, {content.get('tuned', 'tuned')}")
        seeds = _seeds(content.get("seeds", 1), where)
        for entry in entries:
            if entry.tuning is not None and entry.tuning.seed in seeds:
                raise UsageError(
                    f"{where}, data.{entry.name}, tuning: seed = {entry.tuning.seed} is one of the study's seeds; "
                    "give one that no cell has"
                )
        return cls(content.get("name", stem), seeds, entries, text, tuned)

    @classmethod
    def lacks_tuned(cls, path: Path) -> str:
        """Return the file of tuned settings that a study's file names, where there is none yet; else nothing.

        Args:
            path: the study's file.

        Raises:
            UsageError: it cannot be read, or is no TOML.
        """
        told = _toml(_text(path), str(path)).get("tuned")
        return str(path.parent / told) if isinstance(told, str) and not (path.parent / told).exists() else ""

    def declared(self) -> dict[str, Any]:
        """Return what is declared of the statistics, as JSON can hold it: by data set."""
        return {entry.name: entry.declared() for entry in self.entries}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the study {path}: {getattr(error, 'strerror', None) or error}") from None


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is no TOML: {error}") from None


def _check_tuned(chosen: Mapping[str, Any], data: Any, common: Mapping[str, Any], where: str) -> None:
    for name, tables in chosen.items():
        if name not in data:
            raise UnknownName(f"data set in {where}:", name, data)
        if not isinstance(tables, dict):
            raise UsageError(f"{where}, {name} is a table of procedures, not {tables!r:.60}")
        for procedure in tables:
            if procedure not in common:
                raise UnknownName(f"procedure in {where}:", procedure, common)


def _check_all_tuned(entries: Sequence[Entry], data: Mapping[str, Any], chosen: Mapping[str, Any], where: str) -> None:
    for entry in entries:
        of = data[entry.name].get("tuned_as", entry.name)
        for procedure, spec in entry.procedures.items():
            if spec.grid and procedure not in chosen.get(of, {}):
                raise UsageError(
                    f"{where} has no settings of {procedure} for {of}, and it has a grid: tune again, or leave out "
                    "its grid, or it itself from run"
                )


def _tuned_of(
    name: str, given: Any, chosen: Mapping[str, Any], data: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    """Return the tuned settings of a data set, or of the other one whose settings it has."""
    other = given.get("tuned_as", name) if isinstance(given, dict) else name
    if not isinstance(other, str):
        raise UsageError(f"{where}, data.{name}: tuned_as must be a text, not {other!r:.60}")
    if other not in data:
        raise UnknownName(f"data set that data.{name} is tuned as, in {where}:", other, data)
    if other != name and "tuned_as" in data[other]:
        raise UsageError(f"{where}, data.{name}: {other} has the settings of another one itself; name that one")
    if other != name and "tuning" in given:
        raise UsageError(f"{where}, data.{name}: it has the settings of {other}, so tuning has no meaning")
    return chosen.get(other, {})


def _entry(
    name: str, given: Any, common: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, Any], where: str
) -> Entry:
    reading.check(given, _DATA, where)
    if "source" not in given:
        raise UsageError(f"{where} needs source = NAME, FILE or FOLDER")
    source = given["source"]
    if source not in sets.names() and not Path(source).exists():
        near = nearest(source, sets.names())
        raise UsageError(f"{where}: source = {source!r} is no data set, and no file or folder: {near}")
    own = _own_procedures(given, common, tuned, where)
    supports = _supports(given.get("support", 0.2), where)
    chosen = {key: given[key] for key in _CHOSEN if key in given}
    chosen |= {"data_options": dict(given.get("options", {}))}
    if "partition" in given:
        chosen["data_options"]["partition"] = reading.spelled(spelling.partition, given["partition"], where)
    chosen |= _looks(given.get("looks", {}), where)
    fractions = given.get("fractions")
    evaluate_at = reading.counts(given.get("evaluate_at", []), f"{where}: evaluate_at")
    if evaluate_at and len(supports) > 1:
        raise UsageError(
            f"{where}: models are tested at several supports by evaluate_at, or trained with several: not both"
        )
    tested = list(map(float, evaluate_at)) or list(supports)
    entry = Entry(
        name=name,
        source=source,
        chosen=chosen,
        deal=tuple(reading.spelled(spelling.partition, given["deal"], where)) if "deal" in given else (),
        pool_seed=given.get("pool_seed", 0),
        pool=tuple(reading.names(given.get("pool", []), f"{where}: pool")),
        over=given.get("over", OVER[0]),
        fractions=None if fractions is None else tuple(reading.numbers(fractions, f"{where}: fractions")),
        supports=supports,
        evaluate_at=evaluate_at,
        doses=_doses(given["dose"], f"{where}, dose") if "dose" in given else None,
        tuning=_tuning(given["tuning"], f"{where}, tuning") if "tuning" in given else None,
        targets=tuple(reading.numbers(given.get("targets", []), f"{where}: targets")),
        comparisons=_comparisons(given.get("comparisons", []), own, where),
        compare_at=float(given.get("compare_at", tested[0])),
        smallest_effect=float(given.get("smallest_effect", EFFECT)),
        procedures=own,
    )
    if entry.over not in OVER:
        raise UnknownName(f"value of over in {where}:", entry.over, OVER)
    if entry.compare_at not in tested:
        said = "evaluate_at" if evaluate_at else "support"
        raise UsageError(f"{where}: compare_at = {entry.compare_at:g} is none of {said} = {tested}")
    if not entry.smallest_effect > 0:
        raise UsageError(f"{where}: smallest_effect must be above 0, not {entry.smallest_effect:g}")
    for procedure, spec in own.items():
        for support in supports:
            try:
                procedures.check_beside(spec, entry.recipe(procedure, support, 0), evaluate_at)
                for setting, values in spec.grid.items():
                    for value in values:
                        entry.recipe(procedure, support, 0, settings={setting: value})
            except UsageError as error:
                raise UsageError(f"{where}, procedures.{procedure}: {error}") from None
    return entry


def _doses(given: Mapping[str, Any], where: str) -> Doses:
    reading.check(given, _DOSE, where)
    told = dict(given)
    if "rates" in told:
        told["rates"] = tuple(reading.numbers(told["rates"], f"{where}: rates"))
    if "parts" in told:
        told["parts"] = tuple(reading.names(told["parts"], f"{where}: parts"))
    return _made(Doses, told, where)


def _tuning(given: Mapping[str, Any], where: str) -> Tuning:
    reading.check(given, _TUNING, where)
    if "tflops" not in given:
        raise UsageError(f"{where} needs tflops = NUMBER")
    floats = {name: float(given[name]) for name in ("tflops", "floor") if name in given}
    return _made(Tuning, {**given, **floats}, where)


def _made(kind: Any, told: Mapping[str, Any], where: str) -> Any:
    try:
        return kind(**told)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _own_procedures(
    given: Mapping[str, Any], common: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, Any], where: str
) -> dict[str, Spec]:
    """Return the procedures of a data set: those that it runs, with what it says of its own in place of the rest."""
    run = reading.names(given.get("run", list(common)), f"{where}: run")
    own = procedures.read(given.get("procedures", {}), where, partial=True)
    chosen = procedures.read(tuned, f"{where}, tuned", partial=True)
    for name in (*run, *own):
        if name not in common:
            raise UnknownName(f"procedure in {where}", name, common)
    if not run:
        raise UsageError(f"{where}: run names no procedure")
    return {
        name: procedures.merged(common[name], chosen.get(name, {}), own.get(name, {}), where=f"{where}, {name}")
        for name in run
    }


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
    reading.check(given, {"early": (int,), "every": (int,)}, f"{where}, looks")
    return {f"validate_{name}": value for name, value in given.items()}


def _supports(given: Any, where: str) -> tuple[float, ...]:
    supports = tuple(reading.numbers(given if isinstance(given, list) else [given], f"{where}: support"))
    if not supports or len(set(supports)) < len(supports):
        raise UsageError(f"{where}: support is one fraction or several that differ, not {given!r}")
    return supports


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    seeds = list(range(given)) if isinstance(given, int) else given
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: seeds is how many, or a list of whole numbers that differ, not {given!r}")
    return tuple(seeds)
