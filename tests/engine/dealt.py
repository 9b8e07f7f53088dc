"""Rounds dealt to devices and processes: `python -m tests.engine.dealt PART OUT [ADDRESS COUNT PLACE]`.

It leaves in OUT what the rounds gave, a file for each case and number of devices; all of it is in float64.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax.extend import core

import fedmeta as fm
from fedmeta import aggregators, transforms
from fedmeta._engine import processes, sharding
from fedmeta._engine.plan import Plan
from tests import toys
from tests.examples import cells

MADE_GOOD = transforms.error_feedback(transforms.chain(transforms.top_k(0.4), transforms.quantise(4)))
CASES = {
    "columns, with memory": (fm.FOMAML(inner_lr=0.2), MADE_GOOD, aggregators.coordinate_median()),
    "updates, with memory": (fm.FedPer(inner_lr=0.2, inner_steps=2), transforms.identity(), aggregators.multi_krum()),
    "a sum, with memory": (fm.SCAFFOLD(inner_lr=0.2, inner_steps=2), MADE_GOOD, aggregators.weighted_mean()),
}
CASES |= cells({}, {"updates": (fm.FOMAML(inner_lr=0.2), transforms.fixed_point(), aggregators.geometric_median())})
COUNTS = cells([4], [2, 4])
"""Of devices of one process."""
MODEL = toys.network()
# Five clients make eight on four devices, six on two.
COHORT, FILLED, NAMES = 5, 8, tuple(f"c{number}" for number in range(6))
DATA = toys.classification((10, 6, 10, 6, 6, 10))


def simulator(case, devices):
    algorithm, transform, aggregator = CASES[case]
    server = fm.optimisers.sgd(1.0) if algorithm.name == "scaffold" else fm.optimisers.adam(0.05)
    federation = fm.Federation(algorithm, MODEL, server, transform, aggregator)
    return fm.Simulator(
        federation, DATA, cohort_size=COHORT, support=0.4, plan=Plan(devices=devices, chunk=1 if devices == 2 else 2)
    )


def rounds(case, devices):
    """Return what two rounds give, as arrays by name; the clients' memory where this process has it."""
    there = simulator(case, devices)
    state, losses = there.init(), []
    for number in (1, 2):
        state, figures = there.step(state, there.draw(number))
        losses.append(figures.metrics["loss"])
    found = {f"state {place}": leaf for place, leaf in enumerate(jax.tree.leaves(sharding.to_host(state)))}
    for place, leaf in enumerate(jax.tree.leaves(there.memory.read(NAMES)) if sharding.is_leader() else ()):
        found[f"memory {place}"] = leaf
    return {**found, "losses": np.array(losses)}


def save(out, case, devices):
    found = rounds(case, devices)
    if sharding.is_leader():
        np.savez(out / f"{case} {devices}.npz", **found)


def exchanged(case):
    """Return what the devices exchange in a round on four of them, and the largest array with a row for every client.

    Both are read off the traced program of one device: the names of the collective operations, and a number of
    elements a client.
    """
    there = simulator(case, 4)
    drawn, state = there.draw(1), there.init()
    traced = jax.make_jaxpr(there.program)(state, None, drawn.cohort, there.memory_of(drawn))
    bodies = [
        equation.params["jaxpr"] for equation in equations(traced.jaxpr) if equation.primitive.name == "shard_map"
    ]
    names, most = set(), 0
    for body in bodies:
        for equation in equations(body):
            names.add(equation.primitive.name)
            for variable in equation.outvars:
                if variable.aval.shape[:1] == (FILLED,):
                    most = max(most, variable.aval.size // FILLED)
    assert len(bodies) == 1
    return sorted(names & {"all_to_all", "all_gather", "psum", "psum_invariant"}), most


def equations(program):
    """Return all equations of a program, and of those that it calls."""
    for equation in program.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
                if isinstance(inner, core.Jaxpr):
                    yield from equations(inner)


def devices(out):
    """One device and several of one process."""
    for case in CASES:
        for count in (1, *COUNTS):
            save(out, case, count)
        jax.clear_caches()
    (out / "exchanged.json").write_text(json.dumps({case: exchanged(case) for case in CASES}))


def together(out):
    """Two processes of two devices each."""
    for case in CASES:
        save(out, case, 2)


def main(part, out, *place):
    jax.config.update("jax_enable_x64", True)
    if place:
        processes.join(place[0], int(place[1]), int(place[2]), cpu_devices=2, timeout=60)
    else:
        processes.use_cpu_devices(4)
    {"devices": devices, "together": together}[part](Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
