"""What a seat finds that each update of a round is worth: the points that it opens beside the round's result.

A seat measures on examples of its own that no update has seen: the query loss after adaptation. What a coalition of
updates is worth is what this falls by when the server steps by their sum, divided by the weights of *all* that are in,
the absent ones as zeros; so who sends zeros is a dummy and earns nothing. No update counts as longer than the median
one. Each update has two values, both Shapley values of such a game:

- its *news*: what its part at right angles to all updates of the last `LOOKBACK` rounds gains in this round. What was
  published or sent before, or any mix of it, is no news;
- its *worth*: what all of it gains, in which the member's earlier rounds count too, each round back by `DECAY` less.

It is paid by its share of all news, unless it does harm: its worth is as far below zero as others' is from zero on
average. Who repeats what is known has worth and no news; who sends poison is sometimes new by chance, and does harm.
`benchmarks/contribution.py` measures what this and other rules pay to whom.
"""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Float64, Int

from fedmeta import pytrees, random
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import Federation, Message, ServerState
from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node import shapley
from fedmeta.node.aggregation import Exact
from fedmeta.node.errors import BadMemory, NotDone
from fedmeta.task import Task

SMALLEST = 20
"""The fewest held-out examples on which a seat scores; with fewer it gives all others the same."""

HELD = 0.25
"""The part of its examples that a member with a seat trains on in no round."""

SPLITS = 8
"""How often the held-out examples are split anew into support and query in a round."""

STEPS = 100
"""Scores are whole hundredths of what a seat has to give."""

AT_ONCE = 16
"""Coalitions of which the losses are asked for together; between two such questions it can end."""

LOOKBACK = 3
"""Rounds whose updates are no news."""

COPY = 0.01
"""The part of an update's length up to which it is taken for a copy."""

DECAY = 0.8
"""What a round's worth still counts in the next."""

KEPT = 12
"""Rounds whose worth is kept."""

LARGEST = 1 << 28
"""Bytes of earlier updates that are kept; beyond that, of fewer rounds."""


class Past(NamedTuple):
    """What is kept of a round.

    `updates` are those whose parts are no news any more, shape [updates, numbers]; none for an older round.
    """

    number: int
    worth: Mapping[str, float]
    updates: Float[np.ndarray, "updates numbers"]


class Round(NamedTuple):
    """What a seat is asked to score.

    `members` sent the updates, in the ledger's order; `own` says which are of the seat's own organisation; `budget`
    are the points for each of the others, if all get as much.
    """

    number: int
    members: tuple[str, ...]
    own: tuple[bool, ...]
    budget: int


def score(
    exact: Exact,
    state: bytes,
    messages: Sequence[bytes],
    round: Round,
    held: FederatedDataset,
    memory: bytes = b"",
    *,
    seconds: float = math.inf,
) -> tuple[tuple[int, ...], bytes]:
    """Return the points of each update, and what to give for `memory` in the recipe's next round.

    Args:
        exact: of the procedure.
        state: before the round.
        messages: in the order of the round's members, all checked.
        round: what is scored.
        held: one client with the examples that were held out.
        memory: what the scoring of earlier rounds of the same recipe gave; empty for none.
        seconds: after which it gives up: the result of a round must not wait for its scores.

    Raises:
        NotDone: it takes longer than it may.
        UsageError: there are not as many messages as members.
        DataError: there are too few held-out examples.
        BadMemory: the memory is not what this function gave.
        Diverged: the loss of the state before the round is not finite.
    """
    until = time.monotonic() + seconds
    if not len(messages) == len(round.members) == len(round.own):
        raise UsageError(f"{len(messages)} messages came for {len(round.members)} members, {len(round.own)} own or not")
    if held.num_examples < SMALLEST:
        raise DataError(f"{held.num_examples} examples are held out, and it takes {SMALLEST} to score")
    updates, weights = read(exact, messages)
    past = [one for one in decode(memory, updates.shape[1]) if one.number < round.number]
    before = exact.read_state(state)
    tasks = splits(exact.procedure.support, held, round.number)
    seed = int.from_bytes(hashlib.sha256(state).digest()[:8], "little")

    def values(of: np.ndarray) -> np.ndarray:
        return shapley.contributions(game(exact.federation, before, of, weights, tasks, until), len(of), seed)

    gained = values(shortened(updates))
    new = values(shortened(news(updates, [one.updates for one in past]))) if past else gained
    worth = dict(zip(round.members, gained.tolist(), strict=True))
    kept = remembered([*past, Past(round.number, worth, updates.astype(np.float32))])
    return points(averaged(kept, round.members), new, round.own, round.budget), encode(kept)


def alike(own: Sequence[bool], budget: int) -> tuple[int, ...]:
    """Return the points of a seat that cannot tell: the same for every update of another organisation."""
    return tuple(0 if one else budget for one in own)


