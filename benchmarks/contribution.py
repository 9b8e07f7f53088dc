"""What free-riders, poisoners and honest hospitals are paid, by several rules of scoring, on the real heart data.

    FEDMETA_DATA=... .venv/bin/python benchmarks/contribution.py
    FEDMETA_DATA=... .venv/bin/python benchmarks/contribution.py --seeds 21 --algorithms maml --rounds 12

Four hospitals train, and have the four seats; each scores the others' updates on a quarter of its patients, who are
held out. Beside them there is one more contributor, without a seat, which does what the case says. Its own data, where
the case needs some, are those of one of the four, another one for each seed. Each case is a run of its own: what is
sent is aggregated. Points go through the ledger's lower median, with equal powers, and its payment. Every seed has
another initial model, other held-out patients, other draws.

The share is of the contributors' pool of all rounds; the rest stays in the treasury. Results are printed, and written
to build/bench/contribution.json and contribution.md.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from fedmeta import data as sets
from fedmeta import optimisers, random
from fedmeta.algorithms import MAML, MetaSGD
from fedmeta.govern.rules.rewards import lower_median
from fedmeta.govern.state.parameters import MILLION
from fedmeta.node import scoring, shapley
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.task import Task, pad
from fedmeta.transforms import chain, clip_by_norm, fixed_point

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
RANGES = ((20, 90), (0, 1), (1, 4), (80, 200), (100, 400), (0, 1), (0, 2), (60, 200), (0, 1), (-1, 5))
"""Public reference ranges of the ten columns that most hospitals fill: age to ST depression."""
CHOLESTEROL, CATEGORIES = 4, {2: (1, 2, 3), 6: (1, 2)}
ALGORITHMS = {"maml": MAML(inner_lr=0.2, inner_steps=3), "meta-sgd": MetaSGD(inner_lr=0.2, inner_steps=3)}
CLIP = 1.0
ME = 4
"""The place of the contributor that the case is about, among the five."""


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


class Record(NamedTuple):
    """What a seat has found in a round, for each update: by several games."""

    raw: np.ndarray
    without: np.ndarray
    worth: np.ndarray
    steps: np.ndarray
    news: np.ndarray


class Federation:
    """Four hospitals and their training, by one algorithm and one seed."""

    def __init__(self, algorithm: str, seed: int):
        patients = hospitals()
        procedure = Procedure(
            algorithm=ALGORITHMS[algorithm],
            server=optimisers.sgd(1.0),
            transform=chain(clip_by_norm(CLIP), fixed_point(20, 24)),
            model="mlp",
            model_options={"hidden": (8,)},
            inputs=Inputs((len(patients["va"][0][0]),), ("healthy", "ill")),
            rounds=100,
            cohort_size=5,
            support=0.5,
            seed=seed,
        )
        self.federation, self.seed = procedure.federation, seed
        held = {name: scoring.held_out(y, seed) for name, (_, y) in patients.items()}
        self.train = {name: (x[~held[name]], y[~held[name]]) for name, (x, y) in patients.items()}
        self.held = [_client(x[held[name]], y[held[name]]) for name, (x, y) in patients.items()]
        self.longest = 1 + max(len(y) for _, y in self.train.values()) // 2
        self.longest_held = 1 + max(one.num_examples for one in self.held) // 2
        self.state = self.federation.init(random.as_key(random.key_data(seed, "init")))
        flat, self.tree_of = ravel_pytree(self.state.phi)
        self.numbers = flat.size

    def update(self, phi: Any, x: np.ndarray, y: np.ndarray, sender: int, round: int) -> np.ndarray:
        """Return an honest update, by draws of the sender's own."""
        data = _client(x, y)
        task = data.task(data.client_ids[0], 0.5, 1000 * self.seed + sender, round=round)
        key = random.as_key(random.key_data(self.seed, f"client {sender} {round}"))
        return np.asarray(_train(self.federation)(phi, _padded(task, self.longest), key), np.float64)

    def tasks(self, seat: int, round: int) -> Task:
        """Return a seat's held-out patients, split into support and query, as `scoring.splits` does; padded."""
        data = self.held[seat]
        drawn = [
            _padded(data.task(data.client_ids[0], 0.5, seed, round=round), self.longest_held)
            for seed in range(scoring.SPLITS)
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)


