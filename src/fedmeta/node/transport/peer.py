"""What a node asks of another's gate: signed, bounded, over one connection while it lasts.

Nothing here trusts an answer further than it can be checked: chunks and leaves are held against blobs, offers are
signed, models open only by a key that was made for the one request. What a gate says that it has, only the ledger
confirms.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import h11

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.node.errors import BadChunk, RequestRefused, SealError, Unreachable
from fedmeta.node.transport.destinations import Place
from fedmeta.node.transport.dialling import Dialler
from fedmeta.node.transport.gate import model_context, procedure_context
from fedmeta.node.transport.pace import PIECE, Limits, Pace, within
from fedmeta.node.wire.chunks import Blob, check_chunk, check_leaves
from fedmeta.node.wire.offers import Offer
from fedmeta.node.wire.requests import HEADER, Request, sign_request
from fedmeta.node.wire.sealing import SealKey, unseal


class Target(NamedTuple):
    """Another member's gate as the ledger has it: HOST:PORT, to be tried in turn, and its TLS key's fingerprints."""

    name: str
    addresses: tuple[str, ...]
    fingerprints: tuple[bytes, ...]


class Kept(NamedTuple):
    """What a gate says that it keeps of an update: the offer, the missing chunks, and what its core wrapped again."""

    offer: Offer
    missing: list[int]
    wraps: bytes


class Client:
    """Asks gates in a member's name."""

    def __init__(
        self,
        dialler: Dialler,
        genesis: bytes,
        name: str,
        key: Key,
        height: Callable[[], int],
        limits: Limits = Limits(),  # noqa: B008
    ):
        """Sign by the machine key `key`, at the ledger's height that `height` gives."""
        self.genesis, self.name = genesis, name
        self._dialler, self._key, self._height, self._limits = dialler, key, height, limits

    @contextlib.asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator["Session"]:
        """Give a connection to a gate; raises `Unreachable`, with all reasons, where no address leads there."""
        async with contextlib.AsyncExitStack() as stack:
            reasons = []
            for address in target.addresses:
                try:
                    dialling = self._dialler.dial(Place.parse(address), target.fingerprints)
                    reader, writer = await stack.enter_async_context(dialling)
                except Unreachable as error:
                    reasons.append(str(error))
                    continue
                yield Session(self, target.name, reader, writer, self._limits)
                return
            raise Unreachable(f"{target.name!r} cannot be reached: {'; '.join(reasons) or 'it has no address'}")

    def sign(self, receiver: str, method: str, path: str, body: bytes, reply: bytes) -> str:
        """Return the header's value of a request to `receiver`."""
        request = Request(self.genesis, self.name, receiver, method, path, digest(body), self._height(), reply)
        return sign_request(self._key, request)


