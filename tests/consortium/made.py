"""A comparison and a federation's part that are made up, for tests of reports."""

import math

from fedmeta.consortium.comparison import METHODS, OF_FLAMBY, OF_MEMBERS, OF_NEWCOMERS, SIZES
from fedmeta.consortium.federation import Fault, FederationPart, Payment, Phase, Round, Sent
from fedmeta.consortium.goals import goals
from fedmeta.consortium.hospitals import TITLES
from fedmeta.consortium.planted.cases import CASES
from fedmeta.consortium.planted.measured import REPORTED
from fedmeta.consortium.results import Comparison, Described, Planted, PlantedCase, Row, Table
from fedmeta.consortium.scores import METRICS, Interval

NONE = Interval(math.nan, math.nan, math.nan)


def row(name, value, references, hospitals=TITLES, ahead=0.0):
    """Return a row all of whose figures are one value, and all of whose differences another."""

    def some(one):
        return {metric: Interval(one, one - 0.02, one + 0.02) for metric in METRICS}

    differences = {other: {place: some(ahead) for place in (*hospitals, "mean")} for other in references}
    return Row(name, *METHODS[name], {place: some(value) for place in hospitals}, some(value), differences)


def comparison(warning="", titles=TITLES, ahead=0.05, below=0.0, flamby=True):
    """Return a comparison in which each algorithm is so far ahead of alone, and of the other three pooled."""
    members = Table(tuple(row(name, 0.8, ("alone",), titles, below) for name in OF_MEMBERS), "alone", _tested(titles))
    newcomer = {
        size: Table(
            tuple(row(name, 0.75, ("alone", "others"), titles, ahead) for name in OF_NEWCOMERS),
            "alone",
            _tested(titles),
        )
        for size in SIZES
    }
    hospitals = tuple(
        Described(name, title, 123, 115, {"cholesterol": 123, "resting_ecg": 2}) for name, title in titles.items()
    )
    return Comparison(
        hospitals=hospitals,
        source="made up",
        warning=warning,
        members=members,
        newcomer=newcomer,
        goals=goals(titles, members, newcomer[10]),
        settings={"splits": 10, "draws": 20, "bootstrap": 400, "seed": 0},
        flamby=Table(tuple(row(name, 0.8, (), titles) for name in OF_FLAMBY), "alone", _tested(titles))
        if flamby
        else None,
        planted=planted(titles),
        seconds=12.0,
    )


def planted(titles=TITLES, ahead=-0.05, than_honest=-0.01, ahead_in=0):
    """Return what planted contributors are paid, all of them alike, and so far ahead."""

    def case(name):
        share = Interval(0.06, 0.04, 0.08)
        return PlantedCase(
            name=name,
            title=CASES[name].title,
            kind=CASES[name].kind,
            paid=share,
            shapley=Interval(0.21, 0.19, 0.23),
            left_out=Interval(0.16, 0.13, 0.19),
            hospitals={one: Interval(0.15, 0.12, 0.18) for one in titles},
            least="zurich",
            ahead=Interval(ahead, ahead - 0.02, ahead + 0.02),
            ahead_in=ahead_in,
            than_honest=Interval(than_honest, than_honest - 0.02, than_honest + 0.02),
        )

    return Planted("Meta-SGD", 12, 4, tuple(case(name) for name in REPORTED), 0.045, 0.011)


def _tested(titles):
    return dict.fromkeys(titles, 41)


def federation(hostile=""):
    """Return what a federation did, with some text in all places that hold text."""
    names = (*TITLES, hostile) if hostile else tuple(TITLES)
    phases = tuple(Phase(name, 1.5, 3) for name in ("commit", "deliver", "compute", "reveal"))
    return FederationPart(
        algorithm=f"Meta-SGD{hostile}",
        rounds=(
            Round(1, "final", phases, names, (), (), names, 1, "ab" * 32),
            Round(2, "void", phases, (), names[:1], names[1:2], names, 3, "", f"note{hostile}"),
        ),
        payments=tuple(Payment(name, 1_234, 400, 7) for name in names),
        explained=f"round 1: paid{hostile}",
        explained_title=f"Cleveland{hostile}",
        sent=tuple(
            Sent(name, 31, 123_456, {f"sealed{hostile}": 123_456}, wire, agrees, f"n{hostile}")
            for name, (wire, agrees) in zip(
                names, [(150_000, True), (150_001, False), *[(None, None)] * 9], strict=False
            )
        ),
        faults=(Fault(2, names[-1], f"killed{hostile}", f"came back{hostile}"),),
        seconds=93.0,
        note=f"By users of their own.{hostile}",
    )
