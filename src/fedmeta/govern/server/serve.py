"""How a node is run: one process, one engine, until it is told to stop."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedmeta.govern.errors import NodeError
from fedmeta.govern.server.node import Node
from fedmeta.govern.server.stream import ABORT

GRACE = 10
"""Seconds that open requests have when the node stops."""

PATIENCE = 10
"""Seconds in which the next request must have come, or the connection is closed within as many again."""

STALL = 60
"""Seconds after which a connection is dropped whose other end takes nothing, where the system can do that."""


class _Connection(H11Protocol):
    """A connection that is closed when no request comes, and that an application can drop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**(scope.get("extensions") or {}), ABORT: transport.abort}
            await inner(scope, receive, send)  # type: ignore[arg-type]

        self.app = app  # type: ignore[assignment]
        self.loop.call_later(PATIENCE, self._look, None)

    def _look(self, before: object) -> None:
        """Close the connection if it waits for the same request as at the last look."""
        if self.transport.is_closing():
            return
        # A body that goes on after the answer is of no use either.
        waits = self.conn.their_state is h11.IDLE or (self.cycle is not None and self.cycle.response_complete)
        if waits and before is (self.cycle or self):
            self.transport.close()
        else:
            self.loop.call_later(PATIENCE, self._look, (self.cycle or self) if waits else None)


class Server(uvicorn.Server):
    """Serves a node's application; `stop` ends it from any thread."""

    def __init__(self, app: FastAPI, proxy: str = ""):
        """Trust what the proxy at that address says of whom it speaks for; nobody's word if it is empty."""
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
                limit_concurrency=2_000,
                h11_max_incomplete_event_size=16_384,
                http=_Connection,
                loop="asyncio",
                ws="none",
                lifespan="on",
            )
        )
        self._node: Node = app.state.node

    def stop(self) -> None:
        """Stop taking requests, end the event streams, and finish what is under way."""
        self.should_exit = True

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


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is one that the system chooses. Raises `NodeError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not 0 <= port < 1 << 16:
            raise OSError("a port is from 0 to 65535")
        listener = socket.create_server((host, port), family=family, backlog=512)
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
