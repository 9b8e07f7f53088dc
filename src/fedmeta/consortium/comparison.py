"""Who gains what: each hospital alone, all pooled, and each algorithm, for members and for a newcomer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from fedmeta import random
from fedmeta._extras import need_extra
from fedmeta.consortium import hospitals as sets
from fedmeta.consortium import logistic
from fedmeta.consortium.goals import goals
from fedmeta.consortium.hospitals import Hospitals
from fedmeta.consortium.methods import ALONE, MEMBER, NEWCOMER, TITLES, Setting, Trained, own_steps
from fedmeta.consortium.results import Comparison, Described, Kind, Row, Table
from fedmeta.consortium.scores import CENTRED, METRICS, Replicates, draws, figures
from fedmeta.consortium.side_by_side import Run
from fedmeta.errors import UsageError

SIZES = (5, 10, 20, 40)
"""How many of its patients a newcomer adapts on."""

TEST = 1 / 3
"""The share of a member's patients that is tested on."""

FLAMBY_TEST = 0.34
PLANTED = 4
"""Seeds of planted contributors: each hospital's patients are once behind the one that is planted."""

SEEDS = 5
"""How often the other three hospitals train; a newcomer's draws take turns."""

Progress = Callable[[str], None]


class Method(NamedTuple):
    """A method's place in a table."""

    title: str
    kind: Kind
    about: str


METHODS: dict[str, Method] = {
    "majority": Method("More frequent class", "alone", "the same answer to all: what more of its own patients are"),
    "alone": Method("Alone", "alone", "logistic regression on its own patients; penalty by cross-validation"),
    "alone-plain": Method("Alone, C = 1", "alone", "the same with the usual penalty; better with few patients"),
    "alone-network": Method("Alone, same network", "alone", "descends as in the federation, but from zero"),
    "pooled": Method("All pooled", "pooled", "one regression on everybody's patients, which nobody may have"),
    "pooled-marked": Method("All pooled, marked", "pooled", "the same, and it knows the hospital: the bound"),
    "others": Method("Other three pooled", "pooled", "one regression on the others' patients, as it is"),
    "fedavg": Method("FedAvg", "federated", "one model for all"),
    "fedavg-meta": Method("FedAvg(Meta)", "federated", "that model, adapted by each"),
    "maml": Method("MAML", "federated", "a starting point, adapted by each"),
    "meta-sgd": Method("Meta-SGD", "federated", "a starting point and rates, adapted by each"),
    "per-fedavg": Method("PerFedAvg", "federated", "a starting point by several local steps, adapted by each"),
}

OF_MEMBERS = tuple(name for name in METHODS if name not in ("alone-plain", "others"))
OF_NEWCOMERS = tuple(name for name in METHODS if not name.startswith("pooled") and name != "alone-network")
OF_FLAMBY = ("alone", "pooled", "fedavg", "fedavg-meta", "maml", "meta-sgd")


@dataclass(frozen=True, eq=False)
class Patients:
    """All hospitals' patients end to end.

    Args:
        names: the hospitals.
        x: what a network is given, shape [patients, 15].
        scaled: the same, clipped and scaled by the public ranges.
        y: whether each is ill, shape [patients].
        rows: each hospital's rows.
    """

    names: tuple[str, ...]
    x: np.ndarray
    scaled: np.ndarray
    y: np.ndarray
    rows: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, found: Hospitals) -> "Patients":
        """Return the patients of these hospitals."""
        x = np.concatenate([one.x for one in found])
        first = np.cumsum([0, *(len(one) for one in found)])
        rows = {one.name: first[place] + np.arange(len(one)) for place, one in enumerate(found)}
        return cls(found.names, x, sets.scaled(x), np.concatenate([one.y for one in found]), rows)

    def regression(self, train: np.ndarray, test: np.ndarray, seed: int, extra: np.ndarray | None = None) -> np.ndarray:
        """Return what a cross-validated regression on some rows gives for others; `extra` are more columns."""
        x = self.scaled if extra is None else np.concatenate([self.scaled, extra], axis=1)
        return logistic.alone(x[train], self.y[train], x[test], seed)

    @property
    def marks(self) -> np.ndarray:
        """A column for each hospital that says whose patient it is."""
        marks = np.zeros((len(self.y), len(self.names)))
        for place, rows in enumerate(self.rows.values()):
            marks[rows, place] = 1
        return marks


