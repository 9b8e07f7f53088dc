"""Measure the ledger on one core: transactions through to the disk, replay, a large federation, proofs.

    .venv/bin/python benchmarks/ledger.py
    .venv/bin/python benchmarks/ledger.py --parts throughput,replay --repeats 9
    .venv/bin/python benchmarks/ledger.py --quick

Every part is a process of its own that is held to one core. The floor of a transaction is what no ledger of this kind
does without: one check of a signature, and its part of the one time that a block waits for the disk; both are measured
in the same run. The table is printed, and all of it is written to build/bench/ledger.json.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.replay import rebuild
from fedmeta.govern.machine.genesis import FirstCandidate, FirstDelegation, FirstMember, Genesis
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, digest, verify

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "build" / "bench"
CHAIN = "bench"
BLOCK = 500
"""Transactions in a block."""
SEQUENCER = Key.from_seed(digest(b"sequencer"))
GOALS = {
    "throughput": "at least 2,000 a second",
    "replay": "at least 2,500 a second",
    "memory": "at most 1 GB",
    "election": "under 1 s",
    "proof": "under 1 ms",
}


class Size:
    """How much is measured."""

    def __init__(self, quick: bool, repeats: int):
        self.repeats = 2 if quick else repeats
        self.active = 1_000 if quick else 5_000
        """Members that send transactions."""
        self.blocks = 6 if quick else 30
        self.members = 2_000 if quick else 100_000
        self.delegations_each = 10


def key(name: str) -> Key:
    """Return a member's key, always the same."""
    return Key.from_seed(digest(name.encode()))


def federation(members: int, candidates: int, delegations_each: int, **parameters: int) -> Genesis:
    """Return a genesis of members of which the first are candidates; each delegates to as many of them."""
    names = [f"m{at:06d}" for at in range(members)]
    return Genesis(
        chain_id=CHAIN,
        time=0,
        sequencer=SEQUENCER.public,
        treasury=10**9,
        parameters=parameters,
        members=tuple(
            FirstMember(name, f"org-{at % 1_000:03d}", key(name).public, 10**6, "", "") for at, name in enumerate(names)
        ),
        candidates=tuple(FirstCandidate(name, 100_000, 10_000 + at) for at, name in enumerate(names[:candidates])),
        delegations=tuple(
            FirstDelegation(name, names[chosen], 1_000)
            for at, name in enumerate(names)
            for chosen in sorted({(at * 7 + turn * 13 + 1) % candidates for turn in range(delegations_each)})
            if chosen != at
        ),
    )


def bodies(at: int, turn: int, candidates: int) -> object:
    """Return what a member sends in its turn: stake in and out, moved, and a profile."""
    first, second = ((at * 7 + step * 13 + 1) % candidates for step in range(2))
    mine = [f"m{one:06d}" for one in (first, second) if one != at] or [f"m{(at + 1) % candidates:06d}"]
    kind = (at + turn) % 5
    if kind == 0:
        return tx.Undelegate(mine[0], 10 + turn)
    if kind == 1 and len(mine) == 2:
        return tx.Redelegate(mine[1], mine[0], 10 + turn)
    if kind == 2:
        return tx.SetProfile(f"Member {at}", f"https://{at}.example", digest(b"%d" % turn))
    return tx.Delegate(mine[-1], 100 + turn)


def throughput(size: Size, folder: Path) -> dict[str, Any]:
    """Time blocks of transactions from their bytes to the disk: checked, executed, written and flushed."""
    candidates = 50
    genesis = federation(size.active, candidates, 2)
    path = folder / "throughput.db"
    groups = size.active // BLOCK
    floor_checks, blocks = [], []
    with EmbeddedEngine.create(path, genesis, SEQUENCER) as engine:
        names = [f"m{at:06d}" for at in range(size.active)]
        keys = [key(name) for name in names]
        for number in range(size.blocks):
            turn, group = divmod(number, groups)
            raws = [
                tx.sign(keys[at], engine.origin.digest, names[at], turn, bodies(at, turn, candidates))
                for at in range(group * BLOCK, group * BLOCK + BLOCK)
            ]
            began = time.perf_counter()
            receipts = [engine.submit(raw) for raw in raws]
            checked = time.perf_counter()
            signed = engine.produce(1_000 * (number + 1))
            done = time.perf_counter()
            assert signed is not None
            assert {one.wait(0.0).height for one in receipts} == {signed.header.height}
            blocks.append({"check": checked - began, "rest": done - checked, "bytes": sum(map(len, raws))})
            floor_checks.append(_checks(raws[:100], keys[group * BLOCK : group * BLOCK + 100]))
    seconds = [one["check"] + one["rest"] for one in blocks[1:]]
    flush = _flush(folder)
    check = statistics.median(floor_checks)
    return {
        "rate": BLOCK / statistics.median(seconds),
        "rate_min": BLOCK / max(seconds),
        "rate_max": BLOCK / min(seconds),
        "check": statistics.median(one["check"] for one in blocks) / BLOCK,
        "rest": statistics.median(one["rest"] for one in blocks) / BLOCK,
        "signature": check,
        "flush": flush,
        "to_floor": statistics.median(seconds) / (check * BLOCK + flush),
        "blocks": len(blocks),
        "database": path.stat().st_size,
    }


