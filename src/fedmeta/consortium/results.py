"""What a comparison found, as values that JSON can hold and that a report shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmeta.consortium.scores import Interval

Kind = Literal["alone", "pooled", "federated"]
"""Whether a method needs nobody, everybody's patients in one place, or a federation."""

Figures = Mapping[str, Interval]
"""By metric, the estimate and its interval."""


@dataclass(frozen=True)
class Row:
    """What one method gives.

    Args:
        name: of the method, such as "meta-sgd".
        title: for people.
        kind: see `Kind`.
        about: what it is, in a few words.
        hospitals: its figures at each hospital.
        mean: the mean of the hospitals, each counting the same.
        ahead: by reference, what it is ahead of it at each hospital, and in the mean under "mean".
    """

    name: str
    title: str
    kind: Kind
    about: str
    hospitals: Mapping[str, Figures]
    mean: Figures
    ahead: Mapping[str, Mapping[str, Figures]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Methods that were tested on the same patients.

    Args:
        rows: a row for each method.
        reference: the method that the others are set against: the most accurate of those that need nobody, or "alone".
        tested: how many patients each hospital is tested on in a split.
    """

    rows: tuple[Row, ...]
    reference: str
    tested: Mapping[str, int]

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Goal:
    """A goal, and whether it was met.

    Args:
        text: the goal.
        met: whether it was.
        found: the figures, in words.
    """

    text: str
    met: bool
    found: str


@dataclass(frozen=True)
class Described:
    """A hospital in a report.

    Args:
        name: in tables.
        title: for people.
        patients: how many.
        ill: how many of them are ill.
        gaps: how many have no value, by column.
    """

    name: str
    title: str
    patients: int
    ill: int
    gaps: Mapping[str, int]


@dataclass(frozen=True)
class PlantedCase:
    """What a contributor that is planted beside the hospitals is paid; shares of the contributors' pool, 0 to 1.

    Args:
        name: of the case, such as "last-step".
        title: for people: what it sends.
        kind: "honest", "free-rider", "poisoner" or "copy".
        paid: its share, by the scores that seats measure.
        shapley: what it would be by exact Shapley values of the updates as they are.
        left_out: what it would be by leave-one-out.
        hospitals: each hospital's share in the same rounds.
        least: the hospital with the smallest one.
        ahead: the contributor's share above that hospital's.
        ahead_in: in how many seeds its share was above that of the hospital that was paid least in that seed.
        than_honest: its share above what it has if it is honest, on the same patients and by the same seeds.
    """

    name: str
    title: str
    kind: str
    paid: Interval
    shapley: Interval
    left_out: Interval
    hospitals: Mapping[str, Interval]
    least: str
    ahead: Interval
    ahead_in: int
    than_honest: Interval

    @property
    def beside(self) -> float:
        """What a hospital beside it has, on average."""
        return sum(one.value for one in self.hospitals.values()) / len(self.hospitals)


@dataclass(frozen=True)
class Planted:
    """What planted contributors are paid, each in rounds of its own, with intervals over seeds.

    Args:
        algorithm: what was trained, the name for people.
        rounds: how many, by each seed.
        seeds: how many; each has another initial model, other patients held out, and other draws.
        cases: the contributors.
        unpaid: the share of all rounds in which nobody was paid for an update.
        smallest: the smallest share that a hospital had over the rounds of a seed.
    """

    algorithm: str
    rounds: int
    seeds: int
    cases: tuple[PlantedCase, ...]
    unpaid: float
    smallest: float

    def __getitem__(self, name: str) -> PlantedCase:
        return next(one for one in self.cases if one.name == name)


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Args:
        hospitals: who they are.
        source: where the patients come from.
        warning: what must be said loudly; empty where there is nothing.
        members: the four together, each tested on patients that did not train.
        newcomer: by the number of its patients, each hospital in turn as a newcomer.
        goals: what was to be shown.
        settings: splits, seeds and draws, by name.
        flamby: the members on the patients of FLamby's protocol, if they are real.
        planted: what contributors are paid that are planted beside the hospitals, if that was measured.
        seconds: of processor time that it took.
    """

    hospitals: tuple[Described, ...]
    source: str
    warning: str
    members: Table
    newcomer: Mapping[int, Table]
    goals: tuple[Goal, ...]
    settings: Mapping[str, int]
    flamby: Table | None = None
    planted: Planted | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; a figure that is not defined is None."""
        return _plain(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Comparison":
        """Return what `to_dict` gave, also after a way through JSON."""
        return cls(
            **{
                **content,
                "hospitals": tuple(Described(**one) for one in content["hospitals"]),
                "members": _table(content["members"]),
                "newcomer": {int(size): _table(one) for size, one in content["newcomer"].items()},
                "goals": tuple(Goal(**one) for one in content["goals"]),
                "flamby": None if content["flamby"] is None else _table(content["flamby"]),
                "planted": None if content["planted"] is None else _planted(content["planted"]),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _plain(vars(value)) if hasattr(value, "__dataclass_fields__") else value


def _table(content: Mapping[str, Any]) -> Table:
    rows = []
    for row in content["rows"]:
        ahead = {name: _by_place(one) for name, one in row["ahead"].items()}
        hospitals = _by_place(row["hospitals"])
        rows.append(Row(**{**row, "hospitals": hospitals, "ahead": ahead, "mean": _figures(row["mean"])}))
    return Table(tuple(rows), content["reference"], content["tested"])


def _planted(content: Mapping[str, Any]) -> Planted:
    figures = ("paid", "shapley", "left_out", "ahead", "than_honest")
    cases = [
        PlantedCase(
            **{**one, **_figures({name: one[name] for name in figures}), "hospitals": _figures(one["hospitals"])}
        )
        for one in content["cases"]
    ]
    return Planted(**{**content, "cases": tuple(cases)})


def _by_place(content: Mapping[str, Any]) -> dict[str, Figures]:
    return {place: _figures(one) for place, one in content.items()}


def _figures(content: Mapping[str, Any]) -> Figures:
    return {name: Interval(*(math.nan if one is None else one for one in three)) for name, three in content.items()}
