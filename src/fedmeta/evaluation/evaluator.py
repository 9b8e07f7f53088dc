"""Personalised evaluation: unseen clients adapt on their support, and are tested on the rest."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from fedmeta import accounting
from fedmeta._engine import sharding
from fedmeta._engine.cohort import Cohort, client_key
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.padding import PaddingBuckets
from fedmeta._engine.plan import Plan, Precision, check_precision, default_plan
from fedmeta._engine.prefetch import Prefetcher
from fedmeta._engine.program import evaluation_program, traced_update
from fedmeta._fit import check_fit, check_phi, drawn_sizes, usable_clients
from fedmeta.algorithms.algorithm import Algorithm, Phi
from fedmeta.data.dataset import FederatedDataset, check_support
from fedmeta.model import Model


@dataclass(frozen=True, eq=False)
class Scores:
    """How well the clients' models do on their query examples, at one point of adaptation.

    Args:
        values: by metric ("loss" among them), each client's mean, shape [clients].
        examples: each client's query examples, shape [clients].
    """

    values: Mapping[str, np.ndarray]
    examples: np.ndarray

    @cached_property
    def pooled(self) -> dict[str, float]:
        """Each metric's mean over all data points."""
        return {name: float(np.average(values, weights=self.examples)) for name, values in self.values.items()}

    @cached_property
    def by_client(self) -> dict[str, float]:
        """Each metric's mean over clients, every client counting the same."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}

    @property
    def judged_by(self) -> str:
        """The metric behind `deciles`, `std` and `bottom_10_percent`: accuracy, or the loss without one."""
        return "accuracy" if "accuracy" in self.values else "loss"

    @property
    def accuracy(self) -> float:
        """Accuracy over all data points, in [0, 1]."""
        return self._named(self.pooled)

    @property
    def client_accuracy(self) -> float:
        """The mean of the clients' accuracies, in [0, 1]."""
        return self._named(self.by_client)

    @property
    def deciles(self) -> np.ndarray:
        """The 0th, 10th, ..., 100th percentile over clients, shape [11]."""
        return np.percentile(self.values[self.judged_by], np.arange(0, 101, 10))

    @property
    def std(self) -> float:
        """The standard deviation over clients."""
        return float(np.std(self.values[self.judged_by]))

    @property
    def bottom_10_percent(self) -> float:
        """The mean over the tenth of the clients that fare worst (at least one client)."""
        values = np.sort(self.values[self.judged_by])
        worst = math.ceil(len(values) / 10)
        return float(np.mean(values[:worst] if self.judged_by == "accuracy" else values[-worst:]))

    def _named(self, means: Mapping[str, float]) -> float:
        if "accuracy" not in means:
            raise AttributeError(f"the model measures no accuracy; it has {', '.join(means)} (see .pooled, .by_client)")
        return means["accuracy"]


