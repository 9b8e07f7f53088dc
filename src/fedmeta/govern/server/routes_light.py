"""What a light client of CometBFT asks, and nothing else: new nodes that begin by a snapshot check it by that."""

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from fedmeta.govern.errors import EngineError
from fedmeta.govern.server.bodies import read_body
from fedmeta.govern.server.models import LightModel, Problem
from fedmeta.govern.server.node import Node

router = APIRouter()

LARGEST = 4_096
"""Bytes of a question."""

METHODS: dict[str, tuple[str, ...]] = {
    "commit": ("height",),
    "validators": ("height", "page", "per_page"),
    "consensus_params": ("height",),
}
"""What may be asked, each with its arguments: whole numbers as text, all of which may be left out."""

_TYPES = ("", "application/json", "text/json")
_UNKNOWN, _INVALID, _FAILED = -32601, -32600, -32603
_BODY = {
    "requestBody": {
        "required": True,
        "description": f"A call of JSON-RPC 2.0, of {', '.join(METHODS)}.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_NO: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 408, 413, 415, 429, 503)}


@router.post(
    "/light",
    summary="What a light client of CometBFT asks",
    responses={200: {"model": LightModel}, **_NO},
    openapi_extra=_BODY,
)
async def light(request: Request) -> Response:
    """Answer as CometBFT's RPC does, for these methods alone: `commit`, `validators`, `consensus_params`.

    A new node gives this address as one of its `rpc_servers`. All that is shown is signed by validators, or hashed in
    what they sign. Where a sequencer orders the blocks every method is unknown.
    """
    node: Node = request.app.state.node
    body = await read_body(request, _TYPES, "a call is application/json", LARGEST, node.limits.body_seconds)
    if isinstance(body, Response):
        return body
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return _error(None, _INVALID, "the body is no JSON")
    if not isinstance(call, dict) or not isinstance(call.get("id", 0), int | str):
        return _error(None, _INVALID, "a call is one map, with method, params and id")
    name, method = call.get("id"), call.get("method")
    parameters = call.get("params") or {}
    if not (node.maker.shows_blocks and isinstance(method, str) and method in METHODS):
        return _error(name, _UNKNOWN, f"there is no method {method!r:.40} here")
    if not isinstance(parameters, dict) or not all(
        key in METHODS[method] and _whole(value) for key, value in parameters.items()
    ):
        return _error(name, _INVALID, f"{method} takes {', '.join(METHODS[method])}, each a whole number as text")
    try:
        found = await node.light(method, {key: value for key, value in parameters.items() if value is not None})
    except EngineError as error:
        return _error(name, _FAILED, str(error))
    return _answer({"jsonrpc": "2.0", "id": name, "result": found})


def _whole(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20)


def _error(name: Any, code: int, message: str) -> Response:
    return _answer({"jsonrpc": "2.0", "id": name, "error": {"code": code, "message": message, "data": ""}})


def _answer(value: object) -> Response:
    return Response(json.dumps(value), media_type="application/json")
