"""The compiled programs: a round of a cohort, and the evaluation of a group of clients."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from fedmeta import aggregate, random, server
from fedmeta._engine.cohort import Cohort
from fedmeta._engine.plan import Plan, Precision
from fedmeta._engine.rewrite.interpreter import Options, Traced, rewrite, trace
from fedmeta._engine.rewrite.low_rank import LowRank
from fedmeta._engine.sharding import AXIS
from fedmeta.algorithms.algorithm import Algorithm, ClientUpdate
from fedmeta.data.dataset import FederatedDataset
from fedmeta.model import Model
from fedmeta.task import Batch, Task

KEPT = 4
"""The factors of a cohort may take so many times what their matrix takes."""


class RoundResult(NamedTuple):
    """What a round gives: the new state, the weighted means of the clients' metrics, and whether all of it is finite.

    `finite` has shape [].
    """

    state: server.ServerState
    metrics: dict[str, jax.Array]
    finite: jax.Array


@lru_cache(maxsize=32)
def round_program(
    algorithm: Algorithm,
    model: Model,
    optimiser: optax.GradientTransformation,
    plan: Plan,
    precision: Precision,
    mesh: Mesh,
) -> Any:
    """Return the jitted round: client updates, their mean, the server's step.

    It maps (state, spent, cohort) to a `RoundResult`, whose state takes the place of `spent` in memory: a state of the
    same shapes that is needed no more, or None.
    """

    def run(state: server.ServerState, spent: Any, cohort: Cohort) -> RoundResult:
        del spent
        client = _client_update(algorithm, model, plan, precision)

        def group(some: Cohort) -> tuple[Any, Any, Any]:
            updates = _side_by_side(client, state.phi, some)
            weights = updates.weight * some.present
            sums = _weighted_sum((updates.direction, updates.metrics), weights)
            return *sums, jnp.sum(weights)

        directions, metrics, weight = _sum_over_groups(group, cohort, plan.chunk)
        if mesh.size > 1:
            directions, metrics, weight = jax.lax.psum((directions, metrics, weight), AXIS)
        direction = aggregate.value(aggregate.Mean(directions, weight))
        stepped = server.step(optimiser, state, direction)
        finite = all_finite((stepped.phi, stepped.optimiser))
        return RoundResult(stepped, aggregate.value(aggregate.Mean(metrics, weight)), finite)

    specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS))
    return jax.jit(_on(mesh, run, specs, PartitionSpec()), donate_argnums=1, keep_unused=True)


@lru_cache(maxsize=32)
def finite_program(
    algorithm: Algorithm, model: Model, plan: Plan, precision: Precision, mesh: Mesh
) -> Callable[[Any, Cohort], jax.Array]:
    """Return the compiled search for clients whose update is not finite: (phi, cohort) -> booleans [clients]."""

    def run(phi: Any, cohort: Cohort) -> jax.Array:
        client = _client_update(algorithm, model, plan, precision)

        def one(_: None, some: Cohort) -> tuple[None, jax.Array]:
            update = client(phi, some.tasks, some.keys)
            direction = jax.tree.map(_dense, update.direction, is_leaf=_is_low_rank)
            return None, all_finite((direction, update.weight))

        return jax.lax.scan(one, None, cohort)[1]

    return jax.jit(_on(mesh, run, (PartitionSpec(), PartitionSpec(AXIS)), PartitionSpec(AXIS)))


@lru_cache(maxsize=32)
def evaluation_program(
    algorithm: Algorithm, model: Model, curve: bool, plan: Plan, precision: Precision, mesh: Mesh
) -> Callable[[Any, Cohort], dict[str, jax.Array]]:
    """Return the compiled evaluation of a group of clients.

    It maps (phi, cohort) to each metric's means over every client's query examples, shape [clients, points]:
    before adaptation and after it, or with `curve` also after each step.
    """

    def scores(phi: Any, task: Any, words: Any) -> dict[str, jax.Array]:
        def probe(params: Any) -> dict[str, jax.Array]:
            return model.scores(params, task.query)[1]

        descent = algorithm.descend(model, phi, task.support, random.as_key(words), probe if curve else None)
        if curve:
            return descent.probes
        before = probe(algorithm.start(phi, adapting=True).params)
        return jax.tree.map(lambda a, b: jnp.stack([a, b]), before, probe(descent.params))

    def run(phi: Any, cohort: Cohort) -> dict[str, jax.Array]:
        options = _options(plan, precision)

        def client(phi: Any, task: Any, words: Any) -> dict[str, jax.Array]:
            return rewrite(trace(scores, phi, task, words), options)(phi, task, words)

        def group(_: None, some: Cohort) -> tuple[None, dict[str, jax.Array]]:
            return None, _side_by_side(client, phi, some)

        groups = _groups(cohort, plan.chunk)
        if plan.chunk == len(cohort.present):
            return group(None, groups)[1]
        found = jax.lax.scan(group, None, groups)[1]
        if plan.chunk == 1:
            return found
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)

    return jax.jit(_on(mesh, run, (PartitionSpec(), PartitionSpec(AXIS)), PartitionSpec(AXIS)))


def traced_update(algorithm: Algorithm, model: Model, data: FederatedDataset, lengths: tuple[int, int]) -> Traced:
    """Return the update of one client of the data set, padded to these lengths, as the algorithm states it."""
    phi = jax.eval_shape(lambda: algorithm.init(model, jax.random.key(0)))
    return _traced_update(algorithm, model, False, phi, *example(data, lengths))


def example(data: FederatedDataset, lengths: tuple[int, int]) -> tuple[Any, Any]:
    """Return the shapes of a client's task and of its key words."""

    def batch(length: int) -> Batch:
        return Batch.tree_unflatten(None, (*data.shapes(length), jax.ShapeDtypeStruct((length,), np.float32)))

    return Task(batch(lengths[0]), batch(lengths[1])), jax.ShapeDtypeStruct((2,), np.uint32)


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point number in the pytree is finite, as a boolean of shape []."""
    kinds: dict[Any, Any] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            # What is not finite stays so times zero; arrays of one shape are looked at in one pass.
            kinds[leaf.shape, leaf.dtype] = kinds.get((leaf.shape, leaf.dtype), 0.0) + leaf * 0.0
    return jnp.all(jnp.stack([jnp.sum(zeros) == 0.0 for zeros in kinds.values()]))


def _on(mesh: Mesh, function: Callable[..., Any], inputs: Any, outputs: Any) -> Callable[..., Any]:
    """Return the function of a device's own share of the clients as one of all of them."""
    if mesh.size == 1:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)


