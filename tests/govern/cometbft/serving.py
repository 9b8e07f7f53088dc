"""A node's process: `python -m tests.govern.cometbft.serving NODE`, with the counter and CometBFT as its child.

It writes what it is told of its child to `news.jsonl` in the folder NODE, and ends at SIGTERM.
"""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from pathlib import Path

from fedmeta.govern.engines.cometbft.child import Child, Patience
from fedmeta.govern.engines.cometbft.protocol import listening
from tests.govern.cometbft.counter import Counter
from tests.govern.cometbft.network import read_plan


async def serve(folder):
    """Run until SIGTERM."""
    plan = read_plan(folder)
    handler = Counter(folder, plan.validators)
    with (folder / "news.jsonl").open("a") as news:

        def told(one):
            print(json.dumps([type(one).__name__, *one]), file=news, flush=True)

        async with listening(handler, plan.settings.application):
            child = Child(plan.program, plan.home, plan.settings, told, Patience(first_pause=0.2, **plan.patience))
            running = asyncio.create_task(child.run())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await running


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(Path(sys.argv[1])))