class Case(NamedTuple):
    """A hospital that is tested once: in split `number`, on `test`, having the patients `own`."""

    hospital: str
    number: int
    own: np.ndarray
    test: np.ndarray


Predicted = dict[str, list[np.ndarray]]
"""By method, for each case the probability of being ill for each patient of its test."""


class Tested(NamedTuple):
    """Cases, and what each method answers them."""

    cases: tuple[Case, ...]
    predicted: Predicted


def members(
    found: Hospitals,
    splits: int,
    seed: int,
    bootstrap: int,
    methods: Sequence[str] = OF_MEMBERS,
    share: float = TEST,
    progress: Progress = lambda text: None,
) -> Table:
    """Return what each method gives the hospitals that train together, on patients that did not train.

    Args:
        found: the hospitals.
        splits: how many splits into patients to train and to test on.
        seed: of every draw.
        bootstrap: how many draws an interval has.
        methods: which, of `METHODS`.
        share: of the patients, that is tested on.
        progress: is told what is done.
    """
    patients = Patients.of(found)
    parts = {one.name: sets.splits(one, splits, seed, share) for one in found}
    tested = member_answers(patients, parts, seed, methods, progress)
    return _table(patients, tested, bootstrap, seed, "alone")


def member_answers(
    patients: Patients,
    parts: Mapping[str, Sequence[sets.Split]],
    seed: int,
    methods: Sequence[str],
    progress: Progress,
) -> Tested:
    """Return what each method answers each hospital in each split; see `members`."""
    count = len(next(iter(parts.values())))
    cases = tuple(
        Case(name, number, rows[parts[name][number].train], rows[parts[name][number].test])
        for name, rows in patients.rows.items()
        for number in range(count)
    )
    runs = [
        Run(number, {name: rows[parts[name][number].train] for name, rows in patients.rows.items()})
        for number in range(count)
    ]
    trained = Trained(patients.x, patients.y, runs)
    progress("regressions")
    predicted = _without_others(patients, cases, methods, seed)
    for name, extra in (("pooled", None), ("pooled-marked", patients.marks)):
        if name in methods:
            everyone = [np.concatenate(list(run.clients.values())) for run in runs]
            predicted[name] = [patients.regression(everyone[one.number], one.test, seed, extra) for one in cases]
    which = [one.number for one in cases]
    if "alone-network" in methods:
        steps = own_steps(trained, ALONE, [one.own for one in cases], which, None)
        predicted["alone-network"] = _adapted(trained, ALONE, cases, which, steps)
    for name in (one for one in TITLES if one in methods):
        progress(TITLES[name])
        predicted[name] = _by_setting(trained, MEMBER[name], cases, which)
    return Tested(cases, {name: predicted[name] for name in methods})


def newcomers(
    found: Hospitals,
    draws: int,
    seed: int,
    bootstrap: int,
    methods: Sequence[str] = OF_NEWCOMERS,
    progress: Progress = lambda text: None,
) -> dict[int, Table]:
    """Return by the number of its patients what each method gives a hospital that joins later.

    Each hospital in turn takes no part in training. It adapts on the first of its patients in a random order, and is
    tested on those that come after the largest number; they are the same for all methods and numbers.

    Args:
        found: the hospitals.
        draws: how many orders.
        seed: of every draw.
        bootstrap: how many draws an interval has.
        methods: which, of `METHODS`.
        progress: is told what is done.

    Raises:
        UsageError: a hospital has too few patients to be tested.
    """
    for one in found:
        if len(one) <= max(SIZES) + 1:
            raise UsageError(f"{one.title} has {len(one)} patients; a newcomer needs more than {max(SIZES) + 1}")
    patients, tables = Patients.of(found), {}
    for size, tested in newcomer_answers(patients, draws, seed, methods, progress).items():
        progress(f"intervals for {size} patients")
        tables[size] = _table(patients, tested, bootstrap, seed, None)
    return tables


