"""Figures of a client's update, without computing it; traced once for each federation and shape."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from fedmeta import accounting, pytrees, random
from fedmeta._engine.rewrite.interpreter import Traced, trace
from fedmeta._precision import doubles
from fedmeta.data.dataset import FederatedDataset
from fedmeta.federation import Federation
from fedmeta.task import Batch, Task

KEPT = 256
"""How many figures are remembered, and of traced programs an eighth as many."""


def task_like(data: FederatedDataset, lengths: tuple[int, int]) -> Task:
    """Return the shapes of a task of the data set, its support and query padded to these lengths."""

    def batch(length: int) -> Batch:
        return Batch.tree_unflatten(None, (*data.shapes(length), jax.ShapeDtypeStruct((length,), np.float32)))

    return Task(batch(lengths[0]), batch(lengths[1]))


def traced_update(federation: Federation, task: Task) -> Traced:
    """Return a client's round, for the shapes of its task, as the federation states it."""
    return _traced(federation, _Shapes.of(task))


def traced_client(federation: Federation, phi: Any, task: Task, words: Any, memory: Any) -> Any:
    """Return what `federation.client` returns, by the operations that were traced for these shapes already.

    Args:
        federation: what is computed.
        phi: arrays or tracers, as all that follow.
        task: the client's.
        words: of its key.
        memory: the client's.
    """
    traced, leaves = traced_update(federation, task), jax.tree.leaves((phi, task, words, memory))
    given = [(leaf.shape, leaf.dtype) for leaf in leaves]
    if given != [(known.shape, known.dtype) for known in traced.program.in_avals]:
        return federation.client(phi, task, random.as_key(words), memory)
    return jax.tree.unflatten(traced.results, core.jaxpr_as_fun(traced.program)(*leaves))


def update_flops(federation: Federation, task: Task) -> int | None:
    """Return the floating-point operations of a client's round, or None where they cannot be counted."""
    return _flops(federation, _Shapes.of(task))


def message_bytes(federation: Federation, task: Task) -> int:
    """Return the bytes of what a client sends."""
    return _message_bytes(federation, _Shapes.of(task))


class _Shapes(NamedTuple):
    """The shapes of a pytree, hashable, and whether JAX has doubles, on which the types of a program depend."""

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]
    doubles: bool

    @classmethod
    def of(cls, tree: Any) -> "_Shapes":
        leaves, structure = jax.tree.flatten(tree)
        shapes = tuple((tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in leaves)
        return cls(structure, shapes, doubles())

    def tree(self) -> Any:
        return jax.tree.unflatten(self.structure, [jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


@lru_cache(maxsize=KEPT // 8)
def _traced(federation: Federation, task: _Shapes) -> Traced:
    def update(phi: Any, task: Any, words: Any, memory: Any) -> Any:
        return federation.client(phi, task, random.as_key(words), memory)

    memory = jax.eval_shape(federation.memory, random.default_key())
    words = jax.ShapeDtypeStruct((2,), np.uint32)
    return trace(update, federation.phi_like, task.tree(), words, memory)


@lru_cache(maxsize=KEPT)
def _flops(federation: Federation, task: _Shapes) -> int | None:
    try:
        return accounting.count_flops_of(_traced(federation, task).program)
    except accounting.Uncountable:
        return None


@lru_cache(maxsize=KEPT)
def _message_bytes(federation: Federation, task: _Shapes) -> int:
    traced = _traced(federation, task)
    message, _, _ = jax.tree.unflatten(traced.results, traced.program.out_avals)
    return pytrees.payload(message)
