"""What a gate answers: offers and chunks of sealed updates, and the model.

| request                          | who                    | answer                                              |
|----------------------------------|------------------------|-----------------------------------------------------|
| GET /card                        | any member             | the core's card, signed by the core                 |
| POST /offers, an offer           | any member, for anyone | {missing}                                           |
| GET /updates/ROUND/MEMBER        | seats; that member     | {offer, missing, wraps}                             |
| PUT /updates/ROUND/MEMBER/NUMBER | any member, for anyone | {complete}                                          |
| GET /updates/ROUND/MEMBER/NUMBER | seats; that member     | the chunk of ciphertext                             |
| GET /models/ID                   | any member             | {blob, leaves}                                      |
| GET /models/ID/NUMBER            | any member             | [ciphertext, wrap], sealed to the request's `reply` |
| GET /procedures/DIGEST           | any member             | [ciphertext, wrap], sealed to the request's `reply` |

A gate has no keys but that of its TLS, and no data. Whatever is written is written once: a request may come again.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.errors import BadChunk, DiskError, NotKept, OverQuota, RequestRefused, SealError
from fedmeta.node.transport.server import BYTES, Answer, Head
from fedmeta.node.transport.standing import Standing
from fedmeta.node.wire.chunks import Blob
from fedmeta.node.wire.offers import Offer
from fedmeta.node.wire.requests import Request, check_body, check_request
from fedmeta.node.wire.sealing import seal

T = TypeVar("T")

OFFER = "offer"
"""The attachment with a contributor's offer."""

WRAPS = "wraps"
"""The attachment with what the holder wrapped again: canonical CBOR of wraps by the names of seats."""

_NAME = "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_NUMBER = "0|[1-9][0-9]{0,14}"
_UPDATE = re.compile(f"/updates/({_NUMBER})/({_NAME})(?:/({_NUMBER}))?")
_MODEL = re.compile(f"/models/([0-9a-f]{{64}})(?:/({_NUMBER}))?")
_PROCEDURE = re.compile("/procedures/([0-9a-f]{64})")


@runtime_checkable
class Store(Protocol):
    """What a gate asks of the blob store."""

    def begin(self, name: str, blob: Blob, leaves: bytes) -> Any: ...  # noqa: D102
    def put(self, name: str, number: int, data: bytes) -> Any: ...  # noqa: D102
    def missing(self, name: str) -> Sequence[int]: ...  # noqa: D102
    def complete(self, name: str) -> bool: ...  # noqa: D102
    def blob(self, name: str) -> Blob | None: ...  # noqa: D102
    def leaves(self, name: str) -> bytes: ...  # noqa: D102
    def chunk(self, name: str, number: int) -> bytes: ...  # noqa: D102
    def attach(self, name: str, label: str, data: bytes) -> Any: ...  # noqa: D102
    def attachment(self, name: str, label: str) -> bytes | None: ...  # noqa: D102
    def delete(self, name: str) -> Any: ...  # noqa: D102
    def names(self) -> list[str]: ...  # noqa: D102
    @property
    def used(self) -> int: ...  # noqa: D102
    @property
    def free(self) -> int: ...  # noqa: D102


