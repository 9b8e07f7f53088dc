"""Which settings are tried of a procedure's grid, and for how many rounds: successive halving, then the neighbours.

Each subject has the same floating-point operations of training. Three quarters of them go to candidates that are drawn
at random from the grid: all are trained for the floor, the better half of them for twice as long, and so on until the
last rounds (Jamieson and Talwalkar 2016, arXiv:1502.07943). The rest goes to the neighbours of the best, of which those
beyond the edge of the grid come first.
"""

import itertools
import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedmeta import random
from fedmeta.errors import UsageError
from fedmeta.study.grid.entries import Entry
from fedmeta.study.grid.procedures import Spec, server

HALVING = 0.75
"""The share of the operations that goes to candidates drawn at random."""

TOGETHER = 4
"""Candidates that are begun at a time, before what they cost is looked at."""

_SERVER = re.compile(r"\w+:[-+.\deE]+")

TWINS = ("fedavg", "fedavg-meta")
"""Algorithms that are one training, which is judged before and after adaptation."""

Settings = Mapping[str, Any]


class Try(NamedTuple):
    """Settings, and for how many rounds they are tried."""

    settings: Settings
    rounds: int


@dataclass(frozen=True, eq=False)
class Tried:
    """What came of a try.

    Args:
        settings: what was tried.
        rounds: for how many rounds.
        scores: by judgement, "before" and "after", what validation clients give, larger where it is better; None where
            it diverged.
        dose: of the second.
        flops: spent on its training, from the first round on.
    """

    settings: Settings
    rounds: int
    scores: Mapping[str, float | None]
    dose: Mapping[str, Any] | None
    flops: float

    def score(self, judgement: str) -> float:
        """Return a score; the worst of all where it diverged."""
        value = self.scores[judgement]
        return -math.inf if value is None or math.isnan(value) else value

    def lives(self, judgements: Sequence[str]) -> bool:
        """Return whether it has a finite score by one of these."""
        return any(math.isfinite(self.score(judgement)) for judgement in judgements)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is tuned at once: a procedure, or two that are one training.

    Args:
        entry: of the study.
        trained: the procedure whose grid is tried.
        judged: by procedure, whether it is judged "before" or "after" its clients adapt.
    """

    entry: Entry
    trained: str
    judged: Mapping[str, str]

    @property
    def grid(self) -> Mapping[str, tuple[Any, ...]]:
        """The grid."""
        return self.entry.procedures[self.trained].grid

    @property
    def rounds(self) -> int:
        """The rounds of a cell."""
        return self.entry.recipe(self.trained, self.entry.supports[0], 0).rounds

    def allows(self, settings: Settings) -> bool:
        """Return whether its algorithm and server take these values, which may lie beyond the grid."""
        try:
            self.entry.recipe(self.trained, self.entry.supports[0], 0, settings=settings)
        except UsageError:
            return False
        return True


class Chosen(NamedTuple):
    """The best of a procedure, and the settings in which its neighbours beyond the grid were not tried any more."""

    best: Tried
    at_edge: tuple[str, ...]


Outcome = dict[str, Chosen]
"""By procedure."""


def subjects(entry: Entry) -> list[Subject]:
    """Return what is tuned of an entry: each procedure that has a grid; FedAvg with FedAvg(Meta), where both are run.

    FedAvg is then judged before, FedAvg(Meta) after adaptation, and the grid is that of the second.
    """
    algorithm = {name: spec.told["algorithm"] for name, spec in entry.procedures.items() if not spec.baseline}
    plain = [name for name, of in algorithm.items() if of == TWINS[0] and not entry.procedures[name].grid]
    found = []
    for name, spec in entry.procedures.items():
        if not spec.grid:
            continue
        if algorithm[name] == TWINS[1] and plain:
            found.append(Subject(entry, name, {plain[0]: "before", name: "after"}))
        else:
            found.append(Subject(entry, name, {name: "after"}))
    return found


def tune(subject: Subject, budget: float) -> Generator[list[Try], list[Tried], Outcome]:
    """Yield what is to be tried next, are sent what came of it, and return what is best; nothing where all diverged.

    Args:
        subject: what is tuned.
        budget: floating-point operations of training.
    """
    ladder = rungs(subject.rounds, subject.entry.tuning.floor if subject.entry.tuning else 1.0)
    field, spent = [], 0.0
    waiting = candidates(subject.grid, subject.trained)
    while True:
        some = list(itertools.islice(waiting, TOGETHER))
        if not some:
            break
        field += yield [Try(one, ladder[0]) for one in some]
        spent = sum(one.flops for one in field)
        if spent * _growth(len(field) + TOGETHER, ladder) > HALVING * budget * len(field) / (len(field) + TOGETHER):
            break
    judgements = list(subject.judged.values())
    begun = {named(one.settings): one.flops for one in field}
    lost = {named(one.settings) for one in field if not one.lives(judgements)}
    for rounds in ladder[1:]:
        kept = survivors(field, judgements, math.ceil(len(field) / 2))
        if not kept:
            return {}
        field = yield [Try(one.settings, rounds) for one in kept]
        begun |= {named(one.settings): one.flops for one in field}
        lost |= {named(one.settings) for one in field if not one.lives(judgements)}
    done = {named(one.settings): one for one in field}
    tried = set(begun)
    while True:
        ahead: dict[str, Try] = {}
        left = budget - sum(begun.values())
        for best in best_of(subject, done).values():
            new = [one for one in neighbours(best.settings, subject.grid) if named(one) not in done]
            lost |= {named(one) for one in new if not subject.allows(one)}
            # What was dropped on the way has been seen; what is new comes first.
            new.sort(key=lambda one: named(one) in tried)
            for one in new:
                cost = at_most(best, one) - begun.get(named(one), 0.0)
                if named(one) not in lost and cost <= left:
                    left -= 0.0 if named(one) in ahead else cost
                    ahead[named(one)] = Try(one, ladder[-1])
                    break
        if not ahead:
            break
        for one in (yield list(ahead.values())):
            done[named(one.settings)] = one
            begun[named(one.settings)] = one.flops
    return {
        procedure: Chosen(best, edges(best.settings, subject.grid, set(done) | lost))
        for procedure, best in best_of(subject, done).items()
    }


def best_of(subject: Subject, done: Mapping[str, Tried]) -> dict[str, Tried]:
    """Return by procedure the best of what was tried to the end; nothing of one of which all diverged."""
    found = {}
    for procedure, judgement in subject.judged.items():
        best = max(done.values(), key=lambda one, by=judgement: one.score(by))
        if math.isfinite(best.score(judgement)):
            found[procedure] = best
    return found


def at_most(best: Tried, settings: Settings) -> float:
    """Return the operations that a neighbour takes at most: in proportion to what is counted, such as steps."""
    grown = 1.0
    for name, value in settings.items():
        before = best.settings[name]
        if type(value) is type(before) is int and value > before > 0:
            grown *= value / before
    return best.flops * grown


def rungs(rounds: int, floor: float) -> list[int]:
    """Return after how many rounds candidates are looked at: from the floor on twice as many each time."""
    found = [max(1, math.ceil(floor * rounds))]
    while 2 * found[-1] < rounds:
        found.append(2 * found[-1])
    return found if found[-1] == rounds else [*found, rounds]


def _growth(count: int, ladder: Sequence[int]) -> float:
    """Return how many times what the first rung costs all rungs will cost, for so many candidates."""
    total, left = 1.0, count
    for before, after in itertools.pairwise(ladder):
        left = math.ceil(left / 2)
        total += left / count * (after - before) / ladder[0]
    return total


def survivors(field: Sequence[Tried], judgements: Sequence[str], count: int) -> list[Tried]:
    """Return those that go on: by each judgement in turn the best that has not been taken."""
    orders = [sorted(field, key=lambda one, by=judgement: -one.score(by)) for judgement in judgements]
    found: list[Tried] = []
    for place in itertools.count():
        for order in orders:
            if len(found) == count or place == len(field):
                return found
            if order[place] not in found and order[place].lives(judgements):
                found.append(order[place])
    return found


def candidates(grid: Mapping[str, Sequence[Any]], name: str) -> Generator[Settings, None, None]:
    """Yield all settings of a grid, in an order that is drawn at random for this name."""
    every = list(itertools.product(*grid.values()))
    for place in random.generator(0, "candidates", name).permutation(len(every)):
        yield dict(zip(grid, every[place], strict=True))


def neighbours(settings: Settings, grid: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Return the settings that differ in one value by one place, those beyond the grid first."""
    beyond, within = [], []
    for name, value in settings.items():
        for other in beside(value, grid[name]):
            (within if other in grid[name] else beyond).append({**settings, name: other})
    return [*beyond, *within]


