"""What a study found, of its table alone: each cell's values, and the comparisons."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from fedmeta.evaluation.figures import MORE_IS_BETTER
from fedmeta.study import statistics
from fedmeta.study.grid.cells import Key
from fedmeta.study.grid.table import Table
from fedmeta.study.statistics import Interval, Ratio, Reached, Tested

LEVEL = 0.05
"""Of Holm's procedure."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The values of one cell.

    Args:
        key: which it is.
        algorithm: its algorithm's name, or "baseline".
        judged_by: "accuracy" or "rmse".
        totals: by measure, values of the whole cell.
        clients: by measure, by client.
        rounds: by measure, by round.
        steps: by measure, by step of adaptation.
    """

    key: Key
    algorithm: str
    judged_by: str
    totals: dict[str, float] = field(default_factory=dict)
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    rounds: dict[str, dict[int, float]] = field(default_factory=dict)
    steps: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        """Whether it diverged, so that nothing was tested."""
        return "diverged" in self.totals

    @property
    def has_curve(self) -> bool:
        """Whether validation clients were looked at while it was trained."""
        return "validation" in self.rounds

    def curve(self, spent: str = "bytes") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rounds, what was spent until then and validation values, each of shape [looks]."""
        looks = sorted(self.rounds.get("validation", {}))
        values = [self.rounds["validation"][look] for look in looks]
        costs = [self.rounds[spent][look] for look in looks] if spent != "rounds" else looks
        return np.array(looks, float), np.array(costs, float), np.array(values, float)

    @property
    def trained(self) -> int:
        """How many rounds it was trained; none for what needs no federated training."""
        return max(self.rounds.get("bytes", {0: 0.0}))

    def last(self, measure: str) -> float:
        """Return what was spent in all, such as "bytes"; NaN where no round was finished."""
        found = self.rounds.get(measure, {})
        return found[max(found)] if found else np.nan


@dataclass(frozen=True, eq=False)
class Finding:
    """One procedure against another, after adaptation, at one support; what is above zero is for the first.

    Args:
        data: the data set.
        support: the fraction of a client's examples that it adapts on.
        one: the first procedure.
        other: the second.
        declared: whether it was, before the first cell was finished; else it is exploratory.
        seeds: with which both were tested.
        clients: of the pool.
        effect: the mean difference over clients, by a bootstrap crossed over seeds and clients.
        corrected: by seed, with Nadeau and Bengio's correction.
        p: Wilcoxon's over clients.
        adjusted: by Holm among the declared comparisons of the data set; NaN for an exploratory one.
        smallest: effect that matters.
        bytes_to: by target, how many times more bytes the second needs; none where one of them has no curve.
    """

    data: str
    support: float
    one: str
    other: str
    declared: bool
    seeds: int
    clients: int
    effect: Interval
    corrected: Tested
    p: float
    adjusted: float
    smallest: float
    bytes_to: Mapping[float, Ratio]

    @property
    def verdict(self) -> str:
        """What it shows, in words, by both intervals: the bootstrap's is too narrow with few seeds."""
        if math.isnan(self.corrected.low):
            return "undecided: one seed"
        low, high = min(self.effect.low, self.corrected.low), max(self.effect.high, self.corrected.high)
        if -self.smallest < low and high < self.smallest:
            return "no difference that matters"
        if self.effect.low <= 0 <= self.effect.high:
            return "undecided"
        if self.declared and not self.adjusted < LEVEL:
            return "undecided: the interval leaves zero out, and Holm's p does not"
        if low <= 0 <= high:
            return "undecided: the bootstrap's interval leaves zero out, and the corrected t's does not"
        if low >= self.smallest or high <= -self.smallest:
            return f"{'better' if low > 0 else 'worse'}, by enough to matter"
        return f"{'better' if low > 0 else 'worse'}; by enough to matter is open"


class ToEnd(NamedTuple):
    """When a procedure came to where another one ended, on the validation clients."""

    sent: tuple[Reached, ...]
    """Bytes, by seed."""
    rounds: tuple[Reached, ...]
    """Rounds, by seed."""
    saved: Ratio
    """How many times more bytes the other one needed."""


