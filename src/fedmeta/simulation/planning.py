"""Chooses the plan of a run: given, measured before, measured now, or a default that fits most models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fedmeta._engine import autotune, sharding
from fedmeta._engine.plan import Plan, check_plan, default_plan
from fedmeta.events import Listener, PlanMeasured
from fedmeta.simulation.simulator import Simulator


@dataclass(frozen=True, eq=False)
class PlanExplanation:
    """How the engine computes a run, and why.

    Args:
        plan: the plan.
        source: how it was chosen, in words.
        trials: the plans that were measured.
        cohort_size: clients in a round.
        buckets: support and query examples, padding included, of each bucket to which clients are padded; each bucket
            is a program to compile.
        padding: the share of padding among all examples, if every client is padded to its own bucket.
        flops: floating-point operations of a client's update in the largest bucket; None where they cannot be counted.
    """

    plan: Plan
    source: str
    trials: tuple[autotune.Trial, ...]
    cohort_size: int
    buckets: tuple[tuple[int, int], ...]
    padding: float
    flops: int | None


def choose_plan(simulator: Simulator, given: Plan | None, rounds: int, listeners: Sequence[Listener] = ()) -> Plan:
    """Return the plan for a run of this many rounds: that of `explain`, or the default if the run is short.

    Args:
        simulator: computes the run.
        given: returned unless it is None.
        rounds: of the run.
        listeners: are told of each plan that is measured.
    """
    usual = default_plan(simulator.cohort_size, simulator.flops())
    if sharding.several():
        # All processes must use the same plan, and none can measure alone.
        if given is None and sharding.is_leader() and (trials := autotune.remembered(_digest(simulator))):
            given = autotune.best(trials, rounds).plan
        return Plan.shared(given or usual)
    if given is not None:
        return given
    if not autotune.worthwhile(rounds, simulator.flops(clients=simulator.cohort_size) or 0):
        remembered = autotune.remembered(_digest(simulator))
        return autotune.best(remembered, rounds).plan if remembered else usual
    return autotune.best(explain(simulator, listeners=listeners).trials, rounds).plan


def explain(simulator: Simulator, plan: Plan | None = None, listeners: Sequence[Listener] = ()) -> PlanExplanation:
    """Return the fastest of the plans that were measured before or are measured now; or measure the given plan."""
    check_plan(plan)
    stopwatch = autotune.Stopwatch(lambda candidate: _compiled(simulator, candidate))

    def trial(candidate: Plan) -> autotune.Trial:
        measured = stopwatch(candidate)
        for listener in listeners:
            listener(PlanMeasured(str(candidate), measured.seconds, measured.first))
        return measured

    start = default_plan(simulator.cohort_size, simulator.flops()) if plan is None else plan
    traced, name = simulator.traced(), _digest(simulator)
    if plan is not None:
        trials, source = [trial(plan)], "given"
    else:
        trials, source = autotune.remembered(name), "the fastest of those measured before"
    if not trials:
        changes = list(autotune.alternatives(start, traced, simulator.cohort_size))
        trials, source = autotune.search(start, changes, trial), "the fastest of those measured now"
        autotune.remember(name, trials)
    plan = autotune.best(trials).plan
    simulator.use(plan)
    buckets = simulator.buckets
    return PlanExplanation(
        plan=plan,
        source=source,
        trials=tuple(trials),
        cohort_size=simulator.cohort_size,
        buckets=tuple(buckets.lengths(int(size)) for size in buckets.sizes),
        padding=buckets.padding(simulator.sizes[simulator.usable]),
        flops=simulator.flops(),
    )


def _digest(simulator: Simulator) -> str:
    return autotune.digest(simulator.traced(), simulator.cohort_size, simulator.precision)


def _compiled(simulator: Simulator, plan: Plan) -> tuple[Callable[[], Any], Any]:
    """Compile a plan's round, of the first round's clients; return it with its arguments, and the executable."""
    simulator.use(plan)
    drawn, start = simulator.draw(1), simulator.init()
    memory = simulator.memory_of(drawn)
    executable = simulator.program.lower(start, jax.tree.map(jnp.copy, start), drawn.cohort, memory).compile()
    spent = [jax.tree.map(jnp.copy, start)]

    def run() -> Any:
        state, _, finite, _ = executable(start, spent.pop(), drawn.cohort, memory)
        spent.append(state)
        return finite

    return run, executable
