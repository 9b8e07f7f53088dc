"""The fastest plan for a model on this machine: measured once, and kept on the disk."""

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedmeta._engine.plan import Plan, most_devices
from fedmeta._engine.rewrite.interpreter import Traced, primitives
from fedmeta._files import cache_folder, write_atomically
from fedmeta.errors import RunError, UsageError

ENOUGH = 1.0
"""Seconds of rounds after which a plan has been measured."""

FEWEST = 3
"""The fewest rounds of a plan that are measured."""

WORTH = 60.0
"""Measuring is worth it for a run that should last at least so many seconds."""

GUESS = (1e-3, 1e11)
"""A first guess: the seconds of a round besides its arithmetic, and floating-point operations per second."""

PATIENCE = 15.0
"""Seconds of compilation after which no further plan is tried."""

GAIN = 0.95
"""A plan replaces another if its rounds take less than this share of the time: a smaller gain may be chance."""

HOPELESS = 4.0
"""A plan is given up if its first round takes so many times as long as a round of the best plan.

Unless that is less than a second: first rounds are slow for other reasons too."""

SHARE = 0.5
"""The share of the machine's memory that a round may take."""


@dataclass(frozen=True)
class Trial:
    """A plan that was measured.

    Args:
        plan: the plan.
        seconds: the median of a few rounds; infinite for a plan that needs more memory than there is.
        first: seconds to compile (or to load a compiled program), and of the first round.
        memory: bytes that a compiled round takes on a device besides its arguments and results.
    """

    plan: Plan
    seconds: float
    first: float
    memory: int


def worthwhile(rounds: int, flops: int) -> bool:
    """Return whether a run is long enough to measure plans for it.

    Args:
        rounds: of the run.
        flops: floating-point operations of a round.
    """
    return rounds * (GUESS[0] + flops / GUESS[1]) >= WORTH


class Stopwatch:
    """Measures one plan after another, alternating its rounds with those of the best plan so far.

    Other work on the machine slows both equally, so their ratio says which is faster even where their seconds
    do not.

    Args:
        compiled: compiles a plan's round; returns it with nothing left to pass, and an object whose
            `memory_analysis` says what it takes.
        memory: bytes that a round may take; a share of this machine's memory by default.
    """

    def __init__(self, compiled: Callable[[Plan], tuple[Callable[[], Any], Any]], memory: int | None = None):
        self._compiled = compiled
        self._memory = SHARE * _memory() if memory is None else memory
        self._best: tuple[Trial, Callable[[], Any]] | None = None

    def __call__(self, plan: Plan) -> Trial:
        """Return the trial of a plan; its seconds are those of the first plan times the ratios measured since."""
        started = time.perf_counter()
        run, executable = self._compiled(plan)
        analysis = executable.memory_analysis()
        taken = 0 if analysis is None else int(analysis.temp_size_in_bytes)
        if taken > self._memory:
            return Trial(plan, float("inf"), time.perf_counter() - started, taken)
        opening = _seconds(run)
        first = time.perf_counter() - started
        if self._best is None:
            seconds = float(np.median([turn for (turn,) in _turns(run)]))
        elif opening > max(ENOUGH, HOPELESS * self._best[0].seconds):
            seconds = opening
        else:
            best, theirs = self._best
            seconds = best.seconds * float(np.median([ours / other for ours, other in _turns(run, theirs)]))
        trial = Trial(plan, seconds, first, taken)
        if self._best is None or _is_clearly_faster(trial, self._best[0]):
            self._best = trial, run
        return trial


def _turns(*runs: Callable[[], Any]) -> list[tuple[float, ...]]:
    """Return the seconds of each plan's rounds, which alternate until all plans have been measured."""
    turns: list[tuple[float, ...]] = []
    while len(turns) < FEWEST or (sum(map(sum, turns)) < ENOUGH * len(runs) and len(turns) < 50):
        turns.append(tuple(_seconds(run) for run in runs))
    return turns


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


