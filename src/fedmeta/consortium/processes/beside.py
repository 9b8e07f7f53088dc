"""The comparison of methods in a process of its own, beside the federation: it takes what that leaves of the cores."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmeta.consortium.results import Comparison
from fedmeta.errors import RunError
from fedmeta.node.process.federation import PROGRAM, end

GRACE = 19
"""By how much it gives way to other processes: as much as it can."""


class Comparing:
    """A comparison under way.

    Args:
        process: what computes it.
        log: what it says, a line for each of its parts.
        figures: where it writes what has come out.
    """

    def __init__(self, process: subprocess.Popen, log: Path, figures: Path):
        self._process, self._log, self._figures = process, log, figures

    @property
    def runs(self) -> bool:
        """Whether it is still under way."""
        return self._process.poll() is None

    @property
    def at(self) -> str:
        """What it is at, in its own words."""
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "starts"

    def result(self) -> Comparison:
        """Return what has come out, once it has ended; raises `RunError` where it failed."""
        code = self._process.wait()
        if code:
            raise RunError(f"the comparison of methods ended with {code}: {self.at}; see {self._log}")
        return Comparison.from_dict(json.loads(self._figures.read_text()))


@contextmanager
def comparing(folder: Path) -> Iterator[Comparing]:
    """Start the comparison; it writes `comparison.json` and `comparison.log`, and ends with the context."""
    log, figures = folder / "comparison.log", folder / "comparison.json"
    program = f"import os; os.nice({GRACE})\n{PROGRAM}"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "consortium", "report", "--json", str(figures)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
    try:
        yield Comparing(process, log, figures)
    finally:
        end(process, signal.SIGKILL)