def edges(settings: Settings, grid: Mapping[str, Sequence[Any]], done: set[str]) -> tuple[str, ...]:
    """Return the names of the settings that have a neighbour beyond the grid that was not tried."""
    found = []
    for name, value in settings.items():
        out = [other for other in beside(value, grid[name]) if other not in grid[name]]
        if any(named({**settings, name: other}) not in done for other in out):
            found.append(name)
    return tuple(found)


def beside(value: Any, values: Sequence[Any]) -> list[Any]:
    """Return the values next to one: of numbers the next smaller and larger, where the grid ends one beyond it.

    Beyond, rates go on by the ratio of the last two, whole numbers by doubling and halving down to 1. A server's rate
    is such a number among those of the same optimiser. Of anything else, all other values are next to it.
    """
    if isinstance(value, str) and all(isinstance(one, str) and _SERVER.fullmatch(one) for one in values):
        name, rate = server(value)
        rates = [server(one)[1] for one in values if server(one)[0] == name]
        spelling = {server(one)[1]: one for one in values if server(one)[0] == name}
        return [spelling.get(one, f"{name}:{one:.3g}") for one in beside(rate, rates)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [one for one in values if one != value]
    order = sorted({*values, value})
    place = order.index(value)
    low = order[place - 1] if place else _beyond(value, values, up=False)
    high = order[place + 1] if place + 1 < len(order) else _beyond(value, values, up=True)
    return [one for one in (low, high) if one is not None and one != value]


def _beyond(value: Any, values: Sequence[Any], *, up: bool) -> Any:
    if all(isinstance(one, int) for one in values):
        return 2 * value if up else max(1, value // 2)
    order = sorted(values)
    if len(order) < 2 or order[0] <= 0:
        return None
    return float(f"{value * order[-1] / order[-2] if up else value * order[0] / order[1]:.3g}")


def named(settings: Settings) -> str:
    """Return the name of settings, whatever their order."""
    return repr(sorted(settings.items()))


def tuned(spec: Spec, chosen: Chosen) -> dict[str, Any]:
    """Return what a file of tuned settings holds of a procedure.

    Args:
        spec: what the study says of it.
        chosen: the best settings; of its dose, the rate and the steps become those of the procedure.
    """
    settings = dict(chosen.best.settings)
    found: dict[str, Any] = {}
    if "server" in settings:
        found["server"], found["server_lr"] = server(settings.pop("server"))
    dose, algorithm = chosen.best.dose, spec.told["algorithm"]
    if algorithm == TWINS[0]:
        # It was trained as one that adapts.
        settings = {name: value for name, value in settings.items() if not name.startswith("adapt")}
    elif dose is not None and dose["steps"] and algorithm != "per-fedavg":
        told = {**spec.told.get("algorithm_options", {}), **settings}
        if "adapt_epochs" not in told:
            settings["adapt_steps"] = dose["steps"]
        rate = told.get("adapt_lr", told.get("inner_lr"))
        if dose["rate"] != 1 and algorithm != "meta-sgd" and rate is not None:
            settings["adapt_lr"] = float(f"{dose['rate'] * rate:.3g}")
    return {**found, "options": settings}
