"""The ledger for a command: its blocks are executed here up to the latest, as the core does, and nothing is sent."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fedmeta._files import write_atomically
from fedmeta.errors import RunError
from fedmeta.govern.client.client import Client
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import NodeError, ProofError, Refused
from fedmeta.govern.state.records import Member
from fedmeta.node.errors import MemberError
from fedmeta.node.member.config import Config, told
from fedmeta.node.member.folder import Folder, owned_as_folder
from fedmeta.node.process.ledger import SAVED, STATE

T = TypeVar("T")

FOLLOWED = "followed.state"
"""Where a command keeps the ledger's state while no core has run: the core's file would say that one has."""

PATIENCE = 60.0
"""Seconds without a block after which the ledger counts as unreachable; a server bounds how fast it is asked."""


def catch_up(config: Config, client: Client, follower: Follower | None = None) -> Follower:
    """Return a follower that has executed every block that the ledger has now.

    It goes on from the state that the node's core has kept, where there is one, and takes nobody's word for it: the
    state is held against its signed header.

    What took long is kept for the next time: where the core keeps it, too, or beside it where no core has run.

    Raises:
        ProofError: the ledger shows what cannot be.
        NodeError: it cannot be reached, or has no blocks yet.
    """
    follower = follower or _kept(config, client)
    before = follower.height
    height = _patiently(client.status)["height"]
    while follower.height < height:
        block = _patiently(lambda: client.encoded_block(follower.height + 1))
        if block is None:
            break
        follower.apply(block, time.time_ns() // 1_000_000)
    if not follower.height:
        raise NodeError(f"{client.node} has no blocks yet: try again in a while")
    if follower.height >= before + SAVED:
        # Whoever may not write there executes the blocks once more.
        with contextlib.suppress(RunError, OSError):
            file = _file(config)
            write_atomically(file, follower.save())
            owned_as_folder(file)
    return follower


def proven_member(config: Config, client: Client) -> Member:
    """Return what the ledger has of this node's member, by a proof; raises as `check_member`, and `ProofError`."""
    try:
        return check_member(client.proof("member", config.member), config)
    except Refused as refusal:
        if refusal.code != "not-found":
            raise
        return check_member(None, config)


def check_member(found: Member | None, config: Config) -> Member:
    """Return what the ledger has of this node's member; raises `MemberError` where it is none, or none any more."""
    if found is None or not found.active:
        raise MemberError(f"{config.member} is no member of the ledger: correct `member`, or ask to be admitted")
    return found


def _file(config: Config) -> Path:
    """Return where what was executed is kept: the core's own file, once there is a core's journal beside it."""
    core = Folder(config.folder).core
    return core / (STATE if (core / "journal").exists() else FOLLOWED)


def _kept(config: Config, client: Client) -> Follower:
    genesis = client.genesis()
    try:
        return Follower.load(genesis, _file(config).read_bytes(), told(config))
    except (OSError, ProofError):
        # It is executed anew: what was kept is only a shorter way.
        return Follower(genesis, told(config))


def _patiently(ask: Callable[[], T]) -> T:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except NodeError:
            if time.monotonic() > end:
                raise
        time.sleep(0.25)