def newcomer_answers(
    patients: Patients, draws: int, seed: int, methods: Sequence[str], progress: Progress
) -> dict[int, Tested]:
    """Return by the number of its patients what each method answers each newcomer; see `newcomers`."""
    others = {held: {name: rows for name, rows in patients.rows.items() if name != held} for held in patients.names}
    seeds = min(SEEDS, draws)
    runs = [Run(number, others[held]) for held in patients.names for number in range(seeds)]
    trained = Trained(patients.x, patients.y, runs)
    cases: dict[int, list[Case]] = {size: [] for size in SIZES}
    which = []
    for place, (held, rows) in enumerate(patients.rows.items()):
        for number in range(draws):
            order = random.generator(seed, "patients of a newcomer", number, held).permutation(rows)
            which.append(place * seeds + number % seeds)
            for size in SIZES:
                cases[size].append(Case(held, number, order[:size], np.sort(order[max(SIZES) :])))
    progress("regressions")
    predicted = {size: _without_others(patients, cases[size], methods, seed) for size in SIZES}
    if "others" in methods:
        for held, rows in patients.rows.items():
            answers = patients.regression(np.concatenate(list(others[held].values())), rows, seed)
            for size in SIZES:
                own = [answers[one.test - rows[0]] for one in cases[size] if one.hospital == held]
                predicted[size].setdefault("others", []).extend(own)
    every, starts = [one for size in SIZES for one in cases[size]], which * len(SIZES)
    for name in (one for one in TITLES if one in methods):
        progress(TITLES[name])
        answers = _by_setting(trained, NEWCOMER[name], every, starts)
        for place, size in enumerate(SIZES):
            predicted[size][name] = answers[place * len(which) :][: len(which)]
    return {size: Tested(tuple(cases[size]), {name: predicted[size][name] for name in methods}) for size in SIZES}


def compare(
    found: Hospitals,
    splits: int,
    seed: int,
    bootstrap: int,
    progress: Progress = lambda text: None,
    of_members: Sequence[str] = OF_MEMBERS,
    of_newcomers: Sequence[str] = OF_NEWCOMERS,
    planted_seeds: int = PLANTED,
) -> Comparison:
    """Return the whole comparison.

    Args:
        found: the hospitals.
        splits: how many splits of each member's patients; a newcomer's patients are drawn twice as often.
        seed: of every draw.
        bootstrap: how many draws an interval has.
        progress: is told what is done.
        of_members: the methods for members, of `METHODS`; "alone" and "meta-sgd" among them.
        of_newcomers: those for newcomers; "alone", "others" and "meta-sgd" among them.
        planted_seeds: by how many seeds planted contributors are paid; 0 leaves them out.
    """
    begun = time.process_time()
    four = members(found, splits, seed, bootstrap, of_members, TEST, lambda text: progress(f"members: {text}"))
    joining = newcomers(found, 2 * splits, seed, bootstrap, of_newcomers, lambda text: progress(f"newcomer: {text}"))
    flamby = None
    if not found.stand_in:
        flamby = members(
            found.complete, splits, seed, bootstrap, OF_FLAMBY, FLAMBY_TEST, lambda text: progress(f"FLamby: {text}")
        )
    planted = None
    if planted_seeds:
        need_extra("ledger", "what planted contributors are paid")
        from fedmeta.consortium.planted import measured

        planted = measured.measure(found, planted_seeds, seed, lambda text: progress(f"planted: {text}"))
    return Comparison(
        hospitals=tuple(Described(one.name, one.title, len(one), int(one.y.sum()), one.gaps) for one in found),
        source=found.source,
        warning=found.warning,
        members=four,
        newcomer=joining,
        goals=goals({one.name: one.title for one in found}, four, joining[10]),
        settings={"splits": splits, "draws": 2 * splits, "bootstrap": bootstrap, "seed": seed},
        flamby=flamby,
        planted=planted,
        seconds=time.process_time() - begun,
    )


