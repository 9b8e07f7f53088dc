"""Compare the accuracy of the exact path with that of floats: the same rounds, both ways.

    FEDMETA_DATA=... .venv/bin/python benchmarks/exact_accuracy.py
    .venv/bin/python benchmarks/exact_accuracy.py --data digits --seeds 3 --rounds 30

Both ways start from one phi and have the same cohorts, tasks and keys. In floats a round is the simulator's. In the
exact path each client's update goes through fixed_point into bytes, and `Exact` makes the next state of them. The
figures are the accuracies of the test clients after adaptation, over all of their query examples, in per cent.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedmeta import pytrees, random
from fedmeta.node.aggregation import Exact
from fedmeta.study.recipe import Recipe
from fedmeta.transforms import chain, clip_by_norm, fixed_point

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
GOAL = 0.2
CASES = {
    "digits": ("fedavg", 30, 1000, {}),
    "mnist": ("fedavg", 20, 60, {"model": "mlp", "model_options": {"hidden": (64,)}}),
}
"""For each data set an algorithm, the rounds, the most test clients, and what else is not as usual."""


def both(data: str, seed: int, rounds: int | None, transform: Any) -> tuple[float, float]:
    """Return the two accuracies, in per cent: in floats, and exact."""
    algorithm, usual, evaluated, other = CASES[data]
    recipe = Recipe.default(
        data, algorithm, seed=seed, rounds=rounds or usual, max_evaluated=evaluated, transform=transform, **other
    )
    experiment = recipe.prepare()
    procedure = experiment.procedure
    exact = Exact(procedure)
    client = jax.jit(
        lambda phi, task, words, memory: exact.federation.client(phi, task, random.as_key(words), memory)[0]
    )
    memory = exact.federation.memory(random.default_key())
    floats = replace(
        experiment, procedure=replace(procedure, transform=chain(*transform.parts[:-1], clip_by_norm(1e9)))
    )
    simulator = floats.simulator()
    state, held = simulator.init(), exact.initial()
    for round in range(1, procedure.rounds + 1):
        drawn = simulator.draw(round)
        cohort = jax.device_get(drawn.cohort)
        phi = exact.read_state(held).phi
        messages = []
        for place in np.flatnonzero(cohort.present):
            task = jax.tree.map(lambda leaf, place=place: leaf[place], cohort.tasks)
            messages.append(pytrees.to_bytes(client(phi, task, cohort.keys[place], memory)))
        held = exact.aggregate(held, messages)
        state, _ = simulator.step(state, drawn)

    def accuracy(phi: Any) -> float:
        return 100 * experiment.report(phi, experiment.test, curve=False).after.pooled["accuracy"]

    return accuracy(state.phi), accuracy(jax.tree.map(jax.numpy.asarray, exact.read_state(held).phi))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    transform = chain(clip_by_norm(100.0), fixed_point(20, 24))
    found = {}
    for data in given.data.split(","):
        pairs = [both(data, seed, given.rounds, transform) for seed in range(given.seeds)]
        apart = float(np.mean([two - one for one, two in pairs]))
        found[data] = {"pairs": pairs, "apart": apart}
        said = ", ".join(f"{one:.2f} and {two:.2f}" for one, two in pairs)
        print(f"{data}: in floats and exact, by seed: {said}; the means are {apart:+.3f} points apart", flush=True)
        if max(abs(two - one) for one, two in pairs) > GOAL:
            print(f"{data}: a seed is more than {GOAL} points apart")
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "exact_accuracy.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
