"""All bytes that ever left a node: to whom, what, how many and why, before they leave."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedmeta.node.errors import DiskError
from fedmeta.node.member.records import Records

FILE = "outbox.jsonl"
"""The name of the file in the node's folder."""

WHAT = {
    "transaction": "a signed transaction, by its kind",
    "commitment": "a hash that binds the member to its update",
    "offer": "a signed list of who may open a sealed update",
    "chunks": "a range of chunks of a sealed blob",
    "wraps": "keys of a sealed blob, each sealed to a seat",
    "model": "a chunk of a model, sealed to who asks for it",
    "card": "the signed public key to which this node has blobs sealed",
    "request": "a signed question without anything of the member's",
    "answer": "an answer of the gate's, without anything of the member's",
}
"""What leaves a node, and what it is; nothing else may leave."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that left, or were about to when the node ended."""

    time: str
    """By this machine's clock, in UTC, as 2027-03-01T10:00:00Z."""
    round: int | None
    """None for what belongs to no round."""
    to: str
    """The member, or the ledger's address."""
    what: str
    """One of `WHAT`."""
    detail: str
    """Such as the range of chunks, or the kind of transaction."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of the bytes, or of the blob that the chunks are of, in hex."""
    why: str


class Outbox:
    """The record of what leaves; append-only, each line bound to the one before by its hash, flushed before it counts.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._records = Records(path)

    def record(
        self,
        *,
        to: str,
        what: str,
        size: int,
        digest: bytes,
        why: str,
        round: int | None = None,
        detail: str = "",
        now: datetime | None = None,
    ) -> Sent:
        """Record bytes before they leave; returns once the record is on the disk.

        Args:
            to: the member or the address that they go to.
            what: one of `WHAT`.
            size: bytes.
            digest: of the bytes, 32.
            why: the reason in words.
            round: the round that they belong to.
            detail: such as the range of chunks.
            now: the time; the machine's by default.

        Raises:
            ValueError: `what` is none of `WHAT`, or the size is negative: the program is wrong.
            DiskError: the record cannot be kept, so that nothing may leave.
        """
        if what not in WHAT:
            raise ValueError(f"{what!r} is nothing that leaves a node: known are {', '.join(WHAT)}")
        if size < 0:
            raise ValueError(f"size is {size}: it must be at least 0")
        time = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        sent = Sent(time, round, to, what, detail, size, digest.hex(), why)
        self._records.append(asdict(sent))
        return sent

    def read(self, round: int | None = None) -> list[Sent]:
        """Return what left, oldest first; of one round where it is given.

        Raises:
            DiskError: the record cannot be read, or was changed.
        """
        try:
            found = [Sent(**record) for record in self._records.read()]
        except TypeError as error:
            raise DiskError(f"{self._records.path} is damaged: {error}") from error
        return [sent for sent in found if round is None or sent.round == round]


def totals(sent: Iterable[Sent]) -> dict[str, tuple[int, int]]:
    """Return by what it was how often it left, and the bytes in all."""
    found: dict[str, tuple[int, int]] = {}
    for one in sent:
        times, size = found.get(one.what, (0, 0))
        found[one.what] = times + 1, size + one.size
    return found
