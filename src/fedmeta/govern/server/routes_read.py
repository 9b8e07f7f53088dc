"""The routes by which a node is asked: what was, what is, and what proves it."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from fedmeta.govern.engines.engine import Applied, Engine
from fedmeta.govern.errors import Refused, StateError
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.header import SignedHeader, encode_signed
from fedmeta.govern.server.json import json_form, to_json
from fedmeta.govern.server.models import (
    BlockModel,
    ExplanationModel,
    GenesisModel,
    HeaderModel,
    Problem,
    ProofModel,
    QueryModel,
    StatusModel,
    TransactionModel,
)
from fedmeta.govern.server.node import Node
from fedmeta.govern.server.problems import no_answer, problem
from fedmeta.govern.server.stream import EventStream, disconnected
from fedmeta.govern.state.records import Chain
from fedmeta.govern.views import queries
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.layout import LAYOUTS
from fedmeta.govern.wire.merkle import Proof
from fedmeta.govern.wire.schema import MAX_COUNT

router = APIRouter()

CBOR = "application/cbor"

_PIECE = 1 << 16

_BINARY: dict[str, Any] = {"description": "In JSON, or in canonical CBOR if that is accepted.", "content": {CBOR: {}}}
_TEXT: dict[str, Any] = {"description": "In JSON, or as text if text/plain is accepted.", "content": {"text/plain": {}}}
_NO: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 404, 429, 503)}
_OLD: dict[int | str, dict[str, Any]] = {410: {"model": Problem, "description": "It was pruned."}, **_NO}
_Any = dict[str, Any] | list[Any]
_Height = Annotated[int, Path(ge=1, le=MAX_COUNT, description="Of the block; the first has 1.")]
_First = Annotated[
    bool, Query(description="The first that there is from this height on: blocks in which nothing happened have none.")
]


@router.get("/status", summary="Where the node is", responses={200: {"model": StatusModel}, **_NO})
async def status(request: Request) -> Response:
    """Return the chain, its last block, its term and round, and how the node is."""
    node: Node = request.app.state.node
    return _json(await node.read(_status, node))


def _now(application: Application) -> tuple[Chain, int, int]:
    return application.chain, application.height, application.time


def _status(node: Node) -> dict[str, Any]:
    engine = node.engine
    chain, height, time = engine.read(_now)
    return {
        "chain_id": chain.chain_id,
        "height": engine.height,
        "time": engine.time,
        "decided": {"height": height, "time": time},
        "app_hash": engine.app_hash,
        "genesis": engine.origin.digest,
        "sequencer": engine.origin.sequencer,
        "term": chain.term,
        "round": chain.round,
        "first_block": engine.first,
        "pending": engine.pending,
        "fault": node.fault,
        "version": version("fedmeta"),
    }


@router.get(
    "/genesis",
    summary="What the ledger began with",
    responses={200: {"model": GenesisModel, **_BINARY}, 304: {"description": "The asker has it."}, **_NO},
)
async def genesis(request: Request) -> Response:
    """Return the genesis; the SHA-256 of its canonical CBOR is the chain's true name.

    It never changes: whoever has it, in the same form, can say so by `If-None-Match`.
    """
    node: Node = request.app.state.node
    binary = CBOR in request.headers.get("accept", "")
    tag = f'W/"{node.engine.origin.digest.hex()}-{"cbor" if binary else "json"}"'
    # To be kept, but asked for: another node may be at this address tomorrow.
    headers = {"etag": tag, "cache-control": "no-cache", "vary": "accept"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    found = await node.genesis(binary)
    headers["content-length"] = str(len(found))
    return StreamingResponse(_pieces(found), headers=headers, media_type=CBOR if binary else "application/json")


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """Yield what is large in pieces, each once the one before has gone out: no reader has the node keep a copy."""
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]


@router.get("/blocks/{height}", summary="A block", responses={200: {"model": BlockModel, **_BINARY}, **_OLD})
async def block(request: Request, height: _Height, first: _First = False) -> Response:
    """Return a block whole; in CBOR it is a list of the signed header's bytes and the list of transactions."""
    node: Node = request.app.state.node
    return await node.read(_block, node, height, first, request)


def _block(node: Node, height: int, first: bool, request: Request) -> Response:
    engine = node.engine
    if first:
        height = engine.first_from(height) or height
    # The events first: they are pruned together with the block.
    events = [pair for _, pairs in engine.events(height, height) for pair in pairs]
    signed, found = engine.header(height), engine.block(height)
    if signed is None:
        return _absent(node, height)
    if found is None:
        return _pruned(engine.first, height)
    return _either(
        request,
        lambda: codec.encode([encode_signed(signed), list(found.items)]),
        lambda: {
            "header": _header(signed),
            "transactions": list(found.transactions),
            "events": [{"kind": kind, "fields": fields} for kind, fields in events],
        },
    )


