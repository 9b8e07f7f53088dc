"""Federated training as one would write it first: a loop over clients, nothing padded, the mean in NumPy."""

from functools import lru_cache

import jax
import numpy as np
import optax

from fedmeta import random


def keys(seed, number, name):
    """The key from which a client draws its batches in a round: folded by purpose, round and client."""
    return jax.random.wrap_key_data(random.key_data(seed, "client batches", number, name))


@lru_cache
def client_update(algorithm, model):
    return jax.jit(lambda phi, task, key: algorithm.update(model, phi, task, key)[0])


def train(algorithm, model, data, cohorts, server, support, seed):
    """Return phi after each round, for cohorts given by the clients' names."""
    phi = algorithm.init(model, jax.random.wrap_key_data(random.key_data(seed, "init")))
    moments, step = server.init(phi), jax.jit(server.update)
    visited = []
    for number, names in enumerate(cohorts, 1):
        updates = [
            client_update(algorithm, model)(phi, data.task(name, support, seed, round=number), keys(seed, number, name))
            for name in names
        ]
        weights = np.array([float(update.weight) for update in updates])

        def mean(*leaves, weights=weights):
            stacked = np.stack([np.asarray(leaf, np.float64) for leaf in leaves])
            return np.average(stacked, axis=0, weights=weights).astype(np.float32)

        direction = jax.tree.map(mean, *[update.pseudo_gradient for update in updates])
        steps, moments = step(direction, moments, phi)
        phi = optax.apply_updates(phi, steps)
        visited.append(phi)
    return visited
