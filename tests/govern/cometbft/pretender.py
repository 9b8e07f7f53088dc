"""Takes the place of CometBFT where its process is watched: `start --home FOLDER` does what FOLDER/do says.

"exit CODE" ends at once; "fail" logs a consensus failure and lives on; "deaf" does not hear SIGTERM; "live" lives. As
long as it lives it says over its RPC that the height is the one in FOLDER/height.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

folder = Path(sys.argv[3])
what, *more = (folder / "do").read_text().split()
print("started", os.getpid(), flush=True)
if what == "exit":
    sys.exit(int(more[0]))
if what == "fail":
    print(f"I[0] {'long ' * 30_000}\nE[0] CONSENSUS FAILURE!!! module=consensus err=wrong\nstack", flush=True)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(folder / "rpc.sock"))
    server.listen()
    while True:
        connection, _ = server.accept()
        # Who asked may have gone.
        with connection, contextlib.suppress(OSError):
            if not connection.recv(65_536):
                continue
            sync = {"latest_block_height": (folder / "height").read_text(), "earliest_block_height": "1"}
            sync |= {"latest_app_hash": "", "catching_up": False}
            own = {"address": "", "voting_power": "1"}
            result = {"node_info": {"id": "0" * 40}, "sync_info": sync, "validator_info": own}
            body = json.dumps({"jsonrpc": "2.0", "id": 0, "result": result})
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode())
