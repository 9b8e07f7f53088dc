"""The event stream: server-sent events, block by block, for as long as a reader keeps up."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fedmeta.govern.server.node import Node
from fedmeta.govern.server.problems import problem

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_HEARTBEAT = b": alive\n\n"

ABORT = "fedmeta.abort"
"""The extension of a server by which a connection is dropped, with what its reader has not taken yet."""


class EventStream(Response):
    """The events of a node from a height on.

    One block at most is in memory for each reader: the next is read when this one has gone out.
    """

    def __init__(self, node: Node, from_height: int, peer: str):
        super().__init__(media_type="text/event-stream")
        self._node = node
        self._height = from_height
        self._peer = peer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, stalls, or the server stops; 503 if there are too many streams."""
        if many := self._node.streams.take(self._peer):
            answer = problem(503, "busy", many, retry_after=self._node.limits.heartbeat_seconds)
            await answer(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send)
        finally:
            self._node.streams.leave(self._peer)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(self._send(send)), asyncio.create_task(disconnected(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for one in ended:
            # A reader that is gone, or that takes nothing, is no fault of the server.
            if isinstance(one, Exception) and not isinstance(one, OSError):
                raise one
        abort = (scope.get("extensions") or {}).get(ABORT)
        if isinstance(ended[0], TimeoutError) and abort is not None:
            abort()
            await disconnected(receive)

    async def _send(self, send: Send) -> None:
        node, limits = self._node, self._node.limits

        async def put(body: bytes, more: bool = True) -> None:
            async with asyncio.timeout(limits.stall_seconds):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await put(_HEARTBEAT)
        while not node.closing.is_set():
            news = node.news
            if self._height > node.engine.height:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limits.heartbeat_seconds):
                        await news.wait()
                    continue
                await put(_HEARTBEAT)
                continue
            body = await node.messages(self._height)
            if not body:
                # Pruned since: the reader was too slow, and is told so when it asks again.
                break
            await put(body)
            self._height += 1
        await put(b"", more=False)


async def disconnected(receive: Receive) -> None:
    """Return once whoever asked has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
