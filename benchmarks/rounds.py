"""Measure rounds of a simulated federation: blocks, the ledger's bytes, and what members send, at 4, 16 and 64 members.

    .venv/bin/python benchmarks/rounds.py

The reducer and the ledger's rules are the real ones; blocks come each second, links take 20 ms, computing 0.1 to 0.4 s.
The sizes of an update are counted, not sent: how long links take for them is `benchmarks/exchange.py`'s. The table is
printed, and written to build/bench/rounds.json.
"""

import argparse
import json
import statistics
from pathlib import Path

from fedmeta.node.simulated.world import World

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
UPDATE = 26_400_000
"""Bytes of an update of 6.6 million numbers."""
SIZES = ((4, 4), (16, 7), (16, 16), (64, 7), (64, 16), (64, 64))
"""Members, and how many of them have seats."""


def measure(members: int, seats: int, rounds: int) -> dict[str, float]:
    """Return the medians over some rounds."""
    world = World(seed=1, seats=seats, others=members - seats)
    found = []
    while len(found) < rounds + 1:
        begun, sent, height = world.now, dict(world.sent), world.ledger.height
        assert world.run(lambda: len(world.finals) > len(found), 600_000)
        raws = [raw for block in world.ledger.engine.blocks[height:] for raw in block.transactions]
        most = max(world.sent[name] - sent.get(name, 0) for name in world.names)
        found.append(
            {
                "seconds": (world.now - begun) / 1000,
                "blocks": world.ledger.height - height,
                "transactions": len(raws),
                "ledger_bytes": sum(map(len, raws)),
                "transfers": sum(world.sent.values()) - sum(sent.values()),
                "most_of_one": most,
                "in": len(world.finals[-1].members),
            }
        )
    # The first round begins with the ledger.
    return {name: statistics.median(one[name] for one in found[1:]) for name in found[0]}


def main() -> None:
    """Print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    print(
        "members  seats  updates in  seconds  blocks  transactions  ledger KB  transfers  GB in all  GB of one at most"
    )
    for members, seats in SIZES:
        one = measure(members, seats, options.rounds)
        rows.append({"members": members, "seats": seats, **one})
        print(
            f"{members:7}  {seats:5}  {one['in']:10.0f}  {one['seconds']:7.1f}  {one['blocks']:6.0f}  "
            f"{one['transactions']:12.0f}  {one['ledger_bytes'] / 1000:9.1f}  {one['transfers']:9.0f}  "
            f"{one['transfers'] * UPDATE / 1e9:9.2f}  {one['most_of_one'] * UPDATE / 1e9:17.2f}",
            flush=True,
        )
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "rounds.json").write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
