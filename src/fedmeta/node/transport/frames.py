"""Values over a local socket: a frame is 4 bytes of length, most significant first, and canonical CBOR."""

import asyncio
from typing import Any

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node.wire.chunks import CHUNK

MAX_FRAME = 2 * CHUNK
"""The most bytes of a frame."""


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Return the next value; raises `EOFError` at the end and `Malformed` for what is no frame."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME:
            raise Malformed(f"a frame of {size} bytes is too large: at most {MAX_FRAME}")
        data = await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise EOFError("the other side has closed the local socket") from error
    return codec.decode(data, limit=MAX_FRAME)


async def write_frame(writer: asyncio.StreamWriter, value: Any) -> None:
    """Send a value; raises `Malformed` where it is too large."""
    data = codec.encode(value)
    if len(data) > MAX_FRAME:
        raise Malformed(f"a frame of {len(data)} bytes is too large: at most {MAX_FRAME}")
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()