def held_out(y: Any, seed: int) -> Bool[np.ndarray, " examples"]:
    """Return which of a member's examples are held out: `HELD` of them, of each class alike; none if too few would be.

    Args:
        y: the targets, shape [examples, ...].
        seed: the same seed and targets give the same examples.
    """
    y = np.asarray(y)
    draw = random.generator(seed, "held out")
    chosen = np.zeros(len(y), bool)
    classes = np.unique(y, return_inverse=True)[1] if y.ndim == 1 and y.dtype.kind in "iu" else np.zeros(len(y), int)
    for kind in np.unique(classes):
        rows = draw.permutation(np.flatnonzero(classes == kind))
        chosen[rows[: round(HELD * len(rows))]] = True
    return chosen if chosen.sum() >= SMALLEST else np.zeros(len(y), bool)


def read(exact: Exact, messages: Sequence[bytes]) -> tuple[Float64[np.ndarray, "updates numbers"], np.ndarray]:
    """Return the updates of messages as rows of numbers, and their weights."""
    federation = exact.federation
    none: Any = np.float32(0)
    like = Message(federation.transform.body_like(federation.phi_like), none)
    rows, weights = [], []
    for message in messages:
        body, weight = pytrees.from_bytes(message, like)
        tree = federation.transform.decode(jax.tree.map(np.asarray, body), federation.phi_like)
        rows.append(np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)]))
        weights.append(float(weight))
    return np.array(rows), np.array(weights)


def shortened(updates: Float64[np.ndarray, "updates numbers"]) -> Float64[np.ndarray, "updates numbers"]:
    """Return the updates, none longer than the median one: being long is no merit."""
    lengths = np.linalg.norm(updates, axis=1)
    return updates * np.minimum(1.0, np.median(lengths) / np.maximum(lengths, np.finfo(float).tiny))[:, None]


def news(
    updates: Float64[np.ndarray, "updates numbers"], before: Sequence[np.ndarray]
) -> Float64[np.ndarray, "updates numbers"]:
    """Return the parts of updates at right angles to all earlier ones; zeros for what is less than `COPY` of an update.

    Args:
        updates: of this round.
        before: of earlier rounds, the latest last, each of shape [updates, numbers]. Where so many leave less than half
            of all directions, only the latest count.
    """
    known = np.zeros((0, updates.shape[1]))
    for one in reversed(before):
        if len(known) + len(one) <= updates.shape[1] // 2:
            known = np.concatenate([known, one.astype(np.float64)])
    lengths = np.linalg.norm(known, axis=1)
    known = known[lengths > 0] / lengths[lengths > 0, None]
    # The squares of singular values: what is less than 1e-5 of an update is rounding.
    inverse = np.linalg.pinv(known @ known.T, rcond=1e-10, hermitian=True)
    found = updates - ((updates @ known.T) @ inverse) @ known
    # What a grid's steps leave of a copy is no news, however little the others have.
    rounding = np.linalg.norm(found, axis=1) < COPY * np.linalg.norm(updates, axis=1)
    return np.where(rounding[:, None], 0.0, found)


def splits(support: float, held: FederatedDataset, round: int) -> Task:
    """Return the held-out examples split `SPLITS` times into support and query, leading axis [splits]."""
    (name,) = held.client_ids
    drawn = [held.task(name, support, seed, round=round) for seed in range(SPLITS)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)


def game(
    federation: Federation,
    state: ServerState,
    updates: np.ndarray,
    weights: np.ndarray,
    tasks: Task,
    until: float = math.inf,
) -> shapley.Game:
    """Return the game of a round: by how much the loss falls by a coalition's step, more than by a step of zeros.

    Args:
        federation: adapts, and steps.
        state: before the round.
        updates: shape [updates, numbers].
        weights: of the updates, shape [updates].
        tasks: leading axis [splits].
        until: when its questions end with `NotDone`, by the monotonic clock in seconds.
    """
    parts = updates * (weights / weights.sum())[:, None]
    losses = _losses(federation)

    def loss(coalitions: np.ndarray) -> np.ndarray:
        found = []
        for first in range(0, len(coalitions), AT_ONCE):
            if time.monotonic() > until:
                raise NotDone("scoring takes longer than this round has time for it")
            asked = coalitions[first : first + AT_ONCE]
            # Of one size only, which is compiled.
            steps = np.zeros((AT_ONCE, parts.shape[1]), np.float32)
            steps[: len(asked)] = asked @ parts
            found.append(np.asarray(losses(state, steps, tasks), np.float64)[: len(asked)])
        return np.concatenate(found)

    still = loss(np.zeros((1, len(updates)), bool))[0]
    if not np.isfinite(still):
        raise Diverged("the loss of the held-out examples is not finite before the round")

    def worth(coalitions: np.ndarray) -> np.ndarray:
        gains = still - loss(coalitions)
        # A step that ruins the model is worth as much less as the whole loss, or the others' values would be lost.
        return np.where(np.isfinite(gains), gains, -abs(still))

    return worth


