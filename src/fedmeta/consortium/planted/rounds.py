"""Rounds of the hospitals with one more contributor, which is planted, and what each seat finds in them.

The hospitals train, and have a seat each; each scores the others' updates on the patients that it holds out, as a node
does. Beside them there is one more contributor, without a seat, which does what its case says. Its patients, where it
needs some, are those of one of the hospitals, another one for each seed. What is sent is aggregated.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float64

from fedmeta import random
from fedmeta.consortium.hospitals import Hospitals
from fedmeta.consortium.planted.cases import CASES, Sight
from fedmeta.data import FederatedDataset, from_arrays
from fedmeta.errors import UsageError
from fedmeta.federation import Federation, ServerState
from fedmeta.node import scoring, shapley
from fedmeta.runs.procedure import Procedure
from fedmeta.task import Task, pad
from fedmeta.transforms import chain, clip_by_norm, fixed_point

Updates = Float64[np.ndarray, "updates numbers"]


class Past(NamedTuple):
    """The rounds before one, the latest last: the updates of each, and their means, which were published."""

    updates: list[np.ndarray]
    steps: list[np.ndarray]


Games = Mapping[str, Callable[[Updates, Past], Updates]]
"""By name, what of the updates of a round is played for."""

SENT: Games = {"sent": lambda updates, past: updates}
"""The updates as they are: neither shortened, nor without what is known."""

GAMES: Games = {
    "worth": lambda updates, past: scoring.shortened(updates),
    "news": lambda updates, past: scoring.shortened(scoring.news(updates, past.updates[-scoring.LOOKBACK :])),
}
"""The two of a node."""

Found = Mapping[str, Float64[np.ndarray, " updates"]]
"""What a seat has found in a round: each update's exact Shapley value by game; under "without" its leave-one-out."""


class Scene:
    """The hospitals of a federation by one seed: their patients to train on, and those that their seats hold out.

    Args:
        found: the hospitals.
        procedure: what they train, and how; updates are clipped, and rounded to a grid.
        seed: of the first model, of the patients that are held out, and of all draws.

    Raises:
        UsageError: a hospital has too few patients to hold some out, or updates are not clipped and rounded.
    """

    def __init__(self, found: Hospitals, procedure: Procedure, seed: int):
        self.procedure, self.federation, self.seed = procedure, procedure.federation, seed
        self.names = found.names
        self.longest, self._grid = _limits(procedure)
        self.train: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._held = []
        for one in found:
            held = scoring.held_out(one.y, seed)
            if not held.any():
                raise UsageError(
                    f"{one.title} has {len(one)} patients; to hold out {scoring.SMALLEST} it needs "
                    f"{round(scoring.SMALLEST / scoring.HELD)}"
                )
            self.train[one.name] = one.x[~held], one.y[~held]
            self._held.append(_client(one.x[held], one.y[held]))
        self._longest = 1 + max(len(y) for _, y in self.train.values())
        self._longest_held = 1 + max(one.num_examples for one in self._held)
        self.state = self.federation.init(random.as_key(random.key_data(seed, "init")))
        self.tree_of = ravel_pytree(self.state.phi)[1]
        self._tasks: dict[tuple[int, int], Task] = {}

    def update(self, phi: Any, x: np.ndarray, y: np.ndarray, sender: int, round: int) -> np.ndarray:
        """Return an honest update, float64 of shape [numbers], by draws of the sender's own."""
        data, support, most = _client(x, y), self.procedure.support, self.procedure.max_examples
        task = data.task(data.client_ids[0], support, 1000 * self.seed + sender, max_examples=most, round=round)
        key = random.as_key(random.key_data(self.seed, f"client {sender} {round}"))
        return np.asarray(_training(self.federation)(phi, _padded(task, self._longest), key), np.float64)

    def updates(self, phi: Any, round: int) -> Updates:
        """Return the hospitals' honest updates."""
        return np.array([self.update(phi, *self.train[name], at, round) for at, name in enumerate(self.names)])

    def rounded(self, update: np.ndarray) -> np.ndarray:
        """Return an update on the procedure's grid."""
        return np.rint(update * 2.0**self._grid.places) / 2.0**self._grid.places

    def tasks(self, seat: int, round: int) -> Task:
        """Return a seat's held-out patients, split into support and query, as `scoring.splits` does; padded."""
        if (seat, round) not in self._tasks:
            data = self._held[seat]
            drawn = [
                _padded(data.task(data.client_ids[0], self.procedure.support, one, round=round), self._longest_held)
                for one in range(scoring.SPLITS)
            ]
            self._tasks[seat, round] = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
        return self._tasks[seat, round]


