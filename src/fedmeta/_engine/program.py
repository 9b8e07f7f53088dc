"""The compiled programs: a round of a cohort, and the evaluation of a group of clients."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from fedmeta import random
from fedmeta._engine.cohort import Cohort
from fedmeta._engine.plan import Plan, Precision
from fedmeta._engine.rewrite.interpreter import Options, rewrite, trace
from fedmeta._engine.rewrite.low_rank import LowRank, dense, is_low_rank, stacked_rows
from fedmeta._engine.sharding import AXIS
from fedmeta._engine.tracing import traced_client
from fedmeta.aggregators import Aggregator, Part
from fedmeta.errors import UsageError
from fedmeta.federation import Federation, ServerState

KEPT = 4
"""The factors of a cohort may take this many times the memory of their matrix."""

PROGRAMS = 32
"""How many compiled programs of each kind are kept."""


class RoundResult(NamedTuple):
    """What a round gives.

    `state` is the new one, `metrics` the weighted means of the clients' metrics, `finite` whether all of it is finite,
    shape []; `memory` what the clients keep, every array [clients, ...].
    """

    state: ServerState
    metrics: dict[str, jax.Array]
    finite: jax.Array
    memory: Any


class Answer(NamedTuple):
    """What a client brings to a round: its part, its metrics times its weight, its weight, and what it keeps."""

    part: Part
    metrics: dict[str, jax.Array]
    weight: jax.Array
    memory: Any


@lru_cache(maxsize=PROGRAMS)
def round_program(federation: Federation, plan: Plan, precision: Precision, mesh: Mesh) -> Any:
    """Return the jitted round: client updates, the aggregate, the server's step.

    It maps (state, spent, cohort, memory) to the fields of a `RoundResult`. The new state reuses the
    memory of `spent`, a state of the same shapes that is no longer needed, or None.
    """
    aggregator = federation.aggregator

    def run(state: ServerState, spent: Any, cohort: Cohort, memory: Any) -> Any:
        del spent
        client = client_answer(federation, plan, precision)

        def group(some: tuple[Cohort, Any]) -> tuple[Any, Any]:
            answer = _side_by_side(client, state.phi, *some)
            figures = (answer.metrics, answer.weight)
            summed, kept = ((answer.part, figures), ()) if aggregator.needs == "sum" else (figures, answer.part)
            return summed, (kept, answer.memory)

        summed, (parts, after) = _over_groups(group, (cohort, memory), len(cohort.present), plan.chunk)
        if mesh.size > 1:
            summed = jax.lax.psum(summed, AXIS)
        total, (metrics, weight) = summed if aggregator.needs == "sum" else (parts, summed)
        if aggregator.needs != "sum" and mesh.size > 1:
            stepped = federation.step(state, _finish_together(aggregator, total, mesh.size))
        else:
            stepped = federation.finish(state, total)
        share = jnp.where(weight > 0, weight, jnp.ones_like(weight))
        means = {name: value / share for name, value in metrics.items()}
        return stepped, means, _state_is_finite(stepped), after

    each, whole = PartitionSpec(AXIS), PartitionSpec()
    outputs: Any = (whole, whole, whole, each)
    return jax.jit(_on(mesh, run, (whole, whole, each, each), outputs), donate_argnums=1, keep_unused=True)


@lru_cache(maxsize=PROGRAMS)
def finite_program(
    federation: Federation, plan: Plan, precision: Precision, mesh: Mesh
) -> Callable[[Any, Cohort, Any], jax.Array]:
    """Return the compiled search for clients whose update is not finite: (phi, cohort, memory) -> bools [clients]."""

    def run(phi: Any, cohort: Cohort, memory: Any) -> jax.Array:
        client = client_answer(federation, plan, precision)

        def one(_: None, some: tuple[Cohort, Any]) -> tuple[None, jax.Array]:
            answer = _all_dense(_alone(client, phi, *some))
            return None, all_finite((answer.part, answer.weight))

        return jax.lax.scan(one, None, (cohort, memory))[1]

    each = PartitionSpec(AXIS)
    return jax.jit(_on(mesh, run, (PartitionSpec(), each, each), each))


@lru_cache(maxsize=PROGRAMS)
def evaluation_program(
    federation: Federation, curve: bool, answers: bool, plan: Plan, precision: Precision, mesh: Mesh
) -> Callable[[Any, Cohort, Any], tuple[dict[str, jax.Array], Any]]:
    """Return the compiled evaluation of a group of clients.

    It maps (phi, cohort, memory) to each metric's means over every client's query examples, shape [clients, points]:
    before adaptation and after it, or with `curve` also after each step; and with `answers` to the predictions for
    them before and after, each shape [clients, 2, query, ...], else to None. `memory` is that of a client that has
    taken no part.
    """
    algorithm, model = federation.algorithm, federation.model

    def scores(phi: Any, task: Any, words: Any, memory: Any) -> tuple[dict[str, jax.Array], Any]:
        def probe(params: Any) -> dict[str, jax.Array]:
            return model.scores(params, task.query)[1]

        def both(function: Callable[[Any], Any]) -> Any:
            start = algorithm.start(phi, memory, adapting=True).params
            return jax.tree.map(lambda a, b: jnp.stack([a, b]), function(start), function(descent.params))

        key = random.as_key(words)
        descent = algorithm.descend(model, phi, task.support, key, probe if curve else None, memory)
        measured = descent.probes if curve else both(probe)
        query = task.query
        return measured, both(lambda params: model.predict(params, query.x, mask=query.mask)) if answers else None

    def run(phi: Any, cohort: Cohort, memory: Any) -> tuple[dict[str, jax.Array], Any]:
        def client(task: Any, words: Any) -> tuple[dict[str, jax.Array], Any]:
            return _rewritten(scores, plan, precision, phi, task, words, memory)

        def group(some: Cohort) -> tuple[None, Any]:
            if some.present.ndim == 0:
                return None, client(some.tasks, some.keys)
            return None, jax.vmap(client)(some.tasks, some.keys)

        return _over_groups(group, cohort, len(cohort.present), plan.chunk)[1]

    each = PartitionSpec(AXIS)
    return jax.jit(_on(mesh, run, (PartitionSpec(), each, PartitionSpec()), each))


def client_answer(federation: Federation, plan: Plan, precision: Precision) -> Callable[..., Answer]:
    """Return (phi, task, key words, memory, present) -> `Answer`, in the plan's form; matrices may be `LowRank`."""
    if plan.remat:
        model = replace(federation.model, apply=jax.checkpoint(federation.model.apply))
        federation = replace(federation, model=model)

    def answer(phi: Any, task: Any, words: Any, memory: Any, present: Any) -> Answer:
        if plan.rewrite:
            message, metrics, after = traced_client(federation, phi, task, words, memory)
        else:
            message, metrics, after = federation.client(phi, task, random.as_key(words), memory)
        weight = message.weight * present
        # A part of weight 0 counts for nothing: fillers of the cohort add nothing.
        part = federation.lift(message._replace(weight=weight))
        return Answer(part, {name: value * weight for name, value in metrics.items()}, weight, after)

    return lambda *args: _rewritten(answer, plan, precision, *args)


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point number in the pytree is finite, as a boolean of shape []."""
    kinds: dict[Any, Any] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            # A number that is not finite stays so times zero; arrays of one shape are checked in one pass.
            kinds[leaf.shape, leaf.dtype] = kinds.get((leaf.shape, leaf.dtype), 0) + leaf * jnp.zeros((), leaf.dtype)
    checks = [jnp.sum(zeros) == jnp.zeros((), zeros.dtype) for zeros in kinds.values()]
    return jnp.all(jnp.stack(checks)) if checks else jnp.array(True)


def _state_is_finite(state: ServerState) -> jax.Array:
    # A scalar of an optimiser's state may be infinite on purpose, such as a norm that clips nothing yet.
    moments = [leaf for leaf in jax.tree.leaves(state.optimiser) if leaf.ndim]
    return all_finite((state.phi, moments))


def _on(mesh: Mesh, function: Callable[..., Any], inputs: Any, outputs: Any) -> Callable[..., Any]:
    """Turn a function of one device's share of the clients into a function of all clients."""
    if mesh.size == 1:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)