def _is_clearly_faster(trial: Trial, other: Trial) -> bool:
    return trial.seconds < GAIN * other.seconds


def alternatives(first: Plan, traced: Traced, cohort_size: int) -> Iterator[Callable[[Plan], Plan]]:
    """Yield changes to a plan that may make this program faster on this machine, the most promising first."""
    used = primitives(traced)
    most = most_devices(cohort_size)
    if most > 1:
        count = most if first.devices == 1 else 1
        yield lambda best: replace(best, devices=count)
    if not first.rewrite:
        yield lambda best: replace(best, rewrite=True)
    if "conv_general_dilated" in used and first.rewrite:
        other = "im2col" if first.convolution == "xla" else "xla"
        yield lambda best: replace(best, convolution=other)
    if cohort_size > 1:
        yield lambda best: replace(best, chunk=cohort_size if best.chunk == 1 else 1)
    if "dot_general" in used and first.rewrite:
        yield lambda best: replace(best, low_rank=not best.low_rank)
    if cohort_size > 8:
        yield lambda best: replace(best, chunk=4)


def search(
    first: Plan,
    changes: Sequence[Callable[[Plan], Plan]],
    measure: Callable[[Plan], Trial],
) -> list[Trial]:
    """Measure the first plan, then each change to the best so far while there is patience; return all trials.

    Args:
        first: where the search starts. If it needs too much memory, activations are computed again.
        changes: see `alternatives`.
        measure: gives the trial of a plan; see `Stopwatch`.
    """
    trials = [measure(first)]
    if trials[0].seconds == float("inf"):
        trials.append(measure(replace(first, chunk=1, devices=1, remat=True)))
    for change in changes:
        if sum(trial.first for trial in trials) > PATIENCE:
            break
        plan = change(best(trials).plan)
        if plan not in [trial.plan for trial in trials]:
            trials.append(measure(plan))
    return trials


def best(trials: Sequence[Trial], rounds: int | None = None) -> Trial:
    """Return the trial that is clearly faster than those before it; if none fits in memory, the smallest.

    Args:
        trials: at least one.
        rounds: of the run; the time to compile is shared among them. Without it compilation does not count.
    """

    def cost(trial: Trial) -> float:
        return trial.seconds if rounds is None else trial.seconds + trial.first / rounds

    chosen = trials[0]
    for trial in trials[1:]:
        smaller = trial.seconds == chosen.seconds and trial.memory < chosen.memory
        if cost(trial) < GAIN * cost(chosen) or smaller:
            chosen = trial
    return chosen


def digest(traced: Traced, cohort_size: int, precision: str) -> str:
    """Return a digest of a program, a cohort's size and this machine: 32 hexadecimal digits."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = [device.device_kind, _processor(), cores, jax.local_device_count(), jax.__version__]
    described = json.dumps([str(traced.program), cohort_size, precision, machine])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def remember(name: str, trials: Sequence[Trial]) -> None:
    """Keep the trials under a digest, for other runs. Where the cache cannot be written they are dropped."""
    content = [{**asdict(trial), "plan": trial.plan.to_dict()} for trial in trials]
    if (file := _file(name)) is not None:
        with contextlib.suppress(RunError):
            write_atomically(file, json.dumps(content).encode())


def remembered(name: str) -> list[Trial]:
    """Return the trials that were kept under a digest; none if there are none or they cannot be read."""
    if (file := _file(name)) is None:
        return []
    try:
        content = json.loads(file.read_text("utf-8"))
        return [Trial(Plan.from_dict(row.pop("plan")), **row) for row in content]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError):
        return []


def _file(name: str) -> Path | None:
    folder = cache_folder("plans")
    return None if folder is None else folder / f"{name}.json"


def _memory() -> int:
    """Return the bytes of memory of a device: its own, or the machine's."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
