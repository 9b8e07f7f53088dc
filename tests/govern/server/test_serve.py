"""A node that is told to stop stops, and what it has acknowledged is on the disk."""

import asyncio
import contextlib
import importlib
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fedmeta.govern import serve as face
from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.client.client import Client
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import KeyFileError, NodeError, StoreError, StoreLocked
from fedmeta.govern.server import Limits, create_app
from fedmeta.govern.server.making import Sequencing
from fedmeta.govern.server.serve import listen, serve
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import federation, key
from tests.govern.server.nodes import OTHER, SEQUENCER, Live, live, process, sign, url
from tests.waiting import PATIENCE, until

module = importlib.import_module("fedmeta.govern.server.serve")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.db"
    EmbeddedEngine.create(path, federation(), SEQUENCER).close()
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_every_acknowledged_transaction_is_on_the_disk(path, number):
    acknowledged, over = [], threading.Event()

    def send(name, address):
        with Client(address, key(name), name) as client:
            while not over.is_set():
                try:
                    acknowledged.append(client.send(tx.Delegate("ann", 1)).digest)
                except NodeError:
                    return

    names = ("hal", "ivy", "joy")
    with process(path) as running, ThreadPoolExecutor(3) as pool:
        address = url(running)
        senders = [pool.submit(send, name, address) for name in names]
        until(lambda: len(acknowledged) > 20)
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE)
        over.set()
        [one.result(PATIENCE) for one in senders]
    assert (running.returncode, out, err) == (0, "closed\n", "")
    assert verify_ledger(path).height > 0
    with Store.read(path) as store:
        assert [one for one in acknowledged if store.place(one) is None] == []
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        bonded = {name: engine.query("balance", {"name": name})["bonded"] for name in names}
        staked = sum(one["value"] for held in bonded.values() for one in held)
        # A last one may have been done whose answer was lost.
        assert 0 <= staked - 1_000 - 1_000 - 700 - len(acknowledged) <= len(names)


def test_who_waits_for_a_block_is_answered_before_it_ends_however_long_blocks_take(path):
    with process(path, interval=3600) as running, ThreadPoolExecutor(1) as pool:
        address = url(running)
        with Client(address, key("hal"), "hal") as client:
            client.send(tx.Delegate("ann", 1), wait=False)
            answer = pool.submit(httpx.post, f"{address}/transactions", content=sign("hal", 1), timeout=PATIENCE)
            until(lambda: client.status()["pending"] == 2)
            running.send_signal(signal.SIGTERM)
            # Whoever still waits when the grace is half over is told so, by 202.
            assert answer.result(PATIENCE).status_code == 200
        out, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode, out, err) == (0, "closed\n", "")
    with Store.read(path) as store:
        assert store.place(digest(sign("hal", 1))) == (1, 1, "")


def test_a_second_interrupt_does_not_lose_what_was_acknowledged(path):
    with process(path) as running, Client(url(running), key("hal"), "hal") as client:
        done = client.send(tx.Delegate("ann", 1)).digest
        events = client.events(0)
        next(events)
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
        events.close()
    assert "Traceback" not in err
    assert verify_ledger(path).height > 0
    with Store.read(path) as store:
        assert store.place(done)


def test_a_second_node_on_one_ledger_is_refused_with_one_line_and_the_first_goes_on(path):
    with process(path) as first:
        address = url(first)
        with process(path) as second:
            out, err = second.communicate(timeout=PATIENCE)
        assert (second.returncode, out) == (1, "")
        assert err.startswith("StoreLocked: ")
        assert err.count("\n") == 1
        assert str(path) in err
        with pytest.raises(StoreLocked):
            EmbeddedEngine.open(path, SEQUENCER)
        with Client(address, key("hal"), "hal") as client:
            client.send(tx.Delegate("ann", 1))


def test_a_port_that_is_taken_is_said_in_one_line():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no such host", 0), ("192.0.2.1", 0), ("::zz", 0)])
def test_where_nobody_can_listen_that_is_said(host, port):
    with pytest.raises(NodeError, match=f"cannot listen on {host} port {port}: "):
        listen(host, port)


def test_a_node_that_can_make_no_blocks_ends_with_the_reason(path):
    match = "without the sequencer's key"
    with (
        EmbeddedEngine.open(path) as engine,
        listen("127.0.0.1", 0) as listener,
        pytest.raises(KeyFileError, match=match),
    ):
        serve(create_app(engine, Sequencing(engine, block_interval=0.01)), listener)


