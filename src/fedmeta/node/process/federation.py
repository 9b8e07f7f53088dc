"""A federation of real processes on one machine: a ledger and its members' nodes, for demonstrations and tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.errors import NodeError
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import MemberError
from fedmeta.node.member import folder as folders
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.folder import Folder
from fedmeta.node.process.ledgers import Ledgers, Server
from fedmeta.node.process.moves import model_name
from fedmeta.node.wire.chunks import Blob
from fedmeta.runs.procedure import Procedure

START = 60.0
"""Seconds that a process has to come up."""


@dataclass
class Hosted:
    """A member of the federation: its folder, and the process that runs it while it does."""

    name: str
    folder: Path
    port: int
    """Where its gate listens; 0 for one that holds no seat."""
    process: subprocess.Popen | None = None


@dataclass
class LocalFederation:
    """A ledger and nodes under one folder; a context, which ends all of them.

    Args:
        folder: Where everything lies; it must not be there yet.
        procedure: What is trained.
        state: The first state's bytes.
        data: The names and clients of each member's data, by member, as `[data]` of node.toml has them.
        seats: Which members stand for super node.
        interval: Seconds from block to block.
        parameters: Of the ledger, where they differ from those for a demonstration.
        host: The address at which ledger and gates listen.
        approved: Whether all have approved the procedure from the start.
        engine: Who orders blocks: "embedded", a sequencer; or "cometbft", the super nodes, each member with a server.
    """

    folder: Path
    procedure: Procedure
    state: bytes
    data: Mapping[str, Mapping[str, Any]]
    seats: Sequence[str]
    interval: float = 0.25
    parameters: Mapping[str, int] = field(default_factory=dict)
    host: str = "127.0.0.1"
    approved: bool = True
    engine: str = "embedded"
    hosts: dict[str, Hosted] = field(default_factory=dict)
    genesis: Genesis = field(init=False)
    ledgers: Ledgers = field(init=False)
    consensus: dict[str, Key] = field(default_factory=dict)
    """The key by which each member decides blocks, where super nodes do."""
    _over: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledgers = Ledgers(self.host, self.folder / "ledger", self.interval)

    def __enter__(self) -> "LocalFederation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def validators(self) -> bool:
        """Whether the super nodes decide the blocks."""
        return self.engine == "cometbft"

    @property
    def ledger_port(self) -> int:
        """Where the ledger's server answers that all ask who have none of their own."""
        return self.ledgers.first.port

    @property
    def address(self) -> str:
        """Where the ledger answers that all ask who have no server of their own."""
        return f"http://{self.ledgers.address()}"

    @property
    def recipe(self) -> bytes:
        """The procedure's digest, as the ledger has it."""
        return bytes.fromhex(self.procedure.digest)

    def make(self, model: bytes) -> None:
        """Make the ledger and every node's folder; `model` is the first state's digest."""
        self.folder.mkdir(mode=0o700)
        keys = {name: Key.generate() for name in (*self.data, "sequencer")}
        self.consensus = {name: Key.generate() for name in self.data} if self.validators else {}
        self.genesis = self.first(keys, model)
        place = self.folder / "ledger"
        (place / "keys").mkdir(parents=True, mode=0o700)
        for name in self.data:
            keyfile.save(place / "keys" / f"{name}.pem", keys[name])
        if self.validators:
            self.ledgers.several(self.genesis, self.consensus, [free_port() for _ in range(2 * len(self.data))])
        else:
            self.ledgers.one(self.genesis, keys["sequencer"], free_port())
        for name in self.data:
            self._make_host(name)
        everywhere = tuple(f"{self.host}:{one.port}" for one in self.hosts.values() if one.port)
        for one in self.hosts.values():
            text = (one.folder / "node.toml").read_text()
            shown = ", ".join(f'"{place}"' for place in everywhere)
            text = text.replace("[network]", f"[network]\ndestinations = [{shown}]", 1)
            (one.folder / "node.toml").write_text(text)

    def _make_host(self, name: str) -> None:
        port = free_port() if name in self.seats else 0
        made = folders.make(self.folder / name, self.values(name, port))
        folders.keep_procedure(made, self.recipe, self.procedure.to_bytes())
        if self.approved:
            Approvals(made.approvals).approve(self.recipe, "a demonstration", None)
        if port:
            with BlobStore(made.core / "blobs", 10**9) as store:
                store.write(model_name(Blob.of(self.state).id), self.state)
        self.hosts[name] = Hosted(name, made.path, port)

    def values(self, name: str, port: int) -> dict[str, Any]:
        """Return what a member's node.toml sets, by the names of its keys; `port` is its gate's, 0 without one."""
        values: dict[str, Any] = {
            "member": name,
            "role": "super" if port else "contributor",
            "ledger.addresses": (f"http://{self.ledgers.address(name)}",),
            "ledger.genesis": self.genesis.digest,
            **{f"data.{key}": value for key, value in self.data[name].items()},
        }
        if port:
            values |= {"listen.address": f"{self.host}:{port}", "listen.public": f"https://{self.host}:{port}"}
        return values

    def first(self, keys: Mapping[str, Key], model: bytes) -> Genesis:
        """Return the genesis: all are members and contribute from the start, and seats go by the first stakes."""
        window = 2 * len(self.seats) + 10
        phases = ("commit", "deliver", "compute", "reveal")
        values = {
            "super_nodes": len(self.seats),
            "standbys": 0,
            "max_seat_changes": len(self.seats),
            "cohort_size": len(self.data),
            "term_length": 10_000,
            "unbonding_blocks": 100_000,
            "round_pool": 10_000,
            "term_budget": 10**8,
            # Nodes of a demonstration come up in their own time.
            "duty_misses": 20,
            "commit_blocks": max(window, round(150 / self.interval)),
            # A phase ends with its last part; the window is for those that are late.
            **{f"{phase}_blocks": max(window, round(30 / self.interval)) for phase in phases[1:]},
            **{f"{phase}_seconds": 0 for phase in phases},
            **self.parameters,
        }
        return Genesis(
            chain_id="local-federation",
            time=time.time_ns() // 10**6,
            sequencer=b"" if self.validators else keys["sequencer"].public,
            treasury=10**8,
            parameters=values,
            members=tuple(
                FirstMember(name, f"{name}-hospital", keys[name].public, 10_000, name.title(), "") for name in self.data
            ),
            candidates=tuple(self.candidate(name, 100_000, 50_000 + 100 * at) for at, name in enumerate(self.seats)),
            recipes=(FirstRecipe(self.recipe, "demonstration", model, 1),),
            registrations=tuple(FirstRegistration(name, self.recipe) for name in self.data),
        )

    def candidate(self, name: str, commission: int, stake: int) -> FirstCandidate:
        """Return a candidate of the genesis, with the key by which it decides blocks if it does."""
        key = self.consensus.get(name)
        return FirstCandidate(name, commission, stake, b"" if key is None else key.public)

    # Processes.

    def start_ledger(self) -> None:
        """Serve the ledger, and wait until it answers."""
        for one in self.ledgers.servers.values():
            self._serve(one)
        for name in self.ledgers.servers:
            self._until(lambda name=name: self._answers(name), "the ledger answers")

    def serve_again(self, name: str) -> None:
        """Start a member's own server of the ledger once more, if it has one that was killed, and wait for it."""
        own = self.ledgers.servers.get(name)
        if own is not None and own.process is None:
            self._serve(own)
            self._until(lambda: self._answers(name), f"the ledger of {name} answers")

    def _serve(self, server: Server) -> None:
        server.process = self._spawn(server.log, *self.ledgers.command(server))

    def _answers(self, member: str) -> bool:
        try:
            with Client(f"http://{self.ledgers.address(member)}", timeout=20) as client:
                return bool(client.status())
        except NodeError:
            return False

    def introduce(self) -> None:
        """Tell the ledger each node's machine key, address and TLS fingerprint, by its account."""
        for one in self.hosts.values():
            made = Folder(one.folder)
            machine = keyfile.load(made.keys / "machine.pem")
            _, tls = folders.public_keys(made)
            with self.client(one.name) as client:
                proof = machine.sign(tx.possession(self.genesis.digest, one.name, machine.public))
                address = f"https://{self.host}:{one.port}" if one.port else ""
                client.send(tx.SetMachineKey(machine.public, proof), wait=False)
                client.send(tx.SetProfile(one.name.title(), address, tls))

    def approve(self, name: str) -> None:
        """Approve the procedure as a person of the member does: its node sees to it within seconds."""
        Approvals(Folder(self.hosts[name].folder).approvals).approve(self.recipe, "a demonstration", None)

    def start(self, name: str) -> None:
        """Start a member's node."""
        host = self.hosts[name]
        host.process = self._spawn(name, "node", "start", "--folder", str(host.folder))

    def kill(self, name: str) -> None:
        """Kill all processes of a member's node at once, with SIGKILL, and those of its own ledger's server."""
        for one in (self.hosts[name], self.ledgers.servers.get(name)):
            if one is not None and one.process is not None:
                end(one.process, signal.SIGKILL)
                one.process = None

    def stop_ledger(self, how: int = signal.SIGKILL) -> None:
        """End the processes of the ledger."""
        for one in self.ledgers.servers.values():
            if one.process is not None:
                end(one.process, how)
                one.process = None

    def close(self) -> None:
        """End everything."""
        for one in self.hosts.values():
            if one.process is not None:
                one.process.terminate()
        for one in self.hosts.values():
            if one.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(30)
                end(one.process, signal.SIGKILL)
                one.process = None
        self.stop_ledger(signal.SIGTERM)

    def program(self, name: str) -> list[str]:
        """Return what starts a member's node, or the ledger where the name is "ledger"; its arguments follow."""
        return [sys.executable, "-c", PROGRAM]

    def _spawn(self, name: str, *command: str) -> subprocess.Popen:
        flags = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [*self.program(name), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": flags},
            )

    # Questions.

    def client(self, member: str = "") -> Client:
        """Return a client of the ledger; one that signs as a member, by its account's key."""
        key = keyfile.load(self.folder / "ledger" / "keys" / f"{member}.pem") if member else None
        return Client(f"http://{self.ledgers.address()}", key, member, timeout=20)

    def rounds(self) -> list[dict[str, Any]]:
        """Return the ledger's rounds, oldest first; those that are over are asked for once."""
        with self.client() as client:
            latest, found = client.status()["round"], {}
            for number in range(1, latest + 1):
                if number not in self._over:
                    found = client.query("round", number=number)
                    if found["settled"]:
                        self._over[number] = found
        over = [self._over[number] for number in sorted(self._over)]
        return over if latest in self._over or not latest else [*over, found]

    def finals(self) -> list[dict[str, Any]]:
        """Return the rounds that are final."""
        return [one for one in self.rounds() if one["phase"] == "final"]

    def model(self, digest: bytes) -> bytes:
        """Return a model from any store, once all processes have ended; raises `MemberError` where none has it."""
        for one in self.hosts.values():
            with BlobStore(Folder(one.folder).core / "blobs", 1 << 62) as store:
                if store.complete(model_name(digest)):
                    return store.read(model_name(digest))
        raise MemberError(f"no node has model {digest.hex()[:12]}")

    def follow(self) -> Iterator[Any]:
        """Yield the ledger's events from now on."""
        with self.client() as client:
            yield from client.events()

    def wait_for_finals(self, count: int, seconds: float) -> list[dict[str, Any]]:
        """Return the final rounds once there are so many; raises `MemberError` where that takes too long."""
        self._until(lambda: len(self.finals()) >= count, f"{count} rounds are final", seconds)
        return self.finals()

    def _until(self, holds: Any, what: str, seconds: float = START) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise MemberError(f"{what}: not within {seconds:g} s; see the logs in {self.folder}")
            time.sleep(0.5)


_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


PROGRAM = """
import ctypes, runpy, signal
# Nothing of a demonstration goes on where it is ended in whatever way: PR_SET_PDEATHSIG.
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
runpy.run_module("fedmeta", run_name="__main__", alter_sys=True)
"""
"""Runs the command line in a process that ends with the thread that has started it."""


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end(process: subprocess.Popen, how: int) -> None:
    """Send a signal to a process and all that it has started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