class Session:
    """A connection to a gate.

    Every method raises `RequestRefused`, with the gate's code, where the gate refuses, and `Unreachable` where the
    connection fails, is too slow, or speaks otherwise than agreed; then another session must be opened.
    """

    def __init__(
        self, client: Client, receiver: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits
    ):
        """Use an open connection; `Client.session` makes one."""
        self._client, self._receiver, self._limits = client, receiver, limits
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.header_bytes)
        self._clock = asyncio.get_running_loop().time

    async def card(self) -> bytes:
        """Return what the gate's core says of itself, unchecked."""
        return await self.ask("GET", "/card")

    async def offer(self, offer: bytes) -> list[int]:
        """Offer a sealed update, one's own or another's; return which chunks the gate lacks."""
        return _numbers(_field(await self._value("POST", "/offers", offer), "missing"))

    async def update(self, number: int, member: str) -> Kept:
        """Return what the gate keeps of a member's update for a round; the offer's signature is unchecked."""
        value = await self._value("GET", f"/updates/{number}/{member}")
        offer, wraps = _field(value, "offer"), _field(value, "wraps")
        if type(offer) is not bytes or type(wraps) is not bytes:
            raise Unreachable(f"{self._receiver!r} describes an update otherwise than agreed")
        return Kept(Offer.from_bytes(offer), _numbers(_field(value, "missing")), wraps)

    async def put(self, number: int, member: str, chunk: int, data: bytes) -> bool:
        """Give a chunk of ciphertext; return whether the gate now has all of them."""
        return _field(await self._value("PUT", f"/updates/{number}/{member}/{chunk}", data), "complete") is True

    async def chunk(self, number: int, member: str, chunk: int) -> bytes:
        """Return a chunk of ciphertext, unchecked."""
        return await self.ask("GET", f"/updates/{number}/{member}/{chunk}")

    async def model(self, identity: bytes) -> tuple[Blob, bytes]:
        """Return the blob and leaves of a model by its blob's id; raises `BadChunk` where they are not this one's."""
        value = await self._value("GET", f"/models/{identity.hex()}")
        blob, leaves = Blob.from_value(_field(value, "blob")), _field(value, "leaves")
        if blob.id != identity or type(leaves) is not bytes:
            raise BadChunk(f"{self._receiver!r} gives another blob than the model {identity.hex()}")
        check_leaves(blob, leaves)
        return blob, leaves

    async def model_chunk(self, identity: bytes, number: int) -> bytes:
        """Return a chunk of a model, opened but unchecked; raises `SealError` where it does not open."""
        context = model_context(self._client.genesis, identity.hex(), number, self._client.name)
        return await self._unsealed(f"/models/{identity.hex()}/{number}", context)

    async def procedure(self, identity: bytes) -> bytes:
        """Return a procedure's bytes by their SHA-256.

        Raises:
            BadChunk: the gate gave others.
            SealError: what it gave does not open.
        """
        context = procedure_context(self._client.genesis, identity.hex(), self._client.name)
        content = await self._unsealed(f"/procedures/{identity.hex()}", context)
        if digest(content) != identity:
            raise BadChunk(f"{self._receiver!r} gives other bytes than those of procedure {identity.hex()}")
        return content

    async def _unsealed(self, path: str, context: bytes) -> bytes:
        key = SealKey.generate()
        value = await self._value("GET", path, reply=key.public)
        if type(value) is not list or [type(item) for item in value] != [bytes, bytes]:
            raise SealError(f"{self._receiver!r} gives {path} otherwise than agreed")
        return unseal(value[0], value[1], key, context)

    async def ask(self, method: str, path: str, body: bytes = b"", reply: bytes = b"") -> bytes:
        """Return the body of the answer to a signed request."""
        headers = [
            ("host", self._receiver),
            ("user-agent", "fedmeta"),
            ("accept-encoding", "identity"),
            ("content-length", str(len(body))),
            (HEADER, self._client.sign(self._receiver, method, path, body, reply)),
        ]
        try:
            if self._h11.our_state is h11.DONE:
                self._h11.start_next_cycle()
            await self._send(h11.Request(method=method, target=path, headers=headers), body)
            status, answer = await self._answer()
        except (OSError, ssl.SSLError, h11.RemoteProtocolError, h11.LocalProtocolError) as error:
            self._writer.transport.abort()
            raise Unreachable(f"{method} {path} to {self._receiver!r} failed: {error}") from error
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        if status != 200:
            raise _refusal(status, answer)
        return answer

    async def _value(self, method: str, path: str, body: bytes = b"", reply: bytes = b"") -> Any:
        answer = await self.ask(method, path, body, reply)
        try:
            return codec.decode(answer, limit=self._limits.body_bytes)
        except Malformed as error:
            raise Unreachable(f"{method} {path} to {self._receiver!r}: the answer cannot be read: {error}") from error

    async def _send(self, request: h11.Request, body: bytes) -> None:
        pace = Pace(self._limits, self._clock)
        self._writer.write(self._h11.send(request) or b"")
        for at in range(0, len(body), PIECE):
            piece = body[at : at + PIECE]
            self._writer.write(self._h11.send(h11.Data(data=piece)) or b"")
            await pace.wait(self._writer.drain())
            pace.moved(len(piece))
        self._writer.write(self._h11.send(h11.EndOfMessage()) or b"")
        await pace.wait(self._writer.drain())

    async def _answer(self) -> tuple[int, bytes]:
        limits, status, parts, size = self._limits, 0, [], 0
        begin, pace = self._clock(), Pace(limits, self._clock)
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                left = pace.left() if status else begin + limits.answer_seconds - self._clock()
                data = await within(left, self._reader.read(PIECE), "the answer is too slow")
                pace.moved(len(data))
                self._h11.receive_data(data)
            elif isinstance(event, h11.Response):
                status, pace = event.status_code, Pace(limits, self._clock)
                _check_answer(event, limits)
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > limits.body_bytes:
                    raise ConnectionAbortedError(f"the answer has more than {limits.body_bytes} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(parts)
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError("the connection was closed without an answer")


Read = Callable[[int], Awaitable[bytes]]
Write = Callable[[int, bytes], Awaitable[Any]]


async def push(client: Client, target: Target, offer: Offer, read: Read, tries: int = 4, pause: float = 1.0) -> None:
    """Bring a sealed update to a gate: the offer, then the chunks that it lacks, each from `read(number)`.

    Where the connection fails, it asks again what is missing and goes on; it gives up after `tries` failures between
    which no chunk was sent, `pause` seconds apart and each time twice as long. Raises as `Session`.
    """

    async def attempt(session: Session, done: Callable[[], None]) -> None:
        for number in await session.offer(offer.to_bytes()):
            await session.put(offer.round, offer.member, number, await read(number))
            done()

    await _persist(client, target, attempt, tries, pause)


async def pull(
    client: Client,
    target: Target,
    offer: Offer,
    missing: Iterable[int],
    write: Write,
    tries: int = 4,
    pause: float = 1.0,
) -> list[int]:
    """Fetch chunks of a sealed update, check each and give it to `write(number, data)`; return those it does not have.

    Raises:
        BadChunk: the gate gave other bytes.
        RequestRefused: the gate refuses.
        Unreachable: as in `push`.
    """
    open_, there = list(missing), offer.blob

    async def attempt(session: Session, done: Callable[[], None]) -> None:
        lacking = set((await session.update(offer.round, offer.member)).missing)
        for number in [one for one in open_ if one not in lacking]:
            data = await session.chunk(offer.round, offer.member, number)
            check_chunk(there, offer.leaves, number, data)
            await write(number, data)
            open_.remove(number)
            done()

    await _persist(client, target, attempt, tries, pause)
    return open_


async def pull_model(
    client: Client,
    target: Target,
    identity: bytes,
    begin: Callable[[Blob, bytes], Awaitable[Iterable[int]]],
    write: Write,
    tries: int = 4,
    pause: float = 1.0,
) -> Blob:
    """Fetch a model by its blob's id; `begin(blob, leaves)` says which chunks are missing. Return the blob.

    Raises:
        BadChunk: the gate gave other bytes.
        SealError: what it gave does not open.
        RequestRefused: the gate refuses.
        Unreachable: as in `push`.
    """
    blobs = []

    async def attempt(session: Session, done: Callable[[], None]) -> None:
        blob, leaves = await session.model(identity)
        blobs.append(blob)
        for number in await begin(blob, leaves):
            data = await session.model_chunk(identity, number)
            check_chunk(blob, leaves, number, data)
            await write(number, data)
            done()

    await _persist(client, target, attempt, tries, pause)
    return blobs[-1]


async def _persist(
    client: Client,
    target: Target,
    attempt: Callable[[Session, Callable[[], None]], Awaitable[None]],
    tries: int,
    pause: float,
) -> None:
    """Do an attempt over sessions until one ends, or `tries` in a row get nowhere."""
    failures = 0

    def done() -> None:
        nonlocal failures
        failures = 0

    while True:
        try:
            async with client.session(target) as session:
                return await attempt(session, done)
        except Unreachable:
            failures += 1
            if failures >= tries:
                raise
        await asyncio.sleep(pause * 2 ** (failures - 1))


def _check_answer(response: h11.Response, limits: Limits) -> None:
    for name, value in response.headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise ConnectionAbortedError(f"the answer is encoded as {value!r}, which is refused")
        if name == b"content-length" and int(value) > limits.body_bytes:
            raise ConnectionAbortedError(f"an answer of {int(value)} bytes is too large: at most {limits.body_bytes}")


def _field(value: Any, name: str) -> Any:
    if type(value) is not dict or name not in value:
        raise Unreachable(f"the answer has no field {name!r}")
    return value[name]


def _numbers(value: Any) -> list[int]:
    if type(value) is not list or any(type(one) is not int or one < 0 for one in value):
        raise Unreachable("the answer does not say which chunks are missing")
    return value


def _refusal(status: int, answer: bytes) -> RequestRefused | Unreachable:
    try:
        value = codec.decode(answer, limit=1 << 16)
        return RequestRefused(value["code"], value["message"][:500])
    except (Malformed, KeyError, TypeError):
        return Unreachable(f"the answer is {status}, not by a gate")
