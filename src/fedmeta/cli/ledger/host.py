"""`validator.toml`: what the CometBFT of one host is told, beside what the ledger says."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmeta.errors import DataError, UnknownName
from fedmeta.govern.engines.cometbft.config import Peer, Settings, StateSync, check_address, check_node_id
from fedmeta.govern.engines.cometbft.home import Home
from fedmeta.govern.engines.disk import read_file, replace_file
from fedmeta.govern.errors import EngineError
from fedmeta.govern.state.parameters import LARGEST_TRANSACTION

LISTEN = "0.0.0.0:26656"
"""Where a host's CometBFT listens for others, if nothing else is said."""

_TEXT = """\
# What the CometBFT of this host is told; `fedmeta ledger serve` reads it when it starts.
member = {member}

# Where it listens for the CometBFT of the others, and how they reach that.
listen = {listen}
advertised = {advertised}

# Whom it dials: each of the others, or the sentries before it. This node's own sentries belong here as well.
peers = [{peers}]

# Ids of nodes that may always connect, besides those of the peers.
unconditional = [{unconditional}]

# Where a signer in a process of its own dials in, such as "tcp://10.0.0.1:26659", and the public key that it signs by.
# Empty: the key lies in cometbft/config.
signer = {signer}
consensus = {consensus}

# Where figures for Prometheus are to be had, such as "127.0.0.1:26660". Empty: nowhere.
metrics = {metrics}
"""
_SYNC = """
# From what it begins in the place of the first block: a block of CometBFT that one trusts, and who shows later ones.
[state_sync]
rpc_servers = [{servers}]
trust_height = {height}
trust_hash = "{digest}"
trust_period = {period}
"""
_TEXTS = ("member", "listen", "advertised", "signer", "consensus", "metrics")
_LISTS = ("peers", "unconditional")
_SYNC_FIELDS = ("rpc_servers", "trust_height", "trust_hash", "trust_period")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """The settings of one host's CometBFT; the meaning of each is in the file that `write` makes."""

    member: str = ""
    listen: str = LISTEN
    advertised: str = ""
    peers: tuple[Peer, ...] = ()
    unconditional: tuple[str, ...] = ()
    signer: str = ""
    consensus: str = ""
    metrics: str = ""
    state_sync: StateSync | None = None

    def settings(self, home: Home, block_interval: int | float, empty_interval: int | float) -> Settings:
        """Return what CometBFT is told; the intervals are in seconds."""
        return Settings(
            name=self.member or "observer",
            application=home.application,
            rpc=home.rpc,
            listen=self.listen,
            advertised=self.advertised,
            peers=self.peers,
            unconditional=self.unconditional,
            block_interval=max(1, round(block_interval * 1_000)),
            empty_interval=max(1, round(empty_interval * 1_000)),
            max_tx_bytes=LARGEST_TRANSACTION,
            signer=self.signer,
            state_sync=self.state_sync,
            metrics=self.metrics,
        )


def write(path: Path, host: HostFile) -> None:
    """Write the file, in the place of one that is there; raises `DataError`."""
    texts = {name: _quoted(getattr(host, name)) for name in _TEXTS}
    text = _TEXT.format(**texts, **{name: _listed(map(str, getattr(host, name))) for name in _LISTS})
    if sync := host.state_sync:
        text += _SYNC.format(
            servers=_listed(sync.rpc_servers),
            height=sync.trust_height,
            digest=sync.trust_hash.hex(),
            period=sync.trust_period,
        )
    replace_file(path, text.encode(), 0o644)


def read(path: Path) -> HostFile:
    """Return what a file says.

    Raises:
        DataError: it is missing, no TOML, or a value in it is none that it can have.
        UnknownName: a field that is not known.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}: it says how this host's CometBFT and the others reach each other")
    try:
        table = tomllib.loads(read_file(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    _known(path, table, (*_TEXTS, *_LISTS, "state_sync"))
    values: dict[str, Any] = {name: _value(path, table, name, str) for name in _TEXTS if name in table}
    lists = {name: _texts(path, table, name) for name in _LISTS if name in table}
    try:
        if "peers" in lists:
            values["peers"] = tuple(map(Peer.read, lists["peers"]))
        for one in lists.get("unconditional", ()):
            check_node_id(one)
        values["unconditional"] = lists.get("unconditional", ())
        for name in ("listen", "advertised"):
            if values.get(name):
                check_address(values[name])
    except EngineError as error:
        raise DataError(f"{path}: {error}") from error
    if values.get("consensus") and not re.fullmatch("[0-9a-f]{64}", values["consensus"]):
        raise DataError(f"{path}: consensus is {values['consensus'][:80]!r}: it must be 32 bytes in hex")
    if bool(values.get("signer")) != bool(values.get("consensus")):
        raise DataError(f"{path}: signer and consensus go together: give both or none")
    if "state_sync" in table:
        values["state_sync"] = _sync(path, _value(path, table, "state_sync", dict))
    return HostFile(**values)


def _sync(path: Path, table: dict[str, Any]) -> StateSync:
    _known(path, table, _SYNC_FIELDS)
    digest = _value(path, table, "trust_hash", str)
    if not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise DataError(f"{path}: trust_hash is {digest[:80]!r}: it must be 32 bytes in hex")
    height, period = (_value(path, table, name, int) for name in ("trust_height", "trust_period"))
    return StateSync(_texts(path, table, "rpc_servers"), height, bytes.fromhex(digest), period)


def _known(path: Path, table: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in table:
        if name not in names:
            raise UnknownName(f"field in {path}:", name, names)


def _value(path: Path, table: dict[str, Any], name: str, kind: type) -> Any:
    found = table.get(name)
    if type(found) is not kind:
        words = {str: "text", int: "a whole number", list: "a list", dict: "a table"}[kind]
        raise DataError(f"{path}: {name} is {found!r}: it must be {words}")
    return found


def _texts(path: Path, table: dict[str, Any], name: str) -> tuple[str, ...]:
    found = _value(path, table, name, list)
    for one in found:
        if type(one) is not str:
            raise DataError(f"{path}: {name} has {one!r}: it must be a list of texts")
    return tuple(found)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _listed(texts: Any) -> str:
    lines = "".join(f"    {_quoted(one)},\n" for one in texts)
    return f"\n{lines}" if lines else ""
