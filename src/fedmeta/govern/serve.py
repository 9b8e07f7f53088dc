"""How a node is run: one process, one engine, until it is told to stop."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fedmeta.govern.errors import NodeError
from fedmeta.govern.http.node import Node

GRACE = 10
"""Seconds that open requests have when the node stops."""


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
                http="h11",
                ws="none",
                lifespan="on",
            )
        )
        self._node: Node = app.state.node

    def stop(self) -> None:
        """Stop taking requests, end the event streams, and finish what is under way."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams first: they would never end by themselves."""
        self._node.end_streams()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let an interrupt or a request to terminate end the server, and nothing else: that is how it is stopped."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

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
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise NodeError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


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