def _checks(raws: list[bytes], keys: list[Key]) -> float:
    """Return the seconds of one check of a signature, of what was just sent."""
    parsed = [tx.decode(raw) for raw in raws]
    began = time.perf_counter()
    sound = [verify(one.public, two.message, two.signature) for one, two in zip(keys, parsed, strict=True)]
    seconds = time.perf_counter() - began
    assert all(sound)
    return seconds / len(raws)


def _flush(folder: Path) -> float:
    """Return the seconds that a small write takes until it is on the disk."""
    times = []
    with open(folder / "flush", "wb") as file:
        for _ in range(50):
            file.write(bytes(1 << 17))
            began = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def replay(size: Size, folder: Path) -> dict[str, Any]:
    """Time the execution of the stored blocks once more, every signature checked; nothing is remembered from before."""
    path = folder / "throughput.db"
    began = time.perf_counter()
    height = rebuild(path)
    return {"seconds": time.perf_counter() - began, "transactions": height * BLOCK}


def audit(size: Size, folder: Path) -> dict[str, Any]:
    """Time `verify`: replay, and all that is stored compared, and the invariants after every block."""
    began = time.perf_counter()
    found = verify_ledger(folder / "throughput.db")
    assert found.sound, found.problem
    return {"seconds": time.perf_counter() - began, "transactions": found.transactions}