def _rewritten(function: Callable[..., Any], plan: Plan, precision: Precision, *args: Any) -> Any:
    """Return what a function of one client gives, rewritten as the plan says."""
    products = None if precision == "float32" else jnp.dtype(precision)
    if not plan.rewrite and products is None:
        return function(*args)
    options = Options(
        low_rank=plan.low_rank and plan.rewrite,
        convolution=plan.convolution if plan.rewrite else None,
        sums=plan.rewrite,
        products=products,
    )
    # Errors in the user's own program are raised here, unchanged.
    traced = trace(function, *args)
    try:
        return rewrite(traced, options)(*args)
    except Exception as error:
        if products is not None:
            raise UsageError(f"precision {precision} is not possible for this program: {_first_line(error)}") from error
        warnings.warn(
            f"the engine cannot rewrite this program ({type(error).__name__}: {_first_line(error)}), so it runs as it "
            "is, with the same result; the plan rewrite=false skips the attempt",
            stacklevel=2,
        )
        return function(*args)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _groups(tree: Any, count: int, chunk: int) -> Any:
    """Return arrays [clients, ...] as [groups, chunk, ...]; unchanged where a chunk is one client or all."""
    if chunk in (1, count):
        return tree
    return jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), tree)


def _alone(client: Callable[..., Answer], phi: Any, cohort: Cohort, memory: Any) -> Answer:
    return client(phi, cohort.tasks, cohort.keys, memory, cohort.present)


