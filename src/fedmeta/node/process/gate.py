"""The gate: the only process of a super node that listens; it has neither data nor the keys that sign."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fedmeta.govern.wire.signatures import digest
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import MemberError
from fedmeta.node.member.outbox import FILE, Outbox
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.gate import Gate
from fedmeta.node.transport.local import LocalServer
from fedmeta.node.transport.server import Server

SOCKET = "core.sock"
"""The socket in the gate's folder to which its core dials."""


def serve(arguments: dict[str, Any]) -> int:
    """Listen until it is told to end.

    Args:
        arguments: `folder`, the gate's; `host` and `port`; `quota` in bytes; `core`, the user that may tell it what to
            do. The TLS certificate and its key come by standard input: nothing else of the node's folder is read.
    """
    try:
        return asyncio.run(_serve(arguments, sys.stdin.buffer.read()))
    except (MemberError, OSError) as error:
        print(f"fedmeta: the gate: {error}", file=sys.stderr)
        return 1


async def _serve(arguments: dict[str, Any], pem: bytes) -> int:
    folder = Path(arguments["folder"])
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, ended.set)
    with BlobStore(folder / "blobs", arguments["quota"]) as store:
        outbox = Outbox(folder / FILE)

        def record(to: str, what: str, detail: str, body: bytes) -> None:
            outbox.record(to=to, what=what, size=len(body), digest=digest(body), why="it was asked for", detail=detail)

        gate = Gate(store, record)
        server = Server(gate, Certificate.from_pem(pem))
        local = LocalServer(gate, (arguments["core"],))
        # Whoever dials is asked for its user: the folder only lets the core through to the socket.
        await local.start(folder / SOCKET, 0o666)
        port = await server.start(arguments["host"], arguments["port"])
        print(f"the gate listens at {arguments['host']}:{port}", flush=True)
        parent = os.getppid()
        while not ended.is_set() and os.getppid() == parent:
            try:
                await asyncio.wait_for(ended.wait(), 1.0)
            except TimeoutError:
                continue
        await server.close()
        await local.close()
        gate.close()
    return 0
