"""What all workers share: a process that does one work, and waits on its standard input in between.

Every line in is a JSON object, and so is every line out:

    {"rounds": 10}            -> {"seconds": of a round, "loss": of the last one, or null}
    {"parameters": "a.npz"}   -> {}, with the parameters in that file, in fedmeta's layout
    {"check": "a.npz"}        -> {"loss": relative error, "direction": relative error, "parameters": their number}

The end of the input ends the process.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from works import WORKS, Work


class Session(Protocol):
    """One system, set up for one work. Only `run` is needed for a measurement."""

    def run(self, rounds: int) -> float | None:
        """Run so many rounds to their end, and return the mean loss of the last, where the system reports it."""
        ...

    def parameters(self) -> dict[str, np.ndarray]:
        """Return the parameters by name, as fedmeta lays them out."""
        ...

    def check(self, arrays: dict[str, np.ndarray]) -> dict[str, float]:
        """Return how far the loss and the mean direction are from fedmeta's for the same weights and tasks."""
        ...


class Pipe:
    """The lines in and out. Whatever a library prints goes to the standard error instead."""

    def __init__(self):
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Yield what is asked for, until the input ends."""
        for line in sys.stdin:
            yield json.loads(line)

    def answer(self, **values: Any) -> None:
        """Send one line."""
        print(json.dumps(values), file=self._out, flush=True)


def chosen_work() -> Work:
    """Return the work that the command line names, or describes as JSON."""
    given = sys.argv[1]
    if given in WORKS:
        return WORKS[given]
    fields = json.loads(given)
    return Work(**{**fields, "peers": tuple(fields["peers"])})


def serve(session: Session, pipe: Pipe) -> None:
    """Answer the commands, until the input ends."""
    pipe.answer(ready=True)
    for command in pipe.commands():
        if "rounds" in command:
            started = time.perf_counter()
            loss = session.run(command["rounds"])
            pipe.answer(seconds=(time.perf_counter() - started) / command["rounds"], loss=loss)
        elif "parameters" in command:
            np.savez(Path(command["parameters"]), **session.parameters())
            pipe.answer()
        else:
            with np.load(Path(command["check"])) as arrays:
                pipe.answer(**session.check(dict(arrays)))
