"""A worker's process, seen from outside: started once, asked line by line, ended by closing its input."""

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from works import BENCH, ROOT, WORKS, Work

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0
"""Seconds for one answer; compilation and the start of Ray are within."""

PEERS = ROOT / "build" / "peers-venv" / "bin" / "python"
FEDJAX = ROOT / "build" / "fedjax-venv" / "bin" / "python"
SYSTEMS = {
    "fedmeta": (Path(sys.executable), "fedmeta_worker.py"),
    "torch-loop": (PEERS, "torch_loop.py"),
    "torch-func": (PEERS, "torch_func.py"),
    "flower": (PEERS, "flower.py"),
    "pfl": (PEERS, "pfl_simulation.py"),
    "fedjax": (FEDJAX, "fedjax_simulation.py"),
}


class WorkerFailed(Exception):
    """A worker could not start, ended, or was too slow to answer; says what its log ends with."""


class Worker:
    """One system at one work; `ready` is its first answer."""

    def __init__(self, system: str, work: Work):
        python, script = SYSTEMS[system]
        if not python.exists():
            raise WorkerFailed(f"{system} has no environment ({python.relative_to(ROOT)}); make bench-peers makes it")
        self.system = system
        self.log = BENCH / f"peers-{work.name}-{system}.log"
        known = WORKS.get(work.name) == work
        self.process = subprocess.Popen(
            [python, HERE / script, work.name if known else json.dumps(asdict(work))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        self.ready = self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return the answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._reason()) from None
        return self._answer()

    def close(self) -> None:
        """End the input and wait for the process to end."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(60)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        if not line:
            self.close()
            raise WorkerFailed(self._reason())
        return json.loads(line)

    def _reason(self) -> str:
        lines = [line for line in self.log.read_text().splitlines() if line.strip()]
        return f"{self.system} ended: {lines[-1] if lines else 'without a word'} (see {self.log.relative_to(ROOT)})"
