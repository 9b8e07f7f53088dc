"""Choose how each algorithm trains and adapts on the four hospitals, for each hospital without its patients.

    FEDMETA_DATA=... .venv/bin/python benchmarks/consortium.py

For each hospital the other three are all that is looked at. As a newcomer: each of the three is left out once, the
other two train, and it adapts on ten patients of its own, drawn several times. As a member: the three train together on
a part of their patients, adapt on that part, and are tested on the rest, by several splits. What has the least log
loss, the mean of the hospitals, is in `NEWCOMER` and `MEMBER` of `fedmeta.consortium.methods`. Results are printed, and
written to build/bench/consortium-settings.json.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fedmeta import random
from fedmeta.consortium import hospitals as sets
from fedmeta.consortium.methods import MOST_STEPS, TITLES, Setting, Trained
from fedmeta.consortium.side_by_side import Run

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
PATIENTS, DRAWS, SEEDS, SPLITS = 10, 20, 3, 5
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30)


def grid(name: str) -> Iterator[Setting]:
    """Yield the settings that are tried for an algorithm."""
    rates = {"maml": (0.005, 0.02), "meta-sgd": (0.003, 0.01), "per-fedavg": (0.03, 0.1)}.get(name, (0.0,))
    for lr, steps, server in itertools.product((0.1, 0.3, 1.0), (1, 3), rates):
        for few in (False,) if name.startswith("fedavg") else (False, True):
            yield Setting(name, lr, steps, server, few, MOST_STEPS)


def loss(odds: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mean log loss after each step, shape [steps + 1]."""
    return np.mean(np.logaddexp(0, odds) - y * odds, axis=-1)


class Data:
    """All patients end to end, and which rows are whose."""

    def __init__(self) -> None:
        found = sets.load()
        if found.stand_in:
            raise SystemExit(found.warning)
        self.x, self.y = (np.concatenate([getattr(one, name) for one in found]) for name in "xy")
        first = np.cumsum([0, *(len(one) for one in found)])
        self.rows = {one.name: first[place] + np.arange(len(one)) for place, one in enumerate(found)}
        self.splits = {
            one.name: [
                tuple(first[place] + part for part in split) for split in sets.splits(one, SPLITS, seed=1_000_000)
            ]
            for place, one in enumerate(found)
        }


def newcomers(data: Data, algorithms: list[str]) -> dict[str, dict[str, tuple[float, Setting]]]:
    """Return by algorithm and hospital the least loss and its setting, from leaving each of the other three out."""
    names = tuple(data.rows)
    pairs = list(itertools.combinations(names, 2))
    runs = [Run(seed, {name: data.rows[name] for name in pair}) for pair in pairs for seed in range(SEEDS)]
    trained = Trained(data.x, data.y, runs)
    cases = [(pair, name, number) for pair in pairs for name in names if name not in pair for number in range(DRAWS)]
    orders = {
        (name, number): random.generator(1_000_000, "patients of a newcomer", number, name).permutation(data.rows[name])
        for name in names
        for number in range(DRAWS)
    }
    support = [orders[name, number][:PATIENTS] for _, name, number in cases]
    asked = [orders[name, number][PATIENTS:] for _, name, number in cases]
    which = [pairs.index(pair) * SEEDS + number % SEEDS for pair, _, number in cases]

    def losses(setting: Setting) -> dict[str, np.ndarray]:
        found: dict[tuple[tuple[str, str], str], list[np.ndarray]] = {}
        odds = trained.odds(setting, trained.adapted(setting, support, which), asked)
        for (pair, name, _), one, rows in zip(cases, odds, asked, strict=True):
            found.setdefault((pair, name), []).append(loss(one, data.y[rows]))
        return {
            held: np.mean([np.mean(some, 0) for (pair, name), some in found.items() if held not in (*pair, name)], 0)
            for held in names
        }

    return chosen(losses, algorithms)


def members(data: Data, algorithms: list[str]) -> dict[str, dict[str, tuple[float, Setting]]]:
    """Return likewise, from the other three as members, each tested on patients that did not train."""
    names = tuple(data.rows)
    triples = [tuple(name for name in names if name != held) for held in names]
    runs = [
        Run(number, {name: data.splits[name][number][0] for name in triple})
        for triple in triples
        for number in range(SPLITS)
    ]
    trained = Trained(data.x, data.y, runs)
    cases = [(at, name, number) for at, triple in enumerate(triples) for name in triple for number in range(SPLITS)]
    support, asked = ([data.splits[name][number][side] for _, name, number in cases] for side in (0, 1))
    which = [at * SPLITS + number for at, _, number in cases]

    def losses(setting: Setting) -> dict[str, np.ndarray]:
        odds = trained.odds(setting, trained.adapted(setting, support, which), asked)
        found = [loss(one, data.y[rows]) for one, rows in zip(odds, asked, strict=True)]
        return {
            held: np.mean([one for (at, _, _), one in zip(cases, found, strict=True) if names[at] == held], 0)
            for held in names
        }

    return chosen(losses, algorithms)


def chosen(losses, names) -> dict[str, dict[str, tuple[float, Setting]]]:
    """Return by algorithm and hospital the least loss and its setting."""
    best: dict[str, dict[str, tuple[float, Setting]]] = {}
    for name in names:
        own = best.setdefault(name, {})
        for setting in grid(name):
            steps = (0,) if name == "fedavg" else STEPS
            tried = replace(setting, adapt=0) if name == "fedavg" else setting
            for held, found in losses(tried).items():
                for step in steps:
                    if held not in own or found[step] < own[held][0]:
                        own[held] = float(found[step]), replace(tried, adapt=step)
        for held, (least, setting) in own.items():
            print(f"{held:<12} {least:.4f}  {setting}", flush=True)
    return best


def main() -> None:
    """Choose, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--as", dest="kinds", default="newcomer,member")
    parser.add_argument("--algorithms", default=",".join(TITLES))
    options = parser.parse_args()
    data, kinds, algorithms = Data(), options.kinds.split(","), options.algorithms.split(",")
    path = BENCH / "consortium-settings.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for title, choose in (("newcomer", newcomers), ("member", members)):
        if title not in kinds:
            continue
        print(f"As a {title}:")
        results[title] = results.get(title, {}) | {
            name: {held: {"loss": least, **asdict(setting)} for held, (least, setting) in own.items()}
            for name, own in choose(data, algorithms).items()
        }
        BENCH.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
