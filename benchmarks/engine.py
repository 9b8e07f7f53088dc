"""Measure the engine: rounds of many kinds beside what the machine can do, and how their cost grows.

    .venv/bin/python benchmarks/engine.py
    .venv/bin/python benchmarks/engine.py --works maml-cnn,first-round --repeats 9
    .venv/bin/python benchmarks/engine.py --full

Every work is a process of its own that trains by `fm.train` and is timed between the ends of rounds, as in the
comparison with the peers. Works that are compared with one another are measured in turn. A floor is the
larger of two times: that of the counted floating-point operations at the machine's rate of matrix products, and that
of the bytes that a round must move at the bandwidth of its memory. The table is printed, and all of it is written to
build/bench/engine.json. A part that fails, or for which no time is left, is named there with the reason.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
from shared import BENCH, WORKS, Work, Worker, WorkerFailed, machine, rounds_in_a_block, synthetic

import fedmeta.data.synthetic

MINUTES = 9.0
"""After so many minutes no further work or point is begun."""

LEFT_OUT = "left out: no time was left"

GROUPS: dict[str, tuple[Work, ...]] = {
    "maml-cnn": (
        WORKS["maml-cnn"],
        WORKS["meta-sgd-cnn"],
        replace(WORKS["maml-cnn"], name="maml-cnn-bfloat16", title="exact MAML, CNN, bfloat16", precision="bfloat16"),
    ),
    "maml-lstm": (WORKS["maml-lstm"], WORKS["meta-sgd-lstm"]),
    "maml-cnn-5": (WORKS["maml-cnn-5"],),
    "fomaml-cnn": (WORKS["fomaml-cnn"],),
    "fedavg-softmax": (WORKS["fedavg-softmax"],),
    "maml-mlp": (WORKS["maml-mlp"],),
    "tiny": (Work("tiny", "fixed cost: tiny model, 10 clients", "tiny", "maml", (), 100, 10, 10, 10),),
    "evaluate-cnn": (WORKS["evaluate-cnn"],),
}
"""By the name of the first, works that are measured in turn; the others' ratios are to the first."""

SAME_PLAN = ("maml-cnn-bfloat16",)
"""Works that are computed by the plan of the first of their group, so that nothing else differs."""


