"""Kills a ledger's process many times over, and says whether every promise held; `make soak`."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.govern.engines.crashing import Torment, Violation


def main() -> int:
    """Return 1 if a promise was broken; the ledger is kept then."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many processes are killed; 500 by default")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="for what is drawn; the clock by default")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fedmeta-soak-"))
    begun = time.monotonic()
    with Torment(folder / "ledger.db", options.seed) as torment:
        try:
            for _ in range(options.kills):
                torment.kill()
                show(torment, options.kills)
            torment.finish()
        except Violation as violation:
            print(f"\nafter kill {torment.kills}, seed {options.seed}, {torment.path}: {violation}", file=sys.stderr)
            return 1
    shutil.rmtree(folder)
    witness = torment.witness
    sent, found, acknowledged = (len(one) for one in (witness.sent, witness.found, witness.acknowledged))
    print(f"""
kills                      {torment.kills:>8,}, {torment.opening:,} of them while the ledger was being opened
blocks                     {len(witness.blocks):>8,}
transactions sent          {sent:>8,}
  acknowledged             {acknowledged:>8,}
  applied, kill came first {found - acknowledged:>8,}
  in no block              {sent - found:>8,}
acknowledged and lost             0
applied twice                     0
seconds                    {time.monotonic() - begun:>8,.0f}""")
    return 0


def show(torment: Torment, due: int) -> None:
    """Say how far it is: in place on a terminal, now and then elsewhere."""
    if sys.stdout.isatty() or torment.kills % 100 == 0 or torment.kills == due:
        begin, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
        text = f"{torment.kills} of {due} kills, {len(torment.witness.acknowledged):,} transactions acknowledged"
        print(f"{begin}{text}", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