@dataclass(frozen=True, eq=False)
class Report:
    """The evaluation of phi on clients that took no part in training.

    Args:
        before: the scores before adaptation.
        after: the scores after adaptation; the same as before for an algorithm that does not adapt.
        clients: the clients' names.
        support_examples: each client's support examples, shape [clients].
        steps: the scores before adaptation and after each step, or empty where no curve was asked for.
        left_out: clients too small to have both a support and a query example.
    """

    before: Scores
    after: Scores
    clients: tuple[str, ...]
    support_examples: np.ndarray
    steps: tuple[Scores, ...]
    left_out: int

    @property
    def accuracy(self) -> float:
        """Accuracy after adaptation over all data points, in [0, 1]."""
        return self.after.accuracy

    @property
    def client_accuracy(self) -> float:
        """The mean over clients of the accuracy after adaptation, in [0, 1]."""
        return self.after.client_accuracy

    @property
    def deciles(self) -> np.ndarray:
        """The deciles over clients after adaptation, shape [11]."""
        return self.after.deciles

    @property
    def std(self) -> float:
        """The standard deviation over clients after adaptation."""
        return self.after.std

    @property
    def bottom_10_percent(self) -> float:
        """The mean over the worst tenth of the clients after adaptation."""
        return self.after.bottom_10_percent

    @property
    def per_client(self) -> pa.Table:
        """One row a client: its examples, and each metric before and after adaptation."""
        columns: dict[str, Any] = {
            "client": list(self.clients),
            "support": self.support_examples,
            "query": self.after.examples,
        }
        for name, values in self.after.values.items():
            columns |= {f"{name}_before": self.before.values[name], name: values}
        return pa.table(columns)

    @property
    def curve(self) -> pa.Table:
        """One row for each adaptation step from 0: each metric over data points, and over clients."""
        rows = []
        for number, scores in enumerate(self.steps):
            by_client = {f"client_{name}": value for name, value in scores.by_client.items()}
            rows.append({"step": number, **scores.pooled, **by_client})
        return pa.Table.from_pylist(rows)

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them; a figure that is not finite is None."""
        return {
            "clients": len(self.clients),
            "left_out": self.left_out,
            "query_examples": int(self.after.examples.sum()),
            **{
                point: {
                    "over_examples": {name: _finite(value) for name, value in scores.pooled.items()},
                    "over_clients": {name: _finite(value) for name, value in scores.by_client.items()},
                    "std": _finite(scores.std),
                    "deciles": [_finite(value) for value in scores.deciles.tolist()],
                    "bottom_10_percent": _finite(scores.bottom_10_percent),
                }
                for point, scores in (("before", self.before), ("after", self.after))
            },
            "curve": [{name: _finite(value) for name, value in row.items()} for row in self.curve.to_pylist()]
            if self.steps
            else [],
        }


def evaluate(
    algorithm: Algorithm,
    model: Model,
    phi: Phi,
    data: FederatedDataset,
    support: float = 0.2,
    seed: int = 0,
    *,
    max_examples: int | None = None,
    curve: bool = True,
    plan: Plan | None = None,
    precision: Precision = "float32",
) -> Report:
    """Test phi on every client of a data set: adapt on its support examples, measure on its query examples.

    Args:
        algorithm: how a client adapts; `dataclasses.replace(algorithm, adapt_steps=10)` adapts for longer.
        model: the network, its loss and its metrics.
        phi: what the server holds.
        data: the clients to test on; for an honest figure, none that was trained on.
        support: the fraction of a client's examples that it adapts on, in (0, 1).
        seed: the same seed gives the same support and query sets.
        max_examples: at most so many of a client's examples are drawn.
        curve: also measure after each adaptation step (`report.curve`).
        plan: how the engine computes the clients; the usual one where it is not given.
        precision: as in `fm.train`.

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
    """
    check_support(support)
    check_precision(precision)
    check_fit(model, data)
    check_phi(algorithm, model, phi)
    usable = usable_clients(data, max_examples)
    sizes = drawn_sizes(data, max_examples)
    shapes = PaddingBuckets(sizes[usable], support)
    levels = np.array([shapes.level(int(size)) for size in sizes[usable]])
    examples = np.zeros((len(usable), 2), np.int64)
    results: dict[str, list[Any]] = {}
    for level in np.unique(levels):
        members = np.flatnonzero(levels == level)
        lengths = shapes.lengths(int(level))
        # Groups of equal size, about 8 or as many as are computed side by side, so that the last is hardly ever
        # filled up.
        given = default_plan(8, _flops(algorithm, model, data, lengths)) if plan is None else plan
        group = max(8, given.chunk) * sharding.mesh(None if sharding.several() else given.devices).size
        places = CohortSharding(given, math.ceil(len(members) / math.ceil(len(members) / group)))
        size = places.filled
        program = evaluation_program(algorithm, model, curve, places.plan, precision, places.mesh)
        examples[members] = [shapes.lengths(int(sizes[usable[member]])) for member in members]

        def read(some: np.ndarray, places: CohortSharding = places, lengths: tuple[int, int] = lengths) -> Cohort:
            chosen = usable[some]
            keys = [client_key(seed, "adaptation batches", 0, str(data.ids[place])) for place in chosen]
            split = {"support": support, "seed": seed, "max_examples": max_examples}
            return places.read(data, chosen, lengths, keys, **split)

        groups = [members[first : first + size] for first in range(0, len(members), size)]
        phi_there = sharding.replicate(phi, places.mesh)
        with Prefetcher(read, groups) as feed:
            for some, cohort in zip(groups, feed, strict=True):
                result = program(phi_there, cohort)
                feed.refill()
                measured = sharding.to_host(result)
                for name, values in measured.items():
                    results.setdefault(name, [None] * len(usable))
                    for member, client in zip(some, np.asarray(values, np.float64), strict=False):
                        results[name][member] = client
    points = _points(results)
    scores = tuple(
        Scores({name: values[:, p] for name, values in points.items()}, examples[:, 1])
        for p in range(next(iter(points.values())).shape[1])
    )
    lost = int(np.sum(~np.isfinite(scores[-1].values["loss"])))
    if lost:
        warnings.warn(
            f"the loss of {lost} of {len(usable)} clients is not finite after adaptation; a lower rate may help",
            stacklevel=2,
        )
    return Report(
        before=scores[0],
        after=scores[-1],
        clients=tuple(str(name) for name in data.ids[usable]),
        support_examples=examples[:, 0],
        steps=scores if curve else (),
        left_out=data.num_clients - len(usable),
    )


def _flops(algorithm: Algorithm, model: Model, data: FederatedDataset, lengths: tuple[int, int]) -> int:
    """Return the floating-point operations of a client's update, from which its adaptation does not differ much."""
    return accounting.count_flops_of(traced_update(algorithm, model, data, lengths).program)


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def _points(results: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    """Return arrays [clients, points]; a client with fewer steps than another stays at its last."""
    longest = max(len(client) for clients in results.values() for client in clients)
    return {
        name: np.stack([np.append(client, np.repeat(client[-1:], longest - len(client))) for client in clients])
        for name, clients in results.items()
    }
