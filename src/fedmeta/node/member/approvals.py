"""What a person of the member has approved: procedures by their digest, until a date, or until it is revoked.

The note and the name of who approved stay in this file: nothing of it is ever sent.
"""

import getpass
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from fedmeta.node.errors import DiskError, NotApproved
from fedmeta.node.member.records import Records
from fedmeta.node.member.settings import day

FILE = "approvals.jsonl"
"""The name of the file in the node's folder."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The last word on a procedure."""

    digest: bytes
    note: str
    """Such as the number of an ethics committee's vote."""
    until: date | None
    """The last day on which it holds; None for no end."""
    by: str
    """Who approved, or revoked, on this machine."""
    time: str
    revoked: bool = False
    contributes: bool = True
    """Whether the member also brings updates; else it only serves the seats that it holds."""

    def holds(self, today: date) -> bool:
        """Return whether it holds on a day."""
        return not self.revoked and (self.until is None or today <= self.until)

    def why_not(self, today: date) -> str | None:
        """Return why it does not hold on a day; None if it does."""
        if self.revoked:
            return f"its approval was revoked at {self.time} ({self.note})"
        if self.until is not None and today > self.until:
            return f"its approval ended on {self.until}"
        return None


class Approvals:
    """The member's approvals, from a file that grows only.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._records = Records(path)

    def approve(
        self, digest: bytes, note: str, until: date | None, *, by: str = "", now: datetime | None = None
    ) -> None:
        """Approve a procedure; returns once that is on the disk.

        Args:
            digest: the procedure's, 32 bytes.
            note: why, such as the number of an ethics committee's vote; it never leaves.
            until: the last day; None for no end.
            by: who does it; the user of this process by default.
            now: the time; the machine's by default.

        Raises:
            NotApproved: the note is empty, or the last day is past.
            DiskError: the file cannot be written, or was changed.
        """
        moment = now or datetime.now(UTC)
        if not note.strip():
            raise NotApproved("an approval needs a note, such as the number of an ethics committee's vote")
        if until is not None and until < moment.date():
            raise NotApproved(f"an approval until {until} would have ended already")
        self._append("approve", digest, note, until, by, moment)

    def revoke(self, digest: bytes, note: str, *, by: str = "", now: datetime | None = None) -> None:
        """Revoke what was approved; returns once that is on the disk.

        Raises:
            NotApproved: there is nothing to revoke.
            DiskError: the file cannot be written, or was changed.
        """
        present = self.latest().get(digest)
        if present is None or present.revoked:
            raise NotApproved(f"procedure {digest.hex()} is not approved: there is nothing to revoke")
        self._append("revoke", digest, note, None, by, now or datetime.now(UTC))

    def leave(self, digest: bytes, note: str, *, by: str = "", now: datetime | None = None) -> None:
        """Bring no more updates by what was approved; it holds on for seats. To approve it again takes that back.

        Raises:
            NotApproved: it is not approved.
            DiskError: the file cannot be written, or was changed.
        """
        moment, present = now or datetime.now(UTC), self.latest().get(digest)
        if present is None or not present.holds(moment.date()):
            raise NotApproved(f"procedure {digest.hex()} is not approved: there is nothing to leave")
        self._append("leave", digest, note, present.until, by, moment)

    def latest(self) -> dict[bytes, Approval]:
        """Return the last word on each procedure, in the order in which they were first approved.

        Raises:
            DiskError: the file cannot be read, or was changed.
        """
        found: dict[bytes, Approval] = {}
        try:
            for record in self._records.read():
                one = _approval(record)
                found[one.digest] = one
        except (KeyError, TypeError, ValueError) as error:
            raise DiskError(f"{self._records.path} is damaged: {error!r}") from error
        return found

    def allows(self, digest: bytes, today: date) -> str | None:
        """Return why a procedure may not be worked on, on a day; None if it may.

        Raises:
            DiskError: the file cannot be read, or was changed.
        """
        found = self.latest().get(digest)
        if found is None:
            return "nobody has approved it: `fedmeta node approve` does"
        return found.why_not(today)

    def _append(self, act: str, digest: bytes, note: str, until: date | None, by: str, moment: datetime) -> None:
        time = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        end = until.isoformat() if until else ""
        self._records.append(
            {"act": act, "digest": digest.hex(), "note": note, "until": end, "by": by or _user(), "time": time}
        )


def _approval(record: dict[str, Any]) -> Approval:
    until = day(record["until"], "the end of an approval") if record["until"] else None
    revoked, contributes = {"approve": (False, True), "leave": (False, False), "revoke": (True, False)}[record["act"]]
    digest = bytes.fromhex(record["digest"])
    return Approval(digest, record["note"], until, record["by"], record["time"], revoked, contributes)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"
