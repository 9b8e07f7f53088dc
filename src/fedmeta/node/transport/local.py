"""Between a gate and its own core: a unix socket over which the core says what it knows and fetches what has come.

The core dials; the gate never asks the core for anything. A request is a frame [operation, arguments], an answer [True,
value] or [False, code, message]. What the core sees of updates is the whole list each time, so that nothing is lost
where one of the two starts again.
"""

import asyncio
import os
import re
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedmeta.govern.errors import Malformed
from fedmeta.node.errors import (
    BadChunk,
    BlobCorrupt,
    DiskError,
    MemberError,
    NotKept,
    OverQuota,
    RequestRefused,
    Unreachable,
)
from fedmeta.node.transport.frames import read_frame, write_frame
from fedmeta.node.transport.gate import WRAPS, Gate, update_name
from fedmeta.node.transport.standing import Standing
from fedmeta.node.wire.chunks import Blob

MAX_ATTACHMENT = 1 << 19
"""The most bytes of an attachment that a core puts."""

MAX_WAIT = 600
"""The longest wait for a change, in seconds."""

_UPDATE = re.compile("update/([0-9]+)/([a-z0-9-]+)")


_KINDS: dict[str, type[MemberError]] = {
    kind.__name__: kind for kind in (BadChunk, DiskError, OverQuota, NotKept, BlobCorrupt)
}


class Arrival(NamedTuple):
    """An update that is kept, whole or in parts; its offer is an attachment, `OFFER`."""

    round: int
    member: str
    missing: int


