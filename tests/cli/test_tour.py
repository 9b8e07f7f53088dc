"""The tour of docs/how-to-ledger.md, played as it stands, only faster; what it shows is what comes out."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.wire.transactions import SetProfile
from tests.examples import TIMES
from tests.waiting import PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "how-to-ledger.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(r"[0-9a-f]{12,}…?|block(?:s)? [\d,]+|127\.0\.0\.1:\d+")
SERVE = "fedmeta ledger serve fed\n"
PACE = ("--block-interval", "0.01", "--empty-interval", "3600")
"""A block is made when something waits, and only then: so nothing is too late, however long a step takes."""
WAITS = re.compile("^until ", re.MULTILINE)
"""Where a reader waits for blocks."""


def steps():
    """Return (script, lines that must come out in this order, or nothing) of each step of the page."""
    found = []
    for kind, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "sh":
            found.append((text, []))
        else:
            found[-1][1].extend(line for line in map(plain, text.splitlines()) if line != "...")
    return found


def plain(line):
    """Return a line without what differs from run to run, and with single spaces."""
    return " ".join(VARIES.sub("#", line).split())


def check(due, said, script):
    """Check that lines come in this order; each may be a part of what is said, and `...` in it is anything."""
    lines = iter([plain(line) for line in said.splitlines()])
    for one in due:
        wanted = re.compile(".*".join(map(re.escape, one.split("..."))))
        assert any(wanted.search(line) for line in lines), f"{one!r} does not come out of:\n{script}\n{said}"


@contextlib.contextmanager
def passing(folder, node):
    """Let blocks be made all the while, by transactions that change nothing that counts."""
    over = threading.Event()

    def tick():
        with Client(node, keyfile.load(folder / "fed" / "keys" / "south.pem"), "south") as client:
            while not over.wait(0.03):
                client.send(SetProfile("South Hospital", "", b""))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(tick)
        try:
            yield
        finally:
            over.set()
            done.result()


@pytest.mark.skipif(not TIMES, reason="a reader's hour in a minute: a part of `make soak`")
def test_the_tour_comes_out_as_the_page_says(tmp_path):
    bin = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    for name in ("FEDMETA_NODE", "FEDMETA_KEY", "FEDMETA_PASSPHRASE"):
        environment.pop(name, None)
    node = None
    try:
        for script, due in steps():
            if script == SERVE:
                command = ["fedmeta", "ledger", "serve", "fed", "--port", "0", *PACE]
                node = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
                said = node.stdout.readline()
                environment["FEDMETA_NODE"] = re.search(r"http://[\d.:]+", said)[0]
            else:
                at = environment.get("FEDMETA_NODE", "")
                with passing(tmp_path, at) if WAITS.search(script) else contextlib.nullcontext():
                    done = subprocess.run(
                        ["bash", "-eo", "pipefail", "-c", script.replace("http://127.0.0.1:7878", at)],
                        cwd=tmp_path,
                        env=environment,
                        capture_output=True,
                        text=True,
                        timeout=PATIENCE,
                    )
                assert done.returncode == 0, script + done.stdout + done.stderr
                said = done.stdout
            check(due, said, script)
        node.send_signal(signal.SIGINT)
        assert node.wait(PATIENCE) == 0
    finally:
        if node is not None:
            node.kill()
            node.wait()
            node.stdout.close()
