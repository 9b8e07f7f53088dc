"""Networks on loopback for `cometbft.py`: of `kvstore`, in CometBFT's process or behind a socket, or of ledgers.

What CometBFT is told is the same for all of them: `fedmeta.govern.engines.cometbft.config`.
"""

import base64
import calendar
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.binary import find_binary
from fedmeta.govern.engines.cometbft.bridge import consensus_parameters
from fedmeta.govern.engines.cometbft.config import Peer, Settings, config_toml
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.machine.application import seats_of
from fedmeta.govern.machine.genesis import Genesis, start
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.wire.commits import chain_id_of
from fedmeta.govern.wire.signatures import Key, digest

ROOT = Path(__file__).resolve().parents[1]
KVSTORE = ROOT / "build" / "bin" / "abci-cli"
"""CometBFT's own example, behind a socket: `make abci-cli`."""
IN_PROCESS, SOCKET, LEDGER = "kvstore in process", "kvstore behind a socket", "ledger"
PATIENCE = 90
"""Seconds in which what is waited for must have come."""
PORT, RPC_PORT = 26656, 26657
IDLE = 5
"""Seconds after which a connection is made anew: CometBFT closes one on which nothing is asked for ten."""
TICKS = os.sysconf("SC_CLK_TCK")
_networks = itertools.count()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str):
        super().__init__("cometbft", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Call:
    """A connection to the RPC of a CometBFT."""

    def __init__(self, path: Path):
        self._http = _Connection(str(path))
        self._http.connect()
        self._used = time.monotonic()

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __call__(self, method: str, **parameters: str) -> Any:
        """Return the result of a method; raises `RuntimeError` with what CometBFT says."""
        answer = json.loads(self.post(encoded_call(method, 0, **parameters)))
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def post(self, body: bytes) -> bytes:
        """Return the answer to a body."""
        if time.monotonic() - self._used > IDLE:
            self._http.close()
        self._used = time.monotonic()
        self._http.request("POST", "/", body, {"Content-Type": "application/json"})
        return self._http.getresponse().read()

    def applied(self) -> int:
        """Return the height of the last block that the application has executed and kept."""
        height, _, _ = self("consensus_state")["round_state"]["height/round/step"].partition("/")
        return int(height) - 1

    def blocks(self, low: int, high: int) -> list[tuple[int, float, int]]:
        """Return height, time in seconds and number of transactions of these blocks, in order."""
        found = []
        for first in range(low, high + 1, 20):
            last = min(first + 19, high)
            metas = self("blockchain", minHeight=str(first), maxHeight=str(last))["block_metas"]
            found += [
                (int(one["header"]["height"]), seconds_of(one["header"]["time"]), int(one["num_txs"])) for one in metas
            ]
        return sorted(found)


def encoded_call(method: str, number: int, **parameters: str) -> bytes:
    """Return a call of the RPC as JSON."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}).encode()


def seconds_of(text: str) -> float:
    """Return a time of CometBFT, such as 2026-01-02T03:04:05.123456789Z, as seconds since 1970."""
    whole, _, part = text.rstrip("Z").partition(".")
    parsed = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(parsed) + float(f"0.{part or 0}")


class Ledger(NamedTuple):
    """A ledger that is made once, and copied to the nodes of each network."""

    genesis: Genesis
    path: Path
    keys: tuple[Key, ...]
    """By which the seats decide blocks, in order."""
    text: bytes
    """The genesis that CometBFT is given."""


def consensus_key(name: str) -> Key:
    """Return the key by which a candidate decides blocks, always the same."""
    return Key.from_seed(digest(f"{name} decides".encode()))


def make_ledger(genesis: Genesis, path: Path) -> Ledger:
    """Make the file of a ledger that has the candidates' consensus keys."""
    candidates = tuple(
        dataclasses.replace(one, consensus=consensus_key(one.member).public) for one in genesis.candidates
    )
    genesis = dataclasses.replace(genesis, sequencer=b"", time=1_700_000_000_000, candidates=candidates)
    CometEngine.create(path, genesis)
    state = start(genesis).state
    parameters = consensus_parameters(state.need(Parameters))
    text = homes.genesis_json(chain_id_of(genesis.digest), genesis.time, parameters)
    return Ledger(genesis, path, tuple(consensus_key(one.candidate) for one in seats_of(state)), text)


def changed(settings: Settings, **values: Any) -> Settings:
    """Return settings that differ in some."""
    return dataclasses.replace(settings, **values)


def until(found: Callable[[], Any], what: str, seconds: float = PATIENCE, step: float = 0.05) -> Any:
    """Return what is found once it is there; raises `RuntimeError` where nothing comes."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
            if value := found():
                return value
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(step)


def cpu_of(pid: int) -> float:
    """Return the seconds of a core that a process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def child_of(pid: int) -> int | None:
    """Return the CometBFT that a process has started, or None."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for one in map(int, (task / "children").read_text().split()):
                if Path(f"/proc/{one}/comm").read_text().strip() == "cometbft":
                    return one
    return None


class Node:
    """One node: its application, if it has a process of its own, and CometBFT."""

    def __init__(self, system: str, number: int, folder: Path, host: str):
        self.system = system
        self.number = number
        self.folder = folder
        self.host = host
        self.key = Key.from_seed(digest(f"node {number}".encode()))
        self.home = homes.Home(folder / "comet")
        self.ledger = folder / "ledger.db"
        self.settings: Settings
        self.plan: dict[str, Any] = {}
        self.seen = 0
        """A height, for whoever counts blocks."""
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def peer(self) -> Peer:
        """How others reach it."""
        return Peer(homes.node_id(self.key.public), f"{self.host}:{PORT}")

    @property
    def application(self) -> int | None:
        """The application's process; None where it is CometBFT's."""
        return None if self.system == IN_PROCESS else self._processes[0].pid

    @property
    def engine(self) -> int:
        """CometBFT's process."""
        if self.system != LEDGER:
            return self._processes[-1].pid
        return until(lambda: child_of(self._processes[0].pid), "CometBFT is started")

    def start(self, program: Path) -> None:
        """Start the processes."""
        if self.system == LEDGER:
            written = {**self.plan, "program": str(program), "settings": dataclasses.asdict(self.settings)}
            plan = self.folder / "plan.json"
            plan.write_text(json.dumps(written, default=lambda one: one.hex() if type(one) is bytes else str(one)))
            self._processes = [self._spawn(sys.executable, str(ROOT / "benchmarks" / "comet_node.py"), str(plan))]
            return
        self._processes = []
        self.home.config.write_text(config_toml(self.settings))
        with_application = ["--proxy_app", "persistent_kvstore"]
        if self.system == SOCKET:
            address = f"unix://{self.home.application}"
            self._processes.append(self._spawn(str(KVSTORE), "kvstore", "--log_level", "error", "--address", address))
            with_application = []
            until(self.home.application.exists, "kvstore listens")
        self._processes.append(self._spawn(str(program), "start", "--home", str(self.home.folder), *with_application))

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with (self.folder / "node.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the processes, and wait until they have: CometBFT first, which must not miss its application."""
        engine = child_of(self._processes[0].pid) if self._processes and self.system == LEDGER else None
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if engine is not None:
            until(lambda: not Path(f"/proc/{engine}").exists(), "CometBFT ends", 15)
        self._processes = []

    def call(self) -> Call:
        """Return a connection to its RPC."""
        return Call(self.home.rpc)

    def applied(self) -> int:
        """Return the height of the last block that it has executed; raises `OSError` where it does not answer."""
        with self.call() as call:
            return call.applied()

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of a core that the application and CometBFT have used."""
        application = self.application
        return 0.0 if application is None else cpu_of(application), cpu_of(self.engine)

    @property
    def log(self) -> str:
        """The end of what its processes wrote."""
        parts = [self.folder / "node.log", self.home.folder / "cometbft.log"]
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-2_000:]}" for path in parts if path.exists())


@contextlib.contextmanager
def network(
    system: str,
    validators: int,
    ledger: Ledger | None = None,
    *,
    joining: int = 0,
    snapshot_every: int = 0,
    profile: str = "",
    patience: float = PATIENCE,
    **settings: Any,
) -> Iterator[list[Node]]:
    """Start so many validators, and leave nothing of them behind; `joining` nodes more are made, but not started."""
    program = find_binary()
    folder = Path(tempfile.mkdtemp(prefix="comet-"))
    net = f"127.{251 + next(_networks) % 4}.{os.getpid() % 250}"
    nodes: list[Node] = []
    try:
        for number in range(validators + joining):
            place = folder / str(number)
            place.mkdir()
            nodes.append(Node(system, number, place, f"{net}.{number + 1}"))
        _furnish(nodes, validators, ledger)
        for node in nodes:
            node.settings = Settings(
                name=f"node{node.number}",
                application=node.home.application,
                rpc=node.home.rpc,
                listen=f"{node.host}:{PORT}",
                peers=tuple(one.peer for one in nodes if one is not node),
                rpc_listen=f"tcp://{node.host}:{RPC_PORT}" if joining else "",
                **settings,
            )
            path = f"{profile}.{node.number}" if profile else ""
            node.plan = {
                "ledger": str(node.ledger),
                "home": str(node.home.folder),
                "snapshot_every": snapshot_every,
                "profile": path,
            }
        for node in nodes[:validators]:
            node.start(program)
        for node in nodes[:validators]:
            until(lambda node=node: node.applied() >= 2, f"node {node.number} of {system} has two blocks", patience)
        yield nodes
    except BaseException:
        for node in nodes:
            print(node.log, file=sys.stderr)
        raise
    finally:
        for node in nodes:
            node.end()
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(nodes: Sequence[Node], validators: int, ledger: Ledger | None) -> None:
    """Make CometBFT's folders, and the ledgers."""
    if ledger is None:
        keys = tuple(consensus_key(f"validator {number}") for number in range(len(nodes)))
        text = _kvstore_genesis(keys[:validators])
    else:
        text = ledger.text
        keys = (*ledger.keys, *(consensus_key(f"no validator {node.number}") for node in nodes[validators:]))
    for node, key in zip(nodes, keys, strict=True):
        homes.create(node.home.folder, text, node.key, key)
        if ledger is not None:
            shutil.copyfile(ledger.path, node.ledger)


def _kvstore_genesis(keys: Sequence[Key]) -> bytes:
    """Return a genesis of CometBFT that names the validators itself, with the block sizes of a ledger."""
    parameters = consensus_parameters(Parameters())._replace(app_version=1)
    document = json.loads(homes.genesis_json("kvstore", 1_700_000_000_000, parameters))
    document["validators"] = [
        {
            "address": homes.address_of(key.public).hex().upper(),
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(key.public).decode()},
            "power": "10",
            "name": "",
        }
        for key in keys
    ]
    return json.dumps(document).encode()