class Bench:
    """One run of the benchmark: what has been found so far, and where it is kept."""

    def __init__(self, arguments: argparse.Namespace):
        self.started = time.perf_counter()
        self.full, self.quick = arguments.full, arguments.quick
        self.repeats = 2 if self.quick else arguments.repeats
        self.block = 0.2 if self.quick else 1.5
        self.file: Path = arguments.out or BENCH / ("engine-quick.json" if self.quick else "engine.json")
        self.plans: dict[str, str] = {}
        self.found: dict[str, Any] = {
            "machine": machine(),
            "load_before": os.getloadavg()[0],
            "repeats": self.repeats,
            "seconds_of_a_block": self.block,
            "rates": _rates(),
            "works": {},
        }

    def out_of_time(self) -> bool:
        return not self.full and time.perf_counter() - self.started > 60 * MINUTES

    def keep(self) -> None:
        self.found["minutes"] = (time.perf_counter() - self.started) / 60
        unfinished = self.file.with_suffix(".part")
        unfinished.write_text(json.dumps(self.found, indent=1) + "\n")
        unfinished.replace(self.file)

    def part(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure one part and keep what it gives, or why it gives nothing."""
        try:
            self.found[name] = {"error": LEFT_OUT} if self.out_of_time() else measure()
        except (WorkerFailed, commands.CommandFailed, OSError, ValueError, KeyError) as failure:
            self.found[name] = {"error": f"{type(failure).__name__}: {failure}"}
        self.keep()

    def works(self, names: list[str]) -> None:
        """Measure the groups of works in which one of these names is.

        The machine's rates are measured again after each group, and the best counts: it is not equally fast all the
        time, and a floor is what it can do.
        """
        for group in GROUPS.values():
            if any(work.name in names for work in group):
                self.found["works"] |= _group(self, group) if not self.out_of_time() else _left_out(group)
                again = _rates()
                for name in ("flops", "bytes"):
                    self.found["rates"][name] = max(self.found["rates"][name], again[name])
                for found in self.found["works"].values():
                    if "error" not in found:
                        found |= _floor(found, self.found["rates"])
                self.keep()
                print(f"{', '.join(work.title for work in group)}: measured", file=sys.stderr, flush=True)
        rates = self.found["rates"]
        print(f"matrix products {rates['flops'] / 1e9:.0f} GFLOP/s, memory {rates['bytes'] / 1e9:.1f} GB/s")
        for found in self.found["works"].values():
            print(_row(found["title"], found), flush=True)

    def point(self, work: Work, rounds: int | None = None) -> dict[str, Any]:
        """Return one work's seconds a round, its first answer, and the most memory that it took."""
        if self.out_of_time():
            return {"error": LEFT_OUT}
        try:
            synthetic.write([work])
            worker = Worker("fedmeta", work)
            try:
                count = rounds or rounds_in_a_block(worker, self.block / 3)
                answers = [worker.ask(rounds=count) for _ in range(max(2, self.repeats - 2))]
            finally:
                worker.close()
        except (WorkerFailed, OSError) as failure:
            return {"error": str(failure)}
        return {**worker.ready, **answers[-1], **commands.summary([answer["seconds"] for answer in answers])}

    def plan(self, name: str) -> str | None:
        """Return the plan that was measured for a work in this run; None where it was not, and must be."""
        return self.plans.get(name)


def _rates() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("rates.py")], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def _left_out(group: tuple[Work, ...]) -> dict[str, Any]:
    return {work.name: {"title": work.title, "error": LEFT_OUT} for work in group}


