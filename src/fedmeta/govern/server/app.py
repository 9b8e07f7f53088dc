"""The application of a node: what it answers over HTTP, and what it refuses before it costs anything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fedmeta.govern.engines.engine import Engine
from fedmeta.govern.errors import NodeBusy, Refused, StoreError
from fedmeta.govern.server import routes_light, routes_read, routes_write
from fedmeta.govern.server.limits import Buckets, Limits, peer_key
from fedmeta.govern.server.making import Maker
from fedmeta.govern.server.node import Node
from fedmeta.govern.server.problems import no_answer, problem

DESCRIPTION = """
A node of a fedmeta ledger. What is asked is answered in JSON, bytes in hex; whole numbers are exact and may be larger
than 2^53. What is signed or proven also comes in canonical CBOR, for `Accept: application/cbor`.

Every answer that is no has a `code` and a `message`: 400 for what is malformed, 404 for what is not there, 408 for what
comes too slowly, 410 for what was pruned, 413 for what is too large, 415 for what is of another type, 422 for what the
ledger refuses, 429 for too many requests, and 503 when the node is busy or ends; the last two say in `Retry-After` when
to come again.
"""


def create_app(engine: Engine, maker: Maker, limits: Limits | None = None) -> FastAPI:
    """Return the application of a node, an ASGI application; its lifespan makes the blocks.

    Args:
        engine: It must be open; whoever opened it closes it, after the application has ended.
        maker: Who makes the blocks.
        limits: What is taken from whom.
    """
    taken = limits or Limits()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        making = asyncio.create_task(node.run())
        making.add_done_callback(lambda task: app.state.ended(task))
        try:
            yield
        finally:
            node.stop()
            await asyncio.gather(making, return_exceptions=True)
            # Not on the event loop, which lets those go that are left.
            await asyncio.to_thread(node.close)

    app = FastAPI(
        title="fedmeta ledger",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        # The pages that show the description would fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    node = app.state.node = Node(engine, taken, maker)
    app.state.members = Buckets(taken.member_rate, taken.member_burst, taken.remembered)
    app.state.ended = lambda task: None
    app.include_router(routes_write.router)
    app.include_router(routes_read.router)
    app.include_router(routes_light.router)
    app.add_middleware(PeerLimit, buckets=Buckets(taken.peer_rate, taken.peer_burst, taken.remembered))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StoreError, _broken)
    app.add_exception_handler(NodeBusy, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _failed)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        found = described()
        for answers in [route["responses"] for path in found["paths"].values() for route in path.values()]:
            # What does not fit a parameter is answered by 400 here.
            if answers.get("422", {}).get("description") == "Validation Error":
                del answers["422"]
        for unused in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(unused, None)
        return found

    app.openapi = openapi  # type: ignore[method-assign]
    return app


class PeerLimit:
    """Answers 429 to an address that asks too often."""

    def __init__(self, app: ASGIApp, buckets: Buckets):
        self._app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or not."""
        if scope["type"] == "http":
            peer = peer_key(scope["client"][0] if scope.get("client") else "")
            scope.setdefault("state", {})["peer"] = peer
            if wait := self._buckets.take(peer):
                answer = problem(429, "too-many-requests", f"too many requests: come again in {wait} s", wait)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return no_answer(error)


def _broken(request: Request, error: Exception) -> Response:
    return problem(503, "busy", str(error), retry_after=10)


def _busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, NodeBusy)
    return problem(503, "busy", str(error), retry_after=error.seconds)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return problem(400, "malformed", f"{where} is {first.get('input')!r:.80}: {first['msg']}")


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not-found", 405: "not-allowed"}
    said = f"{request.scope['path']:.200}: {error.detail}"
    answer = problem(error.status_code, codes.get(error.status_code, "malformed"), said)
    answer.headers.update(error.headers or {})
    return answer
