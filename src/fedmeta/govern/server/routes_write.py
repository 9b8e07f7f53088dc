"""The routes by which transactions come in."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from fedmeta.govern.engines.engine import Applied, Receipt
from fedmeta.govern.errors import Refused
from fedmeta.govern.server.bodies import read_body
from fedmeta.govern.server.json import to_json
from fedmeta.govern.server.models import OutcomeModel, Problem, SequenceModel, WaitingModel
from fedmeta.govern.server.node import Node
from fedmeta.govern.server.problems import problem, refusal
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The signed transaction in canonical CBOR: a list of the genesis's digest, member, sequence "
        "number (0 for a part of a round), kind, fields and the Ed25519 signature.",
        "content": {"application/cbor": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_NO: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 408, 413, 415, 422, 429, 503)}
_TYPES = ("", "application/cbor", "application/octet-stream")


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
    limits = node.limits
    raw = await read_body(request, _TYPES, "a transaction is application/cbor", limits.body_bytes, limits.body_seconds)
    if isinstance(raw, Response):
        return raw
    try:
        member = tx.decode(raw).member
        if seconds := request.app.state.members.missing(member):
            return _too_many(member, seconds)
        receipt = await node.submit(raw, member)
    except Refused as error:
        return await _not_taken(node, error, raw, wait)
    # Only whoever holds the member's key can use up its share.
    request.app.state.members.spend(member)
    return await _acknowledged(node, receipt, wait)


@router.get(
    "/sequence/{member}",
    summary="The next sequence number",
    responses={200: {"model": SequenceModel}, **{status: {"model": Problem} for status in (404, 429, 503)}},
)
async def sequence(request: Request, member: Annotated[str, Path(description="The member's name.")]) -> Response:
    """Return the number that the member's next transaction must carry, after those that wait for a block."""
    return _answer(200, {"sequence": await request.app.state.node.sequence(member)})


async def _acknowledged(node: Node, receipt: Receipt, wait: bool) -> Response:
    if not wait or node.waiting >= node.limits.waiting:
        return _answer(202, {"digest": receipt.digest})
    node.waiting += 1
    try:
        # The transaction stays in the pool, whoever has stopped waiting for it.
        applied = await asyncio.wait_for(
            asyncio.shield(asyncio.wrap_future(receipt.future)), timeout=node.limits.wait_seconds
        )
    except TimeoutError:
        return _answer(202, {"digest": receipt.digest})
    except asyncio.CancelledError:
        if not receipt.future.cancelled():
            raise
        # The node ends, and may still do it or not.
        return _answer(202, {"digest": receipt.digest})
    except Refused as error:
        return refusal(error)
    finally:
        node.waiting -= 1
    return _answer(200, await node.read(node.outcome, applied))


async def _not_taken(node: Node, error: Refused, raw: bytes, wait: bool) -> Response:
    """Answer for bytes that the engine does not take: perhaps it has them already, whatever they are refused for."""
    name = digest(raw)
    # First what waits, then what is in a block: what leaves the one is in the other.
    if (receipt := node.receipts.get(name)) is not None:
        return await _acknowledged(node, receipt, wait)
    place = None if error.code == "malformed" else await node.read(node.engine.transaction, name)
    if place is not None and not place.code:
        return _answer(200, await node.read(node.outcome, Applied(name, place.height, place.position)))
    if error.code == "limit-reached":
        return problem(503, "busy", error.message, retry_after=1)
    return refusal(error)


def _too_many(member: str, seconds: int) -> Response:
    return problem(429, "too-many-requests", f"too many transactions of {member}: come again in {seconds} s", seconds)


def _answer(status: int, value: object) -> Response:
    return Response(to_json(value), status, media_type="application/json")
