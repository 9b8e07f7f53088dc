"""Measure the ledger on CometBFT, beside CometBFT's own `kvstore` and beside the embedded engine.

    make bench-cometbft
    .venv/bin/python benchmarks/cometbft.py --only speed,latency
    .venv/bin/python benchmarks/cometbft.py --quick

All nodes run on this machine, on loopback. What is compared is measured in turn. Each finding is a line of JSON in
build/bench/cometbft.jsonl, and `benchmarks/page.py` makes the table of them; a part that is measured alone leaves the
lines of the others. With --quick, which only tries that all of it works, they go to cometbft-quick.jsonl.

- speed: transactions a second at 1 and 4 validators, as many as are taken: of `kvstore` in CometBFT's process and
  behind a socket, and of the ledger; and the embedded engine's seconds a transaction, on one core.
- latency: ten transactions a second, blocks of 1 s, four validators: seconds to the block.
- recovery: one validator of four is killed, and is started again five seconds later.
- disk: what rounds and quiet blocks leave on the disk.
- statesync: a node begins with a snapshot of a large ledger.
- consortium: rounds of four hospitals' processes, on either engine.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comet_load as load
import comet_network as networks
import ledger as embedded
import rounds
from comet_network import IN_PROCESS, LEDGER, SOCKET, Ledger, Node, network, until
from rich.console import Console

from fedmeta.consortium import hospitals
from fedmeta.consortium.processes import demonstration
from fedmeta.govern.engines.cometbft.binary import find_binary, version_of
from fedmeta.govern.engines.cometbft.config import StateSync
from fedmeta.govern.engines.store import Store

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
PACE = {"block_interval": 100, "empty_interval": 1_000}
"""Milliseconds between blocks, where speed is measured."""
LONG = 300
"""Seconds in which what takes long must have come."""
Row = dict[str, Any]


class Size:
    """How much is measured."""

    def __init__(self, quick: bool, profile: str):
        self.quick = quick
        self.profile = profile
        self.turns = 1 if quick else 3
        self.members = 1_000 if quick else 5_000
        self.seconds = 2 if quick else 8
        """Of load."""
        self.most = {IN_PROCESS: 20_000 if quick else 80_000, SOCKET: 12_000 if quick else 48_000}
        """Transactions at most."""
        self.most[LEDGER] = 6_000 if quick else 36_000
        self.latency = 6 if quick else 35
        self.latency_turns = 1 if quick else 2
        self.kills = 1 if quick else 3
        self.rounds = 6 if quick else 40
        self.large = 2_000 if quick else 100_000
        self.finals = 4 if quick else 12
        """Rounds of hospitals."""


def ledger_of(folder: Path, members: int, validators: int, **parameters: int) -> Ledger:
    """Return a ledger whose seats are as many as the validators."""
    genesis = embedded.federation(members, load.CANDIDATES, 2, super_nodes=validators, **parameters)
    return networks.make_ledger(genesis, folder / f"of-{validators}.db")


def speed(size: Size, folder: Path) -> Iterator[Row]:
    """Measure the embedded engine, and the three systems at 1 and 4 validators, turn by turn."""
    ledgers = {count: ledger_of(folder, size.members, count) for count in (1, 4)}
    raws = {count: load.transactions(one, size.members, size.most[LEDGER]) for count, one in ledgers.items()}
    length = len(raws[1][0])
    for turn in range(size.turns):
        alone = folder / f"embedded-{turn}"
        alone.mkdir()
        found = embedded.run("throughput", SimpleNamespace(repeats=2, quick=size.quick), alone)
        yield {"turn": turn, "system": "embedded", **found}
        for count, system in itertools.product((1, 4), (IN_PROCESS, SOCKET, LEDGER)):
            of = ledgers[count] if system == LEDGER else None
            some = raws[count] if system == LEDGER else load.pairs(length, size.most[system])
            with network(system, count, of, profile=size.profile, **PACE) as nodes:
                found = load.speed(nodes, some, size.members, size.seconds)
            yield {"turn": turn, "system": system, "validators": count, **found}


def latency(size: Size, folder: Path) -> Iterator[Row]:
    """Measure `kvstore` behind a socket and the ledger, turn by turn, at a rate that neither minds."""
    of = ledger_of(folder, 1_000, 4)
    count = size.latency * 10
    raws = load.transactions(of, 1_000, count)
    for turn, system in itertools.product(range(size.latency_turns), (SOCKET, LEDGER)):
        some = raws if system == LEDGER else load.pairs(len(raws[0]), count)
        with network(system, 4, of if system == LEDGER else None, block_interval=1_000) as nodes:
            yield {"turn": turn, "system": system, **load.latency(nodes, some, size.latency)}


def recovery(size: Size, folder: Path) -> Iterator[Row]:
    """Kill one validator of four under load, and time until it has all blocks again."""
    of = ledger_of(folder, size.members, 4)
    raws = iter(load.transactions(of, size.members, size.members))
    stop = threading.Event()
    with network(LEDGER, 4, of, block_interval=1_000) as nodes, nodes[0].call() as call, nodes[0].call() as watching:
        dripping = threading.Thread(target=load.drip, args=(call, raws, stop))
        dripping.start()
        try:
            for kill in range(size.kills):
                # The proposers take turns: another one each time.
                yield {"kill": kill, **_kill(nodes[1 + kill % 3], watching)}
        finally:
            stop.set()
            dripping.join()


def _kill(node: Node, call: networks.Call) -> Row:
    begun = call.applied()
    while call.applied() < begun + 4:
        time.sleep(0.05)
    killed = time.time()
    at = call.applied()
    node.end(signal.SIGKILL)
    time.sleep(5)
    behind = call.applied()
    again = time.monotonic()
    node.start(find_binary())
    answered = until(lambda: node.applied() >= 0 and time.monotonic(), "the node answers", step=0.02)
    whole = until(lambda: node.applied() >= call.applied() and time.monotonic(), "the node has all blocks", step=0.02)
    now = call.applied()
    blocks = call.blocks(begun + 1, now)
    gaps = [(later[1] - one[1], later[1] > killed) for one, later in itertools.pairwise(blocks)]
    return {
        "behind": behind - at,
        "answered": answered - again,
        "whole": whole - again,
        "gap_before": max(gap for gap, after in gaps if not after),
        "gap": max(gap for gap, after in gaps if after),
    }


def disk(size: Size, folder: Path) -> Iterator[Row]:
    """Measure what quiet blocks, and then rounds, leave on the disk of one of four validators.

    A round is as many transactions, of as many bytes and in as many blocks, as one of four simulated members. They are
    profiles, whose texts have the length that is due. Sizes are those of files that are closed.
    """
    of = ledger_of(folder, 1_000, 4)
    one = rounds.measure(4, 4, 2)
    count, blocks = round(one["transactions"]), round(one["blocks"])
    yield {"what": "round", "transactions": count, "blocks": blocks, "bytes": one["ledger_bytes"]}
    raws = iter(load.profiles(of, 1_000, count * size.rounds, round(one["ledger_bytes"] / count)))
    shares = [count * (at + 1) // blocks - count * at // blocks for at in range(blocks)]
    with network(LEDGER, 4, of, block_interval=50, empty_interval=50) as nodes:
        before, _ = _closed(nodes)
        _opened(nodes)
        time.sleep(5 if size.quick else 12)
        between, quiet = _closed(nodes)
        yield {"what": "quiet", **_grown(before, between), **quiet}
        _opened(nodes)
        with nodes[0].call() as call:
            _play(call, raws, shares)
        after, played = _closed(nodes)
        yield {"what": "rounds", "rounds": size.rounds, **_grown(between, after), **played}


def _play(call: networks.Call, raws: Iterator[bytes], shares: Sequence[int]) -> None:
    """Let all transactions into blocks: a share into each, again and again."""
    for share in itertools.cycle(shares):
        some = list(itertools.islice(raws, share))
        if not some:
            return
        call.post(load.batch(some))
        height = call.applied()
        # The block that is under way may not have them.
        while call.applied() < height + 2:
            time.sleep(0.01)


def _closed(nodes: list[Node]) -> tuple[dict[str, int], Row]:
    """End all nodes; return the sizes of the first one's files, and how many blocks it has had since the last time."""
    first = nodes[0]
    with first.call() as call:
        done = call.applied()
        counts = [count for _, _, count in call.blocks(first.seen + 1, done)]
    row = {"height": done - first.seen, "full": sum(map(bool, counts)), "transactions": sum(counts)}
    first.seen = done
    for node in nodes:
        node.end()
    return sizes(first), row


