"""A node's process: `python -m tests.govern.cometbft.ledger_serving NODE`, with a ledger, its HTTP and CometBFT.

Beside what `network` puts into the folder NODE there is the genesis, `genesis.cbor`. HTTP is at the node's own address.
"""

import logging
import sys
from pathlib import Path

from fedmeta.govern.engines.cometbft.child import Patience
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.machine.genesis import decode_genesis
from fedmeta.govern.server.app import create_app
from fedmeta.govern.server.limits import Limits
from fedmeta.govern.server.serve import listen, serve
from fedmeta.govern.server.validating import Validating
from tests.govern.cometbft.network import read_plan

HTTP = 7878


def main(folder):
    """Serve until SIGTERM."""
    plan = read_plan(folder)
    ledger = folder / "ledger.db"
    if not ledger.exists():
        CometEngine.create(ledger, decode_genesis((folder / "genesis.cbor").read_bytes()))
    with CometEngine.open(ledger, plan.settings.rpc, snapshot_every=10) as engine:
        maker = Validating(engine, plan.program, plan.home, plan.settings, Patience(first_pause=0.2, **plan.patience))
        many = Limits(member_rate=10**6, member_burst=10**6, peer_rate=10**6, peer_burst=10**6)
        with listen(plan.settings.listen.partition(":")[0], HTTP) as listener:
            serve(create_app(engine, maker, many), listener)


def log():
    """Write what happens to the node's log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)


if __name__ == "__main__":
    log()
    main(Path(sys.argv[1]))
