"""A node's new beginning after a lost machine, or an old state of its disk: by the account's key alone.

There are no backups of journals, and there must be none. A journal says what the node has promised: which update it has
committed to, which header it has signed, which result it opens. One that is older than the last promise says less than
was said, and a node that goes on from it may contradict itself in public, which costs its stake. No backup is ever new
enough to rule that out, for the last promise may have left a moment before the machine was lost. What outlasts the
machine is the ledger: it has every word that counted. So what is begun anew is begun with nothing: a new machine key,
by which the ledger refuses all that the old one signs; an empty journal; and silence until no older word can be on its
way any more. What the ledger has of the member's own acts is read from there, and outranks any journal.

Approvals, policy, configuration, data and the member's secret stay. What was replaced is set aside under its date, for
people to look at; no program reads it again.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedmeta.govern.client import keyfile
from fedmeta.govern.engines.disk import flush, write_new
from fedmeta.govern.errors import KeyFileError, NodeError, Refused, Unacknowledged
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.disk.journal import Journal
from fedmeta.node.errors import DiskError, MemberError
from fedmeta.node.member import reaching
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder, owned_as_folder
from fedmeta.node.process.core import JOURNAL_BYTES
from fedmeta.node.process.following import catch_up, member_of
from fedmeta.node.process.sending import check_account, send
from fedmeta.node.process.supervisor import locked
from fedmeta.node.reducer.promises import Silence, encode
from fedmeta.node.transport import certificates
from fedmeta.node.transport.standing import WINDOW

SILENCE = WINDOW + 1
"""Blocks after the new machine key's own in which the node says nothing.

The ledger itself refuses from the next block on what the old key signs, wherever it waited: in a pool, at a proxy, or
in a client that sends again. Gates may lag behind the ledger. A gate takes a request whose height is at most `WINDOW`
from its own. So one that takes anything of the new machine, whose requests carry heights of at least `SILENCE` after
the change of keys, has itself seen the block with that change, and takes nothing more that the old key has signed.
Nobody ever hears both.
"""

WHY = "a recovery: a new machine key fences the old one"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery has done."""

    machine: bytes
    """The new machine key's public half."""
    tls: bytes
    """The fingerprint of the new TLS key."""
    until: int
    """The height before which the node says nothing."""
    aside: tuple[Path, ...]
    """What was replaced, under its new names."""


def recover(config: Config, account: Key, now: datetime | None = None) -> Recovered:
    """Make new keys and a new journal, and tell the ledger, by the account's key.

    If it fails before the ledger was told, nothing has changed. If it ends later, the node does not start before
    another recovery has come to its end.

    Args:
        config: The node's.
        account: The key of the member's account.
        now: The date of what is set aside; the machine's by default.

    Raises:
        FolderInUse: the node runs.
        MemberError: the key is not the account's, or the member is none of the ledger.
        Unreachable, NodeError: the ledger cannot be reached.
        Refused: the ledger refuses a transaction.
        Unacknowledged: it is not known what became of one: recover once more.
        DiskError: the disk refuses.
    """
    folder = Folder(config.folder)
    with locked(folder.path), _on_disk(folder.path):
        _check_free(folder)
        with reaching.first(config) as client:
            member = member_of(catch_up(config, client), config)
        check_account(account, member)
        # What an earlier recovery has left was never in its place.
        shutil.rmtree(folder.recovery, ignore_errors=True)
        folder.recovery.mkdir(mode=0o700)
        try:
            certificate = certificates.create(config.member)
            keyfile.save(folder.recovery / "machine.pem", Key.generate())
            write_new(folder.recovery / "tls.pem", certificate.to_pem(), 0o600)
            journal = Journal.create(folder.recovery / "journal", JOURNAL_BYTES)
            height = _set_key(config, account, folder)
        except BaseException as error:
            if not _may_be_done(error):
                shutil.rmtree(folder.recovery, ignore_errors=True)
            raise
        with journal:
            _set_profile(config, account, member, certificate.fingerprint)
            journal.append(encode(Silence(height + SILENCE)))
        machine = keyfile.load(folder.recovery / "machine.pem").public
        aside = _put_in_place(config, folder, now or datetime.now(UTC))
        return Recovered(machine, certificate.fingerprint, height + SILENCE, aside)


def _check_free(folder: Folder) -> None:
    """Raise `FolderInUse` where a core has the journal that no command has started."""
    path = folder.core / "journal"
    if path.exists():
        # Whether it is good does not matter any more.
        with contextlib.suppress(DiskError):
            Journal.open(path)[0].close()


def _set_key(config: Config, account: Key, folder: Folder) -> int:
    """Tell the ledger the new machine key, and return the height of the block with it."""
    machine = keyfile.load(folder.recovery / "machine.pem")
    proof = machine.sign(tx.possession(config.ledger.genesis, config.member, machine.public))
    return send(config, account, tx.SetMachineKey(machine.public, proof), WHY).height


def _set_profile(config: Config, account: Key, member: Member, fingerprint: bytes) -> None:
    address = config.listen.public if config.listens else member.address
    send(config, account, tx.SetProfile(member.title, address, fingerprint), WHY)


def _may_be_done(error: BaseException) -> bool:
    """Return whether the ledger may have the new key although it came to an error."""
    sure = isinstance(error, Refused | NodeError | MemberError | KeyFileError | OSError)
    return isinstance(error, Unacknowledged) or not sure


def _put_in_place(config: Config, folder: Folder, now: datetime) -> tuple[Path, ...]:
    """Set aside what is there, and put what is new into its place; the journal first: no key is of use before it is."""
    date = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = []
    places = (folder.core / "journal", config.path(config.keys.machine), folder.tls)
    for place, new in zip(places, ("journal", "machine.pem", "tls.pem"), strict=True):
        if place.exists():
            aside.append(_free_name(place, date))
            os.rename(place, aside[-1])
        os.rename(folder.recovery / new, place)
        owned_as_folder(place)
        flush(place.parent)
    folder.recovery.rmdir()
    flush(folder.path)
    return tuple(aside)


def _free_name(place: Path, date: str) -> Path:
    names = (place.with_name(f"{place.stem}.until-{date}{more}{place.suffix}") for more in ("", "-2", "-3", "-4"))
    return next(name for name in names if not name.exists())


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot recover in {folder}: {error.filename or 'a file'}: {error.strerror}") from error
