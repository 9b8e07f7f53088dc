"""How much a client adapts: the rate, the steps, and which part of the network, chosen on validation clients."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from fedmeta import pytrees
from fedmeta.algorithms import Algorithm, FedPer, PerFedAvg
from fedmeta.algorithms.algorithm import InnerDescent, Phi, SharedInitialisation
from fedmeta.algorithms.meta_sgd import MetaSGD
from fedmeta.errors import UsageError
from fedmeta.evaluation.scores import Report
from fedmeta.model import Model

PARTS = ("all", "head")
"""What adapts: what the algorithm itself lets adapt, or the network's head alone."""

Ask = Callable[[Algorithm, Phi], Report]
"""Tests validation clients, with a curve over the steps."""


@dataclass(frozen=True, kw_only=True)
class Doses:
    """The doses that are tried.

    Args:
        rates: factors of the rate with which clients adapt in training.
        steps: the most steps; each number of steps from none on is tried.
        parts: of `PARTS`.

    Raises:
        UsageError: a value is out of range.
    """

    rates: tuple[float, ...] = (1.0,)
    steps: int = 10
    parts: tuple[str, ...] = ("all",)

    def __post_init__(self):
        if not self.rates or not all(rate > 0 for rate in self.rates):
            raise UsageError(f"the rates of a dose are factors above 0, not {list(self.rates)}")
        if self.steps < 1:
            raise UsageError(f"the steps of a dose are at least 1, not {self.steps}")
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise UsageError(f"the parts of a dose are of {', '.join(PARTS)}, not {list(self.parts)}")


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One dose.

    Args:
        rate: a factor of the rate with which clients adapt in training.
        steps: how many steps; none where it is 0.
        part: of `PARTS`.
    """

    rate: float
    steps: int
    part: str

    def of(self, algorithm: Algorithm, model: Model, phi: Phi) -> tuple[Algorithm, Phi]:
        """Return the algorithm that adapts so, and its phi.

        Gradient descent at a rate is Meta-SGD with this rate everywhere. So the rate is a part of phi, and all rates
        are one compiled program.
        """
        if isinstance(algorithm, PerFedAvg):
            inside, phi = self.of(algorithm.of, model, phi)
            return replace(algorithm, of=inside), phi
        assert isinstance(algorithm, InnerDescent)
        told: dict[str, Any] = {"adapt_steps": self.steps, "adapt_epochs": None}
        if isinstance(algorithm, MetaSGD):
            return replace(algorithm, **told), {**phi, "inner_lr": self._rates(phi["inner_lr"], model)}
        patterns = model.head if self.part == "head" else algorithm.patterns(model)
        if isinstance(algorithm, SharedInitialisation) and algorithm.inner is None:
            rate = np.float32(self.rate * (algorithm.adapt_lr or algorithm.inner_lr))
            moving, _ = pytrees.split(phi, patterns)
            rates = jax.tree.map(lambda leaf: rate.astype(leaf.dtype), moving)
            descent = MetaSGD(
                rates="layer",
                adapt_steps=self.steps,
                inner_batch_size=algorithm.inner_batch_size,
                adaptable=patterns,
            )
            return descent, {"params": phi, "inner_lr": rates}
        if isinstance(algorithm, FedPer) and algorithm.inner is None:
            told["adapt_lr"] = self.rate * (algorithm.adapt_lr or algorithm.inner_lr)
        if self.part == "head":
            told["adaptable"] = patterns
        return replace(algorithm, **told), phi

    def _rates(self, rates: Any, model: Model) -> Any:
        """Return Meta-SGD's rates, times the factor, and 0 where nothing adapts."""
        rates = jax.tree.map(lambda rate: rate * np.float32(self.rate), rates)
        if self.part == "all":
            return rates
        head, body = pytrees.split(rates, model.head)
        return pytrees.join(head, jax.tree.map(lambda rate: rate * 0, body))


def possible(algorithm: Algorithm, doses: Doses, model: Model) -> Iterator[tuple[float, str]]:
    """Yield the rates and parts that an algorithm can be tried with; none where it does not adapt.

    An algorithm whose clients descend with an optimiser of the user's has its own rate alone. The head is one of the
    parts where the network names it and more than it adapts.
    """
    inside = algorithm.of if isinstance(algorithm, PerFedAvg) else algorithm
    if not algorithm.adapts or not isinstance(inside, InnerDescent):
        return
    settled = inside.inner is not None and not isinstance(inside, MetaSGD)
    rates = (1.0,) if settled else doses.rates
    own = inside.patterns(model)
    parts = [part for part in doses.parts if part == "all" or (model.head is not None and own is None)]
    yield from itertools.product(rates, parts)


def choose(algorithm: Algorithm, model: Model, phi: Phi, doses: Doses, ask: Ask, figure: Any) -> dict[Dose, float]:
    """Return by dose what validation clients give, the best one first: the fewest steps of several that are best.

    Args:
        algorithm: which was trained.
        model: its network.
        phi: the trained phi.
        doses: what is tried.
        ask: tests the validation clients.
        figure: of scores, larger where they are better.
    """
    found: dict[Dose, float] = {}
    for rate, part in possible(algorithm, doses, model):
        longest = Dose(rate=rate, steps=doses.steps, part=part)
        report = ask(*longest.of(algorithm, model, phi))
        for steps, scores in enumerate(report.steps):
            value = float(figure(scores.pooled))
            found[Dose(rate=rate, steps=steps, part=part)] = value if np.isfinite(value) else -np.inf
    order = sorted(found, key=lambda dose: (-found[dose], dose.steps, abs(np.log(dose.rate)), PARTS.index(dose.part)))
    return {dose: found[dose] for dose in order}
