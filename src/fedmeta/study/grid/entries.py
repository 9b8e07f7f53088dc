"""What a study declares of one data set: what is tried on it, and what is claimed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmeta.errors import UsageError
from fedmeta.study.dose import Doses
from fedmeta.study.grid import procedures
from fedmeta.study.grid.procedures import Spec
from fedmeta.study.recipe import Recipe

OVER = ("clients", "examples")
"""What intervals and tests are over: of few clients, their examples, such as the patients of one hospital."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How settings are chosen on validation clients.

    Args:
        tflops: 10^12 floating-point operations of training that each algorithm has, on one data set.
        floor: the share of the rounds after which candidates are dropped at the earliest.
        seed: of the deal, of training and validation clients and of the runs; one that no cell has.

    Raises:
        UsageError: a value is out of range.
    """

    tflops: float
    floor: float = 0.25
    seed: int = 1_000_000

    def __post_init__(self):
        if not 0 < self.tflops < math.inf:
            raise UsageError(f"tflops must be a number above 0, not {self.tflops:g}")
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, not {self.seed}")
        if not 0 < self.floor <= 1:
            raise UsageError(f"floor is a share of the rounds, above 0 and at most 1, not {self.floor:g}")


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
        pool: the names of the test clients; none where they are drawn.
        over: of `OVER`, what intervals and tests are over.
        fractions: of the clients, for training, validation and the pool.
        supports: the fractions of a client's examples that it adapts on, in training and in the test.
        evaluate_at: how many examples test clients adapt on, where one model is tested with several numbers of them;
            none where the fraction counts in the test too.
        doses: how much clients may adapt in the test; as in training where it is not given.
        tuning: how settings are chosen; not at all where it is not given.
        targets: values of the validation curve, whose time is told.
        comparisons: those that are declared.
        compare_at: the support at which they are made.
        smallest_effect: below which a difference does not matter, in the units of what is measured.
        procedures: by name.
    """

    name: str
    source: str
    chosen: Mapping[str, Any]
    deal: tuple[Mapping[str, Any], ...]
    pool_seed: int
    pool: tuple[str, ...]
    over: str
    fractions: tuple[float, ...] | None
    supports: tuple[float, ...]
    evaluate_at: tuple[int, ...]
    doses: Doses | None
    tuning: Tuning | None
    targets: tuple[float, ...]
    comparisons: tuple[Declared, ...]
    compare_at: float
    smallest_effect: float
    procedures: Mapping[str, Spec]

    def recipe(
        self,
        procedure: str,
        support: float,
        seed: int,
        pool: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Return the recipe of a cell.

        Args:
            procedure: its name in the study.
            support: the fraction of a client's examples that it adapts on.
            seed: of all draws but that of the pool.
            pool: the names of the test clients, once they are known.
            settings: of the procedure's grid, where it is tuned.

        Raises:
            UsageError: a name or a value is wrong.
        """
        own = procedures.with_settings(self.procedures[procedure], settings or {})
        told = {**self.chosen, **own, "support": support, "seed": seed}
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
            "procedures": self.shown(),
        }

    def tested(self, support: float) -> tuple[float, ...]:
        """Return the supports at which a model is tested that was trained with one."""
        return tuple(map(float, self.evaluate_at)) or (support,)

    def shown(self) -> list[str]:
        """Return the names in the report: the procedures, each with what its model becomes without more training."""
        found = []
        for name, spec in self.procedures.items():
            found += [name, *(also_named(name, also) for also in spec.also)]
        return found


def also_named(procedure: str, also: str) -> str:
    """Return the name in the report of what a procedure's model becomes without more training."""
    return f"{procedure}, {also}"
