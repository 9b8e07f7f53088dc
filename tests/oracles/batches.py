"""Which examples each step of an inner loop visits, found out without any model's gradient.

The loop is run on one number per example, with a loss that is the number of the example visited. A step therefore
lowers exactly the numbers of the examples in its batch, and only their being lower is used.
"""

from functools import lru_cache

import jax
import numpy as np

import fedmeta as fm
from fedmeta.algorithms.inner import Start


def visited(loop, examples, key, padding=0):
    """Return one sorted array of example numbers for each step that was taken."""
    steps = np.diff(np.asarray(_values(loop, examples, padding)(key)), axis=0) < 0
    return [np.flatnonzero(step) for step in steps if step.any()]


@lru_cache
def _values(loop, examples, padding):
    """Return a compiled function of the key that gives every example's number before and after each step."""
    model = fm.Model(
        lambda key: np.zeros(examples), lambda params, x: params[x], loss=lambda values, y: values, metrics={}
    )
    x = np.append(np.arange(examples), np.zeros(padding, int))
    batch = fm.Batch(x, np.zeros(len(x)), np.append(np.ones(examples), np.zeros(padding)).astype(np.float32))
    start = Start(jax.numpy.zeros(examples), fm.optimisers.sgd(1.0))
    return jax.jit(lambda key: loop.run(model, start, batch, key, probe=lambda params: params).probes)
