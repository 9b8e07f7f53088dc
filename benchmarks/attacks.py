"""What each aggregator keeps of the accuracy under each attack, and what it costs where nobody attacks.

    FEDMETA_DATA=... .venv/bin/python benchmarks/attacks.py
    FEDMETA_DATA=... .venv/bin/python benchmarks/attacks.py --data heart --algorithms maml

`mnist`: ten writers a round, of whom none, one or two attack, the same ones in every round as far as the rule can tell;
all ten classes. `heart`: four hospitals, each in turn the one that attacks; the accuracy is that of the three others.
Attackers see what the honest send in the round, and their own honest update. Every update is cut to a norm that is
public, as a node checks it: `CLIP` times the median length of honest updates in the first rounds of an honest run.
Accuracy is after adaptation on the client's support (FedAvg: without), over test clients who took no part in training,
or over held-out patients.

Each run is a line of build/bench/attacks.jsonl; what is there is not run again. At the end, or with --page, the tables
are written to build/bench/attacks.json, and a figure to docs/images/attacks.png.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from fedmeta import aggregators, models, optimisers, random
from fedmeta import data as sets
from fedmeta.algorithms import MAML, FedAvg, MetaSGD
from fedmeta.data.dataset import FederatedDataset
from fedmeta.federation import Federation, Part, add, stack
from fedmeta.task import Batch, Task, pad

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "build" / "bench"
SERVERS = {"fedavg": optimisers.sgd(1.0), "maml": optimisers.adam(0.003), "meta-sgd": optimisers.adam(0.003)}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "mnist": {
        "fedavg": FedAvg(inner_lr=0.1, inner_epochs=2, inner_batch_size=10),
        "maml": MAML(inner_lr=0.1, inner_steps=3),
        "meta-sgd": MetaSGD(inner_lr=0.1, inner_steps=3),
    },
    "heart": {
        "fedavg": FedAvg(inner_lr=0.1, inner_epochs=2, inner_batch_size=10),
        "maml": MAML(inner_lr=0.2, inner_steps=3),
        "meta-sgd": MetaSGD(inner_lr=0.2, inner_steps=3),
    },
}
ROUNDS = {"mnist": 100, "heart": 60}
COHORT = {"mnist": 10, "heart": 4}
SEEDS = {"mnist": 1, "heart": 12}
SUPPORT = {"mnist": 0.2, "heart": 0.5}
CLIP = 3.0
"""The norm that updates are cut to, in median lengths of honest ones."""
TEST = {"mnist": 60}
"""Writers who take no part in training."""
HELD = 0.5
"""The part of each hospital's patients who take no part in training."""

RULES: dict[str, dict[str, Any]] = {
    "mnist": {
        "weighted_mean": {},
        "norm_clipped_mean": {},
        "coordinate_median": {},
        "trimmed_mean": {"fraction": 0.2},
        "krum": {"byzantine": 2},
        "multi_krum": {"byzantine": 2, "select": 6},
        "geometric_median": {},
    },
    "heart": {
        "weighted_mean": {},
        "norm_clipped_mean": {},
        "coordinate_median": {},
        "trimmed_mean": {"fraction": 0.25},
        "geometric_median": {},
    },
}
"""Krum takes 2 * byzantine + 3 clients: of four it can promise nothing, and refuses."""


HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
RANGES = ((20, 90), (0, 1), (1, 4), (80, 200), (100, 400), (0, 1), (0, 2), (60, 200), (0, 1), (-1, 5))
"""Public reference ranges of the ten columns that most hospitals fill: age to ST depression."""
CHOLESTEROL, CATEGORIES = 4, {2: (1, 2, 3), 6: (1, 2)}