class Results:
    """The cells of a table, and what follows from them.

    Args:
        table: of a study.
    """

    def __init__(self, table: Table):
        self.table = table
        self.cells = _cells(table)

    @cached_property
    def data(self) -> list[str]:
        """The data sets, in the order of the file."""
        there = dict.fromkeys(key.data for key in self.cells)
        return [name for name in dict.fromkeys([*self.table.declared, *there]) if name in there]

    def procedures(self, data: str) -> dict[str, str]:
        """Return by procedure of a data set its algorithm, in the order of the file."""
        there = {key.procedure: cell.algorithm for key, cell in self.cells.items() if key.data == data}
        return {name: there[name] for name in self.declared(data)["procedures"] if name in there}

    def families(self, data: str) -> dict[str, str]:
        """Return by procedure of a data set the algorithm as which it is drawn.

        That is its own; where Per-FedAvg is made of several algorithms, the one that each procedure is made of.
        """
        found, made_of = self.procedures(data), {}
        for digest, key in self.table.keys.items():
            if key.data == data and found.get(key.procedure) == "per-fedavg":
                made_of[key.procedure] = self.table.identities[digest]["settings"]["algorithm"]["of"]["name"]
        return found | made_of if len(set(made_of.values())) > 1 else found

    def trained(self, data: str) -> list[str]:
        """Return the procedures of a data set that have a curve: neither a baseline nor what stands beside a model."""
        there = {key.procedure for key, cell in self.cells.items() if key.data == data and cell.has_curve}
        return [name for name in self.procedures(data) if name in there]

    def bare(self, data: str) -> list[str]:
        """Return what trained models of a data set become without more training, such as "fedavg, masked"."""
        trained = self.trained(data)
        return [name for name in self.procedures(data) if name.rpartition(", ")[0] in trained]

    def supports(self, data: str) -> list[float]:
        """Return the supports of a data set."""
        return sorted({key.support for key in self.cells if key.data == data})

    def has_own_training(self, data: str, support: float) -> bool:
        """Return whether models were trained with this support; of several numbers of examples one speaks for all."""
        return support < 1 or support == self.declared(data)["compare_at"]

    def over(self, data: str) -> str:
        """Return what intervals of a data set are over: its test clients, or their examples."""
        told = any("training_examples" in cell.totals for key, cell in self.cells.items() if key.data == data)
        return "examples" if told else "clients"

    def judged_by(self, data: str) -> str:
        """Return what a data set is judged by."""
        return next(cell.judged_by for key, cell in self.cells.items() if key.data == data)

    def declared(self, data: str) -> Mapping[str, Any]:
        """Return what was declared of a data set."""
        return self.table.declared[data]

    def of(self, data: str, procedure: str, support: float) -> list[Measured]:
        """Return the cells of all seeds that did not diverge."""
        return [
            cell
            for key, cell in sorted(self.cells.items())
            if key[:3] == (data, procedure, support) and not cell.diverged
        ]

    def diverged(self) -> list[Key]:
        """Return the cells that diverged."""
        return [key for key, cell in self.cells.items() if cell.diverged]

    def level(self, data: str, procedure: str, support: float, measure: str = "after") -> Interval | None:
        """Return the mean over clients and its interval, over seeds and clients; None where there is no such cell."""
        cells = self.of(data, procedure, support)
        return statistics.crossed_bootstrap(_matrix(cells, measure)) if cells else None

    def gain(self, data: str, procedure: str, support: float) -> np.ndarray | None:
        """Return what adapting changes, for the better above zero, shape [seeds, clients]; None without a cell."""
        cells = self.of(data, procedure, support)
        if not cells:
            return None
        return self._sign(data) * (_matrix(cells, "after") - _matrix(cells, "before"))

    def reached(self, cells: Sequence[Measured], target: float, spent: str) -> list[Reached]:
        """Return when each cell came to a target."""
        found = []
        for cell in cells:
            _, costs, values = cell.curve(spent)
            better = cell.judged_by in MORE_IS_BETTER
            found.append(statistics.time_to(target, values, costs, more_is_better=better))
        return found

    def to_end_of(self, data: str, reference: str, one: str, support: float) -> ToEnd | None:
        """Return when a procedure came to where another one ended, seed by seed.

        That is the last point of the other's smoothed curve. What the other itself needed for it counts until it stayed
        there, and is all of its bytes where it came there at the very end. None where no seed has both.
        """
        pairs = list(self._pairs(data, support, reference, one))
        if not pairs:
            return None
        own, sent, rounds = [], [], []
        for its, cell in pairs:
            _, _, values = its.curve("bytes")
            end = float(statistics.smoothed(values)[-1])
            own += [replace(each, arrived=True) for each in self.reached([its], end, "bytes")]
            sent += self.reached([cell], end, "bytes")
            rounds += self.reached([cell], end, "rounds")
        return ToEnd(tuple(sent), tuple(rounds), statistics.ratio(own, sent))

    def lead(self, data: str, one: str, other: str, support: float, spent: str) -> float:
        """Return what the first is better by on the validation clients once both have spent as much.

        That is what the one with less spent in all; of each smoothed curve its last look by then counts. The mean over
        the seeds that have both; NaN where there is none.

        Args:
            data: the data set.
            one: the first.
            other: the second.
            support: of both.
            spent: "rounds", "bytes" or "flops".
        """
        leads = []
        for cells in self._pairs(data, support, one, other):
            curves = [cell.curve(spent)[1:] for cell in cells]
            most = min(costs[-1] for costs, _ in curves)
            there = [statistics.smoothed(values)[costs <= most] for costs, values in curves]
            if all(map(len, there)):
                leads.append(self._sign(data) * (there[0][-1] - there[1][-1]))
        return float(np.mean(leads)) if leads else math.nan

    def findings(self, data: str) -> list[Finding]:
        """Return the declared comparisons of a data set, in their order, and then all others of what was trained, as
        exploratory.
        """
        told = self.declared(data)
        pairs = [(told["compare_at"], one, other) for one, other in told["comparisons"]]
        first = [self._finding(data, *pair, declared=True) for pair in pairs]
        first = _adjusted([each for each in first if each is not None], len(pairs))
        known = {(support, frozenset((one, other))) for support, one, other in pairs}
        rest = [
            self._finding(data, support, one, other, declared=False)
            for support in self.supports(data)
            for one, other in (*combinations(self.trained(data), 2), *product(self.trained(data), self.bare(data)))
            if (support, frozenset((one, other))) not in known
        ]
        return [*first, *(each for each in rest if each is not None)]

    def _finding(self, data: str, support: float, one: str, other: str, *, declared: bool) -> Finding | None:
        pairs = list(self._pairs(data, support, one, other))
        if not pairs:
            return None
        mine, others = [a for a, _ in pairs], [b for _, b in pairs]
        gaps = self._sign(data) * (_matrix(mine, "after") - _matrix(others, "after"))
        told = self.declared(data)
        trained = np.mean([cell.totals.get("training_examples", cell.totals["training_clients"]) for cell in mine])
        held = np.mean(np.sum(~np.isnan(gaps), axis=1))
        curves = all(cell.has_curve for pair in pairs for cell in pair)
        to = {
            target: statistics.ratio(self.reached(others, target, "bytes"), self.reached(mine, target, "bytes"))
            for target in (told["targets"] if curves else ())
        }
        return Finding(
            data=data,
            support=support,
            one=one,
            other=other,
            declared=declared,
            seeds=gaps.shape[0],
            clients=gaps.shape[1],
            effect=statistics.crossed_bootstrap(gaps),
            corrected=statistics.corrected_t(np.nanmean(gaps, axis=1), float(held / trained)),
            p=statistics.wilcoxon(np.nanmean(gaps, axis=0)),
            adjusted=float("nan"),
            smallest=told["smallest_effect"],
            bytes_to=to,
        )

    def _pairs(self, data: str, support: float, one: str, other: str) -> Iterator[tuple[Measured, Measured]]:
        """Yield the cells of both procedures, for each seed with which neither diverged."""
        others = {cell.key.seed: cell for cell in self.of(data, other, support)}
        for cell in self.of(data, one, support):
            if cell.key.seed in others:
                yield cell, others[cell.key.seed]

    def _sign(self, data: str) -> int:
        return 1 if self.judged_by(data) in MORE_IS_BETTER else -1


