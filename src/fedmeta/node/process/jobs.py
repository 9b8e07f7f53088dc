"""Between a core and its trainer: jobs over a socket that has two ends and no name.

A message is the length of its head in 4 bytes, most significant first; the head in canonical CBOR, a map that says also
how long each of the blobs is that follow; and these. The core asks one thing at a time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fedmeta.govern.wire import codec
from fedmeta.node.errors import MessageRefused, NotDone, Unreachable

HALTED = 3
"""The exit code of a process that must not go on by itself: a person must look first."""

LARGEST_HEAD = 1 << 20
LARGEST_BLOB = 1 << 33

GIVEN_UP = 600.0
"""Seconds that a trainer may go on with a job that nobody waits for any more, before its node starts anew."""

Answer = tuple[dict[str, Any], list[bytes]]


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


class Jobs:
    """The core's end: one job at a time, in the order in which they are asked.

    Args:
        channel: The socket to the trainer.
        ended: Is called, in the loop, with why there is no trainer any more that could do anything.
    """

    def __init__(self, channel: socket.socket, ended: Callable[[str], None]):
        self._channel, self._ended = channel, ended
        # A thread of their own: jobs that wait for one another must not keep a promise from the disk.
        self._thread = ThreadPoolExecutor(1, "trainer")

    async def ask(self, job: str, blobs: Sequence[bytes | memoryview] = (), **head: Any) -> Answer:
        """Let the trainer do something, and return what it answers, and the blobs that it gives.

        What is cancelled before it is begun is not asked. What is cancelled later, such as training for a round that is
        over, the trainer goes on with for `GIVEN_UP` seconds at most, and then it has ended.

        Raises:
            MessageRefused: what it was given is not well formed.
            NotDone: the trainer cannot do it.
            Unreachable: there is no trainer any more.
        """

        def do() -> Answer:
            send(self._channel, {"job": job, **head}, blobs)
            return receive(self._channel)

        loop = asyncio.get_running_loop()
        doing = self._thread.submit(do)
        try:
            answer, given = await asyncio.wrap_future(doing)
        except asyncio.CancelledError:
            if doing.running():
                loop.call_later(GIVEN_UP, self._give_up, job, doing)
            raise
        except (EOFError, OSError) as error:
            self._ended(f"the trainer has ended: {error}")
            raise Unreachable(f"the trainer has ended: {error}") from error
        if "refused" in answer:
            raise MessageRefused(answer["refused"])
        if "failed" in answer:
            raise NotDone(answer["failed"])
        return answer, given

    def _give_up(self, job: str, doing: Future) -> None:
        if not doing.done():
            self._ended(f"the trainer is still at a job that nobody waits for any more: {job}")

    def close(self) -> None:
        """Let nobody wait for the trainer any more, whatever it is at."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.shutdown(wait=False, cancel_futures=True)


def _exactly(channel: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        got = channel.recv_into(view[at:])
        if not got:
            raise EOFError("the other end is gone")
        at += got
    return data
