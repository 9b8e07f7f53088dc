"""The routes by which transactions come in."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from fedmeta.govern import transactions as tx
from fedmeta.govern.engines.embedded import Applied, Receipt
from fedmeta.govern.errors import Refused
from fedmeta.govern.http.limits import Limits
from fedmeta.govern.http.models import OutcomeModel, Problem, SequenceModel, WaitingModel
from fedmeta.govern.http.node import Node
from fedmeta.govern.http.problems import problem, refusal
from fedmeta.govern.http.shape import to_json
from fedmeta.govern.signatures import digest

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The signed transaction in canonical CBOR: a list of chain id, member, sequence number, kind, "
        "fields and the Ed25519 signature.",
        "content": {"application/cbor": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_NO: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 408, 413, 422, 429, 503)}


class _Unfit(Exception):
    """A body that is not read; it holds the answer."""

    def __init__(self, answer: Response):
        self.answer = answer


@router.post(
    "/transactions",
    summary="Send a transaction",
    responses={200: {"model": OutcomeModel}, 202: {"model": WaitingModel}, **_NO},
    openapi_extra=_BODY,
)
async def send(
    request: Request,
    wait: Annotated[bool, Query(description="Whether the answer waits until the block is on the disk.")] = True,
) -> Response:
    """Take a signed transaction, and answer with what it did once its block is on the disk.

    With `wait=false`, or when that takes too long, the answer is 202: it is checked and waits for a block. Bytes that
    are in a block already are not done again: the answer is what they did.
    """
    node: Node = request.app.state.node
    try:
        raw = await _body(request, node.limits)
    except _Unfit as unfit:
        return unfit.answer
    try:
        member = tx.decode_cached(raw).member
        if seconds := request.app.state.members.missing(member):
            return _too_many(member, seconds)
        receipt = await node.submit(raw, member)
    except Refused as error:
        return await _not_taken(node, error, raw)
    # Only whoever holds the member's key can use up its share.
    request.app.state.members.take(member)
    if not wait:
        return _answer(202, {"digest": receipt.digest})
    return await _acknowledged(node, receipt)


@router.get(
    "/sequence/{member}",
    summary="The next sequence number",
    responses={200: {"model": SequenceModel}, 422: {"model": Problem}},
)
async def sequence(request: Request, member: str) -> Response:
    """Return the number that the member's next transaction must carry, after those that wait for a block."""
    return _answer(200, {"sequence": await request.app.state.node.sequence(member)})


async def _acknowledged(node: Node, receipt: Receipt) -> Response:
    if node.waiting >= node.limits.waiting:
        return _answer(202, {"digest": receipt.digest})
    node.waiting += 1
    try:
        # The transaction stays in the pool, whoever has stopped waiting for it.
        applied = await asyncio.wait_for(
            asyncio.shield(asyncio.wrap_future(receipt.future)), timeout=node.limits.wait_seconds
        )
    except TimeoutError:
        return _answer(202, {"digest": receipt.digest})
    except Refused as error:
        return refusal(error)
    finally:
        node.waiting -= 1
    return _answer(200, await node.read(node.outcome, applied))


async def _not_taken(node: Node, error: Refused, raw: bytes) -> Response:
    if error.code == "limit-reached":
        return problem(503, "busy", error.message, retry_after=1)
    if error.code == "stale-sequence":
        name = digest(raw)
        place = await node.read(node.engine.transaction, name)
        if place is not None and not place.code:
            return _answer(200, await node.read(node.outcome, Applied(name, place.height, place.position)))
        if (receipt := node.receipts.get(name)) is not None:
            return await _acknowledged(node, receipt)
    return refusal(error)


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the request's body; raises `_Unfit` for one that is too large or too slow, however it is framed."""
    large = problem(413, "too-large", f"the body is larger than {limits.body_bytes} bytes: a transaction never is")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _Unfit(large)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.body_bytes:
                    raise _Unfit(large)
    except TimeoutError as error:
        late = f"the body did not come within {limits.body_seconds} s"
        raise _Unfit(problem(408, "malformed", late)) from error
    except ClientDisconnect as error:
        raise _Unfit(problem(400, "malformed", "the body is not whole")) from error
    return bytes(body)


def _too_many(member: str, seconds: int) -> Response:
    return problem(429, "too-many-requests", f"too many transactions of {member}: come again in {seconds} s", seconds)


def _answer(status: int, value: object) -> Response:
    return Response(to_json(value), status, media_type="application/json")