def _client(x: np.ndarray, y: np.ndarray) -> Any:
    return sets.from_arrays(x, y, np.zeros(len(y), int), classes=2)


def _padded(task: Task, length: int) -> Task:
    return Task(pad(task.support, length), pad(task.query, length))


@lru_cache(maxsize=4)
def _train(federation: Any) -> Callable[..., Any]:
    memory = federation.memory(random.default_key())

    def train(phi: Any, task: Task, key: Any) -> Any:
        message = federation.client(phi, task, key, memory)[0]
        return ravel_pytree(federation.transform.decode(message.body, federation.phi_like))[0]

    return jax.jit(train)


class Sight(NamedTuple):
    """What a contributor can see and do in a round: the cases are functions of it."""

    round: int
    steps: list[np.ndarray]
    """The published steps, as mean pseudo-gradients."""
    others: list[np.ndarray]
    """The four hospitals' updates of earlier rounds, shape [4, numbers] each; who has a seat has seen them."""
    now: np.ndarray
    honest: Callable[..., np.ndarray]
    """Trains on a hospital's patients, with these labels if some are given."""
    labels: np.ndarray
    shuffled: np.ndarray
    own: list[np.ndarray]
    """The honest updates that it has made in earlier rounds, if the case asks for them."""
    draw: np.random.Generator
    copied: int

    @property
    def zero(self) -> np.ndarray:
        """Zeros."""
        return np.zeros_like(self.now[0])

    def as_long(self, vector: np.ndarray) -> np.ndarray:
        """Return a vector as long as the median honest update."""
        length = np.linalg.norm(vector)
        return vector * (np.median(np.linalg.norm(self.now, axis=1)) / length if length else 0.0)


def _mixed(sight: Sight, rounds: tuple[int, ...]) -> np.ndarray:
    parts = [
        sight.draw.random() * sight.others[-age][sight.draw.integers(4)] for age in rounds if len(sight.others) >= age
    ]
    return sight.as_long(sum(parts, sight.zero))


def _once(sight: Sight) -> np.ndarray:
    if not sight.own:
        sight.own.append(sight.honest())
    return sight.own[0]


def _every_third(sight: Sight) -> np.ndarray:
    if sight.round % 3 == 1:
        sight.own.append(sight.honest())
    return sight.own[-1]


def _last(sight: Sight) -> np.ndarray:
    return sight.steps[-1] if sight.steps else sight.zero


def _noise(sight: Sight) -> np.ndarray:
    return sight.as_long(sight.draw.normal(size=sight.zero.shape))


def _long(update: np.ndarray) -> np.ndarray:
    return update * (CLIP / max(np.linalg.norm(update), 1e-12))


CASES: dict[str, Callable[[Sight], np.ndarray]] = {
    "honest, on another's patients": lambda s: s.honest(),
    "zeros": lambda s: s.zero,
    "noise": _noise,
    "noise, as long as may be": lambda s: _long(_noise(s)),
    "the last step again": _last,
    "a mix of the last five steps": lambda s: s.as_long(sum(s.steps[-5:], s.zero)),
    "a mix of older steps (4 to 8 back)": lambda s: s.as_long(sum(s.steps[-8:-3], s.zero)),
    "others' updates of the last two rounds": lambda s: _mixed(s, (1, 1, 2, 2)),
    "others' updates of 4 to 6 rounds before": lambda s: _mixed(s, (4, 4, 5, 6)),
    "the last step, and as much noise": lambda s: 0.7 * s.as_long(_last(s)) + 0.7 * _noise(s),
    "half of the last step's numbers": lambda s: s.as_long(_last(s) * (s.draw.random(len(s.zero)) < 0.5)),
    "honest once, then that again": _once,
    "honest every third round, then that again": _every_third,
    "sign flip": lambda s: -s.honest(),
    "scaling to the clipping norm": lambda s: _long(s.honest()),
    "label flip": lambda s: s.honest(1 - s.labels),
    "shuffled labels": lambda s: s.honest(s.shuffled),
    "a duplicate of a hospital's update": lambda s: s.now[s.copied].copy(),
}
"""What the fifth contributor sends."""


