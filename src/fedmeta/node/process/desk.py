"""What the parts of a core share: what the node knows, events for its reducer, and what is said to its people."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fedmeta.govern.rules.round_phases import window
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.process.metrics import Figures
from fedmeta.node.reducer import Memory, View
from fedmeta.node.reducer.events import Event, Tick

log = logging.getLogger("fedmeta.node")

PACE = 20
"""Blocks by which the ledger's pace is judged."""

UNKNOWN_PACE = 1_000
"""Milliseconds a block, where only one was seen."""


class Desk:
    """One for each core; of the loop that runs.

    Args:
        config: The node's.
    """

    def __init__(self, config: Config):
        self.config, self.folder = config, Folder(config.folder)
        self.memory = Memory(config.member)
        self.figures = Figures()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.procedures: dict[bytes, bytes] = {}
        """The bytes of each procedure that is approved, by its digest."""
        self.code: int | None = None
        """What the process is to end with; None while it is to go on."""
        self._blocks: deque[tuple[int, int]] = deque(maxlen=PACE)
        self._loop = asyncio.get_running_loop()
        self._warned: dict[str, str] = {}

    def tell(self, event: Event) -> None:
        """Give the reducer an event; from the loop."""
        self.events.put_nowait(event)

    def tell_later(self, event: Event) -> None:
        """Give the reducer an event; from any thread."""
        self._loop.call_soon_threadsafe(self.events.put_nowait, event)

    def told_from_thread(self, kind: Callable[[Any], Event]) -> Callable[[Any], None]:
        """Return what gives the reducer an event of a kind, from any thread."""
        return lambda value: self.tell_later(kind(value))

    def end(self, code: int) -> None:
        """Let the process end with an exit code, soon."""
        self.code = code
        self.tell(Tick(0))

    @property
    def view(self) -> View:
        """What the node has seen of the ledger last; to be asked for once it has seen it."""
        assert self.memory.view is not None
        return self.memory.view

    def height(self) -> int:
        """Return the height of the last block that was seen; 0 before the first."""
        return self.memory.view.height if self.memory.view else 0

    def has_tls_key(self) -> bool:
        """Return whether the ledger, as it was seen last, has a TLS key of this member."""
        return self.memory.view is not None and self.memory.view.has_tls_key

    def saw(self, view: View) -> None:
        """Note a block that was seen, for the pace of the ledger."""
        self._blocks.append((view.height, view.time))

    def milliseconds_left(self) -> int:
        """Return about how long the live round's present window is still open, by the pace of the latest blocks."""
        view = self.view
        if (round := view.live) is None:
            return 0
        (first, then), (last, now) = self._blocks[0], self._blocks[-1]
        pace = (now - then) / (last - first) if last > first else UNKNOWN_PACE
        until = round.opened_time + window(round).milliseconds
        return max(0, until - view.time, int((view.closes - view.height) * pace))

    def warn(self, about: str, why: str) -> None:
        """Say to the member's people what they should look at: once, until it is something else, or over."""
        if why and self._warned.get(about) != why:
            log.warning("%s", why)
            self.figures.tell(why, True)
        self._warned[about] = why
