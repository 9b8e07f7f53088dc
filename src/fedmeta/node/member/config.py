"""What a member sets for its node: one file, `node.toml`, in the node's folder. `TABLE` says what each key means."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fedmeta.govern.errors import Malformed
from fedmeta.govern.machine.trust import Checkpoint
from fedmeta.govern.wire.schema import is_name
from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.member import settings
from fedmeta.node.member.settings import key
from fedmeta.node.transport.destinations import Destinations, Place
from fedmeta.node.transport.dialling import Proxy, Route

FILE = "node.toml"
"""The name of the file in the node's folder."""

ROLES = ("contributor", "super")
"""A contributor only dials out; a super node listens too."""

LONGEST_SOCKET = 107
"""Bytes of the path of a unix socket."""


@dataclass(frozen=True, slots=True)
class _Top:
    member: str = key("text", "The member's name on the ledger", example="coast")
    role: str = key("text", "A contributor only dials out; a super node listens too", "contributor", choices=ROLES)


@dataclass(frozen=True, slots=True)
class Ledger:
    """How the ledger is reached, and which it is."""

    addresses: tuple[str, ...] = key(
        "texts", "Addresses of the ledger, tried in turn", example=("https://ledger.example",)
    )
    genesis: bytes = key(
        "digest", "The digest of its genesis, which `fedmeta ledger init` has shown", example=bytes(32)
    )
    checkpoint: str = key(
        "text",
        "A late header to begin from where its validators cannot be trusted since genesis, as a member has told it",
        "",
        example="5000:" + 64 * "0",
    )


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a super node's gate listens, and where others find it."""

    address: str = key("text", "Where the gate listens, HOST:PORT; of a super node", "", example="0.0.0.0:7979")
    public: str = key(
        "text", "Where others find it, as the ledger is told", "", example="https://node.coast.example:7979"
    )


@dataclass(frozen=True, slots=True)
class Data:
    """Where the examples lie; only the trainer reads them."""

    paths: tuple[str, ...] = key(
        "texts", "Tables, .npz files or folders with the examples, or a data set's name", (), example=("visits.csv",)
    )
    clients: tuple[str, ...] = key(
        "texts", "Of a data set of several clients, those that are this member's; all if none are named", ()
    )
    client: str = key("text", "The column that says whose example it is, in a table of several clients", "")
    target: str = key("text", "The column to predict; if set, it must be the procedure's", "")
    drop_missing_target: bool = key("switch", "Leave out rows without a target, in place of refusing them", False)
    reading: Mapping[str, Any] = key(
        "table",
        "How the files are read, by the names of the options of `fedmeta data info`",
        {},
        example={"separator": ";"},
    )


@dataclass(frozen=True, slots=True)
class Keys:
    """The files of the member's keys; paths are relative to the node's folder."""

    machine: str = key("text", "The key that signs in rounds", "keys/machine.pem")
    account: str = key(
        "text", "The account's key, if it is kept on this machine: better it is not", "", example="keys/account.pem"
    )
    secret: str = key("text", "32 secret bytes from which noise and roundings are drawn", "keys/secret")


@dataclass(frozen=True, slots=True)
class Network:
    """What is between this machine and the others."""

    proxy: str = key("text", "A proxy that all connections go through", "", example="http://proxy.example:3128")
    ca: str = key("text", "A file with the certificates of a private authority, in PEM", "", example="ca.pem")
    inspected: bool = key("switch", "A proxy here opens TLS to read it, and that is known and accepted", False)
    destinations: tuple[str, ...] = key(
        "texts",
        "Peers that may be dialled, HOST:PORT; HOST may be *.example, each host below, or a network, 10.2.0.0/16",
        (),
        example=("node.north.example:7979",),
    )
    bandwidth: float = key(
        "number", "The Mbit/s that can leave here: a duty beyond them is not taken; 0 is no limit", 0.0, low=0
    )


@dataclass(frozen=True, slots=True)
class Users:
    """The users under which the processes run where the node is started by root."""

    gate: str = key("text", "The user of the gate, which may read neither data nor keys", "", example="fedmeta-gate")
    core: str = key("text", "The user of the core, which has the keys", "", example="fedmeta-core")
    trainer: str = key("text", "The user of the trainer, which reads the data", "", example="fedmeta-trainer")