def run(algorithm: str, seed: int, case: str, rounds: int) -> list[list[Record]]:
    """Return what each of the four seats finds in each round."""
    fed = Federation(algorithm, seed)
    draw = random.generator(seed, "contribution")
    copied = seed % 4
    x, labels = fed.train[HOSPITALS[copied]]
    shuffled = draw.permutation(labels)
    state, steps, others, own, before, found = fed.state, [], [], [], [], []
    step = jax.jit(fed.federation.step)
    for round in range(1, rounds + 1):
        phi = state.phi
        now = np.array([fed.update(phi, *fed.train[name], at, round) for at, name in enumerate(HOSPITALS)])

        def honest(y: np.ndarray = labels, phi: Any = phi, round: int = round) -> np.ndarray:
            return fed.update(phi, x, y, ME, round)

        sent = CASES[case](Sight(round, steps, others, now, honest, labels, shuffled, own, draw, copied))
        updates = np.concatenate([now, np.rint(sent * 2**20)[None] / 2**20])
        games = {
            "raw": updates,
            "worth": scoring.shortened(updates),
            "steps": scoring.shortened(scoring.news(updates, [one[None] for one in steps[-3:]])),
            "news": scoring.shortened(scoring.news(updates, before[-scoring.LOOKBACK :])),
        }
        found.append([_seen(fed, state, games, fed.tasks(seat, round)) for seat in range(4)])
        steps.append(updates.mean(0))
        others.append(now)
        before.append(updates.astype(np.float32))
        state = step(state, fed.tree_of(steps[-1].astype(np.float32)))
    return found


def _seen(fed: Federation, state: Any, games: Mapping[str, np.ndarray], tasks: Task) -> Record:
    play = {
        name: scoring.game(fed.federation, state, updates, np.ones(len(updates)), tasks)
        for name, updates in games.items()
    }
    values = {name: shapley.exact(one, ME + 1) for name, one in play.items()}
    return Record(without=shapley.leave_one_out(play["raw"], ME + 1), **values)


Given = tuple[int, ...]