def _options(plan: Plan, precision: Precision) -> Options:
    products = None if precision == "float32" else jnp.dtype(precision)
    return Options(low_rank=plan.low_rank, convolution=plan.convolution, products=products)


def _client_update(
    algorithm: Algorithm, model: Model, plan: Plan, precision: Precision
) -> Callable[[Any, Any, Any], ClientUpdate]:
    """Return one client's update in the plan's form; matrices of its direction may be `LowRank`."""
    options = _options(plan, precision)

    def run(phi: Any, task: Any, words: Any) -> ClientUpdate:
        traced = _traced_update(algorithm, model, plan.remat, phi, task, words)
        return rewrite(traced, options)(phi, task, words)

    return run


def _traced_update(algorithm: Algorithm, model: Model, remat: bool, *args: Any) -> Traced:
    leaves, structure = jax.tree.flatten(args)
    return _trace_once(algorithm, model, remat, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@lru_cache(maxsize=64)
def _trace_once(algorithm: Algorithm, model: Model, remat: bool, structure: Any, shapes: Any) -> Traced:
    if remat:
        model = replace(model, apply=jax.checkpoint(model.apply))
    args = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return trace(
        lambda phi, task, words: algorithm.client_update(model, phi, task, random.as_key(words)),
        *args,
    )


def _groups(cohort: Cohort, chunk: int) -> Cohort:
    """Return the cohort with its axis [clients] split into [groups, chunk]; the one there is where that is one."""
    if chunk in (1, len(cohort.present)):
        return cohort
    return jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), cohort)