@router.get("/headers/{height}", summary="A signed header", responses={200: {"model": HeaderModel, **_BINARY}, **_NO})
async def header(request: Request, height: _Height, first: _First = False) -> Response:
    """Return the signed header of a block; headers are never pruned."""
    node: Node = request.app.state.node
    signed = await node.read(_signed, node.engine, height, first)
    if signed is None:
        return _absent(node, height)
    return _either(request, partial(encode_signed, signed), partial(_header, signed))


@router.get(
    "/transactions/{digest}", summary="A transaction in a block", responses={200: {"model": TransactionModel}, **_NO}
)
async def transaction(
    request: Request,
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of its bytes, in hex.")],
) -> Response:
    """Return a transaction that was applied, and what it did."""
    node: Node = request.app.state.node
    return await node.read(_transaction, node, bytes.fromhex(digest))


def _transaction(node: Node, digest: bytes) -> Response:
    place = node.engine.transaction(digest)
    found = None if place is None else node.engine.block(place.height)
    if place is None or found is None:
        return problem(404, "not-found", f"no block that is kept has a transaction {digest.hex()}")
    raw = found.transactions[place.position]
    signed = tx.decode(raw)
    return _json(
        {
            **node.outcome(Applied(digest, place.height, place.position)),
            "member": signed.member,
            "sequence": signed.sequence,
            "kind": signed.kind,
            "body": signed.body,
            "raw": raw,
        }
    )


@router.get("/query", summary="What can be asked", responses={200: {"model": list[QueryModel]}, **_NO})
async def query_names(request: Request) -> Response:
    """Return every query's name, with its meaning and its arguments: their types, and defaults where they have one."""
    return _json(
        [
            {
                "name": name,
                "meaning": one.meaning,
                "arguments": {key: kind.__name__ for key, kind in one.arguments.items()},
                "optional": one.optional,
            }
            for name, one in queries.QUERIES.items()
        ]
    )


@router.get("/query/{name}", summary="Ask about the present state", responses={200: {"model": _Any}, **_NO})
async def query(
    request: Request, name: Annotated[str, Path(description="One of those that `/query` lists.")]
) -> Response:
    """Answer a query; its arguments are the parameters of the address."""
    node: Node = request.app.state.node
    try:
        arguments = {key: _argument(name, key, value) for key, value in request.query_params.items()}
        return await node.read(lambda: _json(node.engine.query(name, arguments)))
    except Refused as error:
        return no_answer(error)


def _argument(name: str, key: str, value: str) -> Any:
    found = queries.QUERIES.get(name)
    return value if found is None else _typed(found.arguments.get(key, str), value, key)


@router.get(
    "/explain/{member}",
    summary="Why a member was paid what",
    responses={200: {"model": ExplanationModel, **_TEXT}, **_NO},
)
async def explain(
    request: Request,
    member: Annotated[str, Path(description="The member's name.")],
    term: Annotated[int | None, Query(ge=1, le=MAX_COUNT, description="The term; all if absent.")] = None,
) -> Response:
    """Return why a member's holdings changed: each term of the sum, with its arithmetic, and a check of the whole."""
    node: Node = request.app.state.node
    peer = request.state.peer
    if many := node.explanations.take(peer):
        return problem(503, "busy", many, retry_after=5)
    try:
        found = await node.explainer.explain(member, term, disconnected(request.receive))
    except Refused as error:
        return no_answer(error)
    except StateError as error:
        # Blocks were pruned while they were read.
        return problem(503, "busy", str(error), retry_after=1)
    finally:
        node.explanations.leave(peer)
    if found is None:
        return problem(503, "busy", "the node ends: the explanation was given up", retry_after=5)
    if "text/plain" in request.headers.get("accept", ""):
        return Response(await node.read(found.render) + "\n", media_type="text/plain")
    return await node.read(lambda: _json(found.to_value()))


