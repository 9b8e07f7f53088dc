"""An experiment: a procedure on data that were read, with three groups of clients."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmeta._engine.plan import Plan
from fedmeta._settings import whole_number
from fedmeta.algorithms import Algorithm
from fedmeta.data import FederatedDataset
from fedmeta.errors import UsageError
from fedmeta.evaluation.evaluator import Report, evaluate
from fedmeta.runs import loop
from fedmeta.runs.former import without_rounds
from fedmeta.runs.procedure import Procedure
from fedmeta.runs.stopping import Best, Select
from fedmeta.simulation.planning import PlanExplanation, explain
from fedmeta.simulation.simulator import Simulator
from fedmeta.study.dataspec import DataSpec


@dataclass(frozen=True, kw_only=True)
class Validation:
    """When the validation clients are looked at, and whether a run stops by what they show.

    Args:
        every: rounds between looks.
        select: whether phi of the best look is the result, or that of the last round; the last where it is not given
            and there is no `patience`.
        patience: stop after so many looks without a better figure, and keep the best phi; never where it is not given.
        monitor: the figure that `select` and `patience` are about: accuracy, or the loss, where it is not given.
        early: how many of the first rounds are all looked at; a curve over bytes is steep there.

    Raises:
        UsageError: a value is out of range.
    """

    every: int = 10
    select: Select | None = None
    patience: int | None = None
    monitor: str | None = None
    early: int = 0

    def __post_init__(self):
        object.__setattr__(self, "early", whole_number("validate_early", self.early))
        if self.early < 0:
            raise UsageError(f"validate_early must be at least 0, not {self.early}")
        for name, said in (("every", "validate_every"), ("patience", "patience")):
            value = whole_number(said, getattr(self, name))
            if value is not None and value < 1:
                raise UsageError(f"{said} must be at least 1, not {value}")
            object.__setattr__(self, name, value)
        if not Best(self.select, self.patience, self.monitor).keeps and self.monitor is not None:
            raise UsageError(
                f"monitor={self.monitor!r} says which round is best: say that it is the result (select='best'), or "
                "give patience"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; what is not said is left out, and so is the last round, its meaning."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "last", 0)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """A procedure, and the clients that it is tried on.

    Args:
        data: where they come from.
        procedure: what is learned, and how.
        looks: when the validation clients are looked at.
        train: the clients that train.
        validation: those that are looked at on the way.
        test: those that are tested at the end.
    """

    data: DataSpec
    procedure: Procedure
    looks: Validation
    train: FederatedDataset
    validation: FederatedDataset
    test: FederatedDataset

    @classmethod
    def of(
        cls, data: DataSpec, procedure: Procedure, looks: Validation, whole: FederatedDataset | None = None
    ) -> "Experiment":
        """Read the data, unless they are given, and split the clients."""
        whole = data.load(procedure.inputs.schema) if whole is None else whole
        groups = data.split(whole, procedure.seed, procedure.max_examples)
        return cls(data=data, procedure=procedure, looks=looks, **groups._asdict())

    def simulator(self, plan: Plan | None = None) -> Simulator:
        """Return the procedure on the training clients.

        Raises:
            UsageError: an argument is out of range, or the model does not fit the data.
        """
        procedure = self.procedure
        return Simulator(
            procedure.federation,
            self.train,
            cohort_size=procedure.cohort_size,
            support=procedure.support,
            seed=procedure.seed,
            max_examples=procedure.max_examples,
            plan=plan,
            precision=procedure.precision,
        )

    def explain(self, plan: Plan | None = None, listeners: tuple[Any, ...] = ()) -> PlanExplanation:
        """Return how the engine would compute the run, and why."""
        return explain(self.simulator(), plan, listeners)

    def run(
        self,
        directory: Path | None = None,
        listeners: tuple[Any, ...] = (),
        plan: Plan | None = None,
        *,
        looking: bool = True,
    ) -> loop.Run:
        """Train, or go on where the run in the directory stopped; look at the validation clients on the way.

        Args:
            directory: the run folder; none where it is not given.
            listeners: are told of each round.
            plan: how the engine computes the rounds.
            looking: whether there are looks at all.
        """

        def validate(phi: Any) -> Mapping[str, float]:
            return self.report(phi, self.validation, curve=False).after.pooled

        return loop.run(
            self.simulator(plan),
            rounds=self.procedure.rounds,
            directory=directory,
            validate=validate if looking else None,
            validate_every=self.looks.every,
            validate_early=self.looks.early,
            select=self.looks.select,
            patience=self.looks.patience,
            monitor=self.looks.monitor,
            listeners=listeners,
            recipe={
                "data": self.data.to_dict(),
                "procedure": without_rounds(self.procedure),
                "validation": self.looks.to_dict(),
            },
        )

    def headline(self, scores: Mapping[str, float]) -> float:
        """Return the figure by which the run is judged, of means over data points: accuracy, or RMSE.

        The RMSE is in the target's units. Where the squared error itself was not measured, the loss is half of it, for
        a table's targets in units of their variance.
        """
        inputs = self.procedure.inputs
        if inputs.classes is not None:
            return scores["accuracy"]
        if "squared_error" in scores:
            return math.sqrt(scores["squared_error"])
        spread = 1.0 if inputs.target_scale is None else inputs.target_scale[1]
        return math.sqrt(2 * scores["loss"]) * spread

    def report(
        self,
        phi: Any,
        clients: FederatedDataset,
        *,
        algorithm: Algorithm | None = None,
        curve: bool = True,
        predictions: bool = False,
        plan: Plan | None = None,
    ) -> Report:
        """Evaluate phi on some clients.

        Args:
            phi: what the server holds.
            clients: one of the three groups.
            algorithm: how a client adapts; as in training where it is not given.
            curve: also measure after each adaptation step.
            predictions: also keep what is answered, for `report.figures`.
            plan: how the engine computes the clients.
        """
        procedure = self.procedure
        return evaluate(
            procedure.algorithm if algorithm is None else algorithm,
            procedure.network,
            phi,
            clients,
            procedure.support,
            procedure.seed,
            max_examples=procedure.max_examples,
            curve=curve,
            predictions=predictions,
            plan=plan,
            precision=procedure.precision,
        )
