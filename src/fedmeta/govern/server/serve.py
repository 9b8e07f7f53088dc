"""How a node is run: one process, one engine, until it is told to stop."""

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedmeta.govern.errors import NodeError
from fedmeta.govern.server.limits import Places, peer_key
from fedmeta.govern.server.node import Node
from fedmeta.govern.server.stream import ABORT, disconnected

GRACE = 10
"""Seconds that open requests have when the node stops."""

PATIENCE = 10
"""Seconds after which a connection is closed on which nothing is asked."""

STALL = 60
"""Seconds after which a connection is dropped whose other end takes nothing, where the system can do that."""

BACKLOG = 512
"""Connections that may wait to be accepted."""

TURN = 64
"""Connections that the event loop accepts before it looks at one of them."""

SPARE = 6 * TURN
"""Files that are kept for the database, and for connections that are refused: after four turns such a one is closed."""


class _Connection(H11Protocol):
    """A connection that takes one of its address's places, is closed when nothing is asked, and can be dropped.

    The library has no bound for an address, and lets a connection be on which no request was ever completed.
    """

    def __init__(self, places: Places, proxy: str, **options: Any):
        super().__init__(**options)
        self._places = places
        self._proxy = proxy
        self._peer: str | None = None
        self._answering = 0
        self._idle: asyncio.TimerHandle | None = None
        self.app = partial(self._answer, self.app)  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        # All the world comes from the proxy: it counts for itself.
        if host != self._proxy:
            peer = peer_key(host)
            if self._places.take(peer):
                transport.abort()
                return
            self._peer = peer
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._peer is not None:
            self._places.leave(self._peer)
        if self._idle is not None:
            self._idle.cancel()

    async def _answer(self, inner: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._answering += 1
        scope["extensions"] = {**(scope.get("extensions") or {}), ABORT: self.transport.abort}
        try:
            await inner(scope, receive, send)
        except asyncio.CancelledError:
            # The node ends, and the grace is over. The library would show a trace for each request.
            self.transport.abort()
            await disconnected(receive)
        finally:
            self._answering -= 1
            # A body that goes on after its answer is of no use either.
            if not (self._answering or self.transport.is_closing()):
                self._wait()

    def _wait(self) -> None:
        self._idle = self.loop.call_later(PATIENCE, self._close)

    def _close(self) -> None:
        self.transport.close()


class Server(uvicorn.Server):
    """Serves a node's application; `stop` ends it from any thread."""

    def __init__(self, app: FastAPI, proxy: str = ""):
        """Trust what the proxy at that address says of whom it speaks for; nobody's word if it is empty."""
        self._node: Node = app.state.node
        limits = self._node.limits
        self.places = Places("connections", min(limits.connections, _room()), limits.peer_connections)
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxy),
                forwarded_allow_ips=proxy or None,
                timeout_graceful_shutdown=GRACE,
                timeout_keep_alive=PATIENCE,
                backlog=TURN,
                h11_max_incomplete_event_size=16_384,
                http=partial(_Connection, self.places, proxy),  # type: ignore[arg-type]
                loop="asyncio",
                ws="none",
                lifespan="on",
            )
        )

    def stop(self) -> None:
        """Stop taking requests, end the event streams, and finish what is under way."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and let more connections wait than the event loop accepts in a turn: it has one number for both."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams and the explanations first: they would not end by themselves, or not in time."""
        self._node.wind_up()
        asyncio.get_running_loop().call_later(GRACE // 2, self._node.abandon)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let an interrupt or a request to terminate end the server, and nothing else: that is how it is stopped.

        A second one drops the connections that are still open, and nothing that was acknowledged.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            if self.should_exit:
                for connection in list(self.server_state.connections):
                    connection.transport.abort()
            self.stop()

        before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _room() -> int:
    """Return how many connections the system has room for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(1, files - SPARE)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is one that the system chooses. Raises `NodeError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not 0 <= port < 1 << 16:
            raise OSError("a port is from 0 to 65535")
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The library adds the address once more.
        said = (error.strerror or str(error)).partition(" (while ")[0]
        raise NodeError(f"cannot listen on {host} port {port}: {said}") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL * 1000)
    return listener


def serve(
    app: FastAPI, listener: socket.socket, proxy: str = "", started: Callable[[Server], None] | None = None
) -> None:
    """Serve a node's application on a socket until it is told to stop, or can make no more blocks.

    `started` is called with the server before it begins.
    """
    server = Server(app, proxy)
    faults: list[BaseException] = []

    def ended(making: asyncio.Task[None]) -> None:
        error = None if making.cancelled() else making.exception()
        if error is not None:
            faults.append(error)
            server.stop()

    app.state.ended = ended
    if started is not None:
        started(server)
    server.run(sockets=[listener])
    if faults:
        raise faults[0]