@lru_cache(maxsize=8)
def _losses(federation: Federation) -> Any:
    """Return the compiled losses after steps: (state, pseudo-gradients [steps, numbers], tasks) -> [steps]."""
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), federation.phi_like)
    flat, tree_of = ravel_pytree(example)
    # So many at once as take about 64 MiB.
    at_once = max(1, min(AT_ONCE, (1 << 24) // max(flat.size, 1)))

    def after(state: ServerState, gradient: jax.Array, tasks: Task) -> jax.Array:
        phi = federation.step(state, tree_of(gradient)).phi

        def one(task: Task) -> jax.Array:
            key = random.default_key()
            memory = federation.algorithm.memory(federation.model, key)
            params = federation.algorithm.descend(federation.model, phi, task.support, key, memory=memory).params
            return federation.model.mean_loss(params, task.query)

        return jnp.mean(jax.vmap(one)(tasks))

    return jax.jit(
        lambda state, gradients, tasks: jax.lax.map(
            lambda gradient: after(state, gradient, tasks), gradients, batch_size=at_once
        )
    )


def averaged(past: Sequence[Past], members: Sequence[str]) -> Float64[np.ndarray, " members"]:
    """Return what the members' updates were worth, of each round back by `DECAY` less."""
    factors = [DECAY**age for age in range(len(past))][::-1]
    return np.array(
        [sum(factor * one.worth.get(name, 0.0) for factor, one in zip(factors, past, strict=True)) for name in members]
    )


def points(
    worth: Float64[np.ndarray, " updates"], new: Float64[np.ndarray, " updates"], own: Sequence[bool], budget: int
) -> tuple[int, ...]:
    """Return the points of each update: whole hundredths of the budget, by the news of those that do no harm.

    Args:
        worth: of each update; harm is what is as far below zero as all others' are from zero on average.
        new: the news in each update, in any unit.
        own: of the seat's own organisation, which gets nothing.
        budget: for each of the others; all are given, or none where no update has news and does no harm.
    """
    others = ~np.asarray(own, bool)
    usual = np.abs(worth[others]).mean() if others.any() else 0.0
    paid = np.where(others & (worth > -usual), np.maximum(new, 0.0), 0.0)
    shares = paid / paid.sum() if paid.sum() > 0 else paid
    return tuple((int(others.sum()) * budget // STEPS * _rounded(shares)).tolist())


def _rounded(shares: np.ndarray) -> Int[np.ndarray, " updates"]:
    """Return whole hundredths with the sum of the shares: what is left goes to the largest remainders."""
    exact = shares * STEPS
    found = np.floor(exact).astype(int)
    left = round(float(exact.sum())) - int(found.sum())
    largest = np.argsort(-(exact - found), kind="stable")[:left]
    found[largest] += 1
    return found


def remembered(past: Sequence[Past]) -> list[Past]:
    """Return what is kept: the last `KEPT` rounds, and the updates of the last `LOOKBACK` as far as there is room."""
    kept, room = [], LARGEST
    for age, one in enumerate(reversed(past[-KEPT:])):
        stays = age < LOOKBACK and one.updates.nbytes <= room
        room -= one.updates.nbytes if stays else room
        kept.append(one if stays else one._replace(updates=one.updates[:0]))
    return kept[::-1]


def encode(past: Sequence[Past]) -> bytes:
    """Return what is remembered as bytes."""

    def value(one: Past) -> list[Any]:
        worth = np.array(list(one.worth.values()), "<f8").tobytes()
        return [one.number, list(one.worth), worth, len(one.updates), one.updates.astype("<f4").tobytes()]

    return codec.encode([value(one) for one in past])


def decode(memory: bytes, numbers: int) -> list[Past]:
    """Return what `encode` wrote; nothing of no bytes.

    Raises:
        BadMemory: it is something else, or of a model of another size.
    """
    if not memory:
        return []
    try:
        found = []
        for number, members, worth, count, updates in codec.decode(memory, limit=2 * LARGEST):
            values = np.frombuffer(worth, "<f8").astype(np.float64)
            rows = np.frombuffer(updates, "<f4").astype(np.float32).reshape(count, numbers)
            found.append(Past(number, dict(zip(members, values.tolist(), strict=True)), rows))
    except (ValueError, TypeError, Malformed) as error:
        raise BadMemory(f"what was kept of earlier rounds' scores cannot be read: {error}") from error
    return found