def _opened(nodes: list[Node]) -> None:
    """Start the nodes again, and wait until there are new blocks."""
    for node in nodes:
        node.start(find_binary())
    until(lambda: nodes[0].applied() > nodes[0].seen + 1, "the blocks go on")


def _grown(before: dict[str, int], after: dict[str, int]) -> Row:
    return {"grown": {name: octets - before.get(name, 0) for name, octets in after.items()}}


def sizes(node: Node) -> dict[str, int]:
    """Return the bytes of the ledger, and of each part of CometBFT's data."""

    def size(path: Path) -> int:
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
        return 0

    data = node.home.folder / "data"
    found = {"ledger": sum(size(path) for path in node.folder.glob("ledger.db*"))}
    for part in data.iterdir():
        found[part.name] = sum(map(size, part.rglob("*"))) if part.is_dir() else size(part)
    return found


def statesync(size: Size, folder: Path) -> Iterator[Row]:
    """Let a node begin with a snapshot of a large ledger; what it takes from the start of its process on."""
    began = time.monotonic()
    # A delegation for each member.
    genesis = embedded.federation(size.large, load.CANDIDATES, 1, super_nodes=1)
    of = networks.make_ledger(genesis, folder / "large.db")
    made = time.monotonic() - began
    pace = {"block_interval": 500, "empty_interval": 500}
    with network(LEDGER, 1, of, joining=1, snapshot_every=5, patience=LONG, **pace) as (first, second):
        with first.call() as call:
            until(lambda: call.applied() >= 6, "six blocks")
            load.hand_over(call, load.transactions(of, size.large, 1)[0])
            height, chunks, octets = until(lambda: _snapshot(first), "a snapshot is taken")
            until(lambda: call.applied() >= height + 3, "the snapshot's block is certified")
            trusted = call("commit", height="2")["signed_header"]["commit"]["block_id"]["hash"]
            address = f"{first.host}:{networks.RPC_PORT}"
            sync = StateSync((address, address), 2, bytes.fromhex(trusted), 10**8)
            second.settings = networks.changed(second.settings, state_sync=sync)
            began = time.monotonic()
            second.start(find_binary())
            opened = until(lambda: second.home.application.exists() and time.monotonic(), "the ledger is open", LONG)
            until(lambda: second.applied() >= call.applied() - 1, "the node has the last block", LONG)
            done = time.monotonic()
            with Store.read(second.ledger) as store:
                assert store.first > height, f"the node has blocks from {store.first} on: it executed them"
        stages = _stages((second.home.folder / "cometbft.log").read_text(errors="replace"))
    yield {
        "members": size.large,
        "delegations": len(genesis.delegations),
        "made": made,
        "opened": opened - began,
        "seconds": done - began,
        "chunks": chunks,
        "bytes": octets,
        **stages,
    }