@router.get("/proof/{kind}", summary="A record and its proof", responses={200: {"model": ProofModel, **_BINARY}, **_NO})
async def proof(
    request: Request,
    kind: Annotated[str, Path(description="Of the record, such as `member`.")],
    key: Annotated[
        list[str] | None, Query(description="The values of the record's key, in order; bytes in hex.")
    ] = None,
) -> Response:
    """Return a record with the proof that it is in the ledger.

    In CBOR it is a list of the signed header's bytes and of the proof: leaf, index, size and path.
    """
    node: Node = request.app.state.node
    try:
        record, found, height = await node.read(node.engine.prove, kind, *_key(kind, key or []))
    except Refused as error:
        return no_answer(error)
    except StateError as error:
        return problem(404, "not-found", str(error))
    if not height:
        return problem(404, "not-found", "there is no block yet: the genesis proves itself")
    # What the proof leads to is settled, also if the state goes on meanwhile.
    if not await node.certified(height):
        late = f"block {height} is decided, but nobody has certified its header yet"
        return problem(503, "busy", late, retry_after=1)
    return await node.read(_proof, node, kind, record, found, height, request)


def _proof(node: Node, kind: str, record: Any, found: Proof, height: int, request: Request) -> Response:
    signed = node.engine.header(height)
    assert signed is not None
    return _either(
        request,
        lambda: codec.encode([encode_signed(signed), found.to_value()]),
        lambda: {"kind": kind, "record": record, "header": _header(signed), **json_form(found)},
    )


def _key(kind: str, parts: list[str]) -> list[Any]:
    """Return a record's key of its texts; raises `Refused` for one that cannot be."""
    found = LAYOUTS.get(kind)
    if found is None:
        raise Refused("not-found", f"no record is of kind {kind[:40]!r}: there are {', '.join(sorted(LAYOUTS))}")
    if len(parts) != len(found.key):
        wanted = ", ".join(found.key) or "nothing"
        raise Refused("bad-value", f"the key of a {kind} has {len(found.key)} values: {wanted}, not {len(parts)}")
    return [_typed(kind, part, name) for kind, part, name in zip(found.key_types, parts, found.key, strict=True)]


def _typed(kind: type, text: str, name: str) -> Any:
    if kind is int:
        return _whole(text, name)
    if kind is bytes:
        try:
            return bytes.fromhex(text)
        except ValueError as error:
            raise Refused("bad-value", f"{name} is {text[:80]!r}: it must be in hex") from error
    return text


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise Refused("bad-value", f"{name} is {text[:40]!r}: it must be a whole number")
    return int(text)


@router.get(
    "/events",
    summary="Follow the events",
    response_class=Response,
    responses={
        200: {"description": "Server-sent events, without end.", "content": {"text/event-stream": {}}},
        **_OLD,
    },
)
async def events(
    request: Request,
    from_height: Annotated[
        int | None, Query(ge=0, le=MAX_COUNT, description="The first block; 0 is genesis. The next one if absent.")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The last block that came whole; goes before.")] = None,
) -> Response:
    """Stream the events of every block from a height on: `event` is the kind, `data` the JSON of height and fields.

    A block ends with an event `block`, which holds the header; only that one has an `id`, the height. Who reconnects
    with it in `Last-Event-ID` gets the next block, and after a break within a block that block again.
    """
    node: Node = request.app.state.node
    height = node.engine.height + 1 if from_height is None else from_height
    if last_event_id:
        height = _whole(last_event_id, "Last-Event-ID") + 1
    first = await node.read(_first, node.engine)
    if height < first > 1:
        return _pruned(first, height)
    if height > node.engine.height + 1:
        return _absent(node, height - 1)
    return EventStream(node, height, request.state.peer)


def _signed(engine: Engine, height: int, first: bool) -> SignedHeader | None:
    return engine.header((engine.first_from(height) or height) if first else height)


def _header(signed: SignedHeader) -> dict[str, Any]:
    return {**json_form(signed.header), "hash": signed.header.hash.hex(), "certificate": signed.certificate.hex()}


def _absent(node: Node, height: int) -> Response:
    if height <= node.engine.height:
        return problem(404, "not-found", f"nothing happened in block {height}: it has no header")
    return problem(404, "not-found", f"there is no block {height} yet: the last one is {node.engine.height}")


def _first(engine: Engine) -> int:
    return engine.first


def _pruned(first: int, height: int) -> Response:
    return problem(410, "pruned", f"block {height} was pruned: the oldest that is kept is {first}")


def _either(request: Request, binary: Callable[[], bytes], value: Callable[[], Any]) -> Response:
    """Return CBOR to who accepts it, and JSON to all others."""
    if CBOR in request.headers.get("accept", ""):
        return Response(binary(), media_type=CBOR)
    return _json(value())


def _json(value: Any) -> Response:
    return Response(to_json(value), media_type="application/json")