def _adjusted(findings: list[Finding], declared: int) -> list[Finding]:
    """Return them with Holm's p-values, among all that were declared: one that was not run yet counts as 1."""
    values = statistics.holm([each.p for each in findings] + [1.0] * (declared - len(findings)))
    return [Finding(**{**vars(each), "adjusted": value}) for each, value in zip(findings, values, strict=False)]


def _matrix(cells: Sequence[Measured], measure: str) -> np.ndarray:
    """Return a measure of the pool's clients, shape [seeds, clients]."""
    # Where examples are looked at one by one, each seed has others in its query sets.
    names = list(dict.fromkeys(name for cell in cells for name in cell.clients[measure]))
    return np.array([[cell.clients[measure].get(name, np.nan) for name in names] for cell in cells])


def _cells(table: Table) -> dict[Key, Measured]:
    found: dict[Key, Measured] = {}
    columns = table.columns()
    names = ("data", "procedure", "support", "seed", "algorithm", "judged_by", "client", "round", "step", "measure")
    for *which, algorithm, judged, client, round_, step, measure, value in zip(
        *(columns.get(name, []) for name in (*names, "value")), strict=True
    ):
        key = Key(*which)
        cell = found.setdefault(key, Measured(key, algorithm, judged))
        if client is not None:
            cell.clients.setdefault(measure, {})[client] = value
        elif round_ is not None:
            cell.rounds.setdefault(measure, {})[round_] = value
        elif step is not None:
            cell.steps.setdefault(measure, {})[step] = value
        else:
            cell.totals[measure] = value
    return found
