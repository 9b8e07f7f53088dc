"""A recipe: what a user asks for, with defaults for the rest; the data make a procedure of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fedmeta import algorithms, optimisers
from fedmeta._engine.plan import Precision
from fedmeta.aggregators import Aggregator, weighted_mean
from fedmeta.algorithms import Algorithm, PerFedAvg
from fedmeta.data import FederatedDataset
from fedmeta.errors import UsageError
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.study import defaults
from fedmeta.study.dataspec import DataSpec, Groups
from fedmeta.study.experiment import Experiment, Validation
from fedmeta.transforms import Transform, identity

log = logging.getLogger("fedmeta.study")

COHORT_SIZE = 16
"""Clients in a round where nothing is said, or all there are."""

_DATA = ("client", "target", "features", "table", "fractions", "validation_clients", "test_clients", "max_evaluated")
_LOOKS = {
    "validate_every": "every",
    "validate_early": "early",
    "select": "select",
    "patience": "patience",
    "monitor": "monitor",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is asked for, before the data have been read.

    Args:
        data: where they lie.
        looks: when the validation clients are looked at.
        algorithm: the algorithm's name.
        algorithm_options: its fields that differ from their defaults.
        server: the name of the server's optimiser, one of `fm.optimisers`.
        server_lr: its learning rate.
        server_options: its other settings.
        model: the network's name.
        model_options: its options.
        rounds: how many rounds.
        cohort_size: clients in a round; `COHORT_SIZE`, or all there are, where it is not given.
        transform: as in `Procedure`, like all that follow.

    Raises:
        UsageError: a name or a value is wrong, whatever the data are.
    """

    data: DataSpec
    looks: Validation = field(default_factory=Validation)
    algorithm: str = "maml"
    algorithm_options: Mapping[str, Any] = field(default_factory=dict)
    server: str = "adam"
    server_lr: float = 1e-3
    server_options: Mapping[str, Any] = field(default_factory=dict)
    model: str = "mlp"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 200
    cohort_size: int | None = None
    transform: Transform = identity()  # noqa: RUF009 (a value)
    aggregator: Aggregator = weighted_mean()  # noqa: RUF009
    support: float = 0.2
    seed: int = 0
    max_examples: int | None = None
    precision: Precision = "float32"

    def __post_init__(self):
        # All but whether the network fits the inputs is known by now.
        self._procedure(Inputs((1,)), clients=None)

    @classmethod
    def default(cls, data: str, algorithm: str, **chosen: Any) -> "Recipe":
        """Return the defaults for a data set and an algorithm, with what the user chose in their place.

        A value of None stands for the default. The options of the algorithm and of the model that the user
        gives are added to the defaults' own, unless another model is chosen.

        Args:
            data: a data set's name, a file, or a folder.
            algorithm: the algorithm's name.
            chosen: fields of a recipe, of `DataSpec` (`data_options` for its options), `validate_every`,
                `validate_early`, `select`, `patience` and `monitor`.
        """
        algorithms.make(algorithm)
        default = defaults.default_settings(data, algorithm)
        chosen = {name: value for name, value in chosen.items() if value is not None}
        steps = chosen.get("algorithm_options", {})
        options = {**default["algorithm_options"], **steps}
        if "patience" in chosen and "select" not in chosen:
            default["select"] = None
        for kind in ("inner", "adapt"):
            for given, other in ((f"{kind}_steps", f"{kind}_epochs"), (f"{kind}_epochs", f"{kind}_steps")):
                if given in steps and other not in steps:
                    options.pop(other, None)
        if "inner" in steps:
            options = {name: value for name, value in options.items() if name in steps or not name.endswith("_lr")}
        if chosen.get("model", default["model"]) == default["model"]:
            chosen["model_options"] = {**default["model_options"], **chosen.get("model_options", {})}
        elif "model_options" not in chosen:
            chosen["model_options"] = {}
        if chosen.get("server", default["server"]) != default["server"] and "server_lr" not in chosen:
            optimisers.make(chosen["server"], learning_rate=1.0)
            raise UsageError(f"--server {chosen['server']} needs its own --server-lr")
        values = {**default, **chosen, "algorithm_options": options}
        where = {name: values.pop(name) for name in _DATA if name in values}
        looks = {new: values.pop(old) for old, new in _LOOKS.items() if old in values}
        spec = DataSpec.at(data, options=values.pop("data_options", {}), **where)
        return cls(data=spec, algorithm=algorithm, looks=Validation(**looks), **values)

    def prepare(self, whole: FederatedDataset | None = None) -> Experiment:
        """Read the data, unless they are given, and settle what was left open.

        Raises:
            UsageError: the recipe does not fit the data.
            DataError: the data are absent or damaged.
        """
        return prepare_all([self], whole)[0]

    def settings(self) -> dict[str, Any]:
        """Return all that is asked for, as JSON can hold it."""
        procedure = self._procedure(Inputs((1,)), clients=None).to_dict()
        del procedure["inputs"]
        return {
            **procedure,
            "cohort_size": self.cohort_size,
            "data": self.data.to_dict(),
            "validation": self.looks.to_dict(),
        }

    def on(self, groups: Groups) -> Experiment:
        """Settle what was left open by clients that are split already.

        Raises:
            UsageError: the recipe does not fit the data.
        """
        return self._on(groups)[0]

    def _prepared(self, whole: FederatedDataset) -> tuple[Experiment, float | None]:
        """Return the experiment, and the inner rate if it was chosen by the data."""
        return self._on(self.data.split(whole, self.seed, self.max_examples))

    def _on(self, groups: Groups) -> tuple[Experiment, float | None]:
        train = groups.train
        inputs = Inputs.of(train)
        procedure = self._procedure(inputs, train.num_clients)
        # A network that does not fit is found before anything is written.
        network = procedure.network
        told, rate = {"inner", "inner_lr", "local"} & self.algorithm_options.keys(), None
        if inputs.target_scale is not None and not told:
            rate = defaults.safe_inner_rate(network, train, inputs.target_scale[1], self.seed)
            safe = replace(self, algorithm_options={**self.algorithm_options, "inner_lr": rate})
            procedure = safe._procedure(inputs, train.num_clients)
        return Experiment(data=self.data, procedure=procedure, looks=self.looks, **groups._asdict()), rate

    def _procedure(self, inputs: Inputs, clients: int | None) -> Procedure:
        """Return the procedure for so many training clients; they are not known while names and values are checked."""
        cohort_size = min(COHORT_SIZE, clients or 1) if self.cohort_size is None else self.cohort_size
        procedure = Procedure(
            algorithm=self._made(),
            server=optimisers.make(self.server, learning_rate=self.server_lr, **self.server_options),
            transform=self.transform,
            aggregator=self.aggregator,
            model=self.model,
            model_options=self.model_options,
            inputs=inputs,
            rounds=self.rounds,
            cohort_size=cohort_size,
            support=self.support,
            seed=self.seed,
            max_examples=self.max_examples,
            precision=self.precision,
        )
        algorithm = procedure.algorithm
        if clients is None or "participation" in self.algorithm_options or not hasattr(algorithm, "participation"):
            return procedure
        share: Any = {"participation": min(1.0, procedure.cohort_size / clients)}
        return replace(procedure, algorithm=replace(algorithm, **share))

    def _made(self) -> Algorithm:
        """Return the algorithm; `of`, where it is a name, takes the options that Per-FedAvg itself does not have."""
        options = dict(self.algorithm_options)
        if self.algorithm == PerFedAvg.name and isinstance(options.get("of"), str):
            own = {entry.name for entry in fields(PerFedAvg)}
            inner = {name: options.pop(name) for name in list(options) if name not in own}
            options["of"] = algorithms.make(options["of"], **inner)
        return algorithms.make(self.algorithm, **options)


def prepare_all(recipes: Sequence[Recipe], whole: FederatedDataset | None = None) -> list[Experiment]:
    """Return the experiments of recipes for the same data, which are read once unless they are given.

    What the data settle for several of them is said once.

    Raises:
        UsageError: a recipe does not fit the data.
        DataError: the data are absent or damaged.
    """
    whole = recipes[0].data.load() if whole is None else whole
    prepared = [recipe._prepared(whole) for recipe in recipes]
    chosen: dict[str, list[float]] = {}
    for experiment, rate in prepared:
        if rate is not None:
            chosen.setdefault(experiment.procedure.algorithm.title, []).append(rate)
    if chosen:
        spans: dict[str, list[str]] = {}
        for title, rates in chosen.items():
            low, high = min(rates), max(rates)
            spans.setdefault(f"{low:g}" if low == high else f"{low:g} to {high:g}, by seed", []).append(title)
        said = " and ".join(
            span + (f" for {', '.join(titles)}" if len(spans) > 1 else "") for span, titles in spans.items()
        )
        log.warning("the inner rate is %s, at which squared errors do not diverge; --inner-lr says otherwise", said)
    return [experiment for experiment, _ in prepared]
