"""Explanations take long: nobody is kept waiting by those of others, and none is made for who has left."""

import contextlib
import signal
import socket
import threading

import httpx
import pytest

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server import Limits, explaining
from tests.govern.playing import TIME, federation
from tests.govern.server.nodes import OTHER, SEQUENCER, live, process, refused, url
from tests.waiting import PATIENCE, until


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.db"
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        for at in range(30):
            engine.produce(TIME + at, empty=True)
    return path


@pytest.fixture
def node(path):
    limits = Limits(explanations=3, peer_explanations=2)
    with live(path, limits, engine=EmbeddedEngine.open(path, SEQUENCER)) as made:
        yield made


class Slow:
    """Explanations that go on until they are let go on; `begun` says for whom one was begun."""

    def __init__(self, inner):
        self._inner = inner
        self.begun = []
        self.free = threading.Event()

    def __call__(self, engine, member, term, over):
        self.begun.append(member)
        while not self.free.wait(0.01):
            if over():
                raise explaining._GivenUp
        return self._inner(engine, member, term, over)


@pytest.fixture
def slow(monkeypatch):
    slow = Slow(explaining.explained)
    monkeypatch.setattr(explaining, "explained", slow)
    yield slow
    slow.free.set()


@contextlib.contextmanager
def asking(node, member, address="127.0.0.1"):
    """Ask for an explanation, and do not wait for it."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE, source_address=(address, 0)) as wire:
        before = node.node.explanations.total()
        wire.sendall(f"GET /explain/{member} HTTP/1.1\r\nhost: node\r\n\r\n".encode())
        until(lambda: node.node.explanations.total() == before + 1)
        yield wire


def test_so_many_wait_for_an_address_and_in_all_and_other_questions_do_not(node, slow):
    elsewhere = httpx.HTTPTransport(local_address=OTHER)
    with (
        node.http() as here,
        node.http(transport=elsewhere) as there,
        asking(node, "ann") as first,
        asking(node, "bob") as second,
    ):
        answer = here.get("/explain/cat")
        assert refused(answer) == (503, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        with asking(node, "hal", OTHER) as third:
            # One more of that address, but there is no room in all.
            assert refused(there.get("/explain/ivy")) == (503, "busy")
            assert [client.get("/query/members").status_code for client in (here, there)] == [200, 200]
            assert slow.begun == ["ann"]
            slow.free.set()
            assert [wire.recv(12) for wire in (first, second, third)] == [b"HTTP/1.1 200"] * 3
        assert slow.begun == ["ann", "bob", "hal"]
        assert dict(node.node.explanations.taken) == {}
        assert here.get("/explain/cat").status_code == 200


def test_whoever_leaves_takes_its_explanation_along(node, slow):
    with asking(node, "ann") as first, asking(node, "bob") as second:
        until(lambda: slow.begun == ["ann"])
        second.close()
        until(lambda: node.node.explanations.total() == 1)
        with asking(node, "cat") as third:
            first.close()
            until(lambda: slow.begun == ["ann", "cat"])
            slow.free.set()
            assert third.recv(12) == b"HTTP/1.1 200"
    assert node.node.explanations.total() == 0


def test_it_is_given_up_from_block_to_block(path):
    asked = []
    with EmbeddedEngine.open(path) as engine, pytest.raises(explaining._GivenUp):
        explaining.explained(engine, "ann", None, lambda: asked.append(None) or len(asked) == 5)
    assert len(asked) == 5


SLOW = """
from fedmeta.govern.server import Limits

def events(engine, first=0, last=None, inner=EmbeddedEngine.events):
    for one in inner(engine, first, last):
        time.sleep(0.5)
        yield one

EmbeddedEngine.events = events
limits = Limits(**dict.fromkeys(["explanations", "peer_explanations"], 10**6))
"""
"""Makes an explanation take long, and lets everybody wait for one."""


def test_a_node_of_which_many_want_explanations_ends_in_order(path):
    with process(path, before=SLOW) as running, contextlib.ExitStack() as wires:
        address = url(running)
        port = httpx.URL(address).port
        asked = b"GET /explain/ann HTTP/1.1\r\nhost: node\r\n\r\n"
        open_ = [wires.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)) for _ in range(80)]
        for wire in open_:
            wire.sendall(asked)
        assert httpx.get(f"{address}/status", timeout=PATIENCE).status_code == 200
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode, out, err) == (0, "closed\n", "")
