"""A client's update as bytes: from a member's data and the server's state to the message that it commits to.

It is the update of the simulation (`Federation.client`), with other keys: there, all draws follow from the procedure's
seed, which everyone has; here, from a secret of the member's. So nobody else can take away the noise that was added, or
tell which examples were support. The same member makes the same message again from the same data, state and round, as
it must after a crash.
"""

import hashlib
import hmac
import json
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import pytrees, random
from fedmeta._fit import check_fit
from fedmeta._settings import whole_number
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import TRANSFORM, Federation, Message
from fedmeta.node.aggregation import Exact
from fedmeta.node.errors import MessageRefused
from fedmeta.runs.procedure import Procedure

SECRET = 32
"""The fewest bytes of a member's secret."""

PROGRAMS = 8
"""How many federations' compiled updates are kept."""


def train(procedure: Procedure, data: FederatedDataset, state: bytes, round: int, secret: bytes) -> bytes:
    """Return the bytes of a member's message for a round: `pytrees.to_bytes(Message(...))`.

    A member with one client sends that client's update. One with several sends their mean, by the weights of the
    procedure's algorithm, transformed once: it is clipped and noised as a whole, and its weight is that of all their
    examples, or 1 where clients weigh alike.

    Args:
        procedure: what is learned, and how; exact, as `Exact` takes it.
        data: the member's examples. Clients with fewer than two are left out.
        state: the server's, before the round.
        round: the ledger's number of the round.
        secret: the member's, of at least `SECRET` bytes, which no one else has.

    Raises:
        UsageError: the procedure does not fit the data, is not exact, or its clients keep something between rounds; or
            the secret is too short, or the round no whole number of at least 1.
        DataError: the state has another length than the procedure's, or is not finite; or no client has two examples.
        Diverged: the update is not finite, or is one that the others would refuse.
    """
    exact = Exact(procedure)
    _check(procedure, data, round, secret)
    phi = exact.read_state(state).phi
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(phi)):
        raise DataError("the state's phi is not finite")
    draws = Draws(procedure, state, round, secret)
    tasks = {
        name: data.task(
            name, procedure.support, draws.seed("support", name), max_examples=procedure.max_examples, round=round
        )
        for name in data.at_least(2).client_ids
    }
    if not tasks:
        raise DataError(f"no client of {data!r} has two examples, one for support and one for query")
    federation = procedure.federation
    if len(tasks) == 1:
        ((name, task),) = tasks.items()
        message = _client(federation)(phi, task, draws.key("update", name))
    else:
        updates = [_update(federation)(phi, task, draws.key("update", name)) for name, task in tasks.items()]
        message = _encoded(federation)(_joined(procedure, updates), draws.key("transform"))
    sent = pytrees.to_bytes(message)
    try:
        exact.check(sent)
    except MessageRefused as error:
        raise Diverged(
            f"round {round}: the other members would refuse this update: {error}. A lower learning rate of the clients "
            "may help"
        ) from error
    return sent


class Draws:
    """The draws of a member in a round: HMAC-SHA-256, by its secret, of procedure, state, round and purpose.

    The state is among them, so that a round that starts anew from another state draws anew: the difference of two
    messages with the same noise would show what the noise hides. A key of JAX's has 64 bits.

    Args:
        procedure: by its digest.
        state: before the round, by its SHA-256.
        round: the ledger's number.
        secret: the member's.
    """

    def __init__(self, procedure: Procedure, state: bytes, round: int, secret: bytes):
        self._secret = secret
        self._place = ["fedmeta.node.training", procedure.digest, hashlib.sha256(state).hexdigest(), int(round)]

    def seed(self, purpose: str, client: str = "") -> int:
        """Return a seed of 64 bits for one purpose, of one client."""
        return int.from_bytes(self._code(purpose, client)[:8], "little")

    def key(self, purpose: str, client: str = "") -> jax.Array:
        """Return a threefry key for one purpose, of one client."""
        return random.as_key(np.frombuffer(self._code(purpose, client)[:8], "<u4").astype(np.uint32))

    def _code(self, purpose: str, client: str) -> bytes:
        text = json.dumps([*self._place, purpose, client])
        return hmac.new(self._secret, text.encode("ascii"), hashlib.sha256).digest()


def _check(procedure: Procedure, data: FederatedDataset, round: int, secret: bytes) -> None:
    if len(secret) < SECRET:
        raise UsageError(f"a member's secret must have at least {SECRET} bytes, not {len(secret)}")
    if whole_number("round", round) < 1:
        raise UsageError(f"round must be at least 1, not {round}")
    if procedure.precision != "float32":
        raise UsageError(f"a node trains in float32, and the procedure's precision is {procedure.precision}")
    federation = procedure.federation
    kept = jax.eval_shape(lambda: federation.memory(random.default_key()))
    if jax.tree.leaves(kept):
        raise UsageError(
            f"{federation.algorithm.title} with {federation.transform} keeps something at the client between rounds, "
            "which a node does not store yet"
        )
    check_fit(federation.model, data)


@lru_cache(maxsize=PROGRAMS)
def _client(federation: Federation) -> Any:
    """Return the compiled update and transform of a member with one client: (phi, task, key) -> Message."""
    memory = federation.memory(random.default_key())
    return jax.jit(lambda phi, task, key: federation.client(phi, task, key, memory)[0])


@lru_cache(maxsize=PROGRAMS)
def _update(federation: Federation) -> Any:
    """Return the compiled update of one of several clients: (phi, task, key) -> (pseudo-gradient, weight)."""
    memory, _ = federation.memory(random.default_key())

    def update(phi: Any, task: Any, key: Any) -> tuple[Any, Any]:
        found, _ = federation.algorithm.update(federation.model, phi, task, key, memory)
        return found.pseudo_gradient, found.weight

    return jax.jit(update)


@lru_cache(maxsize=PROGRAMS)
def _encoded(federation: Federation) -> Any:
    """Return the compiled transform: ((pseudo-gradient, weight), key) -> Message."""
    _, memory = federation.memory(random.default_key())

    def encoded(joined: tuple[Any, Any], key: Any) -> Message:
        body, _ = federation.transform.encode(joined[0], memory, jax.random.fold_in(key, TRANSFORM))
        return Message(body, joined[1])

    return jax.jit(encoded)


def _joined(procedure: Procedure, updates: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the mean of several clients' pseudo-gradients, and the member's weight."""
    weights = [weight for _, weight in updates]
    everything = sum(weights[1:], weights[0])

    def mean(*leaves: Any) -> Any:
        terms = [weight * leaf for weight, leaf in zip(weights, leaves, strict=True)]
        return sum(terms[1:], terms[0]) / everything

    gradient = jax.tree.map(mean, *[gradient for gradient, _ in updates])
    alike = procedure.algorithm.weighting == "clients"
    return gradient, jnp.ones_like(everything) if alike else everything