@lru_cache(maxsize=1)
def hospitals() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each hospital's patients, scaled to their ranges, gaps in the middle, and whether they are ill."""
    if "FEDMETA_DATA" not in os.environ:
        raise SystemExit(
            "FEDMETA_DATA is not set: it must name the folder with heart/processed.cleveland.data and others"
        )
    low, high = np.array(RANGES, float).T
    found = {}
    for name in HOSPITALS:
        lines = (Path(os.environ["FEDMETA_DATA"]) / "heart" / f"processed.{name}.data").read_text().split()
        cells = [line.split(",") for line in lines]
        x = np.array([[np.nan if cell == "?" else float(cell) for cell in row[: len(RANGES)]] for row in cells])
        x[x[:, CHOLESTEROL] == 0, CHOLESTEROL] = np.nan
        scaled = np.delete(2 * (np.clip(x, low, high) - low) / (high - low) - 1, list(CATEGORIES), axis=1)
        marks = [x[:, [column]] == np.array(kinds) for column, kinds in CATEGORIES.items()]
        found[name] = (
            np.nan_to_num(np.concatenate([scaled, *marks], axis=1)).astype(np.float32),
            np.array([int(float(row[13]) > 0) for row in cells], np.int32),
        )
    return found


class Sight(NamedTuple):
    """What an attacker sees and can do in a round."""

    mine: np.ndarray
    """Its honest update."""
    flipped: np.ndarray
    """Its update on labels that are turned round: class k of n becomes n - 1 - k."""
    honest: np.ndarray
    """The honest updates, shape [honest, numbers]."""
    clip: float
    draw: np.random.Generator

    def as_long(self, vector: np.ndarray) -> np.ndarray:
        """Return a vector with the length of the clipping norm."""
        return vector * (self.clip / max(np.linalg.norm(vector), 1e-12))


ATTACKS: dict[str, Callable[[Sight], np.ndarray]] = {
    "sign flip": lambda s: -s.mine,
    "scaling": lambda s: s.as_long(-s.mine),
    "label flip": lambda s: s.flipped,
    "noise": lambda s: s.as_long(s.draw.normal(size=s.mine.shape)),
    "a little is enough": lambda s: s.honest.mean(0) - LITTLE * s.honest.std(0),
    "inner product, 0.5": lambda s: -0.5 * s.honest.mean(0),
    "inner product, 10": lambda s: -10.0 * s.honest.mean(0),
}
"""What an attacker sends: scaling is a sign flip as long as may be; a little is enough is arXiv 1902.06156 with z of
`LITTLE`; inner-product manipulation is arXiv 1903.03936 with its epsilon. Everything is cut to the norm."""
LITTLE = 1.5


class Data(NamedTuple):
    """A setting: who trains, on what, and who is tested."""

    clients: list[FederatedDataset]
    """One client each, all of whom may train."""
    test: list[FederatedDataset]
    classes: int
    features: int
    sizes: tuple[int, int]
    """The largest support and query sets: all are padded to them."""


def _one(x: np.ndarray, y: np.ndarray, classes: int) -> FederatedDataset:
    return sets.from_arrays(x, y, np.zeros(len(y), int), classes=classes)


@lru_cache(maxsize=2)
def writers() -> Data:
    """Return MNIST's writers with at least 20 images; the last of them, by a fixed draw, are for the test."""
    loaded = sets.load("mnist")
    every = [loaded.select([at]) for at in range(len(loaded.client_ids))]
    enough = [one for one in every if one.num_examples >= 20]
    each = [enough[at] for at in random.generator(0, "attacks").permutation(len(enough))]
    most = max(one.num_examples for one in each)
    few = math.ceil(SUPPORT["mnist"] * most) + 1
    return Data(each[TEST["mnist"] :], each[: TEST["mnist"]], 10, 784, (few, most))