def _side_by_side(client: Callable[..., Any], phi: Any, some: Cohort) -> Any:
    """Return the results of clients computed as one batch [chunk, ...], or of one client alone."""
    if some.present.ndim == 0:
        return client(phi, some.tasks, some.keys)
    return jax.vmap(lambda one: client(phi, one.tasks, one.keys))(some)


def _sum_over_groups(group: Callable[[Cohort], Any], cohort: Cohort, chunk: int) -> Any:
    """Return the sum of what `group` gives for each chunk of the cohort; matrices in it may be `LowRank`."""
    groups = _groups(cohort, chunk)
    first = jax.tree.map(lambda leaf: leaf[0], groups)
    count = len(cohort.present) // chunk
    if chunk == len(cohort.present):
        found = group(first if chunk == 1 else groups)
        return jax.tree.map(_dense, found, is_leaf=_is_low_rank)
    shapes, structure = jax.tree.flatten(jax.eval_shape(group, first), is_leaf=_is_low_rank)
    # The factors of all groups are kept for one product after the loop, as long as that is less than the matrix itself
    # would take a few times.
    later = [_is_low_rank(shape) and count * shape.size <= KEPT * shape.aval.size for shape in shapes]

    def step(sums: list[Any], some: Cohort) -> tuple[list[Any], list[Any]]:
        found = jax.tree.leaves(group(some), is_leaf=_is_low_rank)
        now = [_dense(leaf) for leaf, wait in zip(found, later, strict=True) if not wait]
        return [a + b for a, b in zip(sums, now, strict=True)], [
            leaf for leaf, wait in zip(found, later, strict=True) if wait
        ]

    now = [shape.aval if _is_low_rank(shape) else shape for shape, wait in zip(shapes, later, strict=True) if not wait]
    sums, stacked = jax.lax.scan(step, [jnp.zeros(one.shape, one.dtype) for one in now], groups)
    done, waiting = iter(sums), iter(stacked)
    leaves = [_one_product(next(waiting)) if wait else next(done) for wait in later]
    return jax.tree.unflatten(structure, leaves)


def _weighted_sum(tree: Any, weights: jax.Array) -> Any:
    """Return the sum over clients of weight * tree; every array [chunk, ...], or of one client alone."""

    def leaf(value: Any) -> Any:
        if not _is_low_rank(value):
            scaled = value * weights.reshape(weights.shape + (1,) * (value.ndim - weights.ndim)).astype(value.dtype)
            return scaled.sum(axis=0) if weights.ndim else scaled
        rights = tuple(right * weights[..., None, None].astype(right.dtype) for right in value.rights)
        base = None if value.base is None else leaf(value.base)
        return LowRank(base, _rows(value.lefts), _rows(rights))

    return jax.tree.map(leaf, tree, is_leaf=_is_low_rank)


def _one_product(stacked: LowRank) -> jax.Array:
    """Return the sum of several factored matrices, their arrays stacked, as one product."""
    base = None if stacked.base is None else stacked.base.sum(axis=0)
    return LowRank(base, _rows(stacked.lefts), _rows(stacked.rights)).dense()


def _rows(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return factors as matrices [rank, ...], the axes before the last as one: a sum over clients is a longer rank."""
    return tuple(part.reshape(-1, part.shape[-1]) for part in parts)


def _is_low_rank(value: Any) -> bool:
    return isinstance(value, LowRank)


def _dense(value: Any) -> Any:
    return value.dense() if _is_low_rank(value) else value