class LocalServer:
    """The gate's end: it listens at a path that only its own core's user can open."""

    def __init__(self, gate: Gate, uids: Collection[int] = ()):
        """Answer users with these ids only; this process' own user if none is named."""
        self._gate, self._uids = gate, frozenset(uids) or frozenset([os.geteuid()])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    async def start(self, path: Path, mode: int = 0o600, gid: int = -1) -> None:
        """Listen; `gid` is the group that may open the socket where `mode` lets it. Raises `OSError`."""
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, str(path))
        finally:
            os.umask(before)
        os.chown(path, -1, gid)
        path.chmod(mode)

    async def close(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # until the transports have closed their sockets

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that ended before it began

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _user(writer.get_extra_info("socket")) not in self._uids:
                return
            while True:
                await write_frame(writer, await self._result(await read_frame(reader)))
        except (EOFError, OSError, Malformed):
            pass  # the core went, or speaks another language: it dials again

    async def _result(self, value: Any) -> list[Any]:
        try:
            if type(value) is not list or len(value) != 2 or type(value[0]) is not str or type(value[1]) is not list:
                raise RequestRefused("bad-request", "a frame must be a list of an operation and its arguments")
            operation, arguments = value
            wanted = _OPERATIONS.get(operation)
            if wanted is None or [type(one) for one in arguments] != wanted[1]:
                raise RequestRefused("bad-request", f"there is no operation {operation!r} with these arguments")
            return [True, await wanted[0](self._gate, *arguments)]
        except RequestRefused as error:
            return [False, error.code, str(error)]
        except Malformed as error:
            return [False, "bad-request", str(error)]
        except MemberError as error:
            return [False, type(error).__name__, str(error)]


_OPERATIONS: dict[str, tuple[Callable[..., Awaitable[Any]], list[type]]] = {}


def _operation(*kinds: type) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    def declare(act: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        _OPERATIONS[act.__name__.removeprefix("_")] = (act, list(kinds))
        return act

    return declare


@_operation(dict)
async def _stand(gate: Gate, value: dict[str, Any]) -> None:
    gate.standing = Standing.from_value(value)


@_operation(int, int)
async def _arrivals(gate: Gate, seen: int, seconds: int) -> list[Any]:
    version = await gate.change(seen, float(min(max(seconds, 0), MAX_WAIT)))
    return [version, await gate.on_disk(_list_arrivals, gate)]


@_operation(str, bytes, int, bytes)
async def _begin(gate: Gate, name: str, root: bytes, length: int, leaves: bytes) -> list[int]:
    def begin() -> list[int]:
        blob = Blob.from_value([root, length])
        if gate.store.blob(name) is None:
            gate.store.begin(name, blob, leaves)
        elif gate.store.blob(name) != blob:
            raise RequestRefused("other-offer", f"another blob is kept as {name}")
        return list(gate.store.missing(name))

    return await gate.on_disk(begin)


@_operation(str, int, bytes)
async def _put(gate: Gate, name: str, number: int, data: bytes) -> bool:
    def put() -> bool:
        gate.store.put(name, number, data)
        return gate.store.complete(name)

    complete = await gate.on_disk(put)
    if complete:
        gate.tell()
    return complete


@_operation(str)
async def _blob(gate: Gate, name: str) -> list[Any] | None:
    def blob() -> list[Any] | None:
        found = gate.store.blob(name)
        return None if found is None else [*found, gate.store.leaves(name), list(gate.store.missing(name))]

    return await gate.on_disk(blob)


@_operation(str, int)
async def _chunk(gate: Gate, name: str, number: int) -> bytes:
    return await gate.on_disk(gate.store.chunk, name, number)


@_operation(str, str, bytes)
async def _attach(gate: Gate, name: str, label: str, data: bytes) -> None:
    if len(data) > MAX_ATTACHMENT:
        raise RequestRefused("too-large", f"an attachment of {len(data)} bytes is too large: at most {MAX_ATTACHMENT}")
    await gate.on_disk(gate.store.attach, name, label, data)


@_operation(str, str)
async def _attachment(gate: Gate, name: str, label: str) -> bytes | None:
    return await gate.on_disk(gate.store.attachment, name, label)


@_operation(str)
async def _delete(gate: Gate, name: str) -> None:
    await gate.on_disk(gate.store.delete, name)


@_operation(int, list)
async def _drop(gate: Gate, number: int, keep: list[int]) -> list[str]:
    def over(round: int) -> bool:
        return round < number and round not in keep

    def drop() -> list[str]:
        names = [name for name in gate.store.names() if (found := _UPDATE.fullmatch(name)) and over(int(found[1]))]
        for name in names:
            gate.store.delete(name)
        return names

    return await gate.on_disk(drop)


@_operation()
async def _room(gate: Gate) -> list[Any]:
    return await gate.on_disk(lambda: [gate.store.names(), gate.store.used, gate.store.free])


def _list_arrivals(gate: Gate) -> list[Any]:
    found = [match for name in gate.store.names() if (match := _UPDATE.fullmatch(name))]
    return [[int(one[1]), one[2], len(gate.store.missing(one[0]))] for one in found]


class LocalGate:
    """The core's end, one operation after the other: long waits want a connection of their own.

    Every method raises what the gate's store raises (`BadChunk`, `DiskError` and its kinds); `RequestRefused` where the
    gate refuses; `Unreachable` where it is gone, and then another `LocalGate` must be made.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        """Use an open connection; `open` makes one."""
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    @staticmethod
    async def open(path: Path) -> "LocalGate":
        """Return a connection to the gate that listens at a path; raises `Unreachable`."""
        try:
            return LocalGate(*await asyncio.open_unix_connection(str(path)))
        except OSError as error:
            raise Unreachable(f"no gate listens at {path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()

    async def stand(self, standing: Standing) -> None:
        """Tell the gate what the core knows."""
        await self._ask("stand", standing.to_value())

    async def arrivals(self, seen: int = -1, seconds: int = 0) -> tuple[int, list[Arrival]]:
        """Return a version and every update that the gate keeps, once the version is not `seen`, or after some seconds.

        The version changes with each offer and each update that becomes complete, and where the gate starts again.
        """
        version, found = await self._ask("arrivals", seen, seconds)
        return version, [Arrival(*one) for one in found]

    async def begin(self, name: str, blob: Blob, leaves: bytes) -> list[int]:
        """Reserve room for a blob, and return which chunks are missing; a blob that is begun already goes on."""
        return await self._ask("begin", name, blob.root, blob.length, leaves)

    async def put(self, name: str, number: int, data: bytes) -> bool:
        """Put a chunk; return whether the blob is complete."""
        return await self._ask("put", name, number, data)

    async def blob(self, name: str) -> tuple[Blob, bytes, list[int]] | None:
        """Return a blob, its leaves, and which chunks are missing; None if there is none."""
        found = await self._ask("blob", name)
        return None if found is None else (Blob(found[0], found[1]), found[2], found[3])

    async def chunk(self, name: str, number: int) -> bytes:
        """Return a chunk."""
        return await self._ask("chunk", name, number)

    async def attach(self, name: str, label: str, data: bytes) -> None:
        """Put a small file beside a blob, `MAX_ATTACHMENT` bytes at most."""
        await self._ask("attach", name, label, data)

    async def attachment(self, name: str, label: str) -> bytes | None:
        """Return a small file beside a blob, or None."""
        return await self._ask("attachment", name, label)

    async def rewrap(self, number: int, member: str, wraps: bytes) -> None:
        """Put beside an update what this seat wrapped again for others."""
        await self.attach(update_name(number, member), WRAPS, wraps)

    async def delete(self, name: str) -> None:
        """Delete a blob with all that is beside it."""
        await self._ask("delete", name)

    async def drop(self, number: int, keep: Collection[int] = ()) -> list[str]:
        """Delete every update of a round before `number` but for some rounds; return their names."""
        return await self._ask("drop", number, sorted(keep))

    async def room(self) -> tuple[list[str], int, int]:
        """Return all names, and the bytes that are used and free."""
        names, used, free = await self._ask("room")
        return names, used, free

    async def _ask(self, operation: str, *arguments: Any) -> Any:
        async with self._turn:
            try:
                await write_frame(self._writer, [operation, list(arguments)])
                answer = await read_frame(self._reader)
            except (EOFError, OSError) as error:
                raise Unreachable(f"the gate is gone: {error}") from error
            except asyncio.CancelledError:
                self.close()  # an answer that nobody took would be taken for the next one
                raise
        return _value(answer)


def _value(answer: Sequence[Any]) -> Any:
    if answer[0] is True:
        return answer[1]
    _, code, message = answer
    kind = _KINDS.get(code)
    raise RequestRefused(code, message) if kind is None else kind(message)


def _user(connection: TransportSocket) -> int:
    """Return the id of the user at the other end, as the kernel says."""
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
