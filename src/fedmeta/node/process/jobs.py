"""Between a core and its trainer: jobs over a socket that has two ends and no name.

A message is the length of its head in 4 bytes, most significant first; the head in canonical CBOR, a map that says also
how long each of the blobs is that follow; and these. The core asks one thing at a time.
"""

import socket
from collections.abc import Sequence
from typing import Any

from fedmeta.govern.wire import codec

HALTED = 3
"""The exit code of a process that must not go on by itself: a person must look first."""

LARGEST_HEAD = 1 << 20
LARGEST_BLOB = 1 << 33


def send(channel: socket.socket, head: dict[str, Any], blobs: Sequence[bytes | memoryview] = ()) -> None:
    """Send a message; raises `OSError` where the other end is gone."""
    data = codec.encode({**head, "blobs": [len(one) for one in blobs]})
    channel.sendall(len(data).to_bytes(4, "big") + data)
    for one in blobs:
        channel.sendall(one)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[bytes]]:
    """Return the head and the blobs of the next message; raises `EOFError` where the other end is gone."""
    length = int.from_bytes(_exactly(channel, 4), "big")
    if length > LARGEST_HEAD:
        raise EOFError(f"a head of {length} bytes is too large: the other end speaks otherwise")
    head = codec.decode(bytes(_exactly(channel, length)), limit=LARGEST_HEAD)
    sizes = head.pop("blobs")
    if sum(sizes) > LARGEST_BLOB:
        raise EOFError(f"blobs of {sum(sizes)} bytes are too large")
    return head, [bytes(_exactly(channel, one)) for one in sizes]


def _exactly(channel: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        got = channel.recv_into(view[at:])
        if not got:
            raise EOFError("the other end is gone")
        at += got
    return data
