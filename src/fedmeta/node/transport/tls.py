"""TLS of a gate: it asks a client for its certificate, without a chain and without dates, and shows it.

OpenSSL asks for a certificate and leaves the decision to a callback, which the standard library's `ssl` does not offer:
there a certificate must lead to an anchor that is known whole beforehand, and the ledger knows only fingerprints.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from OpenSSL import SSL, crypto

from fedmeta.node.transport.certificates import Certificate, fingerprint
from fedmeta.node.transport.pace import PIECE

T = TypeVar("T")

_OPTIONS = SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION


def server_context(certificate: Certificate, known: Callable[[bytes], bool]) -> SSL.Context:
    """Return the context of a gate: TLS 1.2 or newer, no session taken up again, so that each handshake shows a key.

    `known` says of a client's fingerprint, 32 bytes, whether it is a member's; another one ends the handshake. A client
    may also show no certificate.
    """

    def decide(_connection: SSL.Connection, shown: crypto.X509, _error: int, depth: int, _ok: int) -> bool:
        return depth > 0 or known(_fingerprint(shown.to_cryptography()))

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.key)
    context.set_verify(SSL.VERIFY_PEER, decide)
    return context


def _fingerprint(shown: x509.Certificate) -> bytes:
    try:
        return fingerprint(shown)
    except (ValueError, TypeError):
        return b""  # a key of a kind that nobody knows is nobody's


class Stream:
    """TLS over a connection of asyncio: a server's side, with OpenSSL's bytes carried by hand."""

    def __init__(self, context: SSL.Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        """Begin nothing yet: call `handshake`."""
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._reader, self._writer = reader, writer

    async def handshake(self) -> bytes:
        """Return the fingerprint that the client proved to have the key of, or empty bytes; raises `OSError`."""
        await self._carry(self._tls.do_handshake)
        shown = self._tls.get_peer_certificate(as_cryptography=True)
        return _fingerprint(shown) if shown is not None else b""

    async def read(self) -> bytes:
        """Return some bytes, none at the end; raises `OSError`."""
        try:
            return await self._carry(lambda: self._tls.recv(PIECE))
        except SSL.ZeroReturnError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send some bytes, a piece at most; raises `OSError`."""
        view = memoryview(data)
        while view:
            view = view[await self._carry(lambda rest=view: self._tls.send(rest)) :]

    async def close(self) -> None:
        """Say that no more comes, as far as the peer still listens."""
        try:
            self._tls.shutdown()
            await self._flush()
        except (SSL.Error, OSError):
            return

    async def _carry(self, act: Callable[[], T]) -> T:
        while True:
            try:
                result = act()
            except SSL.WantReadError:
                await self._flush()
                data = await self._reader.read(PIECE)
                if not data:
                    raise ConnectionResetError("the peer closed the connection within TLS") from None
                self._tls.bio_write(data)
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                await self._flush()  # the alert, so that the peer learns why
                raise ConnectionAbortedError(f"TLS failed: {error}") from error
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        while True:
            try:
                self._writer.write(self._tls.bio_read(PIECE))
            except SSL.WantReadError:
                break
        await self._writer.drain()