def _without_others(patients: Patients, cases: Sequence[Case], methods: Sequence[str], seed: int) -> Predicted:
    """Return what each case can do with its own patients alone."""
    found: Predicted = {}
    for one in cases:
        x, y, asked = patients.scaled[one.own], patients.y[one.own], patients.scaled[one.test]
        if "majority" in methods:
            found.setdefault("majority", []).append(np.full(len(one.test), logistic.share(y)))
        if "alone" in methods:
            found.setdefault("alone", []).append(logistic.alone(x, y, asked, seed))
        if "alone-plain" in methods:
            found.setdefault("alone-plain", []).append(logistic.alone(x, y, asked, strength=1.0))
    return found


def _by_setting(
    trained: Trained, settings: Mapping[str, Setting], cases: Sequence[Case], which: Sequence[int]
) -> list[np.ndarray]:
    """Return a method's probabilities for each case.

    Each case trains by the setting that was chosen without its hospital, and chooses the steps of its adaptation on its
    own patients.

    Args:
        trained: the runs.
        settings: by hospital.
        cases: the cases.
        which: the run from which each starts.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(cases)
    for setting in dict.fromkeys(settings.values()):
        places = [place for place, one in enumerate(cases) if settings[one.hospital] == setting]
        some, starts = [cases[place] for place in places], [which[place] for place in places]
        if setting.name == "fedavg":
            steps = np.zeros(len(some), int)
        else:
            steps = own_steps(trained, setting, [one.own for one in some], starts, setting.adapt)
        for place, answer in zip(places, _adapted(trained, setting, some, starts, steps), strict=True):
            found[place] = answer
    return found


def _adapted(
    trained: Trained, setting: Setting, cases: Sequence[Case], which: Sequence[int], steps: np.ndarray
) -> list[np.ndarray]:
    every = trained.adapted(setting, [one.own for one in cases], list(which))
    params = jax.tree.map(lambda leaf: leaf[np.arange(len(cases)), steps][:, None], every)
    odds = trained.odds(setting, params, [one.test for one in cases])
    return [1 / (1 + np.exp(-one[0])) for one in odds]


def _table(patients: Patients, answered: Tested, bootstrap: int, seed: int, reference: str | None) -> Table:
    """Return the figures of all methods with their intervals.

    The same bootstrap draws, of patients and of splits, are used for all methods, so that differences are of pairs.

    Args:
        patients: all of them.
        answered: what was answered.
        bootstrap: how many draws.
        seed: of the draws.
        reference: what the others are set against; by default what is most accurate of those that need nobody.
    """
    cases, predicted = answered
    found = {name: {} for name in predicted}
    tested = {}
    for hospital, rows in patients.rows.items():
        places = [place for place, one in enumerate(cases) if one.hospital == hospital]
        weights = draws(bootstrap, len(rows), seed, hospital)
        times = draws(bootstrap, len(places), seed, f"splits of {hospital}")
        tests = [cases[place].test for place in places]
        tested[hospital] = len(tests[0])
        for name, answers in predicted.items():
            parts = [
                figures(answers[place], patients.y[test], weights[:, test - rows[0]])
                for place, test in zip(places, tests, strict=True)
            ]
            own = {
                metric: Replicates.over(np.stack([part[metric] for part in parts], axis=1), times) for metric in METRICS
            }
            found[name][hospital] = own | {metric: own[metric].centred for metric in CENTRED}
    for own in found.values():
        own["mean"] = {metric: Replicates.mean([own[place][metric] for place in patients.rows]) for metric in METRICS}
    if reference is None:
        accuracy = {name: own["mean"]["accuracy"].values[0] for name, own in found.items()}
        reference = max((name for name in found if METHODS[name].kind == "alone"), key=lambda name: accuracy[name])
    references = [name for name in (reference, "others") if name in found]
    rows = []
    for name, own in found.items():
        shown = {place: {metric: one.interval for metric, one in some.items()} for place, some in own.items()}
        ahead = {
            other: {
                place: {metric: (one - found[other][place][metric]).interval for metric, one in some.items()}
                for place, some in own.items()
            }
            for other in references
        }
        mean = shown.pop("mean")
        rows.append(Row(name, *METHODS[name], hospitals=shown, mean=mean, ahead=ahead))
    return Table(tuple(rows), reference, tested)
