"""The procedures of a study's file: what is trained, what stands beside it, and the settings that can be tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmeta.algorithms import ALGORITHMS, PerFedAvg
from fedmeta.algorithms.algorithm import SharedInitialisation
from fedmeta.errors import UnknownName, UsageError
from fedmeta.study import spelling
from fedmeta.study.grid import reading
from fedmeta.study.grid.beside import ALSO, UNTRAINED
from fedmeta.study.grid.reading import LIST, NUMBER
from fedmeta.study.recipe import Recipe

KNOWN: reading.Known = {
    "algorithm": (str,),
    "options": (dict,),
    "server": (str,),
    "server_lr": NUMBER,
    "server_options": (dict,),
    "transform": (str,),
    "aggregator": (str,),
    "baseline": (str,),
    "also": LIST,
    "grid": (dict,),
}

IN_ORDER = ("most-recent", "chain")
"""Baselines that go by the item before."""

OPTIMISERS = ("inner", "local")
"""Options of algorithms that are optimisers."""

BASELINE = "baseline"
"""What stands in place of an algorithm's name in the table of what was measured."""


@dataclass(frozen=True)
class Spec:
    """What a study says of one procedure on one data set.

    Args:
        told: what a recipe is told, beside the defaults.
        baseline: of `UNTRAINED`, what answers without federated training; "" where something is trained.
        also: of `ALSO`, what the trained model becomes without more training, which is tested too.
        grid: by setting, the values that are tried when it is tuned.
    """

    told: Mapping[str, Any]
    baseline: str = ""
    also: tuple[str, ...] = ()
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def read(given: Mapping[str, Any], where: str, *, partial: bool = False) -> dict[str, dict[str, Any]]:
    """Return by name what a file says of procedures, as plain values that `merged` takes.

    Args:
        given: tables by name.
        where: for errors.
        partial: whether they are only what differs.

    Raises:
        UsageError: a name or a value is wrong.
    """
    found = {}
    reading.check_names(given, f"{where}, procedures")
    for name, table in given.items():
        here = f"{where}, procedures.{name}"
        reading.check(table, KNOWN, here)
        told = dict(table)
        if "baseline" in told:
            _check_bare({name: value for name, value in told.items() if name != "baseline"}, here)
            if told["baseline"] not in UNTRAINED:
                raise UnknownName(f"baseline in {here}:", told["baseline"], UNTRAINED)
        elif "algorithm" not in told and not partial:
            told["algorithm"] = name
        if "also" in told:
            told["also"] = tuple(reading.names(told["also"], f"{here}: also", list(ALSO)))
        if "options" in told:
            options = told.pop("options")
            told["algorithm_options"] = {key: _option(key, value, here) for key, value in options.items()}
        for part, spell in (("transform", spelling.transform), ("aggregator", spelling.aggregator)):
            if part in told:
                told[part] = reading.spelled(spell, told[part], here)
        if "grid" in told:
            told["grid"] = _grid(told["grid"], f"{here}: grid")
        found[name] = told
    return found


def merged(*layers: Mapping[str, Any], where: str = "") -> Spec:
    """Return what layers say of a procedure, a later one in place of an earlier one; options are added up.

    Args:
        layers: of `read`.
        where: for errors.

    Raises:
        UsageError: a baseline has settings of what is trained.
    """
    told: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = name in ("algorithm_options", "grid") and name in told
            told[name] = {**told[name], **value} if both else value
    baseline = told.pop("baseline", "")
    if baseline:
        _check_bare(told, where)
    also, grid = told.pop("also", ()), told.pop("grid", {})
    return Spec({"algorithm": "fedavg"} if baseline else told, baseline, also, grid)


def _check_bare(told: Mapping[str, Any], where: str) -> None:
    if told:
        raise UsageError(f"{where}: a baseline is not trained, so {', '.join(sorted(told))} has no meaning")


def check_beside(spec: Spec, recipe: Recipe, evaluate_at: tuple[int, ...]) -> None:
    """Raise a UsageError where something stands beside an algorithm whose phi is more, or less, than a network.

    Likewise for a baseline that needs the order of a support set, where one of so many examples is drawn.
    """
    if evaluate_at and spec.baseline in IN_ORDER:
        raise UsageError(
            f"baseline = {spec.baseline!r} needs each item that came before, and of evaluate_at = {list(evaluate_at)} "
            "examples, which are drawn, it is not known: leave it out of run, or evaluate_at"
        )
    name = recipe.algorithm
    if name == PerFedAvg.name:
        of = recipe.algorithm_options.get("of", "maml")
        name = of if isinstance(of, str) else of.name
    if spec.also and not issubclass(ALGORITHMS[name], SharedInitialisation):
        raise UsageError(
            f"also = {list(spec.also)} needs a network that all clients share, and {ALGORITHMS[name].title} trains no "
            "such one alone: give it to another procedure, such as fedavg"
        )


def with_settings(spec: Spec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe is told where some settings of the grid take these values."""
    told = dict(spec.told)
    options = dict(told.get("algorithm_options", {}))
    for name, value in settings.items():
        if name == "server":
            told["server"], told["server_lr"] = server(value)
        else:
            options[name] = _option(name, value, "grid")
    return told | ({"algorithm_options": options} if options else {})


def _option(name: str, value: Any, where: str) -> Any:
    """Return the value of an option; an optimiser may be written as on the command line."""
    if name in OPTIMISERS and isinstance(value, str):
        return reading.spelled(lambda text: spelling.option(f"{name}={text}")[1], value, where)
    return value


def server(text: str) -> tuple[str, float]:
    """Return the name and the rate that `adam:0.01` says.

    Raises:
        UsageError: it says no such thing.
    """
    name, _, rate = text.partition(":")
    try:
        return name, float(rate)
    except ValueError:
        raise UsageError(f'a server of a grid is a name and a rate such as "adam:0.01", not {text!r}') from None


def _grid(given: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, values in given.items():
        if not isinstance(values, list) or not values or len({repr(value) for value in values}) < len(values):
            raise UsageError(f"{where}: {name} is a list of values that differ, not {values!r:.60}")
        for value in values if name == "server" else ():
            reading.spelled(server, str(value), f"{where}: {name}")
        found[name] = tuple(values)
    return found