def _group(bench: Bench, group: tuple[Work, ...]) -> dict[str, Any]:
    """Measure works in turn; return what was found for each."""
    synthetic.write(group)
    workers: dict[str, Worker] = {}
    rounds: dict[str, int] = {}
    failures: dict[str, str] = {}
    answers: dict[str, list[dict[str, Any]]] = {}

    def failed(work: Work, failure: Exception) -> None:
        workers.pop(work.name, None)
        failures[work.name] = str(failure)

    for work in group:
        try:
            known = bench.plan(group[0].name) if work.name in SAME_PLAN else None
            workers[work.name] = Worker("fedmeta", replace(work, plan=known))
            rounds[work.name] = rounds_in_a_block(workers[work.name], bench.block)
            if plan := workers[work.name].ready.get("plan"):
                bench.plans[work.name] = plan
        except (WorkerFailed, OSError) as failure:
            failed(work, failure)
    for repeat in range(bench.repeats):
        for work in group[:: 1 if repeat % 2 == 0 else -1]:
            if work.name in workers:
                try:
                    answers.setdefault(work.name, []).append(workers[work.name].ask(rounds=rounds[work.name]))
                except WorkerFailed as failure:
                    failed(work, failure)
    for worker in workers.values():
        worker.close()
    found: dict[str, Any] = {}
    for work in group:
        if work.name in failures:
            found[work.name] = {"title": work.title, "error": failures[work.name]}
            continue
        times = [answer["seconds"] for answer in answers[work.name]]
        last = answers[work.name][-1]
        found[work.name] = {
            "title": work.title,
            **commands.summary(times),
            "rounds_in_a_block": rounds[work.name],
            **{name: workers[work.name].ready.get(name) for name in ("plan", "bytes", "measuring", "first_round")},
            "memory": last["memory"],
            "flops": last["flops"],
        }
        first = group[0].name
        if work.name != first and first in found and "error" not in found[first]:
            ratios = [mine / other for mine, other in zip(times, found[first]["all"], strict=True)]
            found[work.name] |= {
                "to": first,
                "ratio": found[work.name]["seconds"] / found[first]["seconds"],
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
    return found


def _floor(found: dict[str, Any], rates: dict[str, Any]) -> dict[str, Any]:
    """Return a work's floor in seconds, what sets it, and how many times that a round takes."""
    products, memory = found["flops"] / rates["flops"], found["bytes"] / rates["bytes"]
    floor = max(products, memory)
    return {
        "floor": floor,
        "floor_set_by": "products" if products >= memory else "memory",
        "to_floor": found["seconds"] / floor,
    }


def _row(title: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return f"{title:<42}{found['error']}"
    spread = f"({1e3 * found['min']:.2f} to {1e3 * found['max']:.2f})"
    row = f"{title:<42}{1e3 * found['seconds']:10.2f} ms  {spread:<24}"
    row += f"floor {1e3 * found['floor']:8.2f} ms ({found['floor_set_by']}){found['to_floor']:7.2f}"
    if "to" in found:
        row += f"   {found['ratio']:.2f} times {found['to']}  ({found['ratio_min']:.2f} to {found['ratio_max']:.2f})"
    return row


def memory(bench: Bench) -> dict[str, Any]:
    """Return what 32 clients a round of the CNN take, and 4, in a process whose plan is known."""
    plan = bench.plan("maml-cnn")
    return {
        f"{cohort}": bench.point(
            replace(WORKS["maml-cnn"], name=f"memory-{cohort}", cohort=cohort, plan=plan or "devices=1"), rounds=2
        )
        for cohort in (4, 32)
    }


def scale(bench: Bench) -> dict[str, Any]:
    """Return what training on sets of more and more clients takes: to open, to draw, in a round, and of memory."""
    counts = [100, 1000, 10_000] if bench.quick else [100, 1000, 10_000, 100_000]
    kept = _synthetic(1_000_000)
    if bench.full or (kept.exists() and not bench.quick):
        counts.append(1_000_000)
    found: dict[str, Any] = {}
    for count in counts:
        folder = _synthetic(count)
        if not folder.exists():
            if bench.out_of_time():
                found[f"{count}"] = {"error": LEFT_OUT}
                continue
            if shutil.disk_usage(BENCH).free < 2 * 5000 * count:
                found[f"{count}"] = {"error": "left out: the disk is too full"}
                continue
            fedmeta.data.synthetic.write(folder, count)
        work = Work("", "", "tiny", "maml", (), count, 10, 10, 10, plan="chunk=10", folder=str(folder))
        found[f"{count}"] = bench.point(replace(work, name=f"clients-{count}"))
        if "1000" in found and "error" not in found[f"{count}"] and "error" not in found["1000"]:
            found[f"{count}"]["above_1000"] = found[f"{count}"]["memory"] - found["1000"]["memory"]
    return found


def _synthetic(count: int) -> Path:
    return BENCH / f"synthetic-{count}"


def series(bench: Bench) -> dict[str, Any]:
    """Return how a round's cost grows with the cohort, and with the model."""
    found: dict[str, Any] = {"cohort": {"mlp": {}, "cnn": {}}, "width": {}}
    for axis, label, value, work in _points(bench):
        place = found[axis] if label is None else found[axis][label]
        place[f"{value}"] = {name: entry for name, entry in bench.point(work).items() if name != "all"}
    return found


def _points(bench: Bench) -> Iterator[tuple[str, str | None, int, Work]]:
    perceptron, network = WORKS["maml-mlp"], WORKS["maml-cnn"]
    step = 3 if bench.quick else 1
    plan = bench.plan("maml-mlp") or "chunk=64"
    for cohort in (1, 2, 4, 8, 16, 32, 64)[::step]:
        yield (
            "cohort",
            "mlp",
            cohort,
            replace(perceptron, name=f"mlp-cohort-{cohort}", cohort=cohort, plan=_fit(plan, cohort)),
        )
    for hidden in (16, 64, 256, 1024, 2048)[::step]:
        # As many clients as the CNN has; one after another, or side by side, is the perceptron's own choice.
        yield "width", None, hidden, replace(perceptron, name=f"width-{hidden}", cohort=16, hidden=hidden, plan=plan)
    plan = bench.plan("maml-cnn") or "chunk=1"
    for cohort in (1, 2, 4, 8, 16)[::step]:
        yield (
            "cohort",
            "cnn",
            cohort,
            replace(network, name=f"cnn-cohort-{cohort}", cohort=cohort, plan=_fit(plan, cohort)),
        )


def _fit(plan: str, cohort: int) -> str:
    """Return the plan for a cohort: a single client has no use for several devices."""
    parts = [part for part in plan.split(",") if cohort > 1 or not part.startswith("devices")]
    return ",".join(parts)


PARTS: dict[str, Callable[[Bench], Any]] = {
    "first-round": lambda bench: commands.first_round(2 if bench.quick else 3),
    "processes": lambda bench: commands.processes(2 if bench.quick else 5, bench.out_of_time),
    "memory": memory,
    "scale": scale,
    "series": series,
}
"""What is measured beside the works."""


def _said(name: str, found: Any) -> Iterator[str]:
    """Yield the lines that say what was found in a part."""
    if "error" in found:
        yield f"{name}: {found['error']}"
    elif name == "first-round":
        spread = f"{found['min']:.2f} to {found['max']:.2f}"
        yield f"first round of `fedmeta train`, CNN: {found['seconds']:.2f} s ({spread})"
        yield f"the start before those: {found['before']:.2f} s"
    elif name == "processes":
        for work, row in found.items():
            what = row.get("error") or (
                f"1 process on 1 core {row['one']['seconds']:.3f} s, 2 on 1 each {row['two']['seconds']:.3f} s: "
                f"{row['ratio']:.2f} times"
            )
            yield f"{work}: {what}"
    elif name == "memory":
        for cohort, row in found.items():
            yield f"exact MAML, CNN, {cohort} clients a round: {row.get('error') or _megabytes(row['memory'])}"
    elif name == "scale":
        for count, row in found.items():
            what = row.get("error") or (
                f"opened in {1e3 * row['open']:.1f} ms, a cohort drawn in {1e6 * row['draw']:.0f} us, a round in "
                f"{1e3 * row['seconds']:.2f} ms, {_megabytes(row['memory'])}"
            )
            yield f"{int(count):,} clients: {what}"
    else:
        rows = {f"cohort of {n}, {k}": row for k, rows in found["cohort"].items() for n, row in rows.items()}
        rows |= {f"perceptron of {n} hidden units": row for n, row in found["width"].items()}
        for label, row in rows.items():
            yield f"{label}: {row.get('error') or format(1e3 * row['seconds'], '.2f') + ' ms'}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB at most"


def main() -> int:
    """Measure what is asked for."""
    works = [work.name for group in GROUPS.values() for work in group]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", help=f"names with commas between, of {', '.join([*works, *PARTS])}; all otherwise")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of each work (5)")
    parser.add_argument("--quick", action="store_true", help="2 short blocks, few points: to see that all runs")
    parser.add_argument("--full", action="store_true", help="also a million clients; as long as it takes")
    parser.add_argument("--out", type=Path, help="the file (build/bench/engine.json, or engine-quick.json)")
    arguments = parser.parse_args()
    names = arguments.works.split(",") if arguments.works else [*works, *PARTS]
    if unknown := set(names) - {*works, *PARTS}:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join([*works, *PARTS])}")
    synthetic.write()
    bench = Bench(arguments)
    load = bench.found["load_before"]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): the figures will not be its best", file=sys.stderr)
    bench.works(names)
    for name, measure in PARTS.items():
        if name in names:
            bench.part(name, lambda measure=measure: measure(bench))
            print("\n".join(_said(name, bench.found[name])), flush=True)
    bench.keep()
    print(f"{bench.found['minutes']:.1f} minutes; all of it is in {bench.file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