def play(scene: Scene, case: str, rounds: int, games: Games = SENT | GAMES) -> list[list[Found]]:
    """Return what each seat finds in each round; the planted contributor is the last of the updates.

    Args:
        scene: the hospitals, by one seed.
        case: of `CASES`: what the planted one sends.
        rounds: how many.
        games: of which a seat finds Shapley values.
    """
    draw = random.generator(scene.seed, "planted", case)
    copied = scene.seed % len(scene.names)
    x, labels = scene.train[scene.names[copied]]
    shuffled = draw.permutation(labels)
    state, past, others, own, found = scene.state, Past([], []), [], [], []
    for round in range(1, rounds + 1):
        phi = state.phi
        now = scene.updates(phi, round)

        def honest(y: np.ndarray = labels, phi: Any = phi, round: int = round) -> np.ndarray:
            return scene.update(phi, x, y, len(scene.names), round)

        sight = Sight(round, past.steps, others, now, honest, labels, shuffled, own, draw, copied, scene.longest)
        updates = np.concatenate([now, scene.rounded(CASES[case].send(sight))[None]])
        played = {name: of(updates, past) for name, of in games.items()}
        found.append([_seen(scene, state, updates, played, seat, round) for seat in range(len(scene.names))])
        past.steps.append(updates.mean(0))
        past.updates.append(updates.astype(np.float32))
        others.append(now)
        state = _step(scene.federation)(state, scene.tree_of(jnp.asarray(past.steps[-1], np.float32)))
    return found


def _seen(
    scene: Scene, state: ServerState, sent: Updates, played: Mapping[str, Updates], seat: int, round: int
) -> Found:
    tasks, alike = scene.tasks(seat, round), np.ones(len(sent))
    found = {
        name: shapley.exact(scoring.game(scene.federation, state, updates, alike, tasks), len(updates))
        for name, updates in played.items()
    }
    whole = scoring.game(scene.federation, state, sent, alike, tasks)
    return {**found, "without": shapley.leave_one_out(whole, len(sent))}


def _limits(procedure: Procedure) -> tuple[float, fixed_point]:
    """Return the largest norm of an update, and the grid on which it is sent."""
    transform = procedure.transform
    parts: Sequence[Any] = transform.parts if isinstance(transform, chain) else (transform,)
    norms = [part.norm for part in parts if isinstance(part, clip_by_norm)]
    if not norms or not isinstance(parts[-1], fixed_point):
        raise UsageError(f"the updates of a federation are clipped and sent on a grid, not by {transform}")
    return min(norms), parts[-1]


def _client(x: np.ndarray, y: np.ndarray) -> FederatedDataset:
    return from_arrays(x, y, np.zeros(len(y), int), classes=2)


def _padded(task: Task, length: int) -> Task:
    return Task(pad(task.support, length), pad(task.query, length))


@lru_cache(maxsize=4)
def _training(federation: Federation) -> Callable[..., Any]:
    memory = federation.memory(random.default_key())

    def train(phi: Any, task: Task, key: Any) -> Any:
        message = federation.client(phi, task, key, memory)[0]
        return ravel_pytree(federation.transform.decode(message.body, federation.phi_like))[0]

    return jax.jit(train)


@lru_cache(maxsize=4)
def _step(federation: Federation) -> Callable[..., ServerState]:
    return jax.jit(federation.step)