@dataclass(frozen=True, slots=True)
class Storage:
    """How much room the node may take."""

    quota: int = key("size", "The most that blobs may take on the disk", 20 * 10**9, low=10**6)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures for a monitoring system; none are of data."""

    port: int = key("whole", "The port on loopback that Prometheus reads; 0 is none", 0, low=0, high=65535)


SECTIONS: dict[str, type] = {
    "": _Top,
    "ledger": Ledger,
    "listen": Listen,
    "data": Data,
    "keys": Keys,
    "network": Network,
    "users": Users,
    "storage": Storage,
    "metrics": Metrics,
}
"""The sections of the file, in its order."""

TABLE = settings.rows(SECTIONS)
"""Every key of `node.toml`."""

_ABOUT = {section: (cls.__doc__ or "").strip() for section, cls in SECTIONS.items() if section}

_TITLE = """What this node is and does. Lines that begin with # are comments: keys in them have the default that is
shown, or an example. Paths are relative to this folder. `fedmeta node check` says whether all of it holds."""


@dataclass(frozen=True, slots=True)
class Config:
    """A node's configuration, read and checked."""

    folder: Path
    member: str
    role: str
    ledger: Ledger
    listen: Listen
    data: Data
    keys: Keys
    network: Network
    users: Users
    storage: Storage
    metrics: Metrics

    @property
    def listens(self) -> bool:
        """Whether this is a super node, which has a gate."""
        return self.role == "super"

    def path(self, name: str) -> Path:
        """Return the path that a text of the file means: relative ones begin at the node's folder."""
        return self.folder / name

    @property
    def destinations(self) -> Destinations:
        """Where peers may be dialled: what a person has approved."""
        return Destinations(self.network.destinations)

    @property
    def route(self) -> Route:
        """How the node reaches others' gates; raises `ConfigError` for a proxy that is none."""
        split = urlsplit(self.network.proxy)
        proxy = None
        if self.network.proxy:
            place = Place(split.hostname or "", split.port or 80)
            proxy = Proxy(place, unquote(split.username or ""), unquote(split.password or ""))
        authority = self.path(self.network.ca) if self.network.ca else None
        return Route(self.destinations, self.folder / "keys" / "tls.pem", proxy, self.network.inspected, authority)


def share(config: Config) -> int:
    """Return the bytes that core and gate each may keep: a super node has an update opened here, and sealed there."""
    return config.storage.quota // 2 if config.listens else config.storage.quota


def read(folder: Path) -> Config:
    """Return the configuration in a node's folder; raises `ConfigError`, which names the file and the key."""
    file = folder / FILE
    return of(settings.read_toml(file), folder, str(file))


def of(content: Mapping[str, Any], folder: Path, file: str = FILE) -> Config:
    """Return the configuration that the content of a TOML file describes; raises `ConfigError`."""
    found = settings.parse(content, SECTIONS, file)
    parts = {section: SECTIONS[section](**values) for section, values in found.items() if section}
    # The process that reads it may change its directory.
    config = Config(folder=folder.absolute(), **found[""], **parts)
    try:
        _check(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return config


def told(config: Config) -> Checkpoint | None:
    """Return the header of the ledger to begin from; raises `ConfigError` for a text that is none."""
    try:
        return Checkpoint.read(config.ledger.checkpoint) if config.ledger.checkpoint else None
    except Malformed as error:
        raise ConfigError(f"ledger.checkpoint: {error}") from error


def _check(config: Config) -> None:
    if not is_name(config.member):
        raise ConfigError(
            f"member is {config.member!r:.80}: it must be a name as the ledger has them, of a-z, 0-9 and -, as coast"
        )
    socket = config.folder / "gate" / "core.sock"
    if config.listens and len(os.fsencode(socket)) > LONGEST_SOCKET:
        raise ConfigError(
            f"the folder {config.folder} has too long a path: {socket} has {len(os.fsencode(socket))} bytes, and the "
            f"system takes at most {LONGEST_SOCKET} for a socket"
        )
    for address in config.ledger.addresses:
        _check_url("ledger.addresses", address, ("http", "https"))
    if len(config.ledger.genesis) != 32:
        raise ConfigError("ledger.genesis is empty: it must be 64 hexadecimal digits")
    told(config)
    if config.network.proxy:
        _check_url("network.proxy", config.network.proxy, ("http",))
    try:
        Destinations(config.network.destinations)
    except ConfigError as error:
        raise ConfigError(f"network.destinations: {error}, such as node.north.example:7979") from error
    if config.listens:
        if not config.listen.address or not config.listen.public:
            raise ConfigError("role is 'super': listen.address and listen.public must be set, for others to find it")
        host, _, port = config.listen.address.rpartition(":")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            host = "" if host != "localhost" else host
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"listen.address is {config.listen.address!r:.80}: it must be such as 0.0.0.0:7979")
        try:
            Place.parse(config.listen.public)
        except Unreachable as error:
            raise ConfigError(f"listen.public: {error}, such as https://node.coast.example:7979") from error
    elif config.listen.address:
        raise ConfigError(
            f"listen.address is {config.listen.address!r:.80}, but a contributor never listens: leave it out"
        )
    users = {name: getattr(config.users, name) for name in ("gate", "core", "trainer")}
    given = [user for user in users.values() if user]
    due = [user for name, user in users.items() if config.listens or name != "gate"]
    if given and (not all(due) or len(set(given)) < len(given)):
        said = ", ".join(f"{name}={user!r}" for name, user in users.items())
        raise ConfigError(f"users has {said}: each process needs a user of its own, or none has one")


def _check_url(name: str, text: str, schemes: tuple[str, ...]) -> None:
    try:
        split = urlsplit(text)
        fine = split.scheme in schemes and bool(split.hostname) and (split.port is None or split.port > 0)
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"{name} has {text!r:.80}: it must be an address such as {schemes[-1]}://host.example:7878")


def template(values: Mapping[str, Any]) -> str:
    """Return a commented `node.toml`; values by name, as `ledger.addresses`, are set, all others are comments."""
    return settings.template(_TITLE, SECTIONS, values, _ABOUT)


def page() -> str:
    """Return the table of all keys, in Markdown."""
    return settings.page(SECTIONS)
