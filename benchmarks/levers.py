"""What each lever of the engine gives: the same rounds by plans that differ in one thing, and without the engine.

    .venv/bin/python benchmarks/levers.py [--works maml-cnn,maml-lstm] [--repeats 5]

runs them in turn in one process, prints each median and its ratio to the chosen plan's, and writes
build/bench/levers.json. "plain program" is what JAX makes of the algorithm, with nothing rewritten.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from shared import BENCH, WORKS, synthetic

from fedmeta import Federation, Plan, Simulator

DEVICES = len(os.sched_getaffinity(0))

VARIANTS: dict[str, dict[str, Plan]] = {
    "maml-cnn": {
        "chosen": Plan(devices=DEVICES),
        "one device": Plan(),
        "all products dense": Plan(devices=DEVICES, low_rank=False),
        "convolution by im2col": Plan(devices=DEVICES, convolution="im2col"),
        "2 clients side by side": Plan(devices=DEVICES, chunk=2),
        "activations rematerialised": Plan(devices=DEVICES, remat=True),
    },
    "meta-sgd-cnn": {
        "chosen": Plan(devices=DEVICES),
        "one device": Plan(),
        "all products dense": Plan(devices=DEVICES, low_rank=False),
    },
    "maml-lstm": {
        "chosen": Plan(devices=DEVICES),
        "one device": Plan(),
        "2 clients side by side": Plan(devices=DEVICES, chunk=2),
        "all products dense": Plan(devices=DEVICES, low_rank=False),
    },
    "maml-mlp": {
        "chosen": Plan(chunk=64),
        "one client after another": Plan(),
        "8 clients side by side": Plan(chunk=8),
        "all products dense": Plan(chunk=64, low_rank=False),
    },
    "fedavg-softmax": {
        "chosen": Plan(chunk=10),
        "one client after another": Plan(),
        "all products dense": Plan(chunk=10, low_rank=False),
    },
}


for _plans in VARIANTS.values():
    _plans["plain program"] = replace(_plans["chosen"], rewrite=False)


def runner(settings: dict[str, Any], plan: Plan) -> Callable[[], float]:
    """Return a function that runs a round and gives its seconds; the state goes on from round to round."""
    federation = Federation(settings["algorithm"], settings["model"], settings["server"])
    simulator = Simulator(
        federation, settings["data"], cohort_size=settings["cohort_size"], support=settings["support"], plan=plan
    )
    drawn, first = simulator.draw(1), simulator.init()
    states = [first, jax.tree.map(jnp.copy, first)]

    def run() -> float:
        started = time.perf_counter()
        state = jax.block_until_ready(simulator.step(states[0], drawn, spent=states[1])[0])
        seconds = time.perf_counter() - started
        states[:] = [state, states[0]]
        return seconds

    return run


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Return what each variant of a work takes, in milliseconds a client."""
    from fedmeta_worker import settings

    synthetic.write([WORKS[name]])
    shared = settings(WORKS[name])
    runs, found = {}, {}
    for variant, plan in VARIANTS[name].items():
        started = time.perf_counter()
        runs[variant] = runner(shared, plan)
        runs[variant]()
        found[variant] = {"first_seconds": time.perf_counter() - started}
    times: dict[str, list[float]] = {variant: [] for variant in runs}
    for _ in range(repeats):
        for variant, run in runs.items():
            rounds = [run()]
            while sum(rounds) < 0.3:
                rounds.append(run())
            times[variant].append(1e3 * statistics.median(rounds) / shared["cohort_size"])
    for variant, values in times.items():
        ratios = [value / best for value, best in zip(values, times["chosen"], strict=True)]
        found[variant] |= {
            "ms_a_client": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "ratio": statistics.median(ratios),
        }
    return found


def main() -> None:
    """Measure the works and print what they take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(VARIANTS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    config: Any = jax.config
    config.update("jax_num_cpu_devices", DEVICES)
    config.update("jax_compilation_cache_dir", str(BENCH / "cache" / "levers"))
    results: dict[str, Any] = {}
    for name in arguments.works.split(","):
        results[name] = measure(name, arguments.repeats)
        print(f"\n{name}")
        for variant, row in results[name].items():
            spread = f"({row['min']:.2f} to {row['max']:.2f})"
            print(
                f"  {variant:<28} {row['ms_a_client']:9.2f} ms a client {spread:<22} {row['ratio']:6.2f} times the "
                f"chosen plan's; first round {row['first_seconds']:.1f} s",
                flush=True,
            )
        BENCH.mkdir(parents=True, exist_ok=True)
        (BENCH / "levers.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
