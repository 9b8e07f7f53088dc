"""How a node is, for people and programs: `status.json` in the core's folder, and the figures on loopback."""

import asyncio
import json
from typing import Any

from fedmeta._files import write_atomically
from fedmeta.node.process.desk import Desk
from fedmeta.node.process.ledger import Ledger
from fedmeta.node.process.metrics import serve_metrics

STATUS = "status.json"
"""The file in the core's folder that says how the node is."""

UNREACHED = 5
"""Seconds without the ledger after which it is said."""


class Status:
    """Says how a node is; nothing of it is of data.

    Args:
        desk: The core's.
        ledger: What it follows.
    """

    def __init__(self, desk: Desk, ledger: Ledger):
        self._desk, self._ledger = desk, ledger
        self._unreached = 0

    async def serve(self) -> None:
        """Answer a monitoring system for as long as the core goes on."""
        port = self._desk.config.metrics.port
        try:
            await serve_metrics(port, self._desk.figures, self.show)
        except OSError as error:
            self._desk.warn("metrics", f"no metrics are served at port {port}: {error.strerror}")

    async def keep(self) -> None:
        """Write the file each second."""
        while True:
            await asyncio.sleep(1.0)
            self._look_at_ledger()
            await asyncio.to_thread(self._write, self.show())

    def write(self) -> None:
        """Write the file now; raises `OSError`."""
        self._write(self.show())

    def _write(self, shown: dict[str, Any]) -> None:
        write_atomically(self._desk.folder.core / STATUS, json.dumps(shown, indent=1).encode())

    def show(self) -> dict[str, Any]:
        """Return how the node is."""
        desk, memory, view = self._desk, self._desk.memory, self._desk.memory.view
        round = view.round if view else None
        return {
            "member": desk.config.member,
            "role": desk.config.role,
            "start": memory.start,
            "height": view.height if view else 0,
            "ledger": self._ledger.trouble or "reached",
            "round": round.number if round else 0,
            "phase": round.phase if round else "",
            "attempt": round.attempt if round else 0,
            "in_cohort": bool(view and round and any(one.member == view.me for one in round.cohort)),
            "seat": bool(view and view.seat(view.me)),
            "approved": [one.hex() for one in sorted(memory.approvals)],
            "models": [one.hex() for one in sorted(memory.models)],
            "under_way": sorted(type(one.duty).__name__ for one in memory.busy.values()),
            "silent_until": memory.silent_until,
            "halted": memory.halted,
            **desk.figures.status(),
        }

    def _look_at_ledger(self) -> None:
        self._unreached = self._unreached + 1 if self._ledger.trouble else 0
        if not self._unreached:
            self._desk.warn("ledger", "")
        elif self._unreached == UNREACHED:
            self._desk.warn("ledger", f"the ledger is not reached: {self._ledger.trouble}")
