"""What free-riders, poisoners and honest hospitals are paid, by several rules of scoring, on the real heart data.

    FEDMETA_DATA=... .venv/bin/python benchmarks/contribution.py
    FEDMETA_DATA=... .venv/bin/python benchmarks/contribution.py --seeds 0 --algorithms maml --rounds 12

The cases and the rounds are those of `fedmeta consortium report` (`fedmeta.consortium.planted`), here with another
network and server, two algorithms, more cases, and rules that were tried beside the one that a node has. The share is
of the contributors' pool of all rounds; the rest stays in the treasury. Results are printed, and written to
build/bench/contribution.json and contribution.md.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import optimisers
from fedmeta.algorithms import MAML, MetaSGD
from fedmeta.consortium import hospitals
from fedmeta.consortium.hospitals import Hospitals
from fedmeta.consortium.planted import payments
from fedmeta.consortium.planted.cases import CASES
from fedmeta.consortium.planted.payments import Rule, averaged, by, paid, plainly
from fedmeta.consortium.planted.rounds import GAMES, SENT, Found, Games, Scene, play
from fedmeta.node import scoring
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import chain, clip_by_norm, fixed_point

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
ALGORITHMS = {"maml": MAML(inner_lr=0.2, inner_steps=3), "meta-sgd": MetaSGD(inner_lr=0.2, inner_steps=3)}

STEPS: Games = {
    "steps": lambda updates, past: scoring.shortened(scoring.news(updates, [one[None] for one in past.steps[-3:]]))
}
"""What is new beside the last three steps alone, and not beside each update."""

Runs = Mapping[tuple[str, int, str], list[list[Found]]]
"""By algorithm, seed and case, what each seat has found in each round."""


def procedure(algorithm: str) -> Procedure:
    """Return what is trained: a small network, with plain steps of the server."""
    return Procedure(
        algorithm=ALGORITHMS[algorithm],
        server=optimisers.sgd(1.0),
        transform=chain(clip_by_norm(1.0), fixed_point(20, 24)),
        model="mlp",
        model_options={"hidden": (8,)},
        inputs=hospitals.INPUTS,
        rounds=100,
        cohort_size=5,
        support=0.5,
    )


def _part(values: np.ndarray, own: tuple[bool, ...]) -> np.ndarray:
    kept = np.where(own, 0, np.maximum(values, 0))
    return kept / kept.sum() if kept.sum() > 0 else kept


def _mean(name: str) -> Rule:
    return lambda found, own: by(np.ones(len(own)), averaged(found, name), own)


def _half(found: Sequence[Found], own: tuple[bool, ...]) -> payments.Given:
    halves = _part(averaged(found, "worth"), own) + _part(found[-1]["news"], own)
    return by(np.ones(len(own)), halves, own)


RULES: Mapping[str, Rule] = {
    "leave-one-out": payments.RULES["leave-one-out"],
    "exact Shapley": payments.RULES["exact Shapley"],
    "none longer than the median": plainly("worth"),
    "that, averaged over rounds": _mean("worth"),
    "without the last three steps": plainly("steps"),
    "half for what is new": _half,
    "news, averaged over rounds": _mean("news"),
    "news": plainly("news"),
    "node": payments.RULES["node"],
}
"""How a seat comes from what it has found to points; the last one is what a node does."""


def played(found: Hospitals, algorithms: Sequence[str], seeds: Sequence[int], rounds: int) -> Runs:
    """Return what was found in all runs."""
    runs = {}
    for algorithm in algorithms:
        for seed in seeds:
            scene = Scene(found, procedure(algorithm), seed)
            for case in CASES:
                runs[algorithm, seed, case] = play(scene, case, rounds, SENT | GAMES | STEPS)
            print(f"{algorithm}, seed {seed}: {time.process_time():.0f} s of CPU", flush=True)
    return runs


def summary(runs: Runs, hospitals: Sequence[str], algorithm: str, rule: str) -> dict[str, Any]:
    """Return the figures of one rule with one algorithm, in per cent of the pool."""
    beside = len(hospitals)
    table: dict[str, Any] = {}
    unpaid, rounds, distance = 0, 0, []
    for case in CASES:
        some = [paid(found, RULES[rule]) for (name, _, of), found in runs.items() if (name, of) == (algorithm, case)]
        shares = np.array([one for one, _ in some])
        distance += [one for _, one in some]
        unpaid += int((shares.sum(2) == 0).sum())
        rounds += shares.shape[0] * shares.shape[1]
        each = shares.mean(1)
        table[case] = {
            "title": CASES[case].title,
            "planted": 100 * each[:, beside].mean(),
            "planted_most": 100 * each[:, beside].max(),
            "honest": 100 * each[:, :beside].mean(),
            "honest_least": 100 * each[:, :beside].min(),
            "hospitals": dict(zip(hospitals, (100 * each[:, :beside].mean(0)).tolist(), strict=True)),
            "ahead_of_an_honest_one": int((each[:, beside] > each[:, :beside].min(1)).sum()),
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
                f"| {CASES[case].title} | "
                + " | ".join(f"{one['planted']:.1f} ({one['planted_most']:.1f})" for one in cells)
                + " |"
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
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    options = parser.parse_args()
    algorithms, seeds = options.algorithms.split(","), [int(one) for one in options.seeds.split(",")]
    found = hospitals.load()
    if found.warning:
        raise SystemExit(found.warning)
    runs = played(found, algorithms, seeds, options.rounds)
    results = {
        algorithm: {rule: summary(runs, found.names, algorithm, rule) for rule in RULES} for algorithm in algorithms
    }
    settings = {"rounds": options.rounds, "seeds": seeds, "cpu_seconds": round(time.process_time())}
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "contribution.json").write_text(json.dumps({"settings": settings, "results": results}, indent=1))
    text = page(results, settings)
    (BENCH / "contribution.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
