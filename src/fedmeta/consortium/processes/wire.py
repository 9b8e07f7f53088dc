"""What leaves a hospital, counted on its way: by a proxy and a relay of its own, which know nothing of its node.

A node of the demonstration reaches others' gates through its hospital's proxy, as `network.proxy` says, and the ledger
through its hospital's relay, whose address is the only one in its `node.toml`. Both pass on what comes, unchanged, and
count it. To the gates it is TLS: bytes and connections are counted, by the place that was asked for. To the ledger it
is HTTP in the clear: each request's body is told apart, with its SHA-256.

What a gate answers goes out by connections that others have made: it is counted at their proxies.
"""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

PIECE = 1 << 16
"""Bytes that are passed on at a time."""

HEAD = 1 << 14
"""The most bytes of a request's head."""


@dataclass
class Flow:
    """What has passed between a hospital and one place, in bytes of TCP's content."""

    connections: int = 0
    """Those that came about."""
    refused: int = 0
    """Those that did not: nobody answered at the place."""
    sent: int = 0
    """From the hospital to the place, all of it: TLS and HTTP too."""
    received: int = 0
    """Back to the hospital."""
    bodies: list[tuple[str, int]] = field(default_factory=list)
    """SHA-256 and bytes of the body of each request that had one; of the ledger only, since TLS hides the others."""
    requests: int = 0
    """Requests of the ledger, with and without a body."""
    unclear: str = ""
    """Why what was sent to the ledger could not be read as HTTP, if it could not."""


class Requests:
    """Tells the bodies of HTTP/1.1 requests apart, piece by piece."""

    def __init__(self, flow: Flow):
        self._flow, self._held, self._due = flow, bytearray(), -1

    def feed(self, data: bytes) -> None:
        """Take what a connection has brought."""
        if self._flow.unclear:
            return
        self._held += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._due < 0:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                if len(self._held) > HEAD:
                    self._flow.unclear = f"a head of more than {HEAD:,} bytes"
                return False
            self._begin(bytes(self._held[:end]))
            del self._held[: end + 4]
        if self._flow.unclear or len(self._held) < self._due:
            return False
        if self._due:
            body = bytes(self._held[: self._due])
            self._flow.bodies.append((hashlib.sha256(body).hexdigest(), len(body)))
        del self._held[: self._due]
        self._flow.requests += 1
        self._due = -1
        return bool(self._held)

    def _begin(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines[1:])}
        length = fields.get(b"content-length", b"0")
        if not lines[0].endswith(b" HTTP/1.1"):
            self._flow.unclear = f"a request that begins with {lines[0][:40]!r}"
        elif b"transfer-encoding" in fields or not length.isdigit():
            self._flow.unclear = "a body whose length is not said"
        self._due = int(length) if length.isdigit() else 0


class Counter:
    """The proxies and relays of all hospitals, in a thread of their own; a context, which ends all of them.

    `flows` has what has passed so far, by hospital and place, HOST:PORT.
    """

    def __init__(self, host: str = "127.0.0.1"):
        self.host = host
        self.flows: dict[tuple[str, str], Flow] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task] = set()

    def __enter__(self) -> "Counter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def proxy(self, hospital: str) -> int:
        """Return the port of a new proxy, which takes CONNECT and nothing else."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                return
            method, _, rest = head.partition(b" ")
            place = rest.partition(b" ")[0].decode("ascii", "replace")
            if method != b"CONNECT":
                writer.write(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
                return
            flow = self._flow(hospital, place)
            try:
                far = await _opened(place)
            except (OSError, ValueError):
                flow.refused += 1
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _join((reader, writer), far, flow)

        return self._start(serve)

    def relay(self, hospital: str, place: str) -> int:
        """Return the port of a new relay to a ledger's address, HOST:PORT."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            flow = self._flow(hospital, place)
            try:
                far = await _opened(place)
            except OSError:
                flow.refused += 1
                return
            await _join((reader, writer), far, flow, Requests(flow).feed)

        return self._start(serve)

    def _flow(self, hospital: str, place: str) -> Flow:
        return self.flows.setdefault((hospital, place), Flow())

    def _start(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> int:
        async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(OSError):
                    await serve(reader, writer)
            finally:
                writer.close()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # A loop keeps tasks by weak references only.
            task = self._loop.create_task(serve_and_close(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        async def start() -> int:
            server = await asyncio.start_server(begin, self.host, 0, limit=PIECE)
            self._servers.append(server)
            return server.sockets[0].getsockname()[1]

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _opened(place: str) -> _Ends:
    host, _, port = place.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), limit=PIECE)


async def _join(near: _Ends, far: _Ends, flow: Flow, read: Callable[[bytes], None] = lambda _: None) -> None:
    """Pass on what comes from either end until both have said all."""
    flow.connections += 1

    def out(data: bytes) -> None:
        flow.sent += len(data)
        read(data)

    def back(data: bytes) -> None:
        flow.received += len(data)

    try:
        await asyncio.gather(_carry(near[0], far[1], out), _carry(far[0], near[1], back))
    finally:
        for _, writer in (near, far):
            writer.transport.abort()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: Callable[[bytes], None]) -> None:
    try:
        while data := await source.read(PIECE):
            count(data)
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        sink.transport.abort()