@lru_cache(maxsize=8)
def patients(seed: int) -> Data:
    """Return the four hospitals, half of each one's patients for the test, by a draw of the seed's."""
    train, test = [], []
    for name in HOSPITALS:
        x, y = hospitals()[name]
        order = random.generator(seed, name).permutation(len(y))
        cut = round(HELD * len(y))
        train.append(_one(x[order[cut:]], y[order[cut:]], 2))
        test.append(_one(x[order[:cut]], y[order[:cut]], 2))
    most = max(one.num_examples for one in (*train, *test))
    return Data(train, test, 2, hospitals()["va"][0].shape[1], (most // 2 + 1, most // 2 + 1))


class Setting:
    """A federation on some data by one algorithm and one seed, ready to run under any rule and attack."""

    def __init__(self, data: str, algorithm: str, seed: int):
        self.name, self.seed = data, seed
        self.data = writers() if data == "mnist" else patients(seed)
        model = models.mlp((self.data.features, 64 if data == "mnist" else 8, self.data.classes))
        self.federation = Federation(ALGORITHMS[data][algorithm], model, server=SERVERS[algorithm])
        self.start = self.federation.init(random.as_key(random.key_data(seed, "init")))
        self.tree_of = ravel_pytree(self.start.phi)[1]
        self._step = jax.jit(self.federation.step)

    def _task(self, one: FederatedDataset, round: int, which: int) -> Task:
        task = one.task(one.client_ids[0], SUPPORT[self.name], 1000 * self.seed + which, round=round)
        few, most = self.data.sizes
        return Task(pad(task.support, few), pad(task.query, most))

    def updates(self, state: Any, tasks: list[Task], round: int) -> Float[np.ndarray, "clients numbers"]:
        """Return honest updates on some tasks."""
        keys = jnp.stack([random.as_key(random.key_data(self.seed, f"{round} {at}")) for at in range(len(tasks))])
        many = jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)
        return np.asarray(_updates(self.federation)(state.phi, many, keys), np.float64)

    @lru_cache(maxsize=1)  # noqa: B019 (a setting lives as long as its runs)
    def clip(self) -> float:
        """Return the norm that updates are cut to."""
        state, lengths = self.start, []
        for round in range(1, 6):
            tasks = [self._task(self.data.clients[at], round, at) for at in self._cohort(round)]
            found = self.updates(state, tasks, round)
            lengths += np.linalg.norm(found, axis=1).tolist()
            state = self._step(state, self.tree_of(found.mean(0).astype(np.float32)))
        return CLIP * float(np.median(lengths))

    def _cohort(self, round: int) -> list[int]:
        if self.name == "heart":
            return list(range(4))
        return random.generator(self.seed, f"cohort {round}").choice(len(self.data.clients), 10, replace=False).tolist()

    def run(self, rule: str, attack: str, attackers: int) -> float:
        """Return the accuracy after all rounds."""
        kind = aggregators.make(rule, **RULES[self.name][rule])
        if rule == "norm_clipped_mean":
            kind = aggregators.make(rule, norm=self.clip() / CLIP)
        draw, state = random.generator(self.seed, attack or "nobody"), self.start
        bad = [self.seed % 4] if self.name == "heart" else list(range(attackers))
        for round in range(1, ROUNDS[self.name] + 1):
            cohort = self._cohort(round)
            tasks = [self._task(self.data.clients[at], round, at) for at in cohort]
            turned = [_turned(tasks[at], self.data.classes) for at in bad] if attack == "label flip" else []
            found = self.updates(state, tasks + turned, round)
            sent = found[: len(tasks)]
            if attackers:
                honest = np.delete(sent, bad, axis=0)
                flipped = found[len(tasks) :] if turned else sent[bad]
                sights = [Sight(sent[at], flipped[place], honest, self.clip(), draw) for place, at in enumerate(bad)]
                sent = sent.copy()
                sent[bad] = [ATTACKS[attack](one) for one in sights]
            state = self._step(state, self.tree_of(_combined(kind, _cut(sent, self.clip())).astype(np.float32)))
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.phi)):
                return 1 / self.data.classes
        # The same hospitals are tested whether the fourth attacks or not.
        return self.accuracy(state, set(bad) if self.name == "heart" else set())

    def accuracy(self, state: Any, without: set[int]) -> float:
        """Return the mean over test clients of the accuracy on their queries after adaptation."""
        chosen = [one for at, one in enumerate(self.data.test) if at not in without]
        tasks = [self._task(one, 1, at) for at, one in enumerate(chosen)]
        many = jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)
        return float(np.mean(_accuracies(self.federation)(state.phi, many)))