def _side_by_side(client: Callable[..., Answer], phi: Any, cohort: Cohort, memory: Any) -> Answer:
    """Return the answers of clients computed as one batch [chunk, ...], or of one client alone."""
    if cohort.present.ndim == 0:
        return _alone(client, phi, cohort, memory)
    return jax.vmap(lambda cohort, memory: _alone(client, phi, cohort, memory))(cohort, memory)


def _over_groups(group: Callable[[Any], tuple[Any, Any]], clients: Any, count: int, chunk: int) -> tuple[Any, Any]:
    """Return the sum over clients of the first result of `group`, and its second result for each client.

    Args:
        group: maps some clients, every array [chunk, ...], or one client's alone, to two pytrees alike; matrices in
            the first may be `LowRank`.
        clients: every array [clients, ...].
        count: how many clients there are.
        chunk: how many are computed side by side.
    """
    alone = chunk == 1
    groups = _groups(clients, count, chunk)
    if chunk == count:
        summed, kept = group(jax.tree.map(lambda leaf: leaf[0], groups) if alone else groups)
        kept = _all_dense(kept)
        total = jax.tree.map(lambda leaf: dense(_sum_clients(leaf, alone)), summed, is_leaf=is_low_rank)
        return total, jax.tree.map(lambda leaf: leaf[None], kept) if alone else kept

    def partial(some: Any) -> tuple[Any, Any]:
        summed, kept = group(some)
        return jax.tree.map(lambda leaf: _sum_clients(leaf, alone), summed, is_leaf=is_low_rank), _all_dense(kept)

    first = jax.tree.map(lambda leaf: leaf[0], groups)
    shapes, structure = jax.tree.flatten(jax.eval_shape(partial, first)[0], is_leaf=is_low_rank)
    number = count // chunk
    # The factors of all groups are kept for one product after the loop, unless they take several times the memory of
    # the matrix.
    later = [is_low_rank(shape) and number * shape.size <= KEPT * shape.aval.size for shape in shapes]

    def step(sums: list[Any], some: Any) -> tuple[list[Any], Any]:
        found, kept = partial(some)
        leaves = jax.tree.leaves(found, is_leaf=is_low_rank)
        now = [dense(leaf) for leaf, wait in zip(leaves, later, strict=True) if not wait]
        waiting = [leaf for leaf, wait in zip(leaves, later, strict=True) if wait]
        return [a + b for a, b in zip(sums, now, strict=True)], (waiting, kept)

    now = [shape.aval if is_low_rank(shape) else shape for shape, wait in zip(shapes, later, strict=True) if not wait]
    sums, (stacked, kept) = jax.lax.scan(step, [jnp.zeros(one.shape, one.dtype) for one in now], groups)
    done, waiting = iter(sums), iter(stacked)
    leaves = [_one_product(next(waiting)) if wait else next(done) for wait in later]
    if not alone:
        kept = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)
    return jax.tree.unflatten(structure, leaves), kept


def _sum_clients(value: Any, alone: bool) -> Any:
    """Return the sum over clients of arrays [chunk, ...]; the arrays of a single client unchanged."""
    if alone:
        return value
    if not is_low_rank(value):
        return value.sum(axis=0)
    base = None if value.base is None else value.base.sum(axis=0)
    return LowRank(base, stacked_rows(value.lefts), stacked_rows(value.rights))


def _one_product(stacked: LowRank) -> jax.Array:
    """Return the sum of several low-rank matrices, their arrays stacked, as one product."""
    base = None if stacked.base is None else stacked.base.sum(axis=0)
    return LowRank(base, stacked_rows(stacked.lefts), stacked_rows(stacked.rights)).dense()


def _all_dense(tree: Any) -> Any:
    return jax.tree.map(dense, tree, is_leaf=is_low_rank)


def _finish_together(aggregator: Aggregator, parts: Part, devices: int) -> Any:
    """Return the aggregate of parts that are spread over devices by clients.

    For a rule by columns each device takes its share of the coordinates of all clients, so that no device ever holds
    all updates; other rules gather them.
    """
    if aggregator.needs == "updates":
        return aggregator.finish(jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, AXIS, tiled=True), parts))
    weight = jax.lax.all_gather(parts.weight, AXIS, tiled=True)
    leaves, structure = jax.tree.flatten(parts.tree)
    done = []
    for leaf in leaves:
        rows = leaf.reshape(leaf.shape[0], -1)
        rows = jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % devices)))
        mine = jax.lax.all_to_all(rows, AXIS, split_axis=1, concat_axis=0, tiled=True)
        found = jax.lax.all_gather(aggregator.finish(Part(mine, weight)), AXIS, tiled=True)
        done.append(found[: leaf[0].size].reshape(leaf.shape[1:]))
    return jax.tree.unflatten(structure, done)
