"""The core and its own gate: what the gate has to know and to give out, and what has arrived there."""

import asyncio
import logging

from fedmeta.node.errors import BlobCorrupt, DiskError, MemberError, NotKept, RequestRefused
from fedmeta.node.process.desk import Desk
from fedmeta.node.process.gate import SOCKET
from fedmeta.node.process.moves import SALT, Moves
from fedmeta.node.reducer.events import Arrived, Lost
from fedmeta.node.transport import standing
from fedmeta.node.transport.local import LocalGate
from fedmeta.node.wire.chunks import CHUNK

log = logging.getLogger("fedmeta.node")

AGAIN = 2.0
"""Seconds from one time that updates' keys are wrapped for other seats to the next."""

ARRIVALS = 20
"""Seconds that the gate is asked to wait for something new."""


class Gatekeeping:
    """Three things that go on for as long as the core does, whether its gate is there or not.

    Args:
        desk: The core's.
        moves: What brings blobs to the gate.
    """

    def __init__(self, desk: Desk, moves: Moves):
        self._desk, self._moves = desk, moves
        self._stands: standing.Standing | None = None

    async def listen(self) -> None:
        """Hear from the gate what has arrived."""
        known: set[tuple[int, str]] = set()
        while True:
            try:
                gate = await LocalGate.open(self._desk.folder.gate / SOCKET)
            except (MemberError, OSError):
                await asyncio.sleep(0.5)
                continue
            try:
                seen = -1
                while True:
                    seen, arrivals = await gate.arrivals(seen, ARRIVALS)
                    whole = {(one.round, one.member) for one in arrivals if not one.missing}
                    for round, member in sorted(whole - known):
                        self._desk.tell(Arrived(round, member))
                    known = whole
            except (MemberError, OSError) as error:
                log.info("the gate: %s", error)
                known = set()
            finally:
                gate.close()

    async def stand(self) -> None:
        """Tell the gate what it has to know: who the members are, at which height, and what may come."""
        while True:
            try:
                gate = await LocalGate.open(self._desk.folder.gate / SOCKET)
            except (MemberError, OSError):
                await asyncio.sleep(0.5)
                continue
            try:
                told, shown = None, set[bytes]()
                while True:
                    now = self._standing()
                    if now is not None and now != told:
                        await gate.stand(now)
                        told = now
                    if told is not None:
                        await self._show(shown)
                    await asyncio.sleep(0.1)
            except (MemberError, OSError) as error:
                log.info("the gate: %s", error)
                await asyncio.sleep(0.5)
            finally:
                gate.close()

    async def _show(self, shown: set[bytes]) -> None:
        """Give the gate the models and procedures that are here; what cannot be given keeps nothing else from it."""
        for model in self._desk.memory.models - shown:
            shown.add(model)
            try:
                await self._moves.publish(model)
            except (BlobCorrupt, NotKept):
                self._desk.tell(Lost(models=frozenset([model])))
                shown.discard(model)
            except (DiskError, RequestRefused) as error:
                log.warning("model %s is not at the gate: %s", model.hex()[:12], error)
        for recipe in set(self._desk.procedures) - shown:
            shown.add(recipe)
            await self._moves.publish_procedure(self._desk.procedures[recipe])

    async def pass_on(self) -> None:
        """Let other seats open what is held here."""
        while True:
            try:
                if (view := self._desk.memory.view) is not None and view.seat(view.me):
                    held = {name: one.origin for name, one in view.updates.items() if self._desk.memory.holds(name)}
                    await self._moves.pass_on(view, held)
            except (MemberError, OSError) as error:
                log.info("wraps: %s", error)
            await asyncio.sleep(AGAIN)

    def _standing(self) -> standing.Standing | None:
        view = self._desk.memory.view
        if view is None:
            return None
        if self._stands is None or self._stands.height != view.height:
            expected, round = {}, view.live
            approval = self._desk.memory.approvals.get(round.recipe) if round else None
            if round and approval and view.seat(view.me) and round.phase in ("deliver", "compute"):
                length = approval.message_bytes + SALT
                largest = length + 64 * (2 + length // (CHUNK - 16))
                expected = {(one.origin, member): largest for member, one in view.updates.items()}
            peers = {
                name: standing.Peer(peer.key, peer.fingerprints, "seat" if name in view.seated else "member")
                for name, peer in view.peers.items()
            }
            self._stands = standing.Standing(
                self._moves.genesis, view.me, view.height, standing.WINDOW, peers, expected, self._moves.card
            )
        return self._stands
