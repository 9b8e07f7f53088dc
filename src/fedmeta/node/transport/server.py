"""The server of a gate: HTTP/1.1 over TLS with everything bounded, for peers that nobody trusts.

What HTTP needs is read by h11; what is asked is an `Application`'s business. A body is read only after its head has
been admitted, so that strangers cannot have anything kept for them.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import h11

from fedmeta.govern.server.limits import Places, peer_key
from fedmeta.govern.wire import codec
from fedmeta.node.errors import RequestRefused
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.pace import PIECE, Limits, Pace, within
from fedmeta.node.transport.tls import Stream, server_context
from fedmeta.node.wire.requests import HEADER, Request

CBOR = "application/cbor"
BYTES = "application/octet-stream"

STATUS: Mapping[str, int] = {
    "unsigned": 401,
    "bad-signature": 401,
    "stranger": 403,
    "wrong-certificate": 403,
    "not-yours": 403,
    "not-expected": 403,
    "not-found": 404,
    "bad-method": 405,
    "bad-height": 409,
    "other-offer": 409,
    "too-large": 413,
    "encoded": 415,
    "bad-body": 422,
    "bad-offer": 422,
    "bad-chunk": 422,
    "bad-request": 400,
    "large-head": 431,
    "not-ready": 503,
    "over-quota": 507,
    "disk": 500,
}
"""The status of HTTP for each code of a refusal."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request: its signature is None where it has none; `fingerprint` is empty without a certificate."""

    method: str
    path: str
    signature: str | None
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: canonical CBOR unless `kind` says otherwise."""

    body: bytes
    status: int = 200
    kind: str = CBOR

    @staticmethod
    def of(value: Any) -> "Answer":
        """Return a value as an answer."""
        return Answer(codec.encode(value))

    @staticmethod
    def refusal(error: RequestRefused) -> "Answer":
        """Return what is answered to a request that is refused: its code, and why."""
        return Answer(codec.encode({"code": error.code, "message": str(error)}), STATUS.get(error.code, 400))


@runtime_checkable
class Application(Protocol):
    """What a server asks of the one that it serves; `admit` and `answer` raise `RequestRefused`."""

    def known(self, fingerprint: bytes) -> bool:
        """Return whether a member has this fingerprint."""
        ...

    def is_seat(self, fingerprint: bytes) -> bool:
        """Return whether a seat has it."""
        ...

    def admit(self, head: Head) -> Request:
        """Return who asks, before the body is read."""
        ...

    async def answer(self, request: Request, body: bytes) -> Answer:
        """Return the answer."""
        ...


class Server:
    """A listening gate; `close` ends it and every connection."""

    def __init__(self, application: Application, certificate: Certificate, limits: Limits = Limits()):  # noqa: B008
        """Listen nowhere yet."""
        self._application, self._limits = application, limits
        self._context = server_context(certificate, application.known)
        self._addresses = Places("connections", limits.connections + limits.handshakes, limits.address_connections)
        self._members = Places("connections", limits.connections, limits.member_connections)
        self._young: dict[asyncio.StreamWriter, None] = {}
        self._tasks: set[asyncio.Task] = set()
        self._seats = self._others = self._strangers = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (another one where 0 was asked for); raises `OSError`."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=PIECE, backlog=128)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # until the transports have closed their sockets

    @property
    def connections(self) -> int:
        """How many connections there are, those in their handshake too."""
        return len(self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that ended before it began

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = peer_key((writer.get_extra_info("peername") or ("?",))[0])
        if self._addresses.take(address):
            return
        try:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(self._context, reader, writer)
            fingerprint = await self._handshake(stream, writer)
            await self._placed(stream, fingerprint)
            await within(self._limits.handshake_seconds, stream.close(), "the peer does not let go")
        except OSError:
            pass  # the peer went, is too slow, or is no member: that is its own affair
        finally:
            self._addresses.leave(address)

    async def _handshake(self, stream: Stream, writer: asyncio.StreamWriter) -> bytes:
        if len(self._young) >= self._limits.handshakes:
            oldest = next(iter(self._young))
            del self._young[oldest]
            oldest.transport.abort()
        self._young[writer] = None
        try:
            return await within(self._limits.handshake_seconds, stream.handshake(), "the handshake took too long")
        finally:
            self._young.pop(writer, None)

    async def _placed(self, stream: Stream, fingerprint: bytes) -> None:
        """Serve a connection if there is a place for it."""
        limits, seat = self._limits, bool(fingerprint) and self._application.is_seat(fingerprint)
        full = self._seats + self._others >= limits.connections
        if full or (not seat and self._others >= limits.connections - limits.seats):
            return
        if not fingerprint and self._strangers >= limits.strangers:
            return
        member = fingerprint.hex()
        if member and self._members.take(member):
            return
        self._seats, self._others = self._seats + seat, self._others + (not seat)
        self._strangers += not fingerprint
        try:
            await self._requests(stream, fingerprint)
        finally:
            self._seats, self._others = self._seats - seat, self._others - (not seat)
            self._strangers -= not fingerprint
            if member:
                self._members.leave(member)

    async def _requests(self, stream: Stream, fingerprint: bytes) -> None:
        http = _Http(stream, self._limits)
        while await self._request(http, fingerprint):
            http.next()

    async def _request(self, http: "_Http", fingerprint: bytes) -> bool:
        """Answer a request; return whether another one may follow."""
        try:
            head = await http.head()
            if head is None:
                return False
            method, path, signature = head
            request = self._application.admit(Head(method, path, signature, fingerprint))
            body = await http.body()
            answer = await self._application.answer(request, body)
        except RequestRefused as error:
            answer = Answer.refusal(error)
        except h11.RemoteProtocolError as error:
            code = {431: "large-head", 501: "encoded"}.get(error.error_status_hint, "bad-request")
            answer = Answer.refusal(RequestRefused(code, f"not HTTP as it is spoken here: {error}"))
        return await http.answer(answer)


class _Http:
    """The requests of one connection, one after the other."""

    def __init__(self, stream: Stream, limits: Limits):
        self._stream, self._limits = stream, limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._clock = asyncio.get_running_loop().time

    def next(self) -> None:
        self._h11.start_next_cycle()

    async def head(self) -> tuple[str, str, str | None] | None:
        """Return method, path and signature of the next request, or None where there is none any more."""
        limits = self._limits
        event = self._h11.next_event()
        if event is h11.NEED_DATA and not self._h11.trailing_data[0]:
            await self._more(limits.idle_seconds, "nothing was asked")
            event = self._h11.next_event()
        begin = self._clock()
        while event is h11.NEED_DATA:
            await self._more(begin + limits.header_seconds - self._clock(), "the head took too long")
            event = self._h11.next_event()
        if not isinstance(event, h11.Request):
            return None
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
        _check_head(headers, limits)
        signatures = [value for name, value in headers if name == HEADER]
        if len(signatures) > 1:
            raise RequestRefused("unsigned", f"the request has {len(signatures)} headers {HEADER!r}: one is right")
        method, path = event.method.decode("ascii"), event.target.decode("latin-1")
        return method, path, signatures[0] if signatures else None

    async def body(self) -> bytes:
        """Return the body of the request; raises `RequestRefused` where it is too large."""
        pace, parts, size = Pace(self._limits, self._clock), [], 0
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]), pace)
                pace.moved(await self._more(pace.left(), "the body is too slow"))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._limits.body_bytes:
                    raise RequestRefused("too-large", f"the body has more than {self._limits.body_bytes} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(parts)
            else:
                raise ConnectionResetError("the connection ended within a body")

    async def answer(self, answer: Answer) -> bool:
        """Send an answer; return whether the connection can take another request."""
        state = self._h11.our_state
        if state not in (h11.SEND_RESPONSE, h11.IDLE):
            return False
        unread = not self._is_read()
        pace = Pace(self._limits, self._clock)
        headers = [
            ("content-type", answer.kind),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
        ]
        if unread:
            headers.append(("connection", "close"))
        await self._send(h11.Response(status_code=answer.status, headers=headers), pace)
        for at in range(0, len(answer.body), PIECE):
            await self._send(h11.Data(data=answer.body[at : at + PIECE]), pace)
        await self._send(h11.EndOfMessage(), pace)
        if unread:
            await self._drain()
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    def _is_read(self) -> bool:
        """Return whether nothing of the request is still to come; one without a body has its end yet to be met."""
        if self._h11.their_state is h11.SEND_BODY:
            try:
                self._h11.next_event()
            except h11.RemoteProtocolError:
                return False
        return self._h11.their_state not in (h11.SEND_BODY, h11.ERROR)

    async def _drain(self) -> None:
        """Throw away what still comes: a connection that is closed over unread bytes may take the answer with it."""
        until, size = self._clock() + self._limits.grace_seconds, 0
        while size < self._limits.body_bytes and not self._is_over():
            data = await within(until - self._clock(), self._stream.read(), "the rest of a refused body is too slow")
            if not data:
                return
            size += len(data)
            if self._h11.their_state is h11.SEND_BODY:
                self._h11.receive_data(data)

    def _is_over(self) -> bool:
        """Return whether a body that is thrown away has come to its end."""
        try:
            while self._h11.their_state is h11.SEND_BODY:
                if self._h11.next_event() is h11.NEED_DATA:
                    return False
        except h11.RemoteProtocolError:
            return False
        return self._h11.their_state is not h11.ERROR

    async def _send(self, event: Any, pace: Pace) -> None:
        data = self._h11.send(event)
        if data:
            await pace.wait(self._stream.write(data))
            pace.moved(len(data))

    async def _more(self, seconds: float, what: str) -> int:
        data = await within(seconds, self._stream.read(), what)
        self._h11.receive_data(data)
        return len(data)


def _check_head(headers: list[tuple[str, str]], limits: Limits) -> None:
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size > limits.header_bytes:
        raise RequestRefused("large-head", f"the head has {size} bytes: at most {limits.header_bytes}")
    for name, value in headers:
        if name == "content-encoding" and value.strip().lower() != "identity":
            raise RequestRefused("encoded", f"the content encoding {value!r} is refused: send the bytes as they are")
        if name == "content-length" and int(value) > limits.body_bytes:
            raise RequestRefused("too-large", f"a body of {value} bytes is too large: at most {limits.body_bytes}")
