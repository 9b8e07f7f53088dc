"""A request's body, read whole or not at all."""

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from fedmeta.govern.server.problems import problem


class _Unfit(Exception):
    """A body that is not read; it holds the answer."""

    def __init__(self, answer: Response):
        self.answer = answer


async def read_body(
    request: Request, types: tuple[str, ...], what: str, largest: int, seconds: int | float
) -> bytes | Response:
    """Return the body of a request; or the answer to one of another type, too large or too slow, however framed.

    Args:
        request: what came.
        types: those that it may be of, "" where it may say nothing.
        what: it should be, for messages: "a transaction is application/cbor".
        largest: bytes.
        seconds: that it may take.
    """
    try:
        return await _read(request, types, what, largest, seconds)
    except _Unfit as unfit:
        return unfit.answer


async def _read(request: Request, types: tuple[str, ...], what: str, largest: int, seconds: int | float) -> bytes:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in types:
        raise _Unfit(problem(415, "malformed", f"the content type is {given[:80]!r}: {what}"))
    large = problem(413, "too-large", f"the body is larger than {largest} bytes: it never has to be")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > largest:
        raise _Unfit(large)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    raise _Unfit(large)
    except TimeoutError as error:
        raise _Unfit(problem(408, "malformed", f"the body did not come within {seconds} s")) from error
    except ClientDisconnect as error:
        raise _Unfit(problem(400, "malformed", "the body is not whole")) from error
    return bytes(body)
