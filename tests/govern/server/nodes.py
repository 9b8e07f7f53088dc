"""Nodes to ask: one that is only an application, on a chain that was played, and one that serves on loopback."""

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import httpx

import fedmeta
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server import create_app
from fedmeta.govern.server.making import Sequencing
from fedmeta.govern.server.serve import listen, serve
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import lie, rotate
from tests.govern.playing import Play, consensus_key, federation, key
from tests.waiting import PATIENCE

SEQUENCER = key("sequencer")
GENESIS = federation().digest

OTHER = "127.0.0.2"
"""Another address of this machine."""


def sign(name: str, sequence: int, body: object | None = None, genesis: bytes = GENESIS) -> bytes:
    """Return a member's transaction: by default it stakes one unit on ann."""
    return tx.sign(key(name), genesis, name, sequence, body or tx.Delegate("ann", 1))


@lru_cache(maxsize=1)
def played() -> Play:
    """Return a chain that is in the midst of everything: nothing in it was refused, and it has each kind of record."""
    play = Play()
    play.must(("hal", tx.Delegate("eve", 4_000)), ("ivy", tx.Redelegate("bob", "cat", 200)))
    play.round()
    rotate(play, "ann")
    play.must(("ann", consensus_key("ann", play.genesis)))
    play.must(("hal", tx.Undelegate("ann", 300)), ("joy", tx.Claim()))
    lie(play, "bob")
    play.round()
    spend = {"kind": "spend", "member": "joy", "amount": 100}
    play.must(("joy", tx.Propose("Pay joy", spend)))
    play.must(("bob", tx.CastVote(1, "no")))
    play.to_deliver()
    seat = play.super_nodes()[0]
    play.must((seat, tx.Seal(play.chain.round, digest(b"the header of the block with the last commitment"))))
    play.to_compute()
    play.must(play.attestation(seat, play.opening(seat)))
    return play


def replayed(path) -> EmbeddedEngine:
    """Return an engine that has made the blocks of `played` anew, from its transactions."""
    play = played()
    engine = EmbeddedEngine.create(path, play.genesis, SEQUENCER)
    for block in play.blocks:
        for raw in block.transactions:
            engine.submit(raw)
        engine.produce(block.time, empty=True)
    assert engine.app_hash == play.state.root
    return engine


PROGRAM = """
import sys
import time
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import GovernError
from fedmeta.govern.server import create_app
from fedmeta.govern.server.making import Sequencing
from fedmeta.govern.server.serve import listen, serve
from fedmeta.govern.wire.signatures import Key, digest

limits = None
BEFORE
try:
    with EmbeddedEngine.open(sys.argv[1], Key.from_seed(digest(b"sequencer"))) as engine:
        listener = listen("127.0.0.1", 0)
        app = create_app(engine, Sequencing(engine, float(sys.argv[2]), 3600.0), limits)
        serve(app, listener, started=lambda _: print(listener.getsockname()[1], flush=True))
except GovernError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("closed", flush=True)
"""


@contextmanager
def process(path, interval=0.02, before=""):
    """Run a node in a process of its own, as the command does; `before` is what it does first."""
    source = Path(fedmeta.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("BEFORE", before), str(path), str(interval)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def url(running):
    return f"http://127.0.0.1:{int(running.stdout.readline())}"


class Asked:
    """An application that is asked without a network, and makes no blocks; an error within it is raised here."""

    def __init__(self, engine: EmbeddedEngine, limits=None, peer="192.0.2.1"):
        self.app = create_app(engine, Sequencing(engine), limits)
        self.node = self.app.state.node
        self._runner = asyncio.Runner()
        self._peer = peer

    def ask(self, method: str, url: str, peer: str | None = None, **options) -> httpx.Response:
        return self._runner.run(self._ask(method, url, peer or self._peer, options))

    async def _ask(self, method, url, peer, options):
        transport = httpx.ASGITransport(self.app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            return await client.request(method, url, **options)

    def get(self, url: str, **options) -> httpx.Response:
        return self.ask("GET", url, **options)

    def json(self, url: str, **options):
        answer = self.get(url, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cbor(self, url: str, **options) -> bytes:
        answer = self.get(url, headers={"accept": "application/cbor"}, **options)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/cbor"
        return answer.content

    def no(self, url: str, **options) -> tuple[int, str]:
        """Return status and code of an answer that is no."""
        return refused(self.get(url, **options))

    def close(self) -> None:
        self.node.close()
        self._runner.close()


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer that is no, which must have the form of one."""
    said = answer.json()
    assert set(said) == {"code", "message"}
    assert answer.is_error
    assert said["message"]
    return answer.status_code, said["code"]


class Live:
    """A node that serves on loopback, from a thread; `stop` ends it and raises what ended it before."""

    def __init__(self, engine: EmbeddedEngine, limits=None, proxy="", **options):
        options = {"block_interval": 0.02, "empty_interval": 3600.0, **options}
        self.engine = engine
        self._proxy = proxy
        self.app = create_app(engine, Sequencing(engine, **options), limits)
        self.node = self.app.state.node
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._failed: list[BaseException] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> "Live":
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def _run(self):
        try:
            serve(self.app, self.listener, self._proxy, self._begun)
        except BaseException as error:  # noqa: BLE001
            self._failed.append(error)
            self._started.set()

    def _begun(self, server):
        self.server = server
        self._started.set()

    def stop(self) -> None:
        self.server.stop()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended, and raise what ended it."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._failed:
            raise self._failed[0]

    def hold(self, until) -> None:
        """Let no block be made before a condition holds, in the place of the one before."""
        maker = self.node.maker
        produce = type(maker).produce

        async def held(node, empty: bool) -> bool:
            return bool(until()) and await produce(maker, node, empty)

        maker.produce = held

    def http(self, **options) -> httpx.Client:
        # Without TLS no certificates need be read, which takes longer than most of what is asked.
        return httpx.Client(base_url=self.url, timeout=PATIENCE, verify=False, **options)

    def send(self, raw: bytes, **options) -> httpx.Response:
        with self.http() as client:
            return client.post("/transactions", content=raw, **options)


@contextmanager
def live(path, limits=None, genesis=None, engine=None, **options):
    """Serve a new ledger, or the one that is given, for as long as the block lasts."""
    made = engine or EmbeddedEngine.create(path, genesis or federation(), SEQUENCER)
    try:
        node = Live(made, limits, **options).start()
        try:
            yield node
        finally:
            node.stop()
    finally:
        made.close()
