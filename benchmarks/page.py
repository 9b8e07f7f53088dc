"""Write what was measured into docs/performance.md, between its markers, so that no figure there is typed by hand.

    python benchmarks/page.py

reads engine.json, peers.json, levers.json, ledger.json, rounds.json, exchange.json, aggregation.json and cometbft.jsonl
in build/bench. What was not measured says so; the tables of a file that is not there stay as they are.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import comet_page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES = {
    "torch-loop": "PyTorch loop",
    "torch-func": "`torch.func`",
    "flower": "Flower",
    "pfl": "pfl",
    "fedjax": "FedJAX",
}
MISSING = "not measured"
UPDATE = 26_400_000
"""Bytes of an update of 6.6 million numbers, of which rounds of nodes are counted."""


class Goal(NamedTuple):
    """A row of the table of goals.

    Args:
        work: what is done.
        goal: in words.
        measured: gives what was measured.
        ratios: gives (ratio in words, whether it is good enough) for each part of the goal.
    """

    work: str
    goal: str
    measured: Callable[["Figures"], str]
    ratios: Callable[["Figures"], list[tuple[str, bool]]]


def or_missing(method: Callable[..., tuple[str, bool]]) -> Callable[..., tuple[str, bool]]:
    """Let a method say so where what it asks for was not measured."""

    def give(*args: Any) -> tuple[str, bool]:
        try:
            return method(*args)
        except (KeyError, TypeError):
            return MISSING, True

    return give


class Figures:
    """What the benchmarks have found."""

    def __init__(self, *found: Mapping[str, Any]):
        self.engine, self.peers, self.levers, self.ledger, self.rounds, self.exchange, *rest = found
        self.aggregation, self.cometbft = rest

    @or_missing
    def faster(self, work: str, peer: str, goal: float) -> tuple[str, bool]:
        """Return how many times faster than a peer."""
        row = self.peers["works"][work]["systems"][peer]
        words = f"{row['ratio']:.2f} x {NAMES[peer]} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        return words, row["ratio"] >= goal

    @or_missing
    def floor(self, work: str, goal: float) -> tuple[str, bool]:
        """Return how many times the floor."""
        row = self.engine["works"][work]
        return f"{row['to_floor']:.2f} x floor", row["to_floor"] <= goal

    @or_missing
    def to_maml(self, work: str, goal: float) -> tuple[str, bool]:
        """Return how many times what MAML takes in the same run."""
        row = self.engine["works"][work]
        words = f"{row['ratio']:.2f} x MAML, {_network(work)} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        return words, row["ratio"] <= goal

    @or_missing
    def processes(self, work: str, goal: float) -> tuple[str, bool]:
        """Return how many times faster two processes are than one."""
        ratio = self.engine["processes"][work]["ratio"]
        return f"{ratio:.2f} x, {_network(work)}", ratio >= goal

    def time(self, *works: str) -> str:
        """Return the medians of a round."""
        rows = [self.engine["works"][work] for work in works]
        return ", ".join(milliseconds(row["seconds"]) if "seconds" in row else MISSING for row in rows)


GOALS = (
    Goal(
        "exact MAML, CNN, 4 clients of 20 + 20, 1 step",
        "1.8 x faster than the PyTorch loop, at most 1.4 x floor",
        lambda f: f.time("maml-cnn"),
        lambda f: [f.faster("maml-cnn", "torch-loop", 1.8), f.floor("maml-cnn", 1.4)],
    ),
    Goal(
        "the same, 5 steps of batch 10",
        "1.8 x faster than the PyTorch loop",
        lambda f: f.time("maml-cnn-5"),
        lambda f: [f.faster("maml-cnn-5", "torch-loop", 1.8)],
    ),
    Goal(
        "exact MAML, LSTM, 4 clients of 20 + 20",
        "3 x faster than the PyTorch loop, at most 1.5 x floor",
        lambda f: f.time("maml-lstm"),
        lambda f: [f.faster("maml-lstm", "torch-loop", 3), f.floor("maml-lstm", 1.5)],
    ),
    Goal(
        "Meta-SGD, both networks",
        "at most 1.2 x MAML",
        lambda f: f.time("meta-sgd-cnn", "meta-sgd-lstm"),
        lambda f: [f.to_maml("meta-sgd-cnn", 1.2), f.to_maml("meta-sgd-lstm", 1.2)],
    ),
    Goal(
        "FOMAML, CNN, 5 passes over 20 support, 80 query",
        "3.5 x faster than Flower",
        lambda f: f.time("fomaml-cnn"),
        lambda f: [f.faster("fomaml-cnn", "flower", 3.5)],
    ),
    Goal(
        "FedAvg, softmax regression, 10 of 100 clients",
        "150 x faster than Flower, 6 x pfl, 4 x the PyTorch loop",
        lambda f: f.time("fedavg-softmax"),
        lambda f: [
            f.faster("fedavg-softmax", peer, goal) for peer, goal in (("flower", 150), ("pfl", 6), ("torch-loop", 4))
        ],
    ),
    Goal(
        "evaluation of 100 unseen clients, CNN",
        "1.8 x faster than the PyTorch loop",
        lambda f: f.time("evaluate-cnn"),
        lambda f: [f.faster("evaluate-cnn", "torch-loop", 1.8)],
    ),
    Goal(
        "exact MAML, perceptron, 64 clients of 10 + 10",
        "10 x faster than the PyTorch loop",
        lambda f: f.time("maml-mlp"),
        lambda f: [f.faster("maml-mlp", "torch-loop", 10)],
    ),
    Goal(
        "fixed cost of a round, tiny model, 10 clients",
        "under 1 ms",
        lambda f: f.time("tiny"),
        lambda f: [_share(f.engine["works"]["tiny"]["seconds"], 1e-3)],
    ),
    Goal(
        "first round after start, warm cache, CNN",
        "under 3 s",
        lambda f: f"{f.engine['first-round']['seconds']:.2f} s",
        lambda f: [_share(f.engine["first-round"]["seconds"], 3)],
    ),
    Goal(
        "2 processes against 1, one core each",
        "1.8 x faster",
        lambda f: ", ".join(
            milliseconds(row["two"]["seconds"]) if "two" in row else MISSING for row in f.engine["processes"].values()
        ),
        lambda f: [f.processes(work, 1.8) for work in f.engine["processes"]],
    ),
    Goal(
        "peak memory, exact MAML, CNN, 32 clients a round",
        "under 1.5 GB",
        lambda f: f"{f.engine['memory']['32']['memory'] / 1e9:.2f} GB",
        lambda f: [_share(f.engine["memory"]["32"]["memory"], 1.5e9)],
    ),
)


def _share(value: float, goal: float) -> tuple[str, bool]:
    return f"{value / goal:.2f} of the limit", value < goal


def _network(work: str) -> str:
    return "LSTM" if work.endswith("lstm") else "CNN"


def milliseconds(seconds: float) -> str:
    """Return a time with three digits."""
    value = 1e3 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    """Return a table; the columns after the first few are set to the right."""
    head = list(head)
    rule = ["---" if place < left else "---:" for place in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def goals(figures: Figures) -> str:
    """Return the table of goals."""
    rows = []
    for goal in GOALS:
        parts = [_or_missing(lambda goal=goal: goal.measured(figures))]
        try:
            found = goal.ratios(figures)
            parts.append("; ".join(words if good else f"**missed:** {words}" for words, good in found))
        except (KeyError, TypeError):
            parts.append(MISSING)
        rows.append([goal.work, goal.goal, *parts])
    return table(["work", "goal", "measured, a round", "ratio"], rows, left=4)


def _or_missing(give: Callable[[], str]) -> str:
    try:
        return give()
    except (KeyError, TypeError):
        return MISSING


def works(figures: Figures) -> str:
    """Return the table of works beside their floors."""
    rows = []
    for row in figures.engine["works"].values():
        if "error" in row:
            rows.append([row["title"], *[MISSING] * 5])
            continue
        spread = f"{milliseconds(row['min'])} to {milliseconds(row['max'])}"
        floor = f"{milliseconds(row['floor'])} ({row['floor_set_by']})" if row["floor"] > 1e-5 else "below 0.01 ms"
        plan = _plan(row.get("plan"))
        ratio = f"{row['to_floor']:.2f}" if row["floor"] > 1e-5 else ""
        rows.append([row["title"], milliseconds(row["seconds"]), spread, floor, ratio, plan])
    return table(["work", "median", "spread", "floor", "ratio", "plan"], rows)


def _plan(text: str | None) -> str:
    """Return a plan without what is as usual."""
    if text is None:
        return "default"
    usual = {"devices=1", "rewrite=true", "low_rank=true", "convolution=xla", "remat=false"}
    return f"`{','.join(part for part in text.split(',') if part not in usual)}`"


def peers(figures: Figures) -> str:
    """Return the table of works beside the peers."""
    rows = []
    for work in figures.peers.get("works", {}).values():
        for system, row in work["systems"].items():
            if system == "fedmeta":
                continue
            ours = work["systems"].get("fedmeta", {})
            times = [milliseconds(each["seconds"]) if "seconds" in each else MISSING for each in (ours, row)]
            ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})" if "ratio" in row else ""
            rows.append([work["title"], NAMES[system], times[1], times[0], ratio])
    return table(["work", "peer", "its round", "fedmeta's", "ratio"], rows, left=2)


def scale(figures: Figures) -> str:
    """Return the table of data sets of more and more clients."""
    rows = []
    for count, row in figures.engine.get("scale", {}).items():
        if not isinstance(row, Mapping) or "seconds" not in row:
            continue
        above = f"{row['above_1000'] / 1e6:,.0f} MB" if row.get("above_1000", 0) > 0 else "none"
        rows.append(
            [
                f"{int(count):,}",
                milliseconds(row["open"]),
                f"{1e6 * row['draw']:.0f} µs",
                milliseconds(row["seconds"]),
                above,
            ]
        )
    return table(["clients", "opened in", "a cohort drawn in", "a round", "memory above 1,000 clients"], rows)


def levers(figures: Figures) -> str:
    """Return the table of plans that differ in one thing."""
    rows = []
    for work, variants in figures.levers.items():
        for variant, row in variants.items():
            each = f"{row['ms_a_client']:.3g} ms ({row['min']:.3g} to {row['max']:.3g})"
            rows.append([f"`{work}`", variant, each, f"{row['ratio']:.2f}"])
    return table(["work", "variant", "a client", "ratio"], rows, left=2) if rows else MISSING


def ledger(figures: Figures) -> str:
    """Return the table of what the ledger does on one core."""
    found = figures.ledger
    sent, large, made = found["throughput"], found["large"], found["create"]
    size = f"{made['members']:,} members, {made['delegations']:,} delegations"

    def rate(row: Mapping[str, Any]) -> str:
        return f"{row['rate']:,.0f} a second ({row['rate_min']:,.0f} to {row['rate_max']:,.0f})"

    def row(work: str, measured: str, goal: str = "", good: bool = True) -> list[str]:
        return [work, measured, goal if good else f"**missed:** {goal}"]

    gigabytes = large["memory"] / 1e9
    rows = [
        row("transactions checked, executed and on the disk", rate(sent), "at least 2,000", sent["rate"] >= 2_000),
        row("replay from genesis", rate(found["replay"]), "at least 2,500", found["replay"]["rate"] >= 2_500),
        row("`fedmeta ledger verify`", rate(found["audit"])),
        row(f"memory, {size}", f"{gigabytes:.2f} GB", "at most 1 GB", gigabytes <= 1),
        row("election among them", milliseconds(large["election"]), "under 1 s", large["election"] < 1),
        row("a block of 500 among them", milliseconds(large["block"])),
        row("inclusion proof among them", f"{1e6 * large['proof']:.0f} µs", "under 1 ms", large["proof"] < 1e-3),
        row("its check", f"{1e6 * large['proof_check']:.0f} µs"),
        row("the file opened", f"{large['opened']:.1f} s, {made['database'] / 1e6:,.0f} MB"),
    ]
    return table(["work", "measured", "goal"], rows, left=3)


def ledger_floor(figures: Figures) -> str:
    """Return how far a transaction is from its floor."""
    sent = figures.ledger["throughput"]
    machine = f"{figures.ledger['machine']}, {figures.ledger['system']}, Python {figures.ledger['python']}"
    return (
        f"One core ({machine}); {', '.join(figures.ledger['versions'])}. One check of a signature takes "
        f"{1e6 * sent['signature']:.0f} µs and a flush of a block to the disk {1e3 * sent['flush']:.2f} ms; a block "
        f"of 500 takes {sent['to_floor']:.2f} times the floor of these two. Of a transaction's "
        f"{1e6 * (sent['check'] + sent['rest']):.0f} µs, {1e6 * sent['check']:.0f} are the check on entry, with the "
        "signature, and the rest is execution, the root and the disk."
    )


def rounds(figures: Figures) -> str:
    """Return the table of rounds of nodes."""
    head = (
        "members",
        "of them with seats",
        "seconds",
        "transactions",
        "on the ledger",
        "updates sent",
        "in all",
        "by one",
    )
    return table(
        head,
        (
            [
                f"{one['members']}",
                f"{one['seats']}",
                f"{one['seconds']:.0f}",
                f"{one['transactions']:.0f}",
                f"{one['ledger_bytes'] / 1e3:.0f} KB",
                f"{one['transfers']:,.0f}",
                f"{one['transfers'] * UPDATE / 1e9:.1f} GB",
                f"{one['most_of_one'] * UPDATE / 1e9:.2f} GB",
            ]
            for one in figures.rounds["rows"]
        ),
    )


def exchange(figures: Figures) -> str:
    """Return the table of how updates get to all seats."""
    head = ("seats, and contributors", "Mbit/s", "way", "in the set", "all hold", "a contributor sends", "a seat sends")
    return table(
        head,
        (
            [
                f"{one['count']}",
                f"{one['contributor']}"
                if one["contributor"] == one["seat"]
                else f"{one['contributor']}, seats {one['seat']}",
                one["way"],
                f"{one['in_set']:.0f} s",
                f"{one['all_hold']:.0f} s",
                f"{one['contributor_up'] / 1e6:,.0f} MB",
                f"{one['seat_up'] / 1e6:,.0f} MB",
            ]
            for one in figures.exchange["rows"]
        ),
    )


def aggregation(figures: Figures) -> str:
    """Return the table of the exact path's speed."""
    head = ("rule", "parameters", "seconds", "times the floor", "memory of the process")
    return table(
        head,
        (
            [
                one["rule"].replace("_", " "),
                f"{one['parameters']:,}",
                f"{one['seconds']:.2f}",
                f"{one['seconds'] / one['floor']:.0f}",
                f"{one['memory'] / 1e6:,.0f} MB",
            ]
            for one in figures.aggregation["rules"]
        ),
    )


