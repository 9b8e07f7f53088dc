"""A validator's process: `python benchmarks/comet_node.py PLAN`, with a ledger and its CometBFT, until SIGTERM.

The plan is JSON, as `comet_network` writes it. There is no HTTP: what is measured is the ledger behind CometBFT.
"""

import cProfile
import json
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmeta.govern.engines.cometbft.child import Patience
from fedmeta.govern.engines.cometbft.config import Peer, Settings, StateSync
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.engines.cometbft.home import Home


def settings_of(written: Mapping[str, Any]) -> Settings:
    """Return the settings that were written as JSON."""
    values = dict(written)
    sync = values["state_sync"]
    if sync:
        servers, height, digest, period = sync
        sync = StateSync(tuple(servers), height, bytes.fromhex(digest), period)
    return Settings(
        **{
            **values,
            "application": Path(values["application"]),
            "rpc": Path(values["rpc"]),
            "peers": tuple(Peer(*one) for one in values["peers"]),
            "unconditional": tuple(values["unconditional"]),
            "state_sync": sync,
        }
    )


def main() -> None:
    """Serve until SIGTERM, and write a profile if the plan asks for one."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = settings_of(plan["settings"])
    profile = cProfile.Profile() if plan["profile"] else None
    with CometEngine.open(plan["ledger"], settings.rpc, snapshot_every=plan["snapshot_every"]) as engine:
        signal.signal(signal.SIGTERM, lambda *_: engine.stop())
        if profile:
            profile.enable()
        engine.run(Path(plan["program"]), Home(Path(plan["home"])), settings, lambda: None, Patience(first_pause=0.2))
        if profile:
            profile.disable()
            profile.dump_stats(plan["profile"])


if __name__ == "__main__":
    main()
