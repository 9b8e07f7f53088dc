"""Compare fedmeta with its peers: the same data, the same work, one run, in turn.

    .venv/bin/python benchmarks/peers/run.py
    .venv/bin/python benchmarks/peers/run.py --works maml-cnn,maml-mlp --peers torch-loop --repeats 9
    .venv/bin/python benchmarks/peers/run.py --check

Each system at each work is a process of its own that waits while another measures. A repetition measures a block of
rounds of every system; the next one goes the other way round. A ratio is the peer's median time of a round over
fedmeta's, and its spread is that of the ratios within the repetitions. The table is printed, and all of it is written
to build/bench/peers.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import synthetic
from check import check
from process import HERE, SYSTEMS, Worker, WorkerFailed
from works import BENCH, WORKS, Work

MOST_ROUNDS = 5000


def rounds_in_a_block(worker: Worker, seconds: float) -> int:
    """Warm the worker up, and return how many of its rounds fill a block of so many seconds."""
    worker.ask(rounds=2)
    rounds = 1
    for share in (0.1, 0.5, 1.0):
        found = worker.ask(rounds=rounds)["seconds"]
        rounds = min(max(round(share * seconds / found), 1), MOST_ROUNDS)
    return rounds


def start(work: Work, systems: list[str], seconds: float) -> tuple[dict[str, Worker], dict[str, int], dict[str, str]]:
    """Start the systems one after the other; return those that run, the rounds in their blocks, and the failures."""
    workers: dict[str, Worker] = {}
    rounds, failures = {}, {}
    for system in systems:
        try:
            workers[system] = Worker(system, work)
            rounds[system] = rounds_in_a_block(workers[system], seconds)
        except WorkerFailed as failure:
            workers.pop(system, None)
            failures[system] = str(failure)
    return workers, rounds, failures


def measure(work: Work, peers: list[str], repeats: int, seconds: float) -> dict[str, Any]:
    """Return each system's seconds a round, or why there are none."""
    workers, rounds, failures = start(work, ["fedmeta", *peers], seconds)
    times: dict[str, list[float]] = {system: [] for system in workers}
    losses: dict[str, float | None] = {}
    try:
        for repeat in range(repeats):
            for system in list(workers)[:: 1 if repeat % 2 == 0 else -1]:
                try:
                    answer = workers[system].ask(rounds=rounds[system])
                except WorkerFailed as failure:
                    del workers[system]
                    failures[system] = str(failure)
                    continue
                times[system].append(answer["seconds"])
                losses[system] = answer["loss"]
    finally:
        for worker in workers.values():
            worker.close()
    results: dict[str, Any] = {system: {"error": reason} for system, reason in failures.items()}
    for system in workers:
        results[system] = {
            "seconds": statistics.median(times[system]),
            "min": min(times[system]),
            "max": max(times[system]),
            "all": times[system],
            "rounds_in_a_block": rounds[system],
            "loss": losses[system],
        }
        if "fedmeta" in workers and system != "fedmeta":
            ratios = [peer / ours for peer, ours in zip(times[system], times["fedmeta"], strict=True)]
            results[system] |= {
                "ratio": results[system]["seconds"] / results["fedmeta"]["seconds"],
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
    return results


def table(work: Work, results: dict[str, Any]) -> str:
    """Return a work's rows."""
    lines = [f"{work.name}: {work.title}"]
    for system in ["fedmeta", *work.peers]:
        if system not in results:
            continue
        found = results[system]
        if "error" in found:
            lines.append(f"  {system:<12}{found['error']}")
            continue
        milliseconds = f"{1e3 * found['seconds']:10.2f} ms  ({1e3 * found['min']:.2f} to {1e3 * found['max']:.2f})"
        ratio = ""
        if "ratio" in found:
            ratio = f"{found['ratio']:8.2f} times fedmeta's  ({found['ratio_min']:.2f} to {found['ratio_max']:.2f})"
        lines.append(f"  {system:<12}{milliseconds:<42}{ratio}".rstrip())
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    pins = [line for name in ("requirements.txt", "requirements-fedjax.txt") for line in _pins(HERE / name)]
    ours = [f"{name}=={version(name)}" for name in ("fedmeta", "jax", "jaxlib", "optax", "numpy")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "fedmeta": ours,
        "peers": [pin for pin in pins if pin.split("==")[0] in ("torch", "flwr", "ray", "pfl", "fedjax", "jax")],
    }


def _pins(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def chosen(text: str, known: list[str]) -> list[str]:
    """Return the names in a list with commas, all of which must be known."""
    names = text.split(",")
    if unknown := set(names) - set(known):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def main() -> int:
    """Run the comparison or the check."""
    peers = [system for system in SYSTEMS if system != "fedmeta"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(WORKS), help="names with commas between; all where not given")
    parser.add_argument("--peers", default=",".join(peers), help="names with commas between; all where not given")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of each system (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a block's length, at least one round (2)")
    parser.add_argument("--quick", action="store_true", help="2 repeats of 0.3 seconds: to see that all runs")
    parser.add_argument("--check", action="store_true", help="compare results with fedmeta's in place of times")
    arguments = parser.parse_args()
    works = [WORKS[name] for name in chosen(arguments.works, list(WORKS))]
    asked = chosen(arguments.peers, peers)
    synthetic.write()
    if arguments.check:
        return check(works, asked)
    repeats, seconds = (2, 0.3) if arguments.quick else (arguments.repeats, arguments.seconds)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): threads that wait for one another suffer most", file=sys.stderr)
    report = {"machine": machine(), "load_before": load, "repeats": repeats, "seconds_of_a_block": seconds, "works": {}}
    for work in works:
        results = measure(work, [peer for peer in work.peers if peer in asked], repeats, seconds)
        report["works"][work.name] = {"title": work.title, "systems": results}
        (BENCH / "peers.json").write_text(json.dumps(report, indent=1) + "\n")
        print(table(work, results), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
