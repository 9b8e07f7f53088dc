"""The blocks of a node that is one of several: CometBFT decides them, and the node runs it."""

import asyncio
from pathlib import Path
from typing import Any

from fedmeta.govern.engines.cometbft.child import Patience
from fedmeta.govern.engines.cometbft.config import Settings
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.engines.cometbft.home import Home
from fedmeta.govern.server.making import Host, Maker


class Validating(Maker):
    """Runs CometBFT for an engine, in a thread of its own.

    Args:
        engine: It must be open; whoever opened it closes it.
        program: CometBFT's binary.
        home: Its folder.
        settings: What it is told.
        patience: How long what is waited for.
    """

    shows_blocks = True

    def __init__(
        self,
        engine: CometEngine,
        program: Path,
        home: Home,
        settings: Settings,
        patience: Patience | None = None,
    ):
        self.engine = engine
        self._arguments = program, home, settings
        self._patience = patience

    def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Return what CometBFT answers to a light client."""
        return self.engine.light(method, parameters)

    async def run(self, node: Host) -> None:
        """Run CometBFT until the node is stopped; what is raised ends the node."""
        loop = asyncio.get_running_loop()

        def announce() -> None:
            loop.call_soon_threadsafe(self._announce, node)

        running = asyncio.ensure_future(asyncio.to_thread(self.engine.run, *self._arguments, announce, self._patience))
        stopping = asyncio.create_task(node.stopped.wait())
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self.engine.stop()
            await running

    def _announce(self, node: Host) -> None:
        node.fault = self.engine.fault
        node.announce()
