"""What planted contributors are paid in the federation that the demonstration runs, with intervals over seeds."""

from collections.abc import Callable, Sequence

import numpy as np

from fedmeta.consortium import methods
from fedmeta.consortium.hospitals import Hospitals
from fedmeta.consortium.planted.cases import CASES
from fedmeta.consortium.planted.payments import RULES, paid
from fedmeta.consortium.planted.rounds import Scene, play
from fedmeta.consortium.results import Planted, PlantedCase
from fedmeta.consortium.scores import Interval
from fedmeta.evaluation.figures import Difference

HONEST = "honest"
"""The case that others are set against."""

REPORTED = (
    HONEST,
    "zeros",
    "noise",
    "long-noise",
    "last-step",
    "last-five",
    "older-steps",
    "others-recent",
    "others-older",
    "sign-flip",
    "scaling",
    "label-flip",
    "shuffled",
    "duplicate",
)
"""The cases of a report; `benchmarks/contribution.py` has all."""

ROUNDS = 12


def measure(
    found: Hospitals,
    seeds: int,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    cases: Sequence[str] = REPORTED,
    rounds: int = ROUNDS,
) -> Planted:
    """Return what each planted contributor is paid.

    Args:
        found: the hospitals.
        seeds: how many times each case is played.
        seed: of every draw.
        progress: is told what is done.
        cases: which, of `CASES`; "honest" among them.
        rounds: how many, each time.

    Raises:
        UsageError: a hospital has too few patients to hold some out.
    """
    procedure = methods.procedure(members=len(found) + 1)
    shares: dict[str, dict[str, list[np.ndarray]]] = {case: {rule: [] for rule in RULES} for case in cases}
    for number in range(seeds):
        progress(f"seed {number + 1} of {seeds}")
        scene = Scene(found, procedure, seeds * seed + number)
        for case in cases:
            played = play(scene, case, rounds)
            for name, rule in RULES.items():
                shares[case][name].append(paid(played, rule).shares)
    by_node = np.array([shares[case]["node"] for case in cases])
    honest = np.array(shares[HONEST]["node"]).mean(1)[:, -1]
    return Planted(
        algorithm=procedure.algorithm.title,
        rounds=rounds,
        seeds=seeds,
        cases=tuple(
            _case(case, found.names, {rule: np.array(some).mean(1) for rule, some in of.items()}, honest)
            for case, of in shares.items()
        ),
        unpaid=float((by_node.sum(-1) == 0).mean()),
        smallest=float(by_node.mean(2)[..., :-1].min()),
    )


def _case(name: str, hospitals: Sequence[str], shares: dict[str, np.ndarray], honest: np.ndarray) -> PlantedCase:
    """Return the figures of a case.

    Args:
        name: of the case.
        hospitals: their names.
        shares: by rule, the shares of all rounds together, shape [seeds, updates]; the planted one is the last.
        honest: what the contributor has if it is honest, shape [seeds].
    """
    own = shares["node"][:, -1]
    each = dict(zip(hospitals, shares["node"].T, strict=False))
    least = min(each, key=lambda one: each[one].mean())
    return PlantedCase(
        name=name,
        title=CASES[name].title,
        kind=CASES[name].kind,
        paid=_share(own),
        shapley=_share(shares["exact Shapley"][:, -1]),
        left_out=_share(shares["leave-one-out"][:, -1]),
        hospitals={one: _share(some) for one, some in each.items()},
        least=least,
        ahead=_interval(own - each[least]),
        ahead_in=int((own > shares["node"][:, :-1].min(1)).sum()),
        than_honest=_interval(own - honest),
    )


def _interval(values: np.ndarray) -> Interval:
    found = Difference.of(values)
    return Interval(found.mean, found.low, found.high)


def _share(values: np.ndarray) -> Interval:
    """Return the mean and its interval, of what cannot be below 0 or above 1."""
    found = _interval(values)
    return Interval(found.value, *(float(np.clip(end, 0.0, 1.0)) for end in found[1:]))
