"""How a node reaches another's gate: straight or through an HTTP proxy, over TLS, and only where it may dial."""

import asyncio
import contextlib
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import h11

from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.transport.certificates import Certificate, fingerprint_of
from fedmeta.node.transport.destinations import Destinations, Place
from fedmeta.node.transport.pace import PIECE, Limits, within


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that takes CONNECT; with a user it is asked by Basic authentication (RFC 7617)."""

    place: Place
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """How this node reaches others.

    `certificate` is the file of its own certificate and key, as `Certificate.to_pem` gives them. With `inspected`, a
    proxy on the way ends TLS: then the other's fingerprint cannot be seen, the proxy's certificate must be valid for
    the name by `authority` (a file of PEM certificates) or the system's authorities, and ours is not shown. What is
    signed and sealed is so all the same.
    """

    destinations: Destinations
    certificate: Path
    proxy: Proxy | None = None
    inspected: bool = False
    authority: Path | None = None


class Dialler:
    """Opens connections along a route.

    Args:
        route: How others are reached.
        limits: How long each step may take.
        known: Whether the ledger has a TLS key of this member by now. A gate takes a certificate that the ledger has,
            or none: so none is shown where the ledger has none.

    Raises:
        ConfigError: the route's files cannot be used.
    """

    def __init__(
        self,
        route: Route,
        limits: Limits = Limits(),  # noqa: B008
        known: Callable[[], bool] = lambda: True,
    ):
        self._route, self._limits, self._known = route, limits, known
        if route.inspected:
            self._shown = self._bare = _inspected(route.authority)
        else:
            self._shown, self._bare = _pinned(route.certificate), _pinned(None)

    @contextlib.asynccontextmanager
    async def dial(
        self, place: Place, fingerprints: tuple[bytes, ...]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Give a connection to a place whose TLS key has one of these fingerprints; it is closed afterwards.

        Raises:
            Unreachable: the place is not approved, does not answer in time, or is another one.
        """
        self._route.destinations.check(place)
        reader, writer = await self._open(place)
        try:
            try:
                if self._route.proxy is not None:
                    await within(self._limits.handshake_seconds, self._connect(reader, writer, place), "no answer")
                await within(self._limits.handshake_seconds, self._tls(writer, place), "no TLS")
            except (OSError, ssl.CertificateError, h11.RemoteProtocolError) as error:
                raise Unreachable(f"{place} cannot be reached: {error}") from error
            self._check_pin(writer, place, fingerprints)
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _open(self, place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a TCP connection to the proxy, or to an address of the place that may be dialled."""
        proxy = self._route.proxy
        if proxy is None:
            hosts = await self._resolve(place)
        else:
            hosts = [proxy.place.host]
            with contextlib.suppress(socket.gaierror):  # behind a proxy, names of the world need not be known
                await self._resolve(place)
        port = place.port if proxy is None else proxy.place.port
        failure = ""
        for host in hosts:
            try:
                opening = asyncio.open_connection(host, port, limit=PIECE)
                return await within(self._limits.handshake_seconds, opening, "no answer")
            except OSError as error:
                failure = str(error)
        raise Unreachable(f"{place if proxy is None else proxy.place} cannot be reached: {failure}")

    async def _resolve(self, place: Place) -> list[str]:
        """Return the addresses of a place; they are dialled as they are, so that a second answer changes nothing.

        Raises:
            Unreachable: one of them may not be dialled, or nobody knows any.
            socket.gaierror: nobody knows any, and a proxy is asked anyway.
        """
        asking = asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        try:
            found = await within(self._limits.handshake_seconds, asking, "the name's address is not known in time")
        except OSError as error:
            if self._route.proxy is not None:
                raise socket.gaierror(str(error)) from error
            raise Unreachable(f"{place} has no address: {error}") from error
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            self._route.destinations.check_address(place, address)
        return addresses

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Place) -> None:
        """Ask the proxy for a tunnel."""
        proxy = self._route.proxy
        headers = [("host", str(place))]
        if proxy is not None and proxy.user:
            secret = b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
            headers.append(("proxy-authorization", f"Basic {secret}"))
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.header_bytes)
        writer.write(http.send(h11.Request(method="CONNECT", target=str(place), headers=headers)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        while (event := http.next_event()) is h11.NEED_DATA or isinstance(event, h11.InformationalResponse):
            http.receive_data(await reader.read(PIECE))
        if not isinstance(event, h11.Response):
            raise ConnectionResetError("the proxy closed the connection")
        if not 200 <= event.status_code < 300:
            raise ConnectionRefusedError(f"the proxy answered {event.status_code} to CONNECT")
        if http.trailing_data[0]:
            raise ConnectionAbortedError("the proxy spoke before TLS began")

    async def _tls(self, writer: asyncio.StreamWriter, place: Place) -> None:
        context = self._shown if self._known() else self._bare
        await writer.start_tls(context, server_hostname=place.host)

    def _check_pin(self, writer: asyncio.StreamWriter, place: Place, fingerprints: tuple[bytes, ...]) -> None:
        if self._route.inspected:
            return
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found = fingerprint_of(shown or b"")
        if not found or found not in fingerprints:
            wanted = " or ".join(one.hex() for one in fingerprints) or "none"
            raise Unreachable(
                f"{place} has the TLS key {found.hex()}, but the ledger says {wanted}: it is another one, or a proxy "
                "inspects TLS on the way (`inspected = true`)"
            )


def _pinned(certificate: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared instead, before anything is sent
    if certificate is not None:
        Certificate.load(certificate)  # says better than ssl what is wrong with the file
        context.load_cert_chain(certificate)
    return context


def _inspected(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(f"the proxy's authority {authority} cannot be used: {error}") from error
