"""HTTP proxies on loopback: one that carries bytes, and one that ends TLS, reads all and may change it."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fedmeta.node.transport.destinations import Place

Alter = Callable[[bytes], bytes]


@dataclass
class Seen:
    """What a proxy has seen: the heads of CONNECT, and all that went either way."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)

    @property
    def place(self) -> Place:
        return Place("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def proxy(
    gate: int,
    context: ssl.SSLContext | None = None,
    secret: bytes = b"",
    upwards: Alter = bytes,
    downwards: Alter = bytes,
):
    """Give a proxy that leads every name to the gate at a port; with a context it ends TLS."""
    seen, tasks = Seen(), set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.heads.append(head)
            if secret not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            outer = None
            if context is not None:
                await writer.start_tls(context)
                outer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                outer.check_hostname, outer.verify_mode = False, ssl.CERT_NONE
            far_reader, far = await asyncio.open_connection("127.0.0.1", gate, ssl=outer)
            try:
                up = carry(reader, far, seen.up, upwards)
                await asyncio.gather(up, carry(far_reader, writer, seen.down, downwards))
            finally:
                far.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def carry(source, sink, record: bytearray, alter: Alter) -> None:
        while data := await source.read(1 << 16):
            record.extend(data)
            sink.write(alter(data))
            await sink.drain()
        raise ConnectionResetError

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def inspecting(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a private authority, and what a proxy shows that ends TLS for a name."""
    first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "proxy's authority")])
    basic = x509.BasicConstraints(ca=True, path_length=None)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    authority = (
        x509.CertificateBuilder(who, who, root.public_key(), 1, first, last)
        .add_extension(basic, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(root, SHA256())
    )
    shown = (
        x509.CertificateBuilder(who, x509.Name([]), leaf.public_key(), 2, first, last)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(root, SHA256())
    )
    path, own = folder / "authority.pem", folder / "proxy.pem"
    path.write_bytes(authority.public_bytes(Encoding.PEM))
    secret = leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own.write_bytes(shown.public_bytes(Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    return path, context
