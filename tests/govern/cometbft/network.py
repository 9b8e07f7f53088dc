"""Networks of nodes on 127.0.0.0/8 for tests: each an application and its CometBFT, ended at the end whatever happens.

    with Network(4) as network:
        network.start()
        network.wait(3)
        network[0].kill_engine()

What runs in a node is said by `command`: it is given the node, and returns a command line. By default it is the
counter of `serving`. A node's process starts its CometBFT by itself, as its child.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.abci import BlockParameters, ConsensusParameters, EvidenceParameters
from fedmeta.govern.engines.cometbft.binary import find_binary
from fedmeta.govern.engines.cometbft.config import Peer, Settings, StateSync
from fedmeta.govern.engines.cometbft.rpc import Rpc
from fedmeta.govern.errors import EngineError
from fedmeta.govern.wire.signatures import Key
from tests.waiting import until

ROOT = Path(__file__).parents[3]
PATIENCE = 90
"""Seconds in which what is waited for must have come, on a machine that is busy."""
PORT = 31_656
PARAMETERS = ConsensusParameters(
    BlockParameters(1 << 20), EvidenceParameters(1_000, 3_600_000_000_000, 1 << 16), ("ed25519",), 1
)
_networks = itertools.count()


@functools.cache
def program():
    """Return the binary, or why there is none; an error where FEDMETA_COMETBFT_TESTS says that there is always one."""
    try:
        return find_binary(), ""
    except EngineError as error:
        if os.environ.get("FEDMETA_COMETBFT_TESTS") == "always":
            raise
        return None, str(error)


needs_cometbft = pytest.mark.skipif(program()[0] is None, reason=program()[1])
"""Skips a test in one line where no CometBFT is found."""


class Plan(NamedTuple):
    """What a node's process is told, in `plan.json` in the node's folder."""

    program: Path
    home: homes.Home
    settings: Settings
    validators: tuple[bytes, ...]
    patience: dict


def write_plan(folder, plan):
    settings = {**vars(plan.settings), "application": str(plan.settings.application), "rpc": str(plan.settings.rpc)}
    if sync := plan.settings.state_sync:
        settings["state_sync"] = [*sync._replace(trust_hash=sync.trust_hash.hex())]
    document = [
        str(plan.program),
        str(plan.home.folder),
        settings,
        [key.hex() for key in plan.validators],
        plan.patience,
    ]
    (folder / "plan.json").write_text(json.dumps(document))


def read_plan(folder):
    program, home, settings, validators, patience = json.loads((folder / "plan.json").read_text())
    settings["application"], settings["rpc"] = Path(settings["application"]), Path(settings["rpc"])
    settings["peers"] = tuple(Peer(*one) for one in settings["peers"])
    settings["unconditional"] = tuple(settings["unconditional"])
    if sync := settings["state_sync"]:
        servers, height, digest, period = sync
        settings["state_sync"] = StateSync(tuple(servers), height, bytes.fromhex(digest), period)
    return Plan(
        Path(program), homes.Home(Path(home)), Settings(**settings), tuple(map(bytes.fromhex, validators)), patience
    )


class Place(NamedTuple):
    """Where a node runs: the address at which it listens, and what comes before its command."""

    host: str
    prefix: tuple[str, ...] = ()


class Node:
    """One node: `process` is the application's, and CometBFT is its child, or None where it runs not."""

    def __init__(self, number, folder, place, consensus, command):
        self.number = number
        self.folder = folder
        self.host = place.host
        self._prefix = place.prefix
        self.consensus = consensus
        self.key = Key.from_seed(bytes([number + 1, 2]) * 16)
        self.home = homes.Home(folder / "cometbft")
        self.process = None
        self._command = command

    @property
    def peer(self):
        return Peer(homes.node_id(self.key.public), f"{self.host}:{PORT}")

    @property
    def engine(self):
        """The process id of CometBFT, or None."""
        if self.process is None or self.process.poll() is not None:
            return None
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                for pid in map(int, (task / "children").read_text().split()):
                    if Path(f"/proc/{pid}/comm").read_text().strip() == "cometbft":
                        return pid
        return None

    def start(self):
        assert self.process is None or self.process.poll() is not None
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *self._command(self)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self):
        """End the process in order; CometBFT ends with it."""
        self._end(signal.SIGTERM)

    def kill(self):
        """Kill the application's process; CometBFT must not outlive it."""
        self._end(signal.SIGKILL)

    def _end(self, number):
        if self.process is None:
            return
        engine = self.engine
        if self.process.poll() is None:
            self.process.send_signal(number)
            # A process that was paused hears of it once it goes on.
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if engine is not None:
                until(lambda: not alive(engine), PATIENCE)

    def signal(self, number):
        """Send a signal to the application's process, such as SIGSTOP."""
        self.process.send_signal(number)

    def signal_engine(self, number):
        """Send a signal to CometBFT, once it runs; return its process id."""
        pid = until(lambda: self.engine, PATIENCE)
        os.kill(pid, number)
        return pid

    def kill_engine(self):
        """Kill CometBFT alone; return the process id that it had."""
        pid = self.signal_engine(signal.SIGKILL)
        until(lambda: not alive(pid), PATIENCE)
        return pid

    def rpc(self):
        return Rpc(self.home.rpc)

    @property
    def height(self):
        """Of the last block; -1 where CometBFT does not answer."""
        try:
            with Rpc(self.home.rpc, timeout=5) as rpc:
                return rpc.status().height
        except EngineError:
            return -1

    @property
    def log(self):
        """What both processes wrote, to be shown where a test fails."""
        parts = [self.folder / "node.log", self.home.folder / "cometbft.log"]
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-3_000:]}" for path in parts if path.exists())

    def news(self):
        """What the application's process was told of its child, as lists: a name, and what belongs to it."""
        path = self.folder / "news.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def sweep(self):
        """Kill what is left, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            engine = self.engine
            self.process.kill()
            self.process.wait()
            if engine is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(engine, signal.SIGKILL)


class Network:
    """Nodes that are each other's peers, in a folder of their own that is removed at the end."""

    def __init__(
        self,
        count,
        *,
        command=None,
        genesis=None,
        keys=None,
        validators=None,
        patience=None,
        places=None,
        **settings,
    ):
        """Make the folders of `count` nodes.

        `keys` are the consensus keys (Key), of which the counter takes as many first ones as `validators` says, or all;
        `genesis` is the text of CometBFT's genesis.json, `settings` are those of `config.Settings` for all: blocks come
        every 0.2 s and empty ones every second unless they say otherwise. `places` are those of `partitions.parted`, if
        the network is to be cut.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="comet-"))
        # Every network has addresses of its own, so that tests may run beside each other.
        net = f"127.{1 + os.getpid() % 250}.{next(_networks) % 250}"
        places = places or [Place(f"{net}.{number + 1}") for number in range(count)]
        keys = keys or [Key.from_seed(bytes([number + 1]) * 32) for number in range(count)]
        genesis = genesis or homes.genesis_json("counter", 1_700_000_000_000, PARAMETERS)
        self.nodes = []
        for number in range(count):
            folder = self.folder / str(number)
            folder.mkdir()
            node = Node(number, folder, places[number], keys[number], command or _counter)
            homes.create(node.home.folder, genesis, node.key, node.consensus)
            self.nodes.append(node)
        for node in self.nodes:
            peers = tuple(one.peer for one in self.nodes if one is not node)
            pace = {"block_interval": 200, "empty_interval": 1_000}
            own = Settings(
                name=f"node{node.number}",
                application=node.home.application,
                rpc=node.home.rpc,
                listen=f"{node.host}:{PORT}",
                peers=peers,
                **{**pace, **settings},
            )
            chosen = tuple(key.public for key in keys[:validators])
            write_plan(node.folder, Plan(program()[0], node.home, own, chosen, patience or {}))

    def __getitem__(self, number):
        return self.nodes[number]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for node in self.nodes:
                print(node.log)
        try:
            if error is None:
                for node in self.nodes:
                    node.stop()
        finally:
            for node in self.nodes:
                node.sweep()
            shutil.rmtree(self.folder, ignore_errors=True)

    def change(self, number, **settings):
        """Change settings of one node before it starts."""
        folder = self.nodes[number].folder
        plan = read_plan(folder)
        write_plan(folder, plan._replace(settings=dataclasses.replace(plan.settings, **settings)))

    def start(self, nodes=None):
        for node in self._chosen(nodes):
            node.start()

    def _chosen(self, nodes):
        return self.nodes if nodes is None else [self.nodes[number] for number in nodes]

    def wait(self, height, nodes=None, seconds=PATIENCE):
        """Wait until these nodes, or all, have a block of this height; return the height of the first of them."""
        chosen = self._chosen(nodes)
        for node in chosen:
            until(lambda node=node: node.height >= height, seconds)
        return chosen[0].height

    def wait_further(self, blocks, nodes=None, seconds=PATIENCE):
        """Wait until these nodes, or all, have so many blocks more than the first of them has now."""
        chosen = self._chosen(nodes)
        begun = max(node.height for node in chosen)
        return self.wait(begun + blocks, nodes, seconds)


def _counter(node):
    return [sys.executable, "-m", "tests.govern.cometbft.serving", str(node.folder)]


def alive(pid):
    """Return whether a process runs: one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