def _by(values: np.ndarray, own: tuple[bool, ...]) -> Given:
    return scoring.points(np.ones(len(values)), values, own, MILLION // (ME + 1))


def _part(values: np.ndarray, own: tuple[bool, ...]) -> np.ndarray:
    kept = np.where(own, 0, np.maximum(values, 0))
    return kept / kept.sum() if kept.sum() > 0 else kept


def _average(records: list[Record], name: str) -> np.ndarray:
    kept = np.array([getattr(one, name) for one in records[-scoring.KEPT :]])
    return scoring.DECAY ** np.arange(len(kept))[::-1] @ kept


RULES: dict[str, Callable[[list[Record], tuple[bool, ...]], Given]] = {
    "leave-one-out": lambda r, own: _by(r[-1].without, own),
    "exact Shapley": lambda r, own: _by(r[-1].raw, own),
    "none longer than the median": lambda r, own: _by(r[-1].worth, own),
    "that, averaged over rounds": lambda r, own: _by(_average(r, "worth"), own),
    "without the last three steps": lambda r, own: _by(r[-1].steps, own),
    "half for what is new": lambda r, own: _by(_part(_average(r, "worth"), own) + _part(r[-1].news, own), own),
    "news, averaged over rounds": lambda r, own: _by(_average(r, "news"), own),
    "news": lambda r, own: _by(r[-1].news, own),
    "news of those that do no harm": lambda r, own: scoring.points(
        _average(r, "worth"), r[-1].news, own, MILLION // (ME + 1)
    ),
}
"""How a seat comes from what it has found, the latest round last, to points; the last one is what a node does."""


def paid(found: list[list[Record]], rule: str) -> tuple[np.ndarray, float]:
    """Return the shares of the pool, shape [rounds, 5], and how far a seat's score is from the median on average."""
    shares, distances = [], []
    for number in range(1, len(found) + 1):
        given = []
        for seat in range(4):
            own = tuple(at == seat for at in range(ME + 1))
            given.append(RULES[rule]([one[seat] for one in found[:number]], own))
        medians = [lower_median((given[seat][at], 1) for seat in range(4) if seat != at) for at in range(ME + 1)]
        distances += [abs(given[s][at] - medians[at]) for s in range(4) for at in range(ME + 1) if s != at]
        shares.append(np.array(medians) / max(MILLION, sum(medians)))
    return np.array(shares), float(np.mean(distances)) / MILLION


def summary(runs: Mapping[tuple[str, int, str], list[list[Record]]], algorithm: str, rule: str) -> dict[str, Any]:
    """Return the figures of one rule with one algorithm, in per cent of the pool."""
    table: dict[str, Any] = {}
    unpaid, rounds, distance = 0, 0, []
    for case in CASES:
        some = [paid(found, rule) for (name, _, of), found in runs.items() if (name, of) == (algorithm, case)]
        shares = np.array([one for one, _ in some])
        distance += [one for _, one in some]
        unpaid += int((shares.sum(2) == 0).sum())
        rounds += shares.shape[0] * shares.shape[1]
        each = shares.mean(1)
        table[case] = {
            "planted": 100 * each[:, ME].mean(),
            "planted_most": 100 * each[:, ME].max(),
            "honest": 100 * each[:, :ME].mean(),
            "honest_least": 100 * each[:, :ME].min(),
            "hospitals": dict(zip(HOSPITALS, (100 * each[:, :ME].mean(0)).tolist(), strict=True)),
            "ahead_of_an_honest_one": int((each[:, ME] > each[:, :ME].min(1)).sum()),
            "runs": len(some),
        }
    return {"cases": table, "rounds_unpaid": 100 * unpaid / rounds, "distance": 100 * float(np.mean(distance))}


def page(results: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [f"Settings: {json.dumps(settings)}", ""]
    for algorithm, rules in results.items():
        lines += [f"## {algorithm}: the fifth contributor's share of the pool, in per cent: mean (most) over seeds", ""]
        lines += ["| case | " + " | ".join(rules) + " |", "|---" * (len(rules) + 1) + "|"]
        for case in CASES:
            cells = [one["cases"][case] for one in rules.values()]
            lines.append(
                f"| {case} | " + " | ".join(f"{one['planted']:.1f} ({one['planted_most']:.1f})" for one in cells) + " |"
            )
        spread = [list(one["cases"].values()) for one in rules.values()]
        tail = {
            "*an honest hospital beside them*": [f"{np.mean([c['honest'] for c in one]):.1f}" for one in spread],
            "*the least that one got*": [f"{min(c['honest_least'] for c in one):.1f}" for one in spread],
            "*rounds in which nobody is paid*": [f"{one['rounds_unpaid']:.1f}" for one in rules.values()],
            "*a seat's mean distance from the median*": [f"{one['distance']:.1f}" for one in rules.values()],
        }
        lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in tail.items()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", default="21,22,23")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    options = parser.parse_args()
    algorithms, seeds = options.algorithms.split(","), [int(one) for one in options.seeds.split(",")]
    runs = {}
    for algorithm in algorithms:
        for seed in seeds:
            for case in CASES:
                runs[algorithm, seed, case] = run(algorithm, seed, case, options.rounds)
            print(f"{algorithm}, seed {seed}: {time.process_time():.0f} s of CPU", flush=True)
    results = {algorithm: {rule: summary(runs, algorithm, rule) for rule in RULES} for algorithm in algorithms}
    settings = {"rounds": options.rounds, "seeds": seeds, "cpu_seconds": round(time.process_time())}
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "contribution.json").write_text(json.dumps({"settings": settings, "results": results}, indent=1))
    text = page(results, settings)
    (BENCH / "contribution.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
