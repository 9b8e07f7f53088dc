"""CometBFT's config.toml, written whole: what it is told and why, for 4 to 64 organisations.

What is not named in it has CometBFT's own default.
"""

import dataclasses
import os
import re
from pathlib import Path
from typing import NamedTuple

from fedmeta.govern.errors import EngineError

MAX_PATH = 107
"""Bytes of a socket's path, on Linux."""

_NODE_ID = re.compile("[0-9a-f]{40}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Peer(NamedTuple):
    """Another CometBFT: a validator, or a sentry before one."""

    node_id: str
    """40 hex digits, as `node_id` in `home` gives them."""
    address: str
    """Host and port, such as "north.example:26656"."""

    def __str__(self) -> str:
        return f"{self.node_id}@{self.address}"

    @staticmethod
    def read(text: object) -> "Peer":
        """Return the peer that a text spells, as CometBFT has it; raises `EngineError`."""
        node_id, at, address = text.partition("@") if type(text) is str else ("", "", "")
        if not at:
            raise EngineError(f"{text!r} is no node: it must be such as {'0123456789' * 4}@north.example:26656")
        check_node_id(node_id)
        check_address(address)
        return Peer(node_id, address)


class StateSync(NamedTuple):
    """From what a new node begins with a snapshot of its peers in the place of the first block."""

    rpc_servers: tuple[str, ...]
    """At least two, by which a light client checks the snapshot's app hash: "host:port", or "http://host:port"."""
    trust_height: int
    trust_hash: bytes
    """Of CometBFT's header of that height, 32 bytes."""
    trust_period: int
    """Seconds: less than what evidence and unbonding last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs from one node, or ledger, to the next. Times are milliseconds."""

    name: str
    application: Path
    """The socket on which the application listens."""
    rpc: Path
    """The socket on which CometBFT listens for this process."""
    listen: str = "0.0.0.0:26656"
    """Where other nodes reach it: host and port."""
    advertised: str = ""
    """The same as others see it, behind a translation of addresses."""
    peers: tuple[Peer, ...] = ()
    unconditional: tuple[str, ...] = ()
    """Ids of nodes that may always connect, beside those of the peers."""
    block_interval: int = 1_000
    """From a block to the next one, where something waits for it."""
    empty_interval: int = 5_000
    """From a block to the next one where nothing waits."""
    max_tx_bytes: int = 1 << 16
    signer: str = ""
    """Where a signer in a process of its own dials in: "tcp://10.0.0.1:26659". Then no key lies in this folder."""
    rpc_listen: str = ""
    """Where the RPC listens beside its socket, for nodes that begin by state sync: "tcp://10.0.0.1:26657"."""
    state_sync: StateSync | None = None
    metrics: str = ""
    """Where figures for Prometheus are to be had: "127.0.0.1:26660"."""


_TEMPLATE = """\
# Written by fedmeta at each start: what is changed here is lost.

# The application is a process apart, on a socket that only this user can open.
proxy_app = {application}
abci = "socket"
moniker = {name}
# In pure Go, and the one that CometBFT itself is tested with most.
db_backend = "goleveldb"
# Each step of each round is told at "info": too much to keep for months. Of the rest, errors.
log_level = "main:info,state:info,statesync:info,blocksync:info,*:error"
log_format = "plain"
# A signer in a process of its own dials in here, if one is used.
priv_validator_laddr = {signer}
# Who may connect stands below; the application is not asked.
filter_peers = false

[rpc]
# The RPC has no passwords: a socket in a folder that only this user can enter.
laddr = {rpc}
cors_allowed_origins = []
unsafe = false
pprof_laddr = ""
# This process, and light clients of nodes that begin by state sync.
max_open_connections = 64
max_subscription_clients = 8
# The largest transaction in base64, with some room.
max_body_bytes = {max_body_bytes}

[p2p]
laddr = {listen}
external_address = {advertised}
# Organisations know one another: everybody is named, so that nobody has to be found.
persistent_peers = {peers}
pex = false
seeds = ""
# Members may connect whatever the limits below say.
unconditional_peer_ids = {unconditional}
# 40 is the default: 64 organisations that all dial one would be refused.
max_num_inbound_peers = 80
# Addresses in private networks are addresses.
addr_book_strict = false
# Several organisations may stand behind one gateway. Strangers cannot fill the places of members, which have no limit.
allow_duplicate_ip = true
# What is to be sent waits so long for more. At the default, 100ms, a transaction took half as long again to its block.
flush_throttle_timeout = "10ms"
# Networks of hospitals take their time.
dial_timeout = "10s"
handshake_timeout = "20s"

[mempool]
type = "flood"
broadcast = true
# What a rule would refuse by now leaves after each block.
recheck = true
# An application that is busy has time for all of them; answers that come later are dropped.
recheck_timeout = "10s"
size = 4000
max_txs_bytes = 33554432
max_tx_bytes = {max_tx_bytes}
# Twice the size, so that one that was in a block is not taken again by gossip that comes late.
cache_size = 10000
# What is refused now (a sequence number ahead of its time) may be right later.
keep-invalid-txs-in-cache = false
wal_dir = ""

[statesync]
enable = {state_sync}
rpc_servers = {rpc_servers}
trust_height = {trust_height}
trust_hash = {trust_hash}
trust_period = {trust_period}
# In this folder: a temporary one of the system's may be small, or others'.
temp_dir = {temp_dir}

[blocksync]
version = "v0"

[consensus]
wal_file = "data/cs.wal/wal"
# So long a proposer that is away holds up a block; one that is slow needs it, and gets more in each further round.
timeout_propose = "3s"
timeout_propose_delta = "500ms"
timeout_prevote = "1s"
timeout_prevote_delta = "500ms"
timeout_precommit = "1s"
timeout_precommit_delta = "500ms"
# Late votes still come in: who is slow is not counted as absent.
timeout_commit = {block_interval}
skip_timeout_commit = false
# How often each peer is looked at, for what it lacks. The shorter, the sooner a block; with a millisecond for each peer
# the looking takes some 2 % of a core at most.
peer_gossip_sleep_duration = {gossip}
# Time passes by blocks, so there are some where nothing happens.
create_empty_blocks = true
create_empty_blocks_interval = {empty_interval}
# Other than 0, a node that crashed and starts again refuses to, because it finds its own votes.
double_sign_check_height = 0
# A block of the future is refused: a clock may be wrong by so much.
block_time_tolerance = "60s"

[storage]
# The application keeps what came of each block.
discard_abci_responses = true

[tx_index]
# Nobody searches here: the ledger has its own events and proofs.
indexer = "null"

[instrumentation]
prometheus = {prometheus}
prometheus_listen_addr = {metrics}
"""


def config_toml(settings: Settings) -> str:
    """Return the text of config.toml.

    Raises:
        EngineError: a setting is none that CometBFT could use; the message says which, and what would be right.
    """
    _check(settings)
    sync = settings.state_sync or StateSync((), 0, b"", 0)
    rpc = [f"unix://{settings.rpc}", *filter(None, [settings.rpc_listen])]
    ids = dict.fromkeys([*(peer.node_id for peer in settings.peers), *settings.unconditional])
    return _TEMPLATE.format(
        application=_quoted(f"unix://{settings.application}"),
        name=_quoted(settings.name),
        signer=_quoted(settings.signer),
        rpc=_quoted(",".join(rpc)),
        max_body_bytes=2 * settings.max_tx_bytes + 4_096,
        listen=_quoted(f"tcp://{settings.listen}"),
        advertised=_quoted(settings.advertised),
        peers=_quoted(",".join(map(str, settings.peers))),
        unconditional=_quoted(",".join(ids)),
        max_tx_bytes=settings.max_tx_bytes,
        state_sync=_truth(settings.state_sync is not None),
        rpc_servers=_quoted(",".join(sync.rpc_servers)),
        trust_height=sync.trust_height,
        trust_hash=_quoted(sync.trust_hash.hex()),
        trust_period=_quoted(f"{sync.trust_period}s"),
        temp_dir=_quoted("data"),
        block_interval=_quoted(f"{settings.block_interval}ms"),
        gossip=_quoted(f"{max(10, len(settings.peers))}ms"),
        empty_interval=_quoted(f"{settings.empty_interval}ms"),
        prometheus=_truth(bool(settings.metrics)),
        metrics=_quoted(settings.metrics),
    )


def _check(settings: Settings) -> None:
    for node_id in (*(peer.node_id for peer in settings.peers), *settings.unconditional):
        check_node_id(node_id)
    for address in (*(peer.address for peer in settings.peers), settings.listen):
        check_address(address)
    for socket in (settings.application, settings.rpc):
        check_socket(socket)
    for name in ("block_interval", "empty_interval", "max_tx_bytes"):
        if getattr(settings, name) < 1:
            raise EngineError(f"{name} is {getattr(settings, name)}: it must be at least 1")
    sync = settings.state_sync
    if sync and (len(sync.rpc_servers) < 2 or sync.trust_height < 1 or len(sync.trust_hash) != 32):
        raise EngineError(
            f"state sync needs two RPC servers or more, a height from 1 on and a hash of 32 bytes: {sync} has not"
        )
    if sync and sync.trust_period < 1:
        raise EngineError(f"the trust period of state sync is {sync.trust_period} s: it must be at least 1")


def check_node_id(text: str) -> None:
    """Raise `EngineError` for what is not the id of a node."""
    if not _NODE_ID.fullmatch(text):
        raise EngineError(f"{text!r} is not the id of a node: it must be 40 hex digits, in lower case")


def check_address(text: str) -> None:
    """Raise `EngineError` for what is not where a node listens."""
    host, _, port = text.rpartition(":")
    if not host or "," in text or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise EngineError(f"{text!r} is not where a node listens: it must be such as north.example:26656")


def check_socket(path: Path) -> None:
    """Raise `EngineError` where a path is too long for a socket."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise EngineError(
            f"the path {path} has {len(os.fsencode(path))} bytes, but that of a socket has at most {MAX_PATH}: "
            "take a folder with a shorter name"
        )


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _quoted(text: str) -> str:
    """Return a text as TOML has it; raises `EngineError` for characters that no setting has."""
    if _CONTROL.search(text):
        raise EngineError(f"{text!r} has a control character: a setting has none")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
