"""What passes between a hospital and the others is passed on unchanged, and counted as it was."""

import asyncio
import hashlib
import socket
import threading

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.consortium.processes.wire import HEAD, Counter, Flow, Requests
from tests.examples import examples


@pytest.fixture
def counter():
    with Counter() as found:
        yield found


@pytest.fixture
def place():
    """Something that listens, keeps what it hears, and answers with as many bytes and three more."""
    heard = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                data = b""
                while piece := peer.recv(1 << 16):
                    data += piece
                heard.append(data)
                peer.sendall(b"x" * (len(data) + 3))

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}", heard
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


def everything(peer):
    data = b""
    while piece := peer.recv(1 << 16):
        data += piece
    return data


def through(port, place, content):
    """Send bytes to a place through a proxy, and return what comes back."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(f"CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.recv(1)
        if b" 200 " not in head:
            return head
        peer.sendall(content)
        peer.shutdown(socket.SHUT_WR)
        return everything(peer)


def test_a_proxy_passes_on_and_counts_what_goes_and_what_comes(counter, place):
    address, heard = place
    port = counter.proxy("coast")
    for content in (b"hello", bytes(300_000)):
        assert through(port, address, content) == b"x" * (len(content) + 3)
    assert heard == [b"hello", bytes(300_000)]
    assert counter.flows == {("coast", address): Flow(connections=2, sent=300_005, received=300_011)}


def test_hospitals_are_counted_apart(counter, place):
    address, _ = place
    for name, size in (("coast", 10), ("hill", 20)):
        through(counter.proxy(name), address, bytes(size))
    assert {key: flow.sent for key, flow in counter.flows.items()} == {("coast", address): 10, ("hill", address): 20}


def test_where_nobody_answers_that_is_said_and_counted(counter):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert b" 502 " in through(counter.proxy("coast"), address, b"")
    assert counter.flows == {("coast", address): Flow(refused=1)}


def test_a_place_that_is_none_is_counted_too(counter):
    assert b" 502 " in through(counter.proxy("coast"), "nowhere", b"")
    assert counter.flows == {("coast", "nowhere"): Flow(refused=1)}


def test_a_proxy_does_nothing_but_connect(counter):
    with socket.create_connection(("127.0.0.1", counter.proxy("coast")), 10) as peer:
        peer.sendall(b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n")
        assert b" 405 " in everything(peer)
    assert not counter.flows


def test_a_relay_tells_the_bodies_apart(counter):
    heard, ended = [], threading.Event()

    async def answer(reader, writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                await writer.wait_closed()
                ended.set()
                return
            length = int(
                next((line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0)
            )
            heard.append(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(answer, "127.0.0.1", 0), loop).result(10)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=f"http://127.0.0.1:{counter.relay('coast', address)}", trust_env=False) as client:
            for body in (b"one", b"", bytes(100_000), b"one"):
                assert client.post("/transactions", content=body).text == "ok"
                assert client.get("/blocks/7").text == "ok"
        assert ended.wait(10)
        loop.call_soon_threadsafe(server.close)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    flow = counter.flows["coast", address]
    sent = [body for body in heard if body]
    assert flow.bodies == [(hashlib.sha256(body).hexdigest(), len(body)) for body in sent]
    assert (flow.requests, flow.unclear, flow.connections) == (8, "", 1)
    assert flow.received == 8 * len(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(1, 50), min_size=1, max_size=20))
@examples(100)
def test_however_requests_are_cut_into_pieces_they_are_told_apart(bodies, sizes):
    whole = b"".join(b"POST /t HTTP/1.1\r\nhost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(one), one) for one in bodies)
    flow, at, turn = Flow(), 0, 0
    requests = Requests(flow)
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        requests.feed(whole[at : at + size])
        at, turn = at + size, turn + 1
    assert flow.bodies == [(hashlib.sha256(one).hexdigest(), len(one)) for one in bodies if one]
    assert (flow.requests, flow.unclear) == (len(bodies), "")


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\x16\x03\x01\x02\x00 something else\r\n\r\n", "a request that begins with"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "a body whose length is not said"),
        (b"POST / HTTP/1.1\r\ncontent-length: -4\r\n\r\n", "a body whose length is not said"),
        (b"a" * (HEAD + 1), "a head of more than"),
    ],
)
def test_what_is_no_request_is_said_to_be_unclear(sent, why):
    flow = Flow()
    Requests(flow).feed(sent)
    assert why in flow.unclear


def test_nothing_is_left_of_connections_that_are_open_at_the_end(place):
    address, _ = place
    with Counter() as counter:
        peer = socket.create_connection(("127.0.0.1", counter.proxy("coast")), 10)
        peer.sendall(f"CONNECT {address} HTTP/1.1\r\n\r\n".encode())
        assert peer.recv(12) == b"HTTP/1.1 200"
    with peer:
        everything(peer)
    assert not counter._thread.is_alive()
