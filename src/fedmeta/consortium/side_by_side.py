"""Many runs of one federation side by side: `fm.train` for each of them, as one compiled program.

The draws are those of `fm.train`, so a run comes out as there, but for the order in which floats are added.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import _keys, random
from fedmeta._engine.cohort import client_key
from fedmeta.data import FederatedDataset
from fedmeta.federation import Federation, ServerState
from fedmeta.model import Model
from fedmeta.task import Batch, Task

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""Programs this small run for less time than their compilation takes."""

GROUP = 128
"""Clients that adapt side by side."""


class Run(NamedTuple):
    """One run: its seed, and the clients that train, by name, with the rows of their examples."""

    seed: int
    clients: Mapping[str, np.ndarray]


class Rows(NamedTuple):
    """Rows of examples, padded: `places` and `mask`, shape [..., length] both; what is padding has the mask 0."""

    places: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray], length: int | None = None) -> "Rows":
        """Return rows of several lengths, one below the other, padded to the longest or to a length."""
        longest = max(len(one) for one in rows) if length is None else length
        places, mask = np.zeros((len(rows), longest), np.int32), np.zeros((len(rows), longest), np.float32)
        for at, one in enumerate(rows):
            places[at, : len(one)], mask[at, : len(one)] = one, 1.0
        return cls(places, mask)


class Draws(NamedTuple):
    """What all runs draw in all rounds; every array [runs, rounds, clients, ...]."""

    support: Rows
    query: Rows
    keys: np.ndarray


def draw(runs: Sequence[Run], y: np.ndarray, rounds: int, support: float, max_examples: int | None = None) -> Draws:
    """Return the support and query examples of each client in each round, as `fm.train` draws them.

    Args:
        runs: with equally many clients each.
        y: the targets of all examples.
        rounds: how many rounds.
        support: the fraction of a client's examples that is its support set.
        max_examples: the most examples of a client that are drawn in a round; None for all.
    """
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    keys = []
    for run in runs:
        names, kept = list(run.clients), list(run.clients.values())
        data = _one_by_one(y, names, kept)
        for round in range(1, rounds + 1):
            for place, name in enumerate(names):
                split = data.split_at(place, support, run.seed, max_examples=max_examples, round=round)
                for side, rows in zip(sides, split, strict=True):
                    side.append(kept[place][rows - data.starts[place]])
                keys.append(client_key(run.seed, "client batches", round, name))
    shape = (len(runs), rounds, len(runs[0].clients))
    support_rows, query_rows = (Rows(*(part.reshape(*shape, -1) for part in Rows.of(side))) for side in sides)
    return Draws(support_rows, query_rows, np.stack(keys).reshape(*shape, 2))


def _one_by_one(y: np.ndarray, names: list[str], rows: list[np.ndarray]) -> FederatedDataset:
    """Return a data set with these clients, each with its rows one after the other."""
    sizes = np.array([len(one) for one in rows], np.int64)
    targets = y[np.concatenate(rows)]
    return FederatedDataset(targets, targets, np.cumsum(sizes) - sizes, sizes, np.array(names))


def train(federation: Federation, x: np.ndarray, y: np.ndarray, runs: Sequence[Run], draws: Draws) -> Any:
    """Return each run's phi after its rounds, every array [runs, ...].

    All clients are in the cohort of each round.

    Args:
        federation: what a round computes; its clients keep nothing, and its aggregator sums.
        x: the inputs of all examples.
        y: their targets.
        runs: the runs.
        draws: what they draw.
    """
    return _trained(federation)(_first(federation, runs), draws, jnp.asarray(x), jnp.asarray(y)).phi


def initial(federation: Federation, runs: Sequence[Run]) -> Any:
    """Return each run's phi before its rounds, every array [runs, ...]."""
    return _first(federation, runs).phi


def _first(federation: Federation, runs: Sequence[Run]) -> ServerState:
    states = [federation.init(random.as_key(random.key_data(run.seed, "init"))) for run in runs]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def adapt(federation: Federation, phi: Any, x: np.ndarray, y: np.ndarray, support: Rows, which: np.ndarray) -> Any:
    """Return each client's parameters after each step of its adaptation, every array [clients, steps + 1, ...].

    Args:
        federation: whose algorithm adapts.
        phi: as `train` gives it, every array [runs, ...].
        x: the inputs of all examples.
        y: their targets.
        support: the rows on which each client adapts, [clients, length].
        which: the run from whose phi each client starts, [clients].
    """
    inputs, targets, program = jnp.asarray(x), jnp.asarray(y), _adapted(federation)

    def some(chosen: np.ndarray) -> Any:
        own = jax.tree.map(lambda leaf: leaf[which[chosen]], phi)
        return program(own, inputs, targets, Rows(support.places[chosen], support.mask[chosen]))

    return _in_groups(some, len(which))


def predict(federation: Federation, params: Any, x: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return what clients answer, shape [clients, steps, asked, ...].

    Args:
        federation: whose model answers.
        params: every array [clients, steps, ...].
        x: the inputs of all examples.
        asked: the rows that each client is asked for, [clients, asked].
    """
    inputs, program = jnp.asarray(x), _answers(federation.model)
    return _in_groups(
        lambda chosen: program(jax.tree.map(lambda leaf: leaf[chosen], params), inputs, asked[chosen]), len(asked)
    )


def _in_groups(compute: Callable[[np.ndarray], Any], clients: int) -> Any:
    """Return what is computed for all clients, `GROUP` at a time: programs are compiled for one number of them."""
    parts = []
    for first in range(0, clients, GROUP):
        chosen = np.minimum(np.arange(first, first + GROUP), clients - 1)
        count = min(GROUP, clients - first)
        parts.append(jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], compute(chosen)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@_keys.memoise(64)
def _trained(federation: Federation) -> Any:
    memory = federation.memory(random.default_key())

    def client(phi: Any, task: Task, key: Any) -> Any:
        return federation.lift(federation.client(phi, task, random.as_key(key), memory)[0])

    def one(state: ServerState, draws: Draws, x: Any, y: Any) -> ServerState:
        def round(state: ServerState, drawn: Draws) -> tuple[ServerState, None]:
            task = Task(_batch(drawn.support, x, y), _batch(drawn.query, x, y))
            parts = jax.vmap(client, (None, 0, 0))(state.phi, task, drawn.keys)
            return federation.finish(state, jax.tree.map(lambda leaf: leaf.sum(axis=0), parts)), None

        return jax.lax.scan(round, state, draws)[0]

    return jax.jit(jax.vmap(one, (0, 0, None, None)), compiler_options=QUICK)


@_keys.memoise(64)
def _adapted(federation: Federation) -> Any:
    algorithm, model = federation.algorithm, federation.model

    def one(phi: Any, x: Any, y: Any, support: Rows) -> Any:
        return algorithm.descend(model, phi, _batch(support, x, y), random.default_key(), probe=lambda p: p).probes

    return jax.jit(jax.vmap(one, (0, None, None, 0)), compiler_options=QUICK)


@_keys.memoise(8)
def _answers(model: Model) -> Any:
    def one(params: Any, x: Any, asked: Any) -> Any:
        return jax.vmap(lambda p: model.predict(p, x[asked]))(params)

    return jax.jit(jax.vmap(one, (0, None, 0)), compiler_options=QUICK)


def _batch(rows: Rows, x: Any, y: Any) -> Batch:
    return Batch.tree_unflatten(None, (x[rows.places], y[rows.places], jnp.asarray(rows.mask)))