def _snapshot(node: Node) -> tuple[int, int, int] | None:
    """Return the height of a node's last snapshot, its chunks, and their bytes."""
    with Store.read(node.ledger) as store:
        manifests = store.manifests()
        if not manifests:
            return None
        last = manifests[-1]
        parts = [store.chunk(last.height, number) or b"" for number in range(len(last.chunks))]
        return last.height, len(parts), sum(map(len, parts))


def _stages(log: str) -> dict[str, float]:
    """Return the seconds that CometBFT looked for snapshots, and that it took to restore one, by its log."""
    lines = [
        (float(found[1]) * 3600 + float(found[2]) * 60 + float(found[3]), found[4])
        for found in re.finditer(r"^\w\[\d{4}-\d\d-\d\d\|(\d\d):(\d\d):([\d.]+)\] (.*)$", log, re.M)
    ]

    def moment(words: str) -> float:
        return next(when for when, line in lines if words in line)

    start, offered, restored = map(moment, ("Starting state sync", "Offering snapshot", "Snapshot restored"))
    return {"looked": (offered - start) % 86_400, "restored": (restored - offered) % 86_400}


def consortium(size: Size, folder: Path) -> Iterator[Row]:
    """Let four hospitals train, on either engine, and time their rounds; the first ones wait for the first term."""
    patients = hospitals.load()
    for engine in ("embedded", "cometbft"):
        kept = folder / engine
        kept.mkdir()
        shown = demonstration.run(patients, size.finals, False, Console(quiet=True), kept, lambda _: None, engine)
        took = [sum(phase.seconds for phase in one.phases) for one in shown.part.rounds if one.outcome == "final"]
        yield {"engine": engine, "patients": not patients.stand_in, "seconds": took[2:]}


PARTS = {
    "speed": speed,
    "latency": latency,
    "recovery": recovery,
    "disk": disk,
    "statesync": statesync,
    "consortium": consortium,
}


def setting() -> Row:
    """Return the machine and the versions."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": [f"{name} {version(name)}" for name in ("fedmeta", "cbor2", "cryptography", "protobuf")],
        "cometbft": version_of(find_binary()),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="the parts, with commas between them")
    parser.add_argument("--quick", action="store_true", help="little of everything, to try that it works")
    parser.add_argument("--profile", default="", help="where each application's profile goes, where speed is measured")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))} is no part: there are {', '.join(PARTS)}")
    if not networks.KVSTORE.is_file():
        parser.error(f"{networks.KVSTORE} is missing: run `make abci-cli`")
    # However this is ended, nodes end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    BENCH.mkdir(parents=True, exist_ok=True)
    path = BENCH / f"cometbft{'-quick' if arguments.quick else ''}.jsonl"
    # Absolute, for the nodes have folders of their own.
    profile = os.path.abspath(arguments.profile) if arguments.profile else ""
    size = Size(arguments.quick, profile)
    for name in names:
        before = {"load_before": os.getloadavg()[0], **setting()}
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows = [{"part": name, "what": "setting", **before}]
        with tempfile.TemporaryDirectory(prefix="cometbft-") as folder:
            for row in PARTS[name](size, Path(folder)):
                print(json.dumps(row), flush=True)
                rows.append({"part": name, **row})
        rows[0]["lasted"] = time.monotonic() - began
        keep(path, name, rows)


def keep(path: Path, part: str, rows: list[Row]) -> None:
    """Put a part's lines in the place of those that it had."""
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    lines = [json.dumps(row) for row in (*(one for one in old if one["part"] != part), *rows)]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
