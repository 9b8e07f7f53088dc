"""The socket on which CometBFT asks the application: messages of ABCI 2.0, each after its length."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

from fedmeta.govern.engines.cometbft.abci import Handler
from fedmeta.govern.engines.cometbft.config import check_socket
from fedmeta.govern.engines.cometbft.conversion import answer, exception, read_request
from fedmeta.govern.errors import EngineError, Malformed

MAX_MESSAGE = 1 << 27
"""Bytes of a message. CometBFT's largest block is 100 MiB."""
MAX_LENGTH = 5
"""Bytes of the length before it."""
TURN = 16
"""Messages of a connection that are answered before all are read again, and another one has its turn: some 3 ms of
checks of transactions."""
AHEAD = 1 << 22
"""Bytes of requests that are read while others wait. While CometBFT's own side of the socket is full, a timer of its
client (`ThrottleTimer` of 0.38, 20 ns where 20 ms are meant) fires without a pause, and takes a core's time."""
BATCH = 1 << 16
"""Bytes of answers that are sent at once."""
log = logging.getLogger("fedmeta.ledger")


class Connection(asyncio.Protocol):
    """One of CometBFT's connections: requests in order, each answered before the next is looked at.

    It reads no further while the peer does not read its answers, or while more than `AHEAD` waits. What is no request
    closes it with a line in the log. What a handler raises is answered, which ends CometBFT, and closes it.
    """

    def __init__(self, handler: Handler, ended: Callable[["Connection"], None], max_message: int = MAX_MESSAGE):
        self._handler = handler
        self._when_lost = ended
        self._max_message = max_message
        self._received = bytearray()
        self._held = False
        self._ended = False
        self._over = False
        """Whether the peer has nothing more to ask."""
        self._due: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: what was received in part is dropped."""
        if exc is not None:
            log.warning("a connection from CometBFT was lost: %s", exc)
        elif self._received and not self._ended:
            log.warning("a connection from CometBFT ended after %d bytes of a message", len(self._received))
        self._ended = True
        self._received.clear()
        if self._due is not None:
            self._due.cancel()
        self._when_lost(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole by now."""
        self._received += data
        if self._due is None and not self._held:
            self._work()
        elif len(self._received) > AHEAD:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what waits before the end."""
        self._over = True
        return self._held or self._due is not None

    def pause_writing(self) -> None:
        """Answer nothing until the peer has read."""
        self._held = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._held = False
        self._go_on_later()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _go_on_later(self) -> None:
        if self._due is None and not self._ended:
            self._due = asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Answer the requests that are whole, as many as a turn has."""
        self._due = None
        answers, at, waits = bytearray(), 0, False
        try:
            for _ in range(TURN):
                waits = (frame := self._frame(at)) is not None
                if frame is None:
                    break
                start, at = frame
                with memoryview(self._received) as view:
                    request = bytes(view[start:at])
                self._append(answers, *read_request(request))
                if len(answers) >= BATCH:
                    self._transport.write(answers)
                    answers = bytearray()
                if self._held or self._ended:
                    break
        except Malformed as error:
            log.warning("a connection from CometBFT is closed: %s", error)
            self._ended = True
        if answers:
            self._transport.write(answers)
        del self._received[:at]
        if self._ended or (self._over and not waits and not self._held):
            self._transport.close()
        elif not self._held:
            if waits and len(self._received) > AHEAD:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
            if waits:
                self._go_on_later()

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Return where the message begins and ends whose length stands at `at`; None if it is not all there.

        Raises:
            Malformed: the length is none, or larger than a message may be.
        """
        length = 0
        for place, byte in enumerate(self._received[at : at + MAX_LENGTH]):
            length |= (byte & 127) << 7 * place
            if length > self._max_message:
                raise Malformed(f"a message of more than {self._max_message} bytes is announced")
            if byte < 128:
                end = at + place + 1 + length
                return (at + place + 1, end) if end <= len(self._received) else None
        if len(self._received) - at >= MAX_LENGTH:
            raise Malformed(f"the length of a message takes more than {MAX_LENGTH} bytes")
        return None

    def _append(self, answers: bytearray, kind: str, arguments: tuple) -> None:
        try:
            encoded = answer(self._handler, kind, arguments)
        except Exception as error:
            log.exception("CometBFT is ended: the application failed at %s", kind)
            encoded = exception(error)
            self._ended = True
        answers += _length(len(encoded))
        answers += encoded


@lru_cache(maxsize=256)
def _length(size: int) -> bytes:
    """Return a length as an unsigned varint."""
    encoded = bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


@contextlib.asynccontextmanager
async def listening(handler: Handler, path: Path, max_message: int = MAX_MESSAGE) -> AsyncIterator[None]:
    """Listen on a unix socket while the context lasts; the loop that runs then calls the handler.

    The socket is for this user alone. One that a process before left behind is taken away.

    Raises:
        EngineError: there can be no socket at `path`.
    """
    check_socket(path)
    opened: set[Connection] = set()

    def connect() -> Connection:
        connection = Connection(handler, opened.discard, max_message)
        opened.add(connection)
        return connection

    try:
        server = await asyncio.get_running_loop().create_unix_server(connect, path)
        path.chmod(0o600)
    except OSError as error:
        raise EngineError(f"no socket can be made at {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()
        for connection in tuple(opened):
            connection.abort()
        await server.wait_closed()
        path.unlink(missing_ok=True)