def setting(figures: Figures) -> str:
    """Return the machine and the versions."""
    machine, rates = figures.engine["machine"], figures.engine["rates"]
    versions = [text.replace("==", " ") for text in (*machine["fedmeta"], *machine["peers"])]
    return (
        f"{machine['cores']} cores ({machine['machine']}, {machine['system']}), Python {machine['python']}; "
        f"{', '.join(versions)}. Matrix products of float32 run at {rates['flops'] / 1e9:.0f} GFLOP/s on all cores, "
        f"memory is read and written at {rates['bytes'] / 1e9:.0f} GB/s. Medians of {figures.engine['repeats']} blocks."
    )


PARTS = {
    "setting": setting,
    "goals": goals,
    "works": works,
    "peers": peers,
    "scale": scale,
    "levers": levers,
    "ledger": ledger,
    "ledgerfloor": ledger_floor,
    "rounds": rounds,
    "exchange": exchange,
    "aggregation": aggregation,
    "cometbft": lambda figures: table(["work", "measured", "goal"], comet_page.table_rows(figures.cometbft), left=3),
    "cometbftsetting": lambda figures: comet_page.setting(figures.cometbft),
}
FILES = ("engine", "peers", "levers", "ledger", "rounds", "exchange", "aggregation", "cometbft")
SOURCES = {name: name for name in FILES} | {"ledgerfloor": "ledger", "cometbftsetting": "cometbft"}
"""By part, the file that it comes from; engine.json where none is named."""


def read(file: Path) -> Any:
    """Return what a file holds: a document, or lines."""
    return comet_page.read(file) if file.suffix == ".jsonl" else json.loads(file.read_text())


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in FILES:
        ending = "jsonl" if name == "cometbft" else "json"
        parser.add_argument(f"--{name}", type=Path, default=ROOT / "build" / "bench" / f"{name}.{ending}")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    files = [getattr(arguments, name) for name in FILES]
    found = [read(file) if file.exists() else {} for file in files]
    figures = Figures(*found)

    def fill(match: re.Match[str]) -> str:
        if not files[FILES.index(SOURCES.get(match[2], "engine"))].exists():
            return match[0]
        return f"{match[1]}\n{_or_missing(lambda: PARTS[match[2]](figures))}\n\n{match[3]}"

    arguments.page.write_text(BLOCK.sub(fill, PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