class Gate:
    """The application of a gate's `Server`; its core sets `standing`, without which nothing is answered."""

    def __init__(self, store: Store):
        """Serve what is in a store; it is used by one thread at a time."""
        self.store = store
        self.standing: Standing | None = None
        self._disk = ThreadPoolExecutor(1, "gate-disk")
        self._version, self._changed, self._news = secrets.randbits(48), asyncio.Event(), False

    def close(self) -> None:
        """Let the disk's thread end."""
        self._disk.shutdown()

    def known(self, fingerprint: bytes) -> bool:
        """Return whether a member has this fingerprint."""
        return self.standing is not None and fingerprint in self.standing.owners

    def is_seat(self, fingerprint: bytes) -> bool:
        """Return whether a seat has it."""
        owner = self.standing.owners.get(fingerprint) if self.standing else None
        return owner is not None and self._ready.peers[owner].role == "seat"

    def admit(self, head: Head) -> Request:
        """Return who asks; raises `RequestRefused` as `check_request` and for another member's certificate."""
        standing = self._ready
        request = check_request(head.signature, standing.receiver, head.method, head.path, standing.keys)
        own = standing.peers[request.sender].fingerprints
        if (own or head.fingerprint) and head.fingerprint not in own:
            shown = head.fingerprint.hex() or "no certificate"
            raise RequestRefused(
                "wrong-certificate", f"{request.sender!r} came with {shown}, which is not its own on the ledger"
            )
        return request

    async def answer(self, request: Request, body: bytes) -> Answer:
        """Return the answer to a request that was admitted; raises `RequestRefused`."""
        check_body(request, body)
        try:
            return await self.on_disk(_guarded, self._answer, request, body)
        finally:
            if self._news:
                self.tell()

    async def on_disk(self, act: Callable[..., T], *args: Any) -> T:
        """Return what `act` gives, in the thread that alone uses the store."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, act, *args)

    @property
    def version(self) -> int:
        """A number that grows with each offer, and with each update that has become complete."""
        return self._version

    async def change(self, seen: int, seconds: float) -> int:
        """Return the version once it is another than `seen`, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self._version == seen:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._version

    def tell(self) -> None:
        """Let `change` return."""
        self._version, self._news = self._version + 1, False
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def _ready(self) -> Standing:
        if self.standing is None:
            raise RequestRefused("not-ready", "this gate has not heard from its core yet")
        return self.standing

    def _answer(self, request: Request, body: bytes) -> Answer:
        path = request.path
        if path == "/card":
            _only(request, "GET")
            return self._card()
        if path == "/offers":
            _only(request, "POST")
            return self._offer(body)
        if found := _UPDATE.fullmatch(path):
            number, member, chunk = int(found[1]), found[2], found[3]
            if chunk is None:
                _only(request, "GET")
                return self._update(request, number, member)
            _only(request, "GET", "PUT")
            if request.method == "PUT":
                return self._put(number, member, int(chunk), body)
            return self._chunk(request, number, member, int(chunk))
        if found := _MODEL.fullmatch(path):
            _only(request, "GET")
            return self._model(found[1]) if found[2] is None else self._model_chunk(request, found[1], int(found[2]))
        if found := _PROCEDURE.fullmatch(path):
            _only(request, "GET")
            return self._procedure(request, found[1])
        raise RequestRefused("not-found", f"there is no {path}")

    def _card(self) -> Answer:
        if not self._ready.card:
            raise RequestRefused("not-found", "the core has given no card yet")
        return Answer(self._ready.card)

    def _offer(self, body: bytes) -> Answer:
        offer, standing = Offer.from_bytes(body), self._ready
        largest = standing.expected.get((offer.round, offer.member))
        peer = standing.peers.get(offer.member)
        if largest is None or peer is None or offer.genesis != standing.genesis:
            raise RequestRefused("not-expected", f"no update of {offer.member!r} is expected for round {offer.round}")
        if offer.blob.length > largest:
            raise RequestRefused("too-large", f"an update of {offer.blob.length} bytes is too large: at most {largest}")
        offer.check(peer.public)
        name = update_name(offer.round, offer.member)
        if self.store.blob(name) is None:
            self.store.begin(name, offer.blob, offer.leaves)
        kept = self.store.attachment(name, OFFER)
        if self.store.blob(name) != offer.blob or kept not in (None, body):
            raise RequestRefused("other-offer", f"{offer.member!r} has made another offer for round {offer.round}")
        if kept is None:
            self.store.attach(name, OFFER, body)
            self._news = True
        return Answer.of({"missing": list(self.store.missing(name))})

    def _update(self, request: Request, number: int, member: str) -> Answer:
        self._may_read(request, member)
        name = self._there(number, member)
        offer, wraps = self.store.attachment(name, OFFER), self.store.attachment(name, WRAPS)
        if offer is None:
            # Its core has begun to put it here.
            raise RequestRefused("not-found", f"there is no offer of {member!r} for round {number} here yet")
        missing = list(self.store.missing(name))
        return Answer.of({"offer": offer, "missing": missing, "wraps": wraps or b""})

    def _put(self, number: int, member: str, chunk: int, body: bytes) -> Answer:
        if (number, member) not in self._ready.expected:
            raise RequestRefused("not-expected", f"no update of {member!r} is expected for round {number}")
        name = self._there(number, member)
        was = self.store.complete(name)
        self.store.put(name, chunk, body)
        complete = self.store.complete(name)
        if complete and not was:
            self._news = True
        return Answer.of({"complete": complete})

    def _chunk(self, request: Request, number: int, member: str, chunk: int) -> Answer:
        self._may_read(request, member)
        return Answer(self._stored(self._there(number, member), chunk), kind=BYTES)

    def _model(self, digest: str) -> Answer:
        name = f"model/{digest}"
        blob = self.store.blob(name)
        if blob is None:
            raise RequestRefused("not-found", f"there is no model {digest} here")
        return Answer.of({"blob": blob.to_value(), "leaves": self.store.leaves(name)})

    def _model_chunk(self, request: Request, digest: str, number: int) -> Answer:
        name = f"model/{digest}"
        if self.store.blob(name) is None:
            raise RequestRefused("not-found", f"there is no model {digest} here")
        return self._sealed(request, name, number, model_context(request.genesis, digest, number, request.sender))

    def _procedure(self, request: Request, digest: str) -> Answer:
        name = procedure_name(digest)
        if self.store.blob(name) is None:
            raise RequestRefused("not-found", f"there is no procedure {digest} here: nobody has approved it")
        return self._sealed(request, name, 0, procedure_context(request.genesis, digest, request.sender))

    def _sealed(self, request: Request, name: str, number: int, context: bytes) -> Answer:
        if not request.reply:
            raise RequestRefused("bad-request", f"{name} is only sent sealed: the request must sign a `reply` key")
        sealed = seal(self._stored(name, number), {"reply": request.reply}, context)
        return Answer.of([sealed.ciphertext, sealed.wraps["reply"]])

    def _stored(self, name: str, number: int) -> bytes:
        if number in self.store.missing(name):
            raise RequestRefused("not-found", f"chunk {number} of {name} is not here yet")
        return self.store.chunk(name, number)

    def _there(self, number: int, member: str) -> str:
        name = update_name(number, member)
        if self.store.blob(name) is None:
            raise RequestRefused("not-found", f"there is no update of {member!r} for round {number} here")
        return name

    def _may_read(self, request: Request, member: str) -> None:
        peer = self._ready.peers.get(request.sender)
        if request.sender != member and (peer is None or peer.role != "seat"):
            raise RequestRefused("not-yours", f"{request.sender!r} is no seat: it reads its own updates only")


