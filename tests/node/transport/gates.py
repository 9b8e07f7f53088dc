"""A gate on loopback, its members, and what they dial it with."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fedmeta.govern.wire.signatures import Key, digest, tagged
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.transport.certificates import Certificate, create
from fedmeta.node.transport.destinations import Destinations
from fedmeta.node.transport.dialling import Dialler, Proxy, Route
from fedmeta.node.transport.gate import Gate
from fedmeta.node.transport.pace import Limits
from fedmeta.node.transport.peer import Client, Target
from fedmeta.node.transport.server import Server
from fedmeta.node.transport.standing import Peer, Standing
from fedmeta.node.wire.chunks import Blob, leaves
from fedmeta.node.wire.offers import Offer
from fedmeta.node.wire.requests import HEADER, Request, sign_request
from fedmeta.node.wire.sealing import SealKey, seal

GENESIS = digest(b"genesis")
HEIGHT = 100
WINDOW = 5
NAMES = ("alice", "bob", "hub", "carol", "mallory")
KEYS = {name: Key.from_seed(digest(name.encode())) for name in NAMES}
CERTIFICATES = {name: create(name) for name in (*NAMES, "next")}
PEERS = {
    "alice": Peer(KEYS["alice"].public, (CERTIFICATES["alice"].fingerprint, CERTIFICATES["next"].fingerprint)),
    "bob": Peer(KEYS["bob"].public, (CERTIFICATES["bob"].fingerprint,), "seat"),
    "hub": Peer(KEYS["hub"].public, (CERTIFICATES["hub"].fingerprint,), "seat"),
    "carol": Peer(KEYS["carol"].public),
}
STANDING = Standing(GENESIS, "hub", HEIGHT, WINDOW, PEERS, {(7, "alice"): 5_000_000}, card=b"\x80")
SEATS = {name: SealKey.from_seed(digest(name.encode())) for name in ("bob", "hub")}
CONTEXT = tagged("test", GENESIS)
MESSAGE = bytes(range(256)) * 10_000  # 2.4 chunks


def offer(message: bytes = MESSAGE, member: str = "alice", number: int = 7, key: Key | None = None):
    """Return the ciphertext of a message and its signed offer."""
    sealed = seal(message, {name: one.public for name, one in SEATS.items()}, CONTEXT)
    blob = Blob.of(sealed.ciphertext)
    made = Offer(GENESIS, number, member, blob, leaves(sealed.ciphertext), sealed.wraps)
    return sealed.ciphertext, made.signed(key or KEYS[member])


@dataclass(frozen=True)
class Running:
    """A gate that listens on a port of loopback."""

    gate: Gate
    server: Server
    port: int
    store: BlobStore

    def target(self, **changes) -> Target:
        return replace_target(Target("hub", (f"127.0.0.1:{self.port}",), (CERTIFICATES["hub"].fingerprint,)), **changes)


def replace_target(target: Target, **changes) -> Target:
    return target._replace(**changes)


@contextlib.asynccontextmanager
async def running(folder: Path, limits: Limits = Limits(), quota: int = 50_000_000, **changes):  # noqa: B008
    folder.mkdir(exist_ok=True)
    with BlobStore(folder / "store", quota) as store:
        gate = Gate(store)
        gate.standing = replace(STANDING, **changes)
        server = Server(gate, CERTIFICATES["hub"], limits)
        port = await server.start("127.0.0.1", 0)
        try:
            yield Running(gate, server, port, store)
        finally:
            await server.close()
            gate.close()


def pem(folder: Path, certificate: Certificate) -> Path:
    path = folder / f"{certificate.fingerprint.hex()}.pem"
    path.touch(0o600)
    path.write_bytes(certificate.to_pem())
    return path


def client(
    folder: Path,
    name: str = "alice",
    certificate: str = "",
    approved: tuple[str, ...] = ("127.0.0.0/8:*",),
    proxy: Proxy | None = None,
    authority: Path | None = None,
    height: int = HEIGHT,
    limits: Limits = Limits(),  # noqa: B008
    known: Callable[[], bool] = lambda: True,
) -> Client:
    route = Route(
        Destinations(approved),
        pem(folder, CERTIFICATES[certificate or name]),
        proxy,
        inspected=authority is not None,
        authority=authority,
    )
    return Client(Dialler(route, limits, known), GENESIS, name, KEYS[name], lambda: height, limits)


def signed(method: str, path: str, body: bytes = b"", name: str = "alice", **changes) -> tuple[str, str]:
    """Return the header of a signed request."""
    request = Request(GENESIS, name, "hub", method, path, digest(body), HEIGHT)
    return HEADER, sign_request(KEYS[name], replace(request, **changes))


def raw(method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: hub", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def tls(folder: Path, port: int, certificate: str = "alice"):
    """Give a plain TLS connection of the standard library's to a gate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(pem(folder, CERTIFICATES[certificate]))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(folder: Path, port: int, data: bytes, certificate: str = "alice") -> bytes:
    """Return all that a gate answers to some bytes until it closes, or says in one answer that it will not."""
    async with tls(folder, port, certificate) as (reader, writer):
        writer.write(data)
        return await everything(reader)


async def everything(reader: asyncio.StreamReader) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # but no time-out: a gate that never closes is a failure
        while data := await asyncio.wait_for(reader.read(1 << 16), 20):
            parts.append(data)
    return b"".join(parts)
