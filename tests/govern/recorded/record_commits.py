"""What a real network of four CometBFT validators answers over its RPC, kept in `commits.json`.

`python -m tests.govern.recorded.record_commits COMETBFT` records it anew, with the binary of that path. The
application is CometBFT's own `kvstore`. One validator's power is changed on the way, and one is stopped.
"""

import base64
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

PATH = Path(__file__).parent / "commits.json"

HOSTS = [f"127.0.77.{number}" for number in range(1, 5)]
PATIENCE = 60


def ask(question: str, host: str = HOSTS[0]) -> Any:
    with urllib.request.urlopen(f"http://{host}:26657/{question}", timeout=10) as answer:
        return json.load(answer)["result"]


def send(transaction: str) -> int:
    """Send a transaction; return the height of its block."""
    return int(ask(f'broadcast_tx_commit?tx="{quote(transaction)}"')["height"])


def wait(height: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if int(ask("status")["sync_info"]["latest_block_height"]) >= height:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the network did not come to height {height}")


def configure(home: Path, host: str) -> None:
    path = home / "config" / "config.toml"
    text = re.sub(r'^proxy_app = .*"', 'proxy_app = "kvstore"', path.read_text(), flags=re.M)
    text = text.replace('"tcp://127.0.0.1:26657"', f'"tcp://{host}:26657"')
    text = text.replace('"tcp://0.0.0.0:26656"', f'"tcp://{host}:26656"')
    path.write_text(text.replace("allow_duplicate_ip = false", "allow_duplicate_ip = true"))


def record(binary: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [binary, "testnet", "--v", "4", "--o", folder, "--starting-ip-address", HOSTS[0]],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        running = []
        try:
            for number, host in enumerate(HOSTS):
                home = Path(folder) / f"node{number}"
                configure(home, host)
                command = [binary, "start", "--home", str(home), "--log_level", "error"]
                running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            wait(2)
            return story(running)
        finally:
            for one in running:
                one.send_signal(signal.SIGTERM)
            for one in running:
                one.wait(30)


def story(running: list[subprocess.Popen]) -> dict[str, Any]:
    first = send("name=value")
    key = ask("validators?height=1")["validators"][0]["pub_key"]
    changed = send(f"val=ed25519!{key['value']}!25")
    wait(changed + 3)
    running[3].send_signal(signal.SIGTERM)
    running[3].wait(30)
    # Stopped, it is in none of the blocks that begin now.
    last = int(ask("status")["sync_info"]["latest_block_height"]) + 3
    wait(last + 1)
    # An update of block H is in the set of H + 2, and in the header of H + 1 as the next one.
    heights = (1, first, changed, changed + 1, changed + 2, last)
    return {"version": ask("status")["node_info"]["version"], "blocks": [block(height) for height in heights]}


def block(height: int) -> dict[str, Any]:
    return {
        "commit": ask(f"commit?height={height}"),
        "validators": ask(f"validators?height={height}"),
        "next_validators": ask(f"validators?height={height + 1}"),
        "transactions": ask(f"block?height={height}")["block"]["data"]["txs"],
    }


if __name__ == "__main__":
    found = record(sys.argv[1])
    assert any(base64.b64decode(raw).startswith(b"val=") for one in found["blocks"] for raw in one["transactions"])
    PATH.write_text(json.dumps(found, indent=1) + "\n")