def test_a_fault_in_the_making_of_blocks_ends_the_node_rather_than_let_all_wait(path, monkeypatch):
    class Broken(Exception):
        pass

    engine = EmbeddedEngine.open(path, SEQUENCER)
    monkeypatch.setattr(engine, "produce", lambda *_: (_ for _ in ()).throw(Broken))
    node = Live(engine, block_interval=0.3).start()
    answer = node.send(sign("hal", 0))
    assert (answer.status_code, answer.json()) == (202, {"digest": digest(sign("hal", 0)).hex()})
    with pytest.raises(Broken):
        node.wait()
    engine.close()


def test_a_node_that_cannot_write_ends_all_the_same_and_says_that_it_was_not_done(path, monkeypatch, capfd):
    monkeypatch.setattr(module, "GRACE", 2)
    engine = EmbeddedEngine.open(path, SEQUENCER)
    monkeypatch.setattr(engine, "produce", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
    with live(path, engine=engine) as node, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(node.send, sign("hal", 0))
        until(lambda: node.node.waiting)
        node.server.stop()
        assert answer.result(PATIENCE).status_code == 202
    assert "Traceback" not in capfd.readouterr().err
    with Store.read(path) as store:
        assert store.tip == 0


def test_a_node_can_be_stopped_from_another_thread_and_started_again(path):
    for at in range(2):
        with live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node:
            assert node.send(sign("hal", at)).json()["height"] == at + 1


# Connections


@contextlib.contextmanager
def connected(node, data=b"", address="127.0.0.1"):
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE, source_address=(address, 0)) as wire:
        wire.sendall(data)
        yield wire


def until_ended(wire):
    with contextlib.suppress(ConnectionError):
        while wire.recv(65_536):
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /status HTTP/1.1\r\nhost: node\r\nx: ",
        b"GET /status HTTP/1.1\r\nhost: node\r\n\r\nGET /sta",
        b"POST /transactions HTTP/1.1\r\nhost: node\r\ncontent-length: 100000\r\n\r\nx",
    ],
)
def test_a_connection_on_which_no_request_comes_is_closed(path, monkeypatch, data):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node, connected(node, data) as wire:
        until_ended(wire)
        until(lambda: not node.server.server_state.connections)


