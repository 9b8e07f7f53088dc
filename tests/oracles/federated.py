"""The round as one would write it first: one client after another, nothing padded, every message through its bytes.

Only a client's own update is compiled. What is done with its bytes is done on NumPy, as a node does it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from fedmeta import optimisers, pytrees, random
from fedmeta.federation import Message, add, stack


class Round(NamedTuple):
    """What a round gave: the state, the weighted means of the metrics, and the bytes that each client sent."""

    state: Any
    metrics: dict
    sent: dict


@lru_cache(maxsize=2)
def _client(federation):
    return jax.jit(federation.client)


def play(federation, state, tasks, keys, memories):
    """Return the `Round` after `state`; what the clients keep is put into `memories`.

    Args:
        federation: what is computed.
        state: before the round.
        tasks: by the client's name, unpadded; in this order they are added or stacked.
        keys: by the client's name.
        memories: by the client's name.
    """
    parts, metrics, weights, sent = [], [], [], {}
    for name, task in tasks.items():
        message, measured, memories[name] = jax.device_get(
            _client(federation)(state.phi, task, keys[name], memories[name])
        )
        sent[name] = pytrees.to_bytes(message)
        assert len(sent[name]) == pytrees.payload(message)
        # The receiver has the shapes from the procedure: those of the body from the transform, and one weight.
        like = Message(
            federation.transform.body_like(federation.phi_like), jax.ShapeDtypeStruct((), message.weight.dtype)
        )
        received = pytrees.from_bytes(sent[name], like)
        assert jax.tree.structure(received) == jax.tree.structure(message)
        parts.append(federation.lift(received))
        metrics.append(measured)
        weights.append(float(message.weight))
    total = parts[0] if federation.aggregator.needs == "sum" else stack(parts)
    for part in parts[1:] if federation.aggregator.needs == "sum" else ():
        total = add(total, part)
    means = {key: np.average([float(one[key]) for one in metrics], weights=weights) for key in metrics[0]}
    if isinstance(federation.server, optimisers.NamedOptimiser):
        state = jax.device_get(state)
    return Round(federation.finish(state, total), means, sent)


def rounds(federation, data, cohorts, support, seed):
    """Return the rounds of these cohorts, and what the clients that took part have kept at their end.

    Args:
        federation: what is computed.
        data: the clients.
        cohorts: by the number of the round, from 1, the names of those that take part.
        support: the share of a client's examples that is its support set.
        seed: of the draws, each folded by purpose, round and client.
    """
    start = random.as_key(random.key_data(seed, "init"))
    state, fresh, memories, done = federation.init(start), jax.device_get(federation.memory(start)), {}, []
    for number, names in cohorts.items():
        tasks = {name: data.task(name, support, seed, round=number) for name in names}
        keys = {name: random.as_key(random.key_data(seed, "client batches", number, name)) for name in names}
        memories.update({name: fresh for name in names if name not in memories})
        done.append(play(federation, state, tasks, keys, memories))
        state = done[-1].state
    return done, memories
