"""One lever that the engine does not have: the first inner step of all clients as one batch.

    .venv/bin/python benchmarks/first_step.py [--works maml-lstm,maml-cnn] [--repeats 7]

At the first inner step all clients stand at the same parameters, so the products of the support pass that share a
weight (forward, backward to the activations, and their part of the Hessian product) can be one large product a layer;
only what follows differs from client to client. Here the exact MAML gradient with one step is written in three parts
(support gradient with its linearisation, query gradient, Hessian product), of which the first and the last are batched
over the clients of a device and the second goes one client after another. It is measured in turn with the engine's own
rounds in one process; the ratio is this over the engine, so that a gain is below 1.
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
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.sharding import PartitionSpec
from levers import runner
from shared import BENCH, WORKS

from fedmeta import Federation, Plan, Simulator
from fedmeta._engine.rewrite.interpreter import Options, rewrite, trace
from fedmeta._engine.rewrite.low_rank import LowRank, dense, is_low_rank, stacked_rows
from fedmeta._engine.sharding import AXIS

DEVICES = len(os.sched_getaffinity(0))


def rewritten(function: Callable[..., Any], options: Options | None) -> Callable[..., Any]:
    """Return the function with the engine's rewriting, or as it is."""
    return function if options is None else lambda *args: rewrite(trace(function, *args), options)(*args)


def gradient(model: Any, rate: float, options: Options | None) -> Callable[[Any, Any], Any]:
    """Return (phi, task) -> the exact MAML gradient with one step, to be batched over tasks."""

    @sequential_vmap
    def outer(phi: Any, step: Any, query: Any) -> Any:
        def part(phi: Any, step: Any, query: Any) -> Any:
            return jax.grad(model.mean_loss)(jax.tree.map(lambda p, g: p - rate * g, phi, step), query)

        return jax.tree.map(dense, rewritten(part, options)(phi, step, query), is_leaf=is_low_rank)

    def client(phi: Any, task: Any) -> Any:
        step, hessian = jax.linearize(lambda p: jax.grad(model.mean_loss)(p, task.support), phi)
        found = outer(phi, step, task.query)
        return jax.tree.map(lambda v, h: v - rate * h, found, hessian(found))

    return rewritten(client, options)


def batched(settings: dict[str, Any], devices: int, options: Options | None) -> Callable[[], float]:
    """Return a function that runs a round in three parts and gives its seconds."""
    federation = Federation(settings["algorithm"], settings["model"], settings["server"])
    simulator = Simulator(
        federation,
        settings["data"],
        cohort_size=settings["cohort_size"],
        support=settings["support"],
        plan=Plan(devices=devices),
    )
    drawn, state = simulator.draw(1), simulator.init()
    mesh = simulator.placement.mesh
    client = gradient(federation.model, settings["algorithm"].inner_lr, options)

    def cohort_mean(phi: Any, tasks: Any) -> Any:
        found = jax.vmap(client, in_axes=(None, 0))(phi, tasks)
        total = jax.tree.map(lambda leaf: _total(leaf).sum(axis=0), found, is_leaf=is_low_rank)
        total = jax.lax.psum(total, AXIS) if mesh.size > 1 else total
        return jax.tree.map(lambda leaf: leaf / settings["cohort_size"], total)

    if mesh.size > 1:
        whole, each = PartitionSpec(), PartitionSpec(AXIS)
        cohort_mean = jax.shard_map(cohort_mean, mesh=mesh, in_specs=(whole, each), out_specs=whole, check_vma=False)
    program = jax.jit(lambda state, tasks: federation.step(state, cohort_mean(state.phi, tasks)))
    states = [state]
    check(simulator, program(state, drawn.cohort.tasks), drawn, state)

    def run() -> float:
        started = time.perf_counter()
        states[0] = jax.block_until_ready(program(states[0], drawn.cohort.tasks))
        return time.perf_counter() - started

    return run


def _total(leaf: Any) -> Any:
    """Return an array [clients, ...]; low-rank matrices of several clients as one."""
    if not is_low_rank(leaf):
        return leaf
    base = None if leaf.base is None else leaf.base.sum(axis=0)
    return LowRank(base, stacked_rows(leaf.lefts), stacked_rows(leaf.rights)).dense()[None]


def check(simulator: Simulator, found: Any, drawn: Any, state: Any) -> None:
    """Stop unless the three parts give what the engine gives."""
    expected = simulator.step(state, drawn)[0]
    for a, b, start in zip(*(jax.tree.leaves(s.phi) for s in (found, expected, state)), strict=True):
        moved = float(jnp.abs(b - start).max())
        np.testing.assert_allclose(a - start, b - start, atol=0.05 * moved, rtol=0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", default="maml-lstm,maml-cnn")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    from fedmeta_worker import settings

    results = {}
    for name in arguments.works.split(","):
        shared = settings(WORKS[name])
        options = Options()
        runs = {
            "engine": runner(shared, Plan(devices=DEVICES)),
            "batched, plain": batched(shared, DEVICES, None),
            "batched, rewritten": batched(shared, DEVICES, options),
            "batched, rewritten, one device": batched(shared, 1, options),
        }
        times: dict[str, list[float]] = {variant: [] for variant in runs}
        for run in runs.values():
            run()
        for _ in range(arguments.repeats):
            for variant, run in runs.items():
                times[variant].append(1e3 * run() / shared["cohort_size"])
        results[name] = {}
        for variant, values in times.items():
            ratios = [value / engine for value, engine in zip(values, times["engine"], strict=True)]
            row = {"ms_a_client": statistics.median(values), "ratio": statistics.median(ratios)}
            results[name][variant] = {**row, "min": min(values), "max": max(values)}
            print(f"{name:12} {variant:32} {row['ms_a_client']:8.1f} ms a client  {row['ratio']:.2f} of the engine")
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "first_step.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
