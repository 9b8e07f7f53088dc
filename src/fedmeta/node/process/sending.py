"""What a command sends in the member's name by the account's key; the outbox has it before it leaves."""

from fedmeta.govern.client.client import Outcome
from fedmeta.govern.errors import Refused
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.govern.wire.transactions import kind_of
from fedmeta.node.errors import MemberError
from fedmeta.node.member import reaching
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.member.outbox import Outbox


def check_account(key: Key, member: Member) -> None:
    """Raise `MemberError` unless a key is that of a member's account, as the ledger has it."""
    due = member.keys[-1].public
    if key.public != due:
        raise MemberError(
            f"the key {key.public.hex()} is not that of {member.name}'s account, which is {due.hex()} on the ledger: "
            "give the account's key, not the machine's"
        )


def send(config: Config, account: Key, body: object, why: str) -> Outcome:
    """Sign a transaction by the account's key, send it, and return what it did, once it is in a block.

    Raises:
        Refused: the ledger refuses it. Nothing was done.
        Unacknowledged: it was sent, and it is not known what became of it.
        Unreachable, NodeError: nothing was sent.
        DiskError: the outbox cannot be written: nothing was sent.
    """
    outbox = Outbox(Folder(config.folder).outbox)
    for first in (True, False):
        with reaching.first(config, account) as client:
            raw = client.sign(body)
            what = kind_of(body)
            outbox.record(to=client.node, what="transaction", size=len(raw), digest=digest(raw), why=why, detail=what)
            try:
                return client.submit(raw)
            except Refused as refusal:
                # Another client of the account was faster: these bytes were not taken, so that others may be.
                if not (first and refusal.code in ("stale-sequence", "future-sequence")):
                    raise
    raise AssertionError
