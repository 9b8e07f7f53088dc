"""The ledger of a federation on one machine: one server with a sequencer's key, or one for each super node."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from fedmeta.govern.client import keyfile
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.machine.genesis import Genesis, encode_genesis
from fedmeta.govern.state.parameters import check_parameters
from fedmeta.govern.wire.commits import chain_id_of
from fedmeta.govern.wire.signatures import Key


@dataclass
class Server:
    """A ledger's server: its folder, the port of its HTTP, and its process while it runs."""

    folder: Path
    port: int
    log: str
    process: subprocess.Popen | None = None


@dataclass
class Ledgers:
    """The servers of a ledger.

    Args:
        host: The address at which they listen.
        place: The folder in which theirs are made.
        interval: Seconds from block to block.
    """

    host: str
    place: Path
    interval: float
    servers: dict[str, Server] = field(default_factory=dict)
    """By member; the one of a sequencer is nobody's, ""."""

    @property
    def first(self) -> Server:
        """The one that is asked where it does not matter which."""
        return next(iter(self.servers.values()))

    def of(self, member: str) -> Server:
        """Return the server that a member asks: its own, if it has one."""
        return self.servers.get(member) or self.first

    def address(self, member: str = "") -> str:
        """Return HOST:PORT of the server that a member asks."""
        return f"{self.host}:{self.of(member).port}"

    def command(self, server: Server) -> list[str]:
        """Return the arguments of `fedmeta` that serve it."""
        interval = str(self.interval)
        pace = ["--block-interval", interval, "--empty-interval", interval]
        return ["ledger", "serve", str(server.folder), "--host", self.host, "--port", str(server.port), *pace]

    def one(self, genesis: Genesis, sequencer: Key, port: int) -> None:
        """Make the server of a sequencer."""
        (self.place / "keys").mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.place / "genesis.cbor").write_bytes(encode_genesis(genesis))
        keyfile.save(self.place / "keys" / "sequencer.pem", sequencer)
        EmbeddedEngine.create(self.place / "ledger.db", genesis, sequencer).close()
        self.servers[""] = Server(self.place, port, "ledger")

    def several(self, genesis: Genesis, consensus: Mapping[str, Key], ports: Sequence[int]) -> None:
        """Make a server for each member, with CometBFT beside it; `consensus` has the key by which each decides blocks.

        `ports` are twice as many as members: of HTTP, and of CometBFT.
        """
        from fedmeta.govern.engines.cometbft import home as homes
        from fedmeta.govern.engines.cometbft.bridge import consensus_parameters
        from fedmeta.govern.engines.cometbft.engine import CometEngine

        parameters = check_parameters(genesis.parameters, genesis.supply, genesis.validators)
        text = homes.genesis_json(chain_id_of(genesis.digest), genesis.time, consensus_parameters(parameters))
        dialled = {name: Key.generate() for name in consensus}
        places = {name: f"{self.host}:{port}" for name, port in zip(consensus, ports[len(consensus) :], strict=True)}
        for (name, key), port in zip(consensus.items(), ports, strict=False):
            folder = self.place / name
            folder.mkdir(parents=True, mode=0o700)
            (folder / "genesis.cbor").write_bytes(encode_genesis(genesis))
            CometEngine.create(folder / "ledger.db", genesis)
            homes.create(folder / "cometbft", text, dialled[name], key)
            peers = [f"{homes.node_id(other.public)}@{places[one]}" for one, other in dialled.items() if one != name]
            told = {"member": name, "listen": places[name], "advertised": places[name], "peers": peers}
            (folder / "validator.toml").write_text(tomli_w.dumps(told))
            self.servers[name] = Server(folder, port, f"ledger-{name}")