def test_a_body_without_end_is_not_read_without_end(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    head = b"POST /transactions HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n"
    with (
        live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node,
        connected(node, head) as wire,
        pytest.raises(ConnectionError),
    ):
        until(lambda: wire.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n"))


class Patience:
    """In place of the clock the test says when a node has waited long enough for what its connections ask."""

    def __init__(self, later):
        self._later = later
        self._due = []

    def call_later(self, loop, delay, callback, *arguments, **options):
        name = getattr(callback, "__name__", "")
        if name != "_close":
            # The server's own care for idle connections would hide the node's.
            after = 3600 if name == "timeout_keep_alive_handler" else delay
            return self._later(loop, after, callback, *arguments, **options)
        handle = self._later(loop, 3600, callback)
        self._due.append((loop, handle, callback))
        return handle

    def end(self):
        """Let it end for all connections on which nothing is being answered; return how many there were."""
        due, self._due = [one for one in self._due if not one[1].cancelled()], []
        for loop, _, callback in due:
            loop.call_soon_threadsafe(callback)
        return len(due)


@pytest.fixture
def patience(monkeypatch):
    patience = Patience(asyncio.BaseEventLoop.call_later)
    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", lambda *a, **options: patience.call_later(*a, **options))
    return patience


def test_a_connection_on_which_an_answer_goes_on_stays(path, patience):
    with (
        live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node,
        node.http() as client,
        client.stream("GET", "/events?from_height=0") as stream,
    ):
        found = stream.iter_lines()
        next(found)
        assert patience.end() == 0
        node.send(sign("hal", 0))
        assert next(line for line in found if line == "id: 1")


def ask(wire):
    """Ask on a connection, which is to stay, and read the whole answer."""
    wire.sendall(b"GET /status HTTP/1.1\r\nhost: node\r\n\r\n")
    said = wire.recv(65_536)
    while not said.endswith(b"}"):
        said += wire.recv(65_536)
    assert said.startswith(b"HTTP/1.1 200")


def test_a_connection_on_which_requests_come_stays_until_none_does(path, patience):
    with live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node, connected(node) as wire:
        for _ in range(8):
            ask(wire)
        until(patience.end)
        until_ended(wire)


def test_connections_without_a_request_keep_nobody_else_away_and_are_closed(path, patience):
    limits = Limits(peer_connections=20)
    with (
        live(path, limits, engine=EmbeddedEngine.open(path, SEQUENCER)) as node,
        contextlib.ExitStack() as held,
        connected(node) as before,
    ):
        ask(before)
        flood = [held.enter_context(connected(node)) for _ in range(300)]
        for wire in flood[19:]:
            until_ended(wire)
        assert node.server.places.total() == 20
        for _ in range(3):
            ask(before)
        with connected(node, address=OTHER) as other:
            ask(other)
            assert patience.end() >= 19
        for wire in flood[:19]:
            until_ended(wire)
        with connected(node) as after:
            ask(after)


FEW_FILES = """
import resource
from fedmeta.govern.server import Limits

resource.setrlimit(resource.RLIMIT_NOFILE, (450, 450))
limits = Limits(peer_connections=10**6)
"""


def test_connections_leave_the_files_to_a_node_that_it_needs_for_its_blocks(path):
    with process(path, before=FEW_FILES) as running, contextlib.ExitStack() as held:
        address = url(running)
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            assert client.get("/status").status_code == 200
            end = ("127.0.0.1", client.base_url.port)
            flood = [held.enter_context(socket.create_connection(end, PATIENCE)) for _ in range(600)]
            for wire in flood[65:]:
                until_ended(wire)
            assert client.post("/transactions", content=sign("hal", 0)).json()["height"] == 1
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode, out, err) == (0, "closed\n", "")


def test_a_proxy_may_have_as_many_connections_as_it_wants(path):
    with EmbeddedEngine.open(path, SEQUENCER) as engine, contextlib.ExitStack() as held:
        node = Live(engine, Limits(connections=2, peer_connections=1), proxy="127.0.0.1").start()
        for wire in [held.enter_context(connected(node)) for _ in range(5)]:
            ask(wire)
        with connected(node, address=OTHER) as other, connected(node, address=OTHER) as more:
            ask(other)
            until_ended(more)
        node.stop()


def test_what_is_still_under_way_when_the_grace_is_over_ends_without_a_trace(path, monkeypatch, caplog):
    monkeypatch.setattr(module, "GRACE", 0.2)
    engine, begun, over = EmbeddedEngine.open(path, SEQUENCER), [], threading.Event()
    monkeypatch.setattr(engine, "query", lambda *asked: begun.append(asked) or over.wait(PATIENCE))
    question = b"GET /query/supply HTTP/1.1\r\nhost: node\r\n\r\n"
    with live(path, engine=engine) as node, contextlib.ExitStack() as held:
        wires = [held.enter_context(connected(node, question)) for _ in range(9)]
        until(lambda: len(begun) == 2 and len(node.server.server_state.tasks) == 9)
        node.server.stop()
        for wire in wires:
            until_ended(wire)
        over.set()
    # Those that waited for one of the two threads are not begun any more.
    assert len(begun) == 2
    said = ["Cancel 9 running task(s), timeout graceful shutdown exceeded"]
    assert [one.getMessage() for one in caplog.records if one.name.startswith("uvicorn")] == said


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system does not know it")
def test_a_connection_whose_other_end_takes_nothing_is_dropped_by_the_system():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == module.STALL * 1000


@pytest.mark.parametrize(("proxy", "due"), [("127.0.0.1", 200), ("", 429), ("192.0.2.9", 429)])
@pytest.mark.usefixtures("still")
def test_only_the_proxy_that_is_trusted_can_say_for_whom_it_asks(path, proxy, due):
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        app = create_app(engine, Sequencing(engine), Limits(peer_rate=1, peer_burst=2))
        listener, servers = listen("127.0.0.1", 0), []
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(app, listener, proxy, servers.append))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            answers = [client.get("/status", headers={"x-forwarded-for": f"192.0.2.{at}"}) for at in range(4)]
        servers[0].stop()
        thread.join(PATIENCE)
    assert answers[-1].status_code == due


def test_the_function_and_not_the_module_is_the_public_name():
    assert face is serve
