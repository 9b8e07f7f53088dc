"""Measure the exact path at the size of real messages: time, memory, and the ratio to a floor.

    .venv/bin/python benchmarks/aggregation.py
    .venv/bin/python benchmarks/aggregation.py --rules weighted_mean,trimmed_mean --repeats 5 --threads 2
    .venv/bin/python benchmarks/aggregation.py --quick

Every rule is a process of its own, whose largest memory is told with the interpreter, JAX and the messages in it, then
what of it there was before the messages, and what these and both states take. The floor is what no aggregation does
without: each message's numbers read once, and added once to a sum in float64 that stays in the cache. Times are
medians. The table is printed, and all of it is written to build/bench/aggregation.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import aggregators, optimisers
from fedmeta.algorithms import FOMAML
from fedmeta.node.aggregation import Exact
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import chain, clip_by_norm, fixed_point

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
MEMBERS = 20
GOALS = {"weighted_mean": "under 3 s and 1 GB", "trimmed_mean": "under 15 s and 1 GB"}


def exact(rule: str, threads: int, quick: bool) -> Exact:
    """Return the aggregation of a network of 6.6 million parameters, with Adam at the server."""
    hidden = (784 - 2, 784) if quick else (2300, 2048)
    return Exact(
        Procedure(
            algorithm=FOMAML(),
            server=optimisers.adam(1e-3),
            transform=chain(clip_by_norm(10.0), fixed_point(20, 24)),
            aggregator=aggregators.make(rule),
            model="mlp",
            model_options={"hidden": hidden},
            inputs=Inputs((784,), tuple("abcdefghij")),
            rounds=1,
            cohort_size=MEMBERS,
        ),
        threads=threads,
    )


def messages(one: Exact) -> list[bytes]:
    draw = np.random.default_rng(0)
    size = (one.message_length - 4) // 4
    weight = np.float32(1).tobytes()
    return [np.rint(draw.normal(scale=3000, size=size)).astype("<i4").tobytes() + weight for _ in range(MEMBERS)]


def floor(sent: list[bytes], block: int) -> None:
    """Read and add every number once."""
    total = np.empty(block)
    count = (len(sent[0]) - 4) // 4
    for first in range(0, count, block):
        rows = total[: min(block, count - first)]
        rows[:] = 0
        for message in sent:
            np.add(rows, np.frombuffer(message, "<i4", len(rows), 4 * first), out=rows)


def largest() -> int:
    """Return the most memory that this process had since that was last forgotten; on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def median(repeats: int, work: Callable[[], Any]) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(rule: str, repeats: int, threads: int, quick: bool) -> dict[str, Any]:
    one = exact(rule, threads, quick)
    state = bytes(one.state_length)
    before = largest()
    sent = messages(one)
    Path("/proc/self/clear_refs").write_text("5")
    least = median(repeats, lambda: floor(sent, one.block))
    checked = median(repeats, lambda: [one.check(message) for message in sent])
    took = median(repeats, lambda: one.aggregate(state, sent))
    memory = largest()
    held = len(sent) * one.message_length + 2 * one.state_length
    return {
        "rule": rule,
        "parameters": (one.message_length - 4) // 4,
        "seconds": took,
        "checking": checked,
        "floor": least,
        "memory": memory,
        "before": before,
        "held": held,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rules", default=",".join(aggregators.AGGREGATORS), help="names with commas between them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="1.2 million parameters")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.repeats, given.threads, given.quick)))
        return
    found = []
    print(f"{MEMBERS} messages, {given.threads} thread(s); medians of {given.repeats}")
    print(
        f"{'rule':20} {'seconds':>8} {'of which checks':>16} {'floor':>8} {'ratio':>7} {'memory':>9} {'before':>9} "
        f"{'held':>8}"
    )
    for rule in given.rules.split(","):
        options = ["--repeats", str(given.repeats), "--threads", str(given.threads), *["--quick"] * given.quick]
        done = subprocess.run(
            [sys.executable, __file__, "--one", rule, *options],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{rule:20} failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        one = json.loads(done.stdout.splitlines()[-1])
        found.append(one)
        print(
            f"{rule:20} {one['seconds']:8.3f} {one['checking']:16.3f} {one['floor']:8.3f} "
            f"{one['seconds'] / one['floor']:7.1f} {one['memory'] / 1e6:6.0f} MB "
            f"{one['before'] / 1e6:6.0f} MB {one['held'] / 1e6:5.0f} MB"
            f"  {GOALS.get(rule, '')}",
            flush=True,
        )
    BENCH.mkdir(parents=True, exist_ok=True)
    content = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "numpy": np.__version__}
    (BENCH / "aggregation.json").write_text(json.dumps({**content, "rules": found}, indent=1))


if __name__ == "__main__":
    main()