def update_name(number: int, member: str) -> str:
    """Return the store's name of a member's sealed update for a round."""
    return f"update/{number}/{member}"


def model_context(genesis: bytes, digest: str, number: int, reader: str) -> bytes:
    """Return what a chunk of a model is sealed for, 32 bytes."""
    return tagged("model-chunk", genesis, bytes.fromhex(digest), number.to_bytes(8, "big"), reader.encode())


def procedure_name(digest: str) -> str:
    """Return the store's name of a procedure, which is one chunk long at most."""
    return f"procedure/{digest}"


def procedure_context(genesis: bytes, digest: str, reader: str) -> bytes:
    """Return what a procedure is sealed for, 32 bytes."""
    return tagged("procedure", genesis, bytes.fromhex(digest), reader.encode())


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise RequestRefused("bad-method", f"{request.path} takes {' and '.join(methods)}, not {request.method}")


def _guarded(act: Callable[..., T], *args: Any) -> T:
    """Return what `act` gives, with what the store raises as refusals."""
    try:
        return act(*args)
    except (BadChunk, SealError) as error:
        raise RequestRefused("bad-chunk", str(error)) from error
    except OverQuota as error:
        raise RequestRefused("over-quota", str(error)) from error
    except NotKept as error:
        raise RequestRefused("not-found", str(error)) from error
    except DiskError as error:
        raise RequestRefused("disk", "what is kept here cannot be used") from error
