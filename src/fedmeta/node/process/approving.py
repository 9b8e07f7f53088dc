"""What a person approves, and how the reducer hears of it: from the member's file, looked at again and again."""

import asyncio
import logging
from dataclasses import asdict, replace
from datetime import date
from typing import Any

from fedmeta.errors import FedmetaError
from fedmeta.govern.wire.signatures import digest
from fedmeta.node.errors import MessageRefused, NotApproved, NotDone
from fedmeta.node.member import approvals, policy
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.process.desk import Desk
from fedmeta.node.process.jobs import Jobs
from fedmeta.node.process.moves import SCORING, scoring_name
from fedmeta.node.process.shared import SharedStore
from fedmeta.node.reducer.events import Approval, Approved, Revoked

log = logging.getLogger("fedmeta.node")

LOOK = 2.0
"""Seconds from one look at the approvals to the next."""

LONGEST = 64.0
"""Seconds at most before a procedure that could not be worked on is looked at again; they double from `LOOK`."""


class Approving:
    """Tells the reducer of what a person approves and revokes, and of what has ended.

    Args:
        desk: The core's.
        jobs: Where procedures are looked at.
        store: The core's own blobs.
    """

    def __init__(self, desk: Desk, jobs: Jobs, store: SharedStore):
        self._desk, self._jobs, self._store = desk, jobs, store
        self._approved: dict[bytes, Approval] = {}
        self._held: set[bytes] | None = None
        self._examined: dict[bytes, asyncio.Task] = {}
        self._later: dict[tuple[bytes, str], tuple[float, float]] = {}
        """When a procedure is looked at again, and the wait after that, by the approval that it was looked at for."""

    def close(self) -> None:
        """Look at no procedure any more."""
        for one in self._examined.values():
            one.cancel()

    async def watch(self) -> None:
        """Go on for as long as the core does."""
        while True:
            try:
                await self.look()
            except FedmetaError as error:
                log.warning("approvals: %s", error)
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Look once. A procedure is looked at by a task of its own: no revocation waits for the trainer."""
        today = date.today()
        latest = await asyncio.to_thread(Approvals(self._desk.folder.approvals).latest)
        holding = {one.digest: one for one in latest.values() if one.holds(today)}
        self._desk.warn(
            "approvals", "" if holding else "no procedure is approved: `fedmeta node approve`; without, no duty"
        )
        if set(holding) != self._held:
            self._held = set(holding)
            await asyncio.to_thread(self._forget)
        for recipe in [one for one in self._examined if one not in holding]:
            self._examined.pop(recipe).cancel()
        for recipe in [one for one in self._approved if one not in holding]:
            del self._approved[recipe]
            log.warning("recipe %s is approved no more", recipe.hex()[:12])
            self._desk.tell(Revoked(recipe))
        for recipe, before in list(self._approved.items()):
            now = replace(before, contributes=self._contributes(holding[recipe]))
            if now != before:
                self._approved[recipe] = now
                log.info("recipe %s: %s", recipe.hex()[:12], "contributes" if now.contributes else "only aggregates")
                self._desk.tell(Approved(now))
        for recipe in sorted(set(holding) - set(self._approved)):
            self._begin(recipe, holding[recipe])

    def _forget(self) -> None:
        """Delete what scoring has kept of others' updates for recipes that are approved no more."""
        assert self._held is not None
        kept = {scoring_name(one) for one in self._held}
        for name in self._store.names():
            if name.startswith(SCORING) and name not in kept:
                self._store.delete(name)

    def _contributes(self, approved: approvals.Approval) -> bool:
        return approved.contributes and bool(self._desk.config.data.paths)

    def _begin(self, recipe: bytes, approved: approvals.Approval) -> None:
        if (task := self._examined.get(recipe)) is not None and not task.done():
            return
        now, key = asyncio.get_running_loop().time(), (recipe, approved.time)
        at, wait = self._later.get(key, (now, LOOK))
        if at <= now:
            self._later[key] = now + wait, min(LONGEST, 2 * wait)
            self._examined[recipe] = asyncio.create_task(self._examine(recipe, approved))

    async def _examine(self, recipe: bytes, approved: approvals.Approval) -> None:
        """Approve a procedure to the reducer with its sizes, if it is here, and within the policy."""
        try:
            content, found = await self._described(recipe, self._contributes(approved))
        except FedmetaError as error:
            self._desk.warn(recipe.hex(), str(error))
            return
        except OSError as error:
            self._desk.warn(recipe.hex(), f"{error.filename}: {error.strerror}")
            return
        self._desk.procedures[recipe] = content
        self._desk.warn(recipe.hex(), "")
        sizes, few = (found["message"], found["state"]), (found["smallest"], found["takes"])
        approval = Approval(recipe, *sizes, self._contributes(approved), *few)
        self._approved[recipe] = approval
        log.info("recipe %s is approved: %d bytes an update", recipe.hex()[:12], approval.message_bytes)
        self._desk.tell(Approved(approval))

    async def _described(self, recipe: bytes, contributes: bool) -> tuple[bytes, dict[str, Any]]:
        """Return a procedure's bytes, and what the trainer says of it; raises where it cannot be worked on here."""
        folder, config = self._desk.folder, self._desk.config
        file = folder.procedure(recipe)
        if not file.exists():
            raise NotApproved(f"the bytes of procedure {recipe.hex()} are not in {folder.procedures}")
        content = await asyncio.to_thread(file.read_bytes)
        if digest(content) != recipe:
            raise NotApproved(f"{file} is not the procedure of its name")
        bounds = asdict(policy.read(folder.path))
        plain = {name: list(one) if isinstance(one, tuple) else one for name, one in bounds.items()}
        asked = {"policy": plain, "contributes": contributes, "seat": config.listens}
        short = recipe.hex()[:12]
        try:
            found, _ = await self._jobs.ask("describe", [content], **asked)
        except (MessageRefused, NotDone) as error:
            raise NotApproved(f"procedure {short} cannot be worked on with the data here: {error}") from error
        if found["reasons"]:
            raise NotApproved(f"the policy refuses procedure {short}: {'; '.join(found['reasons'])}")
        return content, found