def _turned(task: Task, classes: int) -> Task:
    def flip(batch: Batch) -> Batch:
        return Batch(batch.x, (classes - 1 - batch.y).astype(batch.y.dtype), batch.mask)

    return Task(flip(task.support), flip(task.query))


def _cut(updates: np.ndarray, norm: float) -> np.ndarray:
    lengths = np.linalg.norm(updates, axis=1)
    return updates * np.minimum(1.0, norm / np.maximum(lengths, 1e-300))[:, None]


def _combined(rule: Any, updates: np.ndarray) -> np.ndarray:
    parts = [rule.lift({"all": one}, np.float64(1)) for one in updates]
    if rule.needs == "sum":
        total: Part = parts[0]
        for one in parts[1:]:
            total = add(total, one)
    else:
        total = stack(parts)
    return rule.finish(total)["all"]


@lru_cache(maxsize=4)
def _updates(federation: Federation) -> Callable[..., Any]:
    memory = federation.memory(random.default_key())

    def one(phi: Any, task: Task, key: Any) -> Any:
        return ravel_pytree(federation.client(phi, task, key, memory)[0].body)[0]

    return jax.jit(lambda phi, tasks, keys: jax.lax.map(lambda given: one(phi, *given), (tasks, keys)))


@lru_cache(maxsize=4)
def _accuracies(federation: Federation) -> Callable[..., Any]:
    algorithm, model, key = federation.algorithm, federation.model, random.default_key()
    memory = algorithm.memory(model, key)

    def one(phi: Any, task: Task) -> Any:
        params = algorithm.descend(model, phi, task.support, key, memory=memory).params
        right = jnp.argmax(model.predict(params, task.query.x, key=key, mask=task.query.mask), -1) == task.query.y
        return jnp.sum(right * task.query.mask) / jnp.sum(task.query.mask)

    return jax.jit(lambda phi, tasks: jax.lax.map(lambda task: one(phi, task), tasks))


def cells(data: list[str], algorithms: list[str]) -> Iterator[tuple[str, str, int, str, str, int]]:
    """Yield all runs: data, algorithm, seed, rule, attack, attackers; those of one seed before the next."""
    for seed in range(max(SEEDS.values())):
        for name in (one for one in data if seed < SEEDS[one]):
            for algorithm in algorithms:
                for rule in RULES[name]:
                    yield name, algorithm, seed, rule, "", 0
                    for attack in ATTACKS:
                        for attackers in (1, 2) if name == "mnist" else (1,):
                            yield name, algorithm, seed, rule, attack, attackers


def main() -> None:
    """Run what is missing, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="heart,mnist")
    parser.add_argument("--algorithms", default="fedavg,maml,meta-sgd")
    parser.add_argument("--page", action="store_true", help="run nothing")
    options = parser.parse_args()
    if "FEDMETA_DATA" not in os.environ and not options.page:
        raise SystemExit("FEDMETA_DATA is not set: it must name the folder with heart/ and mnist/")
    BENCH.mkdir(parents=True, exist_ok=True)
    file = BENCH / "attacks.jsonl"
    done = {tuple(json.loads(line)["cell"]) for line in file.read_text().splitlines()} if file.exists() else set()
    setting: tuple[Any, Setting] | None = None
    for cell in () if options.page else cells(options.data.split(","), options.algorithms.split(",")):
        if cell in done:
            continue
        name, algorithm, seed, rule, attack, attackers = cell
        if setting is None or setting[0] != cell[:3]:
            setting = cell[:3], Setting(name, algorithm, seed)
        begun = time.process_time()
        accuracy = setting[1].run(rule, attack, attackers)
        with file.open("a") as lines:
            lines.write(json.dumps({"cell": cell, "accuracy": accuracy}) + "\n")
        print(*cell, f"{100 * accuracy:.1f} % in {time.process_time() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
