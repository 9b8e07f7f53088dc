"""What each lever of the engine gives: the same rounds by plans that differ in one thing, and without the engine.

    .venv/bin/python benchmarks/levers.py [--works maml-cnn,maml-lstm] [--repeats 5]

runs them turn and turn about in one process, prints each median and its ratio to the chosen plan's, and writes
build/bench/levers.json. "as stated" is a loop over clients of the algorithm's own function as JAX differentiates it,
with the same mean and server step.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from shared import BENCH, WORKS

from fedmeta import aggregate, random, server
from fedmeta._engine import sharding
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.plan import Plan
from fedmeta._engine.program import round_program

STREAMS = len(os.sched_getaffinity(0))

VARIANTS: dict[str, dict[str, Plan | None]] = {
    "maml-cnn": {
        "chosen": Plan(devices=STREAMS),
        "one stream": Plan(),
        "products formed": Plan(devices=STREAMS, low_rank=False),
        "convolution by patches": Plan(devices=STREAMS, convolution="im2col"),
        "2 clients side by side": Plan(devices=STREAMS, chunk=2),
        "activations computed again": Plan(devices=STREAMS, remat=True),
        "as stated": None,
    },
    "meta-sgd-cnn": {
        "chosen": Plan(devices=STREAMS),
        "one stream": Plan(),
        "products formed": Plan(devices=STREAMS, low_rank=False),
        "as stated": None,
    },
    "maml-lstm": {
        "chosen": Plan(devices=STREAMS),
        "one stream": Plan(),
        "2 clients side by side": Plan(devices=STREAMS, chunk=2),
        "products formed": Plan(devices=STREAMS, low_rank=False),
        "as stated": None,
    },
    "maml-mlp": {
        "chosen": Plan(chunk=64),
        "one client after another": Plan(),
        "8 clients side by side": Plan(chunk=8),
        "products formed": Plan(chunk=64, low_rank=False),
        "as stated": None,
    },
    "fedavg-softmax": {
        "chosen": Plan(chunk=10),
        "one client after another": Plan(),
        "products formed": Plan(chunk=10, low_rank=False),
        "as stated": None,
    },
}


def stated(algorithm: Any, model: Any, optimiser: Any) -> Callable[..., Any]:
    """Return the round as it would be written first: a loop over the cohort, nothing rewritten."""

    def run(state: Any, _: Any, cohort: Any) -> Any:
        def client(mean: Any, one: Any) -> tuple[Any, None]:
            update = algorithm.client_update(model, state.phi, one.tasks, random.as_key(one.keys))
            return aggregate.add(mean, update.direction, update.weight), None

        mean = jax.lax.scan(client, aggregate.empty(state.phi), cohort)[0]
        return server.step(optimiser, state, aggregate.value(mean))

    return jax.jit(run)


def runner(settings: dict[str, Any], plan: Plan | None) -> Callable[[], float]:
    """Return a function that runs a round and gives its seconds; the state goes on from round to round."""
    algorithm, model, data, optimiser = (settings[name] for name in ("algorithm", "model", "data", "server"))
    places = CohortSharding(Plan() if plan is None else plan, settings["cohort_size"])
    support = settings["support"]
    size = int(data.sizes[0])
    lengths = (round(size * support), size - round(size * support))
    keys = [random.key_data(0, "benchmark", place) for place in range(settings["cohort_size"])]
    cohort = places.read(data, range(settings["cohort_size"]), lengths, keys, support=support)
    first = server.init(optimiser, algorithm.init(model, jax.random.key(0)))
    state = sharding.replicate(jax.tree.map(jnp.asarray, first), places.mesh)
    states = [state, jax.tree.map(jnp.copy, state)]
    if plan is None:
        program: Any = stated(algorithm, model, optimiser)
    else:
        program = round_program(algorithm, model, optimiser, places.plan, "float32", places.mesh)

    def run() -> float:
        started = time.perf_counter()
        found = jax.block_until_ready(program(states[0], states[1], cohort))
        seconds = time.perf_counter() - started
        states[:] = [found if plan is None else found.state, states[0]]
        return seconds

    return run


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Return what each variant of a work takes, in milliseconds a client."""
    from fedmeta_worker import settings

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
    config.update("jax_num_cpu_devices", STREAMS)
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
