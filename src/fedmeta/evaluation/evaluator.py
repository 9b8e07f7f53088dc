"""Personalised evaluation: unseen clients adapt on their support, and are tested on the rest."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fedmeta import random
from fedmeta._engine import sharding
from fedmeta._engine.cohort import Cohort, client_key
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.forks import check_not_forked
from fedmeta._engine.padding import PaddingBuckets
from fedmeta._engine.plan import Plan, Precision, check_precision, default_plan
from fedmeta._engine.prefetch import Prefetcher
from fedmeta._engine.program import evaluation_program
from fedmeta._engine.tracing import task_like, update_flops
from fedmeta._fit import check_fit, check_phi, drawn_sizes, usable_clients
from fedmeta.algorithms.algorithm import Algorithm, Phi
from fedmeta.data import columns
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.splits import check_support
from fedmeta.evaluation.scores import Predictions, Report, Scores
from fedmeta.federation import Federation
from fedmeta.model import Model


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
    predictions: bool = False,
    plan: Plan | None = None,
    precision: Precision = "float32",
) -> Report:
    """Test phi on every client of a data set: adapt on its support examples, measure on its query examples.

    Args:
        algorithm: how a client adapts; `dataclasses.replace(algorithm, adapt_steps=10)` adapts for longer.
        model: the network, its loss and its metrics.
        phi: the server's phi, such as `run.phi`.
        data: the clients to test on; for an honest figure, none of the training clients.
        support: the fraction of a client's examples that it adapts on, in (0, 1).
        seed: the same seed gives the same support and query sets.
        max_examples: the most examples of a client that are drawn; None for all.
        curve: also measure after each adaptation step (`report.curve`).
        predictions: also keep what is answered to every query example, for `report.figures`.
        plan: how the engine computes the clients; by default a plan that fits most models.
        precision: as in `fm.train`.

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
    """
    check_not_forked()
    federation = Federation(algorithm, model)
    check_support(support)
    check_precision(precision)
    check_fit(model, data)
    check_phi(algorithm, model, phi)
    # The clients that are tested have not taken part.
    memory = algorithm.memory(model, random.as_key(random.key_data(seed, "init")))
    usable = usable_clients(data, max_examples)
    sizes = drawn_sizes(data, max_examples)
    buckets = PaddingBuckets(sizes[usable], support, split=data.split)
    padded = np.array([buckets.bucket(int(size)) for size in sizes[usable]])
    examples = np.zeros((len(usable), 2), np.int64)
    results: dict[str, list[Any]] = {}
    answers: list[Any] = [None] * len(usable)
    for bucket in np.unique(padded):
        members = np.flatnonzero(padded == bucket)
        lengths = buckets.lengths(int(bucket))
        # Groups of equal size, about 8 or as many as are computed side by side, so that the last one needs few
        # fillers.
        given = default_plan(8, update_flops(federation, task_like(data, lengths))) if plan is None else plan
        group = max(8, given.chunk) * sharding.mesh(None if sharding.several() else given.devices).size
        places = CohortSharding(given, math.ceil(len(members) / math.ceil(len(members) / group)))
        size = places.filled
        program = evaluation_program(federation, curve, predictions, places.plan, precision, places.mesh)
        examples[members] = [buckets.lengths(int(sizes[usable[member]])) for member in members]

        def read(some: np.ndarray, places: CohortSharding = places, lengths: tuple[int, int] = lengths) -> Cohort:
            chosen = usable[some]
            keys = [client_key(seed, "adaptation batches", 0, str(data.ids[place])) for place in chosen]
            split = {"support": support, "seed": seed, "max_examples": max_examples}
            return places.read(data, chosen, lengths, keys, **split)

        groups = [members[first : first + size] for first in range(0, len(members), size)]
        there = sharding.replicate((phi, memory), places.mesh)
        with Prefetcher(read, groups) as feed:
            for some, cohort in zip(groups, feed, strict=True):
                result = program(there[0], cohort, there[1])
                feed.refill()
                measured, answered = sharding.to_host(result)
                for name, values in measured.items():
                    results.setdefault(name, [None] * len(usable))
                    for member, client in zip(some, np.asarray(values, np.float64), strict=False):
                        results[name][member] = client
                for place, member in enumerate(some if predictions else ()):
                    known = slice(int(examples[member, 1]))
                    answers[member] = jax.tree.map(lambda a, p=place, k=known: np.asarray(a[p])[:, k], answered)
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
        predictions=_predictions(data, usable, answers, support, seed, max_examples) if predictions else None,
    )


def _predictions(
    data: FederatedDataset, usable: np.ndarray, answers: list[Any], support: float, seed: int, max_examples: int | None
) -> Predictions:
    """Return the answers with the targets of the query examples, which are in the order of their rows."""
    rows = [data.split_at(int(place), support, seed, max_examples=max_examples)[1] for place in usable]
    return Predictions(
        y=tuple(columns.read(data.y, query) for query in rows),
        before=tuple(jax.tree.map(lambda a: a[0], client) for client in answers),
        after=tuple(jax.tree.map(lambda a: a[1], client) for client in answers),
    )


def _points(results: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    """Return arrays [clients, points]; a client with fewer steps than another stays at its last."""
    longest = max(len(client) for clients in results.values() for client in clients)
    return {
        name: np.stack([np.append(client, np.repeat(client[-1:], longest - len(client))) for client in clients])
        for name, clients in results.items()
    }