def create(size: Size, folder: Path) -> dict[str, Any]:
    """Time the making of a large ledger."""
    began = time.perf_counter()
    genesis = federation(size.members, size.members // 100, size.delegations_each, term_length=10)
    made = time.perf_counter()
    with EmbeddedEngine.create(folder / "large.db", genesis, SEQUENCER) as engine:
        engine.produce(1_000, empty=True)
    return {
        "genesis": made - began,
        "seconds": time.perf_counter() - made,
        "members": size.members,
        "delegations": len(genesis.delegations),
        "database": (folder / "large.db").stat().st_size,
    }


def large(size: Size, folder: Path) -> dict[str, Any]:
    """Open a large ledger: its memory, elections, blocks, proofs and a snapshot."""
    before = _memory("VmRSS")
    began = time.perf_counter()
    engine = EmbeddedEngine.open(folder / "large.db", SEQUENCER)
    opened = time.perf_counter() - began
    held, most = _memory("VmRSS"), _memory("VmHWM")
    empty, elections = [], []
    for at in range(2, 10 * size.repeats + 1):
        began = time.perf_counter()
        engine.produce(1_000 * at, empty=True)
        (elections if at % 10 == 0 else empty).append(time.perf_counter() - began)
    names = [f"m{at:06d}" for at in range(BLOCK)]
    full = []
    for turn in range(size.repeats):
        sent = [
            tx.sign(key(name), engine.origin.digest, name, turn, bodies(at, turn, size.members // 100))
            for at, name in enumerate(names)
        ]
        began = time.perf_counter()
        for raw in sent:
            engine.submit(raw)
        engine.produce(1_000 * (10 * size.repeats + 1 + turn))
        full.append(time.perf_counter() - began)
    proofs, checks = [], []
    for at in range(0, size.members, size.members // 1_000):
        name = f"m{at:06d}"
        began = time.perf_counter()
        record, proof, _ = engine.prove("member", name)
        proved = time.perf_counter()
        assert merkle.verify(proof, engine.app_hash)
        assert isinstance(record, Member)
        checks.append(time.perf_counter() - proved)
        proofs.append(proved - began)
    began = time.perf_counter()
    engine.snapshot()
    taken = time.perf_counter() - began
    engine.close()
    return {
        "opened": opened,
        "memory": held,
        "memory_most": most,
        "memory_before": before,
        "election": statistics.median(elections),
        "election_max": max(elections),
        "empty": statistics.median(empty),
        "block": statistics.median(full),
        "proof": statistics.median(proofs),
        "proof_max": max(proofs),
        "proof_check": statistics.median(checks),
        "snapshot": taken,
    }


def _memory(name: str) -> int:
    """Return what the system says of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {name}")


PARTS: dict[str, Callable[[Size, Path], dict[str, Any]]] = {
    "throughput": throughput,
    "replay": replay,
    "audit": audit,
    "create": create,
    "large": large,
}
AGAIN = ("replay", "audit")
"""Parts that take one time each, and so are run several times."""


def run(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a part in a process of its own, on one core, and return what it found."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--repeats", str(arguments.repeats)]
    done = subprocess.run(
        [*command, *(["--quick"] if arguments.quick else [])], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(arguments: argparse.Namespace, parts: list[str], folder: Path) -> dict[str, Any]:
    """Run the parts and return what they found."""
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": [f"{name} {version(name)}" for name in ("fedmeta", "cbor2", "cryptography")],
        "load_before": os.getloadavg()[0],
        "repeats": arguments.repeats,
    }
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        if part in AGAIN:
            rows = [run(part, arguments, folder) for _ in range(arguments.repeats)]
            rates = [row["transactions"] / row["seconds"] for row in rows]
            found[part] = {"rate": statistics.median(rates), "rate_min": min(rates), "rate_max": max(rates), **rows[0]}
        else:
            found[part] = run(part, arguments, folder)
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """Return what was found, a line each."""
    said = []
    if one := found.get("throughput"):
        said.append(
            f"to the disk      {one['rate']:,.0f} transactions a second ({one['rate_min']:,.0f} to "
            f"{one['rate_max']:,.0f}) in blocks of {BLOCK}; goal {GOALS['throughput']}; {one['to_floor']:.2f} times "
            f"the floor (a signature {1e6 * one['signature']:.0f} µs, a flush {1e3 * one['flush']:.2f} ms)"
        )
    for part, title in (("replay", "replay"), ("audit", "verify")):
        if one := found.get(part):
            goal = f"; goal {GOALS['replay']}" if part == "replay" else ""
            said.append(
                f"{title:<16} {one['rate']:,.0f} transactions a second ({one['rate_min']:,.0f} to "
                f"{one['rate_max']:,.0f}){goal}"
            )
    if (one := found.get("large")) and (made := found.get("create")):
        said += [
            f"large            {made['members']:,} members, {made['delegations']:,} delegations; made in "
            f"{made['seconds']:.0f} s, opened in {one['opened']:.1f} s, {made['database'] / 1e6:,.0f} MB on the disk",
            f"  memory         {one['memory'] / 1e6:,.0f} MB ({one['memory_most'] / 1e6:,.0f} MB at most); goal "
            f"{GOALS['memory']}",
            f"  election       {1e3 * one['election']:.0f} ms (at most {1e3 * one['election_max']:.0f}), the block "
            f"whole; goal {GOALS['election']}; an empty block {1e3 * one['empty']:.1f} ms",
            f"  block          {1e3 * one['block']:.0f} ms for {BLOCK} transactions",
            f"  proof          {1e6 * one['proof']:.0f} µs (at most {1e6 * one['proof_max']:.0f}), checked in "
            f"{1e6 * one['proof_check']:.0f} µs; goal {GOALS['proof']}",
            f"  snapshot       {one['snapshot']:.1f} s",
        ]
    return said


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small federation, to see that it runs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(json.dumps(PARTS[arguments.part](Size(arguments.quick, arguments.repeats), arguments.folder)))
        return
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    BENCH.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ledger-", dir=BENCH))
    try:
        found = measure(arguments, [part for part in PARTS if part in parts], folder)
    finally:
        shutil.rmtree(folder)
    print("\n".join(lines(found)))
    if not arguments.quick:
        (BENCH / "ledger.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
