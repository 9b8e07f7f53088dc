import asyncio
import socket
from base64 import b64encode
from contextlib import AsyncExitStack

import pytest

from fedmeta.node.errors import BadChunk, ConfigError, RequestRefused, SealError, Unreachable
from fedmeta.node.transport.destinations import Place
from fedmeta.node.transport.dialling import Proxy
from fedmeta.node.transport.peer import pull, pull_model, push
from fedmeta.node.transport.standing import Peer
from fedmeta.node.wire.chunks import CHUNK, Blob
from tests.node.transport.gates import KEYS, MESSAGE, PEERS, SEATS, client, exchange, offer, running
from tests.node.transport.proxies import inspecting, proxy

SEALED, OFFER = offer()
GATE = "gate.invalid:8443"
BARE = {name: Peer(KEYS[name].public, (), peer.role) for name, peer in PEERS.items()}
MODEL = MESSAGE[::-1]
MODEL_BLOB = Blob.of(MODEL)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Names of the world are not known, as behind many proxies."""
    ask = socket.getaddrinfo

    def answer(host, *args, **kwargs):
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


async def read(number: int) -> bytes:
    return SEALED[number * CHUNK : (number + 1) * CHUNK]


class Inspected:
    """A gate behind a proxy that ends TLS, and clients that are told so."""

    def __init__(self, folder, **alter):
        self.folder, self.alter = folder, alter

    async def __aenter__(self):
        self.stack = AsyncExitStack()
        self.gate = await self.stack.enter_async_context(running(self.folder, peers=BARE))
        self.authority, context = inspecting(self.folder, "gate.invalid")
        self.seen = await self.stack.enter_async_context(proxy(self.gate.port, context, **self.alter))
        self.target = self.gate.target(addresses=(GATE,))
        return self

    async def __aexit__(self, *_):
        await self.stack.aclose()

    def client(self, name: str = "alice"):
        return client(self.folder, name, approved=(GATE,), proxy=Proxy(self.seen.place), authority=self.authority)


def test_a_proxy_that_carries_bytes_sees_nothing_and_the_pin_holds(tmp_path):
    async def run():
        async with running(tmp_path) as gate, proxy(gate.port, secret=b64encode(b"ann:secret")) as seen:
            way = Proxy(seen.place, "ann", "secret")
            alice, target = client(tmp_path, approved=(GATE,), proxy=way), gate.target(addresses=(GATE,))
            await push(alice, target, OFFER, read)
            assert gate.store.complete("update/7/alice")
            assert b"alice" not in seen.up
            assert SEALED[:100] not in seen.up
            assert seen.heads[0].startswith(b"CONNECT gate.invalid:8443 HTTP/1.1\r\nhost: gate.invalid:8443\r\n")

    asyncio.run(run())


def test_a_proxy_that_refuses_is_said(tmp_path):
    async def run():
        async with running(tmp_path) as gate, proxy(gate.port, secret=b64encode(b"ann:secret")) as seen:
            alice = client(tmp_path, approved=(GATE,), proxy=Proxy(seen.place, "ann", "wrong"))
            async with alice.session(gate.target(addresses=(GATE,))):
                pass

    with pytest.raises(Unreachable, match="the proxy answered 407 to CONNECT"):
        asyncio.run(run())
    assert "wrong" not in repr(Proxy(Place("proxy.invalid", 3128), "ann", "wrong"))


def test_a_proxy_is_not_asked_for_what_is_not_approved(tmp_path):
    async def run(address: str, approved: str):
        async with running(tmp_path) as gate, proxy(gate.port) as seen:
            alice = client(tmp_path, approved=(approved,), proxy=Proxy(seen.place))
            with pytest.raises(Unreachable) as caught:
                async with alice.session(gate.target(addresses=(address,))):
                    pass
            assert seen.heads == []
            return str(caught.value)

    assert "not approved here" in asyncio.run(run("other.invalid:8443", GATE))
    assert "not approved here" in asyncio.run(run("10.0.0.1:8443", "*.invalid:*"))
    assert "not a public address" in asyncio.run(run("localhost:8443", "localhost:8443"))


def test_a_proxy_that_inspects_is_found_out_unless_it_is_expected(tmp_path):
    async def run():
        async with Inspected(tmp_path) as way:
            alice = client(tmp_path, approved=(GATE,), proxy=Proxy(way.seen.place))
            try:
                async with alice.session(way.target):
                    pass
            finally:
                assert way.seen.up == b""

    with pytest.raises(Unreachable, match=r"a proxy inspects TLS on the way \(`inspected = true`\)"):
        asyncio.run(run())


def test_an_inspecting_proxy_needs_its_authority(tmp_path):
    async def run():
        async with Inspected(tmp_path) as way:
            (tmp_path / "other").mkdir()
            way.authority, _ = inspecting(tmp_path / "other", "gate.invalid")
            async with way.client().session(way.target):
                pass

    with pytest.raises(Unreachable, match="certificate verify failed"):
        asyncio.run(run())
    with pytest.raises(ConfigError, match=r"the proxy's authority .*none\.pem cannot be used"):
        client(tmp_path, authority=tmp_path / "none.pem")


def test_an_inspecting_proxy_reads_only_what_is_sealed(tmp_path):
    async def run():
        async with Inspected(tmp_path) as way:
            way.gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
            await push(way.client(), way.target, OFFER, read)
            got: dict[int, bytes] = {}

            async def write(number: int, data: bytes) -> None:
                got[number] = data

            async def begin(blob: Blob, _leaves: bytes):
                return range(blob.chunks)

            assert await pull(way.client("bob"), way.target, OFFER, range(3), write) == []
            assert b"".join(got[number] for number in range(3)) == SEALED
            await pull_model(way.client(), way.target, MODEL_BLOB.id, begin, write)
            assert b"".join(got[number] for number in range(3)) == MODEL
            return bytes(way.seen.up), bytes(way.seen.down)

    up, down = asyncio.run(run())
    assert SEALED[5000:9000] in up  # it does read
    assert SEALED[5000:9000] in down
    assert not any(MESSAGE[at : at + 16] in up + down for at in range(0, 512, 16))
    assert not any(MODEL[at : at + 16] in up + down for at in range(0, 512, 16))
    assert not any(key.seed in up + down for key in SEATS.values())


def altered(folder, act, **alter):
    async def run():
        async with Inspected(folder, **alter) as way, way.client().session(way.target) as session:
            return await act(session, way)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"/card", b"/models/" + b"0" * 64, "bad-signature"),
        (b"GET", b"PUT", "bad-signature"),
        (b"user-agent: fedmeta", b"content-encoding: gzip", "encoded"),
        (b"fedmeta-request", b"fedmeta-xequest", "unsigned"),
    ],
)
def test_a_request_that_a_proxy_alters_is_refused(tmp_path, old, new, code):
    with pytest.raises(RequestRefused) as caught:
        altered(tmp_path, lambda session, _: session.card(), upwards=lambda data: data.replace(old, new))
    assert caught.value.code == code


def test_a_chunk_that_a_proxy_alters_is_refused(tmp_path):
    async def act(session, way):
        await session.offer(OFFER.to_bytes())
        with pytest.raises(RequestRefused) as caught:
            await session.put(7, "alice", 0, await read(0))
        assert way.gate.store.missing("update/7/alice") == [0, 1, 2]
        return caught.value.code

    change = SEALED[5000:5010]
    assert altered(tmp_path, act, upwards=lambda data: data.replace(change, bytes(10))) == "bad-body"


def test_an_answer_that_a_proxy_alters_is_not_taken(tmp_path):
    def flip(data: bytes) -> bytes:
        return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:] if len(data) > 5000 else data

    async def chunks(session, way):
        way.gate.store.write("update/7/alice", SEALED)
        way.gate.store.attach("update/7/alice", "offer", OFFER.to_bytes())

        async def write(_number: int, _data: bytes) -> None:
            raise AssertionError("a chunk was taken")

        with pytest.raises(BadChunk):
            await pull(way.client(), way.target, OFFER, [0], write)

    async def model(session, way):
        way.gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
        with pytest.raises((SealError, Unreachable)):
            await session.model_chunk(MODEL_BLOB.id, 0)

    altered(tmp_path, chunks, downwards=flip)
    (tmp_path / "2").mkdir()
    altered(tmp_path / "2", model, downwards=flip)


def test_what_a_proxy_recorded_opens_nothing_elsewhere_and_changes_nothing_here(tmp_path):
    async def run():
        async with Inspected(tmp_path) as way, running(tmp_path / "rim", name="rim", peers=BARE) as rim:
            async with way.client().session(way.target) as session:
                await session.offer(OFFER.to_bytes())
                recorded = bytes(way.seen.up).replace(b"user-agent: fedmeta", b"connection: close")
            before = way.gate.store.used
            here = await exchange(tmp_path, way.gate.port, recorded, "")
            there = await exchange(tmp_path, rim.port, recorded, "")
            assert way.gate.store.used == before
            assert rim.store.names() == []
            return here, there

    here, there = asyncio.run(run())
    assert b"HTTP/1.1 200" in here
    assert b"HTTP/1.1 401" in there


def test_a_proxy_that_speaks_first_or_not_http_is_not_believed(tmp_path):
    async def run(answer: bytes):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with running(tmp_path) as gate, server:
            way = Proxy(Place("127.0.0.1", server.sockets[0].getsockname()[1]))
            async with client(tmp_path, approved=(GATE,), proxy=way).session(gate.target(addresses=(GATE,))):
                pass

    for answer, said in (
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "spoke before TLS"),
        (b"SSH-2.0\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000, "cannot be reached"),
    ):
        with pytest.raises(Unreachable, match=said):
            asyncio.run(run(answer))
