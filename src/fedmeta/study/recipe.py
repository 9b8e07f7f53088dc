"""A recipe: all that is needed to repeat a run, in plain values that run.toml holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import optax

from fedmeta import algorithms, random
from fedmeta import data as sets
from fedmeta._engine.plan import Plan, Precision
from fedmeta._fit import usable_clients
from fedmeta.algorithms import Algorithm
from fedmeta.data import FederatedDataset
from fedmeta.errors import UnknownName, UsageError
from fedmeta.evaluation.evaluator import Report, evaluate
from fedmeta.model import Model
from fedmeta.runs.loop import Run, explain_plan, train
from fedmeta.simulation.planning import PlanExplanation
from fedmeta.study import defaults
from fedmeta.study.inputs import Inputs, tuples

SERVERS = {
    "sgd": optax.sgd,
    "momentum": lambda lr: optax.sgd(lr, momentum=0.9),
    "adam": optax.adam,
    "adagrad": optax.adagrad,
    "yogi": optax.yogi,
}
"""The server optimisers by name; each is made with its learning rate."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run depends on, by names and numbers.

    Args:
        data: a data set's name, a CSV or Parquet file, or a folder.
        client: the client column of a table.
        target: the target column of a table.
        features: the input columns of a table; all others where they are not given.
        data_options: the data set's own options.
        fractions: of the clients, for training, validation and test.
        model: the network's name.
        model_options: its options.
        algorithm: the algorithm's name.
        algorithm_options: its fields that differ from their defaults.
        server: the server optimiser's name.
        server_lr: its learning rate.
        rounds: how many rounds.
        cohort_size: clients in a round; 4, or all there are, where it is not given.
        support: the fraction of a client's examples that it adapts on.
        seed: of every draw.
        max_examples: at most so many of a client's examples are drawn.
        validate_every: rounds between looks at the validation clients.
        max_evaluated: at most so many validation clients are looked at, and so many test clients, drawn at random.
        precision: "float32", or "bfloat16" for the factors of matrix products.
    """

    data: str
    client: str | None = None
    target: str | None = None
    features: tuple[str, ...] | None = None
    data_options: Mapping[str, Any] = field(default_factory=dict)
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    model: str = "mlp"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "maml"
    algorithm_options: Mapping[str, Any] = field(default_factory=dict)
    server: str = "adam"
    server_lr: float = 1e-3
    rounds: int = 200
    cohort_size: int | None = None
    support: float = 0.2
    seed: int = 0
    max_examples: int | None = None
    validate_every: int = 10
    max_evaluated: int = 1000
    precision: Precision = "float32"

    @classmethod
    def usual(cls, data: str, algorithm: str, **chosen: Any) -> "Recipe":
        """Return the defaults for a data set and an algorithm, with what the user chose in their place.

        A value of None stands for the default. The options of the algorithm and of the model that the user
        gives are added to the defaults' own, unless another model is chosen.
        """
        algorithms.make(algorithm)
        usual = defaults.usual(data, algorithm)
        chosen = {name: value for name, value in chosen.items() if value is not None}
        steps = chosen.get("algorithm_options", {})
        options = {**usual["algorithm_options"], **steps}
        for kind in ("inner", "adapt"):
            for given, other in ((f"{kind}_steps", f"{kind}_epochs"), (f"{kind}_epochs", f"{kind}_steps")):
                if given in steps and other not in steps:
                    options.pop(other, None)
        if chosen.get("model", usual["model"]) == usual["model"]:
            chosen["model_options"] = {**usual["model_options"], **chosen.get("model_options", {})}
        elif "model_options" not in chosen:
            chosen["model_options"] = {}
        if chosen.get("server", usual["server"]) != usual["server"] and "server_lr" not in chosen:
            raise UsageError(f"--server {chosen['server']} needs its own --server-lr")
        where = data if data in sets.names() else str(Path(data).absolute())
        recipe = cls(data=where, algorithm=algorithm, **{**usual, **chosen, "algorithm_options": options})
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise a UsageError for a name or a value that is wrong whatever the data are."""
        if self.server not in SERVERS:
            raise UnknownName("server optimiser", self.server, SERVERS)
        if not self.server_lr > 0:
            raise UsageError(f"the server's learning rate must be positive, not {self.server_lr}")
        if self.max_evaluated < 1:
            raise UsageError(f"max_evaluated must be at least 1, not {self.max_evaluated}")
        algorithms.make(self.algorithm, **self.algorithm_options)

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` described."""
        known = {entry.name for entry in fields(cls)} & content.keys()
        recipe = cls(**tuples({name: content[name] for name in known}))
        return replace(recipe, model_options=tuples(recipe.model_options))

    def load(self) -> FederatedDataset:
        """Read the data."""
        table = {"client": self.client, "target": self.target, "features": self.features}
        return sets.resolve(self.data, **table, **self.data_options)

    def prepare(self, whole: FederatedDataset | None = None) -> "Experiment":
        """Read the data (unless they are given), split the clients, and make everything a run needs."""
        whole = self.load() if whole is None else whole
        usable = whole.select(usable_clients(whole, self.max_examples))
        parts = usable.split_clients(self.fractions, self.seed)
        inputs = Inputs.of(parts[0], self.target)
        cohort_size = min(4, parts[0].num_clients) if self.cohort_size is None else self.cohort_size
        return Experiment(
            recipe=replace(self, cohort_size=cohort_size),
            algorithm=algorithms.make(self.algorithm, **self.algorithm_options),
            model=inputs.model(self.model, self.model_options),
            optimiser=SERVERS[self.server](self.server_lr),
            inputs=inputs,
            train=parts[0],
            validation=self._evaluated(parts[1], "validation"),
            test=self._evaluated(parts[2], "test"),
        )

    def _evaluated(self, clients: FederatedDataset, purpose: str) -> FederatedDataset:
        """Return the clients that are evaluated: all, or `max_evaluated` of them."""
        if clients.num_clients <= self.max_evaluated:
            return clients
        draw = random.generator(self.seed, "evaluated clients", purpose)
        return clients.select(np.sort(draw.choice(clients.num_clients, self.max_evaluated, replace=False)))


@dataclass(frozen=True, eq=False)
class Experiment:
    """A recipe made real: the algorithm, the model, the optimiser, and the three groups of clients."""

    recipe: Recipe
    algorithm: Algorithm
    model: Model
    optimiser: optax.GradientTransformation
    inputs: Inputs
    train: FederatedDataset
    validation: FederatedDataset
    test: FederatedDataset

    def explain(self, plan: Plan | None = None, listeners: tuple[Any, ...] = ()) -> PlanExplanation:
        """Return how the engine would compute the run, and why."""
        recipe = self.recipe
        assert recipe.cohort_size is not None
        return explain_plan(
            self.algorithm,
            self.model,
            self.train,
            cohort_size=recipe.cohort_size,
            server=self.optimiser,
            support=recipe.support,
            seed=recipe.seed,
            max_examples=recipe.max_examples,
            plan=plan,
            precision=recipe.precision,
            listeners=listeners,
        )

    def run(self, directory: Path | None = None, listeners: tuple[Any, ...] = (), plan: Plan | None = None) -> Run:
        """Train, or go on where the run in the directory stopped; look at the validation clients on the way."""
        recipe = self.recipe

        assert recipe.cohort_size is not None
        # The number of rounds stands beside the recipe, and may grow.
        described = {name: value for name, value in recipe.to_dict().items() if name != "rounds"}

        def validate(phi: Any) -> dict[str, float]:
            return self.report(phi, self.validation, curve=False).after.pooled

        return train(
            self.algorithm,
            self.model,
            self.train,
            rounds=recipe.rounds,
            cohort_size=recipe.cohort_size,
            server=self.optimiser,
            support=recipe.support,
            seed=recipe.seed,
            directory=directory,
            max_examples=recipe.max_examples,
            validate=validate,
            validate_every=recipe.validate_every,
            listeners=listeners,
            recipe={**described, "inputs": self.inputs.to_dict()},
            plan=plan,
            precision=recipe.precision,
        )

    def report(
        self,
        phi: Any,
        clients: FederatedDataset,
        *,
        support: float | None = None,
        curve: bool = True,
        plan: Plan | None = None,
    ) -> Report:
        """Evaluate phi on some clients."""
        recipe = self.recipe
        return evaluate(
            self.algorithm,
            self.model,
            phi,
            clients,
            recipe.support if support is None else support,
            recipe.seed,
            max_examples=recipe.max_examples,
            curve=curve,
            plan=plan,
            precision=recipe.precision,
        )
